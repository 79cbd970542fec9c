"""How a cut on the score bends the mass distribution of the background."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from manyscale.errors import DataError
from manyscale.statistics.divergence import jensen_shannon
from manyscale.statistics.sample import Floats, effective_events

__all__ = ["KEPT", "MassSample", "Sculpted", "sculpt", "sculpting_figures"]

#: Shares of the background that the cuts keep.
KEPT = (0.50, 0.10, 0.05)

_BINS = 20
_RANGE = (0.01, 0.99)  # quantiles of the masses; beyond them lie the outermost bins
_REPLICAS = 100


@dataclass(frozen=True)
class MassSample:
    """Background events in bins of a mass.

    Attributes
    ----------
    observable
        Name of the mass.
    edges
        (bins + 1,) [GeV]; the outermost bins also hold what lies beyond.
    place
        (events,): the bin of each event.
    weights
        (events,): class-balanced.
    """

    observable: str
    edges: Floats
    place: NDArray[np.intp]
    weights: Floats

    @staticmethod
    def of(observable: str, masses: ArrayLike, weights: ArrayLike) -> "MassSample":
        """Sort background events into 20 bins of equal width over the middle 98% of their masses.

        Raises
        ------
        DataError
            Where there are no events, a mass is not finite, all are the same, or the weights do not
            sum to above zero.
        """
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
        weights = self.weights**power if events is None else (self.weights**power)[events]
        place = self.place if events is None else self.place[events]
        return np.bincount(place, weights, _BINS).astype(np.float64)


@dataclass(frozen=True)
class Sculpted:
    """What a cut on the score does to the background's masses.

    Attributes
    ----------
    cut
        Events of this score or above pass.
    passed
        (events,): whether the event passes.
    figures
        What metrics.json says of it; see `sculpting_figures`.
    """

    cut: float
    passed: NDArray[np.bool_]
    figures: Mapping[str, float | None]


def sculpt(
    sample: MassSample, scores: Mapping[str, ArrayLike], *, seed: int
) -> dict[str, list[Sculpted]]:
    """Cut on the scores of some classifiers so that 50%, 10% and 5% of the background pass.

    Parameters
    ----------
    sample
        Background events in bins of their mass.
    scores
        Name of each classifier -> its scores of these events, (events,).
    seed
        Of the permutations and of the bootstrap.

    Returns
    -------
    For each classifier, what each cut does; see `sculpting_figures` for the numbers.
    """
    cuts = [
        (name, kept, np.asarray(score, np.float64))
        for name, score in scores.items()
        for kept in KEPT
    ]
    places = [_cut(score, sample.weights, kept) for _, kept, score in cuts]
    passed = np.array([score >= place for (_, _, score), place in zip(cuts, places, strict=True)])
    found: dict[str, list[Sculpted]] = {name: [] for name in scores}
    by_luck = _replicas(sample, passed, seed)
    for (name, kept, _), place, ones, luck in zip(cuts, places, passed, by_luck, strict=True):
        figures = {"background_efficiency": kept, "cut": place, **_bent(sample, ones), **luck}
        found[name].append(Sculpted(place, ones, figures))
    return found


def sculpting_figures(sample: MassSample, sculpted: Mapping[str, list[Sculpted]]) -> dict[str, Any]:
    """What metrics.json says of it.

    Returns
    -------
    `weights`, "class-balanced"; `observable`; `n_events` of the background; and for each classifier a
    list with, for each cut, `background_efficiency`, as asked; `cut`; `kept`, what it is (events of
    one score stay together); `n_effective` that pass; `divergence`, the Jensen-Shannon divergence in
    bits of the masses of the events that pass from those of the others, 0 equal, 1 apart, None where
    none or all pass; `error`, its standard deviation (bootstrap); `by_chance` and `by_chance_spread`,
    mean and standard deviation of what a cut at random gives (permutations): a divergence within a
    few spreads of it shows nothing.
    """
    return {
        "weights": "class-balanced",
        "observable": sample.observable,
        "n_events": len(sample.weights),
        **{name: [dict(one.figures) for one in found] for name, found in sculpted.items()},
    }


def _cut(scores: Floats, weights: Floats, kept: float) -> float:
    """The highest score at which at least so much of the weight lies at it or above."""
    distinct, place = np.unique(-scores, return_inverse=True)
    above = np.cumsum(np.bincount(place, weights))
    # Sums in another order differ by rounding.
    return -float(distinct[int(np.argmax(above >= kept * weights.sum() * (1 - 1e-9)))])


def _bent(sample: MassSample, passed: NDArray[np.bool_]) -> dict[str, float | None]:
    weights = sample.weights[passed]
    return {
        "kept": float(weights.sum() / sample.weights.sum()),
        "n_effective": effective_events(weights),
        "divergence": _known(jensen_shannon(sample.contents(passed), sample.contents(~passed))),
    }


def _replicas(
    sample: MassSample, passed: NDArray[np.bool_], seed: int
) -> list[dict[str, float | None]]:
    """Error of each divergence, from events drawn again, and what it is for permuted events.

    Drawn again, each event is there a Poisson number of times of mean one. In a permutation, mass
    and weight of another event stand beside the score.
    """
    generator = np.random.default_rng(seed)
    again, by_chance = [], []
    for _ in range(_REPLICAS):
        weights = sample.weights * generator.poisson(1.0, len(sample.weights))
        again.append(_divergences(sample.place, weights, passed))
        order = generator.permutation(len(sample.weights))
        by_chance.append(_divergences(sample.place[order], sample.weights[order], passed))
    errors, means, spreads = np.std(again, 0), np.mean(by_chance, 0), np.std(by_chance, 0)
    return [
        {"error": _known(error), "by_chance": _known(mean), "by_chance_spread": _known(spread)}
        for error, mean, spread in zip(errors, means, spreads, strict=True)
    ]


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _divergences(
    place: NDArray[np.intp], weights: Floats, passed: NDArray[np.bool_]
) -> list[float]:
    every = np.bincount(place, weights, _BINS)
    of_passed = [np.bincount(place[some], weights[some], _BINS) for some in passed]
    return [jensen_shannon(contents, every - contents) for contents in of_passed]
