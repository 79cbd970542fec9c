"""What training is fed with: batches at random, from memory or from disk."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from manyscale.data.packing import PackedStream

__all__ = ["Feed", "TrainingBatch"]


@dataclass(frozen=True)
class TrainingBatch:
    """Events of one step.

    Attributes
    ----------
    streams
        The streams that the network takes, each of (events,).
    label
        (events,), int64: the class of each event.
    weight
        (events,), float32: how much each counts in the loss; class-balanced, with a mean of one
        over all training events.
    """

    streams: Mapping[str, PackedStream]
    label: NDArray[np.int64]
    weight: NDArray[np.float32]


class Feed(Protocol):
    """Gives the batches of an epoch: a pure function of seed, epoch and step."""

    @property
    def events(self) -> int:
        """Number of training events."""

    def batches(
        self, epoch: int, batch_size: int, *, rank: int = 0, world: int = 1
    ) -> Iterator[TrainingBatch]:
        """Give the batches of an epoch in turn, of each the share of one process.

        Parameters
        ----------
        epoch
            From 0.
        batch_size
            Events of a step, over all processes together; the last may have fewer.
        rank, world
            Which of how many processes: their shares of a step are together the step of one process
            alone, in whatever order.
        """
