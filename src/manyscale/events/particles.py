"""Particles of many events as flat arrays: one event behind the other, and how many each has."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BOTTOM",
    "CHARM",
    "HIGGS",
    "Array",
    "Floats",
    "Hits",
    "Integers",
    "Leptons",
    "Particles",
    "SmallJets",
    "TruthEvents",
    "heaviest_flavour",
    "pair_up",
]

Array = NDArray[Any]
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

CHARM, BOTTOM, HIGGS = 4, 5, 25


@dataclass(frozen=True)
class _Flat:
    """Columns (particles,) and `counts` (events,), the number of particles of each event."""

    counts: Integers

    @cached_property
    def event(self) -> Integers:
        """(particles,): which event each belongs to."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    @property
    def columns(self) -> tuple[Array, ...]:
        """All columns but `counts`, in the order of the fields."""
        return tuple(getattr(self, column.name) for column in fields(self)[1:])

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """Put events one behind the other."""
        columns = zip(*((part.counts, *part.columns) for part in parts), strict=True)
        return cls(*(np.concatenate(column) for column in columns))

    def take(self, particles: Integers) -> Self:
        """Return the particles named, one event behind the other, of the same events."""
        counts = np.bincount(self.event[particles], minlength=len(self.counts))
        return type(self)(counts, *(column[particles] for column in self.columns))

    def take_events(self, events: Integers) -> Self:
        """Return the particles of the events named, in ascending order, and of those only."""
        chosen = np.zeros(len(self.counts), bool)
        chosen[events] = True
        particles = np.repeat(chosen, self.counts)
        return type(self)(self.counts[chosen], *(column[particles] for column in self.columns))


@dataclass(frozen=True)
class Particles(_Flat):
    """What a generator made: PDG codes and four-momenta in GeV."""

    pdg_id: Integers
    px: Floats
    py: Floats
    pz: Floats
    energy: Floats


@dataclass(frozen=True)
class Hits(_Flat):
    """What a detector saw: tracks and cells, in GeV and radians; `particle_class` a code of `PARTICLE_CLASSES`.

    d0 and dz in mm, 0 for what leaves no track and where they are not measured.
    """

    pt: Floats
    eta: Floats
    phi: Floats
    energy: Floats
    charge: NDArray[np.int8]
    particle_class: NDArray[np.int8]
    d0: Floats
    dz: Floats


class _Objects(_Flat):
    pt: Floats

    def by_pt(self) -> Self:
        """Return the same by falling pT in each event."""
        return self.take(np.lexsort((-self.pt, self.event)))


@dataclass(frozen=True)
class SmallJets(_Objects):
    """Small-R jets; `multiplicity` is the number of constituents."""

    pt: Floats
    eta: Floats
    phi: Floats
    mass: Floats
    multiplicity: Array
    n_btags: Array


@dataclass(frozen=True)
class Leptons(_Objects):
    """Isolated electrons and muons; `particle_class` a code of `PARTICLE_CLASSES`."""

    pt: Floats
    eta: Floats
    phi: Floats
    charge: Array
    particle_class: Array


@dataclass(frozen=True)
class TruthEvents:
    """Some generated events.

    Attributes
    ----------
    entry, weight
        (events,): place in the source, and generated weight.
    stable
        Particles that live long enough to reach the detector, neutrinos among them.
    heavy
        Hadrons with a b or a charm quark as they leave the hadronisation.
    higgs
        Higgs bosons that decay to b bbar, each once, as they decay; None where not known.
    weights, observables, steps
        As in `DetectedEvents`.
    """

    entry: Integers
    weight: Floats
    stable: Particles
    heavy: Particles
    higgs: Particles | None = None
    weights: Mapping[str, Floats] = field(default_factory=dict)
    observables: Mapping[str, Array] = field(default_factory=dict)
    steps: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)


def heaviest_flavour(code: NDArray[np.int64]) -> NDArray[np.int64]:
    """Heaviest quark flavour of hadrons by their PDG code, 0 for quarkonia and for non-hadrons.

    Source: numbering scheme of the Review of Particle Physics, chapter 45: the digits before the
    last are the quarks, the first of them the heaviest; mesons have two of them, baryons three.

    Examples
    --------
    >>> heaviest_flavour(np.array([521, -5122, 413, 443, 211, 22]))  # B+, Lambda_b, D*, J/psi, ...
    array([5, 5, 4, 0, 2, 0])
    """
    code = np.abs(code)
    baryon, meson, second = code // 1000 % 10, code // 100 % 10, code // 10 % 10
    flavour = np.where(baryon > 0, baryon, np.where(meson == second, 0, meson))
    return np.where((code > 100) & (code < 1_000_000) & (flavour <= BOTTOM), flavour, 0)


def pair_up(event: Integers, counts: Integers) -> tuple[Integers, Integers]:
    """Pair things with all particles of their events.

    Parameters
    ----------
    event
        (things,): the event of each.
    counts
        (events,): number of particles of each event.

    Returns
    -------
    thing, particle : (pairs,)
        Places among the things, ascending, and among the particles.

    Examples
    --------
    >>> pair_up(np.array([1, 1]), np.array([3, 2]))
    (array([0, 0, 1, 1]), array([3, 4, 3, 4]))
    """
    number = counts[event]
    thing = np.repeat(np.arange(len(event)), number)
    first = (np.cumsum(counts) - counts)[event]
    behind = np.cumsum(number) - number
    return thing, np.arange(len(thing)) + np.repeat(first - behind, number)
