"""The tree of a Delphes file: its branches by name, read into flat arrays."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from difflib import get_close_matches
from typing import Any, NamedTuple, Self

import awkward as ak
import numpy as np
import uproot

from manyscale.errors import DataError
from manyscale.events.files.delphes_references import References, decode
from manyscale.events.files.reader import NoEventsError
from manyscale.events.files.root_files import open_root, reading
from manyscale.events.particles import Array, Integers

__all__ = ["TREE", "DelphesFiles", "DelphesTree", "Table"]

TREE = "Delphes"

# TRefArrays of the objects of an event are read as the bytes that they are.
_BYTES = uproot.AsJagged(uproot.AsDtype("u1"))
_REFERENCES = {"Constituents"}


class Table(NamedTuple):
    """Objects of one kind, one event behind the other.

    Attributes
    ----------
    counts
        (events,): number of objects of each event.
    columns
        Name to (objects,), without the collection's name: "PT".
    references
        Those of the objects, by the name of their column.
    """

    counts: Integers
    columns: Mapping[str, Array]
    references: Mapping[str, References]

    @property
    def event(self) -> Integers:
        """(objects,): which event each belongs to."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    @property
    def first(self) -> Integers:
        """(events,): place of the first object of each event."""
        return np.cumsum(self.counts) - self.counts

    @classmethod
    def concatenate(cls, tables: Sequence["Table"]) -> "Table":
        """Join the events of tables of the same columns."""
        return cls(
            np.concatenate([table.counts for table in tables]),
            {
                name: np.concatenate([table.columns[name] for table in tables])
                for name in tables[0].columns
            },
            {
                name: References(
                    *(
                        np.concatenate(parts)
                        for parts in zip(*(table.references[name] for table in tables), strict=True)
                    )
                )
                for name in tables[0].references
            },
        )


class DelphesTree:
    """The tree of an open file.

    Parameters
    ----------
    file
        As uproot opens it.
    path, name
        Of the file and the tree; of several cycles of the tree the newest is taken.

    Raises
    ------
    DataError
        Where there is no such tree, it is damaged, or has no entries.
    """

    def __init__(self, file: Any, path: str, name: str) -> None:  # noqa: ANN401 - no types
        self.where = f"{path}, tree '{name}'"
        there = file.keys(recursive=False, cycle=False)
        if name not in there:
            raise DataError(
                f"{path} has no tree '{name}'; it has {', '.join(sorted(set(there))) or 'nothing'}"
            )
        try:
            tree = file[name]
            self.n_entries = int(tree.num_entries)
            self._branches = _by_name(tree)
        except Exception as error:  # uproot raises whatever a damaged tree leads it to
            raise DataError(
                f"{self.where} cannot be read; the file may be cut short, or it is no tree "
                f"({type(error).__name__})"
            ) from error
        self._columns: dict[str, list[str]] = {}
        for collection, dot, column in (branch.partition(".") for branch in self._branches):
            if dot:
                self._columns.setdefault(collection, []).append(column)
        if not self.n_entries:
            raise NoEventsError(f"{self.where} holds no event")

    @property
    def names(self) -> Collection[str]:
        """Of all branches: "Jet.PT", "Jet_size"."""
        return self._branches.keys()

    @property
    def collections(self) -> list[str]:
        """Names of the collections, in the order of the file."""
        return list(self._columns)

    def columns(self, collection: str) -> Collection[str]:
        """Return the columns of a collection, without its name; empty where there is no such."""
        return self._columns.get(collection, [])

    def need(self, names: Collection[str], use: str) -> None:
        """Raise DataError where a branch that something uses is not there."""
        for name in names:
            if name not in self._branches:
                close = get_close_matches(name, self._branches, n=5, cutoff=0.5)
                raise DataError(
                    f"{self.where}: there is no branch '{name}', which {use} needs; there are "
                    f"{', '.join(close or self.collections) or 'none'}"
                )

    def array(self, name: str, first: int, last: int) -> ak.Array:
        """Read entries `first` to `last - 1` of a branch as it is."""
        with reading(self.where, name, first, last):
            return self._branches[name].array(entry_start=first, entry_stop=last)

    def flat(self, name: str, first: int, last: int) -> tuple[Integers, Array]:
        """Read a branch of lists: their lengths (events,), and all values."""
        return _flat(self.array(name, first, last))

    def sizes(self, collection: str, first: int, last: int) -> Integers:
        """(entries,): number of objects of a collection."""
        return self.flat(f"{collection}.{self._columns[collection][0]}", first, last)[0]

    def table(self, collection: str, columns: Sequence[str], first: int, last: int) -> Table:
        """Read columns of a collection.

        Raises
        ------
        DataError
            Where they cannot be read, or have different numbers of objects.
        """
        counts: Integers | None = None
        read, references = {}, {}
        for column in sorted(columns, key=_REFERENCES.__contains__):
            name = f"{collection}.{column}"
            if column in _REFERENCES and counts is not None:
                references[column] = self._references(name, counts, first, last)
                continue
            lengths, read[column] = self.flat(name, first, last)
            if counts is not None and not np.array_equal(lengths, counts):
                event = first + int(np.flatnonzero(lengths != counts)[0])
                raise DataError(
                    f"{self.where}, entry {event}: the branches of '{collection}' hold different "
                    "numbers of objects; the file is damaged"
                )
            counts = lengths
        assert counts is not None  # noqa: S101  # no collection is read by its references alone
        return Table(counts, read, references)

    def _references(self, name: str, counts: Integers, first: int, last: int) -> References:
        with reading(self.where, name, first, last):
            data = self._branches[name].array(_BYTES, entry_start=first, entry_stop=last)
            lengths, values = _flat(data)
            return decode(values, lengths, counts)


class DelphesFiles:
    """Files of which one is open at a time: that of the last tree asked for."""

    def __init__(self, tree: str) -> None:
        self._name = tree
        self._open = ExitStack()
        self._path = ""
        self._tree: DelphesTree | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def tree(self, path: str) -> DelphesTree:
        """Open the tree of a file, where it is not open."""
        if self._tree is None or path != self._path:
            self._open.close()
            self._tree = None
            file = self._open.enter_context(open_root(path))
            self._path, self._tree = path, DelphesTree(file, path, self._name)
        return self._tree


def _by_name(tree: Any) -> dict[str, Any]:  # noqa: ANN401
    """Branches by name; of two of one name the first."""
    branches: dict[str, Any] = {}
    for branch in _walk(tree):
        branches.setdefault(branch.name, branch)
    return branches


def _walk(tree: Any) -> Iterator[Any]:  # noqa: ANN401
    for branch in tree.branches:
        yield branch
        yield from branch.branches


def _flat(lists: ak.Array) -> tuple[Integers, Array]:
    if lists.ndim == 1:
        return np.ones(len(lists), np.int64), ak.to_numpy(lists)
    offsets = lists.layout.offsets.data
    return np.diff(offsets), lists.layout.content.data[offsets[0] : offsets[-1]]
