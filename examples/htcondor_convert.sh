#!/bin/bash
# What htcondor_convert.sub runs: job number and units of a job in, a share of the units done.
set -euo pipefail
job=$1 per_job=$2

source "$HOME/manyscale/.venv/bin/activate"   # CHANGE: where manyscale is installed

first=$((job * per_job))

# CHANGE: your files, class and card; the same in every job. `manyscale generate card.yaml --out
# data/hh4b` takes --units in the same way.
manyscale convert /data/ttbar/*.root --process ttbar --card card.yaml --out data/mine \
    --workers 1 --units "$first:$((first + per_job))"
