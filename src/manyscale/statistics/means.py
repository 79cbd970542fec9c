"""Weighted means with their errors."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from manyscale.statistics.sample import Floats

__all__ = ["Mean", "variance_of_mean", "weighted_mean"]


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
