"""Where the events of a dataset come from, a folder of parts or memory; and how they are written."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from manyscale.data.manifest import merge, read_manifest
from manyscale.data.packing import PackedEvents
from manyscale.data.parquet import (
    MANIFEST,
    PartBook,
    group_sizes,
    new_part,
    part_name,
    read_book,
    read_groups,
    read_part,
)
from manyscale.data.sources import making_again
from manyscale.errors import DataError
from manyscale.events.ragged import PackedStream
from manyscale.schema import CutflowStep, Process, Schema, StreamSchema
from manyscale.writing import whole

__all__ = [
    "FolderStore",
    "MemoryStore",
    "RowGroups",
    "Store",
    "Types",
    "common_types",
    "no_events",
    "scaled",
    "write_dataset",
]


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
            if path.is_file() and path.stat().st_size == part.size:
                continue
            again = making_again(folder, path.stem)
            if not path.is_file():
                raise DataError(f"the part {path} is missing: {again} makes it again")
            size = f"{path.stat().st_size} bytes instead of {part.size}"
            try:
                read_book(path)
            except DataError:  # no whole part
                raise DataError(
                    f"the part {path} has {size}, so it is damaged: remove it, then {again} makes it again"
                ) from None
            raise DataError(
                f"the dataset {folder} is incomplete: its part {path.name} was made anew (it has {size}), but "
                f"not {MANIFEST} with it, since that command was ended before: {again} completes it"
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
            np.repeat(np.arange(len(sizes)), [len(events) for events, _ in sizes]),
            _joined([np.arange(len(events)) for events, _ in sizes]),
            _joined([events for events, _ in sizes]),
            {
                stream.name: _joined([tokens[stream.name] for _, tokens in sizes])
                for stream in self.schema.streams
            },
        )

    def read_groups(self, groups: Sequence[int], streams: Sequence[str]) -> Iterator[PackedEvents]:
        """Read the named row groups in turn, without further weights and observables."""
        there = self.groups
        of = ((self._parts[there.part[at]][0], int(there.number[at])) for at in groups)
        yield from read_groups(self.schema, streams, of)


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


#: Observable to the type that holds all of its values.
Types = Mapping[str, np.dtype[Any]]


def common_types(batches: Iterable[PackedEvents]) -> Types:
    """Types of the observables that hold the values of all events."""
    types: dict[str, np.dtype[Any]] = {}
    for batch in batches:
        for name, values in batch.observables.items():
            types[name] = np.result_type(types.get(name, values.dtype), values.dtype)
    return types


def scaled(process: Process, share: float) -> Process:
    """What is known of a process, for a random share of its events alone.

    That share then stands for the same cross section as all of them.
    """
    return process.model_copy(
        update={
            "generated": round(process.generated * share),
            "sum_weights": _times(process.sum_weights, share),
            "sum_weights2": _times(process.sum_weights2, share),
            "cutflow": tuple(
                CutflowStep(
                    step=step.step,
                    events=round(step.events * share),
                    sum_weights=step.sum_weights * share,
                )
                for step in process.cutflow
            ),
        }
    )


def _times(value: float | None, share: float) -> float | None:
    return None if value is None else value * share


def write_dataset(
    folder: Path, schema: Schema, batches: Iterable[PackedEvents], types: Types, source: str
) -> None:
    """Write events as a new dataset, a part a process; whole or not at all.

    Parameters
    ----------
    folder
        New, or empty.
    schema
        Of the events, with what was generated of each process.
    batches
        The events, one batch in memory at a time.
    types
        Of the observables.
    source
        Where the events come from, in words.

    Raises
    ------
    DataError
        Where the folder holds something or cannot be written, or the process of an event is not
        known.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise DataError(f"{folder} is there already: name a new folder for the dataset")
    with whole(folder) as draft:
        with ExitStack() as stack:
            writers = [
                stack.enter_context(
                    new_part(draft, part_name(of.name, f"{place:06d}"), schema, of.name)
                )
                for place, of in enumerate(schema.processes)
            ]
            # A process without events has a part, too, for what was generated of it.
            missing = set(range(len(writers)))
            for batch in batches:
                if (batch.process < 0).any():
                    raise DataError("events of an unknown process cannot be written as a dataset")
                observables = {name: x.astype(types[name]) for name, x in batch.observables.items()}
                stored = replace(batch, observables=observables)
                for place in np.unique(batch.process).tolist():
                    writers[place].write(stored.take(np.flatnonzero(batch.process == place)))
                    missing.discard(place)
            for place in missing:
                writers[place].write(no_events(schema))
            for writer, process in zip(writers, schema.processes, strict=True):
                made = {"command": "write", "source": source}
                writer.close(PartBook.of(schema, process, f"written from {source}", made))
        merge(draft)
