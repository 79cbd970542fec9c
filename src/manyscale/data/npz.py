"""Padded arrays, of npz files or in memory, as events: real tokens found, values checked."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from manyscale.data.dataset import Dataset
from manyscale.data.event_filter import SplitSettings
from manyscale.data.identity import event_ids, file_identity
from manyscale.data.npz_arrays import MemoryArray, NpzArray, choose_array, open_npz
from manyscale.data.packing import PackedEvents
from manyscale.errors import DataError
from manyscale.events.files.checks import range_notes
from manyscale.events.ragged import PackedStream
from manyscale.progress import LOG
from manyscale.schema import (
    AXIS_COLUMNS,
    LONE_STREAM,
    Process,
    Schema,
    StreamSchema,
    check_stream_names,
    misspelt_columns,
)

__all__ = [
    "LONE_STREAM",
    "Arrays",
    "Columns",
    "Files",
    "PaddedEvents",
    "StreamPacker",
    "describe_stream",
    "from_arrays",
    "named_columns",
    "npz_batches",
    "open_padded",
    "read_npz",
    "read_npz_events",
    "warn_of_values",
]

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
        self._unusual = Counter[str]()

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
            event, token, column = np.argwhere(~np.isfinite(block))[0]
            kind = "NaN" if np.isnan(block[event, token, column]) else "infinite"
            raise DataError(
                f"{self._place(event, token, column)} is {kind}; all values must be finite"
            )
        named = "pt" in self._names
        real = block[..., self._names.index("pt")] != 0 if named else (block != 0).any(-1)
        counts = np.count_nonzero(real, axis=1)
        with np.errstate(over="ignore"):
            rows = block.reshape(-1, block.shape[2])[np.flatnonzero(real)]
            values = rows.astype(np.float32)
        if not np.isfinite(values).all():
            row, column = np.argwhere(~np.isfinite(values))[0]
            event, token = np.argwhere(real)[row]
            raise DataError(
                f"{self._place(event, token, column)} is too large for single precision (3.4e38)"
            )
        axis = self._split_axis(values, counts)
        own = values[:, self._own] if self._axis else values
        packed = PackedStream(np.ascontiguousarray(own), counts, axis)
        self._unusual += range_notes(self._stream, packed)
        self._events += len(counts)
        self._tokens += len(values)
        return packed

    def notices(self) -> list[str]:
        """Tell, a line each, what is odd of the columns' names and of the values packed so far."""
        lines = [f"{self._where}: {line}" for line in misspelt_columns(self._stream)]
        if self._events and not self._tokens:
            lines.append(
                f"{self._where}: no event has a token; are the columns named as they stand?"
            )
        return lines + [f"{self._where}: {count:,} {text}" for text, count in self._unusual.items()]

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

    arrays: Mapping[str, NpzArray | MemoryArray]
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


Files = Path | str | Mapping[str, Path | str]
Arrays = ArrayLike | Mapping[str, ArrayLike]
Columns = Sequence[str] | Mapping[str, Sequence[str]] | None

_CLASSES = (
    Process(name="signal", label="signal"),
    Process(name="background", label="background"),
)


def read_npz(
    signal: Files,
    background: Files,
    columns: Columns = None,
    *,
    split: SplitSettings | None = None,
    seed: int = 1,
) -> Dataset:
    """Read signal and background from npz files, held in memory as a dataset.

    Parameters
    ----------
    signal, background
        A file, or a file a stream: {"jet1": "a.npz", "jet2": "b.npz"}. Each holds one array
        (events, tokens, columns), padded with zeros.
    columns
        Names of the columns, a list a stream (or one list for a lone file); without them f0, f1, ...
    split, seed
        Shares of training, validation and test, and the seed by which events fall to them.

    Raises
    ------
    DataError
        Where a file cannot be read, a value is not finite, or signal and background do not match.
    """
    classes = [open_padded(files) for files in (signal, background)]
    if classes[0].identity == classes[1].identity:
        raise DataError(f"signal and background are the same: {_names(classes[0])}")
    streams = _common_streams(classes, columns)
    parts: list[PackedEvents] = []
    notices: list[str] = []
    processes: list[Process] = []
    for place, padded in enumerate(classes):
        packers = padded.packers(streams)
        parts.extend(padded.pack(packers, label=1 - place, process=place))
        notices.extend(line for packer in packers.values() for line in packer.notices())
        counts = {"generated": len(padded), "sum_weights": len(padded), "sum_weights2": len(padded)}
        processes.append(_CLASSES[place].model_copy(update=counts))
    return Dataset.from_events(
        Schema(streams=streams, processes=tuple(processes)),
        PackedEvents.concatenate(parts),
        split=split,
        seed=seed,
        source=f"signal: {_names(classes[0])}; background: {_names(classes[1])}",
        notices=notices,
    )


