"""What readers of input files have in common: pieces of files in, records and bookkeeping out."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import awkward as ak

from manyscale.events.bookkeeping import Bookkeeping
from manyscale.events.particles import Floats
from manyscale.events.record import StreamLayout

__all__ = ["THE_PROCESS", "Contents", "FileEvents", "Piece", "Reader", "UnitResult", "batches"]

#: Stands for the process that the caller names, where a file does not divide its events.
THE_PROCESS = ""


class Piece(NamedTuple):
    """Entries `first` to `last - 1` of a file, counted from 0."""

    path: str
    first: int
    last: int

    def __str__(self) -> str:
        """Name the piece in messages."""
        return f"{self.path}, entries {self.first} to {self.last - 1}"


@dataclass(frozen=True)
class UnitResult:
    """What a unit of work made of one process.

    Attributes
    ----------
    records
        Awkward array of the events that passed, in the layout of record.py, in the order of the
        source.
    bookkeeping
        What there was before the selection.
    """

    records: ak.Array
    bookkeeping: Bookkeeping


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


def batches(pieces: Sequence[Piece], size: int) -> Iterator[list[tuple[int, Piece]]]:
    """Divide pieces into batches of at most `size` entries, each part with its piece's place.

    Examples
    --------
    >>> for batch in batches([Piece("a", 0, 3), Piece("b", 5, 9)], 4):
    ...     print([(place, part.first, part.last) for place, part in batch])
    [(0, 0, 3), (1, 5, 6)]
    [(1, 6, 9)]
    """
    batch: list[tuple[int, Piece]] = []
    room = size
    for place, piece in enumerate(pieces):
        first = piece.first
        while first < piece.last:
            last = min(piece.last, first + room)
            batch.append((place, Piece(piece.path, first, last)))
            room -= last - first
            first = last
            if not room:
                yield batch
                batch, room = [], size
    if batch:
        yield batch


class Reader(Protocol):
    """Reads files of one format. Holds settings alone, so that it can be sent to a worker."""

    @property
    def step(self) -> int:
        """Entries of a unit of work that keep a core busy for some seconds."""

    def look(self, path: str) -> Contents:
        """See what is in a file without reading its events.

        Raises
        ------
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
