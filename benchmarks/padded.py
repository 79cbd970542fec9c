"""Our own network with naive padding: every event takes as many slots as the longest may have.

The weights and the scores are those of the network (tests/model/test_padding.py holds this); only
where the arithmetic is done differs: linear layers, norms and attention work on empty slots too.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from manyscale.data.packing import PackedStream
from manyscale.features.columns import StreamBatch
from manyscale.model.attention import CrossAttention, SelfAttention, attend
from manyscale.model.classifier import MultiScaleClassifier
from manyscale.model.layers import EncoderLayer
from manyscale.model.tokens import Layout

__all__ = ["PaddedBatch", "PaddedNetwork", "pad"]

PaddedBatch = Mapping[str, tuple[StreamBatch, Tensor]]


def pad(streams: Mapping[str, PackedStream], lengths: Mapping[str, int]) -> PaddedBatch:
    """Fill each stream up to its length with zeros, and say which keys are to be hidden.

    Returns
    -------
    Each stream with (events * length) tokens, and (events, 1, 1, 1 + length): 0 for the class token
    and the real tokens, -inf for the empty slots.
    """
    return {name: _pad(streams[name], length) for name, length in lengths.items()}


def _pad(stream: PackedStream, length: int) -> tuple[StreamBatch, Tensor]:
    filled = PackedStream(
        stream.padded(length).reshape(-1, stream.values.shape[1]),
        np.full(len(stream), length),
        stream.axis,
    )
    empty = np.arange(1 + length) > stream.counts[:, None]
    hidden = np.where(empty, np.float32(-np.inf), np.float32(0))
    return StreamBatch.of(filled), torch.from_numpy(hidden)[:, None, None, :]


class PaddedNetwork(nn.Module):
    """A network that computes on padded slots, with the weights of the one it is made from."""

    def __init__(self, network: MultiScaleClassifier) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: PaddedBatch) -> Tensor:
        """Map padded streams to logits (events, classes)."""
        network, settings = self.network, self.network.settings
        tokens = {name: self._encoded(name, *batch[name]) for name in settings.streams}
        hidden = {name: of_stream for name, (_, of_stream) in batch.items()}
        blocks: Any = network.fusion
        for block, of_block in zip(blocks, settings.fusion, strict=True):
            name, context = of_block.query, of_block.context
            together = [(tokens[other], hidden[other]) for other in context]
            tokens[name] = _fused(block, tokens[name], hidden[name], together)
        logits: Tensor = network.head([tokens[name][:, 0] for name in settings.streams])
        return logits

    def _encoded(self, name: str, batch: StreamBatch, hidden: Tensor) -> Tensor:
        """Encoded slots of a stream, (events, 1 + length, width)."""
        encoder = self.network.encoder(name)
        events = len(batch.counts)
        rows = encoder.embedding(*self.network.extractor(name)(batch), Layout(batch.host_counts))
        classes, others = rows[:events, None], rows[events:].view(events, -1, rows.shape[1])
        tokens = torch.cat([classes, others], dim=1)
        layers: Any = encoder.layers
        for layer in layers:
            tokens = _layer(layer, tokens, hidden)
        return encoder.norm(tokens)


def _fused(
    block: Any,  # noqa: ANN401 - a Fusion, whose parts torch does not type
    tokens: Tensor,
    hidden: Tensor,
    contexts: Sequence[tuple[Tensor, Tensor]],
) -> Tensor:
    """Let the slots of one stream ask those of others."""
    marked = [
        bring(slots) + mark
        for bring, mark, (slots, _) in zip(block.bring, block.marks, contexts, strict=True)
    ]
    context = torch.cat(marked, dim=1)
    hidden_context = torch.cat([of_context for _, of_context in contexts], dim=3)
    for layer in block.layers:
        found = _cross(layer.cross_attention, layer.norm(tokens), context, hidden_context)
        tokens = _layer(layer.encoder_layer, tokens + layer.dropout(found), hidden)
    normed: Tensor = block.norm(tokens)
    return normed


def _layer(layer: EncoderLayer, tokens: Tensor, hidden: Tensor) -> Tensor:
    seen = layer.norm_attention(tokens)
    tokens = tokens + layer.dropout(_itself(layer.attention, seen, hidden))
    return tokens + layer.dropout(layer.feed_forward(layer.norm_feed_forward(tokens)))


def _itself(attention: SelfAttention, tokens: Tensor, hidden: Tensor) -> Tensor:
    query, key, value = attention.query_key_value(tokens).chunk(3, dim=2)
    return attention.out(_attention(query, key, value, hidden, attention.heads))


def _cross(attention: CrossAttention, tokens: Tensor, context: Tensor, hidden: Tensor) -> Tensor:
    key, value = attention.key_value(context).chunk(2, dim=2)
    return attention.out(_attention(attention.query(tokens), key, value, hidden, attention.heads))


def _attention(query: Tensor, key: Tensor, value: Tensor, hidden: Tensor, heads: int) -> Tensor:
    split = [part.view(*part.shape[:2], heads, -1).transpose(1, 2) for part in (query, key, value)]
    return attend(split[0], split[1], split[2], hidden)
