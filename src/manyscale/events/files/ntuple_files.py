"""Containers of ntuples behind one face: TTree and RNTuple, Parquet, HDF5.

Each names its branches and reads some of them, a number of entries at a time. Branches inside
others are named with a dot: `jets.pt` is the field `pt` of the structs, or of the compound dataset,
`jets`.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import awkward as ak
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from manyscale.errors import DataError
from manyscale.events.files.root_files import first_line, open_root, read_branches, trees
from manyscale.events.particles import Array

__all__ = ["Ntuple", "open_ntuple"]

# A list or a number of an event, where either may be null, as arrow has them.
_NULLABLE = re.compile(r"(?:option\[)?(?:(var|\d+) \* )?\??(\w+)\]?")
_BUFFER = 1 << 20  # bytes of a Parquet column read ahead; without it, a row group's are all held


class Ntuple(Protocol):
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
        Of everything that may hold numbers.
    """

    where: str
    kind: str
    entries: int
    names: Collection[str]

    def type_of(self, name: str) -> str:
        """Type of a branch, in words."""

    def read(
        self, names: Sequence[str], first: int, last: int, size: int
    ) -> Iterator[dict[str, ak.Array]]:
        """Read entries `first` to `last - 1` of branches, at most `size` at a time.

        Yields
        ------
        Arrays of a branch each: one number an event, a list, or a list of fixed length.

        Raises
        ------
        DataError
            Names file, tree, branch and entries that cannot be read.
        """


@contextmanager
def open_ntuple(path: str, tree: str | None) -> Iterator[Ntuple]:
    """Open a file of whatever container it is, by its first bytes.

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
    start = _first_bytes(path)
    if start.startswith(b"PAR1"):
        with _reading(path, "Parquet"):
            parquet = pq.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER)
        with parquet:
            yield _Parquet(path, parquet)
    elif start.startswith(b"\x89HDF"):
        with _reading(path, "HDF5"):
            hdf5 = h5py.File(path)
        with hdf5:
            yield _Hdf5(path, hdf5, tree)
    else:
        with open_root(path) as file:
            with _reading(path, "ROOT"):
                root = _Root(path, file, tree)
            yield root


def _first_bytes(path: str) -> bytes:
    if "://" in path or not Path(path).is_file():
        return b""
    with Path(path).open("rb") as file:
        return file.read(8)


@contextmanager
def _reading(path: str, kind: str) -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # the libraries raise whatever a damaged file leads them to
        raise DataError(
            f"{path} cannot be read as a {kind} file; it may be cut short or damaged "
            f"({first_line(error)})"
        ) from error


def _choose(path: str, kind: str, names: Mapping[str, int], wanted: str | None) -> str:
    """Name of the tree wanted, or the only one that has entries."""
    there = ", ".join(f"{name} ({entries} entries)" for name, entries in names.items())
    if wanted is not None:
        if wanted not in names:
            raise DataError(f"{path} has no {kind} '{wanted}'; it has {there or 'none at all'}")
        return wanted
    filled = [name for name, entries in names.items() if entries] or list(names)
    if not filled:
        raise DataError(f"{path} has no {kind}")
    if len(filled) > 1:
        raise DataError(f"{path} has more than one {kind}: name one in convert.tree, of {there}")
    return filled[0]


class _Root:
    """A TTree or RNTuple."""

    def __init__(self, path: str, file: Any, tree: str | None) -> None:  # noqa: ANN401
        found = trees(file)
        sizes = {name: int(one.num_entries) for name, one in found.items()}
        name = _choose(path, "tree", sizes, tree)
        self._path, self._tree = path, found[name]
        self.where = f"{path}, tree '{name}'"
        self.kind = f"{'RNTuple' if _is_rntuple(self._tree) else 'tree'} '{name}'"
        self.entries = sizes[name]
        self._branches = _leaf_branches(self._tree)
        self.names: Collection[str] = self._branches.keys()

    def type_of(self, name: str) -> str:
        return str(self._branches[name].typename)

    def read(
        self, names: Sequence[str], first: int, last: int, size: int
    ) -> Iterator[dict[str, ak.Array]]:
        for start in range(first, last, size) or [first]:
            yield read_branches(self._tree, self._path, names, start, min(start + size, last))


def _leaf_branches(tree: Any) -> dict[str, Any]:  # noqa: ANN401
    """Branches, or fields, that have none inside, by name; not those that share it with another."""
    if _is_rntuple(tree):
        fields = dict(tree.iteritems())
        inner = {name.rpartition(".")[0] for name in fields}
        return {name: field for name, field in fields.items() if name not in inner}
    named = [(name, one) for name, one in tree.iteritems(full_paths=False) if not one.branches]
    times = Counter(name for name, _ in named)
    return {name: branch for name, branch in named if times[name] == 1}


def _is_rntuple(tree: Any) -> bool:  # noqa: ANN401
    return "RNTuple" in type(tree).__name__


class _Leaf(NamedTuple):
    """Numbers in a Parquet file: their name, the column's path in the file, and their type."""

    name: str
    path: str
    type: str


