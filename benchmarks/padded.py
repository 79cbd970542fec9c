"""Our own network with naive padding: every event takes as many tokens as the longest may have.

The weights and the scores are those of the network (tests/model/test_padding.py holds this); only where
the arithmetic is done differs: linear layers, norms and attention work on padding too.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from manyscale.events.ragged import PackedStream
from manyscale.features.columns import StreamBatch
from manyscale.model.classifier import MultiScaleClassifier
from manyscale.model.layout import AttentionLayout, Layout
from manyscale.model.taps import Place

__all__ = ["PaddedBatch", "PaddedNetwork", "pad"]


class PaddedStream(NamedTuple):
    """A stream filled up with zeros, and (events, 1, 1, 1 + length): 0 for real tokens, else -inf."""

    batch: StreamBatch
    mask: Tensor


PaddedBatch = Mapping[str, PaddedStream]


def pad(
    streams: Mapping[str, PackedStream],
    lengths: Mapping[str, int],
    device: torch.device | str = "cpu",
) -> PaddedBatch:
    """Fill each stream up to its length with zeros, and say which keys are padding."""
    padded = {}
    for name, length in lengths.items():
        stream = streams[name]
        filled = PackedStream(
            stream.padded(length).reshape(-1, stream.values.shape[1]),
            np.full(len(stream), length),
            stream.axis,
        )
        empty = np.arange(1 + length) > stream.counts[:, None]
        mask = torch.from_numpy(np.where(empty, np.float32(-np.inf), np.float32(0)))
        padded[name] = PaddedStream(
            StreamBatch.of(filled, device), mask[:, None, None, :].to(device)
        )
    return padded


class _Rectangle(NamedTuple):
    """Rows of events of one length: padded by a change of shape. Stands for `Padding`."""

    events: int
    length: int

    def pad(self, rows: Tensor) -> list[Tensor]:
        return [rows.view(self.events, self.length, *rows.shape[1:])]

    def unpad(self, padded: Sequence[Tensor]) -> Tensor:
        return padded[0].flatten(0, 1)


class _Contexts(NamedTuple):
    """Several rectangles side by side: what stands for `Padding` of all keys."""

    parts: tuple[_Rectangle, ...]

    def pad(self, rows: Tensor) -> list[Tensor]:
        split = torch.split(rows, [part.events * part.length for part in self.parts])
        padded = [of.pad(part)[0] for of, part in zip(self.parts, split, strict=True)]
        return [torch.cat(padded, dim=1)]


class _Attention(NamedTuple):
    """Stands for `AttentionLayout` and for its `padded`."""

    queries: _Rectangle
    keys: _Rectangle | _Contexts
    masks: tuple[Tensor, ...]

    @property
    def padded(self) -> "_Attention":
        return self


class _PaddedLayout(Layout):
    def __init__(self, stream: PaddedStream) -> None:
        super().__init__(stream.batch.counts, stream.batch.host_counts)
        self.mask = stream.mask
        self.rectangle = _Rectangle(self.events, self.rows // self.events)
        self.to_itself = _Attention(self.rectangle, self.rectangle, (stream.mask,))  # type: ignore[assignment]

    def to_contexts(self, contexts: Sequence[Layout]) -> AttentionLayout:
        padded = [context for context in contexts if isinstance(context, _PaddedLayout)]
        keys = _Contexts(tuple(context.rectangle for context in padded))
        mask = torch.cat([context.mask for context in padded], dim=3)
        return _Attention(self.rectangle, keys, (mask,))  # type: ignore[return-value]


class PaddedNetwork(nn.Module):
    """A network that works on padding, with the weights of the one it is made from."""

    def __init__(self, network: MultiScaleClassifier) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: PaddedBatch) -> Tensor:
        """Map padded streams to logits (events, classes)."""
        network, settings = self.network, self.network.settings
        layouts = {name: _PaddedLayout(batch[name]) for name in settings.streams}
        rows = {}
        for name, layout in layouts.items():
            extractor, columns = network.extractor(name), batch[name].batch
            momenta = extractor.momenta(columns)
            rows[name] = network.encoder(name)(
                *extractor(columns), layout, stream=name, momenta=momenta, class_only=False
            )
        for block, of_block in zip(network.fusion, settings.fusion, strict=True):
            name, context = of_block.query, of_block.context
            contexts = [(rows[other], layouts[other]) for other in context]
            rows[name] = block(
                rows[name], layouts[name], contexts, place=Place(name), class_only=False
            )
        logits: Tensor = network.head([layouts[n].class_rows(rows[n]) for n in settings.streams])
        return logits
