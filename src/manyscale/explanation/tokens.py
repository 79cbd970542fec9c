"""What is known of each token apart from the network: its kind, its place in the jet, its pT."""

from dataclasses import dataclass

import torch
from torch import Tensor

from manyscale.data.schema import COLUMNS, StreamSchema
from manyscale.features.columns import Segments, StreamBatch, TokenColumns
from manyscale.features.images import ImageSettings
from manyscale.features.jet_frame import JetFrame
from manyscale.features.registry import can_compute, recipe
from manyscale.model.classifier import MultiScaleClassifier

__all__ = ["DISTANCES", "RANKS", "TokenReader", "Tokens", "token_readers"]

#: Ranks in pT that are told apart, and bins of the distance to the jet's axis.
RANKS = 30
DISTANCES = 20

_SORTS = ("particle_class", "object_class")


@dataclass(frozen=True)
class Tokens:
    """The tokens of a stream in a batch; None where the stream lacks the columns.

    Attributes
    ----------
    segments
        Which tokens belong to which event.
    kind
        (tokens,), int64: place in `TokenReader.kinds`.
    pixel
        (tokens,), int64: row * bins + column of its pixel; bins^2 outside of the image.
    rank
        (tokens,), int64: how many tokens of the event have more pT; `RANKS` at most.
    distance
        (tokens,), int64: bin of the distance to the axis; `DISTANCES` beyond the image.
    pt_share
        (tokens,): part of the pT of all tokens of the event.
    place
        (tokens, 2): delta eta and delta phi.
    """

    segments: Segments
    kind: Tensor
    pixel: Tensor | None
    rank: Tensor | None
    distance: Tensor | None
    pt_share: Tensor | None
    place: Tensor | None


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
    sort
        The column that tells kinds apart: `particle_class`, `object_class`, or None.
    kinds
        Names of the kinds of tokens.
    plane
        Whether the tokens have a place in the plane of a jet.
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
        self.sort = next((name for name in _SORTS if can_compute(name, stream)), None)
        named = COLUMNS[self.sort].classes if self.sort else ()
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
        rank, share = self._of_pt(columns)
        pixel, distance, place = self._of_place(columns)
        return Tokens(columns.segments, self._kind(columns), pixel, rank, distance, share, place)

    def _kind(self, columns: TokenColumns) -> Tensor:
        if self.sort is None:
            return torch.zeros_like(columns.event)
        code = columns[self.sort].long()
        other = len(self.kinds) - 1
        return torch.where((code < 0) | (code > other), other, code)

    def _of_pt(self, columns: TokenColumns) -> tuple[Tensor | None, Tensor | None]:
        """Rank and share of pT."""
        if not self.has_pt:
            return None, None
        pt, segments = columns["pt"].clamp(min=0), columns.segments
        share = pt / segments.spread(segments.sum(pt)).clamp(min=torch.finfo(pt.dtype).tiny)
        falling = torch.argsort(pt, descending=True, stable=True)
        order = falling[torch.argsort(segments.event[falling], stable=True)]
        first = torch.cumsum(segments.counts, 0) - segments.counts
        rank = torch.empty_like(order)
        rank[order] = torch.arange(len(order), device=order.device) - segments.spread(first)
        return rank.clamp(max=RANKS), share

    def _of_place(
        self, columns: TokenColumns
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Pixel, bin of the distance, delta eta and delta phi."""
        if self._frame is None:
            return None, None, None
        bins, reach = self.images.bins, self.images.half_width
        x, y = self._frame(columns).values()
        row, column = (torch.floor((of + reach) * (bins / (2 * reach))) for of in (x, y))
        inside = (row >= 0) & (row < bins) & (column >= 0) & (column < bins)
        pixel = torch.where(inside, row * bins + column, bins * bins).long()
        delta_r = recipe("delta_r", self.stream).compute(columns)
        distance = (delta_r * (DISTANCES / reach)).long().clamp(0, DISTANCES)
        directions = [recipe(of, self.stream).compute(columns) for of in ("delta_eta", "delta_phi")]
        return pixel, distance, torch.stack(directions, 1)


def token_readers(network: MultiScaleClassifier, images: ImageSettings) -> dict[str, TokenReader]:
    """A reader of each stream of a network, by its name."""
    return {
        name: TokenReader(network.extractor(name).stream, images)
        for name in network.settings.streams
    }
