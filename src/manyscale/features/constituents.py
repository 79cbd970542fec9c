"""Features of a jet's constituents: where they are in the jet and how much of it they carry."""

import math

import torch
from torch import Tensor

from manyscale.features.columns import TokenColumns
from manyscale.schema import PARTICLE_CLASSES

__all__ = [
    "delta_eta",
    "delta_phi",
    "delta_r",
    "energy",
    "is_class",
    "jet_energy",
    "safe_log",
    "wrap_phi",
]

_SMALLEST = 1e-6


def wrap_phi(phi: Tensor) -> Tensor:
    """Bring azimuths (radians) to (-pi, pi].

    Examples
    --------
    >>> wrap_phi(torch.tensor([-math.pi, 3.5])).round(decimals=4)
    tensor([ 3.1416, -2.7832])
    """
    wrapped = phi - 2 * math.pi * torch.ceil((phi - math.pi) / (2 * math.pi))
    return wrapped.clamp(-math.pi, math.pi)


def safe_log(values: Tensor) -> Tensor:
    """Logarithm, with values at or below zero taken as 1e-6."""
    return torch.log(values.clamp(min=_SMALLEST))


def energy(columns: TokenColumns) -> Tensor:
    """Energy [GeV] of a massless token: pT cosh(eta)."""
    return columns["pt"] * torch.cosh(columns["eta"])


def jet_energy(columns: TokenColumns) -> Tensor:
    """Energy [GeV] of the token's jet: sqrt(pT^2 cosh^2(eta) + m^2)."""
    momentum = columns["jet_pt"] * torch.cosh(columns["jet_eta"])
    return torch.hypot(momentum, columns["jet_mass"])


def delta_eta(columns: TokenColumns) -> Tensor:
    """Pseudorapidity relative to the jet's."""
    return columns["eta"] - columns["jet_eta"]


def delta_phi(columns: TokenColumns) -> Tensor:
    """Azimuth relative to the jet's, in (-pi, pi]."""
    return wrap_phi(columns["phi"] - columns["jet_phi"])


def delta_r(columns: TokenColumns) -> Tensor:
    """Distance to the jet axis: sqrt(delta eta^2 + delta phi^2)."""
    return torch.hypot(delta_eta(columns), delta_phi(columns))


def is_class(columns: TokenColumns, *names: str) -> Tensor:
    """1 where the particle is of one of the named classes, else 0."""
    places = torch.tensor([PARTICLE_CLASSES.index(name) for name in names])
    found = torch.isin(
        columns["particle_class"].long(), places.to(columns["particle_class"].device)
    )
    return found.float()
