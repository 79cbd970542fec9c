"""Small jets and isolated leptons, from what the detector saw."""

from dataclasses import replace

import numpy as np

from manyscale.events.clustering import find_jets
from manyscale.events.kinematics import wrap_phi
from manyscale.events.particles import Hits, Leptons, Particles, SmallJets, pair_up
from manyscale.events.settings import DetectorSettings, ObjectSettings
from manyscale.events.tagging import Tagger, count_hadrons
from manyscale.events.truth import Axes
from manyscale.schema import ELECTRON, MUON

__all__ = ["find_leptons", "find_small_jets"]

_ISOLATION_CONE = 0.3


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


def find_leptons(hits: Hits, settings: ObjectSettings) -> Leptons:
    """Electrons and muons of each event that little else is near, by falling pT.

    Parameters
    ----------
    hits
        What the detector saw.
    settings
        Smallest pT, and what isolated means: the pT of all other hits within 0.3 in (eta, phi),
        over the lepton's own.
    """
    lepton = np.isin(hits.particle_class, (ELECTRON, MUON)) & (hits.pt > settings.lepton_pt)
    candidate = hits.take(np.flatnonzero(lepton))
    one, other = pair_up(candidate.event, hits.counts)
    distance = np.hypot(
        candidate.eta[one] - hits.eta[other], wrap_phi(candidate.phi[one] - hits.phi[other])
    )
    near = (distance < _ISOLATION_CONE) & (np.flatnonzero(lepton)[one] != other)
    around = np.bincount(one[near], hits.pt[other[near]], len(candidate.pt))
    isolated = candidate.take(np.flatnonzero(around <= settings.isolation * candidate.pt))
    return Leptons(
        isolated.counts,
        isolated.pt,
        isolated.eta,
        isolated.phi,
        isolated.charge,
        isolated.particle_class,
    ).by_pt()
