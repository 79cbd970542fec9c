"""Who looks at what: attention weights averaged over many events, by class.

Attention is weak evidence of what a score depends on: other weights may give the same score (Jain and
Wallace, arXiv:1902.10186), and a large weight may carry a small value. It counts for more where it
depends on the training and agrees with what shuffling and deletion say (Wiegreffe and Pinter,
arXiv:1908.04626).
"""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from manyscale.explanation.recording import (
    AttentionCall,
    Place,
    SelfAttentionCall,
    attention_places,
    listening,
)
from manyscale.explanation.tally import CLASS_TOKEN, Labelled, Tally
from manyscale.explanation.tokens import Tokens, token_readers
from manyscale.features.columns import StreamBatch
from manyscale.features.images import ImageSettings
from manyscale.model.classifier import MultiScaleClassifier

__all__ = ["AttentionMaps"]


class AttentionMaps:
    """Adds up the attention of a network, batch by batch, in memory that does not grow.

    Parameters
    ----------
    network
        In evaluation mode.
    images
        Pixels and frame of the maps.

    Attributes
    ----------
    readers
        By stream, what its tokens are.
    asking
        By stream that asks in a fusion block: names of its kinds of queries, the class token first.
    cross
        (place, context stream) -> attention of each kind of query, averaged over its tokens, to the
        tokens of that context: channels are heads x kinds, then kinds for the mean over heads, and
        last what each key would have were all keys of the event alike.
    own
        Place -> attention of the class token to the tokens of its own stream: channels are the
        heads, their mean, and what were all keys alike.
    pt_shares
        By stream that has it: the share of pT of each token, to compare with.
    """

    def __init__(self, network: MultiScaleClassifier, images: ImageSettings) -> None:
        self._network = network
        self.readers = token_readers(network, images)
        self.pt_shares = {
            name: Tally(reader, 1) for name, reader in self.readers.items() if reader.has_pt
        }
        self.asking = {
            block.query: (CLASS_TOKEN, *self.readers[block.query].kinds)
            for block in network.settings.fusion
        }
        self.cross: dict[tuple[Place, str], Tally] = {}
        self.own: dict[Place, Tally] = {}
        for place, _ in attention_places(network):
            if place.context:
                channels = (place.heads + 1) * len(self.asking[place.stream]) + 1
                for name in place.context:
                    self.cross[place, name] = Tally(self.readers[name], channels)
            else:
                self.own[place] = Tally(self.readers[place.stream], place.heads + 2)

    def notices(self) -> list[str]:
        """Say what does not apply to this network and its streams."""
        said = [notice for reader in self.readers.values() for notice in reader.notices()]
        if not self.cross:
            said.insert(
                0,
                "no cross-attention: no fusion block lets one stream look at others"
                if len(self.readers) > 1
                else "no cross-attention: the network has one stream",
            )
        return said

    @torch.no_grad()
    def add(self, batch: Mapping[str, StreamBatch], events: Labelled) -> Tensor:
        """Run the network on a batch, count its attention, and return its logits.

        Parameters
        ----------
        batch
            Streams as trimmed by the network.
        events
            Their classes and weights.
        """
        tokens = {name: reader(batch[name]) for name, reader in self.readers.items()}
        shares = {name: _shares(tokens[name], len(kinds)) for name, kinds in self.asking.items()}
        for name, tally in self.pt_shares.items():
            share = tokens[name].pt_share
            assert share is not None  # noqa: S101 - it has a pT
            tally.add(tokens[name], share[:, None], events)
        with listening(self._network, partial(self._hear, tokens, shares, events)):
            logits: Tensor = self._network(batch)
        return logits

    def _hear(
        self,
        tokens: Mapping[str, Tokens],
        shares: Mapping[str, Tensor],
        events: Labelled,
        call: AttentionCall,
    ) -> None:
        place, events_there = call.place, len(events.label)
        names = place.context or (place.stream,)
        keys = [tokens[name] for name in names]
        if isinstance(call, SelfAttentionCall):
            asking = call.of_class_tokens()
            there = share = torch.ones(events_there, 1)
        else:
            asking, share = call, shares[place.stream]
            there = _kinds_there(share, tokens[place.stream])
        given = _channels(asking.weights().onto_keys(share), keys)
        there = torch.cat([there.repeat(1, place.heads + 1), torch.ones(events_there, 1)], 1)
        first = 0
        for name, of in zip(names, keys, strict=True):
            rows = given[first : first + events_there + len(of.kind)]
            first += len(rows)
            tally = self.cross[place, name] if place.context else self.own[place]
            tally.add(of, rows[events_there:], events, rows[:events_there], there)


def _channels(given: Tensor, keys: Sequence[Tokens]) -> Tensor:
    """Flatten (rows, heads, kinds) to (rows, channels); add the mean over heads, and equal parts."""
    counts = torch.stack([tokens.segments.counts + 1 for tokens in keys]).sum(0)
    even = (1 / counts).to(given.dtype)
    parts = [of for tokens in keys for of in (even, even[tokens.segments.event])]
    return torch.cat(
        [torch.cat([given, given.mean(1, keepdim=True)], 1).flatten(1), torch.cat(parts)[:, None]],
        1,
    )


def _shares(tokens: Tokens, kinds: int) -> Tensor:
    """(query rows, kinds): class tokens are the first kind; tokens share theirs evenly in an event."""
    events = len(tokens.segments.counts)
    place = tokens.segments.event * kinds + tokens.kind + 1
    number = torch.bincount(place, minlength=events * kinds)
    shares = torch.zeros(events + len(place), kinds)
    shares[:events, 0] = 1
    shares[events:].scatter_(1, tokens.kind[:, None] + 1, (1 / number[place])[:, None])
    return shares


def _kinds_there(shares: Tensor, tokens: Tokens) -> Tensor:
    """(events, kinds): 1 where an event has a query of the kind."""
    events = len(tokens.segments.counts)
    there = shares[:events].clone()
    there.index_add_(0, tokens.segments.event, (shares[events:] > 0).to(shares.dtype))
    return there.clamp(max=1)
