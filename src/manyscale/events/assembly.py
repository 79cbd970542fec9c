"""From detected events to records: the cuts, then the tokens of every stream asked for."""

from collections.abc import Mapping

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from manyscale.events.bookkeeping import Cutflow
from manyscale.events.clustering import find_jets
from manyscale.events.detected import UNKNOWN, DetectedEvents
from manyscale.events.momentum import Momentum
from manyscale.events.particles import Array, Floats, Hits, Leptons, SmallJets
from manyscale.events.record import (
    CONSTITUENTS,
    OBJECTS,
    OBSERVABLES,
    SUBJETS,
    StreamLayout,
    wrap_phi,
)
from manyscale.events.selection import select
from manyscale.events.settings import CutSettings, ObjectSettings

__all__ = ["assemble"]

_JET_OF = {name: jet for pair in (CONSTITUENTS, SUBJETS) for jet, name in enumerate(pair)}


def assemble(
    events: DetectedEvents,
    streams: Mapping[str, StreamLayout],
    cuts: CutSettings,
    objects: ObjectSettings,
    first_step: str,
) -> tuple[ak.Array, Cutflow]:
    """Select events and make their records.

    Parameters
    ----------
    events
        A batch.
    streams
        Those wanted; see record.py.
    cuts
        On the two fat jets.
    objects
        What subjets are.
    first_step
        Name of the cutflow's first step, which counts all events.

    Returns
    -------
    The records of the events that pass, and the cutflow.
    """
    passed, cutflow = select(events, cuts, first_step)
    pairs = events.pairs.take(passed)
    jets = pairs.momentum
    inside = None
    if events.hits is not None:
        inside = [pairs.constituents(events.hits, jet) for jet in (0, 1)]
    at = pairs.event
    n_btags = events.n_btags[passed]
    h_bb = np.full(n_btags.shape, UNKNOWN) if events.h_bb is None else events.h_bb[passed]
    met_x, met_y = (component[at] for component in events.missing)
    met = Momentum(met_x, met_y, np.zeros_like(met_x), np.hypot(met_x, met_y))
    multiplicity = None if events.multiplicity is None else events.multiplicity[passed]
    fields: dict[str, ak.Array | Array] = {
        "piece": events.piece[at],
        "entry": events.entry[at],
        "weight": events.weight[at],
        **{name: weight[at] for name, weight in events.weights.items()},
    }
    for name, layout in streams.items():
        if name == "kinematics":
            fields[name] = _kinematics(jets, met, n_btags, inside, multiplicity, layout)
        elif name == "missing":
            fields[name] = _tokens(np.ones(len(met.pt), np.int64), met, layout)
        elif name in _JET_OF:
            assert inside is not None  # noqa: S101  # such streams are of sources with hits alone
            parts = _parts(inside[_JET_OF[name]], name, objects)
            fields[name] = _tokens(parts.counts, parts, layout)
        else:
            beside = _beside(events, name).take_events(at).by_pt()
            fields[name] = _tokens(beside.counts, beside, layout)
        if layout.axis:
            fields[f"{name}_axis"] = _axis(jets[:, _JET_OF.get(name, 0)], layout)
    observables = (*jets.mass.T, jets.sum(axis=1).mass, *n_btags.T, met.pt, *h_bb.T)
    fields["observables"] = ak.zip(
        {
            **_single(dict(zip(OBSERVABLES, observables, strict=True))),
            **{name: values[at] for name, values in events.observables.items()},
        }
    )
    return ak.zip(fields, depth_limit=1), cutflow


def _parts(inside: Hits, name: str, objects: ObjectSettings) -> Hits | SmallJets:
    """What a jet is made of: its constituents, or jets of them."""
    if name in SUBJETS:
        return find_jets(inside, objects.subjet_radius, objects.subjet_pt)
    return inside


def _beside(events: DetectedEvents, name: str) -> SmallJets | Leptons:
    things = events.small_jets if name == "small_jets" else events.leptons
    assert things is not None  # noqa: S101  # made where asked for
    return things


def _kinematics(  # noqa: PLR0917
    jets: Momentum,
    met: Momentum,
    n_btags: NDArray[np.int64],
    inside: list[Hits] | None,
    multiplicity: NDArray[np.int64] | None,
    layout: StreamLayout,
) -> ak.Array:
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
    flat = {name: columns[name].ravel() for name in layout.columns}
    return _ragged(np.full(len(zero), len(OBJECTS)), flat)


def _width(jet: Momentum, inside: Hits) -> Floats:
    """(events,): mean distance of the constituents to the axis, weighted with pT; 0 without any."""
    delta_phi = wrap_phi(inside.phi - jet.phi[inside.event])
    distance = np.hypot(inside.eta - jet.eta[inside.event], delta_phi)
    n_events = len(inside.counts)
    weighted = np.bincount(inside.event, inside.pt * distance, n_events)
    total = np.bincount(inside.event, inside.pt, n_events)
    return weighted / np.where(total > 0, total, 1)


def _tokens(
    counts: NDArray[np.int64], of: Hits | SmallJets | Leptons | Momentum, layout: StreamLayout
) -> ak.Array:
    return _ragged(counts, {name: getattr(of, name) for name in layout.columns})


def _axis(jet: Momentum, layout: StreamLayout) -> ak.Array:
    columns = {name: getattr(jet, name.removeprefix("jet_")) for name in layout.axis}
    return ak.zip(_single(columns))


def _ragged(counts: NDArray[np.int64], columns: Mapping[str, Array]) -> ak.Array:
    return ak.unflatten(ak.zip(_single(columns)), counts)


def _single(columns: Mapping[str, Array]) -> dict[str, NDArray[np.float32]]:
    return {name: column.astype(np.float32) for name, column in columns.items()}
