#!/bin/bash
# Convert on a dask cluster: a scheduler and workers, here all started by one Slurm job.
#
# On machines that you reach by hand, type the three steps yourself, each on its machine. All of them
# have the same version of manyscale (with its extra `cluster`) and see the same paths.
#
#SBATCH --job-name=dask-convert
#SBATCH --nodes=2                         # CHANGE: machines
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8                 # CHANGE: workers of each machine
#SBATCH --time=01:00:00
set -euo pipefail

source "$HOME/manyscale/.venv/bin/activate"   # CHANGE: where manyscale is installed
workers=${SLURM_CPUS_PER_TASK:-2}
scheduler="tcp://$(hostname):8786"

# 1. The scheduler, on this machine. It prints its address.
dask scheduler --port 8786 --no-dashboard &
trap 'kill $(jobs -p)' EXIT
sleep 10

# 2. Workers, one thread each, on every machine of the job (without Slurm: leave out srun).
srun dask worker "$scheduler" --nworkers "$workers" --nthreads 1 --no-dashboard &
sleep 20

# 3. The work. CHANGE: your files, class and card. `manyscale generate` and `predict` take --cluster, too.
manyscale convert /data/ttbar/*.root --process ttbar --card card.yaml --out data/mine \
    --cluster "$scheduler"
