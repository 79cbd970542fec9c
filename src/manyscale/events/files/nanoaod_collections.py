"""Collections of NanoAOD as flat arrays, checked as they are taken from what was read."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import awkward as ak
import numpy as np

from manyscale.errors import DataError
from manyscale.events.files.checks import check_finite
from manyscale.events.particles import Array, Integers

__all__ = ["Collections", "Flat"]


class Flat(NamedTuple):
    """Branches of a collection: (particles,) each, and (events,) how many an event has."""

    counts: Integers
    columns: tuple[Array, ...]

    @property
    def event(self) -> Integers:
        """(particles,): which event each belongs to."""
        return np.repeat(np.arange(len(self.counts)), self.counts)


class Collections:
    """What was read of a batch of events.

    Parameters
    ----------
    branches
        Values by name: (events,), or a list an event.
    n_events
        Number of events.
    where
        Names an event of the batch: file and entry.
    """

    def __init__(
        self, branches: Mapping[str, ak.Array], n_events: int, where: Callable[[int], str]
    ) -> None:
        self.branches = branches
        self._n_events = n_events
        self._where = where
        self._lists: dict[str, tuple[Integers, Array]] = {}

    def __len__(self) -> int:
        """Return the number of events."""
        return self._n_events

    def counts(self, branch: str) -> Integers:
        """(events,): number of values that each event has."""
        return self._list(branch)[0]

    def _list(self, branch: str) -> tuple[Integers, Array]:
        """Numbers and values, once; straight from the buffers, as the calls of awkward add up."""
        if branch not in self._lists:
            layout = self.branches[branch].layout.to_ListOffsetArray64(start_at_zero=True)
            counts, values = np.diff(layout.offsets.data), layout.content.data
            self._lists[branch] = counts, values[: layout.offsets[-1]]
        return self._lists[branch]

    def flat(self, branches: Sequence[str]) -> Flat:
        """Take branches of one collection.

        Raises
        ------
        DataError
            Where they have different numbers of values.
        """
        counts = self.counts(branches[0])
        for branch in branches[1:]:
            other = self.counts(branch)
            if not np.array_equal(counts, other):
                event = int(np.flatnonzero(counts != other)[0])
                raise DataError(
                    f"{self._where(event)}: '{branches[0]}' has {counts[event]} values and "
                    f"'{branch}' has {other[event]}; the file is damaged"
                )
        return Flat(counts, tuple(self._list(branch)[1] for branch in branches))

    def finite(self, branches: Sequence[str]) -> Flat:
        """Take branches of one collection whose values must be numbers.

        Raises
        ------
        DataError
            Names the branch and the entry of a value that is none.
        """
        flat = self.flat(branches)
        check_finite(dict(zip(branches, flat.columns, strict=True)), flat.event, self._where)
        return flat

    def each_event(self, branch: str) -> Array:
        """(events,): values of a branch with one number an event, which must be finite."""
        values: Array = ak.to_numpy(self.branches[branch])
        check_finite({branch: values}, np.arange(len(self)), self._where)
        return values

    def places(self, branch: str, index: Array, event: Integers, target: str) -> Integers:
        """Follow indices within events to places among all of a collection.

        Parameters
        ----------
        branch
            Which holds the indices, for messages.
        index, event
            (n,): indices, and the events that they are of.
        target
            A branch of the collection pointed to.

        Raises
        ------
        DataError
            Names branch and entry of an index that points to nothing.
        """
        counts = self.counts(target)
        bad = np.flatnonzero((index < 0) | (index >= counts[event]))
        if len(bad):
            place = int(event[bad[0]])
            of = target.partition("_")[0]
            raise DataError(
                f"{self._where(place)}: branch '{branch}' points to {of} {index[bad[0]]}, but the "
                f"event has {counts[place]} of them"
            )
        return (np.cumsum(counts) - counts)[event] + index
