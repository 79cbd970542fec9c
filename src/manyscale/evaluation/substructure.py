"""Shape of a jet in a few numbers, from its constituents' pT and direction."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["Floats", "jet_shapes"]

Floats = NDArray[np.float64]

_CONES = (0.05, 0.1, 0.2, 0.4)
_LEADING = (1, 2, 3, 5, 10)
_SHARES = (0.5, 0.8, 0.95)
_ANGULARITIES = (0.5, 1.0, 2.0)
# Energy correlators take every pair and every triple, but of the hardest constituents only.
_CORRELATED = 30
_AXES = 3
_AXIS_STEPS = 3


def jet_shapes(pt: Floats, eta: Floats, phi: Floats) -> dict[str, Floats]:
    """Shapes of jets, each (events,).

    Parameters
    ----------
    pt
        (events, constituents) in GeV or relative to the jet, falling, zero behind the last.
    eta, phi
        (events, constituents): direction relative to the jet axis.

    Returns
    -------
    Mass (of massless constituents), moments about the pT-weighted centre, angularities sum z r^a,
    shares of pT within cones about the centre and of the leading constituents, energy correlators
    and their ratios C2 (A. Larkoski, G. Salam, J. Thaler, arXiv:1305.0007) and D2 (A. Larkoski,
    I. Moult, D. Neill, arXiv:1409.6298), N-subjettiness (J. Thaler, K. Van Tilburg,
    arXiv:1011.2268) with axes by k-means, and what the two subjets are. A jet without constituents
    has zero everywhere.
    """
    total = pt.sum(1)
    z = pt / np.where(total > 0, total, 1.0)[:, None]
    x = eta - (z * eta).sum(1, keepdims=True)
    y = phi - (z * phi).sum(1, keepdims=True)
    r = np.hypot(x, y)
    return {
        "pt": total,
        "mass": _mass(pt, eta, phi),
        **_moments(z, x, y, r),
        **_leading_shares(z),
        **_correlators(z[:, :_CORRELATED], x[:, :_CORRELATED], y[:, :_CORRELATED]),
        **_subjets(pt, z, x, y),
    }


def _mass(pt: Floats, eta: Floats, phi: Floats) -> Floats:
    # A constituent beyond |eta| = 10 is no measurement, and would overflow.
    along = np.clip(eta, -10, 10)
    energy = (pt * np.cosh(along)).sum(1)
    parts = (pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(along))
    momentum = sum(part.sum(1) ** 2 for part in parts)
    return np.sqrt(np.maximum(energy**2 - momentum, 0.0))


def _moments(z: Floats, x: Floats, y: Floats, r: Floats) -> dict[str, Floats]:
    xx, yy, xy = (z * x * x).sum(1), (z * y * y).sum(1), (z * x * y).sum(1)
    half, root = (xx + yy) / 2, np.hypot((xx - yy) / 2, xy)
    major, minor = half + root, np.maximum(half - root, 0.0)
    return {
        **{f"angularity_{power:g}": (z * r**power).sum(1) for power in _ANGULARITIES},
        "major_axis": np.sqrt(major),
        "minor_axis": np.sqrt(minor),
        "planar_flow": _ratio(4 * major * minor, (major + minor) ** 2),
        "farthest": np.max(np.where(z > 0, r, 0.0), axis=1, initial=0.0),
        **{f"share_within_{cone:g}": (z * (r < cone)).sum(1) for cone in _CONES},
    }


def _leading_shares(z: Floats) -> dict[str, Floats]:
    running = np.cumsum(z, axis=1)
    last = z.shape[1] - 1
    empty = np.zeros(len(z))
    return {
        "dispersion": np.sqrt((z**2).sum(1)),
        "entropy": -(z * np.log(np.where(z > 0, z, 1.0))).sum(1),
        **{f"share_of_{n}": running[:, min(n - 1, last)] if last >= 0 else empty for n in _LEADING},
        **{
            f"number_below_{share:g}": ((running < share) & (z > 0)).sum(1).astype(float)
            for share in _SHARES
        },
    }


def _correlators(z: Floats, x: Floats, y: Floats) -> dict[str, Floats]:
    distance = np.sqrt(_square_distances(x, y, x.T, y.T)).transpose(1, 0, 2)
    pairs = z[:, :, None] * z[:, None]
    two = {power: (pairs * distance**power).sum((1, 2)) / 2 for power in _ANGULARITIES}
    # sum_ijk z_i z_j z_k r_ij r_jk r_ki is the trace of the cube of sqrt(z_i z_j) r_ij.
    root = np.sqrt(pairs) * distance
    three = ((root @ root) * root).sum((1, 2)) / 6
    return {
        **{f"correlator_{power:g}": value for power, value in two.items()},
        "correlator_3": three,
        "c2": _ratio(three, two[1.0] ** 2),
        "d2": _ratio(three, two[1.0] ** 3),
    }


def _subjets(pt: Floats, z: Floats, x: Floats, y: Floats) -> dict[str, Floats]:
    out: dict[str, Floats] = {}
    wider = (z * np.hypot(x, y)).sum(1)
    for axes in range(2, _AXES + 1):
        centres = _axes(z, x, y, axes)
        squares = _square_distances(x, y, *centres)
        tau = (z * np.sqrt(squares.min(0))).sum(1)
        out[f"tau_{axes}"] = tau
        out[f"tau_{axes}{axes - 1}"] = _ratio(tau, wider)
        if axes == 2:
            out |= _pair(pt, z, x, y, squares.argmin(0))
            out["subjet_distance"] = np.hypot(*(centre[1] - centre[0] for centre in centres))
        wider = tau
    return out


def _pair(
    pt: Floats, z: Floats, x: Floats, y: Floats, nearest: NDArray[np.intp]
) -> dict[str, Floats]:
    """What the two subjets are, the harder one first."""
    members = np.stack([nearest == 0, nearest == 1])
    shares = (z * members).sum(2)
    masses = np.stack([_mass(pt * member, x, y) for member in members])
    numbers = (members & (z > 0)).sum(2).astype(float)
    order = np.argsort(-shares, axis=0, kind="stable")
    named = {"share": shares, "mass": masses, "number": numbers}
    return {
        f"subjet_{name}_{rank + 1}": np.take_along_axis(values, order, 0)[rank]
        for name, values in named.items()
        for rank in range(2)
    }


def _axes(z: Floats, x: Floats, y: Floats, axes: int) -> tuple[Floats, Floats]:
    """Axes of the subjets, each (axes, events): k-means, from constituents hard and far apart."""
    if not z.shape[1]:
        return np.zeros((axes, len(z))), np.zeros((axes, len(z)))
    event = np.arange(len(z))
    chosen = [np.argmax(z, axis=1)]
    for _ in range(1, axes):
        picked = np.stack(chosen)
        squares = _square_distances(x, y, x[event, picked], y[event, picked])
        # pT^2 distance^2 is as good as pT distance to find the largest.
        chosen.append(np.argmax(z**2 * squares.min(0), axis=1))
    picked = np.stack(chosen)
    centre_x, centre_y = x[event, picked], y[event, picked]
    for _ in range(_AXIS_STEPS):
        nearest = _square_distances(x, y, centre_x, centre_y).argmin(0)
        for axis in range(axes):
            share = z * (nearest == axis)
            weight = share.sum(1)
            for centre, place in ((centre_x, x), (centre_y, y)):
                # An axis without constituents stays where it is.
                np.divide((share * place).sum(1), weight, out=centre[axis], where=weight > 0)
    return centre_x, centre_y


def _square_distances(x: Floats, y: Floats, centre_x: Floats, centre_y: Floats) -> Floats:
    """(axes, events, constituents)."""
    return (x - centre_x[:, :, None]) ** 2 + (y - centre_y[:, :, None]) ** 2


def _ratio(top: Floats, bottom: Floats) -> Floats:
    return np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0)
