"""Events of npz files, or of arrays in memory, as a dataset."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from manyscale.data.dataset import Dataset
from manyscale.data.identity import file_identity
from manyscale.data.npy import MemoryArray, choose_array, open_npz
from manyscale.data.packing import PackedEvents
from manyscale.data.padded import PaddedEvents
from manyscale.data.split import SplitSettings
from manyscale.errors import DataError
from manyscale.schema import LONE_STREAM, Process, Schema, StreamSchema, check_stream_names

__all__ = [
    "LONE_STREAM",
    "Arrays",
    "Columns",
    "Files",
    "from_arrays",
    "named_columns",
    "npz_batches",
    "open_padded",
    "read_npz",
    "read_npz_events",
]

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
    label = np.full(len(padded), -1) if labels is None else _labels(labels, len(padded))
    events = replace(
        events,
        label=label,
        process=np.where(label >= 0, 1 - label, -1),
        weight=events.weight if weights is None else _weights(weights, len(padded)),
    )
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
    The number of events, and the events.
    """
    padded = _of_streams(source, [stream.name for stream in streams])
    for stream in streams:
        array = padded.arrays[stream.name]
        if array.shape[2] != len(stream.all_columns):
            raise DataError(
                f"{array.where}: the array has {array.shape[2]} columns, but the network was trained "
                f"on {len(stream.all_columns)}: {', '.join(stream.all_columns)}"
            )
    return len(padded), padded.pack(padded.packers(streams))


def open_padded(files: Files) -> PaddedEvents:
    """Open the npz files of some events, one a stream, without reading their numbers.

    Raises
    ------
    DataError
        Where a file cannot be read, or they hold different numbers of events.
    """
    paths = {name: Path(path) for name, path in _by_stream(files).items()}
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


def _by_stream(files: Files) -> Mapping[str, Path | str]:
    return files if isinstance(files, Mapping) else {LONE_STREAM: files}


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


def _labels(labels: ArrayLike, events: int) -> NDArray[np.int64]:
    array = _one_each(labels, events, "labels")
    if not np.isin(array, (0, 1)).all():
        wrong = array[~np.isin(array, (0, 1))][0]
        raise DataError(f"labels must be 1 (signal) or 0 (background); one is {wrong!r}")
    return array.astype(np.int64)


def _weights(weights: ArrayLike, events: int) -> NDArray[np.float64]:
    array = _one_each(weights, events, "weights").astype(np.float64)
    if not np.isfinite(array).all():
        event = int(np.argmin(np.isfinite(array)))
        raise DataError(f"the weight of event {event} is {array[event]}; it must be finite")
    return array


def _one_each(values: ArrayLike, events: int, what: str) -> NDArray[np.generic]:
    array = np.asarray(values)
    if array.shape != (events,) or array.dtype.kind not in "biuf":
        raise DataError(
            f"{what} must be one number an event, of shape ({events},); they are {array.dtype} of "
            f"shape {array.shape}"
        )
    return array
