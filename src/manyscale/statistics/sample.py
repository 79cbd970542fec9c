"""Weighted events: means, effective numbers, and scored samples, checked once at the border."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from manyscale.errors import DataError

__all__ = [
    "LARGEST_WEIGHT",
    "TOO_LARGE",
    "Floats",
    "Mean",
    "Sample",
    "effective_events",
    "variance_of_mean",
    "weighted_mean",
]

Floats = NDArray[np.float64]

#: Of larger weights the squares, or their sums, are no numbers any more.
LARGEST_WEIGHT = 1e100
TOO_LARGE = f"weights beyond {LARGEST_WEIGHT:g} cannot be added up; scale them, or look for damage"


def effective_events(weights: ArrayLike) -> float:
    """Effective number of events, (sum w)^2 / sum w^2: as many events of weight one tell as much.

    Parameters
    ----------
    weights
        (events,): negative ones are allowed, and cost much. Of no events the number is 0.

    Examples
    --------
    >>> effective_events([1, 1, 1, 1]), effective_events([2, 1, 1])
    (4.0, 2.6666666666666665)
    """
    values = np.asarray(weights, np.float64)
    squares = float((values**2).sum())
    return float(values.sum()) ** 2 / squares if squares > 0 else 0.0


class Mean(NamedTuple):
    """A mean and its standard deviation."""

    value: float
    error: float


def weighted_mean(values: ArrayLike, weights: ArrayLike) -> Mean:
    """Mean of values with fixed weights; the error is NaN for one event, both where nothing weighs.

    Parameters
    ----------
    values, weights
        (events,): weights may be negative; both numbers are NaN where they sum to zero.

    Examples
    --------
    >>> weighted_mean([1.0, 3.0], [1.0, 1.0])
    Mean(value=2.0, error=1.0)
    """
    value, weight = np.asarray(values, np.float64), np.asarray(weights, np.float64)
    if weight.sum() == 0:
        return Mean(math.nan, math.nan)
    mean = float((weight * value).sum() / weight.sum())
    return Mean(mean, math.sqrt(variance_of_mean(value, weight)))


def variance_of_mean(values: Floats, weights: Floats) -> float:
    """Unbiased variance of a mean with fixed weights, (events,) each; NaN for one event.

    For equal weights that of textbooks, sum (v - mean)^2 / (n (n - 1)).
    """
    if np.count_nonzero(weights) < 2:
        return math.nan
    share = weights / weights.sum()
    mean = (share * values).sum()
    squares = share**2
    # E[sum p^2 (v - mean)^2] = sigma^2 sum_i p_i^2 ((1 - p_i)^2 + sum_{j != i} p_j^2).
    total = squares.sum()
    seen = (squares * ((1 - share) ** 2 + (total - squares))).sum()
    return float((squares * (values - mean) ** 2).sum() * total / seen)


class Sample(NamedTuple):
    """Scored events of two classes."""

    #: (events,): whether the event is signal.
    signal: NDArray[np.bool_]
    #: (events,): the higher, the more signal-like; in the precision in which they were given.
    scores: NDArray[np.floating]
    #: (events,): the sum is above zero in each class, single weights may be negative.
    weights: Floats

    @staticmethod
    def of(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> "Sample":
        """Check labels (1 signal, 0 background), scores and weights; without weights each is 1.

        Parameters
        ----------
        labels, weights
            (events,).
        scores
            (events,), or (events, 2) as `predict_proba` gives them.

        Raises
        ------
        DataError
            No events, arrays of different lengths, a label that is neither 0 nor 1, NaN among
            scores or weights, one class only, or a class whose weights do not sum to above zero.
        """
        label = np.asarray(labels)
        score = np.asarray(scores)
        if score.dtype.kind not in "fiub":
            raise DataError(f"scores of type {score.dtype} are not numbers")
        if score.dtype.kind != "f":
            score = score.astype(np.float64)
        if score.ndim == 2 and score.shape[1] == 2:
            score = score[:, 1]
        if score.ndim != 1:
            raise DataError(
                f"scores have the shape {score.shape}; give (events,), the signal probability, or "
                "(events, 2), the probabilities of background and signal"
            )
        weight = np.ones(len(score)) if weights is None else np.asarray(weights, np.float64)
        if label.ndim != 1 or weight.ndim != 1:
            raise DataError(
                f"labels and weights have the shapes {label.shape} and {weight.shape}; "
                "give one of each an event"
            )
        if not len(label) == len(score) == len(weight):
            raise DataError(
                f"{len(label)} labels, {len(score)} scores and {len(weight)} weights: "
                "give one of each an event"
            )
        if not len(label):
            raise DataError("there are no events to evaluate")
        _refuse_first(~np.isin(label, (0, 1)), "label", label, "labels are 1 signal, 0 background")
        _refuse_first(np.isnan(score), "score", score, "look for odd inputs of that event")
        _refuse_first(~np.isfinite(weight), "weight", weight, "weights must be finite")
        _refuse_first(np.abs(weight) > LARGEST_WEIGHT, "weight", weight, TOO_LARGE)
        signal = label.astype(bool)
        for name, members in (("signal", signal), ("background", ~signal)):
            if not members.any():
                raise DataError(f"there are no {name} events: two classes are needed to evaluate")
            total = weight[members].sum()
            if total < 1 / LARGEST_WEIGHT:
                raise DataError(
                    f"the weights of the {members.sum()} {name} events sum to {total:g}; "
                    "a class needs a sum above 0: give more events, or other weights"
                )
        return Sample(signal, score, weight)

    def balanced(self) -> "Sample":
        """Return the same events with the weights of each class summing to one."""
        of_signal = self.weights[self.signal].sum()
        of_background = self.weights[~self.signal].sum()
        scale = np.where(self.signal, of_signal, of_background)
        return self._replace(weights=self.weights / scale)


def _refuse_first(bad: NDArray[np.bool_], what: str, values: NDArray[np.generic], do: str) -> None:
    if bad.any():
        event = int(np.argmax(bad))
        raise DataError(f"event {event} has the {what} {values[event]}: {do}")
