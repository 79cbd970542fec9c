"""Padded arrays to packed streams: real tokens found, values checked, axis set apart."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manyscale.data.identity import event_ids
from manyscale.data.npy import PaddedArray
from manyscale.data.packing import PackedEvents
from manyscale.errors import DataError
from manyscale.events.ragged import PackedStream
from manyscale.schema import AXIS_COLUMNS, COLUMNS, StreamSchema

__all__ = ["PaddedEvents", "StreamPacker", "describe_stream"]

# Bytes of padded numbers held at a time.
_BLOCK_BYTES = 16 << 20

# The axis stands on every token of an event; by how much its copies may differ (rounding).
_AXIS_TOLERANCE = 1e-4


def describe_stream(
    name: str, names: Sequence[str] | None, columns: int, where: str
) -> StreamSchema:
    """Say what the columns of a padded array are; unnamed ones are f0, f1, ...

    Columns that describe the stream's jet become its axis, unless there are no others.

    Raises
    ------
    DataError
        Where there are too many or too few names, or one occurs twice.
    """
    names = tuple(names) if names else tuple(f"f{place}" for place in range(columns))
    if len(names) != columns:
        raise DataError(
            f"{where}: the array has {columns} columns, but {len(names)} are named for the stream "
            f"'{name}': {', '.join(names)}"
        )
    twice = sorted({column for column in names if names.count(column) > 1})
    if twice or not all(names):
        raise DataError(
            f"the columns of the stream '{name}' must have names of their own: "
            f"{', '.join(twice) or 'an empty name'} will not do"
        )
    axis = tuple(column for column in names if column in AXIS_COLUMNS)
    own = tuple(column for column in names if column not in axis)
    if not own:
        own, axis = names, ()
    return StreamSchema(
        name=name, columns=own, axis=axis, array_columns=() if own + axis == names else names
    )


class StreamPacker:
    """Packs the blocks of one stream in turn, and remembers what values were unusual.

    A token is real where its column `pt` is not 0 or, without a column of that name, where any
    column is not 0. Padding between real tokens is dropped, their order kept.

    Parameters
    ----------
    stream
        What the columns are.
    where
        What messages call the array.
    """

    def __init__(self, stream: StreamSchema, where: str) -> None:
        self._stream = stream
        self._where = where
        self._names = stream.all_columns
        self._own = [self._names.index(column) for column in stream.columns]
        self._axis = [self._names.index(column) for column in stream.axis]
        self._events = 0
        self._tokens = 0
        self._unusual: dict[str, tuple[int, float, float]] = {}

    def pack(self, block: NDArray[Any]) -> PackedStream:
        """Pack the next events.

        Parameters
        ----------
        block
            (events, tokens, columns) of any number type.

        Raises
        ------
        DataError
            Where a value is NaN or infinite, too large for single precision, or the axis differs
            between tokens of an event; the message gives event, token and column, from 0.
        """
        if not np.isfinite(block).all():
            self._refuse_infinite(block)
        named = "pt" in self._names
        real = block[..., self._names.index("pt")] != 0 if named else (block != 0).any(-1)
        counts = np.count_nonzero(real, axis=1)
        with np.errstate(over="ignore"):
            rows = block.reshape(-1, block.shape[2])[np.flatnonzero(real)]
            values = rows.astype(np.float32)
        if not np.isfinite(values).all():
            self._refuse_large(values, real)
        axis = self._split_axis(values, counts)
        own = values[:, self._own] if self._axis else values
        packed = PackedStream(np.ascontiguousarray(own), counts, axis)
        self._note_unusual(packed)
        self._events += len(counts)
        self._tokens += len(values)
        return packed

    def notices(self) -> list[str]:
        """Tell, a line each, what of the values packed so far lies outside the usual ranges."""
        lines = []
        if self._events and not self._tokens:
            lines.append(
                f"{self._where}: no event has a token; are the columns named as they stand?"
            )
        for name, (count, low, high) in self._unusual.items():
            column = COLUMNS[name]
            total = self._events if name in self._stream.axis else self._tokens
            lines.append(
                f"{self._where}: {count} of {total} values of {name} are outside the usual "
                f"{column.low:g} to {column.high:g} {column.unit}".rstrip()
                + f" (from {low:.4g} to {high:.4g})"
            )
        return lines

    def _split_axis(self, values: NDArray[Any], counts: NDArray[np.int64]) -> NDArray[np.float32]:
        axis = np.zeros((len(counts), len(self._axis)), np.float32)
        if not self._axis:
            return axis
        repeated = values[:, self._axis]
        filled = counts > 0
        axis[filled] = repeated[(np.cumsum(counts) - counts)[filled]]
        event = np.repeat(np.arange(len(counts)), counts)
        differs = np.abs(repeated - axis[event]) > _AXIS_TOLERANCE * (1 + np.abs(axis[event]))
        if differs.any():
            row, column = np.argwhere(differs)[0]
            name = self._stream.axis[column]
            raise DataError(
                f"{self._where}: event {self._events + event[row]}: {name} is the stream's jet and "
                f"should be the same on all tokens, but is {repeated[row, column]:g} beside "
                f"{axis[event[row], column]:g}; name the column of each token otherwise ("
                f"{name.removeprefix('jet_')}, say)"
            )
        return axis

    def _note_unusual(self, packed: PackedStream) -> None:
        columns = zip(
            self._stream.columns + self._stream.axis,
            (*packed.values.T, *packed.axis[packed.counts > 0].T),
            strict=True,
        )
        for name, values in columns:
            if name not in COLUMNS or not len(values):
                continue
            known = COLUMNS[name]
            low, high = float(values.min()), float(values.max())
            if low >= known.low and high <= known.high:
                continue
            count = int(np.count_nonzero((values < known.low) | (values > known.high)))
            before = self._unusual.get(name, (0, low, high))
            self._unusual[name] = (before[0] + count, min(before[1], low), max(before[2], high))

    def _refuse_infinite(self, block: NDArray[Any]) -> None:
        event, token, column = np.argwhere(~np.isfinite(block))[0]
        kind = "NaN" if np.isnan(block[event, token, column]) else "infinite"
        raise DataError(
            self._place(event, token, column) + f" is {kind}; all values must be finite"
        )

    def _refuse_large(self, values: NDArray[np.float32], real: NDArray[np.bool_]) -> None:
        row, column = np.argwhere(~np.isfinite(values))[0]
        event, token = np.argwhere(real)[row]
        raise DataError(
            self._place(event, token, column) + " is too large for single precision (3.4e38)"
        )

    def _place(self, event: int, token: int, column: int) -> str:
        return (
            f"{self._where}: event {self._events + event}, token {token}, column {column} "
            f"({self._names[column]})"
        )


@dataclass(frozen=True)
class PaddedEvents:
    """Some events as padded arrays, one a stream, not yet packed.

    Attributes
    ----------
    arrays
        A padded array a stream, all of the same number of events.
    identity
        Names the source, see `file_identity`.
    """

    arrays: Mapping[str, PaddedArray]
    identity: str

    def __len__(self) -> int:
        """Return the number of events."""
        return next(iter(self.arrays.values())).shape[0]

    def __post_init__(self) -> None:
        """Refuse streams of different numbers of events."""
        events = {array.where: array.shape[0] for array in self.arrays.values()}
        if len(set(events.values())) > 1:
            numbers = ", ".join(f"{where} has {count}" for where, count in events.items())
            raise DataError(f"the streams have different numbers of events: {numbers}")

    def streams(self, columns: Mapping[str, Sequence[str]]) -> tuple[StreamSchema, ...]:
        """Say what the streams are, with the names of their columns where there are any."""
        return tuple(
            describe_stream(name, columns.get(name), array.shape[2], array.where)
            for name, array in self.arrays.items()
        )

    def packers(self, streams: Sequence[StreamSchema]) -> dict[str, StreamPacker]:
        """Make what packs these streams."""
        return {
            stream.name: StreamPacker(stream, self.arrays[stream.name].where) for stream in streams
        }

    def pack(
        self, packers: Mapping[str, StreamPacker], *, label: int = -1, process: int = -1
    ) -> Iterator[PackedEvents]:
        """Pack the events block by block, each of weight one, in memory that does not grow."""
        largest = max(
            int(np.prod(array.shape[1:])) for name, array in self.arrays.items() if name in packers
        )
        step = max(1, _BLOCK_BYTES // (8 * max(largest, 1)))
        blocks = [self.arrays[name].blocks(step) for name in packers]
        first = 0
        for together in zip(*blocks, strict=True):
            events = len(together[0])
            yield PackedEvents(
                {
                    name: packer.pack(block)
                    for (name, packer), block in zip(packers.items(), together, strict=True)
                },
                event_ids(self.identity, np.arange(first, first + events)),
                np.full(events, label, np.int64),
                np.full(events, process, np.int64),
                np.ones(events),
            )
            first += events
