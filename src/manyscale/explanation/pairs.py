"""Attention between the constituents of a jet against how far apart they are."""

import math
from collections.abc import Mapping
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from manyscale.explanation.recording import (
    AttentionCall,
    AttentionWeights,
    Place,
    SelfAttentionCall,
    listening,
)
from manyscale.explanation.tally import Labelled
from manyscale.explanation.tokens import Tokens, token_readers
from manyscale.features.columns import StreamBatch
from manyscale.features.images import ImageSettings
from manyscale.model.classifier import MultiScaleClassifier

__all__ = ["PAIR_BINS", "PairAttention", "PairProfile"]

#: Bins of the distance between two constituents.
PAIR_BINS = 20


class PairProfile:
    """Mean attention from one constituent to another in bins of their distance, a head.

    Attention is counted in units of 1 / (tokens + 1), what each key of the event would have were all
    alike: so 1 says that distance plays no part, whatever the number of tokens. A token that asks
    counts as its event's weight.

    Parameters
    ----------
    heads
        Of the layer.
    reach
        Distance up to which pairs are shown.
    """

    def __init__(self, heads: int, reach: float) -> None:
        self.edges = np.linspace(0, reach, PAIR_BINS + 1)
        self._sums = np.zeros((2, heads, PAIR_BINS))
        self._weights = np.zeros((2, PAIR_BINS))

    def add(self, weights: AttentionWeights, tokens: Tokens, events: Labelled) -> None:
        """Count the pairs of the events of a batch; a token is no pair with itself."""
        assert tokens.place is not None  # noqa: S101 - pairs are made of streams with a plane
        slots, counts = weights.pattern.keys, tokens.segments.counts
        # Class tokens stand first and have no place: their distance to any other is not a number.
        nowhere = tokens.place.new_full((len(counts), 2), math.nan)
        padded = slots.pad(torch.cat([nowhere, tokens.place]))
        sizes = [bins * size for bins, size in slots.shapes]
        owners = torch.split(torch.from_numpy(slots.owner).long(), sizes)
        for group, place, owner in zip(weights.groups, padded, owners, strict=True):
            of = owner.view(place.shape[:2])
            index = _distance_bins(place, of, self.edges[-1])
            index += events.label[of, None] * (PAIR_BINS + 1)
            weight = events.weight[of, None].expand_as(index)
            self._weights += _counted(index, weight / (counts[of, None] + 1))
            for head in range(group.shape[1]):
                self._sums[:, head] += _counted(index, group[:, head] * weight)

    def means(self) -> NDArray[np.float64]:
        """(2, heads, PAIR_BINS): background and signal; not a number where there is no pair."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self._sums / self._weights[:, None]


class PairAttention:
    """Follows the attention between constituents in every layer that works it out.

    Parameters
    ----------
    network
        In evaluation mode.
    images
        Their half width is half of the distance up to which pairs are shown.

    Attributes
    ----------
    profiles
        By place: the self-attention of streams with a plane, layers without such work left out.
    """

    def __init__(self, network: MultiScaleClassifier, images: ImageSettings) -> None:
        self._network = network
        self._reach = 2 * images.half_width
        readers = token_readers(network, images)
        self._readers = {name: reader for name, reader in readers.items() if reader.plane}
        self.profiles: dict[Place, PairProfile] = {}

    @torch.no_grad()
    def add(self, batch: Mapping[str, StreamBatch], events: Labelled) -> None:
        """Run the network on a batch, streams as it trims them, and count its pairs."""
        tokens = {name: reader(batch[name]) for name, reader in self._readers.items()}
        with listening(self._network, partial(self._hear, tokens, events)):
            self._network(batch)

    def _hear(self, tokens: Mapping[str, Tokens], events: Labelled, call: AttentionCall) -> None:
        place = call.place
        if place.stream in tokens and isinstance(call, SelfAttentionCall) and call.full:
            profile = self.profiles.setdefault(place, PairProfile(place.heads, self._reach))
            profile.add(call.weights(), tokens[place.stream], events)


def _distance_bins(place: Tensor, owner: Tensor, reach: float) -> Tensor:
    """(bins, queries, keys): bin of the distance of two tokens of an event; the last: no pair."""
    apart = torch.linalg.vector_norm(place[:, :, None] - place[:, None], dim=-1)
    same = (owner[:, :, None] == owner[:, None]) & (owner[:, :, None] >= 0)
    same &= ~torch.eye(owner.shape[1], dtype=torch.bool)
    bins = torch.where(same & (apart < reach), apart * (PAIR_BINS / reach), PAIR_BINS)
    return bins.long().clamp(max=PAIR_BINS)


def _counted(index: Tensor, values: Tensor) -> NDArray[np.float64]:
    """(2, PAIR_BINS): the values added up by class and bin."""
    flat = values.flatten().double().numpy()
    sums = np.bincount(index.flatten().numpy(), flat, 2 * (PAIR_BINS + 1)).astype(np.float64)
    return sums.reshape(2, -1)[:, :-1]
