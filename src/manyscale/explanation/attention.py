"""Which tokens the network attends to: weights averaged over many events, and one number a token.

Attention is weak evidence of what a score depends on: other weights may give the same score (Jain and
Wallace, arXiv:1902.10186), and a large weight may carry a small value. It counts for more where it
depends on the training and agrees with what permutation and deletion say (Wiegreffe and Pinter,
arXiv:1908.04626).
"""

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from manyscale.deployment.predict import batches
from manyscale.events.ragged import PackedStream
from manyscale.explanation.tokens import CLASS_TOKEN, ClassMeans, Labelled, TokenReader, Tokens
from manyscale.model.attention import AttentionWeights, WeightsTap
from manyscale.model.classifier import MultiScaleClassifier
from manyscale.model.taps import Place, Taps

__all__ = ["AttentionMaps", "last_attention", "token_attention"]


class AttentionMaps:
    """Adds up the attention of a network, batch by batch, in memory that does not grow.

    Attributes
    ----------
    queries
        By stream that queries in a fusion block: names of its kinds of queries, the class token
        first.
    cross
        (place, context stream) -> attention of each kind of query, averaged over its tokens, to the
        tokens of that context. Channels: `query` and `head`, from 1 or "mean" over them; and query
        "any", head "even": what each key would have were all keys of the event alike.
    own
        Place of self-attention -> attention of the class token to the tokens of its own stream.
        Channels: `head` alone.
    pt
        By stream that has it: the share of pT of each token, to compare with.
    """

    def __init__(self, network: MultiScaleClassifier, readers: Mapping[str, TokenReader]) -> None:
        device = next(network.parameters()).device
        self.readers = readers
        self.queries = {
            block.query: (CLASS_TOKEN, *readers[block.query].kinds)
            for block in network.settings.fusion
        }
        # One channel without a name.
        self.pt = {
            name: ClassMeans(reader, [{}], device)
            for name, reader in readers.items()
            if reader.has_pt
        }
        self.cross: dict[tuple[Place, str], ClassMeans] = {}
        self.own: dict[Place, ClassMeans] = {}
        for place in network.attention_places():
            # Each head, their mean, and what equal parts would give.
            heads = (*range(1, place.heads + 1), "mean")
            if not place.context:
                channels: list[dict[str, object]] = [{"head": head} for head in (*heads, "even")]
                self.own[place] = ClassMeans(readers[place.stream], channels, device)
                continue
            kinds = self.queries[place.stream]
            channels = [{"query": kind, "head": head} for head in heads for kind in kinds]
            channels.append({"query": "any", "head": "even"})
            for name in place.context:
                self.cross[place, name] = ClassMeans(readers[name], channels, device)

    def notices(self) -> list[str]:
        """Say what does not apply to this network and its streams."""
        said = [notice for reader in self.readers.values() for notice in reader.notices()]
        if not self.cross:
            said.insert(
                0,
                "no cross-attention: no fusion block lets one stream attend to others"
                if len(self.readers) > 1
                else "no cross-attention: the network has one stream",
            )
        return said

    def taps(self, tokens: Mapping[str, Tokens], events: Labelled) -> Taps:
        """Count a batch's pT, and return the taps that count its attention as it passes."""
        for name, means in self.pt.items():
            share = tokens[name].pt_share
            assert share is not None  # noqa: S101 - it has a pT
            means.add(tokens[name], share[:, None], events)
        shares = {name: _shares(tokens[name], len(kinds)) for name, kinds in self.queries.items()}

        def count(place: Place, weights: AttentionWeights) -> None:
            names = place.context or (place.stream,)
            counts = torch.stack([tokens[name].segments.counts + 1 for name in names]).sum(0)
            even = (1 / counts)[:, None]
            ones = torch.ones_like(even)
            if place.context:
                of_classes, of_tokens, there = shares[place.stream]
                given = weights.onto_keys(of_classes, of_tokens)
            else:
                there, given = ones, weights.onto_keys(ones)
            there = torch.cat([there.repeat(1, place.heads + 1), ones], 1)
            for name, (to_classes, to_tokens) in zip(names, given, strict=True):
                means = self.cross[place, name] if place.context else self.own[place]
                even_of_tokens = even[tokens[name].segments.event]
                means.add(
                    tokens[name],
                    _channels(to_tokens, even_of_tokens),
                    events,
                    _channels(to_classes, even),
                    there,
                )

        return _WeightTaps(count, {*self.own, *(place for place, _ in self.cross)})

    def numbers(self) -> dict[str, Any]:
        """Shares and profiles of every attention and of pT, for JSON: see `ClassMeans.numbers`."""

        def words(place: Place) -> dict[str, Any]:
            return {"stream": place.stream, "block": place.block, "layer": place.layer}

        return {
            "cross_attention": [
                {**words(place), "context": context, **numbers}
                for (place, context), means in self.cross.items()
                for numbers in means.numbers()
            ],
            "self_attention": [
                {**words(place), **numbers}
                for place, means in self.own.items()
                for numbers in means.numbers()
            ],
            "pt": [
                {"stream": name, **numbers}
                for name, means in self.pt.items()
                for numbers in means.numbers()
            ],
        }


