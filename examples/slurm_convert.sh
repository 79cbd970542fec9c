#!/bin/bash
# Convert with a Slurm array: each task does a share of the units, all into one dataset.
#
# 1. Change the lines marked CHANGE.
# 2. How many units are there? On the login node:
#        manyscale convert <the same command> --units 0:1
#    says "... of N units are missing still". The array below does PER_TASK units a task: it needs
#    N / PER_TASK tasks, rounded up, and no more.
# 3. sbatch examples/slurm_convert.sh
# 4. When all tasks have ended, finish the dataset; it names units that are missing, if any:
#        manyscale inspect data/mine
#
#SBATCH --job-name=convert
#SBATCH --array=0-9                       # CHANGE: tasks 0 to N / PER_TASK - 1
#SBATCH --cpus-per-task=2
#SBATCH --mem=4G
#SBATCH --time=01:00:00
#SBATCH --output=convert-%a.log
set -euo pipefail

PER_TASK=10                               # CHANGE: units of a task
source "$HOME/manyscale/.venv/bin/activate"   # CHANGE: where manyscale is installed

first=$((SLURM_ARRAY_TASK_ID * PER_TASK))
share="$first:$((first + PER_TASK))"

# CHANGE: your files, class and card; the same in every task. The folder is on a file system that all
# machines see.
manyscale convert /data/ttbar/*.root --process ttbar --card card.yaml --out data/mine \
    --workers "$SLURM_CPUS_PER_TASK" --units "$share"

# The same for events of Pythia:
#     manyscale generate card.yaml --out data/hh4b --workers "$SLURM_CPUS_PER_TASK" --units "$share"
