#!/usr/bin/env bash
# Train a card on two nodes with four GPUs each: sbatch train_slurm.sh card.yaml runs/first
# For other numbers change the lines below and training.nodes. Submitted again, it goes on.
#SBATCH --job-name=manyscale
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
set -euo pipefail
card=$1
run=$2

export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK # srun does not take it over by itself
# Where one process fails, the job ends instead of waiting for it.
srun --kill-on-bad-exit=1 \
    manyscale train "$card" --out "$run" --resume --set training.nodes=2
