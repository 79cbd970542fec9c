"""The parts of a dataset: Parquet files, each written whole, that carry their own bookkeeping."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from manyscale.data.packing import PackedEvents
from manyscale.errors import DataError
from manyscale.events.ragged import PackedStream
from manyscale.schema import SCHEMA_VERSION, Process, Schema, StreamSchema
from manyscale.writing import whole

__all__ = [
    "MANIFEST",
    "PARTS",
    "PartBook",
    "PartWriter",
    "claim_folder",
    "group_sizes",
    "new_part",
    "part_name",
    "part_path",
    "read_book",
    "read_groups",
    "read_part",
    "write_events",
]

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
    named = batch.column("process")
    place = {of.name: index for index, of in enumerate(schema.processes)}
    known_places = np.array([place.get(of, -1) for of in named.dictionary.to_pylist()], np.int64)
    process = np.zeros(len(batch), np.int64)
    if len(known_places):
        process = known_places[named.indices.to_numpy(zero_copy_only=False)]
    labels = np.array([int(p.label == "signal") for p in schema.processes] + [-1])
    weight = _numbers(batch.column("weight"))
    weights, observables = {}, {}
    if known:
        for name in schema.weights[1:]:
            there = name in batch.schema.names
            weights[name] = _numbers(batch.column(name)) if there else weight
        observables = dict.fromkeys(schema.observables, np.full(len(batch), np.nan))
        if "observables" in batch.schema.names:
            inner = batch.column("observables")
            stored = {field.name for field in inner.type} & observables.keys()
            observables |= {name: _numbers(inner.field(name)) for name in stored}
    return PackedEvents(
        {name: _stream_from_arrow(batch, schema.stream(name)) for name in streams},
        _numbers(batch.column("event_id")),
        labels[process],
        process,
        weight,
        observables,
        weights,
    )


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


#: Folder of the parts inside a dataset, and the file beside it that says what they are together.
PARTS = "parts"
MANIFEST = "dataset.json"

_KEY = b"manyscale"
# A row group, what is decoded at a time, has so many bytes in memory, but no more events than these.
_GROUP_BYTES = 2 << 20
_MOST_IN_GROUP = 8192
# Parts that are open at a time; a process may often have 1,024 files.
_MOST_OPEN = 256


class PartBook(BaseModel):
    """What a part says of itself, in its Parquet metadata.

    Attributes
    ----------
    process
        The process with what was generated of it for this part: events, sums of weights, cutflow.
    identity
        The source that `event_id` counts from.
    made
        How it was made: the command and its settings, as JSON values.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: int = SCHEMA_VERSION
    streams: tuple[StreamSchema, ...]
    weights: tuple[str, ...]
    observables: tuple[str, ...]
    process: Process
    identity: str
    made: dict[str, Any] = {}

    @staticmethod
    def of(
        schema: Schema, process: Process, identity: str, made: Mapping[str, Any] | None
    ) -> "PartBook":
        """What a part with the streams, weights and observables of a schema says."""
        return PartBook(
            streams=schema.streams,
            weights=schema.weights,
            observables=schema.observables,
            process=process,
            identity=identity,
            made=dict(made or {}),
        )


def part_name(process: str, *further: str) -> str:
    """Name of a part: the process as a file name can have it, and what tells it from others.

    Examples
    --------
    >>> part_name("pp > tt~", "000001")
    'pp___tt_-000001'
    """
    return "-".join((re.sub(r"[^A-Za-z0-9_-]", "_", process), *further))


def part_path(folder: Path, name: str) -> Path:
    """Where the part of that name stands in a dataset."""
    return folder / PARTS / f"{name}.parquet"


def claim_folder(folder: Path) -> None:
    """Refuse a folder that is neither a dataset nor to become one; make nothing.

    Raises
    ------
    DataError
        Where it is a file, or holds something else.
    """
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is a file; name a folder for the dataset")
    dataset = (folder / MANIFEST).is_file() or (folder / PARTS).is_dir()
    if folder.is_dir() and not dataset and any(folder.iterdir()):
        raise DataError(f"{folder} holds something that is no dataset: name another folder")


