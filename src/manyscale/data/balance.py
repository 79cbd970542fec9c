"""What events add up to, how the processes of a class are mixed, and weights that balance the classes.

All of it in memory that does not grow with the number of events.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from manyscale.data.packing import PackedEvents
from manyscale.errors import DataError
from manyscale.schema import Label, Process
from manyscale.settings import Record
from manyscale.statistics.sample import LARGEST_WEIGHT, TOO_LARGE

__all__ = ["Balance", "ClassMix", "Rule", "Totals", "balanced_weights", "mix_notices", "mix_rules"]

#: By what the processes of a class are mixed.
Rule = Literal["only process", "share", "cross section", "events alike"]
_CLASSES: Mapping[Label, int] = {"signal": 1, "background": 0}


class ClassMix(Record):
    """What each process makes of the balanced weight of its class, by name, and by which rule."""

    rule: Rule
    fractions: dict[str, float]


def mix_rules(processes: Sequence[Process]) -> dict[Label, Rule]:
    """By which rule the processes of each class are mixed; one rule holds for all of a class.

    An event of a process for which y stands, and of which events with a sum of weights S were
    generated, counts as its own weight times y / S: were it not for the selection, the processes
    would stand as their y. Whatever the units of the weights, they cancel.

    - `share`: y is the stated share, where each process of the class has one, and S;
    - `cross section`: else y is cross section x k-factor x filter efficiency, where each has one
      above zero, and S. A share that some of them state then counts for nothing;
    - `events alike`: else each event counts its own weight.

    Only what the schema says decides, not which events there are, so that training, validation and
    test follow the same rule.

    Examples
    --------
    >>> qcd = Process(name="qcd", label="background", cross_section=100, sum_weights=1e5)
    >>> mix_rules([qcd, qcd.model_copy(update={"name": "ttbar", "share": 0.2})])
    {'background': 'cross section'}
    """
    rules: dict[Label, Rule] = {}
    for label in _CLASSES:
        members = [process for process in processes if process.label == label]
        generated = all((process.sum_weights or 0) > 0 for process in members)
        if not members:
            continue
        if len(members) == 1:
            rules[label] = "only process"
        elif generated and all((process.share or 0) > 0 for process in members):
            rules[label] = "share"
        elif generated and all((process.cross_section or 0) > 0 for process in members):
            rules[label] = "cross section"
        else:
            rules[label] = "events alike"
    return rules


def mix_notices(processes: Sequence[Process]) -> list[str]:
    """Say, a line a class, which process lacks what, where its processes cannot be mixed."""
    lines = []
    for label, rule in mix_rules(processes).items():
        if rule != "events alike":
            continue
        members = [process for process in processes if process.label == label]
        lacking = []
        for process in members:
            known = {
                "cross section": process.cross_section,
                "sum of generated weights": process.sum_weights,
            }
            if missing := [what for what, value in known.items() if not (value or 0) > 0]:
                lacking.append(f"'{process.name}' has no {' and no '.join(missing)}")
        line = (
            f"{label}: its processes are mixed event by event, each with its weight as it is, since "
            f"{'; '.join(lacking)}. Give it where the events are converted (--cross-section, "
            "--sum-weights) if they should stand in proportion to their cross sections"
        )
        if stated := ", ".join(f"'{p.name}'" for p in members if p.share is not None):
            line += f"; a share counts only where all have one and a sum, here {stated} alone"
        lines.append(line)
    return lines


@dataclass(frozen=True)
class Balance:
    """Weights under which each class of some events sums to one, its processes mixed by `mix_rules`.

    Attributes
    ----------
    factors
        (processes + 1,): on the weights of each process, one for unknown ones at the end.
    sums
        Label to the sum of the weights times factors, of the labels that there are.

    Raises
    ------
    DataError
        Where the weights of a class do not sum to a positive number.
    """

    factors: NDArray[np.float64]
    sums: Mapping[int, float]

    def __post_init__(self) -> None:
        for name, label in _CLASSES.items():
            total = self.sums.get(label)
            if total is not None and not total > 0:
                raise DataError(
                    f"the weights of the {name} events sum to {total:g}; a sum above zero is "
                    f"needed to balance the classes"
                )

    @property
    def classes(self) -> int:
        """Number of classes that have events: what all weights sum to."""
        return len(self.sums)

    def weights(self, events: PackedEvents) -> NDArray[np.float64]:
        """(events,): weights of all or some of the events; zero of unknown label."""
        weights: NDArray[np.float64] = events.weight * self.factors[events.process]
        weights[events.label < 0] = 0.0
        for label, total in self.sums.items():
            weights[events.label == label] /= total
        return weights


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
    factors, class_sums
        As in `Balance`.
    """

    events: int
    classes: dict[Label, int]
    processes: NDArray[np.int64]
    weights: NDArray[np.float64]
    weights2: NDArray[np.float64]
    factors: NDArray[np.float64]
    class_sums: dict[int, float]

    @staticmethod
    def of(batches: Iterable[PackedEvents], processes: Sequence[Process]) -> "Totals":
        """Add up the events of all batches; their streams are not needed."""
        events = 0
        classes = dict.fromkeys(_CLASSES, 0)
        counts = np.zeros(len(processes), np.int64)
        weights, weights2 = np.zeros(len(processes)), np.zeros(len(processes))
        factors = np.append(_mixing_factors(processes), 1.0)
        # A sum and what rounding left of it, so that it does not depend on the batches.
        sums: dict[int, tuple[float, float]] = {}
        for batch in batches:
            events += len(batch)
            known = batch.process >= 0
            process, weight = batch.process[known], batch.weight[known]
            if len(weight) and (largest := np.abs(weight).max()) > LARGEST_WEIGHT:
                raise DataError(f"an event has the weight {largest:g} (or minus it): {TOO_LARGE}")
            counts += np.bincount(process, minlength=len(processes))
            weights += np.bincount(process, weight, len(processes))
            weights2 += np.bincount(process, np.square(weight), len(processes))
            mixed = batch.weight * factors[batch.process]
            for name, label in _CLASSES.items():
                chosen = batch.label == label
                if number := int(np.count_nonzero(chosen)):
                    classes[name] += number
                    terms = [*mixed[chosen].tolist(), *sums.get(label, ())]
                    total = math.fsum(terms)
                    sums[label] = (total, math.fsum([*terms, -total]))
        class_sums = {label: total for label, (total, _) in sums.items()}
        return Totals(events, classes, counts, weights, weights2, factors, class_sums)

    @property
    def balance(self) -> Balance:
        """Weights for these events, or any of them."""
        return Balance(self.factors, self.class_sums)

    def mix(self, processes: Sequence[Process]) -> dict[Label, ClassMix]:
        """How the processes of each class are mixed in these events, after their selection.

        A class whose weights do not sum to a positive number is left out.
        """
        mixed = (self.factors[:-1] * self.weights).tolist()
        mixes: dict[Label, ClassMix] = {}
        for label, rule in mix_rules(processes).items():
            of_class = {
                process.name: weight
                for process, weight in zip(processes, mixed, strict=True)
                if process.label == label
            }
            if (total := math.fsum(of_class.values())) > 0:
                fractions = {name: weight / total for name, weight in of_class.items()}
                mixes[label] = ClassMix(rule=rule, fractions=fractions)
        return mixes


