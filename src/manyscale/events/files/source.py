"""What readers of input files have in common: pieces of files in, records and bookkeeping out."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import awkward as ak
import numpy as np

from manyscale.errors import DataError
from manyscale.events.bookkeeping import Bookkeeping, UnitResult
from manyscale.events.particles import Floats, Integers
from manyscale.events.record import StreamLayout

__all__ = [
    "FIRST_STEP",
    "THE_PROCESS",
    "Batch",
    "Contents",
    "FileEvents",
    "NoEventsError",
    "Piece",
    "Reader",
    "divide_streams",
    "load_batches",
    "nothing",
]


class NoEventsError(DataError):
    """A file is as it should be, but holds no event."""


#: First step of the cutflow of a file: all its entries.
FIRST_STEP = "in the file"

#: Stands for the process that the caller names, where a file does not divide its events.
THE_PROCESS = ""


class Piece(NamedTuple):
    """Entries `first` to `last - 1` of a file, counted from 0; without `last`, to its end."""

    path: str
    first: int
    last: int | None

    def __str__(self) -> str:
        """Name the piece in messages."""
        if self.last is None:
            return self.path
        return f"{self.path}, entries {self.first} to {self.last - 1}"


@dataclass(frozen=True)
class Contents:
    """What a file holds, as its header and first entries tell.

    Attributes
    ----------
    title
        What it is, in words: "Delphes, tree 'Delphes'".
    entries
        Number of events.
    streams
        Layouts of the streams that it gives.
    missing
        Streams, or columns of them, that it cannot give, and why.
    rows
        Collections found, for `inspect`: name, tokens or entries, what it is used for.
    remarks
        What a user should know, a line each: an unknown sum of weights, say.
    """

    title: str
    entries: int
    streams: Mapping[str, StreamLayout] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    rows: Sequence[tuple[str, str, str]] = ()
    remarks: Sequence[str] = ()


@dataclass(frozen=True)
class FileEvents:
    """What some pieces of files hold.

    Attributes
    ----------
    weight
        (entries,): weights of all entries of the pieces, selected or not, one piece behind the
        other; NaN where an entry could not be made into an event.
    processes
        Records (with `piece`, the place among the pieces) and bookkeeping of each process;
        `THE_PROCESS` alone where the file does not divide its events.
    notes
        What is odd, and how often: each text makes sense with its number in front.
    """

    weight: Floats
    processes: Mapping[str, UnitResult]
    notes: Counter[str] = field(default_factory=Counter)


#: Column without which a stream is nothing: what a reader says of it is said of the stream.
_NEEDED = "pt"


def divide_streams(
    wanted: Mapping[str, StreamLayout], lacking: Callable[[str], Mapping[str, str]]
) -> tuple[dict[str, StreamLayout], dict[str, str]]:
    """Divide the streams wanted into what a file gives and what it does not.

    Parameters
    ----------
    wanted
        Layouts by name.
    lacking
        Of a stream's name, the columns that cannot be given, and why; `pt` stands for the stream.

    Returns
    -------
    streams
        Layouts of those that are there, with the columns that are there.
    missing
        Streams, or columns of them ("jet1: d0"), that are not, and why.
    """
    streams: dict[str, StreamLayout] = {}
    missing: dict[str, str] = {}
    for name, layout in wanted.items():
        absent = lacking(name)
        if _NEEDED in absent:
            missing[name] = absent[_NEEDED]
            continue
        columns = tuple(column for column in layout.columns if column not in absent)
        streams[name] = layout._replace(columns=columns)
        missing |= {f"{name}: {of}": absent[of] for of in layout.columns if of in absent}
    return streams, missing


class Batch(NamedTuple):
    """Entries of one or more pieces, loaded together.

    Attributes
    ----------
    loaded
        What `load` made of each part of a piece.
    parts
        Those parts, each with the place of its piece.
    """

    loaded: list[Any]
    parts: list[tuple[int, Piece]]

    @property
    def piece(self) -> Integers:
        """(entries,): the place of each entry's piece."""
        return np.concatenate([np.full(_size(part), place) for place, part in self.parts])

    @property
    def entry(self) -> Integers:
        """(entries,): the place of each entry in its file."""
        return np.concatenate([np.arange(*part[1:]) for _, part in self.parts])

    def where(self, event: int) -> str:
        """Name an event of the batch in messages."""
        place = self.piece[event]
        path = next(part.path for at, part in self.parts if at == place)
        return f"{path}, entry {self.entry[event]}"


def load_batches(
    pieces: Sequence[Piece],
    size: int,
    entries: Callable[[str], int],
    load: Callable[[Piece], Any],
) -> Iterator[Batch]:
    """Load pieces in batches of at most `size` entries; a batch may hold many small files.

    Parameters
    ----------
    entries
        Number of events of a file; asked only when a piece to its end is due, so that its file is
        opened once.
    load
        Reads a part of a piece; its `last` is known.
    """
    batch, room = Batch([], []), size
    for place, piece in enumerate(pieces):
        first = piece.first
        end = _entries(piece.path, entries) if piece.last is None else piece.last
        while first < end:
            part = Piece(piece.path, first, min(end, first + room))
            batch.loaded.append(load(part))
            batch.parts.append((place, part))
            first += _size(part)
            room -= _size(part)
            if not room:
                yield batch
                batch, room = Batch([], []), size
    if batch.parts:
        yield batch


def _entries(path: str, entries: Callable[[str], int]) -> int:
    try:
        return entries(path)
    except NoEventsError:
        return 0


def _size(part: Piece) -> int:
    assert part.last is not None  # noqa: S101  # parts of a batch have an end
    return part.last - part.first


def nothing(
    streams: Mapping[str, StreamLayout], processes: Sequence[str] = (THE_PROCESS,)
) -> FileEvents:
    """What files without any event hold."""
    none = np.zeros(0, np.int64)
    fields: dict[str, Any] = {"piece": none, "entry": none, "weight": np.zeros(0)}
    for name, layout in streams.items():
        tokens = ak.zip({column: np.zeros(0, np.float32) for column in layout.columns})
        fields[name] = ak.unflatten(tokens, none)
        if layout.axis:
            fields[f"{name}_axis"] = ak.zip({of: np.zeros(0, np.float32) for of in layout.axis})
    book = Bookkeeping(0, 0.0, 0.0, None, None, ())
    result = UnitResult(ak.zip(fields, depth_limit=1), book)
    return FileEvents(np.zeros(0), dict.fromkeys(processes, result))


class Reader(Protocol):
    """Reads files of one format. Holds settings alone, so that it can be sent to a worker."""

    @property
    def step(self) -> int:
        """Entries of a unit of work that keep a core busy for some seconds."""

    def entries(self, path: str) -> int:
        """Return the number of events of a file, or raise as `look` does."""

    def look(self, path: str) -> Contents:
        """See what is in a file without reading its events.

        Raises
        ------
        NoEventsError
            Where it holds none.
        DataError
            Where it is no such file, is damaged, or lacks what no stream can do without.
        """

    def read(
        self, pieces: Sequence[Piece], streams: Mapping[str, StreamLayout], seed: int
    ) -> FileEvents:
        """Read pieces of files, in constant memory but for the events that pass.

        Parameters
        ----------
        pieces
            Of files with the same content.
        streams
            Those wanted, as `look` found them.
        seed
            Of whatever is random (a detector); readers of measured objects have no use for it.

        Raises
        ------
        DataError
            Names file, tree, branch and entry.
        """
