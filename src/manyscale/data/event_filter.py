"""Which events of a source belong to a dataset: part of the split, processes, number."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from manyscale.data.identity import uniform
from manyscale.data.packing import PackedEvents
from manyscale.errors import DataError
from manyscale.schema import Label, Process
from manyscale.settings import Settings, setting

__all__ = ["SPLITS", "Restriction", "SplitName", "SplitSettings", "split_names", "split_places"]

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")


class SplitSettings(Settings):
    """Shares of the three parts, together 1; or which of several folds is the test."""

    train: float = setting(0.7, "share of the events that the network learns from", gt=0, lt=1)
    validation: float = setting(0.15, "share by which the best epoch is chosen", gt=0, lt=1)
    test: float = setting(0.15, "share that the figures are made of", gt=0, lt=1)

    folds: int | None = setting(
        None, "equal parts, one of which is the test, in place of its share; null: none", ge=2
    )
    fold: int = setting(0, "which of the folds is the test", ge=0)
    train_events: int | None = setting(
        None, "training events at most, validation events in proportion; null: all", ge=1
    )

    @model_validator(mode="after")
    def _whole(self) -> "SplitSettings":
        total = math.fsum((self.train, self.validation, self.test))
        if abs(total - 1) > 1e-9:
            raise ValueError(f"train, validation and test must add up to 1, not to {total:.12g}")
        if self.fold >= (self.folds or 1):
            have = f"{self.folds} folds count from 0" if self.folds else "there are no folds"
            raise ValueError(f"fold is {self.fold}, but {have}")
        return self


def split_places(
    event_id: NDArray[np.uint64], seed: int, settings: SplitSettings
) -> NDArray[np.int64]:
    """Place of each event's part in `SPLITS`, (events,): a pure function of event_id and seed.

    With folds each event is the test of exactly one of them; the others are training and
    validation, in the ratio of their shares.

    Examples
    --------
    >>> split_places(np.arange(4, dtype=np.uint64), 1, SplitSettings())
    array([2, 1, 2, 2])
    """
    draw = uniform(event_id, f"split {seed}")
    if settings.folds is None:
        edges = [settings.train, settings.train + settings.validation]
        return np.searchsorted(edges, draw, side="right")
    # The folds stand in a ring of draws; validation is what comes next to the test in it.
    after = (draw - (settings.fold + 1) / settings.folds) % 1
    validation = settings.validation / (settings.train + settings.validation)
    places = np.where(after < validation * (1 - 1 / settings.folds), 1, 0)
    places[np.floor(draw * settings.folds) == settings.fold] = 2
    return places


def split_names(
    event_id: NDArray[np.uint64], seed: int, settings: SplitSettings
) -> NDArray[np.str_]:
    """Name of each event's part, (events,)."""
    return np.array(SPLITS)[split_places(event_id, seed, settings)]


# Process place of events that are left out; -1 is "unknown".
_DROPPED = -2
# Names the draw by which events are left out.
_PURPOSE = "max_events"
_LABELS = (-1, 0, 1)


@dataclass(frozen=True)
class Restriction:
    """Which events of a source belong to a dataset.

    Attributes
    ----------
    places
        (processes of the source + 1,): the place of each in the dataset's schema, of unknown ones
        last; None where nothing was restricted.
    ceilings
        Label to the largest draw of the events kept.
    part
        The part of the split; None for all.
    """

    places: NDArray[np.int64] | None = None
    ceilings: Mapping[int, float] = field(default_factory=dict)
    part: SplitName | None = None

    def keep(
        self,
        events: PackedEvents,
        processes: Sequence[Process],
        split: SplitSettings,
        seed: int,
    ) -> PackedEvents:
        """Relabel some events of the source and keep those that belong to the dataset.

        Parameters
        ----------
        events
            As the source gives them.
        processes
            Of the dataset.
        split, seed
            By which events fall to the parts.
        """
        if self.places is not None:
            process = self.places[events.process]
            labels = np.array([int(p.label == "signal") for p in processes] + [-1])
            kept = np.flatnonzero(process != _DROPPED)
            events = replace(events, process=process).take(kept)
            events = replace(events, label=labels[events.process])
        if self.ceilings:
            draw = uniform(events.event_id, _PURPOSE)
            events = events.take(np.flatnonzero(draw <= self._ceiling_of(events.label)))
        if self.part is not None:
            place = split_places(events.event_id, seed, split)
            events = events.take(np.flatnonzero(place == SPLITS.index(self.part)))
        return events

    def to_classes(
        self, processes: Sequence[Process], classes: Mapping[Label, Sequence[str]]
    ) -> tuple["Restriction", tuple[Process, ...]]:
        """Restrict to the processes named, as of these classes; return those of the dataset then.

        Raises
        ------
        DataError
            Where a process is unknown, or named twice.
        """
        label_of = _labels_of(processes, classes)
        before = {process.name: place for place, process in enumerate(processes)}
        kept = tuple(
            processes[before[name]].model_copy(update={"label": label})
            for name, label in label_of.items()
        )
        step = np.full(len(before) + 1, _DROPPED)
        step[[before[process.name] for process in kept]] = np.arange(len(kept))
        places = self.places
        if places is None:
            places = np.append(np.arange(len(before)), -1)
        places = np.where(places == _DROPPED, _DROPPED, step[places])
        return replace(self, places=places), kept

    def to_events(self, batches: Iterable[PackedEvents], most: int) -> "Restriction":
        """Restrict to at most so many events of each class of those that the batches hold.

        Raises
        ------
        DataError
            Where that is none.
        """
        if most < 1:
            raise DataError(f"max_events must be at least 1, is {most}")
        lowest: dict[int, _Lowest] = {}
        for batch in batches:
            draw = uniform(batch.event_id, _PURPOSE)
            for label in np.unique(batch.label).tolist():
                lowest.setdefault(label, _Lowest(most)).add(draw[batch.label == label])
        found = {label: of.ceiling for label, of in lowest.items() if of.ceiling is not None}
        return replace(self, ceilings={**self.ceilings, **found})

    def to_sample(self, batches: Iterable[PackedEvents], most: int) -> "Restriction":
        """Restrict to at most so many events, whatever their class, of those in the batches."""
        lowest = _Lowest(most)
        for batch in batches:
            lowest.add(uniform(batch.event_id, _PURPOSE))
        if lowest.ceiling is None:
            return self
        ceilings = {label: min(self.ceilings.get(label, 1.0), lowest.ceiling) for label in _LABELS}
        return replace(self, ceilings=ceilings)

    def _ceiling_of(self, label: NDArray[np.int64]) -> NDArray[np.float64]:
        ceiling = np.ones(len(label))
        for of, value in self.ceilings.items():
            ceiling[label == of] = value
        return ceiling


class _Lowest:
    """The lowest of many draws that come piece by piece."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._draws = np.zeros(0)
        self._seen = 0

    def add(self, draws: NDArray[np.float64]) -> None:
        self._seen += len(draws)
        draws = np.concatenate([self._draws, draws])
        if len(draws) > self._most:
            draws = np.partition(draws, self._most - 1)[: self._most]
        self._draws = draws

    @property
    def ceiling(self) -> float | None:
        """The highest of those kept; None where there were not more."""
        return float(self._draws.max()) if self._seen > self._most else None


def _labels_of(
    processes: Sequence[Process], classes: Mapping[Label, Sequence[str]]
) -> dict[str, Label]:
    """Class of each process to be kept, by name."""
    known = [process.name for process in processes]
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
    for process in processes:
        if process.label not in classes:
            label_of.setdefault(process.name, process.label)
    return label_of
