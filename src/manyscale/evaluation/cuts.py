"""What counting the events above a cut on the score promises, along the cut."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from manyscale.errors import DataError
from manyscale.evaluation.results import BestCut, Cut, CutWithSystematic, Significance, Yield
from manyscale.evaluation.yields import PHYSICAL, ScaledEvents, is_background
from manyscale.schema import Process
from manyscale.statistics.sample import Floats
from manyscale.statistics.significance import Simulated, significance, simulated_significance

__all__ = ["LEAST_BACKGROUND", "SYSTEMATICS", "CutScan", "scan_cuts", "significance_figures"]

#: Cuts that leave fewer effective background events are not considered: an empty sample of
#: simulated events is no background of zero.
LEAST_BACKGROUND = 10.0
#: Relative systematic uncertainties of the background for which the best cut is looked for.
SYSTEMATICS = (0.0, 0.05, 0.10, 0.20)

_CUTS = 100
# A process of few simulated events is pointed out from this share of the background on.
_WORTH_SAYING = 0.05


@dataclass(frozen=True)
class CutScan:
    """Expected events above each of some cuts, and the significance of counting them."""

    #: What the first axis of `sums` counts.
    processes: tuple[Process, ...]
    #: (cuts,), falling: events of this score or above are kept.
    cut: Floats
    #: (processes, 5, cuts), and (5, cuts) of all signal and of all background: of the events above
    #: each cut, their number, and the sums of the first to fourth powers of their weights.
    sums: Floats
    signal: Floats
    background: Floats
    #: (processes,): mean squared weight of the simulated events, the variance of one of them; 0
    #: where there are none.
    one_event: Floats
    #: (cuts,): from the number of simulated events. Nothing seen is no yield of zero: a process of
    #: which no simulated event is left counts with the error of one event.
    background_variance: Floats
    #: (cuts,): share of the expected signal that is kept.
    signal_efficiency: Floats
    #: Significance with its error by relative systematic uncertainty of the background, (cuts,)
    #: each; NaN at cuts that are not considered.
    curves: Mapping[float, Simulated]

    @property
    def background_n_effective(self) -> Floats:
        """(cuts,): b^2 / sigma_b^2, the effective number of background events."""
        b, variance = self.background[1], self.background_variance
        return np.divide(b**2, variance, out=np.zeros_like(b), where=variance > 0)

    @property
    def considered(self) -> NDArray[np.bool_]:
        """(cuts,): whether enough effective background events are left."""
        return ~np.isnan(self.curves[0.0].value)

    def best(self, systematic: float) -> int | None:
        """Index of the cut of the highest significance; None where no cut is considered."""
        if not self.considered.any():
            return None
        return int(np.nanargmax(self.curves[systematic].value))


def scan_cuts(events: ScaledEvents, scores: ArrayLike) -> CutScan:
    """Count the events above cuts that keep 1%, 2%, ..., 100% of the simulated signal events.

    A cut is considered where it leaves 10 effective background events. A process of which no
    simulated event is left counts with the error of one event, so that a cut is not considered
    either where one such event would outweigh what is left.

    Parameters
    ----------
    events
        Scaled to a luminosity; weights of both signs are allowed.
    scores
        (events,): the higher, the more signal-like.
    """
    score, signal = events.checked(scores), events.signal
    if not signal.any():
        raise DataError("there are no signal events: their significance is not defined")
    total_signal = float(events.weight[signal].sum())
    if not total_signal > 0:
        raise DataError(
            f"the weights of the {signal.sum()} signal events sum to {total_signal:g}: their "
            "significance is not defined"
        )
    # The distinct scores that at least 1%, 2%, ... of the signal events reach, falling.
    falling = np.sort(score[signal])[::-1]
    kept = np.ceil(len(falling) * np.arange(1, _CUTS + 1) / _CUTS).astype(np.int64)
    cut = np.unique(falling[kept - 1])[::-1]
    members = [events.process == number for number in range(len(events.processes))]
    sums = np.stack([_sums_above(cut, score[some], events.weight[some]) for some in members])
    one_event = np.array(
        [np.mean(events.weight[some] ** 2) if some.any() else 0 for some in members]
    )

    is_one = is_background(events.processes)
    s, b = sums[~is_one].sum(axis=0), sums[is_one].sum(axis=0)
    unseen = (one_event[:, None] * ((sums[:, 0] == 0) & is_one[:, None])).sum(axis=0)
    # Weights of both signs may leave less than nothing above a tight cut.
    considered = (s[1] >= 0) & (b[1] > 0) & (b[1] ** 2 >= LEAST_BACKGROUND * (b[2] + unseen))
    curves = {}
    for systematic in SYSTEMATICS:
        # Any yields do where the cut is not considered.
        found = simulated_significance(
            np.where(considered, s[1:3], 0.0), np.where(considered, b[1:], 1.0), systematic, unseen
        )
        curves[systematic] = Simulated(*(np.where(considered, x, np.nan) for x in found))
    return CutScan(
        processes=events.processes,
        cut=cut,
        sums=sums,
        signal=s,
        background=b,
        one_event=one_event,
        background_variance=b[2] + unseen,
        signal_efficiency=s[1] / total_signal,
        curves=curves,
    )


def _sums_above(cuts: Floats, scores: Floats, weights: Floats) -> Floats:
    """(5, cuts): sums of the powers 0, 1, ..., 4 of the weights of the events at each cut or above."""
    # Sorted once, a running sum answers all cuts.
    order = np.argsort(-scores, kind="stable")
    number = np.searchsorted(-scores[order], -cuts, side="right")
    running = np.cumsum(weights[order] ** np.arange(5)[:, None], axis=1)
    return np.concatenate([np.zeros((5, 1)), running], axis=1)[:, number]


def significance_figures(scan: CutScan) -> Significance:
    """What metrics.json says of a scan.

    Without a systematic `value` is the significance of a background known exactly; in `systematics`
    it includes the systematic and the simulation's error in quadrature. `notice` are sentences about
    too few simulated events.
    """
    known, s, b = scan.considered, scan.signal, scan.background
    exact = np.asarray(significance(np.where(known, s[1], 0), np.where(known, b[1], 1)))

    def point(i: int) -> dict[str, Any]:
        return {
            "cut": float(scan.cut[i]),
            "signal_efficiency": float(scan.signal_efficiency[i]),
            "signal": float(s[1, i]),
            "signal_error": float(np.sqrt(s[2, i])),
            "background": float(b[1, i]),
            "background_error": float(np.sqrt(scan.background_variance[i])),
            "background_n_effective": float(scan.background_n_effective[i]),
        }

    def values(i: int) -> dict[str, float | None]:
        with_error = scan.curves[0.0].value[i]
        return {
            "value": float(exact[i]) if known[i] else None,
            "value_with_mc_error": float(with_error) if known[i] else None,
        }

    best, systematics = None, []
    if (i := scan.best(0.0)) is not None:
        best = BestCut(**point(i), **values(i), processes=_processes(scan, i))
    for systematic, curve in scan.curves.items():
        found = None
        if (i := scan.best(systematic)) is not None:
            value, error = float(curve.value[i]), float(curve.error[i])
            left = _processes(scan, i)
            found = BestCut(**point(i), value=value, value_error=error, processes=left)
        systematics.append(CutWithSystematic(background=systematic, best=found))
    return Significance(
        weights=PHYSICAL,
        least_background_events=LEAST_BACKGROUND,
        best=best,
        systematics=tuple(systematics),
        notice=" ".join(_notices(scan, best)),
        scan=tuple(Cut(**point(i), **values(i)) for i in range(len(scan.cut))),
    )


def _processes(scan: CutScan, i: int) -> dict[str, Yield]:
    """What each process leaves above a cut; of no event, the error is that of one."""
    found = {}
    for process, sums, one in zip(scan.processes, scan.sums[..., i], scan.one_event, strict=True):
        number, expected, squares = sums[:3]
        found[process.name] = Yield(
            expected=float(expected),
            error=float(np.sqrt(squares if number else one)),
            n_events=int(number),
            n_effective=float(expected**2 / squares) if squares > 0 else 0.0,
        )
    return found


def _notices(scan: CutScan, best: BestCut | None) -> list[str]:
    """Sentences on where there are too few simulated events for what is asked of them."""
    least = f"{LEAST_BACKGROUND:g} effective background events"
    background = is_background(scan.processes)
    if best is None:
        # The one whose single simulated event stands for most.
        scarcest = scan.processes[int(np.argmax(np.where(background, scan.one_event, -1)))].name
        none = (
            f"No cut leaves {least}, so that no significance is given: an empty simulated sample is "
            f"no background of zero. More simulated background is needed, above all of {scarcest}."
        )
        return [none]
    notices = []
    if not scan.considered.all():
        refused = scan.signal_efficiency[~scan.considered].max()
        notices.append(
            f"Cuts that leave fewer than {least} are not considered (here those that keep up to "
            f"{refused:.0%} of the signal): an empty simulated sample is no background of zero."
        )
    for is_one, (name, left) in zip(background, best.processes.items(), strict=True):
        if not is_one or max(left.expected, left.error) <= _WORTH_SAYING * best.background:
            continue
        if left.n_events == 0:
            notices.append(
                f"No simulated event of {name} is left above the best cut: it counts as nothing, "
                f"with the error of one event, {left.error:.3g} expected ones."
            )
        elif left.n_effective < LEAST_BACKGROUND:
            notices.append(
                f"Above the best cut {left.n_effective:.1f} effective simulated events of {name} "
                f"stand for {left.expected:.3g} expected ones: more of them are needed."
            )
    return notices
