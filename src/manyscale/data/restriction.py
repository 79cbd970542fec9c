"""Which events of a source belong to a dataset, and of which process they are there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from manyscale.data.identity import uniform
from manyscale.data.packing import PackedEvents
from manyscale.data.schema import Label, Process
from manyscale.data.split import SPLITS, SplitName, SplitSettings, split_places
from manyscale.errors import DataError

__all__ = ["Restriction"]

# Process place of events that are left out; -1 is "unknown".
_DROPPED = -2


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
            draw = uniform(events.event_id, "max_events")
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

    def to_events(self, index: PackedEvents, most: int) -> "Restriction":
        """Restrict to at most so many events of each class of those that `index` holds.

        Raises
        ------
        DataError
            Where that is none.
        """
        if most < 1:
            raise DataError(f"max_events must be at least 1, is {most}")
        draw = uniform(index.event_id, "max_events")
        ceilings = dict(self.ceilings)
        for label in np.unique(index.label).tolist():
            of_class = draw[index.label == label]
            if len(of_class) > most:
                ceilings[label] = float(np.partition(of_class, most - 1)[most - 1])
        return replace(self, ceilings=ceilings)

    def _ceiling_of(self, label: NDArray[np.int64]) -> NDArray[np.float64]:
        ceiling = np.ones(len(label))
        for of, value in self.ceilings.items():
            ceiling[label == of] = value
        return ceiling


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
