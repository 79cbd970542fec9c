"""Batches drawn at random: a pure function of seed, epoch and step."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

__all__ = ["batch", "batch_events", "epoch_order", "steps_per_epoch"]


def epoch_order(events: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Order in which an epoch visits the events: a permutation of 0 to events - 1."""
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, epoch))))
    return generator.permutation(events)


def steps_per_epoch(events: int, batch_size: int) -> int:
    """Batches of an epoch; the last may be short.

    Examples
    --------
    >>> steps_per_epoch(10, 4)
    3
    """
    return -(-events // batch_size)


def batch(order: NDArray[np.int64], batch_size: int, step: int) -> NDArray[np.int64]:
    """Events of one step of an epoch; steps count from 0."""
    return order[step * batch_size : (step + 1) * batch_size]


def batch_events(order: NDArray[np.int64], batch_size: int) -> Iterator[NDArray[np.int64]]:
    """Events of each step of an epoch, in turn.

    Examples
    --------
    >>> [chosen.tolist() for chosen in batch_events(np.array([2, 0, 1]), 2)]
    [[2, 0], [1]]
    """
    for step in range(steps_per_epoch(len(order), batch_size)):
        yield batch(order, batch_size, step)
