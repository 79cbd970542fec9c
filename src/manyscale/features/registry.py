"""Every feature that the network can see, and how it is computed from the columns of a stream."""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from manyscale.errors import CardError
from manyscale.features.columns import TokenColumns
from manyscale.schema import AXIS_COLUMNS, COLUMNS, PARTICLE_CLASSES, StreamSchema, meant

__all__ = [
    "RECIPES",
    "Recipe",
    "can_compute",
    "default_features",
    "describe",
    "is_categorical",
    "recipe",
    "wrap_phi",
]

_SMALLEST = 1e-6


class Recipe(NamedTuple):
    """One way to compute a feature: the columns it needs, and the function (tokens,) of them."""

    needs: tuple[str, ...]
    compute: Callable[[TokenColumns], Tensor]


def wrap_phi(phi: Tensor) -> Tensor:
    """Bring azimuths (radians) to (-pi, pi].

    Examples
    --------
    >>> wrap_phi(torch.tensor([-math.pi, 3.5])).round(decimals=4)
    tensor([ 3.1416, -2.7832])
    """
    wrapped = phi - 2 * math.pi * torch.ceil((phi - math.pi) / (2 * math.pi))
    return wrapped.clamp(-math.pi, math.pi)


def _safe_log(values: Tensor) -> Tensor:
    """Logarithm, with values at or below zero taken as 1e-6."""
    return torch.log(values.clamp(min=_SMALLEST))


def _delta_eta(columns: TokenColumns) -> Tensor:
    return columns["eta"] - columns["jet_eta"]


def _delta_phi(columns: TokenColumns) -> Tensor:
    return wrap_phi(columns["phi"] - columns["jet_phi"])


def _of_class(*names: str) -> Recipe:
    """1 where the particle is of one of the named classes, else 0."""
    first, *more = map(PARTICLE_CLASSES.index, names)

    def compute(columns: TokenColumns) -> Tensor:
        kind = columns["particle_class"].long()
        found = kind == first
        for code in more:
            found |= kind == code
        return found.float()

    return Recipe(("particle_class",), compute)


# The energy of a token [GeV], from what is best known: sqrt(pT^2 cosh^2(eta) + m^2), without a mass
# pT cosh(eta). A mass below zero, of rounding, counts as none.
_ENERGY = (
    Recipe(("energy",), lambda c: c["energy"]),
    Recipe(
        ("pt", "eta", "mass"),
        lambda c: torch.hypot(c["pt"] * torch.cosh(c["eta"]), c["mass"].clamp(min=0)),
    ),
    Recipe(("pt", "eta"), lambda c: c["pt"] * torch.cosh(c["eta"])),
)


def _log_energy(way: Recipe, *, to_jet: bool = False) -> Recipe:
    if not to_jet:
        return Recipe(way.needs, lambda c: _safe_log(way.compute(c)))

    def relative(columns: TokenColumns) -> Tensor:
        momentum = columns["jet_pt"] * torch.cosh(columns["jet_eta"])
        jet = torch.hypot(momentum, columns["jet_mass"])
        return _safe_log(way.compute(columns)) - _safe_log(jet)

    return Recipe((*way.needs, "jet_pt", "jet_eta", "jet_mass"), relative)


#: The recipes of each derived feature; the first whose columns are there is taken. A column that
#: bears the feature's own name comes before all of them.
RECIPES: dict[str, tuple[Recipe, ...]] = {
    "delta_eta": (Recipe(("eta", "jet_eta"), _delta_eta),),
    "delta_phi": (Recipe(("phi", "jet_phi"), _delta_phi),),
    "delta_r": (
        Recipe(("delta_eta", "delta_phi"), lambda c: torch.hypot(c["delta_eta"], c["delta_phi"])),
        Recipe(
            ("eta", "phi", "jet_eta", "jet_phi"),
            lambda c: torch.hypot(_delta_eta(c), _delta_phi(c)),
        ),
    ),
    "log_pt": (Recipe(("pt",), lambda c: _safe_log(c["pt"])),),
    "log_energy": tuple(_log_energy(way) for way in _ENERGY),
    "log_pt_rel": (
        Recipe(("pt", "jet_pt"), lambda c: _safe_log(c["pt"]) - _safe_log(c["jet_pt"])),
    ),
    "log_energy_rel": tuple(_log_energy(way, to_jet=True) for way in _ENERGY),
    "is_charged": (
        Recipe(("charge",), lambda c: (c["charge"] != 0).float()),
        _of_class("charged hadron", "electron", "muon"),
    ),
    "is_photon": (_of_class("photon"),),
    "is_neutral_hadron": (_of_class("neutral hadron"),),
    "phi_rel": (Recipe(("phi",), lambda c: wrap_phi(c["phi"] - c.of_first("phi"))),),
    "log_mass": (Recipe(("mass",), lambda c: torch.log1p(c["mass"].clamp(min=0))),),
}

