"""Templates: expected events in bins of the score, process by process, with their errors."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from manyscale.data.schema import Process
from manyscale.errors import DataError
from manyscale.evaluation.yields import ScaledEvents
from manyscale.statistics.sample import Floats

__all__ = ["Templates", "check_background"]


@dataclass(frozen=True)
class Templates:
    """Expected events in bins of a score.

    Attributes
    ----------
    edges
        (bins + 1,): a bin holds its lower edge, the last one also its upper.
    processes
        Of the dataset, in its order.
    content, squares
        (processes, bins): sums of the weights, in expected events, and of their squares.
    counts
        (processes, bins): simulated events.
    one_event
        (processes,): mean squared weight of the simulated events in any bin; 0 of a process without.
    """

    edges: Floats
    processes: tuple[Process, ...]
    content: Floats
    squares: Floats
    counts: Floats
    one_event: Floats

    @staticmethod
    def of(scores: ArrayLike, events: ScaledEvents, edges: ArrayLike) -> "Templates":
        """Fill the bins; events outside of all are left out.

        Parameters
        ----------
        scores
            (events,): the higher, the more signal-like.
        edges
            (bins + 1,), rising.

        Raises
        ------
        DataError
            Where lengths differ, or a score is NaN.

        Examples
        --------
        >>> qcd = Process(name="qcd", label="background")
        >>> events = ScaledEvents((qcd,), np.zeros(3, int), np.array([2.0, 1.0, -0.5]), 1.0)
        >>> Templates.of([0.2, 0.5, 1.0], events, [0, 0.5, 1]).content
        array([[2. , 0.5]])
        """
        score, bounds = np.asarray(scores, np.float64), np.asarray(edges, np.float64)
        if len(score) != len(events.weight):
            raise DataError(f"{len(score)} scores for {len(events.weight)} events: give one each")
        if np.isnan(score).any():
            raise DataError(f"event {int(np.argmax(np.isnan(score)))} has no score")
        bins, processes = len(bounds) - 1, len(events.processes)
        place = np.searchsorted(bounds, score, side="right") - 1
        place[score == bounds[-1]] = bins - 1
        inside = (place >= 0) & (place < bins)
        cell = events.process[inside] * bins + place[inside]
        weight = events.weight[inside]
        content, squares, counts = (
            np.bincount(cell, powers, processes * bins).reshape(-1, bins).astype(np.float64)
            for powers in (weight, weight**2, np.ones_like(weight))
        )
        number, total = counts.sum(axis=1), squares.sum(axis=1)
        one_event = np.divide(total, number, out=np.zeros(processes), where=number > 0)
        return Templates(bounds, events.processes, content, squares, counts, one_event)

    @property
    def is_background(self) -> NDArray[np.bool_]:
        """(processes,): which are background."""
        return np.array([process.label == "background" for process in self.processes], bool)

    @property
    def background(self) -> Floats:
        """(bins,): expected events of all background."""
        total: Floats = self.content[self.is_background].sum(axis=0)
        return total

    @property
    def background_variance(self) -> Floats:
        """(bins,): variance of the background from the number of simulated events.

        Nothing seen is no yield of zero: a background process without a simulated event in a bin
        counts with the error of one.
        """
        total: Floats = self.variance[self.is_background].sum(axis=0)
        return total

    @property
    def variance(self) -> Floats:
        """(processes, bins): of the expected events; where nothing is simulated, that of one event."""
        unseen = (self.counts == 0) * self.one_event[:, None]
        return self.squares + unseen

    @property
    def n_effective(self) -> Floats:
        """(processes, bins): effective number of simulated events, (sum w)^2 / sum w^2."""
        some = self.squares > 0
        return np.divide(self.content**2, self.squares, out=np.zeros_like(self.content), where=some)

    def signal(self, names: Collection[str]) -> Floats:
        """(bins,): expected events of processes by name; bins of less than nothing count as empty."""
        chosen = np.array([process.name in names for process in self.processes], bool)
        return np.maximum(self.content[chosen].sum(axis=0), 0)

    def merged(self, first: Sequence[int] | NDArray[np.int64]) -> "Templates":
        """Join bins: each new bin begins with the bin given, the first with bin 0."""
        content, squares, counts = (
            np.add.reduceat(values, first, axis=1)
            for values in (self.content, self.squares, self.counts)
        )
        edges = self.edges[[*first, -1]]
        return Templates(edges, self.processes, content, squares, counts, self.one_event)


def check_background(templates: Templates) -> None:
    """Refuse bins without background: a signal there would be a discovery for nothing.

    Raises
    ------
    DataError
        The message names the first such bin and its edges.
    """
    content = templates.background
    if (content > 0).all():
        return
    place = int(np.argmin(content > 0))
    low, high = templates.edges[place : place + 2]
    what = "no background" if content[place] == 0 else f"{content[place]:.3g} background events"
    raise DataError(
        f"bin {place + 1} of {len(content)}, scores from {low:g} to {high:g}, holds {what}; a "
        "template needs some in each bin: give other evaluation.limits.edges, or null to have them "
        "chosen"
    )
