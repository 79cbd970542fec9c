"""Particles of many events as flat arrays: one event behind the other, and how many each has."""

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BOTTOM",
    "CHARM",
    "Array",
    "Floats",
    "Hits",
    "Integers",
    "Leptons",
    "Particles",
    "SmallJets",
    "TruthEvents",
    "heaviest_flavour",
]

Array = NDArray[Any]
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

CHARM, BOTTOM = 4, 5


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
        return tuple(getattr(self, field.name) for field in fields(self)[1:])

    def take(self, particles: Integers) -> Self:
        """Return the particles named, in ascending order, of the same events."""
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
    """What a detector saw: tracks and cells, in GeV and radians; `particle_class` as in record.py.

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


@dataclass(frozen=True)
class SmallJets(_Flat):
    """Small-R jets; `multiplicity` is the number of constituents."""

    pt: Floats
    eta: Floats
    phi: Floats
    mass: Floats
    multiplicity: Array
    n_btags: Array


@dataclass(frozen=True)
class Leptons(_Flat):
    """Isolated electrons and muons; `particle_class` as in record.py."""

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
    """

    entry: Integers
    weight: Floats
    stable: Particles
    heavy: Particles


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
