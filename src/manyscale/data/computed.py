"""Columns that are computed from those of a stream while events are read."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from manyscale.data.packing import PackedEvents
from manyscale.data.store import RowGroups, Store
from manyscale.errors import DataError
from manyscale.events.ragged import PackedStream
from manyscale.schema import Schema, StreamSchema

__all__ = ["ColumnStore", "Compute", "NewColumns", "with_names"]

#: Computes a column, (tokens,), of the columns of a stream by name, each (tokens,) float32.
Compute = Callable[[Mapping[str, NDArray[np.float32]]], ArrayLike]

#: The new columns of each stream, by name.
NewColumns = Mapping[str, Mapping[str, Compute]]


def with_names(schema: Schema, columns: NewColumns) -> Schema:
    """Add the names of new columns to a schema.

    Raises
    ------
    DataError
        Where there is no such stream, or a name cannot be that of a column or is taken.
    """
    for name in columns:
        schema.stream(name)
    streams = tuple(_extended(stream, columns.get(stream.name, {})) for stream in schema.streams)
    return schema.model_copy(update={"streams": streams})


def _extended(stream: StreamSchema, names: Mapping[str, Compute]) -> StreamSchema:
    for name in names:
        if name in stream.all_columns:
            raise DataError(
                f"stream '{stream.name}' has a column '{name}' already: name it otherwise"
            )
        if not (name.isascii() and name.isidentifier()):
            raise DataError(
                f"'{name}' cannot be the name of a column of stream '{stream.name}': use letters, "
                "digits and _, a letter first"
            )
    return stream.model_copy(
        update={
            "columns": (*stream.columns, *names),
            "array_columns": stream.array_columns and (*stream.array_columns, *names),
        }
    )


class ColumnStore:
    """The events of another store, with further columns.

    Parameters
    ----------
    store
        Where the events come from.
    columns
        What is added.
    """

    def __init__(self, store: Store, columns: NewColumns) -> None:
        self.schema = with_names(store.schema, columns)
        self._store = store
        self._columns = columns

    def batches(
        self, streams: Sequence[str], size: int, *, known: bool = True
    ) -> Iterator[PackedEvents]:
        """Give the events of the store, at most `size` at a time.

        Raises
        ------
        DataError
            Where a function gives something else than a finite number a token.
        """
        for batch in self._store.batches(streams, size, known=known):
            yield self._with_columns(batch)

    @property
    def groups(self) -> RowGroups | None:
        """The row groups of the store."""
        return self._store.groups

    def read_groups(self, groups: Sequence[int], streams: Sequence[str]) -> Iterator[PackedEvents]:
        """Read the named row groups of the store in turn."""
        for events in self._store.read_groups(groups, streams):
            yield self._with_columns(events)

    def _with_columns(self, events: PackedEvents) -> PackedEvents:
        streams = {
            name: self._add(self._store.schema.stream(name), stream)
            for name, stream in events.streams.items()
        }
        return replace(events, streams=streams)

    def _add(self, schema: StreamSchema, stream: PackedStream) -> PackedStream:
        functions = self._columns.get(schema.name, {})
        if not functions:
            return stream
        columns = _Columns(schema, stream)
        added = [
            _computed(function, columns, f"column '{name}' of stream '{schema.name}'")
            for name, function in functions.items()
        ]
        return replace(stream, values=np.column_stack([stream.values, *added]))


class _Columns(dict[str, NDArray[np.float32]]):
    """The columns of a stream by name, the axis repeated on each token."""

    def __init__(self, schema: StreamSchema, stream: PackedStream) -> None:
        axis = np.repeat(stream.axis, stream.counts, axis=0)
        super().__init__(
            zip((*schema.columns, *schema.axis), (*stream.values.T, *axis.T), strict=True)
        )
        self.schema = schema

    def __missing__(self, name: str) -> NoReturn:
        raise DataError(
            f"stream '{self.schema.name}' has no column '{name}'; it has {', '.join(self)}"
        )


def _computed(function: Compute, columns: _Columns, what: str) -> NDArray[np.float32]:
    values = np.asarray(function(columns))
    tokens = len(next(iter(columns.values())))
    if values.shape != (tokens,):
        raise DataError(
            f"{what}: the function gives an array of shape {values.shape} for {tokens} tokens; it "
            "must give one number a token"
        )
    if values.dtype.kind not in "fiub":
        raise DataError(f"{what}: the function gives {values.dtype}, not numbers")
    with np.errstate(over="ignore"):
        single = values.astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(single))
    if len(bad):
        token = ", ".join(f"{name} = {column[bad[0]]:g}" for name, column in columns.items())
        raise DataError(f"{what}: the function gives {values[bad[0]]} for the token with {token}")
    return single
