"""Engineered features: events of any number of tokens as one row of numbers, for boosted trees."""

from collections.abc import Mapping
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from manyscale.events.ragged import PackedStream, cut_batches
from manyscale.features.columns import Segments, StreamBatch, on_device
from manyscale.features.extractor import FeatureExtractor
from manyscale.schema import COLUMNS

__all__ = ["jet_shapes", "summaries"]

# Tokens whose features stand in the row one by one; those compared in pairs, where they are no
# constituents of a jet; and those that the sums go over.
_LEADING = 10
_PAIRED = 3
_MOST_TOKENS = 200
# Slots of tokens at a time: on a CPU what fits its cache, on a GPU what bounds the memory.
_SLOTS = {"cpu": 1 << 15, "cuda": 1 << 21}

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
# What is smaller than that of what it is made of is rounding, which hangs on how events were put
# together: it counts as zero.
_ROUNDING = 1e-12


class _Padded(NamedTuple):
    """One stream of some events, at most _MOST_TOKENS tokens each, the hardest first in a jet.

    There is one slot at least, for a token or none.
    """

    # (events, tokens): whether there is such a token.
    mask: Tensor
    # (numbers, events, tokens) and (classes, events, tokens) by their names; zero where no token is.
    numbers: Tensor
    number_names: tuple[str, ...]
    classes: dict[str, Tensor]
    # (events, tokens): pT, or energy, of the token; zero where no token is or none is known.
    hardness: Tensor
    # (events,): tokens of the event, all of them.
    multiplicity: Tensor
    has_hardness: bool
    # Whether the tokens are constituents of a jet, of known direction and pT or energy.
    in_jet: bool


