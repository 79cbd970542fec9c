"""Higgs bosons among the generator's particles of a Delphes file."""

import numpy as np

from manyscale.events.files.delphes_tree import DelphesTree, Table
from manyscale.events.particles import BOTTOM, HIGGS, Array, Integers

__all__ = ["GENERATED", "read_higgs", "to_bottom"]

#: Columns of `Particle` that are needed.
GENERATED = ("PID", "D1", "D2", "Px", "Py", "Pz", "E")


def read_higgs(tree: DelphesTree, first: int, last: int) -> Table:
    """Read the Higgs bosons that decay to b bbar, with `GENERATED`, of entries `first` to `last - 1`.

    Particles are most of a Delphes file; all but their codes are read only where there is a Higgs
    boson.
    """
    counts, pid = tree.flat("Particle.PID", first, last)
    if not (pid == HIGGS).any():
        none = {name: np.zeros(0, np.float32) for name in GENERATED}
        return Table(np.zeros(len(counts), np.int64), none, {})
    columns = dict(tree.table("Particle", GENERATED, first, last).columns)
    higgs = to_bottom(pid, columns["D1"], columns["D2"], counts)
    event = np.repeat(np.arange(len(counts)), counts)[higgs]
    return Table(
        np.bincount(event, minlength=len(counts)),
        {name: values[higgs] for name, values in columns.items()},
        {},
    )


def to_bottom(pid: Array, one: Array, other: Array, counts: Integers) -> Integers:
    """Places of the Higgs bosons that decay to b bbar; copies of them decay to a copy.

    Parameters
    ----------
    pid
        (particles,) of all events, one event behind the other.
    one, other
        (particles,): first and last daughter, counted within the event.
    counts
        (events,): number of particles of each event.

    Examples
    --------
    >>> to_bottom(
    ...     np.array([25, 25, 5, -5]), np.array([1, 2, -1, -1]), np.array([1, 3, -1, -1]), [4]
    ... )
    array([1])
    """
    higgs = np.flatnonzero(pid == HIGGS)
    ends = np.cumsum(counts)
    event = np.searchsorted(ends, higgs, side="right")
    number = np.asarray(counts)[event]
    daughters = np.stack([one[higgs], other[higgs]])
    known = ((daughters >= 0) & (daughters < number)).all(axis=0)
    b, bbar = pid[np.where(known, (ends[event] - number) + daughters, 0)]
    return higgs[known & (np.abs(b) == BOTTOM) & (bbar == -b)]