# What a column turns into where the card does not say which features to use.
_DERIVED_FROM = {
    "pt": ("log_pt",),
    "energy": ("log_energy",),
    "mass": ("log_mass",),
    "phi": ("phi_rel",),
}
_INSIDE_JET = (
    "delta_eta",
    "delta_phi",
    "delta_r",
    "log_pt",
    "log_energy",
    "log_pt_rel",
    "log_energy_rel",
)


def is_categorical(name: str) -> bool:
    """Whether a feature is a class, embedded by a table, rather than a number."""
    return name in COLUMNS and bool(COLUMNS[name].classes)


def _find(name: str, stream: StreamSchema) -> Recipe | None:
    available = set(stream.all_columns)
    if name in available:
        return Recipe((name,), lambda columns: columns[name])
    for candidate in RECIPES.get(name, ()):
        if available.issuperset(candidate.needs):
            return candidate
    return None


def can_compute(name: str, stream: StreamSchema) -> bool:
    """Whether a stream has, or gives, a feature."""
    return _find(name, stream) is not None


def recipe(name: str, stream: StreamSchema) -> Recipe:
    """How to compute a feature of a stream.

    Raises
    ------
    CardError
        Where the name is neither a feature nor a column of the stream, or columns are missing.
    """
    found = _find(name, stream)
    if found is not None:
        return found
    has = ", ".join(stream.all_columns)
    if name not in RECIPES:
        close = meant(name, dict.fromkeys([*RECIPES, *stream.all_columns]))
        hint = f", did you mean {' or '.join(close)}?" if close else "."
        raise CardError(
            f"stream '{stream.name}' has no feature '{name}'{hint} It is no column of the stream "
            f"({has}) and not computed from columns; `manyscale inspect --features` lists all"
        )
    needs = " or ".join("(" + ", ".join(way.needs) + ")" for way in RECIPES[name])
    raise CardError(
        f"feature '{name}' of stream '{stream.name}' needs the columns {needs}; the stream has {has}"
    )


def default_features(stream: StreamSchema) -> tuple[str, ...]:
    """Features of a stream where the card names none: all that its columns allow."""
    in_jet = {"delta_eta", "delta_phi"}.issubset(stream.all_columns) or "jet_eta" in stream.axis
    names = [name for name in _INSIDE_JET if in_jet and can_compute(name, stream)]
    for column in stream.columns:
        if in_jet and column in {"eta", "phi"}:
            continue
        if column == "phi" and "jet_phi" in stream.axis:
            names.append("delta_phi")
            continue
        names.extend(_DERIVED_FROM.get(column, (column,)))
    return tuple(dict.fromkeys(names))


def describe() -> Iterator[tuple[str, str, str, str, str]]:
    """Rows (kind, name, unit, doc, from) of every known column and feature, for a table.

    `from`: the columns of which a feature is computed, or the codes of a class.
    """
    for name, column in COLUMNS.items():
        kind = "axis column" if name in AXIS_COLUMNS else "column"
        kind = "feature" if name in RECIPES else kind
        made_of = " or ".join(", ".join(way.needs) for way in RECIPES.get(name, ()))
        codes = ", ".join(f"{code} {of}" for code, of in enumerate(column.classes))
        yield kind, name, column.unit, column.doc, made_of or codes
