"""Tables of events of any kind behind one face: ROOT, Parquet, HDF5 (also pandas'), npz and CSV.

Branches inside others are named with a dot: `jets.pt` is the field `pt` of the structs, or of the
compound dataset, or the dataset `pt` in the HDF5 group, `jets`; `X.f2` is the third column of an array
`X` of the shape (events, tokens, columns). Everything has a name, also what cannot be read: its type
says why.
"""

import os
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import awkward as ak
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from numpy.lib import format as npy_format

from manyscale.errors import DataError
from manyscale.events.files.formats import GZIP, ZSTD, Format, csv_delimiter, recognise
from manyscale.events.files.hdf5 import (
    Branch,
    Group,
    branches_of,
    choose,
    find_groups,
    open_group,
)
from manyscale.events.files.root_files import first_line, open_root, reading, trees
from manyscale.events.ragged import Array

__all__ = ["Ntuple", "open_ntuple", "table_names"]

_BUFFER = 1 << 20  # bytes of a Parquet column read ahead; without it, a row group's are all held
_DAMAGED = (OSError, RuntimeError, ValueError, EOFError, zipfile.BadZipFile, zlib.error)
_BLOCK = 64 << 20  # bytes of arrays that are read at a time, with all of their columns


class Ntuple:
    """An open table of events.

    Attributes
    ----------
    where
        File and tree, for messages.
    kind
        What it is, in words.
    entries
        Number of events.
    names
        Of everything in it.
    """

    def __init__(self, where: str, kind: str, entries: int, branches: Iterable[Branch]) -> None:
        self.where, self.kind, self.entries = where, kind, entries
        self._branches: dict[str, Branch] = {}
        for branch in branches:
            # Line breaks would spread messages and tables over several lines.
            name = " ".join(branch.name.splitlines())
            twice = Branch(name, "several branches have this name", None, readable=False)
            self._branches[name] = twice if name in self._branches else branch
        self.names: Collection[str] = self._branches.keys()

    def type_of(self, name: str) -> str:
        """Type of a branch, in words; of what cannot be read, why."""
        return self._branches[name].type

    def read(
        self, names: Sequence[str], first: int, last: int, size: int
    ) -> Iterator[dict[str, ak.Array]]:
        """Read entries `first` to `last - 1` of branches, at most `size` at a time.

        Yields
        ------
        Arrays of a branch each: one number or string an event, a list, or a list of fixed length.

        Raises
        ------
        DataError
            Names file, tree, branch and entries that cannot be read.
        """
        for name in names:
            if not self._branches[name].readable:
                raise DataError(
                    f"{self.where}: the branch '{name}' ({self.type_of(name)}) cannot be read: numbers, "
                    "lists of numbers and strings can"
                )
        yield from self._batches(
            {name: self._branches[name].source for name in names}, first, last, size
        )

    def _batches(
        self, sources: Mapping[str, Any], first: int, last: int, size: int
    ) -> Iterator[dict[str, ak.Array]]:
        for start in range(first, last, size) or [first]:
            yield self._batch(sources, start, min(start + size, last))

    def _batch(self, sources: Mapping[str, Any], first: int, last: int) -> dict[str, ak.Array]:
        raise NotImplementedError


@contextmanager
def open_ntuple(path: str, tree: str | None) -> Iterator[Ntuple]:
    """Open a file of whatever format it is, by its content.

    Parameters
    ----------
    path
        The file; a remote one is a ROOT file.
    tree
        Name of the tree, RNTuple or HDF5 group; None for the only one.

    Raises
    ------
    DataError
        Where the file is none of these or damaged, or has no such tree; names those it has.
    """
    kind = recognise(path)
    if kind == "ROOT":
        opened: Any = open_root(path)
        table_of: Callable[[str, Any, str | None], Ntuple] = _Root
    elif kind in _OPENERS:
        with _readable(path, kind):
            opened = _OPENERS[kind][0](path)
        table_of = _OPENERS[kind][1]
    else:
        raise DataError(f"{path} is of the format {kind}, which is no table of branches")
    with opened as file:
        with _readable(path, kind):
            table = table_of(path, file, tree)
        yield table


def table_names(path: str) -> list[str]:
    """Trees of a ROOT file, or groups with datasets of an HDF5 file; of other formats, none."""
    kind = recognise(path)
    if kind == "ROOT":
        with open_root(path) as file:
            return list(trees(file))
    if kind == "HDF5":
        with _readable(path, kind), h5py.File(path) as hdf5:
            return [group.name or "/" for group in find_groups(hdf5, "")]
    return []


