"""Engineered features: events of any number of tokens as one row of numbers, for boosted trees."""

from collections.abc import Mapping
from itertools import combinations
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from manyscale.events.ragged import PackedStream, ragged_rows
from manyscale.features.columns import StreamBatch
from manyscale.features.extractor import FeatureExtractor
from manyscale.schema import COLUMNS

__all__ = ["jet_shapes", "summaries"]

Floats = NDArray[np.float64]
_Scalar = TypeVar("_Scalar", bound=np.generic)

# Tokens whose features stand in the row one by one; those compared in pairs, where they are no
# constituents of a jet; and those that the sums go over.
_LEADING = 10
_PAIRED = 3
_MOST_TOKENS = 200
# Events at a time: bounds the memory, most of it pairs of constituents.
_CHUNK = 2048

# What a token's weight in sums is made from: the first of these features that there is.
_HARDNESS = ("log_pt", "pt", "log_pt_rel", "log_energy", "energy", "log_energy_rel")

_CONES = (0.05, 0.1, 0.2, 0.4)
_LEADING_SHARES = (1, 2, 3, 5, 10)
_SHARES = (0.5, 0.8, 0.95)
_ANGULARITIES = (0.5, 1.0, 2.0)
# Energy correlators take every pair and every triple, but of the hardest constituents only.
_CORRELATED = 30
_MOST_SUBJETS = 3
_KMEANS_STEPS = 3


class _Padded(NamedTuple):
    """One stream of some events, at most _MOST_TOKENS tokens each, the hardest first in a jet."""

    # (events, tokens): whether there is such a token.
    mask: NDArray[np.bool_]
    # (events, tokens) a name; zero where no token is.
    numbers: dict[str, Floats]
    classes: dict[str, NDArray[np.int64]]
    # (events, tokens): pT, or energy, of the token; zero where no token is or none is known.
    hardness: Floats
    # (events,): tokens of the event, all of them.
    multiplicity: NDArray[np.int64]
    has_hardness: bool
    # Whether the tokens are constituents of a jet, of known direction and pT or energy.
    in_jet: bool


