"""Weights under which signal and background count the same."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from manyscale.data.packing import PackedEvents
from manyscale.data.schema import Process
from manyscale.errors import DataError

__all__ = ["balanced_weights"]


def balanced_weights(events: PackedEvents, processes: Sequence[Process]) -> NDArray[np.float64]:
    """Weights under which each class sums to one, its processes in their stated mix.

    An event of a process with share f (of all shares of its class) of which events with a sum of
    weights S were generated (of all S of its class) counts as its own weight times f / S: were it
    not for the selection, the processes would stand as their shares. Where share or S of a process
    is unknown, its events stand for themselves: they count as their own weight, beside the others
    taken together as they were generated.

    Parameters
    ----------
    events
        Of any part of the dataset. Those of unknown label get the weight zero.
    processes
        Of the schema to which `events.process` points.

    Returns
    -------
    weights : (events,), float64
        A class of which there are no events contributes none.

    Raises
    ------
    DataError
        Where the weights of a class do not sum to a positive number.
    """
    factors = np.append(_mixing_factors(processes), 1.0)
    weights: NDArray[np.float64] = events.weight * factors[events.process]
    weights[events.label < 0] = 0.0
    for label, name in ((1, "signal"), (0, "background")):
        chosen = events.label == label
        if not chosen.any():
            continue
        total = math.fsum(weights[chosen])
        if not total > 0:
            raise DataError(
                f"the weights of the {name} events sum to {total:g}; a sum above zero is needed to "
                f"balance the classes"
            )
        weights[chosen] /= total
    return weights


def _mixing_factors(processes: Sequence[Process]) -> NDArray[np.float64]:
    """(processes,): share over sum of generated weights, each relative to those of the class."""
    factors = np.ones(len(processes))
    for label in ("signal", "background"):
        stated = {
            place: (process.share, process.sum_weights)
            for place, process in enumerate(processes)
            if process.label == label
            and process.share is not None
            and process.sum_weights is not None
            and process.sum_weights > 0
        }
        shares = math.fsum(share for share, _ in stated.values())
        generated = math.fsum(total for _, total in stated.values())
        if shares > 0:
            for place, (share, total) in stated.items():
                factors[place] = (share / shares) / (total / generated)
    return factors
