"""How far the background rejection falls from one set of scores to others of the same events."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from manyscale.statistics.intervals import ONE_SIGMA, Interval
from manyscale.statistics.metrics import roc_curve
from manyscale.statistics.sample import Floats, Sample, effective_events

__all__ = ["RejectionLoss", "working_point"]

# Signal efficiencies that are tried, and the effective background events that one has to leave.
_WANTED = (0.70, 0.90, 0.95)
_FEWEST = 5
_REPLICAS = 200
# Sums of weights in other orders differ by rounding; an efficiency this close counts as reached.
_ROUNDING = 1e-9


def working_point(sample: Sample) -> float | None:
    """Signal efficiency of 0.70, or the lowest of 0.90 and 0.95 that leaves background enough.

    Enough are five effective events: below, the rejection is hardly known. None where none does.
    """
    curve = roc_curve(sample.signal, sample.scores, sample.weights)
    for wanted in _WANTED:
        cut = curve.threshold[int(np.argmax(curve.signal >= wanted * (1 - _ROUNDING)))]
        kept = sample.weights[~sample.signal & (sample.scores >= cut)]
        if kept.sum() > 0 and effective_events(kept) >= _FEWEST:
            return wanted
    return None


class RejectionLoss:
    """Ratio of the background rejection to that of other scores, at one signal efficiency.

    Its error comes from a bootstrap of the events, the same for both, so that what they have in common
    cancels, and the cut is found anew each time (B. Efron, Ann. Statist. 7 (1979) 1). Each event is
    drawn as often as a Poisson number of mean one says, whatever the sign of its weight.

    Parameters
    ----------
    sample
        Scored events.
    wanted
        Signal efficiency.
    random
        Draws the replicas.
    """

    def __init__(self, sample: Sample, wanted: float, random: np.random.Generator) -> None:
        self._sample, self._wanted = sample, wanted
        drawn = random.poisson(1.0, (_REPLICAS, len(sample.weights))).astype(np.float64)
        # The first replica is the events themselves.
        drawn = np.concatenate([np.ones((1, len(sample.weights))), drawn])
        self._weights = drawn * sample.weights
        self._kept = self._background(sample.scores)

    @property
    def rejection(self) -> float:
        """Of the sample itself; infinite where no background is left."""
        return math.inf if self._kept[0] <= 0 else 1 / float(self._kept[0])

    def of(self, others: Sequence[Floats]) -> Interval | None:
        """Rejection over the mean one of others: value, and ends of the 68.3% interval.

        The spread of the others is added in quadrature, on the logarithm. None where either leaves
        no background, or more than a few replicas do.

        Parameters
        ----------
        others
            Scores (events,) of each repeat.
        """
        kept = np.array([self._background(scores) for scores in others])
        mean = kept.mean(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log(np.maximum(mean, 0)) - np.log(np.maximum(self._kept, 0))
        tails = (1 - ONE_SIGMA) / 2
        low, high = np.quantile(logs[1:], [tails, 1 - tails], method="nearest")
        if not np.isfinite([logs[0], low, high]).all():
            return None
        spread = 0.0
        if len(others) > 1:
            spread = kept[:, 0].std(ddof=1) / math.sqrt(len(others)) / mean[0]
        error = math.hypot((high - low) / 2, spread)
        return Interval(*(math.exp(logs[0] + step * error) for step in (0, -1, 1)))

    def _background(self, scores: NDArray[np.floating]) -> Floats:
        """(1 + replicas,): background efficiency of the tightest cut that keeps enough signal."""
        order = np.argsort(-scores, kind="stable")
        # Events of equal score pass or fail together.
        last = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
        weights, signal = self._weights[:, order], self._sample.signal[order]
        passed = [np.cumsum(weights * members, axis=1)[:, last] for members in (signal, ~signal)]
        with np.errstate(divide="ignore", invalid="ignore"):
            of_signal, of_background = (sums / sums[:, -1:] for sums in passed)
        cut = np.argmax(of_signal >= self._wanted * (1 - _ROUNDING), axis=1)
        found: Floats = np.take_along_axis(of_background, cut[:, None], axis=1)[:, 0]
        return found
