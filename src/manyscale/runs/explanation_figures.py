"""The plots of attention maps and of Grad-CAM, from what was added up."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from manyscale.explanation.attention_maps import AttentionMaps
from manyscale.explanation.importance_maps import ImportanceMaps
from manyscale.explanation.pairs import PairAttention
from manyscale.explanation.recording import Place
from manyscale.explanation.tally import ALL, CLASS_TOKEN, Tally
from manyscale.explanation.tokens import DISTANCES, RANKS, TokenReader
from manyscale.features.images import ImageSettings
from manyscale.reporting.drawn import Drawn
from manyscale.reporting.map_plots import Plane, class_maps, head_maps
from manyscale.reporting.profile_plots import Axis, Curve, Share, profiles, shares

__all__ = ["attention_figures", "importance_figures", "pair_figures"]

Floats = NDArray[np.float64]
Named = Iterator[tuple[str, Drawn]]

_EVEN = "were all alike"
_PT = "pT"


def attention_figures(maps: AttentionMaps, images: ImageSettings) -> Named:
    """Draw what was added up of attention: the name of each plot, and the plot.

    Of several layers of a fusion block, and several blocks of the same streams, the last is drawn;
    attention.json has all.
    """
    plane = _plane(images, "attention in a pixel")
    last = {(place.stream, place.context, name): place for place, name in maps.cross}
    for (query, _, context), place in last.items():
        if maps.readers[context].plane:
            yield from _cross_maps(maps, place, context, f"{query}_{context}", plane)
    for query in dict.fromkeys(query for query, _, _ in last):
        place = [place for (of, _, _), place in last.items() if of == query][-1]
        yield f"attention_shares_{query}", _stream_shares(maps, place)
        kinds = list(_kind_shares(maps, place))
        if kinds:
            yield (
                f"attention_kinds_{query}",
                shares(kinds, label="part of the attention to a stream's tokens", expected=_PT),
            )
        against_pt = [
            curve
            for name in place.context
            for curve in _against_pt(
                maps.cross[place, name], _mean_of_class_token(maps, place), maps.pt_shares.get(name)
            )
        ]
        if against_pt:
            yield (
                f"attention_profiles_{query}",
                profiles(against_pt, label="part of the attention, or of pT"),
            )
    for name, reader in maps.readers.items():
        places = [place for place in maps.own if place.stream == name and not place.block]
        if reader.plane and places:
            rows = {
                f"layer {place.layer}, head {head + 1}": maps.own[place].image()[..., head]
                for place in places
                for head in range(place.heads)
            }
            yield f"attention_self_{name}", class_maps(rows, plane)


def pair_figures(pairs: PairAttention) -> Named:
    """Draw the attention between constituents against their distance."""
    curves = [
        Curve(
            f"{place.stream}, layer {place.layer}",
            f"head {head + 1}",
            Axis("ΔR of the two", profile.edges),
            profile.means()[:, head],
        )
        for place, profile in pairs.profiles.items()
        for head in range(place.heads)
    ]
    if curves:
        yield (
            "attention_pairs",
            profiles(curves, label="attention, in units of equal parts", from_zero=False),
        )


def importance_figures(maps: ImportanceMaps, images: ImageSettings, pt: AttentionMaps) -> Named:
    """Draw what was added up of Grad-CAM; `pt` has the shares of pT to compare with."""
    planes = {
        name: tally.image()[..., 0]
        for name, tally in maps.tallies.items()
        if maps.readers[name].plane
    }
    if planes:
        yield "gradcam_maps", class_maps(planes, _plane(images, "importance in a pixel"))
    streams = [
        _share(tally, "all streams", name, ALL, (0, 1)) for name, tally in maps.tallies.items()
    ]
    label = "part of the event's importance"
    yield "gradcam_streams", shares(streams, label=label, expected=_EVEN)
    for sort, title in (("particle_class", "particles"), ("object_class", "objects")):
        rows = [
            _share(maps.tallies[name], name, kind, kind, (0, 1))
            for name, reader in maps.readers.items()
            if reader.sort == sort
            for kind in _there(maps.tallies[name], 1)
            if kind not in {ALL, CLASS_TOKEN}
        ]
        if rows:
            yield f"gradcam_{title}", shares(rows, label=label, expected=_EVEN)
    curves = [
        curve
        for name, tally in maps.tallies.items()
        if maps.readers[name].plane
        for curve in _against_pt(tally, 0, pt.pt_shares.get(name), "importance")
    ]
    if curves:
        yield "gradcam_profiles", profiles(curves, label="part of the importance, or of pT")


def _plane(images: ImageSettings, unit: str) -> Plane:
    return Plane(images.half_width, images.frame.rotate != "none", unit)


def _cross_maps(maps: AttentionMaps, place: Place, context: str, name: str, plane: Plane) -> Named:
    """Maps of a context by kind of query: by class, and by head with the classes weighted alike."""
    kinds, images = maps.asking[place.stream], maps.cross[place, context].image()
    channels = {
        kind: [head * len(kinds) + number for head in range(place.heads + 1)]
        for number, kind in enumerate(kinds)
    }
    # A kind of query that no event of a class has is nothing there.
    there = {kind: of for kind, of in channels.items() if np.isfinite(images[..., of]).all()}
    yield (
        f"attention_maps_{name}",
        class_maps({kind: images[..., of[-1]] for kind, of in there.items()}, plane),
    )
    heads = [f"head {head + 1}" for head in range(place.heads)]
    rows = {
        kind: np.moveaxis(images[..., of[:-1]].mean(axis=0), -1, 0) for kind, of in there.items()
    }
    yield f"attention_heads_{name}", head_maps(rows, heads, plane)


def _mean_of_class_token(maps: AttentionMaps, place: Place) -> int:
    """Channel of the class token's attention, averaged over heads."""
    return place.heads * len(maps.asking[place.stream])


