"""What is where in an HDF5 file: groups, columns of arrays, the frames of pandas."""

import pickletools
import posixpath
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import h5py
import numpy as np

from manyscale.errors import DataError

__all__ = ["Branch", "Group", "Place", "branches_of", "choose", "find_groups", "open_group"]

_PICKLED = "pickled Python objects, which are never opened, for they could run code"


class Branch(NamedTuple):
    """Something with a name in a table.

    Attributes
    ----------
    type
        In words; of what cannot be read, why.
    source
        What its format finds it by.
    readable
        Numbers, lists of them, or strings.
    """

    name: str
    type: str
    source: Any
    readable: bool = True


class Place(NamedTuple):
    """Where the values of a branch are."""

    array: str  # path of the dataset
    field: str | None = None  # of a compound one
    column: int | None = None  # index in the last dimension, where that counts columns


class Group(NamedTuple):
    """Datasets of an HDF5 group, by their paths in the file, and branches by their names in it."""

    name: str
    entries: int
    arrays: Mapping[str, h5py.Dataset]
    branches: Sequence[Branch]


def choose(path: str, kind: str, sizes: Mapping[str, int], wanted: str | None) -> str:
    """Name of the tree wanted, or the only one that has entries."""
    there = ", ".join(f"{name} ({entries} entries)" for name, entries in sizes.items())
    if wanted is not None:
        if wanted not in sizes:
            raise DataError(f"{path} has no {kind} '{wanted}'; it has {there or 'none at all'}")
        return wanted
    filled = [name for name, entries in sizes.items() if entries] or list(sizes)
    if not filled:
        raise DataError(f"{path} has no {kind}")
    if len(filled) > 1:
        raise DataError(f"{path} has more than one {kind}: name one in convert.tree, of {there}")
    return filled[0]


def open_group(path: str, file: h5py.File, tree: str | None) -> Group:
    """Datasets of one group; of all in it, if they are in groups; where none is named, of all there are.

    Of all only if they have as many entries, else one must be named, unless one alone has any.

    Raises
    ------
    DataError
        Where the file has no such group, or several to choose from; names them.
    """
    groups = list(find_groups(file, ""))
    filled = [group for group in groups if group.entries]
    root, chosen = "", []
    if tree is not None:
        root = tree.strip("/")
        own = [group for group in groups if group.name == root]
        chosen = own or [group for group in groups if not root or group.name.startswith(f"{root}/")]
    elif len(filled) > 1 and len({group.entries for group in filled}) == 1:
        root, chosen = posixpath.commonpath([group.name for group in filled]), filled
    if not chosen:
        sizes = {group.name or "/": group.entries for group in groups}
        root = choose(path, "group of datasets", sizes, tree).strip("/")
        chosen = [group for group in groups if group.name == root]
    arrays: dict[str, h5py.Dataset] = {}
    branches: list[Branch] = []
    for group in chosen:
        arrays |= group.arrays
        inside = group.name.removeprefix(root).strip("/").split("/")
        for branch in group.branches:
            # The columns of a frame that have no names are called as its group.
            full = ".".join(filter(None, [*inside, branch.name])) or posixpath.basename(root)
            branches.append(branch._replace(name=full))
    (entries, _), *_ = Counter(group.entries for group in chosen).most_common(1)
    return Group(root or "/", entries, arrays, branches)


def find_groups(group: h5py.Group, name: str) -> Iterator[Group]:
    """Groups with datasets in them, each before those inside it; a frame of pandas' is one."""
    frame = _frame(group, name)
    if frame is not None:
        yield frame
        return
    arrays: dict[str, h5py.Dataset] = {}
    branches: list[Branch] = []
    inside: list[tuple[h5py.Group, str]] = []
    for key in group:
        item = group.get(key)  # None where a link leads nowhere
        full = f"{name}/{key}".strip("/")
        if isinstance(item, h5py.Dataset) and item.ndim:
            arrays[full] = item
            branches += branches_of(full, key, item, _titles(item))
        elif isinstance(item, h5py.Group) and isinstance(
            group.get(key, getlink=True), h5py.HardLink
        ):
            inside.append((item, full))
    if arrays:
        (entries, _), *_ = Counter(map(len, arrays.values())).most_common(1)
        yield Group(name, entries, arrays, branches)
    for item, full in inside:
        yield from find_groups(item, full)


