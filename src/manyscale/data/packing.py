"""Events in memory: the real tokens only, one behind the other, and how many each event has."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

__all__ = ["Floats", "Integers", "PackedEvents", "PackedStream", "ragged_rows"]

Floats = NDArray[np.floating]
Integers = NDArray[np.integer]


def ragged_rows(starts: Integers, counts: Integers) -> NDArray[np.int64]:
    """Indices `starts[i], starts[i] + 1, ..., starts[i] + counts[i] - 1` of all i, joined.

    Examples
    --------
    >>> ragged_rows(np.array([5, 0]), np.array([2, 3]))
    array([5, 6, 0, 1, 2])
    """
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) + np.repeat(np.asarray(starts) - (ends - counts), counts)


@dataclass(frozen=True)
class PackedStream:
    """One stream of some events.

    Attributes
    ----------
    values
        (tokens, columns), float32: the tokens of all events, one event behind the other.
    counts
        (events,), int64: the number of tokens of each event; zero is allowed.
    axis
        (events, axis columns), float32: what the stream has once an event.
    """

    values: NDArray[np.float32]
    counts: NDArray[np.int64]
    axis: NDArray[np.float32]

    def __len__(self) -> int:
        """Return the number of events."""
        return len(self.counts)

    @cached_property
    def offsets(self) -> NDArray[np.int64]:
        """(events + 1,): event i has the tokens offsets[i] to offsets[i + 1]."""
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(self.counts)])

    def rows(self, events: Integers) -> NDArray[np.int64]:
        """Return where the tokens of the named events stand, in the order named."""
        return ragged_rows(self.offsets[:-1][events], self.counts[events])

    def take(self, events: Integers) -> "PackedStream":
        """Return the named events, in the order named."""
        # Four times as fast as values[rows].
        values = self.values.take(self.rows(events), axis=0)
        return PackedStream(values, self.counts[events], self.axis.take(events, axis=0))

    def between(self, first: int, last: int) -> "PackedStream":
        """Return the events `first` to `last - 1`, without a copy."""
        tokens = slice(self.offsets[first], self.offsets[min(last, len(self))])
        return PackedStream(self.values[tokens], self.counts[first:last], self.axis[first:last])

    def leading(self, most: int, by: int | None) -> "PackedStream":
        """Keep at most `most` tokens an event: those with the highest column `by`, or the first."""
        if not (self.counts > most).any():
            return self
        event = np.repeat(np.arange(len(self)), self.counts)
        if by is None:
            order = np.arange(len(self.values))
        else:
            order = np.lexsort((-self.values[:, by], event))
        place = ragged_rows(np.zeros_like(self.counts), self.counts)
        keep = np.sort(order[place < most])
        return PackedStream(self.values[keep], np.minimum(self.counts, most), self.axis)

    def padded(self, length: int | None = None) -> NDArray[np.float32]:
        """Return (events, length, columns), zeros behind the real tokens; length: by default the longest."""
        longest = int(self.counts.max(initial=0))
        length = longest if length is None else length
        out = np.zeros((len(self), max(length, longest), self.values.shape[1]), np.float32)
        event = np.repeat(np.arange(len(self)), self.counts)
        out[event, ragged_rows(np.zeros_like(self.counts), self.counts)] = self.values
        return out[:, :length]

    @staticmethod
    def concatenate(parts: Sequence["PackedStream"]) -> "PackedStream":
        """Join the events of several packed streams of the same columns."""
        return PackedStream(
            np.concatenate([part.values for part in parts]),
            np.concatenate([part.counts for part in parts]),
            np.concatenate([part.axis for part in parts]),
        )


@dataclass(frozen=True)
class PackedEvents:
    """Some events: their streams and what is known of each event.

    Attributes
    ----------
    streams
        A packed stream a name, all of the same number of events.
    event_id
        (events,), uint64: says which event this is, wherever it stands.
    label
        (events,), int64: 1 signal, 0 background, -1 unknown.
    process
        (events,), int64: place in the schema's processes, -1 unknown.
    weight
        (events,), float64: the event's nominal weight.
    observables
        Named arrays (events,) that the network never sees.
    weights
        Further named weights (events,), variations of `weight`.
    """

    streams: Mapping[str, PackedStream]
    event_id: NDArray[np.uint64]
    label: NDArray[np.int64]
    process: NDArray[np.int64]
    weight: NDArray[np.float64]
    observables: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)
    weights: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of events."""
        return len(self.event_id)

    def take(self, events: Integers) -> "PackedEvents":
        """Return the named events, in the order named."""
        return PackedEvents(
            {name: stream.take(events) for name, stream in self.streams.items()},
            self.event_id[events],
            self.label[events],
            self.process[events],
            self.weight[events],
            {name: values[events] for name, values in self.observables.items()},
            {name: values[events] for name, values in self.weights.items()},
        )

    def between(self, first: int, last: int) -> "PackedEvents":
        """Return the events `first` to `last - 1`, without a copy."""
        chosen = slice(first, last)
        return PackedEvents(
            {name: stream.between(first, last) for name, stream in self.streams.items()},
            self.event_id[chosen],
            self.label[chosen],
            self.process[chosen],
            self.weight[chosen],
            {name: values[chosen] for name, values in self.observables.items()},
            {name: values[chosen] for name, values in self.weights.items()},
        )

    def only(self, streams: Sequence[str]) -> "PackedEvents":
        """Return the same events with the named streams alone."""
        return replace(self, streams={name: self.streams[name] for name in streams})

    @staticmethod
    def concatenate(parts: Sequence["PackedEvents"]) -> "PackedEvents":
        """Join several batches of events of the same schema; one alone is not copied."""
        first = parts[0]
        if len(parts) == 1:
            return first
        return PackedEvents(
            {
                name: PackedStream.concatenate([part.streams[name] for part in parts])
                for name in first.streams
            },
            np.concatenate([part.event_id for part in parts]),
            np.concatenate([part.label for part in parts]),
            np.concatenate([part.process for part in parts]),
            np.concatenate([part.weight for part in parts]),
            {
                name: np.concatenate([part.observables[name] for part in parts])
                for name in first.observables
            },
            {
                name: np.concatenate([part.weights[name] for part in parts])
                for name in first.weights
            },
        )
