"""The multi-scale classifier: any number of streams, any list of fusion blocks, one code path."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from manyscale.errors import CardError
from manyscale.events.ragged import PackedStream
from manyscale.features.columns import StreamBatch
from manyscale.features.extractor import FeatureExtractor
from manyscale.model.layers import (
    Encoder,
    Fusion,
    FusionSettings,
    Head,
    HeadSettings,
    StreamSettings,
)
from manyscale.model.layout import Layout
from manyscale.model.taps import NO_TAPS, Place, Taps
from manyscale.schema import Schema
from manyscale.settings import Settings, setting

__all__ = ["ModelSettings", "MultiScaleClassifier", "mean_logits"]


class ModelSettings(Settings):
    """The whole architecture, nothing left open: what a preset and a card resolve to."""

    streams: dict[str, StreamSettings] = setting(..., "settings of each stream", min_length=1)
    fusion: tuple[FusionSettings, ...] = setting((), "cross-attention blocks, in order")
    head: HeadSettings = setting(HeadSettings(), "the layers after the pooling")
    members: int = setting(1, "networks of an ensemble, alike but for their weights", ge=1)


class MultiScaleClassifier(nn.Module):
    """Token streams to class scores.

    Features of each stream, its encoder, the fusion blocks in their order, the class tokens of all
    streams side by side, the head. Of an ensemble this is the first member, and it holds the others:
    what comes out is the mean of their probabilities.

    Parameters
    ----------
    settings
        The architecture; see `ModelSettings`.
    schema
        Names the columns of each stream.
    classes
        Number of classes.

    Raises
    ------
    CardError
        Where streams, features, widths and heads do not fit together; the message names the key.

    References
    ----------
    The architecture generalises arXiv:2401.00452 from two and three streams to any number.
    """

    def __init__(self, settings: ModelSettings, schema: Schema, classes: int = 2) -> None:
        super().__init__()
        _check(settings)
        self.settings = settings
        self.encoder_of = {
            name: stream.encoder or name for name, stream in settings.streams.items()
        }
        self.extractors = nn.ModuleDict()
        self.encoders = nn.ModuleDict()
        for name, stream in settings.streams.items():
            extractor = FeatureExtractor.for_stream(
                schema.stream(name), stream.features, stream.frame, pairs=stream.pair_bias
            )
            self.extractors[_key(name)] = extractor
            shared = _key(self.encoder_of[name])
            if shared not in self.encoders:
                self.encoders[shared] = Encoder(extractor, stream)
        # Features may be left to the columns, so that only here it is known what they are.
        first: dict[str, str] = {}
        for name, shared in self.encoder_of.items():
            other = first.setdefault(shared, name)
            if self.extractor(name).names != self.extractor(other).names:
                raise CardError(
                    f"streams '{other}' and '{name}' share the encoder '{shared}' but differ in "
                    f"their features: give both the same features, or each its own encoder"
                )
        widths = {name: stream.width for name, stream in settings.streams.items()}
        self.fusion = nn.ModuleList(
            Fusion(block, widths[block.query], [widths[name] for name in block.context])
            for block in settings.fusion
        )
        self.classes = classes
        self.head = Head(list(widths.values()), classes, settings.head)
        self._needed = _tokens_needed(settings)
        alone = settings.model_copy(update={"members": 1})
        self.others = nn.ModuleList(
            MultiScaleClassifier(alone, schema, classes) for _ in range(settings.members - 1)
        )

    def join(self, others: "Sequence[MultiScaleClassifier]") -> None:
        """Make an ensemble of this network and others of the same settings; of none: it stays alone."""
        self.settings = self.settings.model_copy(update={"members": 1 + len(others)})
        self.others = nn.ModuleList(others)

    def extractor(self, stream: str) -> FeatureExtractor:
        """The feature module of a stream."""
        module = self.extractors[_key(stream)]
        assert isinstance(module, FeatureExtractor)  # noqa: S101 - for the type checker
        return module

    def encoder(self, stream: str) -> Encoder:
        """The encoder of a stream, which it may share with others."""
        module = self.encoders[_key(self.encoder_of[stream])]
        assert isinstance(module, Encoder)  # noqa: S101 - for the type checker
        return module

    def trim(self, streams: Mapping[str, PackedStream]) -> dict[str, PackedStream]:
        """Take the streams that the network uses, each event cut to `max_tokens` of the highest pt."""
        trimmed = {}
        for name, stream in self.settings.streams.items():
            columns = self.extractor(name).stream.columns
            by = columns.index("pt") if "pt" in columns else None
            trimmed[name] = streams[name].leading(stream.max_tokens, by)
        return trimmed

    def forward(self, batch: Mapping[str, StreamBatch], taps: Taps = NO_TAPS) -> Tensor:
        """Map the streams of a batch to logits (events, classes); `taps` may look into it.

        They look into the first member of an ensemble.
        """
        if self.others:
            return mean_logits(self.member_logits(batch, taps))
        return self._logits(batch, taps)

    def member_logits(self, batch: Mapping[str, StreamBatch], taps: Taps = NO_TAPS) -> Tensor:
        """Logits of each member, (members, events, classes); `taps` as of `forward`."""
        return torch.stack([self._logits(batch, taps), *(other(batch) for other in self.others)])

    def _logits(self, batch: Mapping[str, StreamBatch], taps: Taps) -> Tensor:
        layouts = {
            name: Layout(batch[name].counts, batch[name].host_counts)
            for name in self.settings.streams
        }
        rows: dict[str, Tensor] = {}
        for name, layout in layouts.items():
            extractor = self.extractor(name)
            rows[name] = self.encoder(name)(
                *extractor(batch[name]),
                layout,
                stream=name,
                momenta=extractor.momenta(batch[name]),
                taps=taps,
                class_only=name not in self._needed[0],
            )
        for number, (block, settings) in enumerate(
            zip(self.fusion, self.settings.fusion, strict=True), start=1
        ):
            name = settings.query
            rows[name] = block(
                rows[name],
                layouts[name],
                [(rows[other], layouts[other]) for other in settings.context],
                place=Place(name, number, context=settings.context),
                taps=taps,
                class_only=name not in self._needed[number],
            )
        pooled = []
        for name, layout in layouts.items():
            # A last layer that works out the class rows alone has left nothing else.
            some = rows[name]
            only = some if len(some) == layout.events else layout.class_rows(some)
            pooled.append(taps.rows(Place(name, part="pooled"), only, layout))
        logits: Tensor = self.head(pooled)
        return logits

    def attention_places(self) -> list[Place]:
        """Every attention of a forward pass, in order, as `Taps.weights` is called for it."""
        places = [
            Place(name, 0, number, "self-attention", heads=stream.heads)
            for name, stream in self.settings.streams.items()
            for number in range(1, stream.layers + 1)
        ]
        for number, block in enumerate(self.settings.fusion, start=1):
            for layer in range(1, block.layers + 1):
                at = (block.query, number, layer)
                places.append(Place(*at, "cross-attention", block.context, block.heads))
                places.append(Place(*at, "self-attention", heads=block.heads))
        return places


def mean_logits(members: Tensor) -> Tensor:
    """Logits, (events, classes), of the mean of the probabilities of (members, events, classes)."""
    return members.log_softmax(2).logsumexp(0) - math.log(len(members))


def _tokens_needed(settings: ModelSettings) -> list[set[str]]:
    """Before each fusion block and after the last: streams whose tokens a later block attends to."""
    needed: list[set[str]] = [set()]
    for block in reversed(settings.fusion):
        needed.insert(0, needed[0] | {block.query, *block.context})
    return needed


def _check(settings: ModelSettings) -> None:
    """Check what no single field can: heads against widths, names, shared encoders."""
    faults = []
    streams = settings.streams
    first: dict[str, str] = {}
    for name, stream in streams.items():
        other = first.setdefault(stream.encoder or name, name)
        if not stream.may_share_encoder(streams[other]):
            faults.append(
                f"streams.{other} and streams.{name} share the encoder "
                f"'{stream.encoder or name}' but differ in other settings: give both the same, "
                f"or each its own encoder"
            )
    attended = _tokens_needed(settings)[0]
    for name, stream in streams.items():
        if stream.pair_bias and stream.layers < (1 if name in attended else 2):
            faults.append(
                f"streams.{name}.pair_bias needs {'one layer' if name in attended else 'two layers'} "
                f"of self-attention or more, layers is {stream.layers}: the class token, which alone "
                f"is read from the last layer where no stream attends to '{name}', is of no pair"
            )
    for number, block in enumerate(settings.fusion):
        key = f"fusion[{number}]"
        for role, name in [("query", block.query), *(("context", name) for name in block.context)]:
            if name not in streams:
                faults.append(
                    f"{key}.{role} is '{name}', which is no stream; there are {', '.join(streams)}"
                )
        if block.query in block.context or len(set(block.context)) < len(block.context):
            faults.append(f"{key} names a stream twice")
        width = streams[block.query].width if block.query in streams else 0
        if width % block.heads:
            faults.append(f"{key}.heads is {block.heads}; {width} is not a multiple of it")
    if faults:
        raise CardError("\n".join(faults))


def _key(name: str) -> str:
    """Name of a module: torch takes no dots in it, nor names of its own such as `train`."""
    return "of_" + name.replace(".", "_dot_")
