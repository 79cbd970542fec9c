"""The numbers of attention maps and of Grad-CAM, for JSON."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manyscale.explanation.attention_maps import AttentionMaps
from manyscale.explanation.importance_maps import ImportanceMaps
from manyscale.explanation.pairs import PairAttention
from manyscale.explanation.recording import Place
from manyscale.explanation.tally import Tally

__all__ = ["attention_numbers", "importance_numbers", "pair_numbers"]

_CLASSES = ("background", "signal")
_DIGITS = 6


def attention_numbers(maps: AttentionMaps) -> dict[str, Any]:
    """Shares and profiles of every attention layer, head by head and averaged ("mean").

    Returns
    -------
    `cross_attention`: rows of place, context stream, kind of query, head and class; `self_attention`:
    of place, head and class, the class token asking; `pt`: the same shares and profiles of pT, by
    stream. Head "even" is what were all keys of an event alike. `share` has the mean part of the attention a kind of key,
    with its error; `by_rank` and `by_distance` that of the token of each rank in pT, and of all
    tokens in each bin of the distance to the axis.
    """
    return {
        "cross_attention": [
            {**_words(place), "context": context, "asked_by": kind, "head": head, **numbers}
            for (place, context), tally in maps.cross.items()
            for kind, head, channel in _channels(maps.asking[place.stream], place.heads)
            for numbers in _numbers(tally, channel)
        ],
        "self_attention": [
            {**_words(place), "head": head, **numbers}
            for place, tally in maps.own.items()
            for _, head, channel in _channels(("class token",), place.heads)
            for numbers in _numbers(tally, channel)
        ],
        "pt": [
            {"stream": name, **numbers}
            for name, tally in maps.pt_shares.items()
            for numbers in _numbers(tally, 0)
        ],
    }


def pair_numbers(pairs: PairAttention) -> list[dict[str, Any]]:
    """Attention between constituents, in units of equal parts, by their distance."""
    return [
        {
            **_words(place),
            "head": head + 1,
            "class": of,
            "distance": _rounded(profile.edges),
            "attention": _rounded(means[label, head]),
        }
        for place, profile in pairs.profiles.items()
        for means in [profile.means()]
        for head in range(place.heads)
        for label, of in enumerate(_CLASSES)
    ]


def importance_numbers(maps: ImportanceMaps) -> list[dict[str, Any]]:
    """Shares and profiles of Grad-CAM, by stream and class; "even" is what were all tokens alike."""
    return [
        {"stream": name, "of": of, **numbers}
        for name, tally in maps.tallies.items()
        for channel, of in enumerate(("importance", "even"))
        for numbers in _numbers(tally, channel)
    ]


def _words(place: Place) -> dict[str, Any]:
    return {"stream": place.stream, "block": place.block, "layer": place.layer}


def _channels(kinds: tuple[str, ...], heads: int) -> Iterator[tuple[str, int | str, int]]:
    """Kind of query, head, and channel: heads from 1, their mean, equal parts."""
    for head in range(heads + 1):
        for place, kind in enumerate(kinds):
            yield kind, head + 1 if head < heads else "mean", head * len(kinds) + place
    yield "any", "even", (heads + 1) * len(kinds)


def _numbers(tally: Tally, channel: int) -> Iterator[dict[str, Any]]:
    """What a channel of a tally has of each class; a class that never has it is left out."""
    mean, error = tally.by_kind()
    rank, distance = tally.by_rank(), tally.by_distance()
    for label, of in enumerate(_CLASSES):
        if np.isnan(mean[label, -1, channel]):
            continue
        rows = zip(tally.rows, mean[label, :, channel], error[label, :, channel], strict=True)
        numbers: dict[str, Any] = {
            "class": of,
            "share": {
                row: {"value": round(float(value), _DIGITS), "error": round(float(of_it), _DIGITS)}
                for row, value, of_it in rows
                if value or row == tally.rows[-1]
            },
        }
        if tally.reader.has_pt:
            numbers["by_rank"] = _rounded(rank[label, :, channel])
        if tally.reader.plane:
            numbers["by_distance"] = _rounded(distance[label, :, channel])
        yield numbers


def _rounded(values: NDArray[np.float64]) -> list[float | None]:
    return [None if np.isnan(value) else round(float(value), _DIGITS) for value in values]