@torch.inference_mode()
def summaries(
    streams: Mapping[str, PackedStream],
    extractors: Mapping[str, FeatureExtractor],
    device: torch.device | str = "cpu",
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
    device
        Where they are worked out, in double precision.

    Returns
    -------
    matrix : (events, summaries), float32
        NaN where a token, or any token of the stream, is missing.
    names : (summaries,)
        Stream and summary, "jet1.log_pt.0" say.
    """
    found: list[Tensor] = []
    names: list[str] = []
    slots = _SLOTS.get(torch.device(device).type, _SLOTS["cpu"])
    for name, extractor in extractors.items():
        stream = streams[name]
        # Events of similar length together: less padding.
        order = np.argsort(stream.counts, kind="stable")
        parts = []
        for chosen in cut_batches(order, stream.counts + 1, slots):
            tokens = StreamBatch.of(stream.take(chosen), device)
            row = _summarise(_padded(tokens, extractor))
            parts.append(torch.stack([column.float() for column in row.values()], 1))
        back = on_device(np.argsort(order), device)
        found.append(torch.cat(parts).index_select(0, back))
        names += [f"{name}.{summary}" for summary in row]
    return torch.cat(found, 1).cpu().numpy(), tuple(names)


def _padded(tokens: StreamBatch, extractor: FeatureExtractor) -> _Padded:
    numbers, classes = extractor.raw(tokens)
    counts, names = tokens.counts, extractor.numbers
    longest = int(tokens.host_counts.max(initial=1))
    of = Segments.of(counts, len(numbers))
    index = torch.arange(len(numbers), device=counts.device) - of.spread(counts.cumsum(0) - counts)
    slot = of.event * longest + index

    def spread(values: Tensor) -> Tensor:
        out = values.new_zeros(values.shape[1], len(counts) * longest)
        return out.index_copy_(1, slot, values.T).view(len(out), len(counts), longest)

    mask = torch.arange(longest, device=counts.device) < counts[:, None]
    padded, codes = spread(numbers.double()), spread(classes)
    hardness = padded.new_zeros(mask.shape)
    measure = next((name for name in _HARDNESS if name in names), None)
    if measure is not None:
        values = padded[names.index(measure)]
        hardness = (values.exp() if measure.startswith("log_") else values).clamp(min=0) * mask
    in_jet = measure is not None and {"delta_eta", "delta_phi"} <= set(names)
    if in_jet:
        # Only in a jet by hardness: elsewhere the order given may carry meaning, and stays.
        order = hardness.where(mask, -1.0).argsort(dim=1, descending=True, stable=True)
        hardness = hardness.gather(1, order)
        padded = padded.gather(2, order.expand_as(padded))
        codes = codes.gather(2, order.expand_as(codes))
    kept = slice(_MOST_TOKENS)
    return _Padded(
        mask[:, kept],
        padded[..., kept],
        names,
        dict(zip(extractor.classes, codes[..., kept], strict=True)),
        hardness[:, kept],
        counts,
        has_hardness=measure is not None,
        in_jet=in_jet,
    )


def _summarise(tokens: _Padded) -> dict[str, Tensor]:
    """Every summary, (events,) each."""
    mask = tokens.mask
    empty = tokens.multiplicity == 0
    row = {
        "tokens": tokens.multiplicity,
        **{name: values.masked_fill(empty, torch.nan) for name, values in _sums(tokens).items()},
    }

    def leading(values: Tensor) -> list[Tensor]:
        first = values[:, :_LEADING].double().masked_fill(~mask[:, :_LEADING], torch.nan)
        missing = _LEADING - first.shape[1]
        return list(nn.functional.pad(first, (0, missing), value=torch.nan).unbind(1))

    for name, column in (
        *zip(tokens.number_names, tokens.numbers, strict=True),
        *tokens.classes.items(),
    ):
        row |= {f"{name}.{index}": values for index, values in enumerate(leading(column))}
    if not tokens.in_jet:
        # Differences of the first tokens; of logarithms they are ratios.
        for name in tokens.number_names:
            for i, j in combinations(range(_PAIRED), 2):
                row[f"{name}.{i}-{j}"] = row[f"{name}.{i}"] - row[f"{name}.{j}"]
    return row


def _sums(tokens: _Padded) -> dict[str, Tensor]:
    """What is made of all tokens of an event together."""
    mask, numbers, names = tokens.mask, tokens.numbers, tokens.number_names
    weights = {"": mask.double() / mask.sum(1, keepdim=True).clamp(min=1)}
    if tokens.has_hardness:
        total = tokens.hardness.sum(1, keepdim=True)
        weights["_by_pt"] = tokens.hardness / total.where(total > 0, 1.0)
    least = numbers.masked_fill(~mask, torch.inf).amin(2)
    largest = numbers.masked_fill(~mask, -torch.inf).amax(2)
    size = torch.maximum(least.abs(), largest.abs())
    sums: dict[str, Tensor] = {}
    for suffix, weight in weights.items():
        mean = (weight * numbers).sum(2)
        width = (weight * (numbers - mean[..., None]) ** 2).sum(2).sqrt()
        mean, width = _rounded(mean, size), _rounded(width, size)
        for place, name in enumerate(names):
            sums |= {f"{name}.mean{suffix}": mean[place], f"{name}.width{suffix}": width[place]}
        for name, codes in tokens.classes.items():
            known = len(COLUMNS[name].classes)
            members = {f"{code}": codes == code for code in range(known)}
            members["other"] = (codes < 0) | (codes >= known)
            for code, member in members.items():
                sums[f"{name}.share_{code}{suffix}"] = (weight * member).sum(1)
    for place, name in enumerate(names):
        sums |= {f"{name}.least": least[place], f"{name}.largest": largest[place]}
    if tokens.in_jet:
        eta, phi = (numbers[names.index(name)] for name in ("delta_eta", "delta_phi"))
        sums |= jet_shapes(tokens.hardness, eta, phi)
    return sums


# ---- the shape of a jet -------------------------------------------------------------------------


def jet_shapes(pt: Tensor, eta: Tensor, phi: Tensor) -> dict[str, Tensor]:
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
    if not pt.shape[1]:  # one slot, empty
        pt, eta, phi = (nn.functional.pad(values, (0, 1)) for values in (pt, eta, phi))
    total = pt.sum(1)
    z = pt / total.where(total > 0, 1.0)[:, None]
    x = eta - (z * eta).sum(1, keepdim=True)
    y = phi - (z * phi).sum(1, keepdim=True)
    r = torch.hypot(x, y)
    # Eigenvalues of the pT-weighted covariance of the directions.
    xx, yy, xy = (z * x * x).sum(1), (z * y * y).sum(1), (z * x * y).sum(1)
    half, root = (xx + yy) / 2, torch.hypot((xx - yy) / 2, xy)
    major, minor = half + root, _rounded(half - root, half).clamp(min=0)
    running = z.cumsum(1)
    last = z.shape[1] - 1
    return {
        "pt": total,
        "mass": _mass(pt, eta, phi),
        **{f"angularity_{power:g}": (z * r**power).sum(1) for power in _ANGULARITIES},
        "major_axis": major.sqrt(),
        "minor_axis": minor.sqrt(),
        "planar_flow": _ratio(4 * major * minor, (major + minor) ** 2),
        "farthest": r.masked_fill(z <= 0, 0).amax(1),
        **{f"share_within_{cone:g}": (z * (r < cone)).sum(1) for cone in _CONES},
        "dispersion": (z**2).sum(1).sqrt(),
        "entropy": -torch.xlogy(z, z).sum(1),
        **{f"share_of_{n}": running[:, min(n - 1, last)] for n in _LEADING_SHARES},
        **{
            f"number_below_{share:g}": ((running < share) & (z > 0)).sum(1).double()
            for share in _SHARES
        },
        **_correlators(z[:, :_CORRELATED], x[:, :_CORRELATED], y[:, :_CORRELATED]),
        **_subjets(pt, z, x, y),
    }


def _mass(pt: Tensor, eta: Tensor, phi: Tensor) -> Tensor:
    # A constituent beyond |eta| = 10 is no measurement, and would overflow.
    along = eta.clamp(-10, 10)
    energy = (pt * along.cosh()).sum(-1)
    parts = (pt * phi.cos(), pt * phi.sin(), pt * along.sinh())
    momentum = sum(part.sum(-1) ** 2 for part in parts)
    return _rounded(energy**2 - momentum, energy**2).clamp(min=0).sqrt()


def _correlators(z: Tensor, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    places = torch.stack([x, y], 2)
    distance = torch.cdist(places, places, compute_mode="donot_use_mm_for_euclid_dist")
    row, column = z[:, None], z[:, :, None]
    two = {power: (row @ distance**power @ column).flatten() / 2 for power in _ANGULARITIES}
    # sum_ijk z_i z_j z_k r_ij r_jk r_ki is the trace of the cube of z_i r_ij.
    weighted = column * distance
    three = ((weighted @ weighted) * weighted.mT).sum((1, 2)) / 6
    return {
        **{f"correlator_{power:g}": value for power, value in two.items()},
        "correlator_3": three,
        "c2": _ratio(three, two[1.0] ** 2),
        "d2": _ratio(three, two[1.0] ** 3),
    }


def _subjets(pt: Tensor, z: Tensor, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    out: dict[str, Tensor] = {}
    tau_before = (z * torch.hypot(x, y)).sum(1)
    for axes in range(2, _MOST_SUBJETS + 1):
        centres = _subjet_axes(z, x, y, axes)
        squares = _square_distances(x, y, *centres)
        smallest, nearest = squares.min(0)
        tau = _rounded((z * smallest.sqrt()).sum(1), 1.0)
        out[f"tau_{axes}"] = tau
        out[f"tau_{axes}{axes - 1}"] = _ratio(tau, tau_before)
        tau_before = tau
        if axes == 2:
            # What the two subjets are, the harder one first.
            members = torch.stack([nearest == 0, nearest == 1])
            shares = (z * members).sum(2)
            order = shares.argsort(dim=0, descending=True, stable=True)
            masses = _mass(pt * members, x, y)
            numbers = (members & (z > 0)).sum(2).double()
            for name, values in (("share", shares), ("mass", masses), ("number", numbers)):
                for rank, ranked in enumerate(values.gather(0, order)):
                    out[f"subjet_{name}_{rank + 1}"] = ranked
            out["subjet_distance"] = torch.hypot(*(centre[1] - centre[0] for centre in centres))
    return out


def _subjet_axes(z: Tensor, x: Tensor, y: Tensor, axes: int) -> tuple[Tensor, Tensor]:
    """Axes of the subjets, each (axes, events): k-means, from constituents hard and far apart."""

    def at(picked: Tensor) -> tuple[Tensor, Tensor]:
        return x.gather(1, picked.T).T, y.gather(1, picked.T).T

    picked = z.argmax(1)[None]
    for _ in range(1, axes):
        # pT^2 distance^2 is as good as pT distance to find the largest.
        far = z**2 * _square_distances(x, y, *at(picked)).amin(0)
        picked = torch.cat([picked, far.argmax(1)[None]])
    centre_x, centre_y = at(picked)
    for _ in range(_KMEANS_STEPS):
        nearest = _square_distances(x, y, centre_x, centre_y).min(0).indices
        share = z * (nearest == torch.arange(axes, device=z.device)[:, None, None])
        weight = share.sum(2)
        # An axis without constituents stays where it is.
        centre_x, centre_y = (
            torch.where(weight > 0, (share * of).sum(2) / weight, before)
            for of, before in ((x, centre_x), (y, centre_y))
        )
    return centre_x, centre_y


def _square_distances(x: Tensor, y: Tensor, centre_x: Tensor, centre_y: Tensor) -> Tensor:
    """(axes, events, constituents)."""
    return (x - centre_x[:, :, None]) ** 2 + (y - centre_y[:, :, None]) ** 2


def _rounded(values: Tensor, size: Tensor | float) -> Tensor:
    return values.masked_fill(values.abs() < _ROUNDING * size, 0)


def _ratio(top: Tensor, bottom: Tensor) -> Tensor:
    return torch.where(bottom > 0, top / bottom, 0.0)
