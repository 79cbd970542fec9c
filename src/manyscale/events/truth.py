"""Which generated particles lie in which jets, and which jets are what by them."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from manyscale.events.clustering import JetPairs
from manyscale.events.momentum import Momentum
from manyscale.events.particles import Floats, Integers, Particles, pair_up
from manyscale.events.record import wrap_phi

__all__ = ["Axes", "match_h_bb", "nearest_jet"]


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
    place = nearest_jet(higgs.take_events(pairs.event), Axes.of_pairs(pairs.momentum), radius)
    matched = np.zeros(pairs.momentum.px.size, np.int64)
    matched[place[place >= 0]] = 1
    return matched.reshape(-1, 2)


def nearest_jet(particles: Particles, jets: Axes, radius: float) -> Integers:
    """Which jet each particle lies in: (particles,), -1 where in none of its event.

    Parameters
    ----------
    particles
        Of some events.
    jets
        Of the same events.
    radius
        Of the jets, in (eta, phi). A particle within the radius of several lies in the nearest.
    """
    momentum = Momentum(particles.px, particles.py, particles.pz, particles.energy)
    particle, jet = pair_up(particles.event, jets.counts)
    distance = np.hypot(
        momentum.eta[particle] - jets.eta[jet], wrap_phi(momentum.phi[particle] - jets.phi[jet])
    )
    # Those within the radius, the nearest last: what is written last stays.
    inside = np.flatnonzero(distance < radius)
    inside = inside[np.argsort(-distance[inside])]
    place = np.full(len(particles.pdg_id), -1)
    place[particle[inside]] = jet[inside]
    return place
