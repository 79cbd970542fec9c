"""From generated events to records: detector, jets, b-tags, cuts, objects."""

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from manyscale.events.bookkeeping import Cutflow
from manyscale.events.clustering import JetPairs, cluster
from manyscale.events.detector import Detector
from manyscale.events.momentum import Momentum
from manyscale.events.particles import Array, Floats, Hits, TruthEvents
from manyscale.events.record import OBJECTS, OBSERVABLES, STREAMS, wrap_phi
from manyscale.events.selection import select
from manyscale.events.settings import GenerateSettings
from manyscale.events.tagging import Tagger, count_hadrons

__all__ = ["Reconstruction"]


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
        self._detector = Detector(settings.detector, detector)
        self._tagger = Tagger(settings.detector.btags, tagger)

    def reconstruct(self, truth: TruthEvents) -> tuple[ak.Array, Cutflow]:
        """Return the records (see record.py) of the events that pass, and the cutflow."""
        settings = self.settings
        hits = self._detector.see(truth.stable)
        pairs = cluster(hits, settings.jets.radius, settings.cuts.second_pt)
        heavy = truth.heavy.take_events(pairs.event)
        n_btags = self._tagger.tag(
            *count_hadrons(
                heavy, pairs.momentum, settings.jets.radius, settings.detector.btags.min_pt
            )
        )
        passed, cutflow = select(pairs, n_btags, truth.weight, settings.cuts)
        return _records(truth, hits, pairs.take(passed), n_btags[passed]), cutflow


def _records(
    truth: TruthEvents, hits: Hits, pairs: JetPairs, n_btags: NDArray[np.int64]
) -> ak.Array:
    jets = pairs.momentum
    constituents = [pairs.constituents(hits, jet) for jet in (0, 1)]
    pair = jets.sum(axis=1)
    met_x, met_y = (missing[pairs.event] for missing in _missing_momentum(hits))
    met = Momentum(met_x, met_y, np.zeros_like(met_x), np.hypot(met_x, met_y))
    multiplicity = np.stack([inside.counts for inside in constituents], axis=1)
    widths = np.stack([_width(jets[:, jet], constituents[jet]) for jet in (0, 1)], axis=1)
    zero = np.zeros(len(pair.pt))
    objects = {
        name: np.column_stack([getattr(jets, name), getattr(pair, name), getattr(met, name)])
        for name in ("pt", "eta", "phi", "mass")
    }
    objects["multiplicity"] = np.column_stack([multiplicity, multiplicity.sum(axis=1), zero])
    objects["n_btags"] = np.column_stack([n_btags, n_btags.sum(axis=1), zero])
    objects["width"] = np.column_stack([widths, zero, zero])
    objects["object_class"] = np.tile(np.arange(len(OBJECTS)), (len(pair.pt), 1))
    observables = (*jets.mass.T, pair.mass, *n_btags.T, met.pt)
    return ak.zip(
        {
            "entry": truth.entry[pairs.event],
            "weight": truth.weight[pairs.event],
            "jet1": _constituents(constituents[0]),
            "jet2": _constituents(constituents[1]),
            "jet1_axis": _axis(jets[:, 0]),
            "jet2_axis": _axis(jets[:, 1]),
            "kinematics": _tokens(
                np.full(len(pair.pt), len(OBJECTS)),
                {name: column.ravel() for name, column in objects.items()},
            ),
            "observables": _struct(dict(zip(OBSERVABLES, observables, strict=True))),
        },
        depth_limit=1,
    )


def _missing_momentum(hits: Hits) -> tuple[Array, Array]:
    """Components (events,) of minus the sum of the transverse momenta of all hits."""
    n_events = len(hits.counts)
    return (
        -np.bincount(hits.event, hits.pt * np.cos(hits.phi), n_events),
        -np.bincount(hits.event, hits.pt * np.sin(hits.phi), n_events),
    )


def _width(jet: Momentum, inside: Hits) -> Floats:
    """(events,): mean distance of the constituents to the axis, weighted with pT."""
    delta_phi = wrap_phi(inside.phi - jet.phi[inside.event])
    distance = np.hypot(inside.eta - jet.eta[inside.event], delta_phi)
    n_events = len(inside.counts)
    weighted = np.bincount(inside.event, inside.pt * distance, n_events)
    return weighted / np.bincount(inside.event, inside.pt, n_events)


def _constituents(inside: Hits) -> ak.Array:
    columns = {name: getattr(inside, name) for name in STREAMS["jet1"].columns}
    return _tokens(inside.counts, columns)


def _axis(jet: Momentum) -> ak.Array:
    return _struct({name: getattr(jet, name.removeprefix("jet_")) for name in STREAMS["jet1"].axis})


def _tokens(counts: NDArray[np.int64], columns: dict[str, Floats]) -> ak.Array:
    return ak.unflatten(_struct(columns), counts)


def _struct(columns: dict[str, Floats]) -> ak.Array:
    return ak.zip({name: column.astype(np.float32) for name, column in columns.items()})
