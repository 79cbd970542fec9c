"""Whether to believe an explanation: the tokens that it names deleted, the network's weights re-drawn."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import nn

from manyscale.data.packing import PackedEvents
from manyscale.errors import DataError
from manyscale.evaluation.results import (
    Correlation,
    Deletion,
    DeletionCurvePoint,
    Excess,
    Randomisation,
)
from manyscale.events.ragged import PackedStream
from manyscale.explanation.gradcam import responses
from manyscale.model.classifier import MultiScaleClassifier
from manyscale.statistics.metrics import auc_difference
from manyscale.statistics.sample import Floats, Mean, Sample, weighted_mean

__all__ = ["FRACTIONS", "Importance", "deletion", "passes", "randomisation", "rank_correlation"]

Streams = Mapping[str, PackedStream]
#: (tokens,) by stream: the higher, the earlier a token is deleted.
Ranking = Mapping[str, NDArray[np.floating]]
#: (tokens,) by stream: the higher, the more the token speaks for the predicted class.
Importance = Callable[[MultiScaleClassifier, Streams], Mapping[str, NDArray[np.float32]]]

#: Shares of the tokens that are deleted.
FRACTIONS = (0.05, 0.1, 0.2, 0.4, 0.6)

# How often tokens are deleted at random; the mean of these is one curve.
_RANDOM_DRAWS = 3
# A rank correlation below this is little: the explanation of a network of no knowledge is another one.
_LITTLE = 0.5


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
    training: its excess is above zero by more than two errors.

    Parameters
    ----------
    rankings
        Name -> stream -> (tokens,): the highest are deleted first. All name the same streams, and
        from these alone is deleted. "pT", where all of them have that column, and "random" are
        added.
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
    names = tuple(next(iter(rankings.values())))
    for by, ranking in rankings.items():
        if set(ranking) != set(names):
            raise DataError(
                f"'{by}' ranks the tokens of {', '.join(ranking)}, another ranking those of "
                f"{', '.join(names)}: all curves need the same streams"
            )
    streams = {name: events.streams[name] for name in names}
    draws: dict[str, list[Ranking]] = {by: [ranking] for by, ranking in rankings.items()}
    columns = {name: network.extractor(name).stream.columns for name in names}
    if all("pt" in of_stream for of_stream in columns.values()):
        by_pt = {name: s.values[:, columns[name].index("pt")] for name, s in streams.items()}
        draws["pT"] = [by_pt]
    draws["random"] = [
        {name: random.random(len(stream.values)) for name, stream in streams.items()}
        for _ in range(_RANDOM_DRAWS)
    ]

    # An event that the network has wrong has nothing to lose: it does not count in the drop.
    signal, whole, weight = Sample.of(events.label, responses(network, events.streams), weights)
    right = signal == (whole > 0)

    def drop(response: Floats, other: NDArray[np.floating]) -> Mean:
        """How much further `response` has moved away from the true class than `other`."""
        away = np.where(signal, other - response, response - other)
        return weighted_mean(away[right], weight[right])

    def response(ranking: Ranking, fraction: float) -> Floats:
        kept = {name: _kept(stream, ranking[name], fraction) for name, stream in streams.items()}
        return responses(network, {**events.streams, **kept})

    after = {
        by: [
            np.mean([response(one, fraction) for one in several], axis=0) for fraction in fractions
        ]
        for by, several in draws.items()
    }
    points = []
    for by, of_ranking in after.items():
        for fraction, found, at_random in zip(fractions, of_ranking, after["random"], strict=True):
            moved, beyond = drop(found, whole), drop(found, at_random)
            loss, loss_error = auc_difference(signal, whole, found, weight)
            points.append(
                DeletionCurvePoint(
                    by=by,
                    fraction=fraction,
                    drop=moved.value,
                    drop_error=moved.error,
                    over_random=beyond.value,
                    over_random_error=beyond.error,
                    auc_loss=loss,
                    auc_loss_error=loss_error,
                )
            )
    excess = {}
    for by, of_ranking in after.items():
        if by != "random":
            mean = drop(np.mean(of_ranking, axis=0), np.mean(after["random"], axis=0))
            excess[by] = Excess(
                value=mean.value, error=mean.error, passes=mean.value > 2 * mean.error
            )
    return Deletion(events=int(right.sum()), streams=names, excess=excess, points=tuple(points))


def _kept(stream: PackedStream, values: NDArray[np.floating], fraction: float) -> PackedStream:
    """The stream without the share of tokens of the highest values, in each event."""
    event = np.repeat(np.arange(len(stream)), stream.counts)
    removed = np.floor(fraction * stream.counts + 0.5).astype(np.int64)
    # Sorted by value, the first of equal ones taken first: exactly so many go.
    order = np.lexsort((-values, event))
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order)) - stream.offsets[:-1][event]
    kept = stream.values[rank >= removed[event]]
    return replace(stream, values=kept, counts=stream.counts - removed)


def randomisation(
    network: MultiScaleClassifier,
    streams: Streams,
    weights: NDArray[np.float64],
    importance: Importance,
    *,
    seed: int,
    draws: int = 3,
) -> Randomisation:
    """Re-draw the weights block by block, from the head down, and follow the explanation.

    Compared is the order of the tokens by importance, within each stream of each event: Spearman's
    correlation with that of the trained network, averaged over the streams of the event, then over
    the events. An explanation that stays as it was tells of the inputs, not of the network.

    Each weight of a copy of the network is drawn from a normal distribution of the mean and deviation that its tensor had, so
    that the size of what flows through the network stays. An importance that is the same for all
    tokens counts as no correlation; where it is so in the trained network, the event is left out.
    The error is that of the mean over the events, and the spread of the draws, in quadrature.

    References
    ----------
    J. Adebayo et al., arXiv:1810.03292, section 3 (cascading randomisation).
    """
    trained = importance(network, streams)

    def agreement(other: Mapping[str, NDArray[np.float32]]) -> Mean:
        """Mean over the events of the rank correlation, itself the mean over the streams."""
        of_streams = []
        for name, values in trained.items():
            counts = streams[name].counts
            event = np.repeat(np.arange(len(counts)), counts)
            of_streams.append(rank_correlation(values, other[name], event, len(counts)))
        found = np.array(of_streams)
        known = ~np.isnan(found)
        some = known.any(axis=0)
        means = np.where(known, found, 0).sum(axis=0)[some] / known.sum(axis=0)[some]
        return weighted_mean(means, weights[some])

    curves: list[list[Mean]] = []
    for draw in range(draws):
        # Blocks stay re-drawn: at the end of the cascade nothing is left of what was learned.
        other = copy.deepcopy(network)
        generator = torch.Generator().manual_seed(seed + draw)
        curves.append([])
        for modules in _blocks(other).values():
            for module in modules:
                _redraw(module, generator)
            curves[-1].append(agreement(importance(other, streams)))

    untouched = agreement(trained)
    points = [Correlation(redrawn="nothing", correlation=untouched.value, error=untouched.error)]
    value, error = untouched
    for name, means in zip(_blocks(network), zip(*curves, strict=True), strict=True):
        values, errors = np.array(means).T
        value = float(values.mean())
        spread = float(values.var(ddof=1)) / draws if draws > 1 else 0.0
        error = math.sqrt(float((errors**2).mean()) + spread)
        points.append(Correlation(redrawn=name, correlation=value, error=error))
    return Randomisation(passes=passes(value, error), points=tuple(points))


def passes(correlation: float, error: float) -> bool:
    """Whether with all weights re-drawn the correlation is below 0.5 by two errors."""
    return abs(correlation) + 2 * error < _LITTLE


def _blocks(network: MultiScaleClassifier) -> dict[str, list[nn.Module]]:
    """The blocks from the head down; encoders of all streams side by side, layer by layer."""
    blocks: dict[str, list[nn.Module]] = {"head": [network.head]}
    for number in range(len(network.fusion), 0, -1):
        blocks[f"fusion {number}"] = [network.fusion[number - 1]]
    # Each once, though streams may share it; in an order that does not change.
    encoders = list(dict.fromkeys(map(network.encoder, network.settings.streams)))
    for number in range(max(len(encoder.layers) for encoder in encoders), 0, -1):
        blocks[f"layer {number}"] = [
            encoder.layers[number - 1] for encoder in encoders if len(encoder.layers) >= number
        ]
    if biases := [encoder.pairs for encoder in encoders if encoder.pairs is not None]:
        blocks["pair biases"] = [*biases]
    blocks["embedding"] = [encoder.embedding for encoder in encoders]
    return blocks


@torch.no_grad()
def _redraw(module: nn.Module, generator: torch.Generator) -> None:
    for parameter in module.parameters():
        # On the CPU: the same numbers on every device.
        drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float32)
        deviation = parameter.std(correction=0)
        parameter.copy_(parameter.mean() + deviation * drawn.to(parameter))


def rank_correlation(
    first: NDArray[np.floating],
    second: NDArray[np.floating],
    group: NDArray[np.integer],
    groups: int,
) -> Floats:
    """(groups,): Spearman's correlation of two values in each of many groups; ties have the mean rank.

    NaN where `first` has no two distinct values in the group; 0 where only `second` has none.

    Parameters
    ----------
    first, second, group
        (n,): groups are numbered from 0 to `groups` - 1.

    References
    ----------
    C. Spearman, Am. J. Psychol. 15 (1904) 72: Pearson's correlation of the ranks.
    """
    members = np.maximum(np.bincount(group, minlength=groups), 1)

    def centred(values: NDArray[np.floating]) -> Floats:
        # Group after group in one ranking: within a group the ranks are its own but for an offset.
        rank = rankdata(group * (len(values) + 1) + rankdata(values, "dense"))
        centred_rank: Floats = rank - (np.bincount(group, rank, groups) / members)[group]
        return centred_rank

    a, b = centred(first), centred(second)
    together, of_a, of_b = (np.bincount(group, x, groups) for x in (a * b, a**2, b**2))
    with np.errstate(divide="ignore", invalid="ignore"):
        correlation = together / np.sqrt(of_a * of_b)
    return np.where(of_a > 0, np.where(of_b > 0, correlation, 0.0), np.nan)
