"""Our own network with naive padding: every event takes as many tokens as the longest may have.

The weights and the scores are those of the network (tests/model/test_padding.py holds this); only
where the arithmetic is done differs: linear layers, norms and attention work on padding too.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from manyscale.data.packing import PackedStream
from manyscale.features.columns import StreamBatch
from manyscale.model.classifier import MultiScaleClassifier
from manyscale.model.layout import AttentionLayout, Buckets, Layout, Padding
from manyscale.model.taps import Place

__all__ = ["PaddedBatch", "PaddedNetwork", "pad"]

#: Each stream filled up with zeros, and (events * length,): which of its tokens are real.
PaddedBatch = Mapping[str, tuple[StreamBatch, Tensor]]


def pad(streams: Mapping[str, PackedStream], lengths: Mapping[str, int]) -> PaddedBatch:
    """Fill each stream up to its length with zeros."""
    padded = {}
    for name, length in lengths.items():
        stream = streams[name]
        values = stream.padded(length).reshape(-1, stream.values.shape[1])
        filled = PackedStream(values, np.full(len(stream), length), stream.axis)
        real = torch.from_numpy(np.arange(length) < stream.counts[:, None])
        padded[name] = StreamBatch.of(filled), real.flatten()
    return padded


class PaddedLayout(Layout):
    """Rows of events that are all of one length: only attention knows which of them are padding."""

    def __init__(self, counts: NDArray[np.int64], real: Tensor) -> None:
        super().__init__(counts, real.device)
        self.real = torch.cat([real.new_ones(len(counts)), real])

    @cached_property
    def _buckets(self) -> Buckets:
        return Buckets(np.arange(self.events), (self.events,), (True,))

    @cached_property
    def to_itself(self) -> AttentionLayout:
        """All rows attend to the real rows of their event."""
        padding = Padding.of(self.event, self._buckets, self.device)
        return self._masked(padding, padding, self.real)

    def to_contexts(self, contexts: Sequence[Layout]) -> AttentionLayout:
        """All rows attend to the real rows of their event in other streams."""
        event = np.concatenate([context.event for context in contexts])
        real = torch.cat(
            [context.real for context in contexts if isinstance(context, PaddedLayout)]
        )
        queries, keys = (Padding.of(of, self._buckets, self.device) for of in (self.event, event))
        return self._masked(queries, keys, real)

    def _masked(self, queries: Padding, keys: Padding, real: Tensor) -> AttentionLayout:
        hidden = ~real[keys.pad_index].view(self.events, 1, 1, -1)
        return AttentionLayout(queries, keys, (hidden * -30_000.0,))


class PaddedNetwork(nn.Module):
    """A network that works on padding, with the weights of the one it is made from."""

    def __init__(self, network: MultiScaleClassifier) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: PaddedBatch) -> Tensor:
        """Map padded streams to logits (events, classes)."""
        network, settings = self.network, self.network.settings
        layouts, rows = {}, {}
        for name in settings.streams:
            stream, real = batch[name]
            layouts[name] = PaddedLayout(stream.host_counts, real)
            features = network.extractor(name)(stream)
            rows[name] = network.encoder(name)(
                *features, layouts[name], stream=name, class_only=False
            )
        blocks: Any = network.fusion
        for block, of_block in zip(blocks, settings.fusion, strict=True):
            name = of_block.query
            contexts = [(rows[other], layouts[other]) for other in of_block.context]
            rows[name] = block(
                rows[name], layouts[name], contexts, place=Place(name), class_only=False
            )
        pooled = [rows[name][: layout.events] for name, layout in layouts.items()]
        logits: Tensor = network.head(pooled)
        return logits
