"""Several classifiers on the same events, compared with the first, with paired errors."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from manyscale.evaluation.results import ComparisonRow, Rejection
from manyscale.statistics.intervals import binomial_interval
from manyscale.statistics.metrics import (
    SIGNAL_EFFICIENCIES,
    auc,
    auc_difference,
    auc_error,
    tightest_cuts,
)
from manyscale.statistics.sample import Floats, effective_events

__all__ = ["ClassifierScores", "Training", "compare"]


@dataclass(frozen=True)
class ClassifierScores:
    """One classifier's scores of the common events, and what else is known of it."""

    #: (events,): signal probability.
    scores: NDArray[np.floating]
    #: Of the network and its training; None for trees and combination.
    parameters: int | None = None
    events_per_second: float | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Training:
    """One training of each classifier: what they say of the events that it is tested on.

    Attributes
    ----------
    event_ids, labels, weights
        (events,): 1 signal, 0 background; class-balanced weights.
    classifiers
        By name; the first is what the others are compared with.
    """

    event_ids: NDArray[np.uint64]
    labels: NDArray[np.integer]
    weights: Floats
    classifiers: Mapping[str, ClassifierScores]


def compare(
    trainings: Sequence[Training], efficiencies: Sequence[float] = SIGNAL_EFFICIENCIES
) -> list[ComparisonRow]:
    """Evaluate classifiers on the same events, each beside the first; of several trainings the means.

    Scores of different trainings come from different networks, whose scales differ, so that they are
    never ranked against each other: ranking the joined scores of all folds would compare signal of one
    network with background of another, which lowers the AUC (G. Forman, M. Scholz, SIGKDD Explor. 12
    (2010) 49). Each training is evaluated on its own test events, and the AUCs are averaged, whose
    statistical error is that of DeLong's method in each fold (E. LeDell, M. Petersen, M. van der Laan,
    Electron. J. Stat. 9 (2015) 1583). Differences are taken training by training on the same events,
    then averaged. Of rejections the background efficiencies are averaged, each at its own cut, so that
    a training without background left is one of zero passing, not of an unknown rejection.

    The error of a mean. Take a figure x_k as the sum of what the training does to it, of variance t^2,
    independent, and of the fluctuation of its test sample, of variance e^2, known from one sample
    alone. Two test samples that have a part o of their events in common (none of two folds)
    fluctuate with the covariance o e^2. Then the variance s^2 over n trainings is on average
    t^2 + (1 - o) e^2, and that of their mean

    (t^2 + e^2) / n + (1 - 1 / n) o e^2 = max(s^2, (1 - o) e^2) / n + o e^2

    The maximum, as t^2 is not below zero: a few trainings that agree by chance do not make the error
    less than the statistical one. The last term stays however many trainings there are: all of them
    together cannot know a figure better than the whole dataset does. What the training samples of
    folds have in common is not in it, and no unbiased estimate of that exists (Y. Bengio,
    Y. Grandvalet, J. Mach. Learn. Res. 5 (2004) 1089): the error is that of training on this dataset.

    Parameters
    ----------
    trainings
        Classifiers that not all have are left out.
    efficiencies
        Of the signal, at which rejections are given.

    Returns
    -------
    A row a classifier. Intervals are of 68.3%: of the rejection Clopper-Pearson's of as many
    effective events as give the variance above, of the ratio of two rejections that of its logarithm.
    """
    pairs = combinations([training.event_ids for training in trainings], 2)
    common = [len(np.intersect1d(a, b)) / math.sqrt(len(a) * len(b)) for a, b in pairs]
    mean = _Mean(len(trainings), float(np.mean(common)) if common else 0.0)

    rows = []
    first = next(iter(trainings[0].classifiers))
    base = [_passing(training, first, first, efficiencies) for training in trainings]
    for name, known in trainings[0].classifiers.items():
        # A combination, say, may be missing where there were too few events to fit it.
        if not all(name in training.classifiers for training in trainings):
            continue
        samples = [(t.labels, t.classifiers[name].scores, t.weights) for t in trainings]
        areas = np.array([auc(*sample) for sample in samples])
        errors = np.array([auc_error(*sample) for sample in samples])
        passing = [_passing(training, name, first, efficiencies) for training in trainings]
        figures: dict[str, Any] = {
            "name": name,
            "trainings": mean.n,
            "auc": float(areas.mean()),
            "auc_error": float(np.sqrt(mean.variance(areas, errors**2))),
            "background_rejection": _rejections(passing, mean, efficiencies),
            "parameters": known.parameters,
        }
        if mean.n > 1:
            figures["auc_spread"] = float(areas.std(ddof=1))
        for rate in ("events_per_second", "seconds"):
            found = [getattr(training.classifiers[name], rate) for training in trainings]
            if None not in found:
                figures[rate] = float(np.mean(found))
        if name != first:
            of_first = (training.classifiers[first].scores for training in trainings)
            paired = np.array(
                [
                    auc_difference(labels, scores, other, weights)
                    for (labels, scores, weights), other in zip(samples, of_first, strict=True)
                ]
            )
            figures |= {
                "difference_to": first,
                "difference": float(paired[:, 0].mean()),
                "difference_error": float(np.sqrt(mean.variance(paired[:, 0], paired[:, 1] ** 2))),
                "rejection_ratio": _ratios(passing, base, mean, efficiencies),
            }
        # Made by validation, so that unknown errors are checked as any.
        rows.append(ComparisonRow.model_validate(figures))
    return rows


