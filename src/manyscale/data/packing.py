"""Events in memory: the real tokens only, one behind the other, and how many each event has."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from manyscale.data.identity import event_ids
from manyscale.events.ragged import Integers, PackedStream, SelectedEvents
from manyscale.schema import Label

__all__ = ["PackedEvents"]


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
        streams = {name: stream.take(events) for name, stream in self.streams.items()}
        return self._chosen(streams, events)

    def between(self, first: int, last: int) -> "PackedEvents":
        """Return the events `first` to `last - 1`, without a copy."""
        streams = {name: stream.between(first, last) for name, stream in self.streams.items()}
        return self._chosen(streams, slice(first, last))

    def _chosen(
        self, streams: Mapping[str, PackedStream], chosen: Integers | slice
    ) -> "PackedEvents":
        return PackedEvents(
            streams,
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
    def of_source(events: SelectedEvents, identity: str, label: Label) -> "PackedEvents":
        """Pack selected events of one class, all of the source of that identity (see identity.py)."""
        return PackedEvents(
            events.streams,
            event_ids(identity, events.entry),
            np.full(len(events), int(label == "signal"), np.int64),
            np.full(len(events), -1, np.int64),
            events.weight.astype(np.float64),
            events.observables,
            {name: weight.astype(np.float64) for name, weight in events.weights.items()},
        )

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