def balanced_weights(events: PackedEvents, processes: Sequence[Process]) -> NDArray[np.float64]:
    """Weights under which each class sums to one, its processes mixed by `mix_rules`.

    Parameters
    ----------
    events
        Of any part of the dataset. Those of unknown label get the weight zero.
    processes
        Of the schema to which `events.process` points.

    Returns
    -------
    weights : (events,), float64
        A class of which there are no events contributes none.

    Raises
    ------
    DataError
        Where the weights of a class do not sum to a positive number.
    """
    return Totals.of([events], processes).balance.weights(events)


def _mixing_factors(processes: Sequence[Process]) -> NDArray[np.float64]:
    """(processes,): y / S of `mix_rules`, each relative to those of the class."""
    factors = np.ones(len(processes))
    for label, rule in mix_rules(processes).items():
        if rule not in {"share", "cross section"}:
            continue
        wanted, generated = {}, {}
        for index, process in enumerate(processes):
            if process.label == label:
                effective = process.k_factor * process.filter_efficiency
                by_section = (process.cross_section or 0.0) * effective
                wanted[index] = (process.share or 0.0) if rule == "share" else by_section
                generated[index] = process.sum_weights or 0.0
        all_wanted, all_generated = math.fsum(wanted.values()), math.fsum(generated.values())
        for index, of in wanted.items():
            factors[index] = (of / all_wanted) / (generated[index] / all_generated)
    return factors
