"""Where the events of a dataset come from: a folder of parts, or memory."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from manyscale.data.manifest import read_manifest
from manyscale.data.packing import PackedEvents
from manyscale.data.parts import group_sizes, read_groups, read_part
from manyscale.errors import DataError
from manyscale.events.ragged import PackedStream
from manyscale.schema import Schema, StreamSchema

__all__ = ["FolderStore", "MemoryStore", "RowGroups", "Store", "no_events"]


@dataclass(frozen=True)
class RowGroups:
    """The row groups of all parts, one behind the other.

    Attributes
    ----------
    part, number
        (groups,): the part of each, and its number in it.
    events
        (groups,).
    tokens
        (groups,) a stream: tokens, with an empty event counted as one.
    """

    part: NDArray[np.int64]
    number: NDArray[np.int64]
    events: NDArray[np.int64]
    tokens: Mapping[str, NDArray[np.int64]]

    def __len__(self) -> int:
        """Return the number of groups."""
        return len(self.events)


class Store(Protocol):
    """Gives all events of a source, in its order."""

    @property
    def schema(self) -> Schema:
        """What the events are made of."""

    @property
    def groups(self) -> RowGroups | None:
        """What can be read alone; None for events in memory."""

    def read_groups(self, groups: Sequence[int], streams: Sequence[str]) -> Iterator[PackedEvents]:
        """Read the named groups in turn, without further weights and observables."""

    def batches(
        self, streams: Sequence[str], size: int, *, known: bool = True
    ) -> Iterator[PackedEvents]:
        """Give the events with the named streams, at most `size` at a time.

        Further weights and observables may be left out where `known` is false.
        """


class MemoryStore:
    """Events held in memory."""

    def __init__(self, schema: Schema, events: PackedEvents) -> None:
        self.schema = schema
        self.groups: RowGroups | None = None
        self._events = events

    def read_groups(self, groups: Sequence[int], streams: Sequence[str]) -> Iterator[PackedEvents]:
        """Refuse: events in memory have no groups."""
        raise NotImplementedError

    def batches(
        self,
        streams: Sequence[str],
        size: int,
        *,
        known: bool = True,  # noqa: ARG002  # in memory nothing is gained by leaving out
    ) -> Iterator[PackedEvents]:
        """Give the events, at most `size` at a time, without a copy."""
        events = self._events.only(streams)
        if len(events) <= size:
            yield events
            return
        for first in range(0, len(events), size):
            yield events.between(first, first + size)


class FolderStore:
    """The Parquet parts of a dataset folder.

    Raises
    ------
    DataError
        Where the folder is no dataset, or a part is missing or has another size than it should.
    """

    def __init__(self, folder: Path) -> None:
        manifest = read_manifest(folder)
        self.schema = manifest.content
        self._parts = [(folder / part.file, part.events) for part in manifest.parts]
        for (path, _), part in zip(self._parts, manifest.parts, strict=True):
            if not path.is_file():
                raise DataError(f"the part {path} is missing; make it again")
            if path.stat().st_size != part.size:
                raise DataError(
                    f"the part {path} has {path.stat().st_size} bytes instead of {part.size}: it is "
                    f"damaged, or dataset.json is not up to date; make the part again"
                )

    def batches(
        self, streams: Sequence[str], size: int, *, known: bool = True
    ) -> Iterator[PackedEvents]:
        """Read the parts in turn, at most `size` events at a time."""
        for path, events in self._parts:
            if events:
                yield from read_part(path, self.schema, streams, size, known=known)

    @cached_property
    def groups(self) -> RowGroups:
        """The row groups of all parts."""
        sizes = [group_sizes(path, self.schema) for path, _ in self._parts]
        return RowGroups(
            np.repeat(np.arange(len(sizes)), [len(of.events) for of in sizes]),
            _joined([np.arange(len(of.events)) for of in sizes]),
            _joined([of.events for of in sizes]),
            {
                stream.name: _joined([of.tokens[stream.name] for of in sizes])
                for stream in self.schema.streams
            },
        )

    def read_groups(self, groups: Sequence[int], streams: Sequence[str]) -> Iterator[PackedEvents]:
        """Read the named row groups in turn, without further weights and observables."""
        there = self.groups
        for part, some in groupby(groups, key=lambda group: there.part[group]):
            path, _ = self._parts[part]
            numbers = there.number[list(some)].tolist()
            yield from read_groups(path, self.schema, streams, numbers)


def _joined(arrays: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(0, np.int64), *arrays])


def no_events(schema: Schema) -> PackedEvents:
    """Make events of that schema, zero of them."""

    def stream(of: StreamSchema) -> PackedStream:
        return PackedStream(
            np.zeros((0, len(of.columns)), np.float32),
            np.zeros(0, np.int64),
            np.zeros((0, len(of.axis)), np.float32),
        )

    return PackedEvents(
        {of.name: stream(of) for of in schema.streams},
        np.zeros(0, np.uint64),
        np.zeros(0, np.int64),
        np.zeros(0, np.int64),
        np.zeros(0),
        {name: np.zeros(0) for name in schema.observables},
        {name: np.zeros(0) for name in schema.weights[1:]},
    )