@contextmanager
def _readable(path: str, kind: str) -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # the libraries raise whatever a damaged file leads them to
        raise DataError(
            f"{path} cannot be read as a {kind} file; it may be cut short or damaged "
            f"({first_line(error)})"
        ) from error


# ---- ROOT -------------------------------------------------------------------------------------


class _Root(Ntuple):
    """A TTree or RNTuple: its branches, or fields, that have none inside."""

    def __init__(self, path: str, file: Any, tree: str | None) -> None:  # noqa: ANN401
        found = trees(file)
        sizes = {name: int(one.num_entries) for name, one in found.items()}
        name = choose(path, "tree", sizes, tree)
        fields = list(found[name].iteritems())
        if "RNTuple" in type(found[name]).__name__:
            kind, inner = "RNTuple", {full.rpartition(".")[0] for full, _ in fields}
            leaves = [(full, field) for full, field in fields if full not in inner]
        else:
            kind, leaves = (
                "tree",
                [(full, branch) for full, branch in fields if not branch.branches],
            )
        # Branches that share a name are told apart by those that they are in.
        times = Counter(full.rpartition("/")[2] for full, _ in leaves)
        branches = []
        for full, leaf in leaves:
            outer, _, short = full.rpartition("/")
            alone = times[short] == 1 or short.startswith(f"{outer}.")
            unique = short if alone else full.replace("/", ".")
            branches.append(Branch(unique, str(leaf.typename), leaf))
        where = f"{path}, tree '{name}'"
        super().__init__(where, f"{kind} '{name}'", sizes[name], branches)

    def _batch(self, sources: Mapping[str, Any], first: int, last: int) -> dict[str, ak.Array]:
        arrays = {}
        for name, branch in sources.items():
            with reading(self.where, name, first, last):
                arrays[name] = branch.array(entry_start=first, entry_stop=last)
        return arrays


# ---- Parquet and CSV --------------------------------------------------------------------------


class _Parquet(Ntuple):
    """A Parquet file of numbers, strings, lists, structs, and lists of structs."""

    def __init__(self, path: str, file: pq.ParquetFile, _: str | None) -> None:
        # Leaves come in the order of the file's columns.
        branches = [
            leaf._replace(source=(leaf.source, file.schema.column(index).path))
            for index, leaf in enumerate(_leaves(file.schema_arrow))
        ]
        super().__init__(path, "Parquet", file.metadata.num_rows, branches)
        self._file = file

    def _batches(
        self, sources: Mapping[str, Any], first: int, last: int, size: int
    ) -> Iterator[dict[str, ak.Array]]:
        routes = {name: route for name, (route, _) in sources.items()}
        if first == last:
            yield _of_arrow(self._file.schema_arrow.empty_table(), routes, self.where, first)
            return
        rows = [self._file.metadata.row_group(i).num_rows for i in range(self._file.num_row_groups)]
        ends = np.cumsum([0, *rows])
        groups = np.flatnonzero((ends[:-1] < last) & (ends[1:] > first)).tolist()
        at = int(ends[groups[0]])
        columns = [column for _, column in sources.values()]
        with _readable(self.where, "Parquet"):
            for batch in self._file.iter_batches(
                size, row_groups=groups, columns=columns, use_threads=False
            ):
                low, high = max(first - at, 0), min(last - at, len(batch))
                if low < high:
                    yield _of_arrow(batch.slice(low, high - low), routes, self.where, at + low)
                at += len(batch)


class _Csv(Ntuple):
    """A table as text, which is read whole, once for all units that a process reads of it."""

    def __init__(self, path: str, file: Any, _: str | None) -> None:  # noqa: ANN401
        status = os.fstat(file.fileno())
        self._table = _read_csv(path, status.st_size, status.st_mtime_ns)
        super().__init__(path, "CSV", self._table.num_rows, _leaves(self._table.schema))

    def _batch(self, sources: Mapping[str, Any], first: int, last: int) -> dict[str, ak.Array]:
        return _of_arrow(self._table.slice(first, last - first), sources, self.where, first)


@lru_cache(maxsize=1)
def _read_csv(path: str, _size: int, _changed: int) -> pa.Table:
    """Read a table; its first line names the columns, else they are f0, f1, ..."""
    with Path(path).open("rb") as file:
        compression = {GZIP: "gzip", ZSTD[:2]: "zstd"}.get(file.read(2))
    with pa.input_stream(path, compression=compression) as stream:
        head = stream.read(_BUFFER)
    delimiter = csv_delimiter(head) or ","
    line = head.partition(b"\n")[0].decode("utf-8-sig")
    titles = [title.strip(' "\r').lstrip("# ") for title in line.split(delimiter)]
    options = pa_csv.ReadOptions(autogenerate_column_names=True)
    try:
        list(map(float, titles))
    except ValueError:
        options = pa_csv.ReadOptions(skip_rows=1, column_names=titles)
    # What is no number (nan) is told from what is missing.
    convert = pa_csv.ConvertOptions(null_values=["", "NA", "N/A", "NULL", "null"])
    parse = pa_csv.ParseOptions(delimiter=delimiter)
    with pa.input_stream(path, compression=compression) as stream:
        return pa_csv.read_csv(stream, options, parse, convert)


