"""What the generator made: PDG codes, its particles, and which of them lie in which jets."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from manyscale.events.kinematics import Momentum, wrap_phi
from manyscale.events.objects import JetPairs
from manyscale.events.ragged import Array, Columns, Floats, Integers, pair_up

__all__ = [
    "BOTTOM",
    "CHARM",
    "HIGGS",
    "Axes",
    "Particles",
    "TruthEvents",
    "charge_of",
    "count_inside",
    "heaviest_flavour",
    "higgs_to_bottom",
    "is_hadron",
    "match_h_bb",
    "nearest_jet",
]

CHARM, BOTTOM, HIGGS = 4, 5, 25

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


def heaviest_flavour(code: Integers) -> NDArray[np.int64]:
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


@dataclass(frozen=True)
class Particles(Columns):
    """What a generator made: PDG codes and four-momenta in GeV."""

    pdg_id: Integers
    px: Floats
    py: Floats
    pz: Floats
    energy: Floats

    @property
    def momentum(self) -> Momentum:
        """Their four-momenta, (particles,)."""
        return Momentum(self.px, self.py, self.pz, self.energy)


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


class Axes(NamedTuple):
    """Directions of jets.

    Attributes
    ----------
    counts
        (events,): number of jets of each event.
    eta, phi
        (jets,): one event after the other.
    """

    counts: Integers
    eta: Floats
    phi: Floats

    @staticmethod
    def of_pairs(jets: Momentum) -> "Axes":
        """Directions of the jets (events, 2) of some events."""
        return Axes(np.full(len(jets.px), 2), jets.eta.ravel(), jets.phi.ravel())


def higgs_to_bottom(pid: Array, one: Array, other: Array, counts: Integers) -> Integers:
    """Indices of the Higgs bosons that decay to b bbar; copies of them decay to a copy.

    Parameters
    ----------
    pid
        (particles,) of all events, one event after the other.
    one, other
        (particles,): first and last daughter, counted within the event.
    counts
        (events,): number of particles of each event.

    Examples
    --------
    >>> higgs_to_bottom(
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


def match_h_bb(higgs: Particles, pairs: JetPairs, radius: float) -> NDArray[np.int64]:
    """Which of two jets are a h -> b bbar: (pairs, 2), 1 where they are, else 0.

    Parameters
    ----------
    higgs
        The Higgs bosons that decay so, of all events of the batch. Each is at most one jet, the
        nearest to it.
    pairs
        The jets.
    radius
        Largest distance in (eta, phi).
    """
    eta, phi = higgs.momentum.eta, higgs.momentum.phi
    return np.minimum(count_inside(higgs.event, eta, phi, pairs, radius), 1)


def count_inside(
    event: Integers, eta: Array, phi: Array, pairs: JetPairs, radius: float
) -> NDArray[np.int64]:
    """How many things lie in each of two jets, (pairs, 2); each in one jet at most, the nearest.

    Parameters
    ----------
    event, eta, phi
        (things,): of all events of the batch, in ascending order of the events.
    pairs, radius
        The jets, and the largest distance in (eta, phi).
    """
    seen = np.flatnonzero(np.isin(event, pairs.event))
    pair = np.searchsorted(pairs.event, event[seen])
    place = nearest_jet(pair, eta[seen], phi[seen], Axes.of_pairs(pairs.momentum), radius)
    jets = pairs.momentum.px.size
    return np.bincount(place[place >= 0], minlength=jets).reshape(-1, 2)


def nearest_jet(event: Integers, eta: Array, phi: Array, jets: Axes, radius: float) -> Integers:
    """Which jet each thing lies in: (things,), -1 where in none of its event.

    Parameters
    ----------
    event, eta, phi
        (things,): of some events.
    jets
        Of the same events.
    radius
        Of the jets, in (eta, phi). What is within the radius of several lies in the nearest.
    """
    thing, jet = pair_up(event, jets.counts)
    distance = np.hypot(eta[thing] - jets.eta[jet], wrap_phi(phi[thing] - jets.phi[jet]))
    # Those within the radius, the nearest last: what is written last stays.
    inside = np.flatnonzero(distance < radius)
    inside = inside[np.argsort(-distance[inside])]
    place = np.full(len(event), -1)
    place[thing[inside]] = jet[inside]
    return place
