"""Packed events to Arrow tables and back, without a Python object an event."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from manyscale.data.packing import PackedEvents
from manyscale.events.ragged import PackedStream
from manyscale.schema import Schema, StreamSchema

__all__ = ["BOOKKEEPING", "arrow_schema", "from_arrow", "stored_columns", "to_arrow", "token_paths"]

#: Columns of a part that say which event it is and how much it counts.
BOOKKEEPING = ("process", "event_id", "weight")


def arrow_schema(schema: Schema, observables: Mapping[str, NDArray[np.generic]]) -> pa.Schema:
    """Arrow schema of a part; the observables say of which types they are."""
    fields = []
    for stream in schema.streams:
        token = pa.field("element", _struct(stream.columns), nullable=False)
        fields.append(pa.field(stream.name, pa.list_(token), nullable=False))
        if stream.axis:
            fields.append(pa.field(f"{stream.name}_axis", _struct(stream.axis), nullable=False))
    fields.append(pa.field("process", pa.dictionary(pa.int32(), pa.string()), nullable=False))
    fields.extend(pa.field(name, pa.float64(), nullable=False) for name in schema.weights)
    fields.append(pa.field("event_id", pa.uint64(), nullable=False))
    if schema.observables:
        inner = [
            pa.field(name, pa.from_numpy_dtype(observables[name].dtype), nullable=False)
            for name in schema.observables
        ]
        fields.append(pa.field("observables", pa.struct(inner), nullable=False))
    return pa.schema(fields)


def token_paths(schema: Schema) -> list[str]:
    """Paths inside a part of the single-precision columns; split into bytes they read fastest."""
    return [
        path
        for stream in schema.streams
        for path in (
            *(f"{stream.name}.list.element.{column}" for column in stream.columns),
            *(f"{stream.name}_axis.{column}" for column in stream.axis),
        )
    ]


def stored_columns(schema: Schema, streams: Sequence[str]) -> list[str]:
    """Columns of a part that are needed for events of the named streams."""
    columns = list(BOOKKEEPING)
    for name in streams:
        columns.extend([name, f"{name}_axis"] if schema.stream(name).axis else [name])
    return columns


def to_arrow(
    events: PackedEvents, schema: Schema, process: str, layout: pa.Schema
) -> pa.RecordBatch:
    """Bring events of one process to the columns of `layout`."""
    columns: list[pa.Array] = []
    for stream in schema.streams:
        packed = events.streams[stream.name]
        token = layout.field(stream.name).type
        columns.append(
            pa.ListArray.from_arrays(
                pa.array(packed.offsets, pa.int32()),
                _columns_to_struct(packed.values, token.value_type),
                type=token,
            )
        )
        if stream.axis:
            columns.append(
                _columns_to_struct(packed.axis, layout.field(f"{stream.name}_axis").type)
            )
    places = pa.array(np.zeros(len(events), np.int32))
    columns.append(pa.DictionaryArray.from_arrays(places, pa.array([process])))
    columns.append(pa.array(events.weight, pa.float64()))
    columns.extend(pa.array(events.weights[name], pa.float64()) for name in schema.weights[1:])
    columns.append(pa.array(events.event_id, pa.uint64()))
    if schema.observables:
        inner = layout.field("observables").type
        values = [
            pa.array(events.observables[name], inner.field(name).type)
            for name in schema.observables
        ]
        columns.append(pa.StructArray.from_arrays(values, fields=list(inner)))
    return pa.RecordBatch.from_arrays(columns, schema=layout)


def from_arrow(
    batch: pa.RecordBatch, schema: Schema, streams: Sequence[str], *, known: bool
) -> PackedEvents:
    """Bring a batch of a part back to packed events.

    Parameters
    ----------
    batch
        Holds at least `stored_columns(schema, streams)`.
    schema
        Of the dataset: says the place and class of each process.
    known
        Whether further weights and observables are taken, too. A weight that the batch lacks is the
        nominal one, an observable that it lacks NaN.
    """
    process = _process_places(batch.column("process"), schema)
    labels = np.array([int(p.label == "signal") for p in schema.processes] + [-1])
    weight = _numbers(batch.column("weight"))
    weights, observables = {}, {}
    if known:
        weights = {name: _weight(batch, name, weight) for name in schema.weights[1:]}
        observables = _observables(batch, schema)
    return PackedEvents(
        {name: _stream_from_arrow(batch, schema.stream(name)) for name in streams},
        _numbers(batch.column("event_id")),
        labels[process],
        process,
        weight,
        observables,
        weights,
    )


def _weight(batch: pa.RecordBatch, name: str, nominal: NDArray[np.float64]) -> NDArray[np.float64]:
    return _numbers(batch.column(name)) if name in batch.schema.names else nominal


def _observables(batch: pa.RecordBatch, schema: Schema) -> dict[str, NDArray[np.generic]]:
    stored: dict[str, pa.Array] = {}
    if "observables" in batch.schema.names:
        inner = batch.column("observables")
        names = [field.name for field in inner.type]
        stored = {name: inner.field(name) for name in names}
    unknown = np.full(len(batch), np.nan)
    return {
        name: _numbers(stored[name]) if name in stored else unknown for name in schema.observables
    }


def _numbers(column: pa.Array) -> NDArray[Any]:
    return column.to_numpy(zero_copy_only=False, writable=True)


def _struct(columns: Sequence[str]) -> pa.StructType:
    return pa.struct([pa.field(name, pa.float32(), nullable=False) for name in columns])


def _columns_to_struct(values: NDArray[np.float32], of: pa.StructType) -> pa.StructArray:
    columns = [pa.array(np.ascontiguousarray(column)) for column in values.T]
    return pa.StructArray.from_arrays(columns, fields=list(of))


def _struct_to_columns(array: pa.StructArray, names: Sequence[str]) -> NDArray[np.float32]:
    values = np.empty((len(array), len(names)), np.float32)
    for place, name in enumerate(names):
        values[:, place] = array.field(name).to_numpy(zero_copy_only=False)
    return values


def _stream_from_arrow(batch: pa.RecordBatch, stream: StreamSchema) -> PackedStream:
    tokens = batch.column(stream.name)
    offsets = tokens.offsets.to_numpy().astype(np.int64)
    values = tokens.values.slice(offsets[0], offsets[-1] - offsets[0])
    axis = np.zeros((len(tokens), 0), np.float32)
    if stream.axis:
        axis = _struct_to_columns(batch.column(f"{stream.name}_axis"), stream.axis)
    return PackedStream(_struct_to_columns(values, stream.columns), np.diff(offsets), axis)


def _process_places(column: pa.DictionaryArray, schema: Schema) -> NDArray[np.int64]:
    """Place of each event's process in the schema; -1 where the schema has none of that name."""
    place = {process.name: index for index, process in enumerate(schema.processes)}
    known = np.array([place.get(name, -1) for name in column.dictionary.to_pylist()], np.int64)
    if not len(known):
        return np.zeros(len(column), np.int64)
    return known[column.indices.to_numpy(zero_copy_only=False)]
