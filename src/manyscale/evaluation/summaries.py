"""Events of any number of tokens as one row of numbers each, for classifiers that need one."""

from collections.abc import Collection, Iterator, Mapping
from itertools import combinations
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from manyscale.data.packing import PackedEvents, PackedStream, ragged_rows
from manyscale.data.schema import COLUMNS
from manyscale.evaluation.substructure import jet_shapes
from manyscale.features.columns import StreamBatch
from manyscale.features.extractor import FeatureExtractor

__all__ = ["summaries"]

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


class _Padded(NamedTuple):
    """One stream of some events, at most _MOST_TOKENS tokens each.

    The hardest token comes first in a jet; elsewhere the order given may carry meaning, and stays.

    Attributes
    ----------
    real
        (events, tokens): whether there is such a token.
    numbers, classes
        (events, tokens) a name; zero where no token is.
    hardness
        (events, tokens): pT, or energy, of the token; zero where no token is or none is known.
    multiplicity
        (events,): tokens of the event, all of them.
    """

    real: NDArray[np.bool_]
    numbers: dict[str, Floats]
    classes: dict[str, NDArray[np.int64]]
    hardness: Floats
    multiplicity: NDArray[np.int64]


def summaries(
    events: PackedEvents, extractors: Mapping[str, FeatureExtractor]
) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Summarise the features of each event's tokens.

    A stream gives its number of tokens; of each number its mean, width, least and largest value,
    plain and weighted with pT; of each class its share of the tokens and of pT. Where the tokens
    have pT, or energy, and a direction in a jet, the jet's shape and all features of the ten
    hardest tokens; elsewhere all features of the first ten tokens and the differences between the
    numbers of the first three.

    Parameters
    ----------
    events
        Events that hold the streams named by `extractors`.
    extractors
        The features of each stream to be summarised, not standardised here.

    Returns
    -------
    matrix : (events, summaries), float32
        NaN where a token, or any token of the stream, is missing.
    names : (summaries,)
        Stream and summary, "jet1.log_pt.0" say.
    """
    blocks: list[NDArray[np.float32]] = []
    names: list[str] = []
    for stream, extractor in extractors.items():
        columns: dict[str, NDArray[np.float32]] = {}
        parts = [_summarise(chunk) for chunk in _chunks(events.streams[stream], extractor)]
        for name in parts[0]:
            columns[name] = np.concatenate([part[name] for part in parts]).astype(np.float32)
        blocks.extend(columns.values())
        names.extend(f"{stream}.{name}" for name in columns)
    return np.stack(blocks, 1), tuple(names)


def _chunks(stream: PackedStream, extractor: FeatureExtractor) -> Iterator[_Padded]:
    for start in range(0, max(len(stream), 1), _CHUNK):
        chunk = stream.take(np.arange(start, min(start + _CHUNK, len(stream))))
        yield _padded(chunk.counts, *_features(chunk, extractor))


def _features(
    stream: PackedStream, extractor: FeatureExtractor
) -> tuple[dict[str, Floats], dict[str, NDArray[np.int64]]]:
    with torch.no_grad():
        numbers, classes = (part.numpy() for part in extractor.raw(StreamBatch.of(stream)))
    return (
        dict(zip(extractor.numbers, numbers.T.astype(np.float64), strict=True)),
        dict(zip(extractor.classes, classes.T, strict=True)),
    )


def _padded(
    counts: NDArray[np.int64], numbers: dict[str, Floats], classes: dict[str, NDArray[np.int64]]
) -> _Padded:
    event = np.repeat(np.arange(len(counts)), counts)
    hardness = _hardness(numbers, len(event))
    order = np.lexsort((-hardness, event)) if _in_jet(numbers) else np.arange(len(event))
    place = ragged_rows(np.zeros_like(counts), counts)
    kept = place < _MOST_TOKENS
    order, where = order[kept], (event[kept], place[kept])
    shape = (len(counts), min(int(counts.max(initial=0)), _MOST_TOKENS))

    def spread(values: NDArray[_Scalar]) -> NDArray[_Scalar]:
        out = np.zeros(shape, values.dtype)
        out[where] = values[order]
        return out

    return _Padded(
        spread(np.ones(len(event), bool)),
        {name: spread(values) for name, values in numbers.items()},
        {name: spread(values) for name, values in classes.items()},
        spread(hardness),
        counts,
    )


def _hardness(numbers: dict[str, Floats], tokens: int) -> Floats:
    for name in _HARDNESS:
        if name in numbers:
            values = np.exp(numbers[name]) if name.startswith("log_") else numbers[name]
            return np.maximum(values, 0.0)
    return np.zeros(tokens)


def _has_hardness(numbers: Collection[str]) -> bool:
    return any(name in numbers for name in _HARDNESS)


def _in_jet(numbers: Collection[str]) -> bool:
    """Whether the tokens are constituents of a jet, of known direction and pT or energy."""
    return "delta_eta" in numbers and "delta_phi" in numbers and _has_hardness(numbers)


def _summarise(tokens: _Padded) -> dict[str, Floats]:
    total = tokens.hardness.sum(1, keepdims=True)
    weights = {"": tokens.real / np.maximum(tokens.real.sum(1, keepdims=True), 1)}
    if _has_hardness(tokens.numbers):
        weights["_by_pt"] = tokens.hardness / np.where(total > 0, total, 1.0)
    sums: dict[str, Floats] = {}
    for suffix, weight in weights.items():
        for name, values in tokens.numbers.items():
            sums |= _mean_and_width(f"{name}.mean{suffix}", f"{name}.width{suffix}", values, weight)
        for name, codes in tokens.classes.items():
            sums |= _class_shares(name, suffix, codes, weight)
    for name, values in tokens.numbers.items():
        sums |= _extremes(name, values, tokens.real)
    pairs: dict[str, Floats] = {}
    if _in_jet(tokens.numbers):
        sums |= jet_shapes(
            tokens.hardness, tokens.numbers["delta_eta"], tokens.numbers["delta_phi"]
        )
    else:
        pairs = _differences(tokens)
    empty = tokens.multiplicity == 0
    return {
        "tokens": tokens.multiplicity.astype(np.float64),
        **{name: np.where(empty, np.nan, values) for name, values in sums.items()},
        **_leading(tokens),
        **pairs,
    }


def _mean_and_width(mean: str, width: str, values: Floats, weight: Floats) -> dict[str, Floats]:
    centre = (weight * values).sum(1)
    spread = (weight * (values - centre[:, None]) ** 2).sum(1)
    return {mean: centre, width: np.sqrt(spread)}


def _extremes(name: str, values: Floats, real: NDArray[np.bool_]) -> dict[str, Floats]:
    return {
        f"{name}.least": np.min(values, axis=1, where=real, initial=np.inf),
        f"{name}.largest": np.max(values, axis=1, where=real, initial=-np.inf),
    }


def _class_shares(
    name: str, suffix: str, codes: NDArray[np.int64], weight: Floats
) -> dict[str, Floats]:
    known = len(COLUMNS[name].classes)
    members = {f"{code}": codes == code for code in range(known)}
    members["other"] = (codes < 0) | (codes >= known)
    return {
        f"{name}.share_{code}{suffix}": (weight * member).sum(1) for code, member in members.items()
    }


def _leading(tokens: _Padded) -> dict[str, Floats]:
    return {
        f"{name}.{place}": _of_token(tokens, values, place)
        for name, values in (*tokens.numbers.items(), *tokens.classes.items())
        for place in range(_LEADING)
    }


def _differences(tokens: _Padded) -> dict[str, Floats]:
    """Of the first tokens, pair by pair; of logarithms they are ratios."""
    return {
        f"{name}.{one}-{other}": _of_token(tokens, values, one) - _of_token(tokens, values, other)
        for name, values in tokens.numbers.items()
        for one, other in combinations(range(_PAIRED), 2)
    }


def _of_token(tokens: _Padded, values: NDArray[np.number], place: int) -> Floats:
    if place >= tokens.real.shape[1]:
        return np.full(len(values), np.nan)
    return np.where(tokens.real[:, place], values[:, place], np.nan)
