"""ROOT's references between the objects of an event: which constituents a jet of Delphes has."""

from typing import Any

import awkward as ak
import numpy as np
import uproot
from uproot.models.TRef import Model_TRefArray

from manyscale.events.ragged import Integers

__all__ = ["NOWHERE", "read_references", "resolve"]

#: Index of what a reference to nothing points to.
NOWHERE = -1
# The highest byte is the number of the process that wrote the object, and may stand in the object
# and not in the reference.
_NUMBER = 0xFFFFFF


def read_references(branch: Any, first: int, last: int) -> tuple[Integers, Integers, Integers]:  # noqa: ANN401 - no types
    """Read a branch of one TRefArray an object, such as `Jet.Constituents`.

    Returns
    -------
    counts
        (events,): number of objects.
    n_references
        (objects,): number of references of each.
    targets
        (references,): the unique number of what each points to.
    """
    one_each = uproot.containers.AsArray(False, False, Model_TRefArray, ())
    lists = branch.array(uproot.AsObjects(one_each, branch), entry_start=first, entry_stop=last)
    return (
        ak.to_numpy(ak.num(lists)),
        ak.to_numpy(ak.flatten(lists.fSize)).astype(np.int64),
        ak.to_numpy(ak.flatten(lists.refs, axis=None)),
    )


def resolve(targets: Integers, event: Integers, unique: Integers, counts: Integers) -> Integers:
    """Find what references point to.

    Parameters
    ----------
    targets, event
        (references,): the unique number that each points to, and its event.
    unique
        (objects,): unique numbers of all objects, one event after the other. Of two objects of
        one number the first counts.
    counts
        (events,): number of objects of each event.

    Returns
    -------
    (references,)
        Indices of the objects; `NOWHERE` where there is no such object in the event.

    Examples
    --------
    >>> resolve(np.array([7, 9, 7]), np.array([0, 0, 1]), np.array([8, 7, 7]), np.array([2, 1]))
    array([ 1, -1,  2])
    """

    def key(event: Integers, number: Integers) -> Integers:
        return (event << 24) | (number.astype(np.int64) & _NUMBER)

    own = key(np.repeat(np.arange(len(counts)), counts), unique)
    wanted = key(event, targets)
    if not len(own):
        return np.full(len(wanted), NOWHERE)
    order = np.argsort(own, kind="stable")
    index = order[np.minimum(np.searchsorted(own, wanted, sorter=order), len(own) - 1)]
    return np.where(own[index] == wanted, index, NOWHERE)
