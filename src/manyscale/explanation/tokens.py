"""What tokens are (kind, direction, pT) and weighted means by class of any number given to them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from manyscale.features.columns import Segments, StreamBatch, TokenColumns
from manyscale.features.images import ImageSettings
from manyscale.features.jet_frame import JetFrame
from manyscale.features.registry import can_compute, recipe
from manyscale.model.classifier import MultiScaleClassifier
from manyscale.schema import COLUMNS, StreamSchema

__all__ = [
    "ALL",
    "CLASS_TOKEN",
    "DISTANCES",
    "RANKS",
    "ClassMeans",
    "Labelled",
    "TokenReader",
    "Tokens",
    "token_readers",
]

Floats = NDArray[np.float64]

#: Ranks in pT that are told apart, and bins of the distance to the jet's axis.
RANKS = 30
DISTANCES = 20
#: Names of what is no kind of token: all tokens of a stream together, and its class token.
ALL = "all tokens"
CLASS_TOKEN = "class token"  # noqa: S105 - no password

_DIGITS = 6


@dataclass(frozen=True)
class Tokens:
    """The tokens of a stream in a batch; None where the stream lacks the columns.

    Attributes
    ----------
    segments
        Which tokens belong to which event.
    kind
        (tokens,), int64: index in `TokenReader.kinds`.
    pixel
        (tokens,), int64: row * bins + column of its pixel; bins^2 outside of the image.
    rank
        (tokens,), int64: how many tokens of the event have more pT; `RANKS` at most.
    distance
        (tokens,), int64: bin of the distance to the axis; `DISTANCES` beyond the image.
    pt_share
        (tokens,): part of the pT of all tokens of the event.
    """

    segments: Segments
    kind: Tensor
    pixel: Tensor | None
    rank: Tensor | None
    distance: Tensor | None
    pt_share: Tensor | None


class TokenReader:
    """Reads off the columns of a stream what its tokens are.

    Parameters
    ----------
    stream
        Names the columns.
    images
        Pixels and frame of the plane of eta and phi.

    Attributes
    ----------
    kind_column
        The column that tells kinds apart: `particle_class`, `object_class`, or None.
    kinds
        Names of the kinds of tokens.
    plane
        Whether the tokens have a direction in the plane of a jet.
    has_pt
        Whether they have a pT.
    """

    def __init__(self, stream: StreamSchema, images: ImageSettings) -> None:
        self.stream = stream
        self.images = images
        self.has_pt = can_compute("pt", stream)
        framed = self.has_pt or images.frame.changes_nothing
        directions = ("delta_eta", "delta_phi", "delta_r")
        self.plane = framed and all(can_compute(name, stream) for name in directions)
        columns = ("particle_class", "object_class")
        self.kind_column = next((name for name in columns if can_compute(name, stream)), None)
        named = COLUMNS[self.kind_column].classes if self.kind_column else ()
        self.kinds = (*named, "other") if named else ("token",)
        self._frame = JetFrame(stream, images.frame, "images") if self.plane else None

    def notices(self) -> list[str]:
        """Say what cannot be shown of this stream, and why."""
        said = []
        if not self.plane:
            said.append(
                f"{self.stream.name}: no maps in the plane of eta and phi: its columns do not say "
                f"where its tokens are in a jet"
            )
        if not self.has_pt:
            said.append(f"{self.stream.name}: no comparison with pT: it has no column pt")
        return said

    def __call__(self, batch: StreamBatch) -> Tokens:
        """Read the tokens of a batch."""
        columns = TokenColumns(self.stream, batch)
        segments = columns.segments
        kind = torch.zeros_like(columns.event)
        if self.kind_column is not None:
            code, other = columns[self.kind_column].long(), len(self.kinds) - 1
            kind = torch.where((code < 0) | (code > other), other, code)
        rank = share = pixel = distance = None
        if self.has_pt:
            pt = columns["pt"].clamp(min=0)
            share = pt / segments.spread(segments.sum(pt)).clamp(min=torch.finfo(pt.dtype).tiny)
            # Sorted by pT, then stably by event: of each event the hardest token comes first.
            falling = torch.argsort(pt, descending=True, stable=True)
            order = falling[torch.argsort(segments.event[falling], stable=True)]
            first = torch.cumsum(segments.counts, 0) - segments.counts
            rank = torch.empty_like(order)
            rank[order] = torch.arange(len(order), device=order.device) - segments.spread(first)
            rank = rank.clamp(max=RANKS)
        if self._frame is not None:
            bins, reach = self.images.bins, self.images.half_width
            x, y = self._frame(columns).values()
            row, column = (torch.floor((of + reach) * (bins / (2 * reach))) for of in (x, y))
            inside = (row >= 0) & (row < bins) & (column >= 0) & (column < bins)
            pixel = torch.where(inside, row * bins + column, bins * bins).long()
            # From the jet's axis as stored, whatever the frame of the image.
            delta_r = recipe("delta_r", self.stream).compute(columns)
            distance = (delta_r * (DISTANCES / reach)).long().clamp(0, DISTANCES)
        return Tokens(segments, kind, pixel, rank, distance, share)


def token_readers(network: MultiScaleClassifier, images: ImageSettings) -> dict[str, TokenReader]:
    """A reader of each stream of a network, by its name."""
    return {
        name: TokenReader(network.extractor(name).stream, images)
        for name in network.settings.streams
    }


class Labelled(NamedTuple):
    """Label, (events,) int64, 1 signal; and class-balanced weight, (events,) float64, of a batch."""

    label: Tensor
    weight: Tensor


class ClassMeans:
    """Weighted means, over the events of each class, of what their tokens are given together.

    Of each event the numbers that its tokens are given are added up: by pixel, rank in pT, distance
    to the axis, and kind. Several numbers a token, the channels, are added up at once; events
    without a channel do not count in it. Memory does not depend on the number of events.

    Parameters
    ----------
    reader
        Of the stream.
    channels
        Of each channel, the JSON keys and values that name it.
    device
        Where the tokens will be.

    Attributes
    ----------
    rows
        What `by_kind` tells apart: the kinds of tokens, the class token, all tokens.
    """

    def __init__(
        self,
        reader: TokenReader,
        channels: Sequence[Mapping[str, object]],
        device: torch.device | str = "cpu",
    ) -> None:
        self.reader, self.channels = reader, list(channels)
        self.rows = (*reader.kinds, CLASS_TOKEN, ALL)

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(2, *shape, len(channels), dtype=torch.float64, device=device)

        self._weight, self._weight2 = zeros(), zeros()
        # By attribute of `Tokens`; the last bin of each collects what is out of range.
        sizes = {"pixel": reader.images.bins**2, "rank": RANKS, "distance": DISTANCES}
        self._binned = {name: zeros(bins + 1) for name, bins in sizes.items()}
        # Sums of w x, w^2 x and w^2 x^2 of what an event's tokens of a kind are given together.
        self._moments = [zeros(len(self.rows)) for _ in range(3)]

    def channel(self, **words: object) -> int:
        """Index of the channel of that name."""
        return self.channels.index(words)

    def add(
        self,
        tokens: Tokens,
        given: Tensor,
        events: Labelled,
        class_token: Tensor | None = None,
        there: Tensor | None = None,
    ) -> None:
        """Count the events of a batch.

        Parameters
        ----------
        tokens, events
            What they are.
        given
            (tokens, channels).
        class_token
            (events, channels): what the stream's class token is given; None: nothing.
        there
            (events, channels): 1 where the event has the channel; None: everywhere.
        """
        number, channels = len(events.label), given.shape[1]
        owner, label = tokens.segments.event, events.label
        weighted = given * events.weight.to(given.dtype)[owner, None]
        for name, sums in self._binned.items():
            index: Tensor | None = getattr(tokens, name)
            if index is not None:
                # On a CPU faster than bincount and scatter_add_.
                flat = given.new_zeros(2 * sums.shape[1], channels)
                flat.index_add_(0, label[owner] * sums.shape[1] + index, weighted)
                sums.add_(flat.view_as(sums))

        kinds = len(self.reader.kinds)
        of_kind = given.new_zeros(number * kinds, channels)
        of_kind = of_kind.index_add_(0, owner * kinds + tokens.kind, given).view(number, kinds, -1)
        rows = self._weight.new_zeros(number, len(self.rows), channels)
        rows[:, :kinds] = of_kind
        rows[:, kinds + 1] = of_kind.sum(1)
        if class_token is not None:
            rows[:, kinds] = class_token
        weight = events.weight[:, None].expand(number, channels)
        weight = weight if there is None else weight * there
        w = weight[:, None]
        for sums, terms in zip(
            (self._weight, self._weight2, *self._moments),
            (weight, weight**2, w * rows, w**2 * rows, w**2 * rows**2),
            strict=True,
        ):
            sums.index_add_(0, label, terms)

    def binned(self, by: str) -> Floats:
        """(2, bins, channels): mean of background and signal, in bins of pixel, rank or distance."""
        means: Floats = (self._binned[by] / self._weight[:, None])[:, :-1].cpu().numpy()
        return means

    def image(self) -> Floats:
        """(2, bins, bins, channels): mean of background and signal; pixels of eta first."""
        bins = self.reader.images.bins
        return self.binned("pixel").reshape(2, bins, bins, -1)

    def by_kind(self) -> tuple[Floats, Floats]:
        """(2, rows, channels): mean of what the tokens of each of `rows` are given, and its error.

        The error of the weighted mean m is sqrt(sum w^2 (x - m)^2) / |sum w|.
        """
        first, cross, square = self._moments
        weight, weight2 = self._weight[:, None], self._weight2[:, None]
        mean = first / weight
        spread = square - 2 * mean * cross + mean**2 * weight2
        error = spread.clamp(min=0).sqrt() / weight.abs()
        return mean.cpu().numpy(), error.cpu().numpy()

    def share(self, row: str, channel: int) -> tuple[Floats, Floats]:
        """(2,): mean of one of `rows` in background and signal, and its error."""
        mean, error = self.by_kind()
        index = self.rows.index(row)
        return mean[:, index, channel], error[:, index, channel]

    def numbers(self) -> list[dict[str, Any]]:
        """What each channel has of each class, for JSON; a class without events is left out.

        `share` has the mean of each of `rows`, with its error; `by_rank` and `by_distance` that of
        the token of each rank in pT, and of all tokens in each bin of the distance to the axis.
        """

        def rounded(values: Floats) -> list[float | None]:
            return [None if np.isnan(value) else round(float(value), _DIGITS) for value in values]

        found = []
        there = {"rank": self.reader.has_pt, "distance": self.reader.plane}
        binned = {f"by_{by}": self.binned(by) for by in ("rank", "distance") if there[by]}
        mean, error = self.by_kind()
        for (channel, words), (label, name) in product(
            enumerate(self.channels), enumerate(("background", "signal"))
        ):
            pairs = zip(*(rounded(of[label, :, channel]) for of in (mean, error)), strict=True)
            share = {
                row: {"value": value, "error": of_value}
                for row, (value, of_value) in zip(self.rows, pairs, strict=True)
                if value or row == ALL
            }
            if share[ALL]["value"] is not None:
                bins = {by: rounded(values[label, :, channel]) for by, values in binned.items()}
                found.append({**words, "class": name, "share": share, **bins})
        return found
