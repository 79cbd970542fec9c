"""Weights under which signal and background count the same."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from manyscale.data.packing import PackedEvents
from manyscale.errors import DataError
from manyscale.schema import Process

__all__ = ["Balance", "ClassSums", "balanced_weights"]

_CLASSES: tuple[tuple[Literal[1, 0], str], ...] = ((1, "signal"), (0, "background"))


class ClassSums:
    """Sum of the weights of each class, its processes in their stated mix, added up in pieces.

    Parameters
    ----------
    processes
        Of the schema to which `events.process` points.
    """

    def __init__(self, processes: Sequence[Process]) -> None:
        self._factors = np.append(_mixing_factors(processes), 1.0)
        # A sum and what rounding left of it, so that it does not depend on the pieces.
        self._sums: dict[int, tuple[float, float]] = {}

    def add(self, events: PackedEvents) -> None:
        """Count some events, too."""
        weights = self.mixed(events)
        for label, _ in _CLASSES:
            chosen = events.label == label
            if chosen.any():
                terms = [*weights[chosen].tolist(), *self._sums.get(label, ())]
                total = math.fsum(terms)
                self._sums[label] = (total, math.fsum([*terms, -total]))

    def mixed(self, events: PackedEvents) -> NDArray[np.float64]:
        """(events,): weights with the processes of a class in their mix; zero of unknown label."""
        weights: NDArray[np.float64] = events.weight * self._factors[events.process]
        weights[events.label < 0] = 0.0
        return weights

    @property
    def sums(self) -> Mapping[int, float]:
        """Label to its sum, of the labels that there are."""
        return {label: total for label, (total, _) in self._sums.items()}


class Balance:
    """Weights under which each class of some events sums to one, its processes in their stated mix.

    An event of a process with share f (of all shares of its class) of which events with a sum of
    weights S were generated (of all S of its class) counts as its own weight times f / S: were it
    not for the selection, the processes would stand as their shares. Where share or S of a process
    is unknown, its events stand for themselves: they count as their own weight, beside the others
    taken together as they were generated.

    Raises
    ------
    DataError
        Where the weights of a class do not sum to a positive number.
    """

    def __init__(self, sums: ClassSums) -> None:
        self._sums = sums
        for label, name in _CLASSES:
            total = sums.sums.get(label)
            if total is not None and not total > 0:
                raise DataError(
                    f"the weights of the {name} events sum to {total:g}; a sum above zero is "
                    f"needed to balance the classes"
                )

    @staticmethod
    def of(batches: Iterable[PackedEvents], processes: Sequence[Process]) -> "Balance":
        """Balance the classes of all events that the batches hold together."""
        sums = ClassSums(processes)
        for batch in batches:
            sums.add(batch)
        return Balance(sums)

    @property
    def classes(self) -> int:
        """Number of classes that have events: what all weights sum to."""
        return len(self._sums.sums)

    def weights(self, events: PackedEvents) -> NDArray[np.float64]:
        """(events,): weights of all or some of the events; zero of unknown label."""
        weights = self._sums.mixed(events)
        for label, total in self._sums.sums.items():
            weights[events.label == label] /= total
        return weights


def balanced_weights(events: PackedEvents, processes: Sequence[Process]) -> NDArray[np.float64]:
    """Weights under which each class sums to one, its processes in their stated mix.

    Parameters
    ----------
    events
        Of any part of the dataset. Those of unknown label get the weight zero.
    processes
        Of the schema to which `events.process` points.

    Returns
    -------
    weights : (events,), float64
        See `Balance`. A class of which there are no events contributes none.

    Raises
    ------
    DataError
        Where the weights of a class do not sum to a positive number.
    """
    return Balance.of([events], processes).weights(events)


def _mixing_factors(processes: Sequence[Process]) -> NDArray[np.float64]:
    """(processes,): share over sum of generated weights, each relative to those of the class."""
    factors = np.ones(len(processes))
    for label in ("signal", "background"):
        stated = {
            place: (process.share, process.sum_weights)
            for place, process in enumerate(processes)
            if process.label == label
            and process.share is not None
            and process.sum_weights is not None
            and process.sum_weights > 0
        }
        shares = math.fsum(share for share, _ in stated.values())
        generated = math.fsum(total for _, total in stated.values())
        if shares > 0:
            for place, (share, total) in stated.items():
                factors[place] = (share / shares) / (total / generated)
    return factors
