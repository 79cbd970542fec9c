"""The network on padded arrays: plain tensor operations, for ONNX and as a rival of the packed one.

Weights and scores are those of `MultiScaleClassifier`. Only where the arithmetic is done differs: linear
layers, norms and attention work on padding too, and no shape depends on the numbers in it.
"""

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention

from manyscale.events.ragged import PackedStream
from manyscale.features.columns import Segments, TokenColumns
from manyscale.model.classifier import MultiScaleClassifier, mean_logits
from manyscale.model.layers import (
    BIASED_LAYERS,
    Embedding,
    EncoderLayer,
    Fusion,
    FusionLayer,
    FusionSettings,
)
from manyscale.schema import StreamSchema

__all__ = ["PaddedColumns", "PaddedNetwork", "padded_array", "real_first"]


def padded_array(
    stream: StreamSchema, packed: PackedStream, length: int | None = None
) -> NDArray[np.float32]:
    """Pad events as in an npz: (events, length, columns), as long as the longest, if nothing is said.

    The columns stand in the order of `all_columns`, the axis repeated on each real token.
    """
    values = packed.padded(length)
    real = np.arange(values.shape[1]) < packed.counts[:, None]
    whole = np.concatenate([values, packed.axis[:, None] * real[:, :, None]], axis=2)
    names = stream.columns + stream.axis
    return np.ascontiguousarray(whole[:, :, [names.index(name) for name in stream.all_columns]])


def real_first(stream: StreamSchema, values: Tensor, most: int) -> Tensor:
    """Bring real tokens to the front, and cut off what is padding in all events.

    Parameters
    ----------
    stream
        Names the columns.
    values
        (events, tokens, columns), padding anywhere.
    most
        Tokens kept of an event, as `MultiScaleClassifier.trim` keeps them.

    Returns
    -------
    (events, longest, columns), zeros behind the real tokens, their order kept; longest: 1 at least.
    """
    pt = stream.all_columns.index("pt") if "pt" in stream.all_columns else None
    # So that there is a token, whether real or not.
    values = nn.functional.pad(values, (0, 0, 0, 1))
    events, tokens = values.shape[:2]
    real = _real(stream, values)
    weight = torch.zeros_like(values[:, :, 0]) if pt is None else values[:, :, pt]
    place = torch.arange(tokens, device=values.device).expand(events, tokens)
    # Of equal pt the first: ONNX sorts so, and torch does on a CPU.
    falling = torch.argsort(torch.where(real, weight, -torch.inf), dim=1, descending=True)
    rank = torch.argsort(falling, dim=1)
    kept = real & (rank < most)
    order = torch.argsort(torch.where(kept, place, tokens + place), dim=1)
    # Not known when the graph is made.
    counts = kept.sum(1)
    longest = counts.max().clamp(min=1).item()
    torch._check(longest >= 1)  # noqa: SLF001 - for torch.export
    torch._check(longest <= tokens)  # noqa: SLF001
    # Whole tokens are fetched, and only those that stay.
    first = tokens * torch.arange(events, device=values.device)
    found = values.flatten(0, 1)[(first[:, None] + order)[:, :longest]]
    return torch.where((place < counts[:, None])[:, :longest, None], found, 0)


def _real(stream: StreamSchema, values: Tensor) -> Tensor:
    """(events, tokens): whether a token is real, as of an npz."""
    if "pt" in stream.all_columns:
        return values[:, :, stream.all_columns.index("pt")] != 0
    return (values != 0).any(2)


class _PaddedSegments:
    """Stands for `Segments`."""

    def __init__(self, real: Tensor) -> None:
        self.real = real

    def sum(self, values: Tensor) -> Tensor:
        return torch.where(self.real, values, 0).sum(1)

    def spread(self, values: Tensor) -> Tensor:
        return values[:, None].expand_as(self.real)


class PaddedColumns(TokenColumns):
    """The columns of a padded stream by name, each (events, tokens).

    Parameters
    ----------
    stream
        Names the columns of the array in the order of `all_columns`.
    values
        (events, tokens, columns), zeros behind the real tokens.
    """

    def __init__(self, stream: StreamSchema, values: Tensor) -> None:
        self.real = _real(stream, values)
        self._columns = dict(zip(stream.all_columns, values.unbind(2), strict=True))
        self._once = set(stream.axis)
        self.computed = {}

    @property
    def segments(self) -> Segments:
        """Sums over the tokens of each event, and back."""
        return _PaddedSegments(self.real)  # type: ignore[return-value]

    def __getitem__(self, name: str) -> Tensor:
        """(events, tokens): the column of that name."""
        if name in self.computed:
            return self.computed[name]
        return self.of_first(name) if name in self._once else self._columns[name]

    def of_first(self, name: str) -> Tensor:
        """(events, tokens): the column's value at the first token of the same event."""
        return self._columns[name][:, :1].expand_as(self.real)


class PaddedNetwork(nn.Module):
    """A network that works on padding, with the weights of the one it is made from."""

    def __init__(self, network: MultiScaleClassifier) -> None:
        super().__init__()
        self.network = network

    def arrays(
        self, streams: Mapping[str, PackedStream], lengths: Mapping[str, int] | None = None
    ) -> dict[str, Tensor]:
        """Pad the network's streams and bring them to its device; each to its longest, else to `lengths`."""
        device = next(self.network.parameters()).device
        lengths = lengths or {}
        return {
            name: torch.from_numpy(
                padded_array(self.network.extractor(name).stream, streams[name], lengths.get(name))
            ).to(device)
            for name in self.network.settings.streams
        }

    def forward(self, arrays: Mapping[str, Tensor]) -> Tensor:
        """Map padded streams, each (events, tokens, columns), to logits (events, classes).

        Zeros stand behind the real tokens; all real tokens are seen, however many.
        """
        logits = _logits(self.network, arrays)
        others = [_logits(cast("MultiScaleClassifier", of), arrays) for of in self.network.others]
        return mean_logits(torch.stack([logits, *others])) if others else logits


