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
    #: Of the network and its training; None for the trees.
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
        With the same classifiers.
    efficiencies
        Of the signal, at which rejections are given.

    Returns
    -------
    A row a classifier. Intervals are of 68.3%: of the rejection Clopper-Pearson's of as many
    effective events as give the variance above, of the ratio of two rejections that of its logarithm.
    """
    pairs = combinations([training.event_ids for training in trainings], 2)
    common = [len(np.intersect1d(a, b)) / math.sqrt(len(a) * len(b)) for a, b in pairs]
    overlap = float(np.mean(common)) if common else 0.0
    n = len(trainings)

    def spread(values: Floats) -> Floats:
        return np.var(values, axis=0, ddof=1) if n > 1 else np.zeros(values.shape[1:])

    def variance(values: Floats, variances: Floats) -> Floats:
        """Of the mean over the trainings, the first axis."""
        single = variances.mean(axis=0)
        both = np.maximum(spread(values), (1 - overlap) * single) / n + overlap * single
        return np.asarray(both, np.float64)

    rows = []
    first = next(iter(trainings[0].classifiers))
    of_first = [_passing(training, first, first, efficiencies) for training in trainings]
    for name, known in trainings[0].classifiers.items():
        samples = [(t.labels, t.classifiers[name].scores, t.weights) for t in trainings]
        areas = np.array([auc(*sample) for sample in samples])
        errors = np.array([auc_error(*sample) for sample in samples])
        figures: dict[str, Any] = {
            "name": name,
            "trainings": n,
            "auc": float(areas.mean()),
            "auc_error": float(np.sqrt(variance(areas, errors**2))),
            "parameters": known.parameters,
        }
        if n > 1:
            figures["auc_spread"] = float(np.sqrt(spread(areas)))
        for rate in ("events_per_second", "seconds"):
            found = [getattr(training.classifiers[name], rate) for training in trainings]
            if None not in found:
                figures[rate] = float(np.mean(found))
        if name != first:
            paired = np.array(
                [
                    auc_difference(labels, scores, training.classifiers[first].scores, weights)
                    for training, (labels, scores, weights) in zip(trainings, samples, strict=True)
                ]
            )
            figures |= {
                "difference_to": first,
                "difference": float(paired[:, 0].mean()),
                "difference_error": float(np.sqrt(variance(paired[:, 0], paired[:, 1] ** 2))),
            }
        passing = [_passing(training, name, first, efficiencies) for training in trainings]
        shares, variances, covariances, events = (
            np.array([getattr(one, part) for one in passing]) for part in _Passing._fields
        )
        mean = shares.mean(axis=0).clip(0, 1)
        # Where none or all pass nothing varies: as many events as all trainings have together.
        together = events.mean() / ((1 - overlap) / n + overlap)
        whole = variance(shares, variances)
        counts = np.divide(
            mean * (1 - mean), whole, out=np.full(len(mean), together), where=whole > 0
        )
        low, high = binomial_interval(mean * counts, counts)
        rejections = {}
        for place, wanted in enumerate(efficiencies):
            point: dict[str, Any] = {
                "value": 1 / mean[place] if mean[place] > 0 else None,
                "low": 1 / high[place],
                "high": 1 / low[place] if low[place] > 0 else None,
            }
            if n > 1 and (shares[:, place] > 0).all():
                point["spread"] = float(np.std(1 / shares[:, place], ddof=1))
            rejections[f"{wanted:.2f}"] = Rejection(**point)
        figures["background_rejection"] = rejections
        if name != first:
            base = np.array([one.share for one in of_first])
            base_variances = np.array([one.variance for one in of_first])
            over = base.mean(axis=0)
            ratios = {}
            for place in np.flatnonzero((mean > 0) & (over > 0)).tolist():
                p, q = mean[place], over[place]
                error = variance(
                    base[:, place] / q - shares[:, place] / p,
                    variances[:, place] / p**2
                    + base_variances[:, place] / q**2
                    - 2 * covariances[:, place] / (p * q),
                )
                factor = math.exp(math.sqrt(max(float(error), 0.0)))
                ratios[f"{efficiencies[place]:.2f}"] = Rejection(
                    value=q / p, low=q / p / factor, high=q / p * factor
                )
            figures["rejection_ratio"] = ratios
        # Made by validation, so that unknown errors are checked as any.
        rows.append(ComparisonRow.model_validate(figures))
    return rows


class _Passing(NamedTuple):
    """Background that passes the tightest cut of each signal efficiency, (efficiencies,)."""

    share: Floats
    variance: Floats
    covariance: Floats  # with the share of the first classifier
    events: float  # effective number of background events, in all


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
