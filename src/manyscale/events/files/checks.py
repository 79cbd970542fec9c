"""Checks of what files hold, with errors that say where the fault is."""

from collections.abc import Callable, Mapping

import numpy as np

from manyscale.errors import DataError
from manyscale.events.particles import Array, Integers

__all__ = ["check_finite"]


def check_finite(
    columns: Mapping[str, Array], event: Integers, where: Callable[[int], str]
) -> None:
    """Refuse values that are not finite.

    Parameters
    ----------
    columns
        Name of a branch to (n,) values.
    event
        (n,): which event of the batch each value belongs to.
    where
        Names an event of the batch: file, tree and entry.

    Raises
    ------
    DataError
        Names file, tree, branch and entry of the first such value.
    """
    for name, values in columns.items():
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            place = int(event[bad[0]])
            raise DataError(
                f"{where(place)}: branch '{name}' holds {values[bad[0]]}, where a finite number is "
                "needed"
            )