class _WeightTaps(Taps):
    """Hands the attention weights of some places on, with their place."""

    def __init__(
        self, read: Callable[[Place, AttentionWeights], None], places: Collection[Place]
    ) -> None:
        self.read, self.places = read, places

    def weights(self, place: Place) -> WeightsTap | None:
        return partial(self.read, place) if place in self.places else None


def _shares(tokens: Tokens, kinds: int) -> tuple[Tensor, Tensor, Tensor]:
    """Share of class tokens and of tokens in each kind of query, and which kinds an event has.

    The class tokens are the first kind; the tokens of a kind share it evenly in an event:
    (events, kinds), (tokens, kinds), and (events, kinds), 1 or 0.
    """
    events = len(tokens.segments.counts)
    group = tokens.segments.event * kinds + tokens.kind + 1
    number = torch.bincount(group, minlength=events * kinds)
    of_classes = torch.zeros(events, kinds, device=group.device)
    of_classes[:, 0] = 1
    of_tokens = torch.zeros(len(group), kinds, device=group.device)
    of_tokens.scatter_(1, tokens.kind[:, None] + 1, (1 / number[group])[:, None])
    there = (number.view(events, kinds) > 0).float()
    there[:, 0] = 1
    return of_classes, of_tokens, there


def _channels(given: Tensor, even: Tensor) -> Tensor:
    """(rows, channels) of (rows, heads, kinds): heads, their mean, and what equal parts would be."""
    return torch.cat([torch.cat([given, given.mean(1, keepdim=True)], 1).flatten(1), even], 1)


def last_attention(network: MultiScaleClassifier) -> dict[str, Place]:
    """Say, for each stream, which attention attends to its tokens last.

    The last cross-attention that has the stream as context; for any other stream the last of its own
    self-attention. A stream whose tokens nothing attends to is left out.
    """
    own: dict[str, Place] = {}
    cross: dict[str, Place] = {}
    for place in network.attention_places():
        if not place.context:
            own[place.stream] = place
        cross.update(dict.fromkeys(place.context, place))
    return own | cross


@torch.no_grad()
def token_attention(
    network: MultiScaleClassifier, streams: Mapping[str, PackedStream]
) -> dict[str, NDArray[np.float32]]:
    """Attention that each token is given where the network attends to it last, by `last_attention`.

    Of cross-attention the mean over all queries of the event, the class token among them; of
    self-attention that of the class token alone. Averaged over heads. Those of an event sum to one at
    most, class tokens being keys, too.
    """
    last = last_attention(network)
    found = {name: np.zeros(len(streams[name].values), np.float32) for name in last}
    kept: dict[Place, AttentionWeights] = {}
    taps = _WeightTaps(kept.__setitem__, last.values())
    for chosen, batch in batches(network, streams):
        network(batch, taps)
        for place, weights in kept.items():
            even = 1 / (batch[place.stream].counts + 1)[:, None]
            if place.context:
                given = weights.onto_keys(
                    even, even.repeat_interleave(batch[place.stream].counts, 0)
                )
            else:
                given = weights.onto_keys(torch.ones_like(even))
            for name, (_, to_tokens) in zip(place.context or (place.stream,), given, strict=True):
                if last[name] == place:
                    of_tokens = to_tokens.mean(1)[:, 0].cpu().numpy()
                    found[name][streams[name].rows(chosen)] = of_tokens
    return found
