"""What a network is made of, read off the network as built: for the layer table and flow chart."""

from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from manyscale.model.classifier import MultiScaleClassifier

__all__ = ["Block", "Summary", "summarise"]


@dataclass(frozen=True)
class Block:
    """One box of the flow chart.

    Attributes
    ----------
    name, kind
        What it is called, and which of input, embedding, encoder, fusion, pooling, head it is.
    inputs, roles
        Names of the blocks that feed it, and for each whether it is a `query`, a `context`, or
        neither (empty).
    lines
        What the box says.
    parameters
        Its own parameters; zero where another block's are used.
    output
        Shape of what comes out, in words.
    shared_with
        Name of the block whose weights it uses, or empty.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    roles: tuple[str, ...]
    lines: tuple[str, ...]
    parameters: int
    output: str
    shared_with: str = ""


@dataclass(frozen=True)
class Summary:
    """The blocks of a network in the order of the data's way, and all its parameters."""

    blocks: tuple[Block, ...]
    parameters: int

    def as_dict(self) -> dict[str, Any]:
        """Return plain lists and dicts, for JSON."""
        return asdict(self)


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def summarise(network: MultiScaleClassifier) -> Summary:
    """Read the blocks of a network off its modules."""
    settings = network.settings
    blocks: list[Block] = []
    holder: dict[str, str] = {}
    latest: dict[str, str] = {}
    for name, stream in settings.streams.items():
        extractor = network.extractor(name)
        first = holder.setdefault(network.encoder_of[name], name)
        encoder = network.encoder(name)
        mine = first == name
        features = len(extractor.names)
        frame = [] if extractor.frame is None else extractor.frame.settings.words()
        blocks.append(
            Block(
                f"{name} input",
                "input",
                (),
                (),
                (f"at most {stream.max_tokens} tokens", ", ".join(extractor.names), *frame),
                0,
                f"tokens x {features}",
            )
        )
        table = " + class table" if extractor.classes else ""
        places = " + places" if stream.positions else ""
        blocks.append(
            Block(
                f"{name} embedding",
                "embedding",
                (f"{name} input",),
                ("",),
                (f"linear {len(extractor.numbers)} -> {stream.width}{table}{places}",),
                _size(encoder.embedding) if mine else 0,
                f"tokens x {stream.width}",
                "" if mine else f"{first} embedding",
            )
        )
        layers = _plural(stream.layers, "self-attention layer")
        blocks.append(
            Block(
                f"{name} encoder",
                "encoder",
                (f"{name} embedding",),
                ("",),
                (layers, _plural(stream.heads, "head"), "class token"),
                _size(encoder) - _size(encoder.embedding) if mine else 0,
                f"(1 + tokens) x {stream.width}",
                "" if mine else f"{first} encoder",
            )
        )
        latest[name] = f"{name} encoder"
    for number, (block, fusion) in enumerate(
        zip(settings.fusion, network.fusion, strict=True), start=1
    ):
        sources = (latest[block.query], *(latest[name] for name in block.context))
        title = f"fusion {number}" if len(settings.fusion) > 1 else "fusion"
        blocks.append(
            Block(
                title,
                "fusion",
                sources,
                ("query", *("context" for _ in block.context)),
                (
                    f"{block.query} asks {', '.join(block.context)}",
                    _plural(block.layers, "cross-attention layer"),
                    _plural(block.heads, "head"),
                ),
                _size(fusion),
                f"(1 + tokens) x {settings.streams[block.query].width}",
            )
        )
        latest[block.query] = title
    width = sum(stream.width for stream in settings.streams.values())
    blocks.append(
        Block(
            "pooling",
            "pooling",
            tuple(latest[name] for name in settings.streams),
            tuple("" for _ in settings.streams),
            (f"class token of {', '.join(settings.streams)}",),
            0,
            f"{width}",
        )
    )
    linear = [layer for layer in network.head.layers if isinstance(layer, nn.Linear)]
    steps = " -> ".join(str(size) for size in [width, *(layer.out_features for layer in linear)])
    blocks.append(
        Block("head", "head", ("pooling",), ("",), (steps,), _size(network.head), "class scores")
    )
    return Summary(tuple(blocks), _size(network))
