"""How much each systematic changes the expected events above a cut on the score."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from manyscale.evaluation.variations import Normalisation, Shape, Varied
from manyscale.evaluation.yields import ScaledEvents

__all__ = ["Effect", "effects"]

#: Relative change of a yield at plus and minus one standard deviation; None: no yield to change.
Effect = dict[str, float | None]


def effects(
    variations: Sequence[Normalisation | Shape],
    events: ScaledEvents,
    scores: NDArray[np.floating],
    cut: float,
) -> dict[str, dict[str, Effect]]:
    """Relative change of each process's yield above a cut under each systematic.

    Parameters
    ----------
    variations
        Of the same events.
    events
        Scaled to a luminosity.
    scores
        (events,): nominal scores of the network.
    cut
        Events of this score or above count; it stays where it is under a variation.

    Returns
    -------
    By name of the systematic, then of the process (those alone that it moves): `up` and `down`,
    0.1 for 10% more. None where no event, or less than nothing, is above the cut. Without a
    variation down, `down` is minus `up`.

    Examples
    --------
    >>> from manyscale.data.schema import Process
    >>> qcd = Process(name="qcd", label="background")
    >>> events = ScaledEvents((qcd,), np.array([0, 0]), np.array([4.0, 1.0]), 1.0)
    >>> higher = Varied({"network": np.array([0.9, 0.6])}, events.weight)
    >>> jes = Shape("jes", ("qcd",), higher, None)
    >>> effects([jes], events, np.array([0.8, 0.2]), 0.5)
    {'jes': {'qcd': {'up': 0.25, 'down': -0.25}}}
    """
    nominal = _yields(events, scores, events.weight, cut)
    found = {}
    for variation in variations:
        up, down = _changes(variation, nominal, events, cut)
        found[variation.name] = {
            process.name: {"up": _plain(up[place]), "down": _plain(down[place])}
            for place, process in enumerate(events.processes)
            if process.name in variation.processes
        }
    return found


def _changes(
    variation: Normalisation | Shape,
    nominal: NDArray[np.float64],
    events: ScaledEvents,
    cut: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Relative changes up and down, (processes,); NaN where there is nothing to be changed."""
    there = np.where(nominal > 0, 1.0, np.nan)
    if isinstance(variation, Normalisation):
        return (variation.up - 1) * there, (variation.down - 1) * there

    def change(varied: Varied) -> NDArray[np.float64]:
        moved = _yields(events, varied.scores["network"], varied.weight, cut)
        return np.divide(
            moved - nominal, nominal, out=np.full_like(nominal, np.nan), where=nominal > 0
        )

    up = change(variation.up)
    return up, -up if variation.down is None else change(variation.down)


def _yields(
    events: ScaledEvents, scores: NDArray[np.floating], weight: NDArray[np.float64], cut: float
) -> NDArray[np.float64]:
    """Expected events of each process above the cut, (processes,)."""
    above = scores >= cut
    sums = np.bincount(events.process[above], weight[above], len(events.processes))
    return sums.astype(np.float64)  # without any event above the cut they are integers


def _plain(change: float) -> float | None:
    return None if np.isnan(change) else float(change)