class PartWriter:
    """Writes one part piece by piece; see `new_part`."""

    def __init__(self, path: Path, schema: Schema, process: str) -> None:
        self._path = path
        self._schema = schema
        self._process = process
        self._layout: pa.Schema | None = None
        self._writer: pq.ParquetWriter | None = None
        # Collected until they make a row group: few events may come at a time, of a rare process.
        self._waiting: list[pa.RecordBatch] = []
        self._events = self._bytes = 0  # of those

    def write(self, events: PackedEvents) -> None:
        """Add events, in row groups of moderate size."""
        if self._writer is None:
            self._layout = arrow_schema(self._schema, events.observables)
            self._writer = pq.ParquetWriter(
                self._path,
                self._layout,
                compression="zstd",
                use_dictionary=["process"],
                use_byte_stream_split=token_paths(self._schema),
                write_page_checksum=True,
            )
        batch = to_arrow(events, self._schema, self._process, self._layout)
        self._waiting.append(batch)
        self._events += len(batch)
        self._bytes += batch.nbytes
        if self._events >= _MOST_IN_GROUP or self._bytes >= _GROUP_BYTES:
            self._write_waiting()

    def _write_waiting(self) -> None:
        if self._writer is None or not self._waiting:
            return
        size = self._bytes / max(1, self._events)
        largest = min(_MOST_IN_GROUP, max(1, int(_GROUP_BYTES / max(1, size))))
        groups = max(1, -(-self._events // largest))
        table = pa.Table.from_batches(self._waiting)
        self._writer.write_table(table, row_group_size=max(1, -(-self._events // groups)))
        self._waiting, self._events, self._bytes = [], 0, 0

    def close(self, book: PartBook) -> None:
        """End the part with its bookkeeping."""
        if self._writer is None:
            raise DataError(f"no events, not even none, were written to {self._path.name}")
        self._write_waiting()
        self._writer.add_key_value_metadata({_KEY: book.model_dump_json()})
        self._writer.close()

    def abandon(self) -> None:
        """Let go of what was written so far."""
        if self._writer is not None:
            self._writer.close()


@contextmanager
def new_part(folder: Path, name: str, schema: Schema, process: str) -> Iterator[PartWriter]:
    """Write a part under a temporary name; it gets its own only where all went well.

    Where it does not, nothing is left, neither the part nor a folder that was made for it.

    Raises
    ------
    DataError
        Where the folder holds something else or cannot be written.
    """
    claim_folder(folder)
    target = part_path(folder, name)
    with whole(target) as draft:
        writer = PartWriter(draft, schema, process)
        try:
            yield writer
        except BaseException:
            writer.abandon()
            raise


def write_events(  # noqa: PLR0917
    folder: Path | str,
    name: str,
    events: PackedEvents,
    schema: Schema,
    process: Process,
    identity: str,
    made: Mapping[str, Any] | None = None,
) -> Path:
    """Write events of one process as one part of a dataset, whole or not at all.

    `merge` then brings the dataset's dataset.json up to date.

    Parameters
    ----------
    folder, name
        The dataset, and the part's name in it; a part of that name is replaced.
    events
        May be none: a unit of work all of whose events failed the selection.
    schema
        Streams, weights and observables; its processes do not matter.
    process
        With what was generated of it for this part.
    identity
        The source that `event_id` counts from.
    made
        How it was made, as JSON values.

    Returns
    -------
    The part's path.

    Raises
    ------
    DataError
        Where the folder holds something else or cannot be written.
    """
    folder = Path(folder)
    with new_part(folder, name, schema, process.name) as writer:
        writer.write(events)
        writer.close(PartBook.of(schema, process, identity, made))
    return part_path(folder, name)


def read_book(path: Path) -> tuple[PartBook, int]:
    """Read what a part says of itself, and its number of events.

    Raises
    ------
    DataError
        Where it cannot be read, is no part of a dataset, or is of a newer version.
    """
    with _naming(path):
        metadata = pq.read_metadata(path)
    text = (metadata.metadata or {}).get(_KEY)
    if text is None:
        raise DataError(f"{path} is no part of a dataset: it was not written by manyscale")
    try:
        return PartBook.model_validate_json(text), metadata.num_rows
    except ValidationError as error:
        raise DataError(
            f"the bookkeeping of {path} cannot be read; it may be of a newer manyscale: {error}"
        ) from error


def group_sizes(
    path: Path, schema: Schema
) -> tuple[NDArray[np.int64], dict[str, NDArray[np.int64]]]:
    """Tell the sizes of a part's row groups, without reading them.

    Returns
    -------
    events : (groups,)
    tokens : (groups,) a stream
        An empty event is counted as one.

    Raises
    ------
    DataError
        Where the part is missing or damaged.
    """
    with _naming(path):
        metadata = pq.read_metadata(path)
        groups = [metadata.row_group(place) for place in range(metadata.num_row_groups)]
        paths = [metadata.schema.column(place).path for place in range(metadata.num_columns)]
        firsts = {
            stream.name: paths.index(f"{stream.name}.list.element.{stream.columns[0]}")
            for stream in schema.streams
        }
    return (
        np.array([group.num_rows for group in groups], np.int64),
        {
            name: np.array([group.column(place).num_values for group in groups], np.int64)
            for name, place in firsts.items()
        },
    )


def read_part(
    path: Path, schema: Schema, streams: Sequence[str], size: int, *, known: bool = True
) -> Iterator[PackedEvents]:
    """Read a part in batches of at most `size` events, its checksums verified.

    Parameters
    ----------
    schema
        Of the dataset.
    streams
        Those to be read.
    known
        Whether further weights and observables are read, too.

    Raises
    ------
    DataError
        Where the part is missing or damaged.
    """
    columns = stored_columns(schema, streams)
    if known:
        columns += [*schema.weights[1:], "observables"]
    with _opened(path) as file:
        there = [name for name in columns if name in file.schema_arrow.names]
        for batch in file.iter_batches(size, columns=there, use_threads=False):
            yield from_arrow(batch, schema, streams, known=known)


def read_groups(
    schema: Schema, streams: Sequence[str], groups: Iterable[tuple[Path, int]]
) -> Iterator[PackedEvents]:
    """Read row groups, each of a part, in the order named, without further weights and observables.

    Neighbours may be of different parts, so that these stay open; not more than some at a time.

    Raises
    ------
    DataError
        Where a part is missing or damaged.
    """
    columns = stored_columns(schema, streams)
    with ExitStack() as stack:
        files: dict[Path, pq.ParquetFile] = {}
        for path, group in groups:
            with _naming(path):
                if path not in files:
                    if len(files) == _MOST_OPEN:
                        stack.close()
                        files.clear()
                    files[path] = stack.enter_context(_opened(path))
                batches = files[path].iter_batches(
                    _MOST_IN_GROUP, [group], columns, use_threads=False
                )
                events = PackedEvents.concatenate(
                    [from_arrow(batch, schema, streams, known=False) for batch in batches]
                )
            yield events


@contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    with (
        _naming(path),
        pq.ParquetFile(path, read_dictionary=["process"], page_checksum_verification=True) as file,
    ):
        yield file


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"the part {path} is missing; make it again") from error
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        raise DataError(
            f"the part {path} is damaged ({error}); remove it and make it again"
        ) from error
