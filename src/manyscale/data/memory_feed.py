"""Batches of events that are held in memory."""

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from manyscale.data.feed import TrainingBatch
from manyscale.data.packing import PackedStream
from manyscale.data.sampling import batch_events, epoch_order

__all__ = ["MemoryFeed"]


class MemoryFeed:
    """Feeds training with events held in memory, in a new random order each epoch.

    Parameters
    ----------
    streams
        The streams that the network takes, each of (events,).
    label
        (events,), int64.
    weight
        (events,), float32: class-balanced, with a mean of one.
    seed
        Of which the orders are drawn.
    """

    def __init__(
        self,
        streams: Mapping[str, PackedStream],
        label: NDArray[np.int64],
        weight: NDArray[np.float32],
        seed: int,
    ) -> None:
        self._streams = streams
        self._label = label
        self._weight = weight
        self._seed = seed

    @property
    def events(self) -> int:
        """Number of training events."""
        return len(self._label)

    def batches(
        self, epoch: int, batch_size: int, *, rank: int = 0, world: int = 1
    ) -> Iterator[TrainingBatch]:
        """Give the batches of an epoch in turn, of each the share of one process; see `Feed`."""
        order = epoch_order(self.events, self._seed, epoch)
        for together in batch_events(order, batch_size):
            chosen = together[rank::world]
            yield TrainingBatch(
                {name: stream.take(chosen) for name, stream in self._streams.items()},
                self._label[chosen],
                self._weight[chosen],
            )
