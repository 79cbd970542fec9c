"""What training is fed with: batches at random, from memory or from disk."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from manyscale.events.ragged import PackedStream

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
    event_id
        (events,), uint64: which events these are, for messages.
    """

    streams: Mapping[str, PackedStream]
    label: NDArray[np.int64]
    weight: NDArray[np.float32]
    event_id: NDArray[np.uint64]

    def __len__(self) -> int:
        """Return the number of events."""
        return len(self.label)

    def take(self, events: NDArray[np.integer]) -> "TrainingBatch":
        """Return the named events, in the order named."""
        streams = {name: stream.take(events) for name, stream in self.streams.items()}
        return TrainingBatch(
            streams, self.label[events], self.weight[events], self.event_id[events]
        )

    def between(self, first: int, last: int) -> "TrainingBatch":
        """Return the events `first` to `last - 1`, without a copy."""
        streams = {name: stream.between(first, last) for name, stream in self.streams.items()}
        some = slice(first, last)
        return TrainingBatch(streams, self.label[some], self.weight[some], self.event_id[some])


class Feed(Protocol):
    """Gives the batches of an epoch: a pure function of seed, epoch and step.

    Of several processes each has a feed of its own, which gives it its share of each step: the
    shares are together the step of one process alone, in whatever order.
    """

    @property
    def events(self) -> int:
        """Number of training events, of all processes together."""

    def batches(self, epoch: int, batch_size: int) -> Iterator[TrainingBatch]:
        """Give the batches of an epoch in turn.

        Parameters
        ----------
        epoch
            From 0.
        batch_size
            Events of a step, over all processes together; the last may have fewer.
        """
