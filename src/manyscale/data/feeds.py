"""What training is fed with: batches at random, of events held in memory; see folder_feed."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from manyscale.events.ragged import PackedStream

__all__ = [
    "EventBuffer",
    "Feed",
    "MemoryFeed",
    "TrainingBatch",
    "ahead",
    "batch",
    "batch_events",
    "epoch_order",
    "steps_per_epoch",
]

_T = TypeVar("_T")


def ahead(source: Iterator[_T]) -> Iterator[_T]:
    """Give what an iterator gives; a thread draws the next one while this one is worked on."""
    with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as thread:
        drawn = thread.submit(next, source, None)
        while (one := drawn.result()) is not None:
            drawn = thread.submit(next, source, None)
            yield one


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

    def batches(self, epoch: int, batch_size: int, first: int = 0) -> Iterator[TrainingBatch]:
        """Give the batches of an epoch in turn.

        Parameters
        ----------
        epoch
            From 0.
        batch_size
            Events of a step, over all processes together; the last may have fewer.
        first
            Step of the epoch to begin with, where the others are done.
        """


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


class MemoryFeed:
    """Feeds training with events held in memory, in a new random order each epoch.

    Parameters
    ----------
    held
        The events that this process holds, with a mean weight of one over those of all processes:
        of every `world` training events the one at index `rank`.
    events
        Number of training events, of all processes together.
    seed
        Of which the orders are drawn.
    rank, world
        Which of how many processes this is.
    """

    def __init__(
        self, held: TrainingBatch, events: int, seed: int, *, rank: int = 0, world: int = 1
    ) -> None:
        self._held = held
        self._seed = seed
        self._rank, self._world = rank, world
        self.events = events

    def batches(self, epoch: int, batch_size: int, first: int = 0) -> Iterator[TrainingBatch]:
        """Give the batches of an epoch in turn, of each the share of this process; see `Feed`."""
        order = epoch_order(self.events, self._seed, epoch)[first * batch_size :]
        for together in batch_events(order, batch_size):
            # The order is one for all processes. What falls to each varies a little from step to
            # step, which is the price of holding each event once.
            chosen = together[together % self._world == self._rank] // self._world
            yield self._held.take(chosen)


_Scalar = TypeVar("_Scalar", bound=np.generic)

# By this factor an array becomes larger than it must.
_GROWTH = 1.05


class EventBuffer:
    """Room for training events: streams, label, weight and event_id."""

    def __init__(self) -> None:
        self._values: dict[str, _Rows[np.float32]] = {}
        self._axes: dict[str, _Rows[np.float32]] = {}
        self._counts: dict[str, _Rows[np.int64]] = {}
        self._label: _Rows[np.int64] = _Rows(np.zeros(0, np.int64))
        self._weight: _Rows[np.float32] = _Rows(np.zeros(0, np.float32))
        self._event_id: _Rows[np.uint64] = _Rows(np.zeros(0, np.uint64))

    def __len__(self) -> int:
        """Return the number of events."""
        return len(self._label.filled)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(rows.nbytes for rows in self._all())

    @property
    def events(self) -> TrainingBatch:
        """The events, without a copy: good until the buffer is cleared or added to."""
        streams = {
            name: PackedStream(
                self._values[name].filled, self._counts[name].filled, self._axes[name].filled
            )
            for name in self._values
        }
        return TrainingBatch(
            streams, self._label.filled, self._weight.filled, self._event_id.filled
        )

    def clear(self) -> None:
        """Forget the events; the room stays."""
        for rows in self._all():
            rows.clear()

    def append(self, events: TrainingBatch) -> None:
        """Copy some events to the end."""
        for name, stream in events.streams.items():
            self._values.setdefault(name, _Rows(stream.values)).append(stream.values)
            self._counts.setdefault(name, _Rows(stream.counts)).append(stream.counts)
            self._axes.setdefault(name, _Rows(stream.axis)).append(stream.axis)
        self._label.append(events.label)
        self._weight.append(events.weight)
        self._event_id.append(events.event_id)

    def _all(self) -> "list[_Rows[np.float32] | _Rows[np.int64] | _Rows[np.uint64]]":
        return [
            *self._values.values(),
            *self._axes.values(),
            *self._counts.values(),
            self._label,
            self._weight,
            self._event_id,
        ]


class _Rows(Generic[_Scalar]):
    """An array that rows are appended to."""

    def __init__(self, like: NDArray[_Scalar]) -> None:
        self._array = np.empty((0, *like.shape[1:]), like.dtype)
        self._used = 0

    @property
    def nbytes(self) -> int:
        return self._array.nbytes

    @property
    def filled(self) -> NDArray[_Scalar]:
        return self._array[: self._used]

    def clear(self) -> None:
        self._used = 0

    def append(self, rows: NDArray[_Scalar]) -> None:
        needed = self._used + len(rows)
        if needed > len(self._array):
            # In place, where the system can: never two copies of a large array.
            self._array.resize((int(needed * _GROWTH), *rows.shape[1:]), refcheck=False)
        self._array[self._used : needed] = rows
        self._used = needed
