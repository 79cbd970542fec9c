"""What holds for every test."""

import os

import torch

os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the commands that tests start
# Several test processes share the cores; more threads in each would only fight for them.
torch.set_num_threads(1)
