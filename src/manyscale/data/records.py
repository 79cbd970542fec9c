"""Records of events (awkward arrays) to packed events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from manyscale.data.identity import event_ids
from manyscale.data.packing import PackedEvents, PackedStream
from manyscale.data.schema import StreamSchema

if TYPE_CHECKING:
    import awkward as ak

__all__ = ["pack_records"]


def pack_records(
    records: ak.Array,
    streams: Sequence[StreamSchema],
    *,
    identity: str | Sequence[str],
    label: int = -1,
    weights: Sequence[str] = (),
) -> PackedEvents:
    """Pack records of the events' layout: `manyscale.events.record` describes it.

    Parameters
    ----------
    records
        With the fields `entry` (place in the source; `piece`, where the source has several),
        `weight`, a list of tokens and, where there
        is one, `<stream>_axis` for each stream, and `observables`.
    streams
        Which streams and columns to take.
    identity
        The source of which `entry` is the place, or one for each `piece` of it; `event_id` follows
        from both.
    label
        Class of all these events.
    weights
        Names of further fields that are weights.
    """
    import awkward as ak  # noqa: PLC0415  # an extra, slow to import

    events = len(records)
    fields = set(ak.fields(records))
    observables = records["observables"] if "observables" in fields else None
    return PackedEvents(
        {stream.name: _pack_stream(records, stream) for stream in streams},
        _event_ids(records, [identity] if isinstance(identity, str) else identity),
        np.full(events, label, np.int64),
        np.full(events, -1, np.int64),
        ak.to_numpy(records["weight"]).astype(np.float64),
        {}
        if observables is None
        else {name: ak.to_numpy(observables[name]) for name in ak.fields(observables)},
        {name: ak.to_numpy(records[name]).astype(np.float64) for name in weights},
    )


def _event_ids(records: ak.Array, identities: Sequence[str]) -> NDArray[np.uint64]:
    import awkward as ak  # noqa: PLC0415

    entry = ak.to_numpy(records["entry"])
    if len(identities) == 1:
        return event_ids(identities[0], entry)
    piece = ak.to_numpy(records["piece"])
    numbers = np.zeros(len(entry), np.uint64)
    for place in np.unique(piece).tolist():
        numbers[piece == place] = event_ids(identities[place], entry[piece == place])
    return numbers


def _pack_stream(records: ak.Array, stream: StreamSchema) -> PackedStream:
    import awkward as ak  # noqa: PLC0415

    tokens = records[stream.name]
    flat = ak.flatten(tokens, axis=1)
    values = _table(flat, stream.columns, len(flat))
    axis = np.zeros((len(records), 0), np.float32)
    if stream.axis:
        axis = _table(records[f"{stream.name}_axis"], stream.axis, len(records))
    return PackedStream(values, ak.to_numpy(ak.num(tokens, axis=1)).astype(np.int64), axis)


def _table(records: ak.Array, columns: Sequence[str], rows: int) -> NDArray[np.float32]:
    import awkward as ak  # noqa: PLC0415

    table = np.empty((rows, len(columns)), np.float32)
    for place, name in enumerate(columns):
        table[:, place] = ak.to_numpy(records[name])
    return table