class _Mean(NamedTuple):
    """What the mean over n trainings is known to, whose test samples overlap."""

    n: int
    overlap: float

    def variance(self, values: Floats, variances: Floats) -> Floats:
        """Of the mean over the first axis, from the values and what each test sample is known to."""
        single = variances.mean(axis=0)
        spread = np.var(values, axis=0, ddof=1) if self.n > 1 else 0.0
        found = np.maximum(spread, (1 - self.overlap) * single) / self.n + self.overlap * single
        return np.asarray(found, np.float64)


class _Passing(NamedTuple):
    """Background that passes the tightest cut of each signal efficiency, (efficiencies,)."""

    share: Floats
    variance: Floats
    covariance: Floats  # with the share of the first classifier
    events: float  # effective number of background events, in all


def _rejections(
    passing: Sequence[_Passing], mean: _Mean, efficiencies: Sequence[float]
) -> dict[str, Rejection]:
    """One over the mean background efficiency at each signal efficiency."""
    shares = np.array([one.share for one in passing])
    efficiency = shares.mean(axis=0).clip(0, 1)
    variance = mean.variance(shares, np.array([one.variance for one in passing]))
    # Where none or all pass nothing varies: as many events as all trainings have together.
    together = np.mean([one.events for one in passing]) / (
        (1 - mean.overlap) / mean.n + mean.overlap
    )
    counts = np.full(len(efficiency), together)
    known = variance > 0
    counts[known] = (efficiency * (1 - efficiency))[known] / variance[known]
    low, high = binomial_interval(efficiency * counts, counts)
    found = {}
    for place, wanted in enumerate(efficiencies):
        point: dict[str, Any] = {
            "value": 1 / efficiency[place] if efficiency[place] > 0 else None,
            "low": 1 / high[place],
            "high": 1 / low[place] if low[place] > 0 else None,
        }
        if mean.n > 1 and (shares[:, place] > 0).all():
            point["spread"] = float(np.std(1 / shares[:, place], ddof=1))
        found[f"{wanted:.2f}"] = Rejection(**point)
    return found


def _ratios(
    passing: Sequence[_Passing],
    base: Sequence[_Passing],
    mean: _Mean,
    efficiencies: Sequence[float],
) -> dict[str, Rejection]:
    """Rejection over that of the first classifier, where both are known; the error of its logarithm."""
    shares, of_first = (np.array([one.share for one in of]) for of in (passing, base))
    found = {}
    for place, wanted in enumerate(efficiencies):
        p, q = shares[:, place].mean(), of_first[:, place].mean()
        if not (p > 0 and q > 0):
            continue
        variances = [
            one.variance[place] / p**2
            + other.variance[place] / q**2
            - 2 * one.covariance[place] / (p * q)
            for one, other in zip(passing, base, strict=True)
        ]
        moves = of_first[:, place] / q - shares[:, place] / p
        # Rounding may leave a little below zero of two that are the same.
        error = max(float(mean.variance(moves, np.array(variances))), 0.0)
        factor = math.exp(math.sqrt(error))
        found[f"{wanted:.2f}"] = Rejection(value=q / p, low=q / p / factor, high=q / p * factor)
    return found


def _passing(training: Training, name: str, first: str, efficiencies: Sequence[float]) -> _Passing:
    """Shares of one classifier; the cuts are taken as given."""
    background = training.labels == 0
    weights = training.weights[background] / training.weights[background].sum()
    squares = weights**2
    scores, base = (training.classifiers[one].scores for one in (name, first))
    cuts = zip(
        tightest_cuts(training.labels, scores, training.weights, efficiencies),
        tightest_cuts(training.labels, base, training.weights, efficiencies),
        strict=True,
    )
    found = []
    for cut, base_cut in cuts:
        passed, base_passed = scores[background] >= cut, base[background] >= base_cut
        kept, base_kept = weights[passed].sum(), weights[base_passed].sum()
        off, base_off = passed - kept, base_passed - base_kept
        found.append((kept, (squares * off**2).sum(), (squares * off * base_off).sum()))
    share, variance, covariance = np.array(found, np.float64).T
    return _Passing(share, variance, covariance, effective_events(weights))
