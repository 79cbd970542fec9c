"""Which events of a batch are padded together: short ones side by side in bins, long ones alone."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Bins"]

# Measured on one core with two heads of width 16: bins below this many rows cost more in calls than
# they save in pairs; one more group costs what so many rows do; so many pairs cost what one row does.
_BIN_ROWS = 48
_GROUP_COST = 200
_PAIRS_A_ROW = 250


@dataclass(frozen=True)
class Bins:
    """Which events of a batch share a bin, and which bins are padded together.

    Short events stand side by side in a bin, where a mask keeps them from seeing each other; a long
    one has a bin of its own. Bins of similar length form a group. The batch was drawn at random
    before: what is learned from it does not depend on the bins.

    Attributes
    ----------
    of_event
        (events,): the bin of each event; the bins of a group follow each other.
    groups
        Number of bins of each group.
    alone
        Whether each event of the group has a bin of its own.
    """

    of_event: NDArray[np.int64]
    groups: tuple[int, ...]
    alone: tuple[bool, ...]

    @staticmethod
    def of(lengths: NDArray[np.int64]) -> "Bins":
        """Share out events of so many rows, (events,), each of one row at least.

        Examples
        --------
        >>> bins = Bins.of(np.array([2, 40, 3, 2]))
        >>> bins.of_event.tolist(), bins.groups, bins.alone
        ([0, 0, 0, 0], (1,), (False,))
        """
        order = np.argsort(-lengths, kind="stable")
        of_event = np.empty(len(lengths), np.int64)
        groups: list[int] = []
        alone: list[bool] = []
        for first, last in _segments(lengths[order]):
            filled = _fill(lengths[order[first:last]])
            of_event[order[first:last]] = sum(groups) + filled
            groups.append(int(filled.max(initial=-1)) + 1)
            alone.append(groups[-1] == last - first)
        return Bins(of_event, tuple(groups), tuple(alone))


def _segments(lengths: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Cut events, longest first, into groups, where a cut saves more than a group costs."""
    found: list[tuple[int, int]] = []
    waiting = [(0, len(lengths))]
    while waiting:
        first, last = waiting.pop()
        cut = first + _best_cut(lengths[first:last])
        if cut > first:
            waiting += [(cut, last), (first, cut)]
        else:
            found.append((first, last))
    return found


def _best_cut(lengths: NDArray[np.int64]) -> int:
    """Events of the first of two groups, longest first; 0 where one group is as good."""
    if lengths.max(initial=0) <= _BIN_ROWS:
        return 0
    rows = np.cumsum(lengths)
    cuts = np.arange(1, len(lengths))
    whole = _cost(lengths[:1], len(lengths), rows[-1:])
    parts = _cost(lengths[0], cuts, rows[:-1])
    parts += _cost(lengths[1:], len(lengths) - cuts, rows[-1] - rows[:-1])
    together = np.concatenate([whole, parts + _GROUP_COST])
    return int(np.argmin(together))


def _cost(
    longest: NDArray[np.int64], events: NDArray[np.int64] | int, rows: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Work of groups, in rows."""
    bins = _number_of_bins(events, rows)
    slots = np.maximum(longest, rows / bins)
    return bins * slots * (1 + slots / _PAIRS_A_ROW)


def _number_of_bins(events: NDArray[np.int64] | int, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many bins these events take, each as many events of mean length as fit."""
    return -(-events // np.maximum(1, _BIN_ROWS * events // rows))


def _fill(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Bin of each event of a group, longest first: the longest have one each, the others fill it up."""
    rows = lengths.sum()
    bins = int(_number_of_bins(len(lengths), np.maximum(rows, 1)))
    filled = np.arange(len(lengths))
    if bins < len(lengths):
        room = np.maximum(lengths[0], -(-rows // bins))
        ends = np.cumsum(room - lengths[:bins])
        # The shortest come first, where there is the least room.
        rest = lengths[: bins - 1 : -1]
        middle = np.cumsum(rest) - rest / 2
        filled[bins:] = np.minimum(np.searchsorted(ends, middle), bins - 1)[::-1]
    return filled