def _stream_shares(maps: AttentionMaps, place: Place) -> Drawn:
    """How much of its attention each kind of query gives to each context stream."""
    kinds = maps.asking[place.stream]
    points = []
    for context in place.context:
        tally = maps.cross[place, context]
        even = (place.heads + 1) * len(kinds)
        for row, title in (
            (ALL, f"{context}, its tokens"),
            (CLASS_TOKEN, f"{context}, class token"),
        ):
            points += [
                _share(tally, title, kind, row, (place.heads * len(kinds) + number, even))
                for number, kind in enumerate(kinds)
            ]
    there = [point for point in points if np.isfinite(point.value).all()]
    return shares(there, label=f"part of the attention of {place.stream}", expected=_EVEN)


def _share(tally: Tally, panel: str, row: str, of: str, channels: tuple[int, int]) -> Share:
    """A row of a tally: of its channels the first is shown, beside what the second expects."""
    channel, expected = channels
    mean, error = tally.by_kind()
    place = tally.rows.index(of)
    return Share(
        panel, row, mean[:, place, channel], error[:, place, channel], mean[:, place, expected]
    )


def _there(tally: Tally, channel: int) -> Sequence[str]:
    """Rows of a tally that are not empty."""
    mean, _ = tally.by_kind()
    return [
        row for row, values in zip(tally.rows, mean[..., channel].T, strict=True) if values.any()
    ]


def _kind_shares(maps: AttentionMaps, place: Place) -> Iterator[Share]:
    """Attention of the class token by kind of particle, beside their share of pT."""
    channel = _mean_of_class_token(maps, place)
    for context in place.context:
        reader, tally = maps.readers[context], maps.cross[place, context]
        if reader.sort is None or context not in maps.pt_shares:
            continue
        mean, error = tally.by_kind()
        whole = mean[:, tally.rows.index(ALL), channel]
        pt, _ = maps.pt_shares[context].by_kind()
        for number, kind in enumerate(reader.kinds):
            if mean[:, number, channel].any():
                yield Share(
                    context,
                    kind,
                    _over(mean[:, number, channel], whole),
                    _over(error[:, number, channel], whole),
                    pt[:, number, 0],
                )


def _against_pt(
    tally: Tally, channel: int, pt: Tally | None, name: str = "attention"
) -> Iterator[Curve]:
    """Profiles in rank and distance, each class with unit sum over all tokens, and those of pT."""
    reader: TokenReader = tally.reader
    if pt is None:
        return
    edges = np.linspace(0, reader.images.half_width, DISTANCES + 1)
    axes = [(Axis("rank in pT", np.linspace(0.5, RANKS + 0.5, RANKS + 1)), Tally.by_rank)]
    if reader.plane:
        axes.append((Axis("ΔR to the axis", edges), Tally.by_distance))
    for axis, values in axes:
        for of, what, number in ((name, tally, channel), (_PT, pt, 0)):
            mean, _ = what.by_kind()
            whole = mean[:, what.rows.index(ALL), number]
            yield Curve(
                reader.stream.name, of, axis, _over(values(what)[..., number], whole[:, None])
            )


def _over(values: Floats, whole: Floats) -> Floats:
    """The quotient; not a number where there is nothing to divide."""
    return np.divide(values, whole, out=np.full(values.shape, np.nan), where=whole > 0)
