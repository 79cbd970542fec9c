"""Which generated particles lie in which jets, and which jets are what by them."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from manyscale.events.clustering import JetPairs
from manyscale.events.kinematics import Momentum, wrap_phi
from manyscale.events.particles import (
    BOTTOM,
    HIGGS,
    Array,
    Floats,
    Integers,
    Particles,
    pair_up,
)

__all__ = ["Axes", "count_inside", "higgs_to_bottom", "match_h_bb", "nearest_jet"]


class Axes(NamedTuple):
    """Directions of jets.

    Attributes
    ----------
    counts
        (events,): number of jets of each event.
    eta, phi
        (jets,): one event behind the other.
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
    momentum = Momentum(higgs.px, higgs.py, higgs.pz, higgs.energy)
    inside = count_inside(higgs.event, momentum.eta, momentum.phi, pairs, radius)
    return np.minimum(inside, 1)


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
