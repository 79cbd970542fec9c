"""What holds for every test."""

import torch

# Several test processes share the cores; more threads in each would only fight for them.
torch.set_num_threads(1)
