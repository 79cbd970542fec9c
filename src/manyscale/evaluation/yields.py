"""Expected events at a luminosity, process by process, and what significance they promise."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from manyscale.data.schema import Process
from manyscale.errors import DataError
from manyscale.statistics.sample import Floats, effective_events
from manyscale.statistics.significance import significance

__all__ = [
    "LEAST_BACKGROUND_EVENTS",
    "ScaledEvents",
    "expected_yields",
    "normalisation",
    "scale_events",
    "significance_scan",
]

#: Cuts that leave fewer effective background events are not considered: an empty sample of
#: simulated events is no background of zero.
LEAST_BACKGROUND_EVENTS = 10.0

_FB_PER_PB = 1000.0
_CUTS = 100


class ScaledEvents(NamedTuple):
    """Events that stand for those expected at a luminosity.

    Attributes
    ----------
    processes
        What `process` counts in.
    process
        (events,): place in `processes`.
    weight
        (events,): expected events that the event stands for.
    luminosity
        In fb^-1.
    """

    processes: tuple[Process, ...]
    process: NDArray[np.int64]
    weight: Floats
    luminosity: float

    @property
    def signal(self) -> NDArray[np.bool_]:
        """(events,): whether the event's process is signal."""
        of_process = np.array([process.label == "signal" for process in self.processes], bool)
        return of_process[self.process]


def normalisation(process: Process, luminosity: float) -> float:
    """Expected events that a generated weight of one stands for.

    luminosity [fb^-1] x 1000 fb/pb x cross section [pb] x k-factor x filter efficiency / sum of
    the weights of all generated events.

    Raises
    ------
    DataError
        Where the process has no cross section or no sum of generated weights above zero, or the
        luminosity is not above zero.

    Examples
    --------
    >>> ttbar = Process(name="ttbar", label="background", cross_section=80, sum_weights=1e6)
    >>> normalisation(ttbar, 100)
    8.0
    """
    if not 0 < luminosity < np.inf:
        raise DataError(f"the luminosity is {luminosity:g} fb^-1; it must be above 0")
    if process.cross_section is None:
        raise _no_cross_section([process])
    if process.sum_weights is None or not process.sum_weights > 0:
        raise _no_sum_weights([process])
    expected = luminosity * _FB_PER_PB * process.cross_section
    return expected * process.k_factor * process.filter_efficiency / process.sum_weights


def scale_events(
    processes: Sequence[Process],
    process: ArrayLike,
    weight: ArrayLike,
    luminosity: float,
    to_the_whole: ArrayLike | None = None,
) -> ScaledEvents:
    """Scale events to those expected at a luminosity.

    Parameters
    ----------
    processes
        Of the dataset, in the order in which `process` counts them.
    process
        (events,): place in `processes`.
    weight
        (events,): as generated.
    luminosity
        In fb^-1.
    to_the_whole
        (processes,): the sum of the weights of all selected events over that of the events given,
        where these are a part, such as the test split. By default they are all.

    Raises
    ------
    DataError
        Where a process that has events lacks its cross section or sum of weights (all such
        processes are named), an event's process is unknown, a factor of a process that has events
        is not finite, or the luminosity is not above zero.
    """
    place = np.asarray(process, np.int64)
    weights = np.asarray(weight, np.float64)
    if len(place) != len(weights):
        raise DataError(f"{len(place)} processes and {len(weights)} weights: give one an event")
    unknown = (place < 0) | (place >= len(processes))
    if unknown.any():
        raise DataError(f"event {int(np.argmax(unknown))} is of no known process")
    present = np.unique(place)
    _check_normalised([processes[number] for number in present])
    factors = np.ones(len(processes)) if to_the_whole is None else np.asarray(to_the_whole, float)
    if len(factors) != len(processes):
        raise DataError(f"{len(factors)} factors for {len(processes)} processes")
    scale = np.zeros(len(processes))
    for number in present:
        if not np.isfinite(factors[number]):
            raise DataError(
                f"process '{processes[number].name}' has the factor {factors[number]:g} from the "
                "events given to the whole; their weights must not sum to 0"
            )
        scale[number] = normalisation(processes[number], luminosity) * factors[number]
    return ScaledEvents(tuple(processes), place, weights * scale[place], luminosity)


def expected_yields(
    events: ScaledEvents, selected: NDArray[np.bool_] | None = None
) -> dict[str, Any]:
    """Expected events of each process, of all signal and of all background.

    Parameters
    ----------
    events
        Scaled to a luminosity.
    selected
        (events,): those to be counted, such as above a cut on the score; by default all.

    Returns
    -------
    `luminosity` [fb^-1]; `processes`, by name, and `signal` and `background`, each with `expected`
    events, `error` (standard deviation of them from the number of simulated events), `n_events`
    simulated and their effective number `n_effective`; processes also with their `label`.
    """
    counted = np.ones(len(events.weight), bool) if selected is None else selected
    signal = events.signal
    return {
        "luminosity": events.luminosity,
        "processes": {
            process.name: {
                "label": process.label,
                **_yield(events.weight[counted & (events.process == number)]),
            }
            for number, process in enumerate(events.processes)
        },
        "signal": _yield(events.weight[counted & signal]),
        "background": _yield(events.weight[counted & ~signal]),
    }


