"""Figures of merit of a classifier of two classes, with their errors; all of them weighted."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from manyscale.errors import DataError
from manyscale.statistics.intervals import efficiency
from manyscale.statistics.sample import Floats, Sample, effective_events, variance_of_mean

__all__ = [
    "SIGNAL_EFFICIENCIES",
    "RocCurve",
    "accuracy",
    "auc",
    "auc_difference",
    "auc_error",
    "auc_loss",
    "background_rejection",
    "confusion_matrix",
    "evaluate",
    "log_loss",
    "roc_curve",
    "separation",
    "tightest_cuts",
]

#: Signal efficiencies at which the background rejection is quoted.
SIGNAL_EFFICIENCIES = (0.30, 0.50, 0.70, 0.90, 0.95)

# Sums of weights in other orders differ by rounding; an efficiency this close counts as reached.
_ROUNDING = 1e-9


class RocCurve(NamedTuple):
    """Efficiencies of the cuts `score >= threshold`, from the tightest (inf, none passes) down.

    Attributes
    ----------
    signal, background, threshold
        (cuts,), one cut for each distinct score, and inf before them.
    """

    signal: Floats
    background: Floats
    threshold: Floats


class _Ranked(NamedTuple):
    """Weights at each distinct score, from the lowest up; `place`: of each event's score."""

    scores: NDArray[np.floating]
    place: NDArray[np.intp]
    signal: Floats
    background: Floats


def _ranked(sample: Sample) -> _Ranked:
    scores, place = np.unique(sample.scores, return_inverse=True)
    most = len(scores)
    return _Ranked(
        scores,
        place,
        _sums(place, np.where(sample.signal, sample.weights, 0.0), most),
        _sums(place, np.where(sample.signal, 0.0, sample.weights), most),
    )


def _sums(place: NDArray[np.integer], weights: Floats, places: int) -> Floats:
    """(places,): sum of the weights at each place."""
    return np.bincount(place, weights, places).astype(np.float64)


def _below(weights: Floats) -> Floats:
    """Weight below each distinct score, ties counting half."""
    return np.cumsum(weights) - weights / 2


