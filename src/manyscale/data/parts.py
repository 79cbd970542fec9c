"""The parts of a dataset: Parquet files, each written whole, that carry their own bookkeeping."""

import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from manyscale.data.arrow import arrow_schema, from_arrow, stored_columns, to_arrow, token_paths
from manyscale.data.packing import PackedEvents
from manyscale.errors import DataError
from manyscale.schema import SCHEMA_VERSION, Process, Schema, StreamSchema

__all__ = [
    "MANIFEST",
    "PARTS",
    "GroupSizes",
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

#: Folder of the parts inside a dataset, and the file beside it that says what they are together.
PARTS = "parts"
MANIFEST = "dataset.json"

_KEY = b"manyscale"
# A row group, what is decoded at a time, has so many bytes in memory, but no more events than these.
_GROUP_BYTES = 2 << 20
_MOST_IN_GROUP = 8192


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

    def write(self, events: PackedEvents) -> None:
        """Add events, as row groups of moderate size."""
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
        size = batch.nbytes / max(1, len(batch))
        group = min(_MOST_IN_GROUP, max(1, int(_GROUP_BYTES / max(1, size))))
        self._writer.write_table(pa.Table.from_batches([batch]), row_group_size=group)

    def close(self, book: PartBook) -> None:
        """End the part with its bookkeeping."""
        if self._writer is None:
            raise DataError(f"no events, not even none, were written to {self._path.name}")
        self._writer.add_key_value_metadata({_KEY: book.model_dump_json()})
        self._writer.close()

    def abandon(self) -> None:
        """Remove what was written so far."""
        if self._writer is not None:
            self._writer.close()
        with suppress(OSError):
            self._path.unlink()


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
    made = [path for path in target.parents if not path.exists()]
    draft = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    writer = PartWriter(draft, schema, process)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield writer
        draft.replace(target)
    except BaseException as error:
        writer.abandon()
        _remove_empty(made)
        if isinstance(error, OSError):
            raise DataError(f"the part {target} cannot be written: {error}") from error
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
        writer.close(
            PartBook(
                streams=schema.streams,
                weights=schema.weights,
                observables=schema.observables,
                process=process,
                identity=identity,
                made=dict(made or {}),
            )
        )
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


class GroupSizes(NamedTuple):
    """Sizes of the row groups of a part.

    Attributes
    ----------
    events
        (groups,).
    tokens
        (groups,) a stream: tokens, with an empty event counted as one.
    """

    events: NDArray[np.int64]
    tokens: Mapping[str, NDArray[np.int64]]


def group_sizes(path: Path, schema: Schema) -> GroupSizes:
    """Tell the sizes of a part's row groups, without reading them.

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
    return GroupSizes(
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
    path: Path, schema: Schema, streams: Sequence[str], groups: Iterable[int]
) -> Iterator[PackedEvents]:
    """Read row groups of a part in the order named, without further weights and observables.

    Raises
    ------
    DataError
        Where the part is missing or damaged.
    """
    columns = stored_columns(schema, streams)
    with _opened(path) as file:
        for group in groups:
            batches = file.iter_batches(_MOST_IN_GROUP, [group], columns, use_threads=False)
            yield PackedEvents.concatenate(
                [from_arrow(batch, schema, streams, known=False) for batch in batches]
            )


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


def _remove_empty(folders: Sequence[Path]) -> None:
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return