def from_arrays(
    arrays: Arrays,
    labels: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    columns: Columns = None,
    *,
    split: SplitSettings | None = None,
    seed: int = 1,
) -> Dataset:
    """Make a dataset of padded arrays in memory.

    Parameters
    ----------
    arrays
        (events, tokens, columns), padded with zeros; or such an array a stream, by name.
    labels
        (events,): 1 signal, 0 background; None where unknown.
    weights
        (events,): weight of each event; one without them.
    columns
        Names of the columns, as in `read_npz`.

    Raises
    ------
    DataError
        Where an array, label or weight is not what it should be.
    """
    padded = _in_memory(arrays)
    streams = padded.streams(named_columns(columns, list(padded.arrays)))
    packers = padded.packers(streams)
    events = PackedEvents.concatenate(list(padded.pack(packers)))
    label, weight = np.full(len(padded), -1), events.weight
    if labels is not None:
        given = _one_each(labels, len(padded), "labels")
        if len(wrong := given[~np.isin(given, (0, 1))]):
            raise DataError(f"labels must be 1 (signal) or 0 (background); one is {wrong[0]!r}")
        label = given.astype(np.int64)
    if weights is not None:
        weight = _one_each(weights, len(padded), "weights").astype(np.float64)
        if len(bad := np.flatnonzero(~np.isfinite(weight))):
            raise DataError(f"the weight of event {bad[0]} is {weight[bad[0]]}; it must be finite")
    process = np.where(label >= 0, 1 - label, -1)
    events = replace(events, label=label, process=process, weight=weight)
    return Dataset.from_events(
        Schema(streams=streams, processes=_CLASSES),
        events,
        split=split,
        seed=seed,
        source="arrays in memory",
        notices=[line for packer in packers.values() for line in packer.notices()],
    )


def read_npz_events(source: Path | str | Arrays, streams: Sequence[StreamSchema]) -> PackedEvents:
    """Read events to be scored: no labels, the streams that a network was trained on.

    Parameters
    ----------
    source
        An npz file, or arrays: the array alone for one stream, an array a stream, named after it,
        for several. Arrays of other names are left alone.
    streams
        What the network takes; the array's columns stand in the order of `all_columns`.

    Raises
    ------
    DataError
        Where a stream is missing, has another number of columns, or a value is not finite.
    """
    _, batches = npz_batches(source, streams)
    return PackedEvents.concatenate(list(batches))


def npz_batches(
    source: Path | str | Arrays, streams: Sequence[StreamSchema]
) -> tuple[int, Iterator[PackedEvents]]:
    """Read what `read_npz_events` does piece by piece, in memory that does not grow.

    Returns
    -------
    The number of events, and the events; after the last, odd values are warned of.
    """
    padded = _of_streams(source, [stream.name for stream in streams])
    for stream in streams:
        array = padded.arrays[stream.name]
        if array.shape[2] != len(stream.all_columns):
            raise DataError(
                f"{array.where}: the array has {array.shape[2]} columns, but the network was trained "
                f"on {len(stream.all_columns)}: {', '.join(stream.all_columns)}"
            )
    packers = padded.packers(streams)

    def batches() -> Iterator[PackedEvents]:
        yield from padded.pack(packers)
        warn_of_values(packers)

    return len(padded), batches()


