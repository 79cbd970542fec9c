"""ROOT's references between the objects of an event: from the bytes of TRefArrays to places."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from manyscale.events.particles import Integers

__all__ = ["NOWHERE", "References", "decode", "resolve"]

#: Place of what a reference to nothing points to.
NOWHERE = -1

# Number of bytes that follow (its highest bits are flags) and a version; a TObject: version, unique
# number, bits; then a string, the number of references, their lowest index, a process number and
# the references. Source: io/doc/TFile/trefarray.md and TRefArray::Streamer of ROOT.
_COUNT, _VERSION, _OBJECT, _SIZE, _REST = 4, 2, 10, 4, 6
_NAME = _COUNT + _VERSION + _OBJECT
_COUNT_BITS = 0x3FFFFFFF
# The highest byte is the number of the process that wrote the object, and may stand in the object
# and not in the reference.
_NUMBER = 0xFFFFFF


class References(NamedTuple):
    """References of many objects.

    Attributes
    ----------
    counts
        (objects,): number of references of each.
    targets
        (references,): the unique number of what each points to.
    """

    counts: Integers
    targets: Integers


def decode(data: NDArray[np.uint8], lengths: Integers, objects: Integers) -> References:
    """Decode serialised TRefArrays, one an object.

    Parameters
    ----------
    data
        Bytes of all events, one event behind the other.
    lengths, objects
        (events,): number of bytes, and of TRefArrays, of each event.

    Raises
    ------
    ValueError
        Where the bytes are no TRefArrays.
    """
    ends = np.cumsum(lengths)
    position = ends - lengths
    first_object = np.cumsum(objects) - objects
    total = int(objects.sum())
    counts, starts = np.zeros(total, np.int64), np.zeros(total, np.int64)
    # One step takes the next TRefArray of every event that still has one.
    for step in range(int(objects.max(initial=0))):
        events = np.flatnonzero(objects > step)
        at = position[events]
        _check(at + _NAME < ends[events])
        size_at = at + _NAME + 1 + data[at + _NAME]
        _check(size_at + _SIZE + _REST <= ends[events])
        size = _integers(data, size_at)
        start = size_at + _SIZE + _REST
        stop = at + _COUNT + (_integers(data, at) & _COUNT_BITS)
        _check((start + 4 * size == stop) & (stop <= ends[events]))
        place = first_object[events] + step
        counts[place], starts[place] = size, start
        position[events] = stop
    _check(position == ends)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return References(counts, _integers(data, np.repeat(starts, counts) + 4 * within))


def resolve(targets: Integers, event: Integers, unique: Integers, counts: Integers) -> Integers:
    """Find what references point to.

    Parameters
    ----------
    targets, event
        (references,): the unique number that each points to, and its event.
    unique
        (objects,): unique numbers of all objects, one event behind the other. Of two objects of
        one number the first counts.
    counts
        (events,): number of objects of each event.

    Returns
    -------
    (references,)
        Places among the objects; `NOWHERE` where there is no such object in the event.

    Examples
    --------
    >>> resolve(np.array([7, 9, 7]), np.array([0, 0, 1]), np.array([8, 7, 7]), np.array([2, 1]))
    array([ 1, -1,  2])
    """
    own = _key(np.repeat(np.arange(len(counts)), counts), unique)
    wanted = _key(event, targets)
    if not len(own):
        return np.full(len(wanted), NOWHERE)
    order = np.argsort(own, kind="stable")
    place = order[np.minimum(np.searchsorted(own, wanted, sorter=order), len(own) - 1)]
    return np.where(own[place] == wanted, place, NOWHERE)


def _key(event: Integers, number: Integers) -> Integers:
    return (event << 24) | (number.astype(np.int64) & _NUMBER)


def _integers(data: NDArray[np.uint8], at: Integers) -> Integers:
    """Four bytes each, the highest first."""
    four = data[at[:, None] + np.arange(4)].astype(np.int64)
    return four @ np.array([1 << 24, 1 << 16, 1 << 8, 1])


def _check(fits: NDArray[np.bool_]) -> None:
    if not fits.all():
        raise ValueError("the bytes are no TRefArrays")
