"""From generated events to records: detector, jets, b-tags, cuts, objects."""

import awkward as ak
import numpy as np

from manyscale.events.assembly import assemble
from manyscale.events.bookkeeping import Cutflow
from manyscale.events.clustering import cluster
from manyscale.events.detected import DetectedEvents
from manyscale.events.detector import Detector
from manyscale.events.particles import Array, Hits, TruthEvents
from manyscale.events.record import layouts
from manyscale.events.settings import GenerateSettings
from manyscale.events.tagging import Tagger, count_hadrons

__all__ = ["Reconstruction", "missing_momentum"]


class Reconstruction:
    """Turns generated events into records, batch by batch.

    Parameters
    ----------
    settings
        Detector, jets and cuts.
    seed
        Of all randomness in the detector and the b-tagging; see `Detector` for what the outcome
        depends on.
    """

    def __init__(self, settings: GenerateSettings, seed: int) -> None:
        detector, tagger = np.random.SeedSequence(seed).spawn(2)
        self.settings = settings
        self._streams = layouts(settings.streams, settings.columns)
        self._detector = Detector(settings.detector, detector)
        self._tagger = Tagger(settings.detector.btags, tagger)

    def reconstruct(
        self, truth: TruthEvents, first_step: str = "generated"
    ) -> tuple[ak.Array, Cutflow]:
        """Return the records (see record.py) of the events that pass, and the cutflow.

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
        heavy = truth.heavy.take_events(pairs.event)
        n_btags = self._tagger.tag(
            *count_hadrons(
                heavy, pairs.momentum, settings.jets.radius, settings.detector.btags.min_pt
            )
        )
        detected = DetectedEvents(
            piece=np.zeros(len(truth.entry), np.int64),
            entry=truth.entry,
            weight=truth.weight,
            hits=hits,
            pairs=pairs,
            n_btags=n_btags,
            missing=missing_momentum(hits),
        )
        return assemble(detected, self._streams, settings.cuts, settings.objects, first_step)


def missing_momentum(hits: Hits) -> tuple[Array, Array]:
    """Components (events,) of minus the sum of the transverse momenta of all hits."""
    n_events = len(hits.counts)
    return (
        -np.bincount(hits.event, hits.pt * np.cos(hits.phi), n_events),
        -np.bincount(hits.event, hits.pt * np.sin(hits.phi), n_events),
    )
