"""Columns of an ntuple's branch map to the tokens of a stream, and to its jet's axis.

- `jet_pt`, `jet_eta`, `jet_phi`, `jet_mass` are the stream's axis: one number an event.
- Of the other columns, those that are lists make the tokens; those that are one number an event are
  repeated on each. A stream of numbers alone has one token an event.
- `px`, `py`, `pz` become `pt`, `eta`, `phi`, where the map has none of those; `jet_px`, `jet_py`,
  `jet_pz` likewise, and `jet_energy` becomes `jet_mass`.
- A token is real where its `pt` is not 0. Without a `pt`, all entries of lists are real; of lists
  of fixed length those where any column is not 0.
- Tokens stand in the order of falling `pt`, where there is one.
- Azimuths are brought to (-pi, pi].
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import awkward as ak
import numpy as np

from manyscale.errors import DataError
from manyscale.events.kinematics import Momentum, wrap_phi
from manyscale.events.particles import Array, Integers
from manyscale.schema import StreamSchema

__all__ = ["StreamTokens", "make_stream", "stream_layout"]

_AXIS = ("jet_pt", "jet_eta", "jet_phi", "jet_mass")
_AXIS_GIVEN = {*_AXIS, "jet_px", "jet_py", "jet_pz", "jet_energy"}
_AZIMUTHS = ("phi", "delta_phi", "phi_rel", "jet_phi")


@dataclass(frozen=True)
class StreamTokens:
    """A stream of some events.

    Attributes
    ----------
    counts
        (events,): tokens of each.
    columns
        Name to (tokens,).
    axis
        Name to (events,).
    """

    counts: Integers
    columns: Mapping[str, Array]
    axis: Mapping[str, Array]

    def take(self, tokens: Array) -> "StreamTokens":
        """Return the tokens that a mask, or places of an order within each event, names."""
        event = np.repeat(np.arange(len(self.counts)), self.counts)[tokens]
        counts = np.bincount(event, minlength=len(self.counts))
        columns = {name: values[tokens] for name, values in self.columns.items()}
        return replace(self, counts=counts, columns=columns)


def stream_layout(columns: Mapping[str, bool]) -> StreamSchema:
    """Layout that a stream's map gives; the order is that of the map.

    Parameters
    ----------
    columns
        Each column that the map names, and whether it is a list an event.

    Raises
    ------
    DataError
        Where an axis is a list, or there are no columns of tokens.

    Examples
    --------
    >>> stream_layout({"px": True, "py": True, "pz": True, "charge": True, "jet_pt": False})
    StreamSchema(columns=('pt', 'eta', 'phi', 'charge'), axis=('jet_pt',))
    """
    for name, is_list in columns.items():
        if name in _AXIS_GIVEN and is_list:
            raise DataError(
                f"the column '{name}' is of the jet of the stream, one number an event, but it is "
                "a list; a column of tokens is named without jet_"
            )
    zeros = np.zeros(0)
    tokens = _without_cartesian({name: zeros for name in columns if name not in _AXIS_GIVEN}, "")
    axis = _axis({name: zeros for name in columns if name in _AXIS_GIVEN})
    if not tokens:
        raise DataError("there is no column of tokens, only the jet's axis")
    return StreamSchema(tuple(tokens), tuple(axis))


def make_stream(
    columns: Mapping[str, ak.Array | Array], n_events: int, *, padded: bool
) -> StreamTokens:
    """Make tokens of columns.

    Parameters
    ----------
    columns
        Name to (events,), or to a list an event; those of tokens with the same lengths.
    n_events
        Number of events.
    padded
        Whether the lists are of fixed length.
    """
    given = {name: values for name, values in columns.items() if name not in _AXIS_GIVEN}
    axis = {name: np.asarray(columns[name]) for name in columns if name in _AXIS_GIVEN}
    lists = {name: values for name, values in given.items() if values.ndim > 1}
    counts = np.ones(n_events, np.int64)
    if lists:
        counts = ak.to_numpy(ak.num(next(iter(lists.values())), axis=1)).astype(np.int64)
    flat = {
        name: ak.to_numpy(ak.flatten(values, axis=1))
        if name in lists
        else np.repeat(np.asarray(values), counts)
        for name, values in given.items()
    }
    stream = StreamTokens(counts, _without_cartesian(flat, ""), _axis(axis))
    stream = _sorted(_real(stream, padded=padded))
    return replace(stream, columns=_wrapped(stream.columns), axis=_wrapped(stream.axis))


def _without_cartesian(columns: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    """Replace px, py, pz by pt, eta, phi, unless there is one of those already."""
    cartesian = [f"{prefix}{name}" for name in ("px", "py", "pz")]
    polar = [f"{prefix}{name}" for name in ("pt", "eta", "phi")]
    if not columns.keys() >= set(cartesian) or columns.keys() & set(polar):
        return dict(columns)
    px, py, pz = (columns[name].astype(np.float64) for name in cartesian)
    momentum = Momentum(px, py, pz, np.zeros_like(px))
    derived = dict(zip(polar, (momentum.pt, momentum.eta, momentum.phi), strict=True))
    return derived | {name: columns[name] for name in columns if name not in cartesian}


def _axis(columns: Mapping[str, Array]) -> dict[str, Array]:
    axis = _without_cartesian(columns, "jet_")
    if "jet_mass" not in axis and axis.keys() >= {"jet_energy", "jet_pt", "jet_eta"}:
        pt, eta, energy = (axis[f"jet_{x}"].astype(np.float64) for x in ("pt", "eta", "energy"))
        square = energy**2 - (pt * np.cosh(eta)) ** 2
        axis["jet_mass"] = np.sqrt(np.maximum(square, 0.0))
    return {name: axis[name] for name in _AXIS if name in axis}


def _real(stream: StreamTokens, *, padded: bool) -> StreamTokens:
    if "pt" in stream.columns:
        real = stream.columns["pt"] != 0
    elif padded:
        real = np.any([values != 0 for values in stream.columns.values()], axis=0)
    else:
        return stream
    return stream if real.all() else stream.take(real)


def _sorted(stream: StreamTokens) -> StreamTokens:
    if "pt" not in stream.columns:
        return stream
    event = np.repeat(np.arange(len(stream.counts)), stream.counts)
    falling = -stream.columns["pt"].astype(np.float64)
    out_of_order = (np.diff(falling) < 0) & (np.diff(event) == 0)
    return stream.take(np.lexsort((falling, event))) if out_of_order.any() else stream


def _wrapped(columns: Mapping[str, Array]) -> dict[str, Array]:
    return {
        name: wrap_phi(values.astype(np.float64)) if name in _AZIMUTHS else values
        for name, values in columns.items()
    }
