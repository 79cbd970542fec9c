"""All weights of a network in one array, so that a step of the optimizer is a few large calls."""

import torch
from torch import nn

__all__ = ["FlatWeights"]

# Floats of a cache line: each weight begins on one, as it would alone.
_LINE = 16


class FlatWeights:
    """The weights of a network, and their gradients, side by side in one array each.

    The network's own parameters become views of it. A small network has dozens of them; clipping,
    the optimizer and resetting gradients then take one call in place of one each.

    Parameters
    ----------
    network
        On its device and with its type already; changed in place. Its gradients must be added up in
        place from now on, never dropped.

    Attributes
    ----------
    parameter
        What the optimizer is given.
    """

    def __init__(self, network: nn.Module) -> None:
        own = list(network.parameters())
        lengths = [-(-one.numel() // _LINE) * _LINE for one in own]
        self.parameter = nn.Parameter(own[0].new_zeros(sum(lengths)))
        self.parameter.grad = torch.zeros_like(self.parameter)
        values, gradients = self.parameter.detach(), self.parameter.grad
        first = 0
        for one, length in zip(own, lengths, strict=True):
            part = slice(first, first + one.numel())
            values[part] = one.detach().flatten()
            one.data = values[part].view_as(one)
            one.grad = gradients[part].view_as(one)
            first += length
