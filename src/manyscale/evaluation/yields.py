"""Expected events at a luminosity, process by process."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from manyscale.data.schema import Process
from manyscale.errors import DataError
from manyscale.statistics.sample import Floats, effective_events

__all__ = [
    "PHYSICAL",
    "ScaledEvents",
    "expected_yields",
    "normalisation",
    "scale_events",
]

#: What figures say of their weights: expected events at a luminosity.
PHYSICAL = "physical"

_FB_PER_PB = 1000.0


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


def expected_yields(events: ScaledEvents) -> dict[str, Any]:
    """Expected events of each process, of all signal and of all background.

    Parameters
    ----------
    events
        Scaled to a luminosity.

    Returns
    -------
    `weights`, "physical"; `luminosity` [fb^-1]; `processes`, by name, and `signal` and
    `background`, each with `expected` events, `error` (standard deviation of them from the number
    of simulated events), `n_events` simulated and their effective number `n_effective`; processes
    also with their `label`.
    """
    signal = events.signal
    return {
        "weights": PHYSICAL,
        "luminosity": events.luminosity,
        "processes": {
            process.name: {
                "label": process.label,
                **_yield(events.weight[events.process == number]),
            }
            for number, process in enumerate(events.processes)
        },
        "signal": _yield(events.weight[signal]),
        "background": _yield(events.weight[~signal]),
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
