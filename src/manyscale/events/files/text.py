"""Generated events in text (HepMC, LHE): the texts of a file's events, and their way to selected events.

A file is read forward and once: a process keeps its place in it from unit to unit. What has been
scanned and is not compressed can be entered anywhere. Compressed text cannot: each worker decompresses
all of it, in a fifth of the time that HepMC takes to convert, and less than a hundredth of that of LHE.
"""

import gzip
import re
import threading
import zlib
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import numpy as np
import pyarrow as pa

from manyscale.errors import CardError, DataError
from manyscale.events.files.checks import check_finite
from manyscale.events.files.convert_settings import ConvertSettings
from manyscale.events.files.expressions import CardExpressions
from manyscale.events.files.formats import GZIP, ZSTD
from manyscale.events.files.reader import FIRST_STEP, THE_PROCESS, FileEvents, Piece, nothing
from manyscale.events.generate import Reconstruction
from manyscale.events.ragged import Array, Floats, Integers
from manyscale.events.settings import GenerateSettings
from manyscale.events.truth import TruthEvents
from manyscale.schema import Generated, StreamSchema, collision_streams

__all__ = [
    "EventTexts",
    "LoadedEvents",
    "Scan",
    "choose_columns",
    "generator_streams",
    "select_generated",
    "split",
    "weight_columns",
]

# ---- texts of events --------------------------------------------------------------------------

_BLOCK = 1 << 20
# An event of heavy ions has some 20 MB of text.
_LONGEST = 256 << 20
# Bytes from one mark to the next: to pass over so many takes a few hundredths of a unit's time.
_MARK = 8 << 20


def split(
    path: str, marker: re.Pattern[bytes], entry: int = 0, offset: int = 0
) -> Iterator[tuple[int, bytes]]:
    """Yield what stands before the first event of a file, then the text of each event.

    No more is held than one event and a block of the file.

    Parameters
    ----------
    path
        Plain text, gzip or zstd: told apart by the content, not the name.
    marker
        What begins an event; the texts are without it.
    entry, offset
        Begin at this event, whose marker stands at this byte of a plain file; before it stands
        nothing.

    Yields
    ------
    Where the marker stands in the (decompressed) file, 0 of the head; and the text.

    Raises
    ------
    DataError
        Where there is no such file, or what is compressed is cut short or damaged; names the event,
        from 0, up to which it can be read.
    """
    whole = entry - 1  # the last event that has been yielded; the head is none
    rest, begins, at = b"", offset, offset  # `rest` begins at byte `begins`, its marker stood `at`
    try:
        with _open(path, offset) as stream:
            while block := stream.read(_BLOCK):
                rest += block
                done = 0
                for found in marker.finditer(rest):
                    yield at, rest[done : found.start()]
                    whole += 1
                    at, done = begins + found.start(), found.end()
                rest, begins = rest[done:], begins + done
                if len(rest) > _LONGEST:
                    raise DataError(
                        f"{path}: no event begins within {_LONGEST >> 20} MB behind event "
                        f"{max(whole, 0)} (counted from 0); this is no file of events, or damaged"
                    )
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(
            f"{path} cannot be decompressed in or behind event {max(whole, 0)} (counted from 0); it "
            f"is cut short or damaged ({error})"
        ) from error
    yield at, rest


def _open(path: str, offset: int) -> BinaryIO:
    try:
        with Path(path).open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    if magic.startswith(GZIP):
        return cast("BinaryIO", gzip.open(path))
    if magic == ZSTD:
        return cast("BinaryIO", pa.CompressedInputStream(pa.OSFile(path), "zstd"))
    stream = Path(path).open("rb")  # noqa: SIM115 - the caller's
    stream.seek(offset)
    return stream


class Scan(NamedTuple):
    """What is in a file of events.

    Attributes
    ----------
    head
        What stands before the first event.
    entries
        Number of events.
    first, last
        The first event and the last, with all that follows it; empty without any event.
    """

    head: bytes
    entries: int
    first: bytes
    last: bytes


class _File(NamedTuple):
    """A file as it is now: one that is written anew is another."""

    path: str
    size: int
    changed: int
    marker: re.Pattern[bytes]

    @classmethod
    def of(cls, path: str, marker: re.Pattern[bytes]) -> "_File":
        try:
            found = Path(path).stat()
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}") from error
        return cls(path, found.st_size, found.st_mtime_ns, marker)


