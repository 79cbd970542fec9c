"""What the events of a dataset add up to, in memory that does not grow with their number."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manyscale.data.balance import ClassSums
from manyscale.data.packing import PackedEvents
from manyscale.schema import Label, Process

__all__ = ["Totals"]


@dataclass(frozen=True)
class Totals:
    """Counts and sums over some events.

    Attributes
    ----------
    events
        Number of events.
    classes
        Number of events of each class.
    processes
        (processes,): number of events of each process of the schema.
    weights, weights2
        (processes,): sums of their weights and squared weights.
    class_sums
        What balanced weights are made of.
    """

    events: int
    classes: dict[Label, int]
    processes: NDArray[np.int64]
    weights: NDArray[np.float64]
    weights2: NDArray[np.float64]
    class_sums: ClassSums

    @staticmethod
    def of(batches: Iterable[PackedEvents], processes: Sequence[Process]) -> "Totals":
        """Add up the events of all batches; their streams are not needed."""
        events = 0
        classes: dict[Label, int] = {"signal": 0, "background": 0}
        counts = np.zeros(len(processes), np.int64)
        weights, weights2 = np.zeros(len(processes)), np.zeros(len(processes))
        sums = ClassSums(processes)
        for batch in batches:
            events += len(batch)
            classes["signal"] += int(np.count_nonzero(batch.label == 1))
            classes["background"] += int(np.count_nonzero(batch.label == 0))
            known = batch.process >= 0
            process, weight = batch.process[known], batch.weight[known]
            counts += np.bincount(process, minlength=len(processes))
            weights += np.bincount(process, weight, len(processes))
            weights2 += np.bincount(process, np.square(weight), len(processes))
            sums.add(batch)
        return Totals(events, classes, counts, weights, weights2, sums)