def _leaves(kind: Any, route: tuple[str, ...] = (), prefix: str = "") -> Iterator[Branch]:  # noqa: ANN401
    """Columns of an arrow schema in the order in which Parquet has them, with the fields to them."""
    if isinstance(kind, pa.BaseExtensionType):
        yield from _leaves(kind.storage_type, route, prefix)
    elif isinstance(kind, pa.Schema) or pa.types.is_struct(kind):
        fields = kind if isinstance(kind, pa.Schema) else map(kind.field, range(kind.num_fields))
        for field in fields:
            yield from _leaves(field.type, (*route, field.name), prefix)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        yield from _leaves(kind.value_type, route, f"{prefix}list of ")
    elif pa.types.is_fixed_size_list(kind):
        yield from _leaves(kind.value_type, route, f"{prefix}{kind.list_size} ")
    elif pa.types.is_map(kind):
        for part in ("key", "value"):
            yield Branch(".".join((*route, part)), f"{prefix}map", None, readable=False)
    else:
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        is_number = (
            pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)
        )
        is_string = pa.types.is_string(kind) or pa.types.is_large_string(kind)
        yield Branch(".".join(route), f"{prefix}{kind}", route, is_number or is_string)


def _of_arrow(
    table: Any,  # noqa: ANN401
    routes: Mapping[str, tuple[str, ...]],
    where: str,
    first: int,
) -> dict[str, ak.Array]:
    """Columns of a table that begins with entry `first`; they may hold no nulls."""

    def content(
        name: str, array: pa.Array, route: tuple[str, ...], entry: Callable[[int], int]
    ) -> ak.contents.Content:
        if isinstance(array, pa.ExtensionArray):  # awkward's own types
            array = array.storage
        if array.null_count:
            null = int(np.argmax(array.is_null().to_numpy(zero_copy_only=False)))
            raise DataError(
                f"{where}, branch '{name}', entry {entry(null)}: null, where a number or a list of "
                "numbers is needed"
            )
        if pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        if pa.types.is_struct(array.type):
            return content(name, array.field(route[0]), route[1:], entry)
        if pa.types.is_fixed_size_list(array.type):
            size = array.type.list_size
            inner = content(name, array.flatten(), route, lambda at: entry(at // size))
            return ak.contents.RegularArray(inner, size, zeros_length=len(array))
        if pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
            ends = array.offsets.to_numpy().astype(np.int64)
            values = array.values.slice(ends[0], ends[-1] - ends[0])
            ends -= ends[0]
            inner = content(
                name, values, route, lambda at: entry(int(np.searchsorted(ends, at, "right")) - 1)
            )
            return ak.contents.ListOffsetArray(ak.index.Index64(ends), inner)
        if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
            return ak.to_layout(ak.drop_none(ak.from_arrow(array)))
        return ak.to_layout(_to_awkward(array.to_numpy(zero_copy_only=False)))

    arrays = {}
    for name, route in routes.items():
        column = table.column(route[0])
        if isinstance(column, pa.ChunkedArray):
            column = column.combine_chunks()
        arrays[name] = ak.Array(content(name, column, route[1:], lambda at: first + at))
    return arrays


def _to_awkward(values: Array) -> ak.Array:
    """Numbers or strings an event, or lists of one length, or (an array of arrays) of any."""
    if values.dtype == object:
        flat = np.concatenate(values) if len(values) else np.zeros(0)
        counts = np.fromiter(map(len, values), np.int64, len(values))
        return ak.unflatten(_to_awkward(flat), counts)
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8", "replace")
    if values.dtype == np.float16:  # awkward does not compute with it
        values = values.astype(np.float32)
    # The machine's own byte order is the only one that awkward knows.
    native = values.astype(values.dtype.newbyteorder("="), copy=False)
    return ak.from_numpy(np.ascontiguousarray(native))


# ---- HDF5 and npz -----------------------------------------------------------------------------


class _Arrays(Ntuple):
    """Arrays of which the first dimension counts events: datasets of HDF5, arrays of an npz.

    The entries of a compound dataset of several an event, with a field `valid`, are those for which
    it is true.
    """

    def __init__(self, where: str, kind: str, group: Group) -> None:
        super().__init__(where, kind, group.entries, group.branches)
        self._arrays = group.arrays

    @classmethod
    def of_hdf5(cls, path: str, file: h5py.File, tree: str | None) -> "_Arrays":
        group = open_group(path, file, tree)
        name = f"group '{group.name}'"
        return cls(f"{path}, {name}", f"HDF5, {name}", group)

    @classmethod
    def of_npz(cls, path: str, archive: zipfile.ZipFile, _: str | None) -> "_Arrays":
        members = {
            name.removesuffix(".npy"): _NpyArray(archive, name) for name in archive.namelist()
        }
        arrays = {name: array for name, array in members.items() if array.shape}
        branches = [of for name, array in arrays.items() for of in branches_of(name, name, array)]
        entries = Counter(map(len, arrays.values())).most_common(1)
        return cls(path, "npz", Group(path, entries[0][0] if entries else 0, arrays, branches))

    def _batches(
        self, sources: Mapping[str, Any], first: int, last: int, size: int
    ) -> Iterator[dict[str, ak.Array]]:
        row = 1
        for path in {place.array for place in sources.values()}:
            array = self._arrays[path]
            if len(array) != self.entries:
                raise DataError(
                    f"{self.where}: the dataset '{path}' has {len(array)} entries, where others have "
                    f"{self.entries}"
                )
            row += array.dtype.itemsize * int(np.prod(array.shape[1:]))
        yield from super()._batches(sources, first, last, max(1, min(size, _BLOCK // row)))

    def _batch(self, sources: Mapping[str, Any], first: int, last: int) -> dict[str, ak.Array]:
        read: dict[str, Array] = {}
        fields: dict[str, set[str]] = {}
        for place in sources.values():
            fields.setdefault(place.array, set()).add(place.field)
        for path, wanted in fields.items():
            array = self._arrays[path]
            if array.dtype.names and isinstance(array, h5py.Dataset):
                array = array.fields(sorted(wanted | ({"valid"} & set(array.dtype.names))))
            try:
                read[path] = array[first:last]
            except _DAMAGED as error:
                raise DataError(
                    f"{self.where}, dataset '{path}': entries {first} to {last - 1} cannot be read; "
                    f"the file may be damaged ({first_line(error)})"
                ) from error
        arrays = {}
        for name, (path, field, column) in sources.items():
            values = read[path] if field is None else read[path][field]
            if column is not None:
                values = values[..., column]
            if self.type_of(name) == "string":  # those of any length come as objects
                values = values.astype(np.bytes_)
            if field is not None and values.ndim > 1 and "valid" in self._arrays[path].dtype.names:
                valid = read[path]["valid"].astype(bool)
                arrays[name] = ak.unflatten(_to_awkward(values[valid]), valid.sum(axis=1))
            else:
                arrays[name] = _to_awkward(values)
        return arrays


class _NpyArray:
    """An array in an npz, read from where it is, forward, and never unpickled."""

    def __init__(self, archive: zipfile.ZipFile, member: str) -> None:
        # Open as long as the table: to seek in a compressed file is to unpack it from its start.
        self._file = archive.open(member)
        version = npy_format.read_magic(self._file)
        read_header = npy_format.read_array_header_1_0
        if version != (1, 0):
            read_header = npy_format.read_array_header_2_0
        self.shape, self._fortran, self.dtype = read_header(self._file)
        self._begin = self._file.tell()

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, events: slice) -> Array:
        if self._fortran and len(self.shape) > 1:  # the numbers of an event are all over it
            return self._whole[events]
        return self._rows(events.start, events.stop)

    @cached_property
    def _whole(self) -> Array:
        return self._rows(0, len(self)).ravel().reshape(self.shape, order="F")

    def _rows(self, first: int, last: int) -> Array:
        shape = (last - first, *self.shape[1:])
        row = self.dtype.itemsize * int(np.prod(shape[1:]))
        self._file.seek(self._begin + row * first)
        return np.frombuffer(self._file.read(row * (last - first)), self.dtype).reshape(shape)


_OPENERS: dict[Format, tuple[Callable[[str], Any], Callable[[str, Any, str | None], Ntuple]]] = {
    "Parquet": (partial(pq.ParquetFile, pre_buffer=False, buffer_size=_BUFFER), _Parquet),
    "HDF5": (h5py.File, _Arrays.of_hdf5),
    "npz": (zipfile.ZipFile, _Arrays.of_npz),
    "CSV": (partial(open, mode="rb"), _Csv),
}
