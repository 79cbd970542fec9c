"""Discovery significance of a counting experiment by toys, for where there are few events."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import logsumexp, ndtri_exp
from scipy.stats import poisson

from manyscale.errors import DataError
from manyscale.statistics.sample import Floats
from manyscale.statistics.significance import poisson_deviance, significance

__all__ = ["ToySignificance", "discovery_statistic", "poisson_significance", "toy_significance"]

# Independent groups of toys, whose spread gives the error.
_GROUPS = 20
# A background known better than this is known; its auxiliary count would be above all integers.
_KNOWN = 1e-7
# The asymptotic formula is to be trusted where the toys agree with it to this, absolute or
# relative, or to their error.
_AGREEMENT = 0.05


class ToySignificance(NamedTuple):
    """Median discovery significance of a counting experiment, by toys and by the Asimov formula.

    Attributes
    ----------
    value, error
        Standard deviations, and their error from the number of toys.
    p_value
        Probability of the median outcome, or one more signal-like, without signal.
    toys
        How many were made.
    asymptotic
        The formula of `manyscale.statistics.significance.significance`.
    """

    value: float
    error: float
    p_value: float
    toys: int
    asymptotic: float

    @property
    def asymptotic_holds(self) -> bool:
        """Whether the formula agrees with the toys to 0.05, to 5%, or to twice their error."""
        allowed = max(_AGREEMENT * max(1.0, self.value), 2 * self.error)
        return abs(self.value - self.asymptotic) <= allowed


def discovery_statistic(n: ArrayLike, m: ArrayLike, tau: float, background: float) -> Floats:
    """Test statistic q0 of n counted events, with an auxiliary count m of the background.

    n ~ Poisson(s + b) and m ~ Poisson(tau b). With b fitted without signal, (n + m) / (1 + tau),
    q0 = 2 [ n ln(n / b) + m ln(m / (tau b)) ] where n is above the m / tau expected of background,
    else 0 (G. Cowan, K. Cranmer, E. Gross, O. Vitells, arXiv:1007.1727, eqs. 12 and 93).

    Parameters
    ----------
    n, m
        Counts, of the same shape.
    tau
        Auxiliary events for an event of background; infinite where the background is known.
    background
        The background where it is known; else it is not looked at.

    Examples
    --------
    >>> discovery_statistic([5, 12], [10, 10], 1.0, 10.0).round(3)
    array([0.   , 0.182])
    """
    counted, auxiliary = np.asarray(n, np.float64), np.asarray(m, np.float64)
    if np.isinf(tau):
        return np.where(counted > background, poisson_deviance(counted, background), 0.0)
    fitted = (counted + auxiliary) / (1 + tau)
    q0 = poisson_deviance(counted, fitted) + poisson_deviance(auxiliary, tau * fitted)
    return np.where(counted > auxiliary / tau, q0, 0.0)


def toy_significance(
    s: float,
    b: float,
    background_error: float,
    generator: np.random.Generator,
    toys: int = 100_000,
) -> ToySignificance:
    """Median discovery significance of a counting experiment, by pseudo-experiments.

    The same model as `manyscale.statistics.significance.significance`, but with counts that are
    integers, and q0 distributed as it is. Its median with signal has the p-value

    p = P(q0 >= median | b)

    A tail of seven standard deviations is as well known as one of one: the toys of background are
    drawn from means b exp(t) and tau b exp(-t / tau), whose difference is the signal, and weighted
    by the ratio of likelihoods (exponential tilting; D. Siegmund, Ann. Stat. 4 (1976) 673). The
    p-value is that of the nominal b, not the largest of all b that the auxiliary count allows: not
    to be trusted where tau b, the auxiliary events expected, are one or two.

    Parameters
    ----------
    s, b
        Expected events, above zero.
    background_error
        sigma_b, absolute, zero or more; tau = b / sigma_b^2.
    generator
        The source of randomness.
    toys
        How many; rounded to a multiple of 20.

    Raises
    ------
    DataError
        Where s or b is not above zero, or the error is negative.

    Examples
    --------
    >>> z = toy_significance(3.0, 0.5, 0.0, np.random.default_rng(1))
    >>> round(z.asymptotic, 1), round(z.value, 1), z.asymptotic_holds
    (2.8, 2.2, False)
    """
    _check(s, b)
    asymptotic = float(significance(s, b, background_error))
    tau = b / background_error**2 if background_error > _KNOWN * b else np.inf
    shape = (_GROUPS, max(1, toys // _GROUPS))
    n, m = _counts(generator, s + b, tau, b, shape)
    medians = np.median(discovery_statistic(n, m, tau, b), axis=1, keepdims=True)
    tilt = _tilt(s, b, tau)
    n, m = _counts(generator, b * np.exp(tilt), tau, b * np.exp(-tilt / tau), shape)
    q0 = discovery_statistic(n, m, tau, b)
    log_weight = b * np.expm1(tilt) - tilt * n
    if tau < np.inf:
        log_weight += tau * b * np.expm1(-tilt / tau) + tilt / tau * m
    in_groups = _from_log(_log_tail(q0, log_weight, medians))
    log_p = float(_log_tail(q0.ravel(), log_weight.ravel(), np.median(medians, axis=0)))
    return ToySignificance(
        value=float(_from_log(log_p)),
        error=float(np.std(in_groups, ddof=1) / np.sqrt(_GROUPS)),
        p_value=float(np.exp(min(log_p, 0.0))),
        toys=q0.size,
        asymptotic=asymptotic,
    )


def poisson_significance(s: float, b: float) -> float:
    """Exact significance of the median count of s + b expected events, the background b known.

    p = P(n >= median | b). Counts are integers: as s grows, it climbs in steps, and lies below the
    Asimov formula where few events are expected. Infinite where p is below 1e-308.

    Raises
    ------
    DataError
        Where s or b is not above zero.

    Examples
    --------
    >>> round(poisson_significance(3, 0.5), 2), round(float(significance(3, 0.5)), 2)
    (2.19, 2.76)
    """
    _check(s, b)
    tail = poisson.sf(poisson.median(s + b) - 1, b)
    return float(_from_log(np.log(tail))) if tail > 0 else float("inf")


def _counts(
    generator: np.random.Generator,
    mean: float,
    tau: float,
    background: float,
    shape: tuple[int, int],
) -> tuple[Floats, Floats]:
    n = generator.poisson(mean, shape).astype(np.float64)
    if np.isinf(tau):
        return n, np.zeros(shape)
    return n, generator.poisson(tau * background, shape).astype(np.float64)


def _tilt(s: float, b: float, tau: float) -> float:
    """Where b exp(t) - b exp(-t / tau) = s: there background alone most easily looks like signal."""
    known = float(np.log1p(s / b))
    if np.isinf(tau):
        return known
    return float(brentq(lambda t: b * (np.exp(t) - np.exp(-t / tau)) - s, 0.0, known))


def _log_tail(q0: Floats, log_weight: Floats, least: Floats) -> Floats:
    """Logarithm of the probability to be at `least` or above, along the last axis."""
    beyond = np.where(q0 >= least, log_weight, -np.inf)
    return np.asarray(logsumexp(beyond, axis=-1) - np.log(q0.shape[-1]))


def _from_log(log_p: ArrayLike) -> Floats:
    """Significance of a p-value given by its logarithm, 0 where p is above one half."""
    return np.maximum(-ndtri_exp(np.minimum(log_p, np.log(0.5))), 0.0)


def _check(s: float, b: float) -> None:
    for name, value in (("s", s), ("b", b)):
        if not 0 < value < np.inf:
            raise DataError(f"{name} is {value:g}; toys need expected events above 0")
