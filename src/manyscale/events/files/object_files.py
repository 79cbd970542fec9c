"""Files of reconstructed objects (Delphes, NanoAOD): batches of entries to records."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import awkward as ak
import numpy as np

from manyscale.events.assembly import assemble
from manyscale.events.bookkeeping import Bookkeeping, UnitResult, add_cutflows
from manyscale.events.detected import DetectedEvents
from manyscale.events.files.source import (
    FIRST_STEP,
    THE_PROCESS,
    Batch,
    FileEvents,
    Piece,
    load_batches,
    nothing,
)
from manyscale.events.record import StreamLayout
from manyscale.events.settings import GenerateSettings

__all__ = ["Totals", "read_objects"]


class Totals(NamedTuple):
    """What files say of all the events that were generated for some of their entries.

    Attributes
    ----------
    sum_weights, sum_weights2
        Sums of weights and of squared weights; None where not known.
    cross_section, cross_section_error
        In pb; None where not known.
    """

    sum_weights: float | None
    sum_weights2: float | None
    cross_section: float | None = None
    cross_section_error: float | None = None


def read_objects(
    pieces: Sequence[Piece],
    streams: Mapping[str, StreamLayout],
    settings: GenerateSettings,
    *,
    batch: int,
    entries: Callable[[str], int],
    load: Callable[[Piece], Any],
    detect: Callable[[Batch], tuple[DetectedEvents, Counter[str]]],
    totals: Callable[[Batch, DetectedEvents], Totals],
) -> FileEvents:
    """Read pieces of files batch by batch, select, and make records.

    Parameters
    ----------
    pieces, streams
        See `Reader.read`.
    settings
        Cuts and objects.
    batch
        Entries held at a time.
    entries, load
        See `load_batches`.
    detect
        Makes detected events of a loaded batch; and notes.
    totals
        What is known of the generated events of a batch.
    """
    weights, records, cutflows, notes = [], [], [], Counter[str]()
    known: list[Totals] = []
    for group in load_batches(pieces, batch, entries, load):
        events, odd = detect(group)
        selected, cutflow = assemble(events, streams, settings.cuts, settings.objects, FIRST_STEP)
        weights.append(events.weight)
        records.append(selected)
        cutflows.append(cutflow)
        known.append(totals(group, events))
        notes += odd
    if not known:
        return nothing(streams)
    cross_section, error = _mean_cross_section(known, [len(weight) for weight in weights])
    result = UnitResult(
        ak.concatenate(records),
        Bookkeeping(
            generated=sum(map(len, weights)),
            sum_weights=_add([of.sum_weights for of in known]),
            sum_weights2=_add([of.sum_weights2 for of in known]),
            cross_section=cross_section,
            cross_section_error=error,
            cutflow=add_cutflows(cutflows),
        ),
    )
    return FileEvents(np.concatenate(weights), {THE_PROCESS: result}, notes)


def _mean_cross_section(
    known: Sequence[Totals], entries: Sequence[int]
) -> tuple[float | None, float | None]:
    """Mean over batches, by their entries; errors as if they were the same events."""
    if any(of.cross_section is None or of.cross_section_error is None for of in known):
        return None, None
    values = [(of.cross_section, of.cross_section_error) for of in known]
    value, error = np.average(np.array(values, float), axis=0, weights=entries)
    return float(value), float(error)


def _add(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None
