"""Intervals of efficiencies, from counts and from weights."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv

from manyscale.errors import DataError
from manyscale.statistics.sample import Floats, effective_events

__all__ = ["ONE_SIGMA", "Interval", "binomial_interval", "efficiency"]

#: Probability content of one standard deviation, 0.6827.
ONE_SIGMA = math.erf(math.sqrt(0.5))


class Interval(NamedTuple):
    """A value and the ends of its interval."""

    value: float
    low: float
    high: float


def binomial_interval(
    passed: ArrayLike, total: ArrayLike, level: float = ONE_SIGMA
) -> tuple[Floats, Floats]:
    """Central Clopper-Pearson interval of an efficiency; it covers at least `level` of the time.

    low = Beta^-1((1 - level) / 2; k, n - k + 1), high = Beta^-1((1 + level) / 2; k + 1, n - k),
    0 at k = 0 and 1 at k = n (C. J. Clopper, E. S. Pearson, Biometrika 26 (1934) 404). Through the
    beta function it takes effective counts, which need not be whole.

    Parameters
    ----------
    passed, total
        k and n; they broadcast. Of n = 0 events the interval is (0, 1).

    Raises
    ------
    DataError
        Where not 0 <= k <= n, or the level is not inside (0, 1).

    Examples
    --------
    >>> low, high = binomial_interval(0, 10)
    >>> float(low), round(float(high), 4)
    (0.0, 0.1681)
    """
    k, n = np.broadcast_arrays(np.asarray(passed, np.float64), np.asarray(total, np.float64))
    if not np.all((k >= 0) & (k <= n) & np.isfinite(n)):
        raise DataError("an efficiency needs 0 <= passed <= total")
    if not 0 < level < 1:
        raise DataError(f"the level of an interval is {level:g}; it lies between 0 and 1")
    tail = (1 - level) / 2
    some, rest = k > 0, k < n
    low = np.where(some, betaincinv(np.where(some, k, 1), n - k + 1, tail), 0.0)
    high = np.where(rest, betaincinv(k + 1, np.where(rest, n - k, 1), 1 - tail), 1.0)
    return low, high


def efficiency(weights: ArrayLike, passed: NDArray[np.bool_], level: float = ONE_SIGMA) -> Interval:
    """Weighted share of the events that pass, with its Clopper-Pearson interval.

    The interval is that of k = n e passed of n effective events, n such that the binomial variance
    e (1 - e) / n is that of the weights, ((1 - e)^2 sum_passed w^2 + e^2 sum_failed w^2) / W^2.
    Where none or all pass, n = W^2 / sum w^2. For equal weights both are the number of events.
    Negative weights that push e out of [0, 1] leave it at the end, and the interval then reaches at
    least as far as the standard deviation of those that pass, or fail.

    Parameters
    ----------
    weights, passed
        (events,); the weights sum to above zero.

    Raises
    ------
    DataError
        Where the weights do not sum to above zero.
    """
    weight = np.asarray(weights, np.float64)
    total = float(weight.sum())
    if not total > 0:
        raise DataError(f"an efficiency needs weights that sum to above 0, not to {total:g}")
    share = min(max(float(weight[passed].sum()) / total, 0.0), 1.0)
    of_passed, of_failed = (float((weight[some] ** 2).sum()) for some in (passed, ~passed))
    # Where one side is empty or weighs nothing the share is exact, whatever the rounding.
    if of_passed == 0 or of_failed == 0:
        share = float(of_failed == 0)
    n = effective_events(weight)
    if 0 < share < 1:
        variance = ((1 - share) ** 2 * of_passed + share**2 * of_failed) / total**2
        n = share * (1 - share) / variance
    low, high = (float(end) for end in binomial_interval(share * n, n, level))
    if share == 0:
        high = max(high, min(math.sqrt(of_passed) / total, 1.0))
    elif share == 1:
        low = min(low, max(1 - math.sqrt(of_failed) / total, 0.0))
    return Interval(share, low, high)
