"""Selected events as awkward records, in which tests say briefly what they mean."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import awkward as ak
import numpy as np

from manyscale.events.files.reader import FileEvents, Piece, Reader
from manyscale.events.generate import generate_unit
from manyscale.events.ragged import SelectedEvents
from manyscale.events.settings import GenerateSettings
from manyscale.events.work import Unit
from manyscale.schema import Generated, StreamSchema, collision_streams


class Result(NamedTuple):
    records: ak.Array
    bookkeeping: Generated


class Found(NamedTuple):
    weight: np.ndarray
    processes: Mapping[str, Result]
    notes: Counter[str]


def records_of(events: SelectedEvents, streams: Mapping[str, StreamSchema]) -> ak.Array:
    """A record an event: entry, weight, weights by name, streams, `<stream>_axis`, observables."""
    fields = {"entry": events.entry, "weight": events.weight, **events.weights}
    for name, stream in streams.items():
        packed = events.streams[name]
        columns = dict(zip(stream.columns, packed.values.T, strict=True))
        fields[name] = ak.unflatten(ak.zip(columns), packed.counts)
        if stream.axis:
            fields[f"{name}_axis"] = ak.zip(dict(zip(stream.axis, packed.axis.T, strict=True)))
    if events.observables:
        fields["observables"] = ak.zip(dict(events.observables))
    return ak.zip(fields, depth_limit=1)


def read(
    reader: Reader, pieces: Sequence[Piece], streams: Mapping[str, StreamSchema], seed: int = 1
) -> Found:
    """Read pieces one after the other."""
    found = FileEvents.add(
        [batch for piece in pieces for batch in reader.read(piece, streams, seed)]
    )
    return Found(
        found.weight,
        {
            name: Result(records_of(events, streams), generated)
            for name, (events, generated) in found.processes.items()
        },
        found.notes,
    )


def generated(settings: GenerateSettings, unit: Unit) -> Result:
    """Generate a unit."""
    events, book = generate_unit(settings, unit)
    return Result(records_of(events, collision_streams(settings.streams)), book)
