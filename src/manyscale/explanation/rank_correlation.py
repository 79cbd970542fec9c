"""Spearman's rank correlation inside each of many groups at once."""

import numpy as np
from numpy.typing import NDArray

from manyscale.statistics.sample import Floats

__all__ = ["rank_correlation", "ranks"]


def ranks(values: NDArray[np.floating], group: NDArray[np.integer]) -> Floats:
    """Rank of each value inside its group, from 0 up; equal values share the mean of theirs.

    Parameters
    ----------
    values, group
        (n,): groups are numbered from 0 up; members need not stand side by side.

    Examples
    --------
    >>> ranks(np.array([3.0, 1.0, 7.0, 3.0]), np.array([0, 0, 1, 0])).tolist()
    [1.5, 0.0, 0.0, 1.5]
    """
    order = np.lexsort((values, group))
    value, owner = values[order], group[order]
    place = np.arange(len(order), dtype=np.float64)
    new_group = np.append(True, owner[1:] != owner[:-1])[: len(order)]
    new_value = new_group.copy()
    new_value[1:] |= value[1:] != value[:-1]
    tie = np.cumsum(new_value) - 1
    shared = np.bincount(tie, place) / np.maximum(np.bincount(tie), 1)
    start = place[new_group][np.cumsum(new_group) - 1]
    found = np.empty(len(order))
    found[order] = shared[tie] - start
    return found


def rank_correlation(
    first: NDArray[np.floating],
    second: NDArray[np.floating],
    group: NDArray[np.integer],
    groups: int,
) -> Floats:
    """(groups,): Spearman's correlation of two values; ties have the mean rank.

    NaN where `first` has no two distinct values in the group; 0 where only `second` has none.

    Parameters
    ----------
    first, second, group
        (n,): groups are numbered from 0 to `groups` - 1.

    References
    ----------
    C. Spearman, Am. J. Psychol. 15 (1904) 72: Pearson's correlation of the ranks.
    """
    members = np.maximum(np.bincount(group, minlength=groups), 1)

    def centred(values: NDArray[np.floating]) -> Floats:
        rank = ranks(values, group)
        return rank - (np.bincount(group, rank, groups) / members)[group]

    a, b = centred(first), centred(second)
    together, of_a, of_b = (np.bincount(group, x, groups) for x in (a * b, a**2, b**2))
    with np.errstate(divide="ignore", invalid="ignore"):
        correlation = together / np.sqrt(of_a * of_b)
    return np.where(of_a > 0, np.where(of_b > 0, correlation, 0.0), np.nan)
