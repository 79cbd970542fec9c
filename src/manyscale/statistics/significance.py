"""How significant a counted excess is expected to be."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

# Of scipy, only its name: its parts are imported when first used, as they take long.
import scipy
from numpy.typing import ArrayLike

from manyscale.errors import DataError
from manyscale.statistics.sample import Floats

__all__ = [
    "Simulated",
    "asymptotic_holds",
    "exact_significance",
    "poisson_deviance",
    "significance",
    "simulated_significance",
]

# Below this the direct formula of _excess loses digits, and its Taylor series has them all.
_SERIES_BELOW = 0.1
_SERIES = 1 / ((np.arange(19) + 1) * (np.arange(19) + 2))
# Relative step of the numerical derivatives; what they lack is of the order of its square.
_STEP = 1e-4
# A background known better than this is known; its auxiliary count would be above all integers.
_KNOWN = 1e-7
_RARE = -np.log(1e-6)
_MOST_COUNTS = 20_000
_HALVINGS = 36
_NEWTON_STEPS = 60
# The asymptotic formula is to be trusted where it agrees with the exact sum to this, absolute or
# relative.
_AGREEMENT = 0.05


class Simulated(NamedTuple):
    """A significance from simulated events, and its error from their number; both broadcast."""

    value: Floats
    error: Floats


def significance(
    s: ArrayLike, b: ArrayLike, background_error: ArrayLike = 0.0
) -> Floats | np.float64:
    """Expected (Asimov) discovery significance of a counting experiment, in standard deviations.

    Profile likelihood of n ~ Poisson(s + b) and of an auxiliary count m ~ Poisson(tau b) with
    tau = b / sigma_b^2, both at their expectation:

    Z^2 = 2 [ (s + b) ln( (s + b)(b + sigma_b^2) / (b^2 + (s + b) sigma_b^2) )
              - b^2 / sigma_b^2 ln( 1 + sigma_b^2 s / (b (b + sigma_b^2)) ) ]

    and without background error Z^2 = 2 [ (s + b) ln(1 + s / b) - s ]. Sources: G. Cowan,
    K. Cranmer, E. Gross, O. Vitells, Eur. Phys. J. C 71 (2011) 1554, arXiv:1007.1727, eq. 97; with
    sigma_b: G. Cowan, Discovery sensitivity for a counting experiment with background uncertainty
    (2012), eq. 20. For s << b it is s / sqrt(b + sigma_b^2).

    Parameters
    ----------
    s, b
        Expected events of signal and background, zero or more.
    background_error
        sigma_b, the absolute standard deviation of b, in events, zero or more. All broadcast.

    Returns
    -------
    Z of the broadcast shape, 0 where s is 0. With b = 0 and no error any signal is a discovery and
    Z infinite: an empty simulated sample is no such case, give it an error. With b = 0 and an error
    above zero the auxiliary count says nothing about b and Z is 0, the limit of the formula.

    Raises
    ------
    DataError
        Where a yield or an error is negative, NaN or infinite, or the shapes do not broadcast.

    Examples
    --------
    >>> round(float(significance(10, 100)), 3), round(float(significance(10, 100, 20)), 3)
    (0.984, 0.434)
    """
    signal, background, error = _checked(s, b, background_error)
    variance = error**2
    spread = background + variance
    known = spread > 0
    # Written with the background fitted without signal, `fitted`, every term is positive, so that
    # nothing cancels: Z^2 = 2 s^2 r / fitted [ r g(s r / fitted) + (1 - r) g(-(1 - r) s / fitted) ].
    r = np.divide(background, spread, out=np.ones_like(spread), where=known)
    loose = np.divide(variance, spread, out=np.zeros_like(spread), where=known)
    fitted = background + loose * signal
    ratio = np.divide(signal, fitted, out=np.zeros_like(fitted), where=fitted > 0)
    bracket = r * _excess(r * ratio) + loose * _excess(-loose * ratio)
    result = np.sqrt(2 * signal * ratio * r * bracket)
    return np.where(~known & (signal > 0), np.inf, result)[()]


def simulated_significance(
    signal: ArrayLike, background: ArrayLike, systematic: float = 0.0, unseen: ArrayLike = 0.0
) -> Simulated:
    """Asimov significance of simulated events, with the error that comes from their number.

    The error of the background is sigma_b^2 = sum w^2 + u + (f b)^2: that of the number of
    simulated events and a relative systematic f, in quadrature. The significance Z(s, b, sum w^2)
    is itself uncertain, since other simulated events would have given other sums: each event is
    there a Poisson number of times of mean one, and to first order (delta method, the infinitesimal
    jackknife)

    var Z = Z_s^2 sum_s w^2 + Z_b^2 sum_b w^2 + 2 Z_b Z_v sum_b w^3 + Z_v^2 sum_b w^4

    with Z_s, Z_b, Z_v its derivatives by s, b and sum_b w^2, found numerically. The cut above which
    events are counted is taken as given.

    Parameters
    ----------
    signal
        (2, ...): sums of the weights and of their squares, in expected events.
    background
        (4, ...): sums of the weights and of their second, third and fourth powers.
    systematic
        f, relative uncertainty of the background.
    unseen
        u, a further variance of the background, such as that of processes of which no simulated
        event is left.

    Raises
    ------
    DataError
        Where a sum of weights is negative or not finite.

    Examples
    --------
    >>> z = simulated_significance([10, 0.1], [100, 100, 100, 100])
    >>> round(float(z.value), 3), round(float(z.error), 3)
    (0.69, 0.039)
    """
    s, s_squares = np.asarray(signal, np.float64)
    b, squares, cubes, fourths = np.asarray(background, np.float64)
    extra = np.asarray(unseen, np.float64)

    def of(s: Floats, b: Floats, squares: Floats) -> Floats:
        error = np.sqrt(squares + extra + (systematic * b) ** 2)
        return np.asarray(significance(s, b, error))

    by_s = _slope(lambda x: of(x, b, squares), s, np.sqrt(s_squares))
    by_b = _slope(lambda x: of(s, x, squares), b, b)
    by_squares = _slope(lambda x: of(s, b, x), squares, squares)
    variance = by_s**2 * s_squares + by_b**2 * squares
    variance += 2 * by_b * by_squares * cubes + by_squares**2 * fourths
    # Rounding, or weights of both signs, may leave a little less than nothing.
    return Simulated(of(s, b, squares), np.sqrt(np.maximum(variance, 0)))


def exact_significance(s: float, b: float, background_error: float = 0.0) -> float:
    """Median discovery significance of a counting experiment by its exact Poisson probabilities.

    The same model as `significance`, n ~ Poisson(s + b) and m ~ Poisson(tau b), but with counts
    that are integers, and the test statistic

    q0 = 2 [ n ln(n / b') + m ln(m / (tau b')) ],  b' = (n + m) / (1 + tau),  0 where n <= m / tau

    (G. Cowan, K. Cranmer, E. Gross, O. Vitells, arXiv:1007.1727, eqs. 12 and 93) distributed as it
    is, by the sum over all n and m. Its median with signal has the p-value P(q0 >= median | b). As s
    grows, it climbs in steps, and lies below the asymptotic formula where few events are expected.

    The p-value is that of the nominal b, not the largest of all b that the auxiliary count allows:
    not to be trusted where tau b, the auxiliary events expected, are one or two.

    Parameters
    ----------
    s, b
        Expected events, above zero.
    background_error
        sigma_b, absolute, zero or more; tau = b / sigma_b^2.

    Returns
    -------
    Standard deviations; 0 where the p-value is above one half, infinite where it is below 1e-308.

    Raises
    ------
    DataError
        Where s or b is not above zero, or the error is negative.

    Examples
    --------
    >>> round(exact_significance(3, 0.5), 2), round(float(significance(3, 0.5)), 2)
    (2.19, 2.76)
    """
    for name, value in (("s", s), ("b", b)):
        if not 0 < value < np.inf:
            raise DataError(f"{name} is {value:g}; exact counts need expected events above 0")
    asymptotic = float(significance(s, b, background_error))
    poisson, norm = scipy.stats.poisson, scipy.stats.norm
    if background_error <= _KNOWN * b:
        # More events are always more signal-like, so that the median of q0 is that of n.
        p = poisson.sf(poisson.median(s + b) - 1, b)
        return float(max(norm.isf(p), 0.0))
    tau = b / background_error**2
    # Auxiliary counts beyond these are rarer than a millionth of the p-value (Bernstein's inequality).
    rare = _RARE - norm.logsf(asymptotic)
    first = np.floor(max(tau * b - np.sqrt(2 * rare * tau * b), 0))
    last = np.ceil(tau * b + rare / 3 + np.sqrt(rare**2 / 9 + 2 * rare * tau * b))
    # Of a great many, evenly spaced ones stand for their neighbours.
    m: Floats = np.rint(np.linspace(first, last, int(min(last - first + 1, _MOST_COUNTS))))
    weight = poisson.pmf(m, tau * b) * (last - first) / (len(m) - 1)

    def reaches(root: float, mean: float) -> float:
        """P(sqrt(q0) >= root): of each m, all n from the least on, as q0 grows with n."""
        least = _least_count(m, tau, root**2)
        return float(weight @ poisson.sf(least - 1, mean))

    low, high = 0.0, 2 * asymptotic + 5
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if reaches(middle, s + b) >= 0.5 else (low, middle)
    # Without any signal-like outcome at half of the probability, the median of q0 is 0, and p is 1.
    return float(max(norm.isf(reaches(low, b)), 0.0)) if low > 0 else 0.0


def asymptotic_holds(asymptotic: float, exact: float) -> bool:
    """Whether the asymptotic formula agrees with the exact significance to 0.05, or to 5%."""
    return abs(exact - asymptotic) <= _AGREEMENT * max(1.0, exact)


def poisson_deviance(count: ArrayLike, mean: ArrayLike) -> Floats:
    """Twice the log likelihood that a Poisson count loses where its mean is not the count itself.

    2 (mean - n + n ln(n / mean)) = 2 mean u^2 g(u) with u = n / mean - 1 and g as in `_excess`, so
    that no digit is lost where they are close, however many events there are.

    Parameters
    ----------
    count, mean
        Zero or more; they broadcast. A count of 0 is as likely as can be with a mean of 0; any
        other count is then impossible, and the result infinite.

    Examples
    --------
    >>> poisson_deviance([0, 5, 10**9], [3, 5, 10**9 + 1]).round(12)
    array([6.e+00, 0.e+00, 1.e-09])
    """
    n, expected = np.asarray(count, np.float64), np.asarray(mean, np.float64)
    some = expected > 0
    u = np.divide(n - expected, expected, out=np.zeros_like(n + expected), where=some)
    return np.where(some | (n == 0), 2 * expected * u**2 * _excess(u), np.inf)


def _least_count(m: Floats, tau: float, q0: float) -> Floats:
    """The least count n whose test statistic is `q0` or more, for each auxiliary count m."""
    # Newton's method: q0 is convex in n, so that from the second step on it falls onto the root.
    n = m / tau + 1 + np.sqrt(q0 * (m / tau + 1) * (1 + 1 / tau))
    for _ in range(_NEWTON_STEPS):
        fitted = (n + m) / (1 + tau)
        excess = poisson_deviance(n, fitted) + poisson_deviance(m, tau * fitted) - q0
        # Where q0 is next to nothing n comes to m / tau, at which the derivative is zero.
        slope = 2 * np.log(np.divide(n, fitted, out=np.ones_like(n), where=fitted > 0))
        step = np.divide(excess, slope, out=np.zeros_like(n), where=slope > 0)
        n = np.maximum(n - step, m / tau)
        if (np.abs(step) < 1e-9 * (1 + n)).all():
            break
    return np.ceil(n)


def _slope(function: Callable[[Floats], Floats], x: Floats, size: Floats) -> Floats:
    """Derivative at x >= 0 by the difference of two points near it; `size`: of its changes."""
    step = _STEP * np.maximum(x, size)
    low, high = np.maximum(x - step, 0), x + step
    rise = function(high) - function(low)
    return np.divide(rise, high - low, out=np.zeros_like(rise), where=high > low)


def _excess(u: Floats) -> Floats:
    """((1 + u) ln(1 + u) - u) / u^2 for u >= -1: 1/2 at 0, 1 at -1, ln(u) / u far out."""
    small = np.abs(u) < _SERIES_BELOW
    series = np.polynomial.polynomial.polyval(-np.where(small, u, 0.0), _SERIES)
    far = np.where(small, 1.0, np.maximum(u, -1.0))
    # 1 + 1/u vanishes at u = -1 as the logarithm diverges; their product goes to 0.
    log = np.log1p(far, out=np.zeros_like(far), where=far > -1)
    return np.where(small, series, ((1 + 1 / far) * log - 1) / far)


def _checked(s: ArrayLike, b: ArrayLike, background_error: ArrayLike) -> list[Floats]:
    named = {"s": s, "b": b, "background_error": background_error}
    arrays = {name: np.asarray(values, np.float64) for name, values in named.items()}
    for name, values in arrays.items():
        bad = ~(np.isfinite(values) & (values >= 0))
        if bad.any():
            first = np.argwhere(bad)[0].tolist()
            at = first[0] if len(first) == 1 else tuple(first)
            where = f" at {at}" if first else ""
            raise DataError(
                f"{name} is {values[bad].flat[0]:g}{where}; expected events and their error are finite and not negative"
            )
    try:
        return [np.array(values) for values in np.broadcast_arrays(*arrays.values())]
    except ValueError:
        shapes = ", ".join(f"{name} {values.shape}" for name, values in arrays.items())
        raise DataError(f"these shapes do not broadcast: {shapes}") from None