def branches_of(
    path: str,
    name: str,
    array: Any,  # noqa: ANN401 - a dataset or what looks like one
    titles: Sequence[str] | None = None,
    field: str | None = None,
) -> Iterator[Branch]:
    """Branches of an array, or of a field of it, under a name.

    Of the shape (events,) and (events, numbers) it is one, of (events, tokens, columns) each column
    is one, or where there are titles: by these, else f0, f1, ... .
    """
    if field is None and array.dtype.names:
        for one in array.dtype.names:
            yield from branches_of(path, f"{name}.{one}", array, None, one)
        return
    dtype = array.dtype[field] if field else array.dtype
    dtype, inner = dtype.subdtype or (dtype, ())
    lists = (*array.shape[1:], *inner)
    if titles is None and len(lists) == 2:
        titles = [f"f{index}" for index in range(lists[-1])]
    if titles is not None:
        lists = lists[:-1]
    vlen = h5py.check_vlen_dtype(dtype)
    if h5py.check_string_dtype(dtype) or dtype.kind in "SU":
        word, readable = "string", not lists
    elif vlen is not None:
        word, readable = f"list of {vlen}", np.dtype(vlen).kind in "biuf" and not lists
    elif dtype.hasobject:
        word, readable = _PICKLED, False
    else:
        word, readable = str(dtype), dtype.kind in "biuf" and len(lists) < 2
    word = " ".join([*(f"{size} x" for size in lists[:-1]), *map(str, lists[-1:]), word])
    for column, title in enumerate(titles or [""]):
        full = ".".join(filter(None, (name, title)))
        place = Place(path, field, None if titles is None else column)
        yield Branch(full, word, place, readable)


def _titles(dataset: h5py.Dataset) -> list[str] | None:
    """Names of an array's columns: an attribute of as many strings as it has columns."""
    if dataset.ndim not in {2, 3}:
        return None
    for key in dataset.attrs:
        try:
            value = np.asarray(dataset.attrs[key])
        except (OSError, TypeError, ValueError):  # of a type that h5py does not know
            continue
        named = value.shape == dataset.shape[-1:] and key != "DIMENSION_LABELS"
        if named and all(isinstance(x, bytes | str) for x in value.flat):
            return [x.decode() if isinstance(x, bytes) else str(x) for x in value.flat]
    return None


class _Block(NamedTuple):
    """Columns of one type in a frame: an array, or a field of a compound one, and their names."""

    array: h5py.Dataset
    field: str | None
    titles: list[Any] | None


def _blocks(group: h5py.Group) -> list[_Block] | None:
    """Blocks of a frame that pandas wrote by `to_hdf`; None where the group is none.

    In the fixed format a block is an array, and its columns' names another; in the table format it is
    a field of one compound dataset, and the names are pickled in an attribute.
    """
    blocks: list[_Block] = []
    if "axis0" in group and "axis1" in group:
        while (values := group.get(f"block{len(blocks)}_values")) is not None:
            items, titles = group.get(f"block{len(blocks)}_items"), None
            if items is not None and items.dtype.kind in "iu":
                titles = items[:].tolist()
            elif items is not None and items.dtype.kind == "S":
                titles = np.char.decode(items[:], "utf-8").tolist()
            blocks.append(_Block(values, None, titles))
        return blocks
    table = group.get("table")
    if not isinstance(table, h5py.Dataset) or "pandas_type" not in group.attrs:
        return None
    for field in table.dtype.names or ():
        if field != "index":
            names = _pickled_names(table.attrs.get(f"{field}_kind", b""))
            blocks.append(_Block(table, field, names))
    return blocks


def _frame(group: h5py.Group, name: str) -> Group | None:
    """A frame of pandas': its columns by their names, or without names as one list."""
    blocks = _blocks(group)
    if blocks is None:
        return None
    branches: list[Branch] = []
    for values, field, titles in blocks:
        path = values.name.strip("/")
        if field and not field.startswith("values_block_"):  # a column by itself
            branches += branches_of(path, field, values, None, field)
        elif titles is None:
            what = "columns whose names are pickled or of several levels"
            branches.append(Branch(field or posixpath.basename(path), what, None, readable=False))
        elif h5py.check_vlen_dtype(values.dtype) is not None:
            branches += [Branch(str(x), _PICKLED, None, readable=False) for x in titles]
        elif len(blocks) == 1 and all(isinstance(x, int) for x in titles):
            word = f"{len(titles)} {(values.dtype[field] if field else values.dtype).base}"
            branches.append(Branch("", word, Place(path, field)))
        else:
            words = [f"f{x}" if isinstance(x, int) else x for x in titles]
            branches += branches_of(path, "", values, words, field)
    index = group.get("axis1", group.get("table"))
    # One row stands for none, and the attribute for the shape that it should have.
    entries = 0 if "shape" in index.attrs else len(index)
    return Group(name, entries, {of.array.name.strip("/"): of.array for of in blocks}, branches)


def _pickled_names(pickled: bytes | str) -> list[Any] | None:
    """Strings and integers of a pickled list of nothing else, out of its text: never unpickled."""
    text = pickled.encode() if isinstance(pickled, str) else bytes(pickled)
    try:
        steps = [(step.name, value) for step, value, _ in pickletools.genops(text)]
    except ValueError:
        return None
    around = {"PROTO", "FRAME", "MARK", "LIST", "EMPTY_LIST", "PUT", "BINPUT", "MEMOIZE"}
    around |= {"APPEND", "APPENDS", "STOP"}
    plain = {"UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "STRING", "BINSTRING", "SHORT_BINSTRING"}
    plain |= {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1"}
    if not {step for step, _ in steps} <= around | plain:
        return None
    return [value for step, value in steps if step in plain]
