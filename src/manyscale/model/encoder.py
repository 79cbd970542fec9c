"""The encoder of one stream: embedding of its features, class token, self-attention layers."""

import torch
from pydantic import model_validator
from torch import Tensor, nn

from manyscale.features.extractor import FeatureExtractor
from manyscale.features.jet_frame import FrameSettings
from manyscale.model.attention import FeedForward, SelfAttention
from manyscale.model.tokens import Layout
from manyscale.settings import Settings, setting

__all__ = ["Encoder", "EncoderLayer", "StreamSettings"]


class StreamSettings(Settings):
    """How one stream is seen and encoded."""

    features: tuple[str, ...] | None = setting(
        None, "features the network sees; null: all that the columns allow"
    )
    frame: FrameSettings | None = setting(
        None,
        "jet frame of delta_eta, delta_phi, delta_r: {centre: axis or pt, rotate: none, principal "
        "or second, flip: true or false}; null: from the jet's axis, as stored",
    )
    layers: int = setting(2, "self-attention layers", ge=0, le=100)
    width: int = setting(32, "width of a token; a multiple of heads", ge=1, le=4096)
    heads: int = setting(2, "attention heads", ge=1, le=256)
    max_tokens: int = setting(
        128, "most tokens an event keeps: those with the highest pt, else the first", ge=1, le=10000
    )
    encoder: str | None = setting(
        None, "streams with the same encoder name share its weights; null: one of its own"
    )
    positions: bool = setting(
        False, "add a learned embedding of the token's place, where order carries meaning"
    )
    dropout: float = setting(0.0, "dropout in the layers", ge=0, lt=1)

    @model_validator(mode="after")
    def _heads_fit(self) -> "StreamSettings":
        if self.width % self.heads:
            raise ValueError(
                f"heads is {self.heads}; the width {self.width} is not a multiple of it"
            )
        return self


class Embedding(nn.Module):
    """Features to the first vectors: one linear map of numbers, classes and the mark of a class token.

    A class counts as so many inputs as it has values, of which one is 1. The class token of an event
    is learned and always there, so that an event may have no token at all.
    """

    def __init__(self, extractor: FeatureExtractor, settings: StreamSettings) -> None:
        super().__init__()
        self.sizes = tuple(extractor.class_sizes[name] for name in extractor.classes)
        inputs = len(extractor.numbers) + sum(self.sizes) + 1
        self.linear = nn.Linear(inputs, settings.width)
        self.places = (
            nn.Embedding(settings.max_tokens, settings.width) if settings.positions else None
        )

    def forward(self, numbers: Tensor, classes: Tensor, layout: Layout) -> Tensor:
        """Map numbers (tokens, n) and classes (tokens, m) to rows (events + tokens, width)."""
        events, plain = layout.events, numbers.shape[1]
        inputs = numbers.new_zeros(events + len(numbers), self.linear.in_features)
        inputs[:events, -1] = 1
        inputs[events:, :plain] = numbers
        for column, size in enumerate(self.sizes):
            inputs[events:, plain : plain + size].scatter_(1, classes[:, column : column + 1], 1)
            plain += size
        rows: Tensor = self.linear(inputs)
        if self.places is None:
            return rows
        return torch.cat([rows[:events], rows[events:] + self.places(layout.place)])


class EncoderLayer(nn.Module):
    """Pre-norm self-attention and feed-forward, each beside a residual path.

    References
    ----------
    Xiong et al., arXiv:2002.04745 (pre-norm).
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width, elementwise_affine=False)
        self.attention = SelfAttention(width, heads)
        self.norm_feed_forward = nn.LayerNorm(width, elementwise_affine=False)
        self.feed_forward = FeedForward(width, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, layout: Layout, *, class_only: bool = False) -> Tensor:
        """Map rows (events + tokens, width) to rows; with `class_only` to the class rows alone."""
        seen = self.norm_attention(tokens)
        tokens = tokens[: layout.events] if class_only else tokens
        tokens = tokens + self.dropout(self.attention(seen, layout, class_only=class_only))
        return tokens + self.dropout(self.feed_forward(self.norm_feed_forward(tokens)))


class Encoder(nn.Module):
    """Features of a stream to encoded tokens, its class token among them."""

    def __init__(self, extractor: FeatureExtractor, settings: StreamSettings) -> None:
        super().__init__()
        self.embedding = Embedding(extractor, settings)
        self.layers = nn.ModuleList(
            EncoderLayer(settings.width, settings.heads, settings.dropout)
            for _ in range(settings.layers)
        )
        self.norm = nn.LayerNorm(settings.width, elementwise_affine=False)

    def forward(
        self, numbers: Tensor, classes: Tensor, layout: Layout, *, class_only: bool
    ) -> Tensor:
        """Encode features to rows (events + tokens, width); with `class_only` the class rows alone.

        Where nothing looks at the other tokens afterwards, the last layer need only work out the
        class row: the result is the same, the cost of that layer a fraction.
        """
        tokens = self.embedding(numbers, classes, layout)
        last = len(self.layers) - 1
        for number, layer in enumerate(self.layers):
            tokens = layer(tokens, layout, class_only=class_only and number == last)
        return self.norm(tokens[: layout.events] if class_only else tokens)