class _Parquet:
    """A Parquet file of numbers, lists, structs, and lists of structs."""

    def __init__(self, path: str, file: pq.ParquetFile) -> None:
        self.where = path
        self.kind = "Parquet"
        self.entries = file.metadata.num_rows
        self._path, self._file = path, file
        found = [
            _Leaf(name, file.schema.column(place).path, kind)
            for place, (name, kind) in enumerate(_leaves(file.schema_arrow))
        ]
        self._paths = {leaf.name: leaf.path for leaf in found if leaf.type}
        self._types = {leaf.name: leaf.type for leaf in found if leaf.type}
        self.names: Collection[str] = self._types.keys()

    def type_of(self, name: str) -> str:
        return self._types[name]

    def read(
        self, names: Sequence[str], first: int, last: int, size: int
    ) -> Iterator[dict[str, ak.Array]]:
        if first == last:
            yield self._arrays(self._file.schema_arrow.empty_table(), names, first)
            return
        columns = [self._paths[name] for name in names]
        ends = np.cumsum([0, *map(self._group_rows, range(self._file.num_row_groups))])
        groups = [
            group
            for group in range(len(ends) - 1)
            if ends[group] < last and ends[group + 1] > first
        ]
        at = int(ends[groups[0]])
        with _reading(self._path, "Parquet"):
            for batch in self._file.iter_batches(
                size, row_groups=groups, columns=columns, use_threads=False
            ):
                low, high = max(first - at, 0), min(last - at, len(batch))
                if low < high:
                    yield self._arrays(batch.slice(low, high - low), names, at + low)
                at += len(batch)

    def _group_rows(self, group: int) -> int:
        return int(self._file.metadata.row_group(group).num_rows)

    def _arrays(self, table: Any, names: Sequence[str], first: int) -> dict[str, ak.Array]:  # noqa: ANN401
        array = ak.from_arrow(table)
        arrays = {}
        for name in names:
            values = array
            for field in name.split("."):
                values = values[field]
            arrays[name] = self._without_nulls(values, name, first)
        return arrays

    def _without_nulls(self, values: ak.Array, name: str, first: int) -> ak.Array:
        missing = ak.is_none(values, axis=-1)
        bad = np.flatnonzero(ak.to_numpy(ak.any(missing, axis=-1) if missing.ndim > 1 else missing))
        if len(bad):
            raise DataError(
                f"{self.where}, branch '{name}', entry {first + bad[0]}: null, where a number or a "
                "list of numbers is needed"
            )
        return _without_options(values)


def _without_options(values: ak.Array) -> ak.Array:
    """Give an array without nulls a type that has no place for them."""
    plain = _NULLABLE.fullmatch(str(values.type.content))
    if plain is None:
        return values  # lists of lists, which are refused by name where they are used
    length, number = plain.groups()
    return ak.enforce_type(values, f"{length} * {number}" if length else number)


def _leaves(kind: Any, name: str = "") -> Iterator[tuple[str, str]]:  # noqa: ANN401 - arrow's types
    """Names of a schema's columns in the file's order, and types in words; "" if not of numbers."""
    if isinstance(kind, pa.Schema) or pa.types.is_struct(kind):
        fields = kind if isinstance(kind, pa.Schema) else map(kind.field, range(kind.num_fields))
        for field in fields:
            yield from _leaves(field.type, f"{name}.{field.name}".removeprefix("."))
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        yield from (
            (inner, one and f"list of {one}") for inner, one in _leaves(kind.value_type, name)
        )
    elif pa.types.is_fixed_size_list(kind):
        size = kind.list_size
        yield from (
            (inner, one and f"{size} {one}") for inner, one in _leaves(kind.value_type, name)
        )
    elif pa.types.is_map(kind):
        yield from ((name, ""), (name, ""))
    else:
        number = (
            pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)
        )
        yield name, str(kind) if number else ""


