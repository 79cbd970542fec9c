"""A dataset: events, what they are made of, and which of them are for training and for the test."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from manyscale.data.balance import Balance, ClassMix, Totals, balanced_weights, mix_notices
from manyscale.data.computed import ColumnStore, NewColumns, with_names
from manyscale.data.event_filter import Restriction, SplitName, SplitSettings
from manyscale.data.packing import PackedEvents
from manyscale.data.sources import inherit_sources, missing_notices
from manyscale.data.store import (
    FolderStore,
    MemoryStore,
    RowGroups,
    Store,
    common_types,
    no_events,
    scaled,
    write_dataset,
)
from manyscale.errors import DataError
from manyscale.schema import Label, Schema

__all__ = ["Dataset"]

# Events decoded at a time where nobody says how many.
_BATCH = 16_384
_BARE_BATCH = 1 << 17


class Dataset:
    """Events with labels, weights and a split that each event carries in its `event_id`.

    Make one by `Dataset.open`, `Dataset.from_events`, `manyscale.data.npz.read_npz` or
    `from_arrays`.

    Attributes
    ----------
    schema
        Streams, processes, weights and observables.
    source
        Where the events come from, in words.
    """

    def __init__(
        self,
        store: Store,
        schema: Schema,
        restriction: Restriction,
        *,
        split: SplitSettings,
        seed: int,
        source: str,
        notices: Sequence[str] = (),
    ) -> None:
        self.schema = schema
        self.source = source
        self._notices = list(notices)
        self._store = store
        self._restriction = restriction
        self._split = split
        self._seed = seed

    @staticmethod
    def open(path: Path | str, *, split: SplitSettings | None = None, seed: int = 1) -> "Dataset":
        """Open a dataset folder.

        Parameters
        ----------
        path
            A folder with `dataset.json`.
        split, seed
            Shares of training, validation and test, and the seed by which events fall to them.

        Raises
        ------
        DataError
            Where the folder is no dataset, or a part is missing or damaged.
        """
        store = FolderStore(Path(path))
        return Dataset(
            store,
            store.schema,
            Restriction(),
            split=split or SplitSettings(),
            seed=seed,
            source=str(Path(path).resolve()),
            notices=missing_notices(Path(path)),
        )

    @staticmethod
    def from_events(
        schema: Schema,
        events: PackedEvents,
        *,
        split: SplitSettings | None = None,
        seed: int = 1,
        source: str = "events in memory",
        notices: Sequence[str] = (),
    ) -> "Dataset":
        """Make a dataset of events in memory; they are not copied."""
        return Dataset(
            MemoryStore(schema, events),
            schema,
            Restriction(),
            split=split or SplitSettings(),
            seed=seed,
            source=source,
            notices=notices,
        )

    @cached_property
    def train(self) -> "Dataset":
        """The events to learn from."""
        return self._part("train")

    @cached_property
    def validation(self) -> "Dataset":
        """The events by which the best epoch is chosen."""
        return self._part("validation")

    @cached_property
    def test(self) -> "Dataset":
        """The events that the figures are made of."""
        return self._part("test")

    def __repr__(self) -> str:
        """Say where the events are from, how many of which process, and their streams."""
        processes = [
            f"{of.name} ({of.label}) {count:,}"
            for of, count in zip(self.schema.processes, self.process_counts.values(), strict=True)
        ]
        streams = [f"{of.name} ({', '.join(of.all_columns)})" for of in self.schema.streams]
        part = f", the {self._restriction.part} part" if self._restriction.part else ""
        return (
            f"Dataset({self.source}{part}: {len(self):,} events, {', '.join(processes)}; streams "
            f"{', '.join(streams)})"
        )

    def __len__(self) -> int:
        """Return the number of events."""
        return self._totals.events

    @property
    def class_counts(self) -> dict[Label, int]:
        """Number of events of each class."""
        return dict(self._totals.classes)

    @property
    def process_counts(self) -> dict[str, int]:
        """Number of events of each process."""
        counts = self._totals.processes.tolist()
        return {of.name: count for of, count in zip(self.schema.processes, counts, strict=True)}

    @property
    def process_weights(self) -> NDArray[np.float64]:
        """Sum of the events' weights of each process of the schema, (processes,)."""
        return self._totals.weights

    @property
    def process_weights2(self) -> NDArray[np.float64]:
        """Sum of the events' squared weights of each process of the schema, (processes,)."""
        return self._totals.weights2

    @property
    def event_ids(self) -> NDArray[np.uint64]:
        """Which events these are, (events,)."""
        return np.concatenate([batch.event_id for batch in self.bookkeeping_chunks()])

    @property
    def notices(self) -> list[str]:
        """What is odd about the events, a line each, and why processes of a class are not mixed."""
        return [*self._notices, *mix_notices(self.schema.processes)]

    @property
    def balance(self) -> Balance:
        """Weights under which each class sums to one over all events, for any of them."""
        return self._totals.balance

    @property
    def mix(self) -> dict[Label, ClassMix]:
        """What each process makes of its class under balanced weights, and by which rule."""
        return self._totals.mix(self.schema.processes)

    def events(self) -> PackedEvents:
        """Return all events, decoded; read once and kept, also for `chunks`."""
        return self._events

    def bookkeeping(self) -> PackedEvents:
        """Return all events without what they are made of: event_id, label, process and weight."""
        return PackedEvents.concatenate(list(self.bookkeeping_chunks()))

    def bookkeeping_chunks(self) -> Iterator[PackedEvents]:
        """Give what `bookkeeping` returns chunk by chunk; at least one chunk."""
        yield no_events(
            self.schema.model_copy(
                update={"streams": (), "observables": (), "weights": self.schema.weights[:1]}
            )
        )
        for batch in self._batches(_BARE_BATCH, streams=(), known=False):
            yield replace(batch, observables={}, weights={})

    def chunks(self, size: int) -> Iterator[PackedEvents]:
        """Give the events in the order of the source, `size` at a time (fewer at the end).

        Memory does not grow with the number of events.
        """
        waiting: list[PackedEvents] = []
        for batch in self._batches(size):
            waiting.append(batch)
            if sum(map(len, waiting)) >= size:
                together = PackedEvents.concatenate(waiting)
                yield together.between(0, size)
                waiting = [together.between(size, len(together))]
        left = PackedEvents.concatenate(waiting) if waiting else no_events(self.schema)
        if len(left):
            yield left

    @property
    def groups(self) -> RowGroups | None:
        """What of the source can be read alone; None where the events are in memory."""
        return self._store.groups

    def read_groups(self, groups: Sequence[int], streams: Sequence[str]) -> Iterator[PackedEvents]:
        """Give the events of some of the groups in turn, without further weights and observables.

        Parameters
        ----------
        groups
            Their places in `groups`, which counts events that do not belong to the dataset, too.
        streams
            Those to be read.

        Raises
        ------
        DataError
            Where a part is missing or damaged; the message names the part.
        """
        for events in self._store.read_groups(groups, streams):
            yield self._keep(events)

    def sample(self, most: int) -> "Dataset":
        """Return at most so many of the events, the same ones whatever their order.

        They are chosen by a hash of `event_id`. For so many of each class: `restricted`.
        """
        return self._derived(self._restriction.to_sample(self.bookkeeping_chunks(), most))

    def restricted(
        self,
        streams: Sequence[str] | None = None,
        classes: Mapping[Label, Sequence[str]] | None = None,
        max_events: int | None = None,
    ) -> "Dataset":
        """Return the dataset with fewer streams, processes or events.

        Parameters
        ----------
        streams
            Names of those to keep, in the order wanted.
        classes
            Names of the processes of each class; all others are dropped. A class that is not named
            keeps the processes that the dataset says are of it.
        max_events
            Events of each class at most: chosen by a hash of `event_id`, so that neither order nor
            seed matters and a larger number keeps those of a smaller.

        Raises
        ------
        DataError
            Where a stream or process is unknown, or named twice.
        """
        if streams is None and classes is None and max_events is None:
            return self
        schema, restriction = self.schema, self._restriction
        if streams is not None:
            if not streams or len(set(streams)) < len(streams):
                raise DataError(
                    f"streams must name at least one stream, each once; they are {streams}"
                )
            kept = tuple(schema.stream(name) for name in streams)
            schema = schema.model_copy(update={"streams": kept})
        if classes is not None:
            restriction, processes = restriction.to_classes(schema.processes, classes)
            schema = schema.model_copy(update={"processes": processes})
        if max_events is not None:
            batches = self._derived(restriction, schema).bookkeeping_chunks()
            restriction = restriction.to_events(batches, max_events)
        return self._derived(restriction, schema)

    def with_columns(self, columns: NewColumns) -> "Dataset":
        """Return the dataset with further columns, computed whenever events are read.

        Parameters
        ----------
        columns
            For each stream, new names and how each is computed: a function of the stream's columns
            by name, each (tokens,), those that it has once an event repeated, that returns a number
            a token. It is given the tokens of many events at once, of how many may vary.

        Raises
        ------
        DataError
            Where there is no such stream or a name is taken; and, once the events are read, where
            a function gives something else than a finite number a token.
        """
        schema = with_names(self.schema, columns)
        return self._derived(self._restriction, schema, ColumnStore(self._store, columns))

    def write(self, folder: Path | str) -> None:
        """Write the events to a new dataset folder, whole or not at all, in constant memory.

        What was generated of a process counts in proportion to its events written, so that a part
        of the split, or fewer events, stand for the same cross section.

        Raises
        ------
        DataError
            Where the folder holds something or cannot be written.
        """
        whole = self._derived(replace(self._restriction, part=None, ceilings={})).process_counts
        counts = self.process_counts
        processes = tuple(
            scaled(process, count / whole[process.name])
            if (count := counts[process.name]) < whole[process.name]
            else process
            for process in self.schema.processes
        )
        write_dataset(
            Path(folder),
            self.schema.model_copy(update={"processes": processes}),
            self._batches(_BATCH),
            common_types(self._batches(_BATCH, streams=())),
            self.source,
        )
        inherit_sources(Path(self.source), Path(folder))

    def balanced_weights(self, events: PackedEvents) -> NDArray[np.float64]:
        """Weights under which each class sums to one, its processes mixed right.

        See `manyscale.data.balance.mix_rules`.
        """
        return balanced_weights(events, self.schema.processes)

    def require_classes(self) -> None:
        """Refuse a dataset without one of the classes.

        Raises
        ------
        DataError
            Says which is missing, what there is, and what to do.
        """
        for label, count in self.class_counts.items():
            if count:
                continue
            have = ", ".join(f"{p.name} ({p.label})" for p in self.schema.processes) or "none"
            part = f"the {self._restriction.part} part of " if self._restriction.part else ""
            raise DataError(
                f"{part}the data ({self.source}) hold no {label} events; their processes are {have}. "
                f"Training and evaluation need both classes: add events with `manyscale generate` "
                f"or `manyscale convert --label {label}`, or say under `classes` which processes "
                f"are {label}"
            )

    @cached_property
    def _totals(self) -> Totals:
        return Totals.of(self.bookkeeping_chunks(), self.schema.processes)

    @cached_property
    def _events(self) -> PackedEvents:
        in_memory = isinstance(self._store, MemoryStore)
        size = np.iinfo(np.int64).max if in_memory else _BATCH
        batches = [batch for batch in self._batches(int(size)) if len(batch)]
        if len(batches) == 1:
            return batches[0]
        return PackedEvents.concatenate(batches) if batches else no_events(self.schema)

    def _batches(
        self, size: int, *, streams: Sequence[str] | None = None, known: bool = True
    ) -> Iterator[PackedEvents]:
        names = [stream.name for stream in self.schema.streams] if streams is None else streams
        if "_events" in self.__dict__:  # decoded already
            yield from MemoryStore(self.schema, self._events).batches(names, size)
            return
        for batch in self._store.batches(names, size, known=known):
            yield self._keep(batch)

    def _keep(self, events: PackedEvents) -> PackedEvents:
        return self._restriction.keep(events, self.schema.processes, self._split, self._seed)

    def _derived(
        self, restriction: Restriction, schema: Schema | None = None, store: Store | None = None
    ) -> "Dataset":
        return Dataset(
            store or self._store,
            schema or self.schema,
            restriction,
            split=self._split,
            seed=self._seed,
            source=self.source,
            notices=self._notices,
        )

    def _part(self, name: SplitName) -> "Dataset":
        if self._restriction.part is not None:
            raise DataError(
                f"these events are the {self._restriction.part} part already; split the whole dataset"
            )
        part = self._derived(replace(self._restriction, part=name))
        most = self._split.train_events
        if most is None or name == "test":
            return part
        if name == "validation":
            most = max(1, round(most * self._split.validation / self._split.train))
        return part.sample(most)
