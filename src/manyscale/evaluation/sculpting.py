"""How a cut on the score sculpts the mass distribution of the background."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from manyscale.errors import DataError
from manyscale.evaluation.results import SculptedCut, Sculpting
from manyscale.statistics.sample import Floats, effective_events

__all__ = ["KEPT", "MassSample", "jensen_shannon", "sculpt"]

#: Shares of the background that the cuts keep.
KEPT = (0.50, 0.10, 0.05)

_BINS = 20
_RANGE = (0.01, 0.99)  # quantiles of the masses; beyond them lie the outermost bins
_REPLICAS = 100


@dataclass(frozen=True)
class MassSample:
    """Background events in bins of a mass."""

    #: Name of the mass.
    observable: str
    #: (bins + 1,) [GeV]; the outermost bins also hold what lies beyond.
    edges: Floats
    #: (events,): the bin of each event, and its class-balanced weight.
    index: NDArray[np.intp]
    weights: Floats

    @staticmethod
    def of(observable: str, masses: ArrayLike, weights: ArrayLike) -> "MassSample":
        """Sort background events into 20 bins of equal width over the middle 98% of their masses."""
        mass, weight = np.asarray(masses, np.float64), np.asarray(weights, np.float64)
        if not len(mass) or not np.isfinite(mass).all():
            raise DataError(f"not every background event has a value of '{observable}'")
        if not weight.sum() > 0:
            raise DataError(f"the weights of the background sum to {weight.sum():g}, not above 0")
        low, high = np.quantile(mass, _RANGE)
        if low == high:
            raise DataError(f"'{observable}' has the same value in (nearly) all background events")
        edges = np.linspace(low, high, _BINS + 1)
        return MassSample(observable, edges, np.searchsorted(edges[1:-1], mass, "right"), weight)

    def contents(self, events: NDArray[np.bool_] | None = None, power: int = 1) -> Floats:
        """(bins,): sums of the weights, or of a power of them, of all or some of the events."""
        chosen = slice(None) if events is None else events
        weights = self.weights[chosen] ** power
        return np.bincount(self.index[chosen], weights, _BINS).astype(np.float64)


def jensen_shannon(first: ArrayLike, second: ArrayLike) -> float:
    """Jensen-Shannon divergence of two histograms in bits: 0 where they are equal, 1 where apart.

    JS = H((p + q) / 2) - (H(p) + H(q)) / 2, H = -sum p log2 p, of the histograms p and q, each with
    unit sum (J. Lin, IEEE Trans. Inf. Theory 37 (1991) 145). Two samples of n and m events of one
    distribution in B bins give about (B - 1) / (8 ln 2) (1 / n + 1 / m), not 0. NaN where a
    histogram has no content; a bin that negative weights leave with less than nothing is empty.

    Examples
    --------
    >>> jensen_shannon([2, 2], [1, 1]), jensen_shannon([1, 0], [0, 3])
    (0.0, 1.0)
    """
    p, q = (np.asarray(contents, np.float64).clip(min=0) for contents in (first, second))
    if not (p.sum() > 0 and q.sum() > 0):
        return float("nan")
    p, q = p / p.sum(), q / q.sum()
    # scipy's jensenshannon takes the root of a sum that rounding may leave a little below 0.
    relative_entropy = scipy.special.rel_entr
    nats = (relative_entropy(p, (p + q) / 2) + relative_entropy(q, (p + q) / 2)).sum() / 2
    return max(float(nats / np.log(2)), 0.0)


def sculpt(sample: MassSample, scores: Mapping[str, ArrayLike], *, seed: int) -> Sculpting:
    """Cut on the scores of some classifiers so that 50%, 10% and 5% of the background pass.

    The error of a divergence is that of events drawn again (bootstrap), each a Poisson number of
    times of mean one. What chance gives is that of permuted events: mass and weight of another
    event stand beside the score; a divergence within a few spreads of it shows nothing.

    Parameters
    ----------
    sample
        Background events in bins of their mass.
    scores
        By classifier ("network", "trees", "combined"), its scores of these events, (events,).
    seed
        Of the permutations and of the bootstrap.

    Returns
    -------
    What metrics.json says of it; the events that pass have a score of at least `cut`.
    """
    total = sample.weights.sum()
    cuts: list[tuple[str, float, float, NDArray[np.bool_]]] = []
    for name, given in scores.items():
        score = np.asarray(given, np.float64)
        distinct, index = np.unique(-score, return_inverse=True)
        above = np.cumsum(np.bincount(index, sample.weights))
        for kept in KEPT:
            # The highest score at which enough lies; sums in another order differ by rounding.
            cut = -float(distinct[int(np.argmax(above >= kept * total * (1 - 1e-9)))])
            cuts.append((name, kept, cut, score >= cut))

    def divergences(index: NDArray[np.intp], weights: Floats) -> list[float]:
        every = np.bincount(index, weights, _BINS)
        of_passed = [np.bincount(index[some], weights[some], _BINS) for *_, some in cuts]
        return [jensen_shannon(contents, every - contents) for contents in of_passed]

    # Cuts stay where they are in all replicas: the error is that of the events, not of the cut.
    generator = np.random.default_rng(seed)
    again, by_chance = [], []
    for _ in range(_REPLICAS):
        drawn = sample.weights * generator.poisson(1.0, len(sample.weights))
        again.append(divergences(sample.index, drawn))
        order = generator.permutation(len(sample.weights))
        by_chance.append(divergences(sample.index[order], sample.weights[order]))
    errors, means, spreads = np.std(again, 0), np.mean(by_chance, 0), np.std(by_chance, 0)

    figures: dict[str, list[SculptedCut]] = {name: [] for name in scores}
    for i, (name, kept, cut, passed) in enumerate(cuts):
        weights = sample.weights[passed]
        figures[name].append(
            SculptedCut(
                background_efficiency=kept,
                cut=cut,
                kept=float(weights.sum() / total),
                n_effective=effective_events(weights),
                divergence=jensen_shannon(sample.contents(passed), sample.contents(~passed)),
                error=float(errors[i]),
                by_chance=float(means[i]),
                by_chance_spread=float(spreads[i]),
            )
        )
    return Sculpting(
        weights="class-balanced",
        observable=sample.observable,
        n_events=len(sample.weights),
        **{name: tuple(found) for name, found in figures.items()},
    )
