"""The blocks of the network with their settings: encoder of a stream, fusion of streams, head."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from manyscale.features.extractor import FeatureExtractor
from manyscale.features.jet_frame import FrameSettings
from manyscale.model.attention import CrossAttention, FeedForward, PairBias, SelfAttention
from manyscale.model.layout import AttentionLayout, Layout
from manyscale.model.taps import NO_TAPS, Place, Taps
from manyscale.settings import Settings, setting

__all__ = [
    "BIASED_LAYERS",
    "Encoder",
    "EncoderLayer",
    "Fusion",
    "FusionSettings",
    "Head",
    "HeadSettings",
    "StreamSettings",
    "without_onednn",
]

#: Layers of an encoder whose attention pairs steer: of three, the first alone gave the same AUC
#: (docs/performance.md), and on a GPU the others take the faster kernel.
BIASED_LAYERS = 2
# What a preset without a number means: see `presets.resolve`.
_IF_NULL = "null: 0.1, in model-1 none"


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
        False, "add a learned embedding of the token's position, where order carries meaning"
    )
    pair_bias: bool = setting(
        False, "let distance, kT, z and mass of each pair of tokens steer their attention"
    )
    dropout: float | None = setting(None, f"dropout in the layers; {_IF_NULL}", ge=0, lt=1)

    @model_validator(mode="after")
    def _heads_fit(self) -> "StreamSettings":
        if self.width % self.heads:
            raise ValueError(
                f"heads is {self.heads}; the width {self.width} is not a multiple of it"
            )
        return self

    def may_share_encoder(self, other: "StreamSettings") -> bool:
        """Whether all agree but features, which are compared as resolved, frame and encoder."""
        of_each = {"features": None, "frame": None, "encoder": None}
        return self.model_copy(update=of_each) == other.model_copy(update=of_each)


class FusionSettings(Settings):
    """One cross-attention block: which stream queries, and which streams give keys and values."""

    query: str = setting(..., "stream whose tokens query")
    context: tuple[str, ...] = setting(
        ..., "streams whose tokens are attended to, in one softmax over all of them", min_length=1
    )
    layers: int = setting(1, "cross-attention layers", ge=1, le=100)
    heads: int = setting(2, "attention heads", ge=1, le=256)
    dropout: float | None = setting(None, f"dropout in the layers; {_IF_NULL}", ge=0, lt=1)


class HeadSettings(Settings):
    """The layers between the pooled class tokens and the scores."""

    units: tuple[Annotated[int, Field(ge=1)], ...] = setting((64,), "widths of the hidden layers")
    dropout: float | None = setting(
        None, f"dropout after each hidden layer; {_IF_NULL}", ge=0, lt=1
    )


class Embedding(nn.Module):
    """Features to the first vectors: one linear map of numbers, one-hot classes and a class-token flag.

    The class token of an event is learned and always there, so that an event may have no token at all.
    """

    def __init__(self, extractor: FeatureExtractor, settings: StreamSettings) -> None:
        super().__init__()
        self.sizes = tuple(extractor.class_sizes[name] for name in extractor.classes)
        inputs = len(extractor.numbers) + sum(self.sizes) + 1
        self.linear = nn.Linear(inputs, settings.width)
        self.positions = (
            nn.Embedding(settings.max_tokens, settings.width) if settings.positions else None
        )

    def forward(
        self,
        numbers: Tensor,
        classes: Tensor,
        layout: Layout,
        *,
        stream: str,
        taps: Taps = NO_TAPS,
    ) -> Tensor:
        """Map numbers (tokens, n) and classes (tokens, m) to rows (rows, width)."""
        first = numbers.shape[1]
        # Of all tokens, below one row for every class token: nothing but its flag.
        inputs = numbers.new_zeros(1 + len(numbers), self.linear.in_features)
        inputs[0, -1] = 1
        inputs[1:, :first] = numbers
        for column, size in enumerate(self.sizes):
            inputs[1:, first : first + size].scatter_(1, classes[:, column : column + 1], 1)
            first += size
        inputs = inputs.index_select(0, layout.token_of_row)
        rows: Tensor = self.linear(taps.inputs(stream, inputs, layout))
        if self.positions is not None:
            rows = rows.index_add(0, layout.token_rows, self.positions(layout.index))
        return rows


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

    def forward(
        self,
        tokens: Tensor,
        layout: Layout,
        *,
        place: Place,
        bias: Sequence[Tensor] | None = None,
        taps: Taps = NO_TAPS,
        class_only: bool = False,
    ) -> Tensor:
        """Map rows (rows, width) to rows; with `class_only` to the class rows alone.

        `place` says where the layer is, for the taps; `bias` see `attend`.
        """
        own = place._replace(part="self-attention", context=(), heads=self.attention.heads)
        tap = taps.weights(own)
        normed = self.norm_attention(tokens)
        tokens = layout.class_rows(tokens) if class_only else tokens
        tokens = tokens + self.dropout(
            self.attention(normed, layout, class_only=class_only, bias=bias, tap=tap)
        )
        tokens = tokens + self.dropout(self.feed_forward(self.norm_feed_forward(tokens)))
        return taps.rows(place, tokens, layout)


class Encoder(nn.Module):
    """Features of a stream to encoded tokens, its class token among them."""

    def __init__(self, extractor: FeatureExtractor, settings: StreamSettings) -> None:
        super().__init__()
        self.embedding = Embedding(extractor, settings)
        self.layers = nn.ModuleList(
            EncoderLayer(settings.width, settings.heads, settings.dropout or 0.0)
            for _ in range(settings.layers)
        )
        self.norm = nn.LayerNorm(settings.width, elementwise_affine=False)
        self.pairs = PairBias(settings.heads) if settings.pair_bias else None

    def forward(
        self,
        numbers: Tensor,
        classes: Tensor,
        layout: Layout,
        *,
        stream: str,
        momenta: Tensor | None = None,
        taps: Taps = NO_TAPS,
        class_only: bool,
    ) -> Tensor:
        """Encode features to rows (rows, width); with `class_only` the class rows alone.

        Where nothing attends to the other tokens afterwards, the last layer need only work out the
        class row: the result is the same, the cost of that layer a fraction. `momenta` (tokens, 4) are
        for the pair biases, see `FeatureExtractor.momenta`.
        """
        bias = None
        if self.pairs is not None:
            assert momenta is not None  # noqa: S101 - the extractor was made for pairs, too
            bias = self.pairs(momenta, layout)
        tokens = self.embedding(numbers, classes, layout, stream=stream, taps=taps)
        tokens = taps.rows(Place(stream, part="embedding"), tokens, layout)
        last = len(self.layers)
        for number, layer in enumerate(self.layers, start=1):
            place = Place(stream, layer=number)
            only = class_only and number == last
            own = bias if number <= BIASED_LAYERS else None
            tokens = layer(tokens, layout, place=place, bias=own, taps=taps, class_only=only)
        tokens = self.norm(tokens)
        return taps.rows(Place(stream, part="output"), tokens, layout)


class FusionLayer(nn.Module):
    """The query's tokens attend to the contexts, then to each other."""

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
        to_context: AttentionLayout,
        *,
        place: Place,
        taps: Taps = NO_TAPS,
        class_only: bool,
    ) -> Tensor:
        """Map query rows (rows, width) to rows; with `class_only` to the class rows."""
        across = place._replace(part="cross-attention", heads=self.cross_attention.heads)
        found = self.cross_attention(
            self.norm(tokens), context, to_context, tap=taps.weights(across)
        )
        tokens = taps.rows(across, tokens + self.dropout(found), layout)
        return self.encoder_layer(tokens, layout, place=place, taps=taps, class_only=class_only)


