"""What was generated and what passed: cross sections, sums of weights, cutflow."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import awkward as ak

__all__ = ["Bookkeeping", "CrossSection", "CutStep", "Cutflow", "UnitResult", "add_cutflows"]


class CrossSection(NamedTuple):
    """Cross section in pb and its statistical error, as integrated while events were made."""

    value: float
    error: float


class CutStep(NamedTuple):
    """How much passed a step of the selection: events, and the sum of their weights."""

    step: str
    events: int
    sum_weights: float


Cutflow = tuple[CutStep, ...]


def add_cutflows(cutflows: Sequence[Cutflow]) -> Cutflow:
    """Add up cutflows of the same steps."""
    return tuple(
        CutStep(steps[0].step, sum(s.events for s in steps), sum(s.sum_weights for s in steps))
        for steps in zip(*cutflows, strict=True)
    )


@dataclass(frozen=True)
class Bookkeeping:
    """What is known of some generated events of one process beside the events that passed.

    Attributes
    ----------
    generated
        Number of events tried, before any selection.
    sum_weights, sum_weights2
        Sums of the weights, and of their squares, of all generated events; None where the source
        does not say.
    cross_section, cross_section_error
        In pb, with its statistical error; None where the source does not say.
    cutflow
        The first step counts all events of the source; each further one what passed it and all
        before.
    """

    generated: int
    sum_weights: float | None
    sum_weights2: float | None
    cross_section: float | None
    cross_section_error: float | None
    cutflow: Cutflow


@dataclass(frozen=True)
class UnitResult:
    """What a unit of work made of one process.

    Attributes
    ----------
    records
        Awkward array of the events that passed, in the layout of record.py, in the order of the
        source.
    bookkeeping
        What there was before the selection.
    """

    records: ak.Array
    bookkeeping: Bookkeeping
