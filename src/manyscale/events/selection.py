"""Detected events to those that pass the cuts: the cutflow, and the tokens of every stream asked for."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from manyscale.events.jets import find_jets
from manyscale.events.kinematics import Momentum, wrap_phi
from manyscale.events.objects import UNKNOWN, DetectedEvents, Hits, Leptons, SmallJets
from manyscale.events.ragged import Array, Floats, Integers, PackedStream, SelectedEvents
from manyscale.events.settings import CutSettings, ObjectSettings
from manyscale.schema import (
    CONSTITUENTS,
    OBJECTS,
    OBSERVABLES,
    SUBJETS,
    CutflowStep,
    Generated,
    StreamSchema,
)

__all__ = ["select"]

_JET_OF = {name: jet for pair in (CONSTITUENTS, SUBJETS) for jet, name in enumerate(pair)}


def select(
    events: DetectedEvents,
    streams: Mapping[str, StreamSchema],
    cuts: CutSettings,
    objects: ObjectSettings,
    first_step: str,
) -> tuple[SelectedEvents, Generated]:
    """Cut on the two jets of highest pT, and make the streams of what passes; count and sum up.

    Parameters
    ----------
    events
        A batch; its own steps come before the cuts on the jets.
    streams
        Those wanted, of `STREAMS`.
    cuts
        On the two fat jets.
    objects
        What subjets are.
    first_step
        Name of the cutflow's first step, which counts all events.
    """
    passed, cutflow = _cut(events, cuts, first_step)
    pairs = events.pairs.take(passed)
    at, jets, hits = pairs.event, pairs.momentum, events.hits
    inside = None if hits is None else [pairs.constituents(hits, jet) for jet in (0, 1)]
    n_btags = events.n_btags[passed]
    h_bb = np.full(n_btags.shape, UNKNOWN) if events.h_bb is None else events.h_bb[passed]
    met_x, met_y = (component[at] for component in events.missing)
    met = Momentum(met_x, met_y, np.zeros_like(met_x), np.hypot(met_x, met_y))
    multiplicity = None if events.multiplicity is None else events.multiplicity[passed]
    packed = {}
    for name, stream in streams.items():
        counts = np.full(len(at), 1)
        if name == "kinematics":
            counts = np.full(len(at), len(OBJECTS))
            columns = _kinematics(jets, met, n_btags, inside, multiplicity)
        elif name == "missing":
            columns = {column: getattr(met, column) for column in stream.columns}
        else:
            if name in _JET_OF:
                assert inside is not None  # noqa: S101  # such streams are of sources with hits alone
                hits_inside = inside[_JET_OF[name]]
                tokens: Hits | SmallJets | Leptons = hits_inside
                if name in SUBJETS:
                    tokens = find_jets(hits_inside, objects.subjet_radius, objects.subjet_pt)
            else:
                beside = events.small_jets if name == "small_jets" else events.leptons
                assert beside is not None  # noqa: S101  # made where asked for
                tokens = beside.take_events(at).by_pt()
            counts, columns = tokens.counts, {c: getattr(tokens, c) for c in stream.columns}
        jet = jets[:, _JET_OF.get(name, 0)]
        axis = {column: getattr(jet, column.removeprefix("jet_")) for column in stream.axis}
        packed[name] = PackedStream.of_columns(stream, counts, columns, axis)
    observables = (*jets.mass.T, jets.sum(axis=1).mass, *n_btags.T, met.pt, *h_bb.T)
    own = {
        name: values.astype(np.float32)
        for name, values in zip(OBSERVABLES, observables, strict=True)
    }
    selected = SelectedEvents(
        np.asarray(events.entry[at], np.int64),
        np.asarray(events.weight[at], np.float64),
        packed,
        {name: np.asarray(weight[at], np.float64) for name, weight in events.weights.items()},
        own | {name: values[at] for name, values in events.observables.items()},
    )
    weight = events.weight.astype(np.float64)
    return selected, Generated(
        generated=len(weight),
        sum_weights=float(weight.sum()),
        sum_weights2=float(np.square(weight).sum()),
        cutflow=cutflow,
    )


def _cut(
    events: DetectedEvents, cuts: CutSettings, first_step: str
) -> tuple[NDArray[np.bool_], tuple[CutflowStep, ...]]:
    """Which pairs of jets pass all cuts, and how much passed each."""
    kept = np.ones(len(events.weight), bool)
    cutflow = []

    def count(step: str, passed: NDArray[np.bool_], weight: Floats) -> None:
        total = float(weight[passed].sum())
        cutflow.append(CutflowStep(step=step, events=int(passed.sum()), sum_weights=total))

    count(first_step, kept, events.weight)
    for step, mask in events.steps.items():
        kept = kept & mask
        count(step, kept, events.weight)
    pt, eta = events.pairs.momentum.pt, np.abs(events.pairs.momentum.eta)
    on_jets = {
        f"two jets, pT > {cuts.second_pt:g} GeV": pt[:, 1] > cuts.second_pt,
        f"leading jet pT > {cuts.leading_pt:g} GeV": pt[:, 0] > cuts.leading_pt,
        f"both abs(eta) < {cuts.max_eta:g}": np.all(eta < cuts.max_eta, axis=1),
    }
    if cuts.min_btags:
        on_jets[f"b-tags >= {cuts.min_btags}"] = events.n_btags.sum(axis=1) >= cuts.min_btags
    passed, weight = kept[events.pairs.event], events.weight[events.pairs.event]
    for step, of_pairs in on_jets.items():
        passed = passed & of_pairs
        count(step, passed, weight)
    return passed, tuple(cutflow)


def _kinematics(
    jets: Momentum,
    met: Momentum,
    n_btags: NDArray[np.int64],
    inside: list[Hits] | None,
    multiplicity: Integers | None,
) -> dict[str, Array]:
    """Columns of the tokens `OBJECTS`, as far as they are known."""
    pair = jets.sum(axis=1)
    zero = np.zeros(len(pair.pt))
    columns = {
        name: np.column_stack([getattr(jets, name), getattr(pair, name), getattr(met, name)])
        for name in ("pt", "eta", "phi", "mass")
    }
    columns["n_btags"] = np.column_stack([n_btags, n_btags.sum(axis=1), zero])
    columns["object_class"] = np.tile(np.arange(len(OBJECTS)), (len(zero), 1))
    if inside is not None:
        multiplicity = np.stack([hits.counts for hits in inside], axis=1)
        widths = [_width(jets[:, jet], hits) for jet, hits in enumerate(inside)]
        columns["width"] = np.column_stack([*widths, zero, zero])
    if multiplicity is not None:
        columns["multiplicity"] = np.column_stack([multiplicity, multiplicity.sum(axis=1), zero])
    return {name: values.ravel() for name, values in columns.items()}


def _width(jet: Momentum, inside: Hits) -> Floats:
    """(events,): mean distance of the constituents to the axis, weighted with pT; 0 without any."""
    delta_phi = wrap_phi(inside.phi - jet.phi[inside.event])
    distance = np.hypot(inside.eta - jet.eta[inside.event], delta_phi)
    n_events = len(inside.counts)
    weighted = np.bincount(inside.event, inside.pt * distance, n_events)
    total = np.bincount(inside.event, inside.pt, n_events)
    return weighted / np.where(total > 0, total, 1)