def summaries(
    streams: Mapping[str, PackedStream], extractors: Mapping[str, FeatureExtractor]
) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Summarise the features of each event's tokens.

    A stream gives its number of tokens; of each number its mean, width, least and largest value,
    plain and weighted with pT; of each class its share of the tokens and of pT. Where the tokens
    have pT, or energy, and a direction in a jet, the jet's shape and all features of the ten
    hardest tokens; elsewhere all features of the first ten tokens and the differences between the
    numbers of the first three.

    Parameters
    ----------
    streams
        Of the events; those named by `extractors` among them.
    extractors
        The features of each stream to be summarised, not standardised here.

    Returns
    -------
    matrix : (events, summaries), float32
        NaN where a token, or any token of the stream, is missing.
    names : (summaries,)
        Stream and summary, "jet1.log_pt.0" say.
    """
    columns: list[NDArray[np.float32]] = []
    names: list[str] = []
    for name, extractor in extractors.items():
        stream = streams[name]
        parts = []
        for start in range(0, max(len(stream), 1), _CHUNK):
            chunk = stream.take(np.arange(start, min(start + _CHUNK, len(stream))))
            parts.append(_summarise(_padded(chunk, extractor)))
        for summary in parts[0]:
            whole = np.concatenate([part[summary] for part in parts])
            columns.append(whole.astype(np.float32))
            names.append(f"{name}.{summary}")
    return np.stack(columns, 1), tuple(names)


def _padded(stream: PackedStream, extractor: FeatureExtractor) -> _Padded:
    with torch.no_grad():
        raw_numbers, raw_classes = (part.numpy() for part in extractor.raw(StreamBatch.of(stream)))
    numbers = dict(zip(extractor.numbers, raw_numbers.T.astype(np.float64), strict=True))
    classes = dict(zip(extractor.classes, raw_classes.T, strict=True))
    counts = stream.counts
    event = np.repeat(np.arange(len(counts)), counts)
    hardness = np.zeros(len(event))
    measure = next((name for name in _HARDNESS if name in numbers), None)
    if measure is not None:
        values = numbers[measure]
        hardness = np.maximum(np.exp(values) if measure.startswith("log_") else values, 0.0)
    index = ragged_rows(np.zeros_like(counts), counts)
    kept = index < _MOST_TOKENS
    shape = (len(counts), min(int(counts.max(initial=0)), _MOST_TOKENS))
    in_jet = measure is not None and {"delta_eta", "delta_phi"} <= numbers.keys()
    # Only in a jet by hardness: elsewhere the order given may carry meaning, and stays.
    order = np.lexsort((-hardness, event)) if in_jet else np.arange(len(event))

    def spread(values: NDArray[_Scalar]) -> NDArray[_Scalar]:
        out = np.zeros(shape, values.dtype)
        out[event[kept], index[kept]] = values[order[kept]]
        return out

    return _Padded(
        spread(np.ones(len(event), bool)),
        {name: spread(values) for name, values in numbers.items()},
        {name: spread(values) for name, values in classes.items()},
        spread(hardness),
        counts,
        has_hardness=measure is not None,
        in_jet=in_jet,
    )


def _summarise(tokens: _Padded) -> dict[str, Floats]:
    mask, numbers = tokens.mask, tokens.numbers
    empty = tokens.multiplicity == 0
    row = {
        "tokens": tokens.multiplicity.astype(np.float64),
        **{name: np.where(empty, np.nan, values) for name, values in _sums(tokens).items()},
    }

    def of_token(values: NDArray[np.number], index: int) -> Floats:
        if index >= mask.shape[1]:
            return np.full(len(values), np.nan)
        return np.where(mask[:, index], values[:, index], np.nan)

    for name, column in (*numbers.items(), *tokens.classes.items()):
        row |= {f"{name}.{index}": of_token(column, index) for index in range(_LEADING)}
    if not tokens.in_jet:
        # Differences of the first tokens; of logarithms they are ratios.
        for name, values in numbers.items():
            for i, j in combinations(range(_PAIRED), 2):
                row[f"{name}.{i}-{j}"] = of_token(values, i) - of_token(values, j)
    return row


def _sums(tokens: _Padded) -> dict[str, Floats]:
    """What is made of all tokens of an event together."""
    mask, numbers = tokens.mask, tokens.numbers
    weights = {"": mask / np.maximum(mask.sum(1, keepdims=True), 1)}
    if tokens.has_hardness:
        total = tokens.hardness.sum(1, keepdims=True)
        weights["_by_pt"] = tokens.hardness / np.where(total > 0, total, 1.0)
    sums: dict[str, Floats] = {}
    for suffix, weight in weights.items():
        for name, values in numbers.items():
            mean = (weight * values).sum(1)
            variance = (weight * (values - mean[:, None]) ** 2).sum(1)
            sums |= {f"{name}.mean{suffix}": mean, f"{name}.width{suffix}": np.sqrt(variance)}
        for name, codes in tokens.classes.items():
            known = len(COLUMNS[name].classes)
            members = {f"{code}": codes == code for code in range(known)}
            members["other"] = (codes < 0) | (codes >= known)
            for code, member in members.items():
                sums[f"{name}.share_{code}{suffix}"] = (weight * member).sum(1)
    for name, values in numbers.items():
        sums[f"{name}.least"] = np.min(values, axis=1, where=mask, initial=np.inf)
        sums[f"{name}.largest"] = np.max(values, axis=1, where=mask, initial=-np.inf)
    if tokens.in_jet:
        sums |= jet_shapes(tokens.hardness, numbers["delta_eta"], numbers["delta_phi"])
    return sums


# ---- the shape of a jet -------------------------------------------------------------------------


def jet_shapes(pt: Floats, eta: Floats, phi: Floats) -> dict[str, Floats]:
    """Shapes of jets, each (events,).

    Parameters
    ----------
    pt
        (events, constituents) in GeV or relative to the jet, falling, zero after the last.
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
    # Eigenvalues of the pT-weighted covariance of the directions.
    xx, yy, xy = (z * x * x).sum(1), (z * y * y).sum(1), (z * x * y).sum(1)
    half, root = (xx + yy) / 2, np.hypot((xx - yy) / 2, xy)
    major, minor = half + root, np.maximum(half - root, 0.0)
    running = np.cumsum(z, axis=1)
    last = z.shape[1] - 1
    return {
        "pt": total,
        "mass": _mass(pt, eta, phi),
        **{f"angularity_{power:g}": (z * r**power).sum(1) for power in _ANGULARITIES},
        "major_axis": np.sqrt(major),
        "minor_axis": np.sqrt(minor),
        "planar_flow": _ratio(4 * major * minor, (major + minor) ** 2),
        "farthest": np.max(np.where(z > 0, r, 0.0), axis=1, initial=0.0),
        **{f"share_within_{cone:g}": (z * (r < cone)).sum(1) for cone in _CONES},
        "dispersion": np.sqrt((z**2).sum(1)),
        "entropy": -(z * np.log(np.where(z > 0, z, 1.0))).sum(1),
        **{
            f"share_of_{n}": running[:, min(n - 1, last)] if last >= 0 else np.zeros(len(z))
            for n in _LEADING_SHARES
        },
        **{
            f"number_below_{share:g}": ((running < share) & (z > 0)).sum(1).astype(float)
            for share in _SHARES
        },
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
    tau_before = (z * np.hypot(x, y)).sum(1)
    for axes in range(2, _MOST_SUBJETS + 1):
        centres = _subjet_axes(z, x, y, axes)
        squares = _square_distances(x, y, *centres)
        tau = (z * np.sqrt(squares.min(0))).sum(1)
        out[f"tau_{axes}"] = tau
        out[f"tau_{axes}{axes - 1}"] = _ratio(tau, tau_before)
        tau_before = tau
        if axes == 2:
            # What the two subjets are, the harder one first.
            nearest = squares.argmin(0)
            members = np.stack([nearest == 0, nearest == 1])
            shares = (z * members).sum(2)
            order = np.argsort(-shares, axis=0, kind="stable")
            masses = np.stack([_mass(pt * member, x, y) for member in members])
            numbers = (members & (z > 0)).sum(2).astype(float)
            for name, values in (("share", shares), ("mass", masses), ("number", numbers)):
                for rank, ranked in enumerate(np.take_along_axis(values, order, 0)):
                    out[f"subjet_{name}_{rank + 1}"] = ranked
            out["subjet_distance"] = np.hypot(*(centre[1] - centre[0] for centre in centres))
    return out


def _subjet_axes(z: Floats, x: Floats, y: Floats, axes: int) -> tuple[Floats, Floats]:
    """Axes of the subjets, each (axes, events): k-means, from constituents hard and far apart."""
    if not z.shape[1]:
        return np.zeros((axes, len(z))), np.zeros((axes, len(z)))
    event = np.arange(len(z))
    picked = np.argmax(z, axis=1)[None]
    for _ in range(1, axes):
        squares = _square_distances(x, y, x[event, picked], y[event, picked])
        # pT^2 distance^2 is as good as pT distance to find the largest.
        picked = np.vstack([picked, np.argmax(z**2 * squares.min(0), axis=1)])
    centre_x, centre_y = x[event, picked], y[event, picked]
    for _ in range(_KMEANS_STEPS):
        nearest = _square_distances(x, y, centre_x, centre_y).argmin(0)
        for axis in range(axes):
            share = z * (nearest == axis)
            weight = share.sum(1)
            for centre, values in ((centre_x, x), (centre_y, y)):
                # An axis without constituents stays where it is.
                np.divide((share * values).sum(1), weight, out=centre[axis], where=weight > 0)
    return centre_x, centre_y


def _square_distances(x: Floats, y: Floats, centre_x: Floats, centre_y: Floats) -> Floats:
    """(axes, events, constituents)."""
    return (x - centre_x[:, :, None]) ** 2 + (y - centre_y[:, :, None]) ** 2


def _ratio(top: Floats, bottom: Floats) -> Floats:
    return np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0)
