"""Weighted means over events of what their tokens are given: attention, importance, pT."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from manyscale.explanation.tokens import DISTANCES, RANKS, TokenReader, Tokens

__all__ = ["ALL", "CLASS_TOKEN", "Labelled", "Tally"]

Floats = NDArray[np.float64]

#: Names of what is no kind of token: all tokens of a stream together, and its class token.
ALL = "all tokens"
CLASS_TOKEN = "class token"  # noqa: S105 - no password


@dataclass(frozen=True)
class Labelled:
    """Class and weight of the events of a batch.

    Attributes
    ----------
    label
        (events,), int64: 1 signal, 0 background.
    weight
        (events,), float64: class-balanced; 0 for an event of unknown class.
    """

    label: Tensor
    weight: Tensor

    @staticmethod
    def of(label: NDArray[np.int64], weight: Floats) -> "Labelled":
        """Bring both to torch."""
        return Labelled(torch.from_numpy(label.clip(0)), torch.from_numpy(weight))


class Tally:
    """Sums, over the events of each class, of numbers that tokens are given, several channels at once.

    Of each event the tokens' numbers are added up: by pixel, rank in pT, distance to the axis, and
    kind. The mean over the events of a class is returned; those of an event without the channel
    do not count. Memory does not depend on the number of events.

    Parameters
    ----------
    reader
        Of the stream.
    channels
        Numbers a token.
    """

    def __init__(self, reader: TokenReader, channels: int) -> None:
        self.rows = (*reader.kinds, CLASS_TOKEN, ALL)
        self.reader = reader
        pixels = reader.images.bins**2
        self._weight = _zeros(channels)
        self._weight2 = _zeros(channels)
        self._image = _zeros(pixels + 1, channels)
        self._rank = _zeros(RANKS + 1, channels)
        self._distance = _zeros(DISTANCES + 1, channels)
        # Sums of w x, w^2 x and w^2 x^2 of what an event's tokens of a kind are given together.
        self._moments = [_zeros(len(self.rows), channels) for _ in range(3)]

    def add(
        self,
        tokens: Tokens,
        given: Tensor,
        events: Labelled,
        class_token: Tensor | None = None,
        there: Tensor | None = None,
    ) -> None:
        """Count the events of a batch.

        Parameters
        ----------
        tokens, events
            What they are.
        given
            (tokens, channels).
        class_token
            (events, channels): what the stream's class token is given; None: nothing.
        there
            (events, channels): 1 where the event has the channel; None: everywhere.
        """
        weight = events.weight[:, None]
        weight = weight.expand(-1, given.shape[1]) if there is None else weight * there
        of_token = events.weight.float()[tokens.segments.event, None]
        label = events.label[tokens.segments.event]
        weighted = given * of_token
        for sums, place in (
            (self._image, tokens.pixel),
            (self._rank, tokens.rank),
            (self._distance, tokens.distance),
        ):
            if place is not None:
                sums.add_(_added(weighted, label * sums.shape[1] + place, sums.shape))
        _by_class(self._weight, weight, events.label)
        _by_class(self._weight2, weight**2, events.label)
        self._add_kinds(tokens, given, events, weight, class_token)

    def _add_kinds(
        self,
        tokens: Tokens,
        given: Tensor,
        events: Labelled,
        weight: Tensor,
        class_token: Tensor | None,
    ) -> None:
        kinds, number = len(self.reader.kinds), len(events.label)
        place = tokens.segments.event * kinds + tokens.kind
        of_kind = _added(given, place, (number, kinds, given.shape[1]))
        rows = torch.zeros(number, len(self.rows), given.shape[1], dtype=torch.float64)
        rows[:, :kinds] = of_kind
        rows[:, kinds + 1] = of_kind.sum(1)
        if class_token is not None:
            rows[:, kinds] = class_token
        weight = weight[:, None]
        terms = (weight * rows, weight**2 * rows, weight**2 * rows**2)
        for sums, term in zip(self._moments, terms, strict=True):
            _by_class(sums, term, events.label)

    def image(self) -> Floats:
        """(2, bins, bins, channels): mean of background and signal; pixels of eta first."""
        bins = self.reader.images.bins
        return (self._image / self._weight[:, None])[:, :-1].reshape(2, bins, bins, -1).numpy()

    def by_rank(self) -> Floats:
        """(2, RANKS, channels): mean of what the token of each rank is given."""
        return (self._rank / self._weight[:, None])[:, :-1].numpy()

    def by_distance(self) -> Floats:
        """(2, DISTANCES, channels): mean of what the tokens in each bin are given together."""
        return (self._distance / self._weight[:, None])[:, :-1].numpy()

    def by_kind(self) -> tuple[Floats, Floats]:
        """(2, rows, channels): mean of what the tokens of each of `rows` are given, and its error.

        The error of the weighted mean m is sqrt(sum w^2 (x - m)^2) / |sum w|.
        """
        first, cross, square = self._moments
        weight, weight2 = self._weight[:, None], self._weight2[:, None]
        mean = first / weight
        spread = square - 2 * mean * cross + mean**2 * weight2
        return mean.numpy(), (spread.clamp(min=0).sqrt() / weight.abs()).numpy()


def _zeros(*shape: int) -> Tensor:
    return torch.zeros(2, *shape, dtype=torch.float64)


def _added(values: Tensor, place: Tensor, shape: Sequence[int]) -> Tensor:
    """Add up (tokens, channels) at places in the first two axes of `shape`."""
    sums = values.new_zeros(shape[0] * shape[1], shape[2])
    # On a CPU faster than bincount and scatter_add_.
    return sums.index_add_(0, place, values).view(*shape)


def _by_class(sums: Tensor, values: Tensor, label: Tensor) -> None:
    sums.index_add_(0, label, values.to(sums.dtype))
