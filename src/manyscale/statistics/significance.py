"""How significant a counted excess is expected to be."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from manyscale.errors import DataError
from manyscale.statistics.sample import Floats

__all__ = ["significance"]

# Below this the direct formula of _excess loses digits, and the series has them all.
_SERIES_BELOW = 0.1
_SERIES_TERMS = 18


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


def _excess(u: Floats) -> Floats:
    """((1 + u) ln(1 + u) - u) / u^2 for u >= -1: 1/2 at 0, 1 at -1, ln(u) / u far out."""
    small = np.abs(u) < _SERIES_BELOW
    near = np.where(small, u, 0.0)
    series = np.zeros_like(near)
    for power in range(_SERIES_TERMS, -1, -1):
        series = 1 / ((power + 1) * (power + 2)) - near * series
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
            raise DataError(
                f"{name} is {values[bad].flat[0]:g}{_where(bad)}; "
                "expected events and their error are finite and not negative"
            )
    try:
        return [np.array(values) for values in np.broadcast_arrays(*arrays.values())]
    except ValueError:
        shapes = ", ".join(f"{name} {values.shape}" for name, values in arrays.items())
        raise DataError(f"these shapes do not broadcast: {shapes}") from None


def _where(bad: NDArray[np.bool_]) -> str:
    place = np.argwhere(bad)[0].tolist()
    return f" at {place[0] if len(place) == 1 else tuple(place)}" if place else ""
