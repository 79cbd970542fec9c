"""What readers of input files have in common: entries of a file in, selected events and sums out."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple, Protocol

import numpy as np

from manyscale.errors import DataError
from manyscale.events.ragged import Floats, PackedStream, SelectedEvents
from manyscale.schema import Generated, StreamSchema

__all__ = [
    "FIRST_STEP",
    "THE_PROCESS",
    "Contents",
    "FileEvents",
    "NoEventsError",
    "Piece",
    "Reader",
    "divide_streams",
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
    streams: Mapping[str, StreamSchema] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    rows: Sequence[tuple[str, str, str]] = ()
    remarks: Sequence[str] = ()


@dataclass(frozen=True)
class FileEvents:
    """What some entries of files hold.

    Attributes
    ----------
    weight
        (entries,): weights of all entries, selected or not, in their order; NaN where an entry could
        not be made into an event.
    processes
        Of each process the events that passed the selection, and what was generated to give them;
        `THE_PROCESS` alone where the file does not divide its events.
    notes
        What is odd, and how often: each text makes sense with its number in front.
    """

    weight: Floats
    processes: Mapping[str, tuple[SelectedEvents, Generated]]
    notes: Counter[str] = field(default_factory=Counter)

    @staticmethod
    def add(parts: Sequence["FileEvents"]) -> "FileEvents":
        """Put entries of the same content one after the other, and add up what was generated."""
        processes = {}
        for name in parts[0].processes:
            events, generated = zip(*(part.processes[name] for part in parts), strict=True)
            processes[name] = SelectedEvents.concatenate(events), Generated.add(generated)
        notes = Counter[str]()
        for part in parts:
            notes.update(part.notes)
        return FileEvents(np.concatenate([part.weight for part in parts]), processes, notes)


#: Column without which a stream is nothing: what a reader says of it is said of the stream.
_NEEDED = "pt"


def divide_streams(
    wanted: Mapping[str, StreamSchema], lacking: Callable[[str], Mapping[str, str]]
) -> tuple[dict[str, StreamSchema], dict[str, str]]:
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
    streams: dict[str, StreamSchema] = {}
    missing: dict[str, str] = {}
    for name, layout in wanted.items():
        absent = lacking(name)
        if _NEEDED in absent:
            missing[name] = absent[_NEEDED]
            continue
        columns = tuple(column for column in layout.columns if column not in absent)
        streams[name] = layout.model_copy(update={"columns": columns})
        missing |= {f"{name}: {of}": absent[of] for of in layout.columns if of in absent}
    return streams, missing


def nothing(
    streams: Mapping[str, StreamSchema], processes: Sequence[str] = (THE_PROCESS,)
) -> FileEvents:
    """What a file without any event holds."""
    none = np.zeros(0, np.int64)
    packed = {
        name: PackedStream.of_columns(
            stream, none, dict.fromkeys(stream.columns, none), dict.fromkeys(stream.axis, none)
        )
        for name, stream in streams.items()
    }
    events = SelectedEvents(none, np.zeros(0), packed)
    return FileEvents(
        np.zeros(0),
        dict.fromkeys(processes, (events, Generated(sum_weights=0.0, sum_weights2=0.0))),
    )


class Reader(Protocol):
    """Reads files of one format. Can be pickled, and so sent to a worker: it holds no open file.

    Attributes
    ----------
    step
        Entries of a unit of work, which keep a core busy for some seconds.
    """

    step: ClassVar[int]

    def entries(self, path: str) -> int:
        """Return the number of events of a file, which may be none; else raise as `look` does."""

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
        self, piece: Piece, streams: Mapping[str, StreamSchema], seed: int
    ) -> Iterator[FileEvents]:
        """Read some entries of a file in batches that fit in memory, in their order.

        There is one batch at least, without events where the piece has none. `FileEvents.add` is
        the one place where batches, and files, are added up.

        Parameters
        ----------
        piece
            Of a file.
        streams
            Those wanted, as `look` found them.
        seed
            Of whatever is random (a detector); readers of measured objects have no use for it.

        Raises
        ------
        DataError
            Names file, tree, branch and entry.
        """
