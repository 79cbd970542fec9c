"""Attention weights of a forward pass, of all heads at once, worked out beside it.

The network's own attention never shows its weights: fused kernels do not form them. Forward hooks work
them out again from what a layer was given, softmax(q k^T / sqrt(d)) (arXiv:1706.03762, equation 1), in
the same padded groups. A listener reduces them at once, so that nothing grows with the number of
events.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import torch
from torch import Tensor, nn

from manyscale.model.attention import CrossAttention, SelfAttention, split_heads
from manyscale.model.classifier import MultiScaleClassifier
from manyscale.model.tokens import Layout, Pattern, Slots

__all__ = [
    "AttentionCall",
    "AttentionWeights",
    "Place",
    "SelfAttentionCall",
    "attention_places",
    "listening",
]


@dataclass(frozen=True)
class Place:
    """Where in the network an attention layer looks.

    Attributes
    ----------
    stream
        Whose tokens ask.
    context
        The streams whose tokens answer, in the order of their keys; empty for self-attention.
    block
        0 in the encoder of the stream, else the number of the fusion block, from 1.
    layer
        Number of the layer in encoder or block, from 1.
    heads
        Number of heads.
    """

    stream: str
    context: tuple[str, ...]
    block: int
    layer: int
    heads: int

    @property
    def name(self) -> str:
        """Say it in words.

        Examples
        --------
        >>> Place("kinematics", ("jet1", "jet2"), 1, 1, 2).name
        'kinematics to jet1, jet2, fusion block 1, layer 1'
        >>> Place("jet1", (), 0, 2, 2).name
        'jet1 to itself, encoder, layer 2'
        """
        towards = ", ".join(self.context) or "itself"
        where = f"fusion block {self.block}" if self.block else "encoder"
        return f"{self.stream} to {towards}, {where}, layer {self.layer}"


@dataclass(frozen=True)
class AttentionWeights:
    """The weights of one attention layer for a batch, padded as in the network.

    Attributes
    ----------
    groups
        (bins, heads, queries, keys) of each group; each query's weights sum to one over the keys of
        its event and are zero for those of others. Queries of empty slots hold anything finite.
    pattern
        Says which rows stand where.
    """

    groups: tuple[Tensor, ...]
    pattern: Pattern

    def onto_keys(self, share: Tensor) -> Tensor:
        """Add up what each key is given by the queries of its event, these counted by their share.

        Parameters
        ----------
        share
            (query rows, kinds): how much each query row counts; several kinds of queries at once.

        Returns
        -------
        (key rows, heads, kinds)
        """
        shares = self.pattern.queries.pad(share)
        there = _filled(self.pattern.queries)
        found = [
            torch.einsum("bhqk,bqc->bkhc", weights, part * filled)
            for weights, part, filled in zip(self.groups, shares, there, strict=True)
        ]
        return self.pattern.keys.pack(found)


def _filled(slots: Slots) -> list[Tensor]:
    """(bins, slots, 1) of each group: 1 where a row stands, 0 where the slot is empty."""
    filled = torch.from_numpy(slots.owner >= 0).to(slots.row_slot.device)
    parts = torch.split(filled, [bins * size for bins, size in slots.shapes])
    return [part.view(*shape, 1) for part, shape in zip(parts, slots.shapes, strict=True)]


@dataclass(frozen=True)
class AttentionCall:
    """One call of an attention layer; its weights are worked out when they are asked for.

    Attributes
    ----------
    place
        Where in the network.
    asking, answering
        The rows that ask and those that answer, as the layer was given them: (rows, width); class
        tokens first, several contexts one behind the other.
    query, key
        Weight and bias of the maps to queries and keys.
    pattern
        Which rows may look at which.
    """

    place: Place
    asking: Tensor
    answering: Tensor
    query: tuple[Tensor, Tensor]
    key: tuple[Tensor, Tensor]
    pattern: Pattern

    @torch.no_grad()
    def weights(self) -> AttentionWeights:
        """Weights of all rows that the layer worked out."""
        heads = self.place.heads
        queries = self.pattern.queries.pad(nn.functional.linear(self.asking, *self.query))
        keys = self.pattern.keys.pad(nn.functional.linear(self.answering, *self.key))
        found = []
        for asked, answering, hidden in zip(queries, keys, self.pattern.hidden, strict=True):
            (query,) = split_heads(asked, 1, heads)
            (key,) = split_heads(answering, 1, heads)
            scores = query @ key.transpose(2, 3) / query.shape[-1] ** 0.5
            found.append(torch.softmax(scores + hidden, dim=-1))
        return AttentionWeights(tuple(found), self.pattern)


@dataclass(frozen=True)
class SelfAttentionCall(AttentionCall):
    """A call of self-attention.

    Attributes
    ----------
    layout
        Of the stream.
    full
        Whether the layer worked out all rows, not the class tokens alone.
    """

    layout: Layout
    full: bool

    def of_class_tokens(self) -> AttentionCall:
        """The same call for the class tokens alone."""
        return AttentionCall(
            self.place,
            self.asking[: self.layout.events],
            self.answering,
            self.query,
            self.key,
            self.layout.class_tokens,
        )


def attention_places(network: MultiScaleClassifier) -> list[tuple[Place, nn.Module]]:
    """Every attention of a forward pass and its layer, in their order.

    A layer of an encoder that streams share stands there once a stream.
    """
    found: list[tuple[Place, nn.Module]] = []
    for name, stream in network.settings.streams.items():
        for number, layer in enumerate(_children(network.encoder(name), "layers"), start=1):
            own = Place(name, (), 0, number, stream.heads)
            found.append((own, layer.get_submodule("attention")))
    blocks = zip(network.settings.fusion, network.fusion, strict=True)
    for place, (settings, block) in enumerate(blocks, start=1):
        for number, layer in enumerate(_children(block, "layers"), start=1):
            query, heads = settings.query, settings.heads
            asked = Place(query, settings.context, place, number, heads)
            found.append((asked, layer.get_submodule("cross_attention")))
            own = Place(query, (), place, number, heads)
            found.append((own, layer.get_submodule("encoder_layer.attention")))
    return found


def _children(module: nn.Module, name: str) -> list[nn.Module]:
    return list(module.get_submodule(name).children())


@contextmanager
def listening(
    network: MultiScaleClassifier, heard: Callable[[AttentionCall], None]
) -> Iterator[None]:
    """Tell of every attention in the forward passes of a network, while the context lasts.

    Parameters
    ----------
    network
        Run as a whole, so that the calls of a shared encoder come in the order of its streams.
    heard
        Called behind each attention layer.
    """
    places: dict[nn.Module, list[Place]] = {}
    for place, module in attention_places(network):
        places.setdefault(module, []).append(place)
    handles = [
        module.register_forward_hook(_hook(cycle(of_module), heard), with_kwargs=True)
        for module, of_module in places.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hook(
    places: Iterator[Place], heard: Callable[[AttentionCall], None]
) -> Callable[[Any, tuple[Any, ...], dict[str, Any], Tensor], None]:
    def hook(
        module: SelfAttention | CrossAttention,
        given: tuple[Any, ...],
        named: dict[str, Any],
        _: Tensor,
    ) -> None:
        place = next(places)
        if isinstance(module, CrossAttention):
            heard(_of_cross_attention(place, module, *given, **named))
        else:
            heard(_of_self_attention(place, module, *given, **named))

    return hook


def _of_cross_attention(
    place: Place, module: CrossAttention, tokens: Tensor, context: Tensor, pattern: Pattern
) -> AttentionCall:
    width = tokens.shape[1]
    linear = module.key_value
    key = linear.weight[:width], linear.bias[:width]
    return AttentionCall(
        place, tokens, context, (module.query.weight, module.query.bias), key, pattern
    )


def _of_self_attention(
    place: Place,
    module: SelfAttention,
    tokens: Tensor,
    layout: Layout,
    *,
    class_only: bool = False,
) -> AttentionCall:
    linear, width = module.query_key_value, tokens.shape[1]
    query = linear.weight[:width], linear.bias[:width]
    key = linear.weight[width : 2 * width], linear.bias[width : 2 * width]
    pattern = layout.class_tokens if class_only else layout.tokens
    asking = tokens[: layout.events] if class_only else tokens
    return SelfAttentionCall(place, asking, tokens, query, key, pattern, layout, not class_only)
