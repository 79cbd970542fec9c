"""Jets: anti-kT on whole batches of events, and b-tags by the heavy hadrons inside."""

from dataclasses import replace

import awkward as ak
import fastjet
import numpy as np
from numpy.typing import NDArray

from manyscale.events.kinematics import Momentum
from manyscale.events.objects import Hits, JetPairs, SmallJets
from manyscale.events.ragged import Array, Integers
from manyscale.events.settings import DetectorSettings, ObjectSettings, TaggingSettings
from manyscale.events.truth import BOTTOM, CHARM, Axes, Particles, heaviest_flavour, nearest_jet

__all__ = ["Tagger", "cluster", "count_hadrons", "find_jets", "find_small_jets", "hardest_two"]

# FastJet would print its banner on stdout; its papers are cited in the documentation.
fastjet.ClusterSequenceArea.set_fastjet_banner_stream(None)

_COMPONENTS = ("px", "py", "pz", "E")


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
    # FastJet counts within the event.
    n_members = _flat(ak.num(members, axis=2)).reshape(-1, 2)
    first = (np.cumsum(hits.counts) - hits.counts)[event]
    places = np.repeat(first, n_members.sum(axis=1)) + _flat(ak.flatten(members, axis=2))
    return JetPairs(event, momentum, places, n_members)


def hardest_two(counts: Integers, pt: Array, min_pt: float) -> tuple[Integers, Integers]:
    """Find the two jets of highest pT of each event, in whatever order its jets stand.

    Parameters
    ----------
    counts
        (events,): number of jets of each event.
    pt
        (jets,): one event after the other.
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
    momentum = hits.momentum
    columns = (momentum.px, momentum.py, momentum.pz, momentum.energy)
    momenta = ak.zip(dict(zip(_COMPONENTS, columns, strict=True)))
    definition = fastjet.JetDefinition(fastjet.antikt_algorithm, radius)
    sequence = fastjet.ClusterSequence(ak.unflatten(momenta, hits.counts), definition)
    return sequence.inclusive_jets(min_pt=min_pt), sequence.constituent_index(min_pt=min_pt)


def _flat(values: ak.Array) -> Array:
    return ak.to_numpy(ak.flatten(values))


class Tagger:
    """Draws b-tags; see `Detector` for what the outcome depends on.

    Parameters
    ----------
    settings
        Efficiency and mistag rates.
    seed
        Of its randomness.
    candidates
        Of each jet; a fat jet may be two b quarks.
    """

    def __init__(
        self, settings: TaggingSettings, seed: np.random.SeedSequence, candidates: int
    ) -> None:
        self.settings = settings
        self.candidates = candidates
        self._generator = np.random.default_rng(seed)

    def tag(self, n_bottom: NDArray[np.int64], n_charm: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the number of b-tags of each jet, at most one a candidate.

        The candidates are the jet's b hadrons first, then its charm hadrons, then light ones.

        Parameters
        ----------
        n_bottom, n_charm
            Hadrons in each jet; arrays of one shape, which is that of the outcome.
        """
        settings = self.settings
        candidate = np.arange(self.candidates)
        n_bottom, n_charm = n_bottom[..., None], n_charm[..., None]
        chance = np.where(
            candidate < n_bottom,
            settings.efficiency,
            np.where(candidate < n_bottom + n_charm, settings.charm, settings.light),
        )
        return (self._generator.random(chance.shape) < chance).sum(axis=-1)


def count_hadrons(
    heavy: Particles, jets: Axes, radius: float, min_pt: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Number of b hadrons and of charm hadrons of an event inside each of its jets, both (jets,).

    Parameters
    ----------
    heavy
        Hadrons of each event.
    jets
        Of the same events. A hadron within the radius of several counts for the nearest.
    radius
        In (eta, phi).
    min_pt
        Smallest pT in GeV of a hadron that counts.
    """
    hard = heavy.take(np.flatnonzero(np.hypot(heavy.px, heavy.py) > min_pt))
    place = nearest_jet(hard.event, hard.momentum.eta, hard.momentum.phi, jets, radius)
    flavour = heaviest_flavour(hard.pdg_id)
    n_bottom, n_charm = (
        np.bincount(place[(place >= 0) & (flavour == quark)], minlength=len(jets.eta))
        for quark in (BOTTOM, CHARM)
    )
    return n_bottom, n_charm


def find_small_jets(
    hits: Hits,
    heavy: Particles,
    tagger: Tagger,
    settings: ObjectSettings,
    detector: DetectorSettings,
) -> SmallJets:
    """Small jets of each event, in all of the detector; b-tags only where it sees tracks.

    Parameters
    ----------
    hits, heavy
        What the detector saw, leptons too, and the heavy hadrons, of the same events.
    tagger
        With one candidate a jet.
    settings
        Radius and smallest pT of the jets.
    detector
        Its tracker and b-tagging.
    """
    jets = find_jets(hits, settings.jet_radius, settings.jet_pt)
    axes = Axes(jets.counts, jets.eta, jets.phi)
    hadrons = count_hadrons(heavy, axes, settings.jet_radius, detector.btags.min_pt)
    tracked = np.abs(jets.eta) < detector.tracks.max_eta
    return replace(jets, n_btags=tagger.tag(*hadrons) * tracked)
