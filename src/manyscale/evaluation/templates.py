"""Templates: expected events in bins of the score, with their errors; and the choice of the bins."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from manyscale.errors import DataError
from manyscale.evaluation.yields import ScaledEvents, is_background
from manyscale.schema import Process
from manyscale.statistics.exclusion import statistics_only
from manyscale.statistics.sample import Floats
from manyscale.statistics.significance import significance

__all__ = ["Templates", "best_edges", "check_background"]

# Values of the score where an edge may be: so many by the rank of signal, and of background.
_SIGNAL_RANKS = 100
_BACKGROUND_RANKS = 50
# An edge that adds less than this part of the squared significance is left out.
_WORTH = 1e-3


@dataclass(frozen=True)
class Templates:
    """Expected events in bins of a score."""

    #: (bins + 1,): a bin holds its lower edge, the last one also its upper.
    edges: Floats
    #: Of the dataset, in its order.
    processes: tuple[Process, ...]
    #: (processes, bins): sums of the weights, in expected events, and of their squares.
    content: Floats
    squares: Floats
    #: (processes, bins): simulated events.
    counts: Floats
    #: (processes,): mean squared weight of the simulated events in any bin; 0 of a process without.
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

        Examples
        --------
        >>> qcd = Process(name="qcd", label="background")
        >>> events = ScaledEvents((qcd,), np.zeros(3, int), np.array([2.0, 1.0, -0.5]), 1.0)
        >>> Templates.of([0.2, 0.5, 1.0], events, [0, 0.5, 1]).content
        array([[2. , 0.5]])
        """
        score, bounds = events.checked(scores), np.asarray(edges, np.float64)
        bins, processes = len(bounds) - 1, len(events.processes)
        index = np.searchsorted(bounds, score, side="right") - 1
        # Scores of exactly 1 belong to the last bin, as in numpy's histograms.
        index[score == bounds[-1]] = bins - 1
        inside = (index >= 0) & (index < bins)
        # One number for each pair of process and bin, so that one count fills all.
        cell = events.process[inside] * bins + index[inside]
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
        return is_background(self.processes)

    @property
    def background(self) -> Floats:
        """(bins,): expected events of all background."""
        return np.asarray(self.content[self.is_background].sum(axis=0))

    @property
    def variance(self) -> Floats:
        """(processes, bins): of the expected events, from the number of simulated events.

        Nothing seen is no yield of zero: where nothing of a process is simulated, that of one event.
        """
        return self.squares + (self.counts == 0) * self.one_event[:, None]

    @property
    def background_variance(self) -> Floats:
        """(bins,): `variance` of all background."""
        return np.asarray(self.variance[self.is_background].sum(axis=0))

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
        edges = self.edges[[*first, -1]]
        return self.joined(lambda values: np.add.reduceat(values, first, axis=1), edges)

    def joined(self, join: Callable[[Floats], Floats], edges: Floats) -> "Templates":
        """The same templates with bins put together by a function of (processes, bins)."""
        return replace(
            self,
            edges=edges,
            content=join(self.content),
            squares=join(self.squares),
            counts=join(self.counts),
        )


def check_background(templates: Templates) -> None:
    """Refuse bins without background: a signal there would be a discovery for nothing."""
    content = templates.background
    if (content > 0).all():
        return
    bad = int(np.argmin(content > 0))
    low, high = templates.edges[bad : bad + 2]
    what = "no background" if content[bad] == 0 else f"{content[bad]:.3g} background events"
    raise DataError(
        f"bin {bad + 1} of {len(content)}, scores from {low:g} to {high:g}, holds {what}; a "
        "template needs some in each bin: give other evaluation.limits.edges, or null to have them "
        "chosen"
    )


# ---- the choice of the bins ---------------------------------------------------------------------