@dataclass
class _Place:
    """Where the reading of a file stands: the texts of event `entry` and all that follow."""

    file: _File
    entry: int
    texts: Iterator[tuple[int, bytes]]


# Places that units before have left, for readers that come to this process anew with each unit. A few:
# threads of a process read different units of a file at a time.
_PLACES: deque[_Place] = deque(maxlen=16)
_LOCK = threading.Lock()


class EventTexts:
    """Texts of events of files.

    Can be sent to another process, with the marks of the plain files that were scanned here.

    Parameters
    ----------
    marker
        What begins an event; see `split`.
    """

    def __init__(self, marker: re.Pattern[bytes]) -> None:
        self._marker = marker
        # (marks, 2) of each file, an event every `_MARK` bytes: its index, and the byte at which its
        # marker stands. Arrays: they are sent to the workers with each unit.
        self._marks: dict[_File, Integers] = {}

    def scan(self, path: str) -> Scan:
        """Count the events of a file, and mark some of a plain one; raises as `split`."""
        file = _File.of(path, self._marker)
        texts = split(path, self._marker)
        _, head = next(texts)
        entries, first, last = 0, b"", b""
        marks = [(0, 0)]  # the whole file
        for offset, last in texts:
            first = first or last
            if offset - marks[-1][1] >= _MARK:
                marks.append((entries, offset))
            entries += 1
        with Path(path).open("rb") as stream:
            compressed = stream.read(4).startswith((GZIP, ZSTD))
        self._marks[file] = np.array(marks[:1] if compressed else marks)
        return Scan(head, entries, first, last)

    def head(self, path: str) -> bytes:
        """Return what stands before the first event of a file; raises as `split`."""
        with closing(split(path, self._marker)) as texts:  # type: ignore[type-var]
            return next(texts)[1]

    def last(self, path: str) -> bytes:
        """Return the last event of a file with all that follows it; raises as `split`."""
        file = _File.of(path, self._marker)
        return _last(file, *self._mark(file))

    def batches(self, piece: Piece, size: int) -> Iterator[tuple[int, list[bytes]]]:
        """Read on in a file, from where a unit before has left it where that is nearest.

        Yields
        ------
        Index of the first event of a batch, and the texts of its events, at most `size`.
        """
        place = self._enter(_File.of(piece.path, self._marker), piece.first)
        while True:
            room = size if piece.last is None else min(size, piece.last - place.entry)
            texts = [text for _, text in islice(place.texts, room)]
            if not texts:
                break
            first, place.entry = place.entry, place.entry + len(texts)
            yield first, texts
        if piece.last is not None:
            with _LOCK:
                _PLACES.append(place)

    def _enter(self, file: _File, entry: int) -> _Place:
        with _LOCK:
            kept = [of for of in _PLACES if of.file == file and of.entry <= entry]
            place = max(kept, key=lambda of: of.entry, default=None)
            if place is not None:
                _PLACES.remove(place)
        begin, offset = self._mark(file, entry)
        if place is None or place.entry < begin:
            place = _Place(file, begin, split(file.path, file.marker, begin, offset))
            next(place.texts)  # the head, or nothing
        for _ in islice(place.texts, entry - place.entry):
            pass
        place.entry = entry
        return place

    def _mark(self, file: _File, entry: int | None = None) -> tuple[int, int]:
        """Return the mark from which an event, or the last, is nearest: its index and byte."""
        marks = self._marks.get(file, np.zeros((1, 2), np.int64))
        index = None if entry is None else int(np.searchsorted(marks[:, 0], entry, side="right"))
        begin, offset = marks[:index][-1].tolist()
        return begin, offset


@lru_cache(maxsize=4)
def _last(file: _File, entry: int, offset: int) -> bytes:
    texts = split(file.path, file.marker, entry, offset)
    next(texts)
    (_, last), *_ = deque(texts, maxlen=1) or [(0, b"")]
    return last


# ---- from generated events to selected ones ---------------------------------------------------


def generator_streams(generate: GenerateSettings) -> dict[str, StreamSchema]:
    """Streams asked for: generated events give them all.

    Raises
    ------
    CardError
        Where columns are asked for that the detector does not measure.
    """
    if generate.columns:
        raise CardError(
            f"generate.columns: the detector here measures no {' or '.join(generate.columns)}; only "
            "files of reconstructed events have them"
        )
    return collision_streams(generate.streams)


