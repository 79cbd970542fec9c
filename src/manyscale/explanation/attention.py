"""Which tokens the network attends to: weights averaged over many events, and one number a token.

Attention is weak evidence of what a score depends on: other weights may give the same score (Jain and
Wallace, arXiv:1902.10186), and a large weight may carry a small value. It counts for more where it
depends on the training and agrees with what permutation and deletion say (Wiegreffe and Pinter,
arXiv:1908.04626).
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from manyscale.data.packing import PackedStream
from manyscale.deployment.predict import batches
from manyscale.explanation.tokens import CLASS_TOKEN, ClassMeans, Labelled, TokenReader, Tokens
from manyscale.features.columns import StreamBatch
from manyscale.model.attention import AttentionWeights, WeightsTap
from manyscale.model.classifier import MultiScaleClassifier
from manyscale.model.taps import Place, Taps

__all__ = ["AttentionMaps", "last_attention", "token_attention"]


class AttentionMaps:
    """Adds up the attention of a network, batch by batch, in memory that does not grow.

    Parameters
    ----------
    network
        In evaluation mode.
    readers
        By stream, what its tokens are: pixels and frame of the maps.

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
        self.pt = {
            name: ClassMeans(reader, [{}], device)
            for name, reader in readers.items()
            if reader.has_pt
        }
        self.cross: dict[tuple[Place, str], ClassMeans] = {}
        self.own: dict[Place, ClassMeans] = {}
        for place in network.attention_places():
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
        return _MapTaps(self, tokens, events)

    def numbers(self) -> dict[str, Any]:
        """Shares and profiles of every attention and of pT, for JSON.

        Returns
        -------
        `cross_attention`: rows of place, context stream, kind of query, head and class;
        `self_attention`: of place, head and class, the query being the class token; `pt`: the same
        of pT, by stream. See `ClassMeans.numbers`.
        """

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


class _MapTaps(Taps):
    """Counts the attention of one batch in the maps."""

    def __init__(self, maps: AttentionMaps, tokens: Mapping[str, Tokens], events: Labelled) -> None:
        self.maps, self.tokens, self.events = maps, tokens, events
        self.shares = {
            name: _shares_of_kinds(tokens[name], len(kinds)) for name, kinds in maps.queries.items()
        }

    def weights(self, place: Place) -> WeightsTap:
        return partial(self._count, place)

    def _count(self, place: Place, weights: AttentionWeights) -> None:
        events, names = self.events, place.context or (place.stream,)
        counts = [self.tokens[name].segments.counts for name in names]
        even = (1 / (torch.stack(counts) + 1).sum(0)).float()[:, None]
        if place.context:
            share, there = self.shares[place.stream]
        else:
            share = _class_queries(weights, len(even))
            there = torch.ones_like(even)
        given = weights.onto_keys(share)
        given = torch.cat([given, given.mean(1, keepdim=True)], 1).flatten(1)
        there = torch.cat([there.repeat(1, place.heads + 1), torch.ones_like(even)], 1)
        sizes = {name: len(self.tokens[name].kind) for name in names}
        for name, (of_class, of_tokens) in _by_stream(given, len(even), sizes).items():
            tokens = self.tokens[name]
            means = self.maps.cross[place, name] if place.context else self.maps.own[place]
            means.add(
                tokens,
                torch.cat([of_tokens, even[tokens.segments.event]], 1),
                events,
                torch.cat([of_class, even], 1),
                there,
            )


def _shares_of_kinds(tokens: Tokens, kinds: int) -> tuple[Tensor, Tensor]:
    """Share of each query row in its kind, and which kinds an event has.

    The class tokens are the first kind; the tokens of a kind share it evenly in an event:
    (events + tokens, kinds), and (events, kinds), 1 or 0.
    """
    events = len(tokens.segments.counts)
    group = tokens.segments.event * kinds + tokens.kind + 1
    number = torch.bincount(group, minlength=events * kinds)
    share = torch.zeros(events + len(group), kinds, device=group.device)
    share[:events, 0] = 1
    share[events:].scatter_(1, tokens.kind[:, None] + 1, (1 / number[group])[:, None])
    there = (number.view(events, kinds) > 0).float()
    there[:, 0] = 1
    return share, there


def _class_queries(weights: AttentionWeights, events: int) -> Tensor:
    """(query rows, 1): 1 for class tokens, 0 for others where the layer works these out, too."""
    rows = weights.layout.queries.unpad_index
    return (torch.arange(len(rows), device=rows.device) < events).float()[:, None]


def _by_stream(
    rows: Tensor, events: int, tokens: Mapping[str, int]
) -> dict[str, tuple[Tensor, Tensor]]:
    """Cut key rows into those of the class tokens and of the tokens of each stream."""
    parts = torch.split(
        rows, [size for of_stream in tokens.values() for size in (events, of_stream)]
    )
    return dict(zip(tokens, zip(parts[::2], parts[1::2], strict=True), strict=True))


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


class _LastTaps(Taps):
    """Keeps what the tokens of each stream of a batch are given where they are attended to last."""

    def __init__(self, last: Mapping[str, Place], batch: Mapping[str, StreamBatch]) -> None:
        self.last, self.batch = last, batch
        self.given: dict[str, Tensor] = {}

    def weights(self, place: Place) -> WeightsTap | None:
        return partial(self._keep, place) if place in self.last.values() else None

    def _keep(self, place: Place, weights: AttentionWeights) -> None:
        counts = self.batch[place.stream].counts
        if place.context:
            share = 1 / (counts + 1)
            share = torch.cat([share, share.repeat_interleave(counts)])[:, None]
        else:
            share = _class_queries(weights, len(counts))
        rows = weights.onto_keys(share).mean(1)[:, 0]
        sizes = {n: len(self.batch[n].values) for n in place.context or (place.stream,)}
        for name, (_, of_tokens) in _by_stream(rows, len(counts), sizes).items():
            if self.last[name] == place:
                self.given[name] = of_tokens


@torch.no_grad()
def token_attention(
    network: MultiScaleClassifier, streams: Mapping[str, PackedStream]
) -> dict[str, NDArray[np.float32]]:
    """Attention that each token is given where the network attends to it last, by `last_attention`.

    Of cross-attention the mean over all queries of the event, the class token among them; of
    self-attention that of the class token alone. Averaged over heads.

    Parameters
    ----------
    network
        In evaluation mode.
    streams
        Already trimmed by the network.

    Returns
    -------
    (tokens,) by stream; of an event they sum to one at most, class tokens being keys, too.
    """
    last = last_attention(network)
    found = {name: np.zeros(len(streams[name].values), np.float32) for name in last}
    for chosen, batch in batches(network, streams):
        taps = _LastTaps(last, batch)
        network(batch, taps)
        for name, given in taps.given.items():
            found[name][streams[name].rows(chosen)] = given.cpu().numpy()
    return found