class Fusion(nn.Module):
    """One block of cross-attention layers.

    Each context stream gets a learned stream embedding, so that the query can tell the contexts apart,
    and is brought to the query's width where its own differs.
    """

    def __init__(self, settings: FusionSettings, width: int, context_widths: Sequence[int]) -> None:
        super().__init__()
        self.project = nn.ModuleList(
            nn.Identity() if other == width else nn.Linear(other, width) for other in context_widths
        )
        self.stream_embedding = nn.Parameter(torch.randn(len(context_widths), width) * 0.02)
        self.layers = nn.ModuleList(
            FusionLayer(width, settings.heads, settings.dropout or 0.0)
            for _ in range(settings.layers)
        )
        self.norm = nn.LayerNorm(width, elementwise_affine=False)

    def forward(
        self,
        tokens: Tensor,
        layout: Layout,
        contexts: Sequence[tuple[Tensor, Layout]],
        *,
        place: Place,
        taps: Taps = NO_TAPS,
        class_only: bool,
    ) -> Tensor:
        """Map query rows (rows, width) to rows; with `class_only` to the class rows.

        `place` says stream, context and number of the block, for the taps.
        """
        context = torch.cat(
            [
                project(rows) + embedding
                for project, embedding, (rows, _) in zip(
                    self.project, self.stream_embedding, contexts, strict=True
                )
            ]
        )
        to_context = layout.to_contexts([context_layout for _, context_layout in contexts])
        last = len(self.layers)
        for number, layer in enumerate(self.layers, start=1):
            tokens = layer(
                tokens,
                layout,
                context,
                to_context,
                place=place._replace(layer=number),
                taps=taps,
                class_only=class_only and number == last,
            )
        return taps.rows(place._replace(part="output"), self.norm(tokens), layout)


class Head(nn.Module):
    """The class tokens of all streams, side by side, to one logit a class."""

    def __init__(self, widths: Sequence[int], classes: int, settings: HeadSettings) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = sum(widths)
        for units in settings.units:
            layers += [nn.Linear(width, units), nn.GELU(), nn.Dropout(settings.dropout or 0.0)]
            width = units
        self.layers = nn.Sequential(*layers, nn.Linear(width, classes))

    def forward(self, pooled: Sequence[Tensor]) -> Tensor:
        """Map the class tokens, each (events, width of its stream), to logits (events, classes)."""
        logits: Tensor = self.layers(torch.cat(list(pooled), dim=1))
        return logits


@contextmanager
def without_onednn() -> Iterator[None]:
    """Let torch's own kernels do the arithmetic on a CPU.

    oneDNN, which does GELU, makes one for each shape that it meets and keeps a thousand: where each batch
    is of another shape memory grows for long, and small batches wait.
    """
    before, *_ = torch.backends.mkldnn.set_flags(_enabled=False, _fp32_precision=None)
    try:
        yield
    finally:
        torch.backends.mkldnn.set_flags(_enabled=before, _fp32_precision=None)