def best_edges(
    scores: ArrayLike,
    events: ScaledEvents,
    signals: Sequence[Collection[str]],
    *,
    bins: int,
    floor: float,
) -> Floats:
    """Choose edges that tell signal from background best, with enough background in each bin.

    Edges may lie where a hundredth more of the signal is kept, or where the rank of the background
    grows by a step of a geometric series, so that they are dense where the signal is. From the top
    of the score, a bin is closed as soon as its background reaches the floor, and bins in which
    signal over background does not rise with the score are merged. Then two neighbours
    are merged again and again, those that lose least of the sum over bins of the squared Asimov
    significance (with the statistical error of the simulated background), until as few bins are
    left as are allowed and each edge is worth it. The signal is taken at the strength that these
    bins would just exclude, so that its cross section does not matter.

    The choice is made on the events that fill the templates then: it follows their fluctuations,
    and the limit is a little too good. The fewer the bins and the higher the floor, the less so.

    Parameters
    ----------
    scores
        (events,): between 0 and 1.
    signals
        Names of the processes of each signal hypothesis; their squared significances are added.
    bins
        How many at most.
    floor
        Effective background events of a bin, b^2 / sigma_b^2; a background process without a
        simulated event in the bin adds the error of one to sigma_b.

    Examples
    --------
    >>> from manyscale.schema import Process
    >>> hh, qcd = (Process(name=n, label=l) for n, l in (("hh", "signal"), ("qcd", "background")))
    >>> events = ScaledEvents((hh, qcd), np.repeat([0, 1], 50), np.ones(100), 1.0)
    >>> scores = np.concatenate([np.linspace(0.5, 1, 50), np.linspace(0, 0.9, 50)])
    >>> best_edges(scores, events, [["hh"]], bins=2, floor=10).round(2)
    array([0.  , 0.55, 1.  ])
    """
    score = np.asarray(scores, np.float64)
    inner = [np.array([0.0, 1.0])]
    for chosen, ranks in (
        (events.signal, events.signal.sum() * np.arange(1, _SIGNAL_RANKS) / _SIGNAL_RANKS),
        (
            ~events.signal,
            np.geomspace(floor, max(floor, (~events.signal).sum()), _BACKGROUND_RANKS),
        ),
    ):
        falling = np.sort(score[chosen])[::-1]
        if len(falling):
            inner.append(falling[np.minimum(np.ceil(ranks).astype(int), len(falling)) - 1])
    fine = Templates.of(scores, events, np.unique(np.concatenate(inner)))
    start = fine.merged(_closed_from_above(fine, floor))

    # At the strength of its limit, a signal compares alike with background for any cross section.
    strengths = []
    error = np.sqrt(start.background_variance)
    for names in signals:
        expected = start.signal(names)
        if not expected.sum() > 0:
            raise DataError(f"there are no expected events of the signal {', '.join(names)}")
        limit = statistics_only(expected, start.background, error).limits[0]
        strengths.append(expected * limit)
    signal = np.stack(strengths)  # (hypotheses, bins)

    # Hypotheses share the bins, so that their signals are added for the order of the bins.
    first = _rising(signal.sum(axis=0), start.background)
    start, signal = start.merged(first), np.add.reduceat(signal, first, axis=1)
    return start.edges[[*_worth_keeping(start, signal, bins), -1]]


def _closed_from_above(fine: Templates, floor: float) -> list[int]:
    """First fine bins of bins whose background reaches the floor, closed as soon as it does."""
    chosen = fine.is_background

    def squared_and_variance(low: int, high: int) -> tuple[float, float]:
        """Of the background of the bins from `low` up to, but not with, `high` together."""
        content = float(fine.content[chosen, low:high].sum())
        unseen = fine.one_event[chosen][fine.counts[chosen, low:high].sum(axis=1) == 0].sum()
        variance = fine.squares[chosen, low:high].sum() + unseen
        return max(content, 0.0) ** 2, float(variance)

    def reaches(low: int, high: int) -> bool:
        squared, variance = squared_and_variance(low, high)
        return squared > 0 and squared >= floor * variance

    bins = len(fine.background)
    edges = [bins]
    for low in range(bins - 1, -1, -1):
        if reaches(low, edges[-1]):
            edges.append(low)
    # What is left below joins the bin above it; with negative weights even that may not do.
    while edges and edges[-1] > 0:
        edges.pop()
        if edges and reaches(0, edges[-1]):
            edges.append(0)
    if not edges:
        squared, variance = squared_and_variance(0, bins)
        total = squared / variance if variance > 0 else 0.0
        raise DataError(
            f"the simulated background has {total:.3g} effective events, and a bin of the "
            f"templates needs {floor:g}: make more background events, or lower "
            "evaluation.limits.floor"
        )
    return edges[:0:-1]


def _rising(signal: Floats, background: Floats) -> list[int]:
    """First bins of bins whose ratio of signal to background rises with the score.

    Bins that break the order are merged (pool adjacent violators): what a score is for is to rise
    with that ratio, and where it does not a bin would live on a fluctuation.
    """
    first: list[int] = []
    s: list[float] = []
    b: list[float] = []
    for index, (of_signal, of_background) in enumerate(zip(signal, background, strict=True)):
        first.append(index)
        s.append(of_signal)
        b.append(of_background)
        while len(first) > 1 and s[-1] * b[-2] <= s[-2] * b[-1]:
            first.pop()
            s[-2:], b[-2:] = [s[-2] + s[-1]], [b[-2] + b[-1]]
    return first


def _worth_keeping(templates: Templates, signal: Floats, most: int) -> NDArray[np.int64]:
    """First bins of the bins that are left when the edges worth least are taken out.

    `signal`: (hypotheses, bins).
    """

    def power(bins: Templates, s: Floats) -> Floats:
        """(bins,): squared significance, summed over the hypotheses."""
        z = np.asarray(significance(s, bins.background, np.sqrt(bins.background_variance)))
        return np.asarray((z**2).sum(axis=0))

    def pairs(values: Floats) -> Floats:
        """Each bin together with the next one."""
        return values[:, 1:] + values[:, :-1]

    first = np.arange(len(templates.background))
    enough = power(templates, signal).sum() * _WORTH
    while len(first) > 1:
        now, s = templates.merged(first), np.add.reduceat(signal, first, axis=1)
        single, joined = power(now, s), power(now.joined(pairs, now.edges[:-1]), pairs(s))
        loss = single[1:] + single[:-1] - joined
        least = int(np.argmin(loss))
        if len(first) <= most and loss[least] > enough:
            break
        first = np.delete(first, least + 1)
    return first
