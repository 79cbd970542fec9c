"""Detected events of a file to what readers give: for Delphes and NanoAOD."""

from collections import Counter
from collections.abc import Mapping

from manyscale.events.files.checks import range_notes
from manyscale.events.files.reader import FIRST_STEP, THE_PROCESS, FileEvents
from manyscale.events.objects import DetectedEvents
from manyscale.events.selection import select
from manyscale.events.settings import GenerateSettings
from manyscale.schema import Generated, StreamSchema

__all__ = ["select_batch"]


def select_batch(
    events: DetectedEvents,
    streams: Mapping[str, StreamSchema],
    settings: GenerateSettings,
    generated: Generated,
    notes: Counter[str] | None = None,
) -> FileEvents:
    """Select some entries of a file.

    Parameters
    ----------
    events
        All of them.
    streams
        Those wanted.
    settings
        Cuts and objects.
    generated
        What is known of all generated events: cross section, sums of weights.
    notes
        See `FileEvents`.
    """
    selected, cutflow = select(events, streams, settings.cuts, settings.objects, FIRST_STEP)
    counted = generated.model_copy(update={"generated": len(events.weight), "cutflow": cutflow})
    odd = Counter(notes or ())
    for name, schema in streams.items():
        odd.update(range_notes(schema, selected.streams[name]))
    return FileEvents(events.weight, {THE_PROCESS: (selected, counted)}, odd)