def roc_curve(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> RocCurve:
    """Efficiencies of signal and background of every cut on the score.

    Examples
    --------
    >>> curve = roc_curve([0, 1, 0, 1], [0.1, 0.4, 0.4, 0.9])
    >>> curve.signal.tolist(), curve.background.tolist()
    ([0.0, 0.5, 1.0, 1.0], [0.0, 0.0, 0.5, 1.0])
    """
    ranked = _ranked(Sample.of(labels, scores, weights))
    signal, background = (
        np.concatenate([[0.0], np.cumsum(weights[::-1])])
        for weights in (ranked.signal, ranked.background)
    )
    threshold = np.concatenate([[np.inf], ranked.scores[::-1]])
    return RocCurve(signal / signal[-1], background / background[-1], threshold)


def auc(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Area under the ROC curve: sum_ij w_i w_j [x_i > y_j] / sum_ij w_i w_j, ties counting half.

    x are scores of signal, y of background. Integer weights give exactly what events repeated as
    often give: the weights at each distinct score are summed first. Negative weights are taken as they
    are; they may bring the area out of [0, 1].

    Examples
    --------
    >>> auc([0, 0, 1, 1], [0.1, 0.4, 0.4, 0.8])
    0.875
    """
    ranked = _ranked(Sample.of(labels, scores, weights))
    pairs = float((ranked.signal * _below(ranked.background)).sum())
    return pairs / (float(ranked.signal.sum()) * float(ranked.background.sum()))


def auc_error(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Standard deviation of the AUC by DeLong's method; NaN where a class has one event only.

    Each event has a placement v: the share of the other class that it is on the right side of. A
    class gives sum p^2 (v - AUC)^2, p its weights normed to one, made unbiased as the variance of a
    mean is; for equal weights that is DeLong's estimator: E. R. DeLong, D. M. DeLong,
    D. L. Clarke-Pearson, Biometrics 44 (1988) 837, in the O(n log n) way of X. Sun, W. Xu, IEEE
    Signal Process. Lett. 21 (2014) 1389.
    """
    sample = Sample.of(labels, scores, weights)
    return _spread(sample, _placements(sample))


def auc_difference(
    labels: ArrayLike, scores_a: ArrayLike, scores_b: ArrayLike, weights: ArrayLike | None = None
) -> tuple[float, float]:
    """AUC of a minus AUC of b on the same events, and the error of the difference.

    DeLong's paired error: what both classifiers find hard alike cancels, so that it is smaller than
    the errors of either added in quadrature.

    Examples
    --------
    >>> auc_difference([0, 0, 1, 1], [0.1, 0.4, 0.4, 0.8], [0.1, 0.4, 0.4, 0.8])
    (0.0, 0.0)
    """
    return auc_loss(labels, scores_a, [scores_b], weights)


def auc_loss(
    labels: ArrayLike,
    scores: ArrayLike,
    others: Sequence[ArrayLike],
    weights: ArrayLike | None = None,
) -> tuple[float, float]:
    """AUC minus the mean AUC of other scores of the same events, and the paired error of that.

    The placements of DeLong's method are averaged over the others, as the mean of their AUCs is
    linear in them: what is chance in one of them shrinks with their number.

    Examples
    --------
    >>> auc_loss([0, 0, 1, 1], [1, 2, 3, 4], [[1, 2, 3, 4], [4, 3, 2, 1]])[0]
    0.5
    """
    whole = Sample.of(labels, scores, weights)
    mean = sum(auc(labels, other, weights) for other in others) / len(others)
    placed = [_placements(Sample.of(labels, other, weights)) for other in others]
    lost = _placements(whole) - np.mean(placed, axis=0)
    return auc(labels, scores, weights) - mean, _spread(whole, lost)


def _placements(sample: Sample) -> Floats:
    """(events,): weighted share of the other class that the event is on the right side of."""
    ranked = _ranked(sample)
    of_background = ranked.background.sum()
    of_signal = ranked.signal.sum()
    above_background = _below(ranked.background)[ranked.place] / of_background
    below_signal = 1 - _below(ranked.signal)[ranked.place] / of_signal
    return np.where(sample.signal, above_background, below_signal)


def _spread(sample: Sample, placements: Floats) -> float:
    parts = (
        variance_of_mean(placements[members], sample.weights[members])
        for members in (sample.signal, ~sample.signal)
    )
    return math.sqrt(sum(parts))


def tightest_cuts(
    labels: ArrayLike,
    scores: ArrayLike,
    weights: ArrayLike | None = None,
    signal_efficiencies: Sequence[float] = SIGNAL_EFFICIENCIES,
) -> list[float]:
    """Highest thresholds that keep so much of the signal; events at the threshold pass.

    Examples
    --------
    >>> tightest_cuts([0, 1, 1], [0.1, 0.5, 0.9], signal_efficiencies=(0.5, 1.0))
    [0.9, 0.5]
    """
    curve = roc_curve(labels, scores, weights)
    reached = (curve.signal >= wanted * (1 - _ROUNDING) for wanted in signal_efficiencies)
    return [float(curve.threshold[int(np.argmax(where))]) for where in reached]


def background_rejection(
    labels: ArrayLike,
    scores: ArrayLike,
    weights: ArrayLike | None = None,
    signal_efficiencies: tuple[float, ...] = SIGNAL_EFFICIENCIES,
) -> dict[str, dict[str, float | None]]:
    """One over the background efficiency of the tightest cut that keeps enough of the signal.

    Events of equal score pass or fail together, so that the cut may keep more than asked.

    Returns
    -------
    For each signal efficiency, "0.70" say: `value`, and `low` and `high`, the 68.3% Clopper-Pearson
    interval of the background efficiency turned over; the cut is taken as given. Where no
    background is left, or weights of both signs leave none, `value` and `high` are None and `low`
    is the limit that this many events allow.

    Examples
    --------
    >>> background_rejection([0, 0, 1], [0.1, 0.9, 0.5], signal_efficiencies=(0.5,))["0.50"]["value"]
    2.0
    """
    sample = Sample.of(labels, scores, weights)
    of_background, weight = sample.scores[~sample.signal], sample.weights[~sample.signal]
    out: dict[str, dict[str, float | None]] = {}
    cuts = tightest_cuts(labels, scores, weights, signal_efficiencies)
    for wanted, cut in zip(signal_efficiencies, cuts, strict=True):
        kept = efficiency(weight, of_background >= cut)
        out[f"{wanted:.2f}"] = {
            "value": 1 / kept.value if kept.value > 0 else None,
            "low": 1 / kept.high,
            "high": 1 / kept.low if kept.low > 0 else None,
        }
    return out


def accuracy(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Share of the events on the right side of a signal probability of one half."""
    matrix = confusion_matrix(labels, scores, weights)
    return float(np.trace(matrix) / matrix.sum())


def confusion_matrix(
    labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None
) -> Floats:
    """Sums of weights by true class (row) and by the class with the higher probability (column).

    Examples
    --------
    >>> confusion_matrix([0, 0, 1, 1], [0.1, 0.7, 0.6, 0.8]).tolist()
    [[1.0, 1.0], [0.0, 2.0]]
    """
    sample = Sample.of(labels, scores, weights)
    cell = 2 * sample.signal + (sample.scores > 0.5)
    return _sums(cell, sample.weights, 4).reshape(2, 2)


def log_loss(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Weighted mean of -ln p of the true class, p kept one rounding step away from 0 and 1.

    Raises
    ------
    DataError
        Where a score is no probability.
    """
    sample = Sample.of(labels, scores, weights)
    outside = (sample.scores < 0) | (sample.scores > 1)
    if outside.any():
        event = int(np.argmax(outside))
        raise DataError(
            f"event {event} has the score {sample.scores[event]}, which is no probability: "
            "scores lie between 0 and 1"
        )
    smallest = float(np.finfo(sample.scores.dtype).eps)
    probability = np.clip(sample.scores.astype(np.float64), smallest, 1 - smallest)
    losses = -np.where(sample.signal, np.log(probability), np.log1p(-probability))
    return float((sample.weights * losses).sum() / sample.weights.sum())


def separation(
    labels: ArrayLike, values: ArrayLike, weights: ArrayLike | None = None, bins: int = 40
) -> float:
    """How far the distributions of a variable differ: <S^2> = 1/2 sum (s - b)^2 / (s + b).

    s and b are the shares of signal and background in a bin; 0 for equal distributions, 1 for
    distributions apart (A. Hoecker et al., TMVA, arXiv:physics/0703039, sec. 3.1.4). Unlike there,
    the bins hold equally many events, so that <S^2> does not change with the variable's scale, and
    a value that many events share is a bin of its own, and so are missing values. A bin that
    negative weights leave with less than nothing counts as empty: its (s - b)^2 / (s + b) could be
    anything. Equal distributions of n events each still give about `bins` / (2 n).

    Parameters
    ----------
    labels, values, weights
        (events,); values that are not finite are missing.

    Examples
    --------
    >>> separation([1, 1, 0, 0], [3.0, 4.0, 1.0, 2.0]), separation([1, 0], [3.0, 3.0])
    (1.0, 0.0)
    """
    value = np.asarray(values, np.float64)
    missing = ~np.isfinite(value)
    sample = Sample.of(labels, np.where(missing, 0.0, value), weights)
    present = value[~missing]
    edges = np.unique(np.quantile(present, np.arange(1, bins) / bins)) if len(present) else present
    # Twice the place between edges, and the odd number between for a value on an edge.
    place = np.searchsorted(edges, value) + np.searchsorted(edges, value, side="right")
    place = np.where(missing, 2 * len(edges) + 1, place)
    contents = (
        _sums(place[members], sample.weights[members], 2 * len(edges) + 2).clip(min=0)
        for members in (sample.signal, ~sample.signal)
    )
    s, b = (content / content.sum() for content in contents)
    filled = s + b > 0
    return float(((s - b)[filled] ** 2 / (s + b)[filled]).sum() / 2)


def evaluate(
    labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None
) -> dict[str, Any]:
    """Evaluate a classifier on class-balanced weights: each class sums to one, whatever it was given.

    Parameters
    ----------
    labels, weights
        (events,): 1 signal, 0 background; without weights each event counts 1 in its class.
    scores
        (events,) signal probability, or (events, 2) as `predict_proba` gives them.

    Returns
    -------
    The first group of metrics.json: `auc`, `auc_error` (None where a class has one event only),
    `accuracy`, `loss`, `n_events`, `n_effective`, `background_rejection`.

    Raises
    ------
    DataError
        As `Sample.of`, and where a score is no probability.

    Examples
    --------
    >>> evaluate([0, 0, 1, 1], [0.1, 0.6, 0.7, 0.8])["auc"]
    1.0
    """
    balanced = Sample.of(labels, scores, weights).balanced()
    # What can be is made of the weights as given: integer ones sum exactly.
    error = auc_error(labels, scores, weights)
    matrix = confusion_matrix(labels, scores, weights)
    return {
        "auc": auc(labels, scores, weights),
        "auc_error": None if math.isnan(error) else error,
        "accuracy": float((np.diag(matrix) / matrix.sum(axis=1)).mean()),
        "loss": log_loss(labels, scores, balanced.weights),
        "n_events": len(balanced.signal),
        "n_effective": effective_events(balanced.weights),
        "background_rejection": background_rejection(labels, scores, weights),
    }
