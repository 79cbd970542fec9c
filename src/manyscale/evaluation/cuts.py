"""What counting the events above a cut on the score promises, along the cut."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from manyscale.data.schema import Process
from manyscale.errors import DataError
from manyscale.evaluation.yields import PHYSICAL, ScaledEvents
from manyscale.statistics.sample import Floats
from manyscale.statistics.significance import Simulated, significance, simulated_significance

__all__ = ["LEAST_BACKGROUND_EVENTS", "SYSTEMATICS", "CutScan", "scan_cuts", "significance_figures"]

#: Cuts that leave fewer effective background events are not considered: an empty sample of
#: simulated events is no background of zero.
LEAST_BACKGROUND_EVENTS = 10.0
#: Relative systematic uncertainties of the background for which the best cut is looked for.
SYSTEMATICS = (0.0, 0.05, 0.10, 0.20)

_CUTS = 100
# Sums of the powers 0, 1, ..., 4 of the weights: numbers of events, yields, and their errors.
_POWERS = 5
# A process of few simulated events is pointed out from this share of the background on.
_WORTH_SAYING = 0.05


@dataclass(frozen=True)
class CutScan:
    """Expected events above each of some cuts, and the significance of counting them.

    Attributes
    ----------
    processes
        What the first axis of `sums` counts.
    cut
        (cuts,), falling: events of this score or above are kept.
    sums
        (processes, 5, cuts): of the events above each cut, their number, and the sums of the first
        to fourth powers of their weights [expected events].
    one_event
        (processes,): mean squared weight of the simulated events, the variance of one of them; 0
        where there are none.
    total_signal
        Expected signal events without a cut.
    least_background
        Effective background events that a cut must leave to be considered.
    curves
        Significance with its error by relative systematic uncertainty of the background, (cuts,)
        each; NaN at cuts that are not considered.
    """

    processes: tuple[Process, ...]
    cut: Floats
    sums: Floats
    one_event: Floats
    total_signal: float
    least_background: float
    curves: Mapping[float, Simulated]

    @property
    def signal(self) -> Floats:
        """(5, cuts): `sums` of all signal."""
        return _total(self.sums, self.processes, "signal")

    @property
    def background(self) -> Floats:
        """(5, cuts): `sums` of all background."""
        return _total(self.sums, self.processes, "background")

    @property
    def signal_efficiency(self) -> Floats:
        """(cuts,): share of the expected signal that is kept."""
        return self.signal[1] / self.total_signal

    @property
    def unseen(self) -> Floats:
        """(cuts,): variance of the background processes of which no simulated event is left.

        Nothing seen is no yield of zero: the process counts with the error of one event.
        """
        return _unseen(self.sums, self.one_event, self.processes)

    @property
    def background_n_effective(self) -> Floats:
        """(cuts,): b^2 / sigma_b^2, the effective number of background events."""
        b = self.background[1]
        variance = self.background[2] + self.unseen
        return np.divide(b**2, variance, out=np.zeros_like(b), where=variance > 0)

    @property
    def considered(self) -> NDArray[np.bool_]:
        """(cuts,): whether enough effective background events are left."""
        return ~np.isnan(self.curves[0.0].value)

    def best(self, systematic: float) -> int | None:
        """Place of the cut of the highest significance; None where no cut is considered."""
        if not self.considered.any():
            return None
        return int(np.nanargmax(self.curves[systematic].value))


def scan_cuts(
    events: ScaledEvents, scores: ArrayLike, least_background: float = LEAST_BACKGROUND_EVENTS
) -> CutScan:
    """Count the events above cuts that keep 1%, 2%, ..., 100% of the simulated signal events.

    Parameters
    ----------
    events
        Scaled to a luminosity; weights of both signs are allowed.
    scores
        (events,): the higher, the more signal-like.
    least_background
        Effective background events that a cut must leave to be considered. A process of which no
        simulated event is left counts with the error of one event, so that a cut is not considered
        either where one such event would outweigh what is left.

    Raises
    ------
    DataError
        Where lengths differ, a score is NaN, or there are no signal events, or their weights do not
        sum to above zero.
    """
    score = np.asarray(scores, np.float64)
    signal = events.signal
    if len(score) != len(signal):
        raise DataError(f"{len(score)} scores for {len(signal)} events: give one an event")
    if np.isnan(score).any():
        raise DataError(f"event {int(np.argmax(np.isnan(score)))} has no score")
    if not signal.any():
        raise DataError("there are no signal events: their significance is not defined")
    total_signal = float(events.weight[signal].sum())
    if not total_signal > 0:
        raise DataError(
            f"the weights of the {signal.sum()} signal events sum to {total_signal:g}: their "
            "significance is not defined"
        )
    cut = _cuts(score[signal])
    members = [events.process == number for number in range(len(events.processes))]
    sums = np.stack([_sums_above(cut, score[some], events.weight[some]) for some in members])
    one_event = np.array(
        [np.mean(events.weight[some] ** 2) if some.any() else 0 for some in members]
    )
    return CutScan(
        events.processes,
        cut,
        sums,
        one_event,
        total_signal,
        least_background,
        _curves(events.processes, sums, one_event, least_background),
    )


def significance_figures(scan: CutScan) -> dict[str, Any]:
    """What metrics.json says of a scan.

    Returns
    -------
    `weights`, "physical"; `least_background_events`; `scan`, a list of points; `best`, that of the
    highest significance with the background's error from the number of simulated events, or None;
    `systematics`, a list of the best points with each relative uncertainty of the `background`;
    `notice`, sentences about too few simulated events, or an empty text.

    A point has `cut` (events of this score or above are kept), `signal_efficiency`, `signal`,
    `background`, their errors `signal_error` and `background_error`, `background_n_effective`,
    `value`, the significance without, and `value_with_mc_error`, with the background's error. Both
    are None where the cut leaves too little background, or weights of both signs leave less than
    nothing. A best point also has `processes`: by name, `expected` events, their `error`, `n_events`
    and `n_effective`. In `systematics`, `value` is the significance with the systematic and the
    simulation's error in quadrature, and `value_error` its own error from the number of simulated
    events.
    """
    plain = _without_error(scan)
    points = [_point(scan, place) | _values(scan, plain, place) for place in range(len(scan.cut))]
    best = scan.best(0.0)
    return {
        "weights": PHYSICAL,
        "least_background_events": scan.least_background,
        "best": None if best is None else points[best] | {"processes": _processes(scan, best)},
        "systematics": [_best_with(scan, systematic) for systematic in scan.curves],
        "notice": " ".join(_notices(scan)),
        "scan": points,
    }


def _point(scan: CutScan, place: int) -> dict[str, Any]:
    signal, background = scan.signal[:, place], scan.background[:, place]
    return {
        "cut": float(scan.cut[place]),
        "signal_efficiency": float(scan.signal_efficiency[place]),
        "signal": float(signal[1]),
        "signal_error": float(np.sqrt(signal[2])),
        "background": float(background[1]),
        "background_error": float(np.sqrt(background[2] + scan.unseen[place])),
        "background_n_effective": float(scan.background_n_effective[place]),
    }


def _values(scan: CutScan, plain: Floats, place: int) -> dict[str, float | None]:
    if not scan.considered[place]:
        return {"value": None, "value_with_mc_error": None}
    with_error = scan.curves[0.0].value[place]
    return {"value": float(plain[place]), "value_with_mc_error": float(with_error)}


def _without_error(scan: CutScan) -> Floats:
    """(cuts,): significance of a background known without error, where the cut is considered."""
    known = scan.considered
    s, b = np.where(known, scan.signal[1], 0), np.where(known, scan.background[1], 1)
    return np.asarray(significance(s, b))


def _best_with(scan: CutScan, systematic: float) -> dict[str, Any]:
    place = scan.best(systematic)
    if place is None:
        return {"background": systematic, "best": None}
    value, error = (float(values[place]) for values in scan.curves[systematic])
    found = {"value": value, "value_error": error, "processes": _processes(scan, place)}
    return {"background": systematic, "best": _point(scan, place) | found}


def _processes(scan: CutScan, place: int) -> dict[str, dict[str, float]]:
    """What each process leaves above a cut; of no event, the error is that of one."""
    found = {}
    for process, sums, one in zip(
        scan.processes, scan.sums[..., place], scan.one_event, strict=True
    ):
        number, expected, squares = sums[:3]
        found[process.name] = {
            "expected": float(expected),
            "error": float(np.sqrt(squares if number else one)),
            "n_events": int(number),
            "n_effective": float(expected**2 / squares) if squares > 0 else 0.0,
        }
    return found


def _notices(scan: CutScan) -> list[str]:
    """Sentences on where there are too few simulated events for what is asked of them."""
    least = f"{scan.least_background:g} effective background events"
    best = scan.best(0.0)
    if best is None:
        none = (
            f"No cut leaves {least}, so that no significance is given: an empty simulated sample is "
            "no background of zero. More simulated background is needed, above all of "
            f"{_scarcest(scan)}."
        )
        return [none]
    notices = []
    if not scan.considered.all():
        refused = scan.signal_efficiency[~scan.considered].max()
        notices.append(
            f"Cuts that leave fewer than {least} are not considered (here those that keep up to "
            f"{refused:.0%} of the signal): an empty simulated sample is no background of zero."
        )
    total = scan.background[1, best]
    background = {process.name for process in scan.processes if process.label == "background"}
    for name, left in _processes(scan, best).items():
        said = name in background and max(left["expected"], left["error"]) > _WORTH_SAYING * total
        if said and left["n_events"] == 0:
            notices.append(
                f"No simulated event of {name} is left above the best cut: it counts as nothing, "
                f"with the error of one event, {left['error']:.3g} expected ones."
            )
        elif said and left["n_effective"] < scan.least_background:
            notices.append(
                f"Above the best cut {left['n_effective']:.1f} effective simulated events of {name} "
                f"stand for {left['expected']:.3g} expected ones: more of them are needed."
            )
    return notices


def _scarcest(scan: CutScan) -> str:
    """The background process whose single simulated event stands for most."""
    of_background = [process.label == "background" for process in scan.processes]
    return scan.processes[int(np.argmax(np.where(of_background, scan.one_event, -1)))].name


def _curves(
    processes: tuple[Process, ...], sums: Floats, one_event: Floats, least: float
) -> dict[float, Simulated]:
    signal, background = (_total(sums, processes, label) for label in ("signal", "background"))
    unseen = _unseen(sums, one_event, processes)
    s, b, variance = signal[1], background[1], background[2] + unseen
    considered = (s >= 0) & (b > 0) & (b**2 >= least * variance)
    curves = {}
    for systematic in SYSTEMATICS:
        found = simulated_significance(
            np.where(considered, signal[1:3], 0.0),
            np.where(considered, background[1:], 1.0),
            systematic,
            unseen,
        )
        curves[systematic] = Simulated(*(np.where(considered, x, np.nan) for x in found))
    return curves


def _total(sums: Floats, processes: tuple[Process, ...], label: str) -> Floats:
    total: Floats = sums[[process.label == label for process in processes]].sum(axis=0)
    return total


def _unseen(sums: Floats, one_event: Floats, processes: tuple[Process, ...]) -> Floats:
    empty = sums[:, 0] == 0
    of_background = np.array([process.label == "background" for process in processes])
    total: Floats = (one_event[:, None] * (empty & of_background[:, None])).sum(axis=0)
    return total


def _cuts(scores: Floats) -> Floats:
    """Distinct scores that at least 1%, 2%, ..., 100% of these reach, falling."""
    falling = np.sort(scores)[::-1]
    kept = np.ceil(len(falling) * np.arange(1, _CUTS + 1) / _CUTS).astype(np.int64)
    return np.unique(falling[kept - 1])[::-1]


def _sums_above(cuts: Floats, scores: Floats, weights: Floats) -> Floats:
    """(5, cuts): sums of the powers of the weights of the events at each cut or above."""
    order = np.argsort(-scores, kind="stable")
    number = np.searchsorted(-scores[order], -cuts, side="right")
    powers = weights[order] ** np.arange(_POWERS)[:, None]
    running = np.cumsum(powers, axis=1)
    return np.concatenate([np.zeros((_POWERS, 1)), running], axis=1)[:, number]