class _Hdf5:
    """The datasets of a group: numbers an event, padded or of variable length, plain or compound.

    The entries of a compound dataset with a field `valid` are those for which it is true.
    """

    def __init__(self, path: str, file: h5py.File, group: str | None) -> None:
        groups = _groups(file)
        name = _choose(path, "group of datasets", {g: _entries(file[g]) for g in groups}, group)
        self.where = f"{path}, group '{name}'"
        self.kind = f"HDF5, group '{name}'"
        self.entries = _entries(file[name])
        self._group = file[name]
        self._types = {
            f"{key}.{field}" if field else key: _dtype_words(dataset, field)
            for key, dataset in _datasets(self._group).items()
            for field in dataset.dtype.names or ("",)
            if _holds_numbers(dataset.dtype[field] if field else dataset.dtype)
        }
        self.names: Collection[str] = self._types.keys()

    def type_of(self, name: str) -> str:
        return self._types[name]

    def read(
        self, names: Sequence[str], first: int, last: int, size: int
    ) -> Iterator[dict[str, ak.Array]]:
        fields: dict[str, list[str]] = {}
        for name in names:
            dataset, _, field = (name, "", "") if name in self._group else name.partition(".")
            fields.setdefault(dataset, []).append(field)
        for key in fields:
            if len(self._group[key]) != self.entries:
                raise DataError(
                    f"{self.where}: the dataset '{key}' has {len(self._group[key])} entries, where "
                    f"others have {self.entries}"
                )
        for start in range(first, last, size) or [first]:
            stop = min(start + size, last)
            yield {
                f"{key}.{field}" if field else key: array
                for key, of in fields.items()
                for field, array in self._dataset(key, of, start, stop)
            }

    def _dataset(
        self, key: str, fields: list[str], first: int, last: int
    ) -> Iterator[tuple[str, ak.Array]]:
        dataset = self._group[key]
        try:
            if dataset.dtype.names is None:
                yield "", _plain(dataset[first:last])
                return
            masked = dataset.ndim > 1 and "valid" in dataset.dtype.names
            values = dataset.fields([*fields, *(["valid"] if masked else [])])[first:last]
        except (OSError, RuntimeError) as error:
            raise DataError(
                f"{self.where}, dataset '{key}': entries {first} to {last - 1} cannot be read; the "
                f"file may be damaged ({str(error).strip()[:120]})"
            ) from error
        for field in fields:
            if masked:
                valid = values["valid"].astype(bool)
                yield field, ak.unflatten(_native(values[field][valid]), valid.sum(axis=1))
            else:
                yield field, ak.from_numpy(_native(np.ascontiguousarray(values[field])))


def _groups(file: h5py.File) -> list[str]:
    found = ["/"] if _datasets(file) else []
    file.visititems(
        lambda name, item: (
            found.append(name) if isinstance(item, h5py.Group) and _datasets(item) else None
        )
    )
    return found


def _datasets(group: h5py.Group) -> dict[str, h5py.Dataset]:
    """Those with a number or a list an event."""
    return {
        name: item
        for name, item in group.items()
        if isinstance(item, h5py.Dataset) and item.ndim in {1, 2}
    }


def _entries(group: h5py.Group) -> int:
    """Length that most datasets of a group have."""
    (entries, _), *_ = Counter(map(len, _datasets(group).values())).most_common(1)
    return entries


def _holds_numbers(dtype: np.dtype[Any]) -> bool:
    inner = h5py.check_vlen_dtype(dtype)
    return np.dtype(inner or dtype).kind in "biuf"


def _dtype_words(dataset: h5py.Dataset, field: str) -> str:
    dtype = dataset.dtype[field] if field else dataset.dtype
    inner = h5py.check_vlen_dtype(dtype)
    if inner is not None:
        return f"list of {np.dtype(inner)}"
    return f"{dataset.shape[1]} {dtype}" if dataset.ndim > 1 else str(dtype)


def _plain(values: Array) -> ak.Array:
    if values.dtype != object:
        return ak.from_numpy(_native(values))
    flat = np.concatenate(values) if len(values) else np.zeros(0)
    return ak.unflatten(_native(flat), np.fromiter(map(len, values), np.int64, len(values)))


def _native(values: Array) -> Array:
    """Bring to the machine's own byte order, the only one that awkward arrays know."""
    return values.astype(values.dtype.newbyteorder("="), copy=False)
