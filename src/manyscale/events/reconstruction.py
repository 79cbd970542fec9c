"""From generated events to selected ones: detector, jets, b-tags, cuts, objects."""

import numpy as np
from numpy.typing import NDArray

from manyscale.events.clustering import JetPairs, cluster
from manyscale.events.detected import DetectedEvents
from manyscale.events.detector import Detector
from manyscale.events.objects import find_leptons, find_small_jets
from manyscale.events.particles import Array, Hits, Particles, SmallJets, TruthEvents
from manyscale.events.ragged import SelectedEvents
from manyscale.events.selection import Cutflow, select
from manyscale.events.settings import GenerateSettings
from manyscale.events.tagging import Tagger, count_hadrons
from manyscale.events.truth import Axes, match_h_bb
from manyscale.schema import collision_streams

__all__ = ["Reconstruction", "missing_momentum"]


class Reconstruction:
    """Selects generated events, batch by batch.

    Parameters
    ----------
    settings
        Detector, jets and cuts.
    seed
        Of all randomness in the detector and the b-tagging; see `Detector` for what the outcome
        depends on.
    """

    def __init__(self, settings: GenerateSettings, seed: int) -> None:
        detector, tagger, small_tagger = np.random.SeedSequence(seed).spawn(3)
        self.settings = settings
        self._streams = collision_streams(settings.streams, settings.columns)
        self._detector = Detector(settings.detector, detector)
        self._tagger = Tagger(settings.detector.btags, tagger, candidates=2)
        # Draws of its own, so that asking for small jets changes nothing else.
        self._small_tagger = Tagger(settings.detector.btags, small_tagger, candidates=1)

    def reconstruct(
        self, truth: TruthEvents, first_step: str = "generated"
    ) -> tuple[SelectedEvents, Cutflow]:
        """Return the events that pass, and the cutflow.

        Parameters
        ----------
        truth
            A batch of events.
        first_step
            Name of the cutflow's first step, which counts all of them.
        """
        settings = self.settings
        hits = self._detector.see(truth.stable)
        pairs = cluster(hits, settings.jets.radius, settings.cuts.second_pt)
        n_btags = self._tag(pairs, truth.heavy)
        detected = DetectedEvents(
            entry=truth.entry,
            weight=truth.weight,
            hits=hits,
            pairs=pairs,
            n_btags=n_btags,
            missing=missing_momentum(hits),
            h_bb=None
            if truth.higgs is None
            else match_h_bb(truth.higgs, pairs, settings.jets.radius),
            small_jets=self._small_jets(hits, truth.heavy)
            if "small_jets" in self._streams
            else None,
            leptons=find_leptons(hits, settings.objects) if "leptons" in self._streams else None,
            steps=truth.steps,
            weights=truth.weights,
            observables=truth.observables,
        )
        return select(detected, self._streams, settings.cuts, settings.objects, first_step)

    def _tag(self, pairs: JetPairs, heavy: Particles) -> NDArray[np.int64]:
        settings = self.settings
        hadrons = count_hadrons(
            heavy.take_events(pairs.event),
            Axes.of_pairs(pairs.momentum),
            settings.jets.radius,
            settings.detector.btags.min_pt,
        )
        return self._tagger.tag(*hadrons).reshape(-1, 2)

    def _small_jets(self, hits: Hits, heavy: Particles) -> SmallJets:
        settings = self.settings
        return find_small_jets(hits, heavy, self._small_tagger, settings.objects, settings.detector)


def missing_momentum(hits: Hits) -> tuple[Array, Array]:
    """Components (events,) of minus the sum of the transverse momenta of all hits."""
    n_events = len(hits.counts)
    return (
        -np.bincount(hits.event, hits.pt * np.cos(hits.phi), n_events),
        -np.bincount(hits.event, hits.pt * np.sin(hits.phi), n_events),
    )
