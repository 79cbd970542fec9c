"""Do two weighted samples come from the same distribution? The two-sample Kolmogorov-Smirnov test."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import kstwobign

from manyscale.errors import DataError
from manyscale.statistics.sample import Floats, effective_events

__all__ = ["KsTest", "ks_test"]


class KsTest(NamedTuple):
    """Largest distance of two distribution functions, and the chance of one at least as large."""

    distance: float
    p_value: float


def ks_test(
    first: ArrayLike,
    second: ArrayLike,
    first_weights: ArrayLike,
    second_weights: ArrayLike,
) -> KsTest:
    """Compare two weighted samples by the Kolmogorov-Smirnov test.

    The distance D is the largest difference of the two weighted distribution functions, each going
    from 0 to 1. Its p-value is that of unweighted samples of the effective sizes
    n = (sum w)^2 / sum w^2, with Stephens' correction for small ones:
    p = Q((sqrt(N) + 0.12 + 0.11 / sqrt(N)) D), N = n1 n2 / (n1 + n2), Q the limiting distribution.

    Parameters
    ----------
    first, second
        Values, (events,) each, not binned.
    first_weights, second_weights
        Their weights; negative ones are allowed where the sum is above zero.

    Raises
    ------
    DataError
        Where a sample is empty or its weights do not sum to more than zero.

    References
    ----------
    M. A. Stephens, J. R. Stat. Soc. B 32 (1970) 115. The effective sizes are an approximation that
    is exact for equal weights.

    Examples
    --------
    >>> ks_test([1, 2], [3, 4], [1, 1], [1, 1]).distance
    1.0
    """
    values, weights = zip(
        _sample(first, first_weights), _sample(second, second_weights), strict=True
    )
    points = np.unique(np.concatenate(values))
    below = [_distribution(*sample, points) for sample in zip(values, weights, strict=True)]
    distance = float(np.abs(below[0] - below[1]).max())
    sizes = [effective_events(w) for w in weights]
    root = np.sqrt(sizes[0] * sizes[1] / (sizes[0] + sizes[1]))
    return KsTest(distance, float(kstwobign.sf((root + 0.12 + 0.11 / root) * distance)))


def _sample(values: ArrayLike, weights: ArrayLike) -> tuple[Floats, Floats]:
    x, w = np.asarray(values, np.float64), np.asarray(weights, np.float64)
    if len(x) == 0 or w.sum() <= 0:
        raise DataError(
            f"cannot compare distributions: a sample of {len(x)} events has weights that sum to "
            f"{w.sum():g}; it needs events, and a sum above 0"
        )
    return x, w


def _distribution(values: Floats, weights: Floats, points: Floats) -> Floats:
    """Weighted share of the values at or below each point."""
    order = np.argsort(values, kind="stable")
    cumulative = np.concatenate([[0.0], np.cumsum(weights[order])])
    share: Floats = cumulative[np.searchsorted(values[order], points, side="right")]
    return share / cumulative[-1]
