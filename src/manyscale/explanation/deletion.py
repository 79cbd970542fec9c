"""Do the tokens that an explanation names matter? They are deleted, and the score is watched."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from manyscale.data.packing import PackedEvents, PackedStream
from manyscale.errors import DataError
from manyscale.explanation.response import Streams, responses
from manyscale.model.classifier import MultiScaleClassifier
from manyscale.statistics.means import Mean, weighted_mean
from manyscale.statistics.metrics import auc_difference
from manyscale.statistics.sample import Floats, Sample

__all__ = ["FRACTIONS", "Deletion", "DeletionPoint", "deletion"]

#: Shares of the tokens that are deleted.
FRACTIONS = (0.05, 0.1, 0.2, 0.4, 0.6)

# How often tokens are deleted at random; the mean of these is one curve.
_RANDOM_DRAWS = 3
_AT_RANDOM = "random"
_BY_PT = "pT"

Ranking = Mapping[str, NDArray[np.floating]]


@dataclass(frozen=True)
class DeletionPoint:
    """What deleting a share of the tokens does; a point of a curve.

    Attributes
    ----------
    by
        The ranking: "Grad-CAM", "pT", "random", ...
    fraction
        Share of the tokens of each stream of an event that was asked for.
    drop, drop_error
        Mean over the events that the network has right: by how much the logit difference moves away
        from their class.
    over_random, over_random_error
        Mean of that drop minus the one at random, event by event.
    auc_loss, auc_loss_error
        AUC minus AUC behind the deletion, of all events, paired.
    """

    by: str
    fraction: float
    drop: float
    drop_error: float
    over_random: float
    over_random_error: float
    auc_loss: float
    auc_loss_error: float

    def as_dict(self) -> dict[str, str | float | None]:
        """A plain row, for JSON."""
        return {
            name: None if isinstance(value, float) and math.isnan(value) else value
            for name, value in asdict(self).items()
        }


@dataclass(frozen=True)
class Deletion:
    """All curves of deletion, on the same events.

    Attributes
    ----------
    events
        Number of those that the network has right.
    streams
        From which tokens were deleted.
    points
        Ranking by ranking, the fractions in their order.
    excess
        Ranking -> mean over the fractions of the drop beyond the random one, and its error.
    """

    events: int
    streams: tuple[str, ...]
    points: tuple[DeletionPoint, ...]
    excess: Mapping[str, Mean]

    def passes(self, by: str) -> bool:
        """Whether deleting by this ranking hurts more than at random, by more than two errors."""
        return self.excess[by].value > 2 * self.excess[by].error

    def as_dict(self) -> dict[str, object]:
        """Plain values, for JSON."""
        excess = {
            by: {
                "value": _or_none(mean.value),
                "error": _or_none(mean.error),
                "passes": self.passes(by),
            }
            for by, mean in self.excess.items()
        }
        return {
            "events": self.events,
            "streams": self.streams,
            "excess": excess,
            "points": [point.as_dict() for point in self.points],
        }


def deletion(
    network: MultiScaleClassifier,
    events: PackedEvents,
    weights: NDArray[np.float64],
    rankings: Mapping[str, Ranking],
    *,
    random: np.random.Generator,
    fractions: Sequence[float] = FRACTIONS,
) -> Deletion:
    """Delete the tokens that a ranking puts first, and measure how far the score moves.

    From each stream of each event goes the same number of tokens, by every ranking: the fraction of
    them, rounded. The rest is scored anew. An explanation that names what matters moves the score
    further than deleting at random, which already takes away and makes events unlike any of the
    training.

    Parameters
    ----------
    network
        In evaluation mode.
    events
        With labels of both classes; streams already trimmed by the network.
    weights
        (events,): class-balanced.
    rankings
        Name -> stream -> (tokens,): the highest are deleted first. All name the same streams, and
        from these alone is deleted. "pT", where all of them have that column, and "random" are
        added.
    random
        Draws what is deleted at random.
    fractions
        Each above 0 and below 1.

    Raises
    ------
    DataError
        Where rankings name different streams, or as `Sample.of`.

    References
    ----------
    W. Samek et al., arXiv:1509.06321; V. Petsiuk, A. Das, K. Saenko, arXiv:1806.07421.
    """
    names = _common_streams(rankings)
    chosen = {name: events.streams[name] for name in names}
    drops = _Drops.of(network, events, weights)
    at_random: list[Ranking] = [
        {name: random.random(len(stream.values)) for name, stream in chosen.items()}
        for _ in range(_RANDOM_DRAWS)
    ]
    draws = {by: [ranking] for by, ranking in {**rankings, **_by_pt(network, chosen)}.items()}
    draws[_AT_RANDOM] = at_random
    found = {
        by: [
            np.mean([drops.answer(_without(events.streams, r, fraction)) for r in several], axis=0)
            for fraction in fractions
        ]
        for by, several in draws.items()
    }
    points = [
        drops.point(by, fraction, answer, by_chance)
        for by, answers in found.items()
        for fraction, answer, by_chance in zip(fractions, answers, found[_AT_RANDOM], strict=True)
    ]
    excess = {
        by: drops.mean(np.mean(answers, axis=0), np.mean(found[_AT_RANDOM], axis=0))
        for by, answers in found.items()
        if by != _AT_RANDOM
    }
    return Deletion(int(drops.right.sum()), names, tuple(points), excess)


def _common_streams(rankings: Mapping[str, Ranking]) -> tuple[str, ...]:
    named = {by: tuple(ranking) for by, ranking in rankings.items()}
    first = next(iter(named.values()))
    for by, streams in named.items():
        if set(streams) != set(first):
            raise DataError(
                f"'{by}' ranks the tokens of {', '.join(streams)}, another ranking those of "
                f"{', '.join(first)}: all curves need the same streams"
            )
    return first


def _by_pt(network: MultiScaleClassifier, streams: Streams) -> dict[str, Ranking]:
    """The ranking by pT, where all the streams have that column."""
    columns = {name: network.extractor(name).stream.columns for name in streams}
    if not all("pt" in of for of in columns.values()):
        return {}
    places = {name: of.index("pt") for name, of in columns.items()}
    return {_BY_PT: {name: streams[name].values[:, place] for name, place in places.items()}}


def _without(streams: Streams, ranking: Ranking, fraction: float) -> Streams:
    """The streams without the share of tokens that a ranking puts first, in each event."""
    return {
        name: _kept(stream, ranking[name], fraction) if name in ranking else stream
        for name, stream in streams.items()
    }


def _kept(stream: PackedStream, values: NDArray[np.floating], fraction: float) -> PackedStream:
    event = np.repeat(np.arange(len(stream)), stream.counts)
    removed = np.floor(fraction * stream.counts + 0.5).astype(np.int64)
    # Sorted by value, the first of equal ones taken first: exactly so many go.
    order = np.lexsort((-values, event))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order)) - stream.offsets[:-1][event]
    return PackedStream(
        stream.values[place >= removed[event]], stream.counts - removed, stream.axis
    )


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


@dataclass(frozen=True)
class _Drops:
    """Compares answers of the network with those to the whole events.

    Attributes
    ----------
    sample
        Labels, answers to the whole events, weights.
    right
        (events,): whether the network has the event right.
    """

    network: MultiScaleClassifier
    sample: Sample
    right: NDArray[np.bool_]

    @staticmethod
    def of(
        network: MultiScaleClassifier, events: PackedEvents, weights: NDArray[np.float64]
    ) -> "_Drops":
        sample = Sample.of(events.label, responses(network, events.streams), weights)
        return _Drops(network, sample, sample.signal == (sample.scores > 0))

    def answer(self, streams: Streams) -> Floats:
        return responses(self.network, streams)

    def mean(self, answer: Floats, other: Floats) -> Mean:
        """Mean of how much further `answer` has moved away from the true class than `other`."""
        away = np.where(self.sample.signal, other - answer, answer - other)
        return weighted_mean(away[self.right], self.sample.weights[self.right])

    def point(self, by: str, fraction: float, answer: Floats, by_chance: Floats) -> DeletionPoint:
        signal, whole, weights = self.sample
        return DeletionPoint(
            by,
            fraction,
            *self.mean(answer, whole.astype(np.float64)),
            *self.mean(answer, by_chance),
            *auc_difference(signal, whole, answer, weights),
        )
