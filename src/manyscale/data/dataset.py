"""A dataset: events, what they are made of, and which of them are for training and for the test."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from manyscale.data.balance import balanced_weights
from manyscale.data.identity import uniform
from manyscale.data.packing import PackedEvents
from manyscale.data.schema import Label, Schema
from manyscale.data.split import SPLITS, SplitName, SplitSettings, split_places
from manyscale.data.store import FolderStore, MemoryStore, Store, no_events
from manyscale.errors import DataError

__all__ = ["Dataset"]

# Events decoded at a time where nobody says how many.
_BATCH = 16_384
# Process place of events that a restriction leaves out; -1 is "unknown".
_DROPPED = -2


@dataclass(frozen=True)
class _Selection:
    """Which events of a store belong to a dataset.

    Attributes
    ----------
    places
        (processes of the store + 1,): the place of each in the dataset's schema, of unknown ones
        last; None where nothing was restricted.
    ceilings
        Label to the largest draw of the events kept.
    part
        The part of the split; None for all.
    """

    places: NDArray[np.int64] | None = None
    ceilings: Mapping[int, float] = field(default_factory=dict)
    part: SplitName | None = None


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
    notices
        What is odd about them, a line each.
    """

    def __init__(
        self,
        store: Store,
        schema: Schema,
        selection: _Selection,
        *,
        split: SplitSettings,
        seed: int,
        source: str,
        notices: Sequence[str] = (),
    ) -> None:
        self.schema = schema
        self.source = source
        self.notices = list(notices)
        self._store = store
        self._selection = selection
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
            _Selection(),
            split=split or SplitSettings(),
            seed=seed,
            source=str(Path(path).resolve()),
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
            _Selection(),
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

    def __len__(self) -> int:
        """Return the number of events."""
        return len(self._index.label)

    @property
    def class_counts(self) -> dict[Label, int]:
        """Number of events of each class."""
        label = self._index.label
        return {
            "signal": int(np.count_nonzero(label == 1)),
            "background": int(np.count_nonzero(label == 0)),
        }

    @property
    def process_counts(self) -> dict[str, int]:
        """Number of events of each process."""
        process = self._index.process
        return {
            of.name: int(np.count_nonzero(process == place))
            for place, of in enumerate(self.schema.processes)
        }

    @property
    def event_ids(self) -> NDArray[np.uint64]:
        """Which events these are, (events,)."""
        return self._index.event_id

    @property
    def process_weights(self) -> NDArray[np.float64]:
        """Sum of the events' weights of each process of the schema, (processes,)."""
        known = self._index.process >= 0
        sums = np.bincount(
            self._index.process[known], self._index.weight[known], len(self.schema.processes)
        )
        return sums.astype(np.float64)

    def events(self) -> PackedEvents:
        """Return all events, decoded; read once and kept."""
        return self._events

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
        restricted = self
        if streams is not None:
            restricted = restricted._with_streams(streams)
        if classes is not None:
            restricted = restricted._with_classes(classes)  # noqa: SLF001
        if max_events is not None:
            restricted = restricted._with_events(max_events)  # noqa: SLF001
        return restricted

    def balanced_weights(self, events: PackedEvents) -> NDArray[np.float64]:
        """Weights under which each class sums to one, its processes in their stated mix.

        See `manyscale.data.balance.balanced_weights`.
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
            part = f"the {self._selection.part} part of " if self._selection.part else ""
            raise DataError(
                f"{part}the data ({self.source}) hold no {label} events; their processes are {have}. "
                f"Training and evaluation need both classes: add events with `manyscale generate` "
                f"or `manyscale convert --label {label}`, or say under `classes` which processes "
                f"are {label}"
            )

    @cached_property
    def _index(self) -> PackedEvents:
        """All events without what they are made of: event_id, label, process."""
        batches = list(self._batches(1 << 20, streams=(), known=False))
        return PackedEvents.concatenate(batches) if batches else no_events(self._bare)

    @property
    def _bare(self) -> Schema:
        return self.schema.model_copy(
            update={"streams": (), "observables": (), "weights": self.schema.weights[:1]}
        )

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
        for batch in self._store.batches(names, size, known=known):
            yield self._select(batch)

    def _select(self, events: PackedEvents) -> PackedEvents:
        """Relabel some events of the store and keep those that belong here."""
        selection = self._selection
        if selection.places is not None:
            process = selection.places[events.process]
            labels = np.array([int(p.label == "signal") for p in self.schema.processes] + [-1])
            kept = np.flatnonzero(process != _DROPPED)
            events = replace(events, process=process).take(kept)
            events = replace(events, label=labels[events.process])
        if selection.ceilings:
            draw = uniform(events.event_id, "max_events")
            events = events.take(np.flatnonzero(draw <= self._ceiling_of(events.label)))
        if selection.part is not None:
            place = split_places(events.event_id, self._seed, self._split)
            events = events.take(np.flatnonzero(place == SPLITS.index(selection.part)))
        return events

    def _ceiling_of(self, label: NDArray[np.int64]) -> NDArray[np.float64]:
        ceiling = np.ones(len(label))
        for of, value in self._selection.ceilings.items():
            ceiling[label == of] = value
        return ceiling

    def _derived(self, selection: _Selection, schema: Schema | None = None) -> "Dataset":
        return Dataset(
            self._store,
            schema or self.schema,
            selection,
            split=self._split,
            seed=self._seed,
            source=self.source,
            notices=self.notices,
        )

    def _part(self, name: SplitName) -> "Dataset":
        if self._selection.part is not None:
            raise DataError(
                f"these events are the {self._selection.part} part already; split the whole dataset"
            )
        return self._derived(replace(self._selection, part=name))

    def _with_streams(self, names: Sequence[str]) -> "Dataset":
        if not names or len(set(names)) < len(names):
            raise DataError(f"streams must name at least one stream, each once; they are {names}")
        kept = tuple(self.schema.stream(name) for name in names)
        return self._derived(self._selection, self.schema.model_copy(update={"streams": kept}))

    def _with_classes(self, classes: Mapping[Label, Sequence[str]]) -> "Dataset":
        label_of = self._labels_of(classes)
        before = {process.name: place for place, process in enumerate(self.schema.processes)}
        kept = tuple(
            self.schema.processes[before[name]].model_copy(update={"label": label})
            for name, label in label_of.items()
        )
        step = np.full(len(before) + 1, _DROPPED)
        step[[before[process.name] for process in kept]] = np.arange(len(kept))
        places = self._selection.places
        if places is None:
            places = np.append(np.arange(len(before)), -1)
        places = np.where(places == _DROPPED, _DROPPED, step[places])
        return self._derived(
            replace(self._selection, places=places),
            self.schema.model_copy(update={"processes": kept}),
        )

    def _labels_of(self, classes: Mapping[Label, Sequence[str]]) -> dict[str, Label]:
        """Class of each process to be kept, by name."""
        known = [process.name for process in self.schema.processes]
        label_of: dict[str, Label] = {}
        for label, names in classes.items():
            for name in names:
                if name not in known:
                    raise DataError(
                        f"classes.{label} names a process '{name}' that the data do not have; they "
                        f"have {', '.join(known) or 'none'}"
                    )
                if name in label_of:
                    raise DataError(f"classes names the process '{name}' twice")
                label_of[name] = label
        for process in self.schema.processes:
            if process.label not in classes:
                label_of.setdefault(process.name, process.label)
        return label_of

    def _with_events(self, most: int) -> "Dataset":
        if most < 1:
            raise DataError(f"max_events must be at least 1, is {most}")
        index = self._index
        draw = uniform(index.event_id, "max_events")
        ceilings = dict(self._selection.ceilings)
        for label in np.unique(index.label).tolist():
            of_class = draw[index.label == label]
            if len(of_class) > most:
                ceilings[label] = float(np.partition(of_class, most - 1)[most - 1])
        return self._derived(replace(self._selection, ceilings=ceilings))
