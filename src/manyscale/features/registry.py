"""Every feature that the network can see, and how it is computed from the columns of a stream."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from manyscale.errors import CardError
from manyscale.features import constituents
from manyscale.features.columns import TokenColumns
from manyscale.features.constituents import safe_log, wrap_phi
from manyscale.schema import AXIS_COLUMNS, COLUMNS, StreamSchema

__all__ = [
    "RECIPES",
    "Recipe",
    "can_compute",
    "default_features",
    "describe",
    "is_categorical",
    "recipe",
]


class Recipe(NamedTuple):
    """One way to compute a feature: the columns it needs, and the function (tokens,) of them."""

    needs: tuple[str, ...]
    compute: Callable[[TokenColumns], Tensor]


_DIRECTION = ("eta", "phi", "jet_eta", "jet_phi")
_JET = ("jet_pt", "jet_eta", "jet_mass")

#: The recipes of each derived feature; the first whose columns are there is taken. A column that
#: bears the feature's own name comes before all of them.
RECIPES: dict[str, tuple[Recipe, ...]] = {
    "delta_eta": (Recipe(("eta", "jet_eta"), constituents.delta_eta),),
    "delta_phi": (Recipe(("phi", "jet_phi"), constituents.delta_phi),),
    "delta_r": (
        Recipe(("delta_eta", "delta_phi"), lambda c: torch.hypot(c["delta_eta"], c["delta_phi"])),
        Recipe(_DIRECTION, constituents.delta_r),
    ),
    "log_pt": (Recipe(("pt",), lambda c: safe_log(c["pt"])),),
    "log_energy": (
        Recipe(("energy",), lambda c: safe_log(c["energy"])),
        Recipe(("pt", "eta"), lambda c: safe_log(constituents.energy(c))),
    ),
    "log_pt_rel": (Recipe(("pt", "jet_pt"), lambda c: safe_log(c["pt"]) - safe_log(c["jet_pt"])),),
    "log_energy_rel": (
        Recipe(
            ("energy", *_JET),
            lambda c: safe_log(c["energy"]) - safe_log(constituents.jet_energy(c)),
        ),
        Recipe(
            ("pt", "eta", *_JET),
            lambda c: safe_log(constituents.energy(c)) - safe_log(constituents.jet_energy(c)),
        ),
    ),
    "is_charged": (
        Recipe(("charge",), lambda c: (c["charge"] != 0).float()),
        Recipe(
            ("particle_class",),
            lambda c: constituents.is_class(c, "charged hadron", "electron", "muon"),
        ),
    ),
    "is_photon": (Recipe(("particle_class",), lambda c: constituents.is_class(c, "photon")),),
    "is_neutral_hadron": (
        Recipe(("particle_class",), lambda c: constituents.is_class(c, "neutral hadron")),
    ),
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
        raise CardError(
            f"stream '{stream.name}' has no feature '{name}': it is no column of the stream "
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
