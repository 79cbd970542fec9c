"""Detected events of a file to what readers give: for Delphes and NanoAOD."""

from collections import Counter
from collections.abc import Mapping

from manyscale.events.files.checks import range_notes
from manyscale.events.files.reader import FIRST_STEP, THE_PROCESS, FileEvents
from manyscale.events.objects import DetectedEvents
from manyscale.events.selection import select
from manyscale.events.settings import GenerateSettings
from manyscale.schema import StreamSchema

__all__ = ["select_batch"]


def select_batch(
    events: DetectedEvents,
    streams: Mapping[str, StreamSchema],
    settings: GenerateSettings,
    notes: Counter[str],
    **known: float | None,
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
    notes
        See `FileEvents`.
    known
        Of `Generated`, what the file says better than its weights do: cross section, sums of weights.
    """
    selected, generated = select(events, streams, settings.cuts, settings.objects, FIRST_STEP)
    for name, schema in streams.items():
        notes += range_notes(schema, selected.streams[name])
    counted = generated.model_copy(update=known)
    return FileEvents(events.weight, {THE_PROCESS: (selected, counted)}, notes)
