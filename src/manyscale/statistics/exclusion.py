"""Expected CLs limits from what a likelihood loses, and that of independent bins in closed form."""

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
import scipy
from numpy.typing import ArrayLike

from manyscale.errors import DataError
from manyscale.statistics.sample import Floats
from manyscale.statistics.significance import poisson_deviance

__all__ = [
    "BANDS",
    "CONFIDENCE",
    "Expected",
    "expected_limits",
    "limit_roots",
    "profiled_deviance",
    "statistics_only",
]

CONFIDENCE: Final = 0.95
#: Standard deviations of the background's fluctuation that the bands stand for.
BANDS: Final = (-2, -1, 0, 1, 2)

_DOUBLINGS = 60
_PRECISION = 1e-4


class Expected(NamedTuple):
    """What a search is expected to find.

    Attributes
    ----------
    limits
        Upper limit on the signal strength, by band.
    significance
        Of a discovery at signal strength one, in standard deviations.
    """

    limits: dict[int, float]
    significance: float


def limit_roots(confidence: float = CONFIDENCE) -> dict[int, float]:
    """Root of q_A at the expected CLs limit, by band.

    On the Asimov data set of background alone, the expected limit of the band N is the signal
    strength mu with

    sqrt(q_A(mu)) = Phi^-1(1 - (1 - confidence) Phi(N)) + N

    A. L. Read, J. Phys. G 28 (2002) 2693; G. Cowan, K. Cranmer, E. Gross, O. Vitells,
    arXiv:1007.1727, with CLs in place of CLs+b in their eq. 89.

    Examples
    --------
    >>> {band: round(root, 3) for band, root in limit_roots().items()}
    {-2: 1.052, -1: 1.412, 0: 1.96, 1: 2.727, 2: 3.656}
    """
    isf, cdf = scipy.stats.norm.isf, scipy.stats.norm.cdf
    return {band: float(isf((1 - confidence) * cdf(band)) + band) for band in BANDS}


def profiled_deviance(
    n: ArrayLike, s: ArrayLike, b: ArrayLike, background_error: ArrayLike
) -> Floats:
    """What -2 ln L of a bin loses where n events are counted, the background fitted by itself.

    The least of

    2 (x + s - n + n ln(n / (x + s))) + (x - b)^2 / sigma_b^2

    where x >= 0, the fitted background, solves a quadratic equation: HistFactory's likelihood of a
    bin with its `staterror`.

    Parameters
    ----------
    n
        Events counted, zero or more; need not be an integer.
    s, b
        Expected events of the signal tested and of background, zero or more.
    background_error
        sigma_b. All broadcast.
    """
    counted, signal, background, error = (
        np.asarray(x, np.float64) for x in (n, s, b, background_error)
    )
    variance = error**2
    # y = x - b solves y^2 + p y + c = 0; this form of its root loses no digits.
    p = background + signal + variance
    c = variance * (background + signal - counted)
    below = p + np.sqrt(np.maximum(p**2 - 4 * c, 0))
    y = np.divide(-2 * c, below, out=np.zeros_like(below), where=below > 0)
    y = np.maximum(y, -background)
    pull = np.divide(y**2, variance, out=np.zeros_like(y), where=variance > 0)
    return poisson_deviance(counted, background + y + signal) + pull


def expected_limits(root_deviance: Callable[[float], float], guess: float) -> dict[int, float]:
    """Expected upper limits on the signal strength, by band.

    Parameters
    ----------
    root_deviance
        sqrt(q_A) of a signal strength; 0 at 0, and growing.
    guess
        A signal strength near the median limit, above zero.

    Raises
    ------
    DataError
        Where no signal, however strong, would be excluded.

    Examples
    --------
    >>> limits = expected_limits(lambda mu: mu / 5, 1.0)
    >>> round(limits[0], 2)
    9.8
    """
    limits: dict[int, float] = {}
    low = 0.0
    for band, wanted in limit_roots().items():
        if root_deviance(low) > wanted:  # so steep that both bands are one within the precision
            limits[band] = low
            continue
        high = max(guess, 1.5 * low)
        for _ in range(_DOUBLINGS):
            if root_deviance(high) > wanted:
                break
            low, high = high, 2 * high
        else:
            raise DataError(
                "no signal, however strong, would be excluded: there is next to none in the "
                "templates, or the systematics could make any of it"
            )
        low = limits[band] = float(
            scipy.optimize.brentq(
                lambda mu, wanted: root_deviance(mu) - wanted, low, high, (wanted,), rtol=_PRECISION
            )
        )
    return limits


def statistics_only(s: ArrayLike, b: ArrayLike, background_error: ArrayLike) -> Expected:
    """Limits and significance of independent bins, the statistical errors alone.

    Parameters
    ----------
    s, b, background_error
        (bins,): as in `profiled_deviance`.

    Raises
    ------
    DataError
        Where there is no signal.

    Examples
    --------
    >>> found = statistics_only([10.0], [1e4], [0.0])
    >>> round(found.limits[0], 1), round(found.significance, 3)
    (19.7, 0.1)
    """
    signal, background = np.asarray(s, np.float64), np.asarray(b, np.float64)
    error = np.asarray(background_error, np.float64)
    spread = background + error**2
    # Where s << b, q_A = mu^2 sum s^2 / (b + sigma_b^2); without background, q_A = 2 mu s.
    squares = np.divide(signal**2, spread, out=signal.copy(), where=spread > 0)
    if not squares.sum() > 0:
        raise DataError("no signal is expected in the templates: there is nothing to exclude")

    def root(tested: float, true: float) -> float:
        n = true * signal + background
        return float(np.sqrt(profiled_deviance(n, tested * signal, background, error).sum()))

    guess = 2 / float(np.sqrt(squares.sum()))
    return Expected(expected_limits(lambda mu: root(mu, 0.0), guess), root(0.0, 1.0))