def significance_scan(
    events: ScaledEvents, scores: ArrayLike, least_background: float = LEAST_BACKGROUND_EVENTS
) -> dict[str, Any]:
    """Asimov significance of counting events above a cut on the score, along the cut.

    The cuts keep 1%, 2%, ..., 100% of the simulated signal events. The best one has the highest
    significance with the error of the background from the number of simulated events, among those
    that leave enough effective background events.

    Parameters
    ----------
    events
        Scaled to a luminosity; weights of both signs are allowed.
    scores
        (events,): the higher, the more signal-like.
    least_background
        Effective background events that a cut must leave.

    Returns
    -------
    `least_background_events`; `scan`, a list of points; `best`, one of them, or None. A point has
    `cut` (events of this score or above are kept), `signal`, `background`, their errors
    `signal_error` and `background_error`, `background_n_effective`, `value`, the significance
    without, and `value_with_mc_error`, with the background's error. Both are None where the cut
    leaves too little background, or weights of both signs leave less than nothing.

    Raises
    ------
    DataError
        Where lengths differ, a score is NaN, or there are no signal events.
    """
    score = np.asarray(scores, np.float64)
    signal = events.signal
    if len(score) != len(signal):
        raise DataError(f"{len(score)} scores for {len(signal)} events: give one an event")
    if np.isnan(score).any():
        raise DataError(f"event {int(np.argmax(np.isnan(score)))} has no score")
    if not signal.any():
        raise DataError("there are no signal events: their significance is not defined")
    cuts = _cuts(score[signal])
    s, s_squares = _sums_above(cuts, score[signal], events.weight[signal])
    b, b_squares = _sums_above(cuts, score[~signal], events.weight[~signal])
    effective = np.divide(b**2, b_squares, out=np.zeros_like(b), where=b_squares > 0)
    sound = (effective >= least_background) & (b > 0) & (s >= 0)
    plain, with_error = (
        np.asarray(significance(np.where(sound, s, 0), np.where(sound, b, 1), error))
        for error in (0.0, np.sqrt(b_squares))
    )
    scan = [
        {
            "cut": float(cuts[place]),
            "signal": float(s[place]),
            "signal_error": float(np.sqrt(s_squares[place])),
            "background": float(b[place]),
            "background_error": float(np.sqrt(b_squares[place])),
            "background_n_effective": float(effective[place]),
            "value": float(plain[place]) if sound[place] else None,
            "value_with_mc_error": float(with_error[place]) if sound[place] else None,
        }
        for place in range(len(cuts))
    ]
    best = int(np.argmax(np.where(sound, with_error, -np.inf)))
    return {
        "least_background_events": least_background,
        "best": scan[best] if sound[best] else None,
        "scan": scan,
    }


def _check_normalised(processes: Sequence[Process]) -> None:
    if missing := [process for process in processes if process.cross_section is None]:
        raise _no_cross_section(missing)
    if missing := [process for process in processes if not _has_sum_weights(process)]:
        raise _no_sum_weights(missing)


def _has_sum_weights(process: Process) -> bool:
    return process.sum_weights is not None and process.sum_weights > 0


def _no_cross_section(processes: Sequence[Process]) -> DataError:
    return DataError(
        f"no cross section is known of {_names(processes)}: give cross_section [pb] of each "
        "process, or go without yields"
    )


def _no_sum_weights(processes: Sequence[Process]) -> DataError:
    return DataError(
        f"no sum of generated weights above 0 is known of {_names(processes)}: give it where the "
        "events are converted (--sum-weights), or go without yields"
    )


def _names(processes: Sequence[Process]) -> str:
    return ", ".join(f"'{process.name}'" for process in processes)


def _yield(weights: Floats) -> dict[str, float]:
    return {
        "expected": float(weights.sum()),
        "error": float(np.sqrt((weights**2).sum())),
        "n_events": len(weights),
        "n_effective": effective_events(weights),
    }


def _cuts(scores: Floats) -> Floats:
    """Distinct scores that at least 1%, 2%, ..., 100% of these reach, falling."""
    falling = np.sort(scores)[::-1]
    kept = np.ceil(len(falling) * np.arange(1, _CUTS + 1) / _CUTS).astype(np.int64)
    return np.unique(falling[kept - 1])[::-1]


def _sums_above(cuts: Floats, scores: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Sums of weights and of squared weights of the events at each cut or above."""
    order = np.argsort(-scores, kind="stable")
    number = np.searchsorted(-scores[order], -cuts, side="right")
    sums = (np.cumsum(w[order]) for w in (weights, weights**2))
    first, second = (np.concatenate([[0.0], running])[number] for running in sums)
    return first, second
