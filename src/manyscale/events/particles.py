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
    "charge_of",
    "heaviest_flavour",
    "is_hadron",
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


# In units of e/3: of the quarks by their digit, and of what is elementary by its code.
_QUARKS = np.array([0, -1, 2, -1, 2, -1, 2, -1, 2, 0])
_ELEMENTARY = np.zeros(100, np.int64)
_ELEMENTARY[:9] = _QUARKS[:9]
_ELEMENTARY[[11, 13, 15, 17]] = -3
_ELEMENTARY[[24, 34, 37]] = 3
_NUCLEI = 1_000_000_000


def is_hadron(code: Integers) -> NDArray[np.bool_]:
    """Whether PDG codes are those of hadrons or nuclei, of known quarks alone."""
    size = np.abs(code)
    # From 9000000 on further mesons; beyond 1000000 else what is new physics or of one generator.
    usual = (size < 1_000_000) | (size // 100_000 == 90)
    return (usual & (size % 10_000 > 100)) | (size > _NUCLEI)


def charge_of(code: Integers) -> Floats:
    """Electric charge in units of e by PDG codes: elementary particles, diquarks, hadrons, nuclei.

    Source: numbering scheme of the Review of Particle Physics, chapter 45. The digits before the last
    are the quarks: three of a baryon, two and a zero of a diquark, and quark and antiquark of a meson,
    the heavier one first, which is the antiquark where a meson of positive code holds s or b there.
    Nuclei are 10LZZZAAAI. All other codes (new physics, what is of one generator) give 0.

    Examples
    --------
    >>> charge_of(np.array([-11, 521, -4122, 130, 1000020040]))  # e+, B+, anti-Lambda_c, K_L, alpha
    array([ 1.,  1., -1.,  0.,  2.])
    """
    size = np.abs(code)
    one, two, three = (_QUARKS[size // place % 10] for place in (1000, 100, 10))
    # The heavier digit of a meson is odd for the quarks of down type.
    meson = np.where(size // 100 % 2 == 1, three - two, two - three)
    thirds = np.where(size // 1000 % 10 == 0, meson, one + two + three) * is_hadron(code)
    thirds = np.where(size < 100, _ELEMENTARY[size % 100], thirds)
    thirds = np.where(size > _NUCLEI, 3 * (size // 10_000 % 1000), thirds)
    return np.sign(code) * thirds / 3


def heaviest_flavour(code: NDArray[np.int64]) -> NDArray[np.int64]:
    """Heaviest quark flavour of hadrons by their PDG code, 0 for quarkonia and for non-hadrons.

    The first of the quarks' digits is the heaviest; see `charge_of`.

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
