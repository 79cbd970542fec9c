#!/usr/bin/env bash
# Train a card on all GPUs of this machine; on two machines, start it on both with
#     NODES=2 HOST=first-machine ./train_torchrun.sh card.yaml runs/first
# where the folder of the run and the data are on a disk that both see.
set -euo pipefail
card=$1
run=$2
nodes=${NODES:-1}
devices=${DEVICES:-gpu} # processes of each machine: a number, or gpu for one each GPU

torchrun --nnodes "$nodes" --nproc-per-node "$devices" \
    --rdzv-backend c10d --rdzv-endpoint "${HOST:-localhost}:29511" --no-python \
    manyscale train "$card" --out "$run" --resume --set "training.nodes=$nodes"
