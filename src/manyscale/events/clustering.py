"""Anti-kT on whole batches of events: the two fat jets of each, or all jets of a radius."""

from dataclasses import dataclass

import awkward as ak
import fastjet
import numpy as np
from numpy.typing import NDArray

from manyscale.events.kinematics import Momentum
from manyscale.events.particles import Array, Hits, Integers, SmallJets

__all__ = ["JetPairs", "cluster", "find_jets", "hardest_two"]

# FastJet would print its banner on stdout; its papers are cited in the documentation.
fastjet.ClusterSequenceArea.set_fastjet_banner_stream(None)

_COMPONENTS = ("px", "py", "pz", "E")


@dataclass(frozen=True)
class JetPairs:
    """The two jets of highest pT of the events that have two.

    Attributes
    ----------
    event
        (pairs,): which event.
    momentum
        (pairs, 2): the jet of higher pT first.
    members
        (pairs, 2, constituents): places among the hits of the event; None where there are no hits.
    """

    event: Integers
    momentum: Momentum
    members: ak.Array | None

    def take(self, which: NDArray[np.bool_]) -> "JetPairs":
        """Return some of the pairs."""
        members = None if self.members is None else self.members[which]
        return JetPairs(self.event[which], self.momentum[which], members)

    def constituents(self, hits: Hits, jet: int) -> Hits:
        """Constituents of the first (0) or second (1) jet of each pair, by falling pT."""
        assert self.members is not None  # noqa: S101  # hits without members are nothing
        members = self.members[:, jet]
        counts = ak.to_numpy(ak.num(members))
        first = np.cumsum(hits.counts) - hits.counts
        places = np.repeat(first[self.event], counts) + ak.to_numpy(ak.flatten(members))
        # Hits of the same pT stay in their own order.
        places.sort()
        event = np.repeat(np.arange(len(counts)), counts)
        places = places[np.lexsort((-hits.pt[places], event))]
        return Hits(counts, *(column[places] for column in hits.columns))


def cluster(hits: Hits, radius: float, min_pt: float) -> JetPairs:
    """Cluster the hits of each event with anti-kT (arXiv:0802.1189).

    Parameters
    ----------
    hits
        Of all events of a batch.
    radius
        Of the jets.
    min_pt
        Smallest pT in GeV of both jets.
    """
    jets, members = _antikt(hits, radius, min_pt)
    event = np.flatnonzero(ak.num(jets.px) >= 2)
    jets, members = jets[event], members[event]
    order = ak.argsort(np.hypot(jets.px, jets.py), ascending=False)[:, :2]
    jets, members = jets[order], members[order]
    momentum = Momentum(*(_flat(jets[name]).reshape(-1, 2) for name in _COMPONENTS))
    return JetPairs(event, momentum, members)


def hardest_two(counts: Integers, pt: Array, min_pt: float) -> tuple[Integers, Integers]:
    """Find the two jets of highest pT of each event, in whatever order its jets stand.

    Parameters
    ----------
    counts
        (events,): number of jets of each event.
    pt
        (jets,): one event behind the other.
    min_pt
        Smallest pT of both.

    Returns
    -------
    event : (pairs,)
        Those that have two such jets.
    place : (pairs, 2)
        Which of all jets they are.
    """
    order = np.lexsort((-pt, np.repeat(np.arange(len(counts)), counts)))
    event = np.flatnonzero(counts >= 2)
    first = (np.cumsum(counts) - counts)[event]
    place = order[first[:, None] + np.arange(2)]
    hard = pt[place[:, 1]] > min_pt
    return event[hard], place[hard]


def find_jets(hits: Hits, radius: float, min_pt: float) -> SmallJets:
    """Cluster the hits of each event with anti-kT; all jets by falling pT, without b-tags.

    Parameters
    ----------
    hits
        Of all events of a batch, or of one jet each.
    radius, min_pt
        Of the jets; the smallest pT is in GeV.
    """
    jets, members = _antikt(hits, radius, min_pt)
    momentum = Momentum(*(_flat(jets[name]) for name in _COMPONENTS))
    multiplicity = _flat(ak.num(members, axis=2))
    found = SmallJets(
        ak.to_numpy(ak.num(jets.px)).astype(np.int64),
        momentum.pt,
        momentum.eta,
        momentum.phi,
        momentum.mass,
        multiplicity,
        np.zeros_like(multiplicity),
    )
    return found.by_pt()


def _antikt(hits: Hits, radius: float, min_pt: float) -> tuple[ak.Array, ak.Array]:
    """Four-momenta (events, jets) and places of the constituents (events, jets, constituents)."""
    momenta = ak.zip(
        {
            "px": hits.pt * np.cos(hits.phi),
            "py": hits.pt * np.sin(hits.phi),
            "pz": hits.pt * np.sinh(hits.eta),
            "E": hits.energy,
        }
    )
    definition = fastjet.JetDefinition(fastjet.antikt_algorithm, radius)
    sequence = fastjet.ClusterSequence(ak.unflatten(momenta, hits.counts), definition)
    return sequence.inclusive_jets(min_pt=min_pt), sequence.constituent_index(min_pt=min_pt)


def _flat(values: ak.Array) -> Array:
    return ak.to_numpy(ak.flatten(values))
