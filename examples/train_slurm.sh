#!/usr/bin/env bash
# Train a card on two nodes with four GPUs each: sbatch train_slurm.sh card.yaml runs/first
# For other numbers change the lines below and training.nodes. Two minutes before its time is over the
# job writes a checkpoint and queues itself again.
#SBATCH --job-name=manyscale
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --signal=USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -uo pipefail
card=$1
run=$2

export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK # srun does not take it over by itself
# Where one process fails, the job ends instead of waiting for it.
srun --kill-on-bad-exit=1 \
    manyscale train "$card" --out "$run" --resume --set training.nodes=2
code=$?
if [ "$code" = 75 ]; then # ended by a signal, and resumable
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
