"""Expected events at a luminosity, process by process."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from manyscale.errors import DataError
from manyscale.evaluation.results import Yield, Yields
from manyscale.schema import Process
from manyscale.statistics.sample import Floats, effective_events

__all__ = ["PHYSICAL", "ScaledEvents", "expected_yields", "is_background"]
__all__ += ["normalisation", "scale_events"]

#: What figures say of their weights: expected events at a luminosity.
PHYSICAL = "physical"

_FB_PER_PB = 1000.0


class ScaledEvents(NamedTuple):
    """Events that stand for those expected at a luminosity."""

    processes: tuple[Process, ...]
    process: NDArray[np.int64]  #: (events,): index in `processes`
    weight: Floats  #: (events,): expected events that the event stands for
    luminosity: float  #: in fb^-1

    @property
    def signal(self) -> NDArray[np.bool_]:
        """(events,): whether the event's process is signal."""
        return ~is_background(self.processes)[self.process]

    def checked(self, scores: ArrayLike) -> Floats:
        """(events,): scores, refused where they are not one of each event."""
        score = np.asarray(scores, np.float64)
        if len(score) != len(self.weight):
            raise DataError(f"{len(score)} scores for {len(self.weight)} events: give one an event")
        if np.isnan(score).any():
            raise DataError(f"event {int(np.argmax(np.isnan(score)))} has no score")
        return score


def is_background(processes: Sequence[Process]) -> NDArray[np.bool_]:
    """(processes,): which are background."""
    return np.array([process.label == "background" for process in processes], bool)


def normalisation(process: Process, luminosity: float) -> float:
    """Expected events that a generated weight of one stands for.

    luminosity [fb^-1] x 1000 fb/pb x cross section [pb] x k-factor x filter efficiency / sum of
    the weights of all generated events.

    Examples
    --------
    >>> ttbar = Process(name="ttbar", label="background", cross_section=80, sum_weights=1e6)
    >>> normalisation(ttbar, 100)
    8.0
    """
    if not 0 < luminosity < np.inf:
        raise DataError(f"the luminosity is {luminosity:g} fb^-1; it must be above 0")
    _check_normalised([process])
    cross_section, generated = process.cross_section, process.sum_weights
    assert cross_section is not None and generated is not None  # noqa: S101, PT018
    expected = luminosity * _FB_PER_PB * cross_section
    return expected * process.k_factor * process.filter_efficiency / generated


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
        (events,): index in `processes`.
    weight
        (events,): as generated.
    luminosity
        In fb^-1.
    to_the_whole
        (processes,): the sum of the weights of all selected events over that of the events given,
        where these are a part, such as the test split. By default they are all.
    """
    index, weights = np.asarray(process, np.int64), np.asarray(weight, np.float64)
    # A process without events needs no cross section.
    present = np.unique(index)
    _check_normalised([processes[number] for number in present])
    factors = np.ones(len(processes)) if to_the_whole is None else np.asarray(to_the_whole, float)
    scale = np.zeros(len(processes))
    for number in present:
        scale[number] = normalisation(processes[number], luminosity) * factors[number]
    return ScaledEvents(tuple(processes), index, weights * scale[index], luminosity)


def expected_yields(events: ScaledEvents, notice: str = "") -> Yields:
    """Expected events of each process, of all signal and of all background.

    Parameters
    ----------
    events
        Scaled to a luminosity.
    notice
        What a reader should know about them.
    """

    def of(chosen: NDArray[np.bool_], **label: str) -> Yield:
        weights = events.weight[chosen]
        return Yield(
            **label,
            expected=float(weights.sum()),
            error=float(np.sqrt((weights**2).sum())),
            n_events=len(weights),
            n_effective=effective_events(weights),
        )

    return Yields(
        weights=PHYSICAL,
        luminosity=events.luminosity,
        processes={
            process.name: of(events.process == number, label=process.label)
            for number, process in enumerate(events.processes)
        },
        signal=of(events.signal),
        background=of(~events.signal),
        notice=notice,
    )


def _check_normalised(processes: Sequence[Process]) -> None:
    def named(missing: list[Process]) -> str:
        return ", ".join(f"'{process.name}'" for process in missing)

    if missing := [process for process in processes if process.cross_section is None]:
        raise DataError(
            f"no cross section is known of {named(missing)}: give it [pb] to `evaluate` or `limits` by "
            f"{' '.join(f'--cross-section {process.name}=PB' for process in missing)}, or in the card "
            "under evaluation.cross_sections, or go without yields"
        )
    if missing := [process for process in processes if not (process.sum_weights or 0) > 0]:
        raise DataError(
            f"no sum of generated weights above 0 is known of {named(missing)}: give it where the "
            "events are converted (--sum-weights), or go without yields"
        )
