"""Do two weighted samples come from the same distribution? The two-sample Kolmogorov-Smirnov test."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import kolmogorov

from manyscale.errors import DataError
from manyscale.statistics.metrics import roc_curve
from manyscale.statistics.sample import effective_events

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
        Where a sample is empty, a value is NaN, or weights do not sum to more than zero.

    References
    ----------
    M. A. Stephens, J. R. Stat. Soc. B 32 (1970) 115. The effective sizes are an approximation that
    is exact for equal weights.

    Examples
    --------
    >>> ks_test([1, 2], [3, 4], [1, 1], [1, 1]).distance
    1.0
    """
    values = [np.asarray(of, np.float64) for of in (first, second)]
    weights = [np.asarray(of, np.float64) for of in (first_weights, second_weights)]
    for value, weight in zip(values, weights, strict=True):
        if len(value) == 0 or weight.sum() <= 0:
            raise DataError(
                f"cannot compare distributions: a sample of {len(value)} events has weights that sum "
                f"to {weight.sum():g}; it needs events, and a sum above 0"
            )
    # The two distribution functions are what a ROC curve is drawn of.
    labels = np.repeat([1, 0], [len(value) for value in values])
    curve = roc_curve(labels, np.concatenate(values), np.concatenate(weights))
    distance = float(np.abs(curve.signal - curve.background).max())
    first_size, second_size = map(effective_events, weights)
    root = math.sqrt(first_size * second_size / (first_size + second_size))
    return KsTest(distance, float(kolmogorov((root + 0.12 + 0.11 / root) * distance)))