def warn_of_values(packers: Mapping[str, StreamPacker]) -> None:
    """Warn of what of the packed values lies outside the usual ranges."""
    for packer in packers.values():
        for line in packer.notices():
            LOG.warning(line)


def open_padded(files: Files) -> PaddedEvents:
    """Open the npz files of some events, one a stream, without reading their numbers.

    Raises
    ------
    DataError
        Where a file cannot be read, or they hold different numbers of events.
    """
    by_stream = files if isinstance(files, Mapping) else {LONE_STREAM: files}
    paths = {name: Path(path) for name, path in by_stream.items()}
    check_stream_names(paths)
    arrays = {name: choose_array(open_npz(path), name) for name, path in paths.items()}
    return PaddedEvents(arrays, file_identity([paths[name] for name in sorted(paths)]))


def named_columns(columns: Columns, streams: Sequence[str]) -> Mapping[str, Sequence[str]]:
    """Bring the names of columns to the form of one list a stream.

    Raises
    ------
    DataError
        Where they name a stream that is not there.
    """
    if not columns:
        return {}
    if not isinstance(columns, Mapping):
        if len(streams) > 1:
            raise DataError(f"name the columns of each stream: {', '.join(streams)}")
        return {streams[0]: columns}
    for name in columns:
        if name not in streams:
            raise DataError(
                f"columns are named for a stream '{name}', but there is none; there are "
                f"{', '.join(streams)}"
            )
    return columns


def _names(padded: PaddedEvents) -> str:
    return ", ".join(array.where for array in padded.arrays.values())


def _common_streams(classes: Sequence[PaddedEvents], columns: Columns) -> tuple[StreamSchema, ...]:
    signal, background = classes
    if signal.arrays.keys() != background.arrays.keys():
        raise DataError(
            f"signal has the streams {', '.join(signal.arrays)}, background "
            f"{', '.join(background.arrays)}; both need the same"
        )
    for name, array in signal.arrays.items():
        other = background.arrays[name]
        if array.shape[2] != other.shape[2]:
            raise DataError(
                f"signal and background have different numbers of columns: {array.where} has "
                f"{array.shape[2]}, {other.where} has {other.shape[2]}"
            )
    return signal.streams(named_columns(columns, list(signal.arrays)))


def _in_memory(arrays: Arrays) -> PaddedEvents:
    by_stream = arrays if isinstance(arrays, Mapping) else {LONE_STREAM: arrays}
    check_stream_names(by_stream)
    checked = {name: MemoryArray.of(array, f"array '{name}'") for name, array in by_stream.items()}
    return PaddedEvents(checked, "arrays in memory")


def _of_streams(source: Path | str | Arrays, names: Sequence[str]) -> PaddedEvents:
    if not isinstance(source, Path | str):
        arrays = source if isinstance(source, Mapping) else {names[0]: source}
        if not isinstance(source, Mapping) and len(names) > 1:
            raise DataError(
                f"the network takes the streams {', '.join(names)}: give one array each"
            )
        _require(names, list(arrays), "the input")
        return _in_memory({name: arrays[name] for name in names})
    path = Path(source)
    stored = open_npz(path)
    if len(names) == 1:
        return PaddedEvents({names[0]: choose_array(stored, names[0])}, file_identity([path]))
    _require(names, list(stored), str(path))
    return PaddedEvents({name: stored[name] for name in names}, file_identity([path]))


def _require(names: Sequence[str], present: Sequence[str], where: str) -> None:
    missing = [name for name in names if name not in present]
    if missing:
        raise DataError(
            f"{where} lacks the arrays {', '.join(missing)}: the network takes an array a stream, "
            f"named after it ({', '.join(names)}); there are {', '.join(present) or 'none'}"
        )


def _one_each(values: ArrayLike, events: int, what: str) -> NDArray[np.generic]:
    array = np.asarray(values)
    if array.shape != (events,) or array.dtype.kind not in "biuf":
        raise DataError(
            f"{what} must be one number an event, of shape ({events},); they are {array.dtype} of "
            f"shape {array.shape}"
        )
    return array
