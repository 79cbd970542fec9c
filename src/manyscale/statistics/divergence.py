"""How far two binned distributions are apart."""

import numpy as np
from numpy.typing import ArrayLike

from manyscale.errors import DataError

__all__ = ["jensen_shannon"]


def jensen_shannon(first: ArrayLike, second: ArrayLike) -> float:
    """Jensen-Shannon divergence of two histograms in bits: 0 where they are equal, 1 where apart.

    JS = H((p + q) / 2) - (H(p) + H(q)) / 2, H = -sum p log2 p, of the histograms p and q, each with
    unit sum (J. Lin, IEEE Trans. Inf. Theory 37 (1991) 145). Two samples of n and m events of one
    distribution in B bins give about (B - 1) / (8 ln 2) (1 / n + 1 / m), not 0.

    Parameters
    ----------
    first, second
        (bins,): contents, of any sum. A bin that negative weights leave with less than nothing
        counts as empty.

    Returns
    -------
    The divergence; NaN where a histogram has no content.

    Raises
    ------
    DataError
        Where the numbers of bins differ.

    Examples
    --------
    >>> jensen_shannon([2, 2], [1, 1]), jensen_shannon([1, 0], [0, 3])
    (0.0, 1.0)
    """
    p, q = (np.asarray(contents, np.float64).clip(min=0) for contents in (first, second))
    if p.shape != q.shape:
        raise DataError(f"histograms of {len(p)} and {len(q)} bins cannot be compared")
    if not (p.sum() > 0 and q.sum() > 0):
        return float("nan")
    p, q = p / p.sum(), q / q.sum()
    middle = (p + q) / 2
    terms = sum((x[x > 0] * np.log2(x[x > 0] / middle[x > 0])).sum() for x in (p, q))
    return max(float(terms) / 2, 0.0)
