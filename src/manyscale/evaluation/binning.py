"""Bins of the score that tell signal from background best, and hold enough background each."""

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from manyscale.errors import DataError
from manyscale.evaluation.templates import Templates
from manyscale.evaluation.yields import ScaledEvents
from manyscale.statistics.exclusion import statistics_only
from manyscale.statistics.sample import Floats
from manyscale.statistics.significance import significance

__all__ = ["best_edges"]

# Places of the score where an edge may be: so many by the rank of signal, and of background.
_SIGNAL_RANKS = 100
_BACKGROUND_RANKS = 50
# An edge that adds less than this part of the squared significance is left out.
_WORTH = 1e-3


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

    Raises
    ------
    DataError
        Where all background together does not reach the floor, or a hypothesis has no signal.

    Examples
    --------
    >>> from manyscale.data.schema import Process
    >>> hh, qcd = (Process(name=n, label=l) for n, l in (("hh", "signal"), ("qcd", "background")))
    >>> events = ScaledEvents((hh, qcd), np.repeat([0, 1], 50), np.ones(100), 1.0)
    >>> scores = np.concatenate([np.linspace(0.5, 1, 50), np.linspace(0, 0.9, 50)])
    >>> best_edges(scores, events, [["hh"]], bins=2, floor=10).round(2)
    array([0.  , 0.55, 1.  ])
    """
    fine = Templates.of(scores, events, _possible_edges(scores, events, floor))
    start = fine.merged(_closed_from_above(fine, floor))
    signal = np.stack([_just_excluded(start, names) for names in signals])
    first = _rising(signal.sum(axis=0), start.background)
    start, signal = start.merged(first), np.add.reduceat(signal, first, axis=1)
    return start.edges[[*_worth_keeping(start, signal, bins), -1]]


def _possible_edges(scores: ArrayLike, events: ScaledEvents, floor: float) -> Floats:
    score = np.asarray(scores, np.float64)
    signal, background = (
        np.sort(score[chosen])[::-1] for chosen in (events.signal, ~events.signal)
    )
    by_signal = len(signal) * np.arange(1, _SIGNAL_RANKS) / _SIGNAL_RANKS
    by_background = np.geomspace(floor, max(floor, len(background)), _BACKGROUND_RANKS)
    inner = [
        falling[np.minimum(np.ceil(ranks).astype(np.int64), len(falling)) - 1]
        for falling, ranks in ((signal, by_signal), (background, by_background))
        if len(falling)
    ]
    return np.unique(np.concatenate([[0.0, 1.0], *inner]))


def _closed_from_above(fine: Templates, floor: float) -> list[int]:
    """First fine bins of bins whose background reaches the floor, closed as soon as it does."""
    edges = [len(fine.background)]
    for place in range(edges[0] - 1, -1, -1):
        if _reaches(floor, fine, place, edges[-1]):
            edges.append(place)
    # What is left below joins the bin above it; with negative weights even that may not do.
    while edges and edges[-1] > 0:
        edges.pop()
        if edges and _reaches(floor, fine, 0, edges[-1]):
            edges.append(0)
    if not edges:
        every = fine.merged([0])
        variance = float(every.background_variance[0])
        total = float(every.background[0]) ** 2 / variance if variance > 0 else 0.0
        raise DataError(
            f"the simulated background has {total:.3g} effective events, and a bin of the "
            f"templates needs {floor:g}: make more background events, or lower "
            "evaluation.limits.floor"
        )
    return edges[:0:-1]


def _reaches(floor: float, fine: Templates, low: int, high: int) -> bool:
    """Whether the bins from `low` up to, but not with, `high` hold enough background together."""
    chosen = fine.is_background
    content = fine.content[chosen, low:high].sum()
    unseen = fine.one_event[chosen][fine.counts[chosen, low:high].sum(axis=1) == 0].sum()
    variance = fine.squares[chosen, low:high].sum() + unseen
    return bool(content > 0 and content**2 >= floor * variance)


def _rising(signal: Floats, background: Floats) -> list[int]:
    """First bins of bins whose ratio of signal to background rises with the score.

    Bins that break the order are merged (pool adjacent violators): what a score is for is to rise
    with that ratio, and where it does not a bin would live on a fluctuation.
    """
    first: list[int] = []
    s: list[float] = []
    b: list[float] = []
    for place, (of_signal, of_background) in enumerate(zip(signal, background, strict=True)):
        first.append(place)
        s.append(of_signal)
        b.append(of_background)
        while len(first) > 1 and s[-1] * b[-2] <= s[-2] * b[-1]:
            first.pop()
            s[-2:], b[-2:] = [s[-2] + s[-1]], [b[-2] + b[-1]]
    return first


def _just_excluded(templates: Templates, names: Collection[str]) -> Floats:
    """The signal, (bins,), at the strength of its expected limit."""
    signal = templates.signal(names)
    if not signal.sum() > 0:
        raise DataError(f"there are no expected events of the signal {', '.join(names)}")
    error = np.sqrt(templates.background_variance)
    return signal * statistics_only(signal, templates.background, error).limits[0]


def _worth_keeping(templates: Templates, signal: Floats, most: int) -> NDArray[np.int64]:
    """First bins of the bins that are left when the edges worth least are taken out.

    `signal`: (hypotheses, bins).
    """
    first = np.arange(len(templates.background))
    enough = _power(templates, signal).sum() * _WORTH
    while len(first) > 1:
        now, s = templates.merged(first), np.add.reduceat(signal, first, axis=1)
        single = _power(now, s)
        loss = single[1:] + single[:-1] - _power(_pairs(now), s[:, 1:] + s[:, :-1])
        place = int(np.argmin(loss))
        if len(first) <= most and loss[place] > enough:
            break
        first = np.delete(first, place + 1)
    return first


def _power(templates: Templates, signal: Floats) -> Floats:
    """(bins,): squared significance, summed over the hypotheses."""
    error = np.sqrt(templates.background_variance)
    values = np.asarray(significance(signal, templates.background, error))
    return np.asarray((values**2).sum(axis=0))


def _pairs(templates: Templates) -> Templates:
    """Each bin together with the next one, (bins - 1)."""
    content, squares, counts = (
        values[:, 1:] + values[:, :-1]
        for values in (templates.content, templates.squares, templates.counts)
    )
    return Templates(
        templates.edges[:-1],
        templates.processes,
        content,
        squares,
        counts,
        templates.one_event,
    )
