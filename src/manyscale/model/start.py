"""Where a training starts: from the weights of another network, as far as they fit."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from manyscale.features.extractor import FeatureExtractor
from manyscale.model.classifier import MultiScaleClassifier
from manyscale.model.layers import Embedding, Encoder

__all__ = ["FRESH", "TakenOver", "take_over"]


@dataclass(frozen=True)
class TakenOver:
    """What a network has of another.

    Attributes
    ----------
    parameters
        Those taken over; they have seen events already and learn more slowly.
    lines
        For people: what of each stream, of fusion and head was taken over, and why not.
    """

    parameters: frozenset[nn.Parameter] = frozenset()
    lines: tuple[str, ...] = ()


FRESH = TakenOver()


@torch.no_grad()
def take_over(network: MultiScaleClassifier, base: MultiScaleClassifier) -> TakenOver:
    """Give a network the weights of another, a base, wherever both mean the same.

    An encoder starts from that of the base's stream of the same name, else, where its tokens are the
    constituents of a jet, from that of the base's constituents; at least half of its features must be
    known to the base. These keep weights and standardisation of the base, so that they mean what they
    meant; a feature of the base that is missing is one that it was not shown; a new one enters with
    weight zero. The encoder of the base may have more layers, or fewer. Fusion blocks and head are
    taken where they are the same and all their streams start from the base.

    Parameters
    ----------
    network
        Its standardisation fitted, its weights fresh; changed in place.
    base
        Another network, of any number of classes.
    """
    taken: list[nn.Parameter] = []
    started: set[str] = set()
    lines = []
    for shared in dict.fromkeys(network.encoder_of.values()):
        streams = [name for name, of in network.encoder_of.items() if of == shared]
        source = _source(network.extractor(streams[0]), base)
        said = f"{', '.join(streams)}: "
        if source is None:
            lines.append(said + "fresh, the base has no such stream")
            continue
        ours, theirs = network.settings.streams[streams[0]], base.settings.streams[source]
        if (ours.width, ours.heads) != (theirs.width, theirs.heads):
            lines.append(
                said + f"fresh, {ours.width} wide with {ours.heads} heads; the base's "
                f"{source} is {theirs.width} wide with {theirs.heads}"
            )
            continue
        into, from_ = network.encoder(streams[0]), base.encoder(source)
        names, known = network.extractor(streams[0]).names, base.extractor(source)
        both = [name for name in names if name in known.names]
        if 2 * len(both) < len(names):
            lines.append(
                said + f"fresh, of its {len(names)} features the base's {source} knows {len(both)}"
            )
            continue
        for name in streams:
            _take_standardisation(network.extractor(name), known)
        layers = _take_encoder(into, network.extractor(streams[0]), from_, known)
        taken += [*into.embedding.linear.parameters(), *into.layers[:layers].parameters()]
        if into.pairs and from_.pairs and _take(into.pairs, from_.pairs):
            taken += into.pairs.parameters()
        new = [name for name in names if name not in known.names]
        started.update(streams)
        lines.append(
            said + f"{layers} of {len(into.layers)} layers and {len(both)} features of the base's "
            f"{source}" + (f"; new: {', '.join(new)}" if new else "")
        )
    for number, (block, theirs_block) in enumerate(
        zip(network.settings.fusion, base.settings.fusion, strict=False)
    ):
        same = (block.query, block.context) == (theirs_block.query, theirs_block.context)
        if (
            same
            and started.issuperset({block.query, *block.context})
            and _take(network.fusion[number], base.fusion[number])
        ):
            taken += network.fusion[number].parameters()
            lines.append(f"fusion block {number + 1}: as the base's")
    same_streams = list(network.settings.streams) == list(base.settings.streams)
    if (
        same_streams
        and started.issuperset(network.settings.streams)
        and _take(network.head, base.head)
    ):
        taken += network.head.parameters()
        lines.append("head: as the base's")
    return TakenOver(frozenset(taken), tuple(lines))


def _source(extractor: FeatureExtractor, base: MultiScaleClassifier) -> str | None:
    """The stream of the base that a stream's encoder starts from."""
    if extractor.stream.name in base.settings.streams:
        return extractor.stream.name
    if _is_constituents(extractor):
        return next(
            filter(lambda name: _is_constituents(base.extractor(name)), base.settings.streams), None
        )
    return None


def _is_constituents(extractor: FeatureExtractor) -> bool:
    """Whether the tokens are particles in a jet: they have a place in it, and no mass or number."""
    seen = {*extractor.names}
    placed = {"delta_eta", "delta_phi"} <= seen and seen & {"log_pt", "log_pt_rel"}
    return bool(placed) and not {"mass", "multiplicity"} & {*extractor.stream.columns}


def _take_standardisation(into: FeatureExtractor, known: FeatureExtractor) -> None:
    for place, name in enumerate(into.numbers):
        if name in known.numbers:
            of = known.numbers.index(name)
            into.mean[place], into.deviation[place] = known.mean[of], known.deviation[of]


def _take_encoder(
    into: Encoder, ours: FeatureExtractor, from_: Encoder, theirs: FeatureExtractor
) -> int:
    """Take embedding and layers; return how many of these."""
    columns, new = _columns(into.embedding, ours), into.embedding.linear
    known, old = _columns(from_.embedding, theirs), from_.embedding.linear
    new.weight.zero_()
    for name, place in columns.items():
        if name in known:
            new.weight[:, place] = old.weight[:, known[name]]
    new.bias.copy_(old.bias)
    layers = 0
    for layer, other in zip(into.layers, from_.layers, strict=False):
        layer.load_state_dict(other.state_dict())
        layers += 1
    return layers


def _columns(embedding: Embedding, extractor: FeatureExtractor) -> dict[str, slice]:
    """Where each feature stands among the inputs of an embedding; the flag of class tokens is ``."""
    places, first = {}, 0
    sizes = dict.fromkeys(extractor.numbers, 1) | dict(
        zip(extractor.classes, embedding.sizes, strict=True)
    )
    for name, size in (sizes | {"": 1}).items():
        places[name] = slice(first, first + size)
        first += size
    return places


def _take(into: nn.Module, from_: nn.Module) -> bool:
    """Take all weights of a module, where they have the same names and shapes."""

    def shapes(state: dict[str, Tensor]) -> dict[str, torch.Size]:
        return {name: value.shape for name, value in state.items()}

    ours, theirs = into.state_dict(), from_.state_dict()
    if shapes(ours) != shapes(theirs):
        return False
    into.load_state_dict(theirs)
    return True