def _logits(network: MultiScaleClassifier, arrays: Mapping[str, Tensor]) -> Tensor:
    settings = network.settings
    rows: dict[str, Tensor] = {}
    masks: dict[str, Tensor] = {}
    for name in settings.streams:
        extractor, encoder = network.extractor(name), network.encoder(name)
        columns = PaddedColumns(extractor.stream, arrays[name])
        # The class token is always there.
        seen = nn.functional.pad(columns.real, (1, 0), value=True)
        masks[name] = torch.where(seen, 0.0, -torch.inf)[:, None, None, :]
        tokens = _embed(encoder.embedding, *extractor(columns))
        biased = masks[name]
        if encoder.pairs is not None:
            momenta = cast("Tensor", extractor.momenta(columns))
            there = columns.real[:, :, None]
            known = torch.cat([torch.where(there, momenta, 0), there.float()], dim=2)
            biased = biased + encoder.pairs.padded(nn.functional.pad(known, (0, 0, 1, 0)))
        later = _reads(settings.fusion, name)
        for number, layer in enumerate(encoder.layers, start=1):
            class_only = number == len(encoder.layers) and not later
            mask = biased if number <= BIASED_LAYERS and not class_only else masks[name]
            tokens = _layer(cast("EncoderLayer", layer), tokens, mask, class_only=class_only)
        rows[name] = encoder.norm(tokens)
    for number, (block, of_block) in enumerate(
        zip(network.fusion, settings.fusion, strict=True), start=1
    ):
        name = of_block.query
        rows[name] = _fuse(
            cast("Fusion", block),
            rows[name],
            masks[name],
            [rows[other] for other in of_block.context],
            torch.cat([masks[other] for other in of_block.context], dim=3),
            class_only=not _reads(settings.fusion[number:], name),
        )
    logits: Tensor = network.head([rows[name][:, 0] for name in settings.streams])
    return logits


def _reads(blocks: Sequence[FusionSettings], stream: str) -> bool:
    """Whether some block reads the tokens of a stream, not its class token alone."""
    return any(stream in {block.query, *block.context} for block in blocks)


def _embed(embedding: Embedding, numbers: Tensor, classes: Tensor) -> Tensor:
    """(events, 1 + tokens, width): the class token, then the tokens."""
    weight, bias = embedding.linear.weight, embedding.linear.bias
    first = numbers.shape[2]
    tokens = linear(numbers, weight[:, :first], bias)
    for column, size in enumerate(embedding.sizes):
        # What the linear layer makes of a one-hot vector is a column of its weights.
        tokens = tokens + weight[:, first : first + size].T[classes[:, :, column]]
        first += size
    if embedding.positions is not None:
        place = torch.arange(tokens.shape[1], device=tokens.device)
        tokens = tokens + embedding.positions(
            place.clamp(max=embedding.positions.num_embeddings - 1)
        )
    class_token = (weight[:, -1] + bias).expand(tokens.shape[0], 1, -1)
    return torch.cat([class_token, tokens], dim=1)


def _heads(rows: Tensor, heads: int) -> Tensor:
    """(events, heads, tokens, d) of (events, tokens, heads * d)."""
    return rows.reshape(*rows.shape[:2], heads, -1).transpose(1, 2)


def _attend(query: Tensor, key_value: Tensor, mask: Tensor, heads: int) -> Tensor:
    key, value = key_value.chunk(2, dim=2)
    found = scaled_dot_product_attention(
        _heads(query, heads), _heads(key, heads), _heads(value, heads), attn_mask=mask
    )
    # Put so, torch.export needs not know how many numbers there are.
    return torch.cat(found.unbind(1), dim=2)


def _layer(layer: EncoderLayer, tokens: Tensor, mask: Tensor, *, class_only: bool) -> Tensor:
    attention, normed = layer.attention, layer.norm_attention(tokens)
    width = tokens.shape[2]
    weight, bias = attention.query_key_value.weight, attention.query_key_value.bias
    if class_only:
        tokens = tokens[:, :1]
    query = linear(normed[:, : 1 if class_only else None], weight[:width], bias[:width])
    key_value = linear(normed, weight[width:], bias[width:])
    tokens = tokens + layer.dropout(attention.out(_attend(query, key_value, mask, attention.heads)))
    return tokens + layer.dropout(layer.feed_forward(layer.norm_feed_forward(tokens)))


def _fuse(
    block: Fusion,
    tokens: Tensor,
    mask: Tensor,
    contexts: Sequence[Tensor],
    context_mask: Tensor,
    *,
    class_only: bool,
) -> Tensor:
    parts = zip(block.project, block.stream_embedding, contexts, strict=True)
    context = torch.cat([project(rows) + embedding for project, embedding, rows in parts], dim=1)
    for number, module in enumerate(block.layers, start=1):
        layer = cast("FusionLayer", module)
        across = layer.cross_attention
        found = _attend(
            across.query(layer.norm(tokens)), across.key_value(context), context_mask, across.heads
        )
        tokens = tokens + layer.dropout(across.out(found))
        only = class_only and number == len(block.layers)
        tokens = _layer(layer.encoder_layer, tokens, mask, class_only=only)
    return block.norm(tokens)
