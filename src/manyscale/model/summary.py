"""What a network is made of, read off the network as built: for the layer table and flow chart."""

from typing import Literal

from torch import nn

from manyscale.model.classifier import MultiScaleClassifier
from manyscale.settings import Record

__all__ = ["Block", "Summary", "summarise"]

Kind = Literal["input", "embedding", "encoder", "fusion", "pooling", "head"]


class Block(Record):
    """One box of the flow chart.

    Attributes
    ----------
    name, kind
        What it is called, and what it is.
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
    kind: Kind
    inputs: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    lines: tuple[str, ...]
    parameters: int
    output: str
    shared_with: str = ""


class Summary(Record):
    """summary.json: the blocks of a network in the order of the data's way, and all its parameters."""

    blocks: tuple[Block, ...]
    parameters: int


def summarise(network: MultiScaleClassifier) -> Summary:
    """Read the blocks of a network off its modules."""
    settings = network.settings
    blocks: list[Block] = []

    def add(
        name: str,
        kind: Kind,
        inputs: list[str],
        *,
        lines: list[str],
        output: str,
        parameters: int = 0,
        roles: tuple[str, ...] = (),
        shared_with: str = "",
    ) -> str:
        blocks.append(
            Block(
                name=name,
                kind=kind,
                inputs=tuple(inputs),
                roles=roles or ("",) * len(inputs),
                lines=tuple(lines),
                parameters=0 if shared_with else parameters,
                output=output,
                shared_with=shared_with,
            )
        )
        return name

    owner: dict[str, str] = {}
    latest: dict[str, str] = {}
    for name, stream in settings.streams.items():
        extractor, encoder = network.extractor(name), network.encoder(name)
        first = owner.setdefault(network.encoder_of[name], name)
        frame = [] if extractor.frame is None else extractor.frame.settings.words()
        given = add(
            f"{name} input",
            "input",
            [],
            lines=[f"at most {stream.max_tokens} tokens", ", ".join(extractor.names), *frame],
            output=f"tokens x {len(extractor.names)}",
        )
        table = " + class table" if extractor.classes else ""
        positions = " + positions" if stream.positions else ""
        embedded = add(
            f"{name} embedding",
            "embedding",
            [given],
            lines=[f"linear {len(extractor.numbers)} -> {stream.width}{table}{positions}"],
            output=f"tokens x {stream.width}",
            parameters=_parameters(encoder.embedding),
            shared_with="" if first == name else f"{first} embedding",
        )
        layers = _plural(stream.layers, "self-attention layer")
        pairs = ["pair biases"] if stream.pair_bias else []
        latest[name] = add(
            f"{name} encoder",
            "encoder",
            [embedded],
            lines=[layers, _plural(stream.heads, "head"), *pairs, "class token"],
            output=f"(1 + tokens) x {stream.width}",
            parameters=_parameters(encoder) - _parameters(encoder.embedding),
            shared_with="" if first == name else f"{first} encoder",
        )
    for number, (block, fusion) in enumerate(
        zip(settings.fusion, network.fusion, strict=True), start=1
    ):
        attends = f"{block.query} attends to {', '.join(block.context)}"
        layers = _plural(block.layers, "cross-attention layer")
        latest[block.query] = add(
            f"fusion {number}" if len(settings.fusion) > 1 else "fusion",
            "fusion",
            [latest[block.query], *(latest[name] for name in block.context)],
            lines=[attends, layers, _plural(block.heads, "head")],
            output=f"(1 + tokens) x {settings.streams[block.query].width}",
            parameters=_parameters(fusion),
            roles=("query", *("context" for _ in block.context)),
        )
    width = sum(stream.width for stream in settings.streams.values())
    pooled = add(
        "pooling",
        "pooling",
        [latest[name] for name in settings.streams],
        lines=[f"class token of {', '.join(settings.streams)}"],
        output=f"{width}",
    )
    linear = [layer for layer in network.head.layers if isinstance(layer, nn.Linear)]
    steps = " -> ".join(str(size) for size in [width, *(layer.out_features for layer in linear)])
    add(
        "head",
        "head",
        [pooled],
        lines=[steps, *([f"mean of {settings.members} networks"] if network.others else [])],
        output="class scores",
        parameters=_parameters(network.head),
    )
    return Summary(blocks=tuple(blocks), parameters=_parameters(network))


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
