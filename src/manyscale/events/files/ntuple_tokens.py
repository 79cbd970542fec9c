"""Columns of a branch map to the tokens of a stream, and to its jet's axis.

- `jet_pt`, `jet_eta`, `jet_phi`, `jet_mass` are the stream's axis: one number an event.
- Of the other columns, those that are lists make the tokens; those that are one number an event are
  repeated on each. A stream of numbers alone has one token an event.
- Columns that the table `_DERIVED` knows are replaced by those that it makes of them: `px`, `py`, `pz`
  by `pt`, `eta`, `phi`, say. `y` is another name of `rapidity` where a `pt` is there and no `x`.
- A token is there where its `pt` is not 0. Without a `pt`, all entries of lists are there; of lists of
  fixed length those where any column is not 0. `convert.missing` takes away more.
- Tokens stand in the order of falling `pt`, where there is one.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import awkward as ak
import numpy as np

from manyscale.errors import DataError
from manyscale.events.kinematics import Momentum
from manyscale.events.ragged import Array, Integers
from manyscale.events.truth import charge_of
from manyscale.schema import (
    AXIS_COLUMNS,
    CHARGED_HADRON,
    COLUMNS,
    ELECTRON,
    MUON,
    NEUTRAL_HADRON,
    PHOTON,
    StreamSchema,
)

__all__ = ["Tokens", "make_tokens", "stream_schema"]

_OF_JET = {
    *AXIS_COLUMNS,
    *(f"jet_{name}" for name in ("px", "py", "pz", "energy", "rapidity", "y")),
}
_IN_GEV = {
    *(name for name, column in COLUMNS.items() if column.unit == "GeV"),
    *("px", "py", "pz", "jet_px", "jet_py", "jet_pz", "jet_energy"),
}


class _Derived(NamedTuple):
    """Columns that are made of others: of the tokens, or with jet_ in front of all of the axis."""

    of: tuple[str, ...]
    replaced: int  # so many of those, the first, do not stay
    gives: tuple[str, ...]
    make: Callable[..., tuple[Array, ...]]


def _polar(px: Array, py: Array, pz: Array) -> tuple[Array, ...]:
    momentum = Momentum(px, py, pz, np.zeros_like(px))
    return momentum.pt, momentum.eta, momentum.phi


def _eta(sinh_eta_pt: Array, pt: Array) -> tuple[Array, ...]:
    # 0 where there is no momentum, and so no token.
    return (np.arcsinh(sinh_eta_pt / np.maximum(pt, np.finfo(np.float64).tiny)),)


def _mass(energy: Array, pt: Array, eta: Array) -> tuple[Array, ...]:
    return (np.sqrt(np.maximum(energy**2 - (pt * np.cosh(eta)) ** 2, 0.0)),)


def _kind(pdg_id: Array) -> tuple[Array, ...]:
    known = np.isfinite(pdg_id)
    codes = np.where(known, pdg_id, 0).astype(np.int64)
    charge = charge_of(codes)
    kind = np.where(charge == 0, NEUTRAL_HADRON, CHARGED_HADRON)
    for code, particle_class in ((11, ELECTRON), (13, MUON), (22, PHOTON)):
        kind[np.abs(codes) == code] = particle_class
    return np.where(known, kind, np.nan), np.where(known, charge, np.nan)


_DERIVED = (
    _Derived(("px", "py", "pz"), 3, ("pt", "eta", "phi"), _polar),
    _Derived(("rapidity", "pt", "energy"), 1, ("eta",), lambda y, pt, e: _eta(e * np.tanh(y), pt)),
    _Derived(
        ("rapidity", "pt", "mass"),
        1,
        ("eta",),
        lambda y, pt, m: _eta(np.hypot(pt, m) * np.sinh(y), pt),
    ),
    _Derived(("rapidity", "pt"), 1, ("eta",), lambda y, _: (y,)),  # as if without mass
    _Derived(("pdg_id",), 1, ("particle_class", "charge"), _kind),
)
_DERIVED_OF_JET = (*_DERIVED[:4], _Derived(("energy", "pt", "eta"), 1, ("mass",), _mass))


def _derive(columns: Mapping[str, Array], prefix: str = "") -> dict[str, Array]:
    """Put what `_DERIVED` makes of columns in their place, unless it is there already."""
    found = dict(columns)
    y, rapidity = f"{prefix}y", f"{prefix}rapidity"
    if found.keys() >= {y, f"{prefix}pt"} and not found.keys() & {f"{prefix}x", rapidity}:
        found = {rapidity if name == y else name: values for name, values in found.items()}
    for row in _DERIVED_OF_JET if prefix else _DERIVED:
        of, gives = ([prefix + name for name in names] for names in (row.of, row.gives))
        if not found.keys() >= set(of) or found.keys() & set(gives):
            continue
        with np.errstate(all="ignore"):  # of padding anything may come
            made = row.make(*(found[name].astype(np.float64) for name in of))
        gone, place = of[: row.replaced], of[0]
        before = found
        found = {}
        for name, values in before.items():
            if name == place:
                found |= dict(zip(gives, made, strict=True))
            elif name not in gone:
                found[name] = values
    return {name: found[name] for name in AXIS_COLUMNS if name in found} if prefix else found


def stream_schema(name: str, columns: Mapping[str, bool]) -> StreamSchema:
    """Schema that a stream's map gives; the order is that of the map.

    Parameters
    ----------
    name
        Of the stream.
    columns
        Each column that the map names, and whether it is a list an event.

    Raises
    ------
    DataError
        Where an axis is a list, or there are no columns of tokens.

    Examples
    --------
    >>> columns = {"px": True, "py": True, "pz": True, "charge": True, "jet_pt": False}
    >>> stream_schema("jet", columns).all_columns
    ('pt', 'eta', 'phi', 'charge', 'jet_pt')
    """
    for column, is_list in columns.items():
        if column in _OF_JET and is_list:
            raise DataError(
                f"the column '{column}' is of the jet of the stream, one number an event, but it is "
                "a list; a column of tokens is named without jet_"
            )
    none = np.zeros(0)
    tokens = _derive({column: none for column in columns if column not in _OF_JET})
    axis = _derive({column: none for column in columns if column in _OF_JET}, "jet_")
    if not tokens:
        raise DataError("there is no column of tokens, only the jet's axis")
    return StreamSchema(name=name, columns=tuple(tokens), axis=tuple(axis))


class Tokens(NamedTuple):
    """Tokens of a stream: `counts` (events,), `columns` by name (tokens,), `axis` (events,)."""

    counts: Integers
    columns: dict[str, Array]
    axis: dict[str, Array]


def make_tokens(
    columns: Mapping[str, ak.Array | Array],
    n_events: int,
    missing: Mapping[str, ak.Array | Array] | None = None,
    *,
    padded: bool = False,
    per_gev: float = 1.0,
) -> Tokens:
    """Make tokens of the columns of a map.

    Parameters
    ----------
    columns
        Name to (events,), or to a list an event; those of tokens with the same lengths.
    n_events
        Number of events.
    missing
        Of a column, where it holds nothing: of its shape, or (events,). Of `pt`, or else the first
        column, the token is none; of any other its value is 0.
    padded
        Whether the lists are of fixed length.
    per_gev
        The columns' unit of momentum: how many make a GeV.
    """
    lists = [name for name, values in columns.items() if name not in _OF_JET and values.ndim > 1]
    counts = np.ones(n_events, np.int64)
    if lists:
        counts = ak.to_numpy(ak.num(columns[lists[0]], axis=1)).astype(np.int64)
    flat: dict[str, Array] = {}
    gone: dict[str, Array] = {}
    for source, into in ((columns, flat), (missing or {}, gone)):
        for name, values in source.items():
            if values.ndim > 1:
                into[name] = ak.to_numpy(ak.flatten(values, axis=1))
            else:
                one = np.asarray(values)
                into[name] = one if name in _OF_JET else np.repeat(one, counts)
    for name in _IN_GEV & flat.keys() if per_gev != 1 else ():
        flat[name] = flat[name] / per_gev
    flat |= {name: np.where(where, 0, flat[name]) for name, where in gone.items()}

    given = {name: values for name, values in flat.items() if name not in _OF_JET}
    tokens = _derive(given)
    axis = _derive({name: values for name, values in flat.items() if name in _OF_JET}, "jet_")
    key = "pt" if "pt" in given else (lists or list(given))[0]
    real = ~gone[key] if key in gone else np.ones(len(given[key]), bool)
    if "pt" in tokens:
        real &= tokens["pt"] != 0
    elif padded:
        real &= np.any([given[name] != 0 for name in lists or given], axis=0)
    which, event = np.flatnonzero(real), np.repeat(np.arange(n_events), counts)[real]
    in_order = True
    if "pt" in tokens:
        falling = -tokens["pt"][which].astype(np.float64)
        in_order = not ((np.diff(falling) < 0) & (np.diff(event) == 0)).any()
        if not in_order:
            which = which[np.lexsort((falling, event))]
    if not (in_order and real.all()):
        tokens = {name: values[which] for name, values in tokens.items()}
        counts = np.bincount(event, minlength=n_events)
    return Tokens(counts, tokens, axis)