class LoadedEvents(NamedTuple):
    """A batch of entries of a file.

    Attributes
    ----------
    first, entries
        Index of the first, and their number.
    truth
        Those that could be made into events.
    cross_section, cross_section_error
        See `Generated`.
    scale
        Of the sums of weights: for events that could not be made, but count in the cross section.
    """

    first: int
    entries: int
    truth: TruthEvents
    cross_section: float | None
    cross_section_error: float | None
    scale: float = 1.0


def select_generated(
    batches: Iterator[LoadedEvents],
    streams: Mapping[str, StreamSchema],
    generate: GenerateSettings,
    seed: int,
) -> Iterator[FileEvents]:
    """Have entries of a file seen by the detector and selected, as events of our own are.

    Parameters
    ----------
    batches
        What is loaded of a piece.
    streams, seed
        See `Reader.read`.
    generate
        Detector, jets, cuts and objects.
    """
    settings = generate.model_copy(update={"streams": tuple(streams)})
    reconstruction = Reconstruction(settings, seed)
    empty = True
    for first, entries, truth, cross_section, error, scale in batches:
        empty = False
        weight = np.full(entries, np.nan)
        weight[truth.entry - first] = truth.weight
        selected, counted = reconstruction.reconstruct(truth, FIRST_STEP)
        generated = Generated(
            cross_section=cross_section,
            cross_section_error=error,
            generated=entries,
            sum_weights=(counted.sum_weights or 0.0) * scale,
            sum_weights2=(counted.sum_weights2 or 0.0) * scale,
            cutflow=counted.cutflow,
        )
        notes = Counter({"events in which Pythia failed": entries - len(truth.entry)})
        yield FileEvents(weight, {THE_PROCESS: (selected, generated)}, +notes)
    if empty:
        yield nothing(streams)


def weight_columns(
    weights: Sequence[Mapping[str, float]], path: str, first: int
) -> dict[str, Floats]:
    """Make columns (events,) of the named weights of each event of a file, from `first` on.

    Raises
    ------
    DataError
        Where an event has others than the first of them.
    """
    names = weights[0].keys()
    for entry, of_event in enumerate(weights, first):
        if of_event.keys() != names:
            raise DataError(
                f"{path}, event {entry} (counted from 0) has other weights than event {first}: "
                f"{', '.join(of_event) or 'none'}"
            )
    return {name: np.array([of_event[name] for of_event in weights]) for name in names}


def choose_columns(
    truth: TruthEvents, columns: Mapping[str, Array], convert: ConvertSettings, path: str
) -> TruthEvents:
    """Give events the weights, observables and selections that the card asks for.

    Parameters
    ----------
    truth
        Some events of a file.
    columns
        (events,): the weights of the file by name, and whatever else it has once an event.
    convert
        `weight` and `variations` may name weights as they are, also such as '1001' or 'muR=2';
        expressions can use the others.
    path
        The file.

    Raises
    ------
    DataError
        Where a weight or a name is not in the file, or the weight is not finite.
    """
    variations = convert.variations or ()
    for name in variations:
        if name not in columns:
            raise _no_weight(path, name, "convert.variations", columns)
    weight = truth.weight
    if convert.weight is not None and convert.weight in columns:
        weight, convert = columns[convert.weight], convert.model_copy(update={"weight": None})
    expressions = CardExpressions.parse(convert)
    if expressions.weight is not None and not expressions.weight.names:
        raise _no_weight(path, expressions.weight.text, "convert.weight", columns)
    for expression in expressions.all:
        expression.check_names(columns, path)
    events = np.arange(len(truth.entry))

    def where(event: int) -> str:
        return f"{path}, event {truth.entry[event]} (counted from 0)"

    chosen = expressions.weights(columns, len(events), where)
    weights = {name: columns[name] for name in variations}
    check_finite({"weight": weight, **weights}, events, where)
    return replace(
        truth,
        weight=weight if chosen is None else chosen,
        weights=weights,
        observables=expressions.values(columns, len(events)),
        steps=expressions.steps(columns, len(events)),
    )


def _no_weight(path: str, name: str, key: str, columns: Mapping[str, Array]) -> DataError:
    there = ", ".join(list(columns)[:20]) or "none"
    return DataError(f"{path} has no weight '{name}', which {key} names; there are {there}")
