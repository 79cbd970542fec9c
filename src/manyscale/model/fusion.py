"""Fusion: the tokens of one stream query the tokens of others by cross-attention."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from manyscale.model.attention import CrossAttention
from manyscale.model.encoder import EncoderLayer
from manyscale.model.tokens import Layout, Pattern
from manyscale.settings import Settings, setting

__all__ = ["Fusion", "FusionSettings"]


class FusionSettings(Settings):
    """One cross-attention block: which stream asks, and which streams answer."""

    query: str = setting(..., "stream whose tokens ask")
    context: tuple[str, ...] = setting(
        ..., "streams whose tokens answer, in one softmax over all of them", min_length=1
    )
    layers: int = setting(1, "cross-attention layers", ge=1, le=100)
    heads: int = setting(2, "attention heads", ge=1, le=256)
    dropout: float = setting(0.0, "dropout in the layers", ge=0, lt=1)


class FusionLayer(nn.Module):
    """The query's tokens look at the contexts, then at each other."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.cross_attention = CrossAttention(width, heads)
        self.dropout = nn.Dropout(dropout)
        self.encoder_layer = EncoderLayer(width, heads, dropout)

    def forward(
        self,
        tokens: Tensor,
        layout: Layout,
        context: Tensor,
        pattern: Pattern,
        *,
        class_only: bool,
    ) -> Tensor:
        """Map query rows (events + tokens, width) to rows; with `class_only` to the class rows."""
        found = self.cross_attention(self.norm(tokens), context, pattern)
        tokens = tokens + self.dropout(found)
        return self.encoder_layer(tokens, layout, class_only=class_only)


class Fusion(nn.Module):
    """One block of cross-attention layers.

    Each context stream is marked by a learned embedding, so that the query knows who answers, and
    brought to the query's width where its own differs.
    """

    def __init__(self, settings: FusionSettings, width: int, context_widths: Sequence[int]) -> None:
        super().__init__()
        self.bring = nn.ModuleList(
            nn.Identity() if other == width else nn.Linear(other, width) for other in context_widths
        )
        self.marks = nn.Parameter(torch.randn(len(context_widths), width) * 0.02)
        self.layers = nn.ModuleList(
            FusionLayer(width, settings.heads, settings.dropout) for _ in range(settings.layers)
        )
        self.norm = nn.LayerNorm(width, elementwise_affine=False)

    def forward(
        self,
        tokens: Tensor,
        layout: Layout,
        contexts: Sequence[tuple[Tensor, Layout]],
        *,
        class_only: bool,
    ) -> Tensor:
        """Map query rows (events + tokens, width) to rows; with `class_only` to the class rows."""
        marked = [
            bring(rows) + mark
            for bring, mark, (rows, _) in zip(self.bring, self.marks, contexts, strict=True)
        ]
        context = torch.cat(marked)
        pattern = layout.towards([place for _, place in contexts])
        last = len(self.layers) - 1
        for number, layer in enumerate(self.layers):
            only = class_only and number == last
            tokens = layer(tokens, layout, context, pattern, class_only=only)
        return self.norm(tokens)
