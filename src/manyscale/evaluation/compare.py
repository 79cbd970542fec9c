"""Several classifiers on the same events, compared with the first, with paired errors."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from manyscale.evaluation.results import ComparisonRow, Rejection
from manyscale.statistics.metrics import auc_difference, evaluate

__all__ = ["ClassifierScores", "average", "compare"]


@dataclass(frozen=True)
class ClassifierScores:
    """One classifier's scores of the common events, and what else is known of it."""

    #: (events,): signal probability.
    scores: NDArray[np.floating]
    #: Of the network and its training; None for trees and combination.
    parameters: int | None = None
    events_per_second: float | None = None


def compare(
    labels: ArrayLike, weights: ArrayLike, classifiers: Mapping[str, ClassifierScores]
) -> list[ComparisonRow]:
    """Evaluate classifiers on the same events, each beside the first.

    Parameters
    ----------
    labels, weights
        (events,): 1 signal, 0 background, class-balanced weights.
    classifiers
        By name; the first is what the others are compared with.

    Returns
    -------
    A row a classifier; the errors of the differences are paired (DeLong).
    """
    rows = []
    first = next(iter(classifiers))
    for name, one in classifiers.items():
        figures = evaluate(labels, one.scores, weights)
        beside = {}
        if name != first:
            base = classifiers[first].scores
            difference, error = auc_difference(labels, one.scores, base, weights)
            beside = {"difference_to": first, "difference": difference, "difference_error": error}
        rows.append(
            ComparisonRow(
                name=name,
                auc=figures["auc"],
                auc_error=figures["auc_error"],
                background_rejection=figures["background_rejection"],
                parameters=one.parameters,
                events_per_second=one.events_per_second,
                **beside,
            )
        )
    return rows


def average(
    trainings: Sequence[Sequence[ComparisonRow]], event_ids: Sequence[NDArray[np.uint64]]
) -> list[ComparisonRow]:
    """Mean over several trainings of the same classifiers, with the error of the mean.

    Each training has its own split, but all splits are of one dataset, so that test samples overlap,
    and the trainings are not independent. Take a figure x_k as the sum of what the training does to
    it, of variance t^2, independent, and of the fluctuation of its test sample, of variance e^2,
    known from one sample alone. Two test samples that have a part o of their events in common
    fluctuate with the covariance o e^2. Then the variance s^2 over n trainings is on average
    t^2 + (1 - o) e^2, and that of their mean

    (t^2 + e^2) / n + (1 - 1 / n) o e^2 = s^2 / n + o e^2

    The first term is the usual one; the second stays however many trainings there are: all of them
    together cannot know a figure better than the whole dataset does.

    Parameters
    ----------
    trainings
        Rows of `compare`, one list a training, two trainings at least.
    event_ids
        Of the test events of each training.

    Returns
    -------
    Rows of the same form: `auc`, `difference` and the rejections are means over the trainings.
    """
    pairs = combinations(event_ids, 2)
    common = [len(np.intersect1d(a, b)) / math.sqrt(len(a) * len(b)) for a, b in pairs]
    overlap = float(np.mean(common))

    def mean(values: Sequence[float], errors: Sequence[float | None]) -> tuple[float, float]:
        e = np.array(errors, np.float64)  # None becomes NaN
        variance = np.var(values, ddof=1) / len(values) + overlap * np.mean(e**2)
        return float(np.mean(values)), float(np.sqrt(variance))

    averaged = []
    for rows in zip(*trainings, strict=True):
        auc, auc_error = mean([row.auc for row in rows], [row.auc_error for row in rows])
        figures: dict[str, object] = {"auc": auc, "auc_error": auc_error}
        differences = [row.difference for row in rows if row.difference is not None]
        if differences:
            value, error = mean(differences, [row.difference_error for row in rows])
            figures |= {"difference": value, "difference_error": error}
        rates = [row.events_per_second for row in rows if row.events_per_second is not None]
        if rates:
            figures["events_per_second"] = float(np.mean(rates))
        rejections = {}
        for efficiency in rows[0].background_rejection:
            points = [row.background_rejection[efficiency] for row in rows]
            known = [point.value for point in points if point.value is not None]
            if len(known) < len(points):
                # One training without background left makes the mean unknown; its limits still hold.
                lowest = min(point.low for point in points)
                rejections[efficiency] = Rejection(value=None, low=lowest, high=None)
                continue
            # Half the interval of 68%; open above, its lower part.
            halves = [
                (point.high - point.low) / 2 if point.high is not None else value - point.low
                for point, value in zip(points, known, strict=True)
            ]
            value, error = mean(known, halves)
            rejections[efficiency] = Rejection(value=value, low=value - error, high=value + error)
        figures["background_rejection"] = rejections
        # Made anew, so that unknown errors are checked as any.
        averaged.append(ComparisonRow.model_validate(rows[0].plain() | figures))
    return averaged
