"""Text files of events, compressed or not: divided into events in constant memory."""

import gzip
import re
import zlib
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import pyarrow as pa

from manyscale.errors import DataError

__all__ = ["GZIP", "ZSTD", "EventTexts", "Scan", "scan", "split"]

_BLOCK = 1 << 20
# An event of heavy ions has some 20 MB of text.
_LONGEST = 256 << 20
#: What compressed files begin with.
GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


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


def scan(path: str, marker: re.Pattern[bytes]) -> Scan:
    """Count the events of a file; see `split`."""
    texts = split(path, marker)
    head = next(texts)
    entries, first, last = 0, b"", b""
    for last in texts:
        first = first or last
        entries += 1
    return Scan(head, entries, first, last)


def split(path: str, marker: re.Pattern[bytes]) -> Iterator[bytes]:
    """Yield what stands before the first event of a file, then the text of each event.

    No more is held than one event and a block of the file.

    Parameters
    ----------
    path
        Plain text, gzip or zstd: told apart by the content, not the name.
    marker
        What begins an event; the texts are without it.

    Raises
    ------
    DataError
        Where there is no such file, or what is compressed is cut short or damaged; names the event,
        from 0, up to which it can be read.
    """
    whole = -1  # events that have been yielded; the head is none
    rest = b""
    try:
        with _open(path) as stream:
            while block := stream.read(_BLOCK):
                *texts, rest = marker.split(rest + block)
                if len(rest) > _LONGEST:
                    raise DataError(
                        f"{path}: no event begins within {_LONGEST >> 20} MB behind event "
                        f"{max(whole, 0)} (counted from 0); this is no file of events, or damaged"
                    )
                for text in texts:
                    yield text
                    whole += 1
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(
            f"{path} cannot be decompressed in or behind event {max(whole, 0)} (counted from 0); it "
            f"is cut short or damaged ({error})"
        ) from error
    yield rest


class EventTexts:
    """Texts of events of files, read on from where the last ones ended.

    Parameters
    ----------
    marker
        See `split`.
    """

    def __init__(self, marker: re.Pattern[bytes]) -> None:
        self._marker = marker
        self._path = ""
        self._head = b""
        self._next = 0
        self._texts: Iterator[bytes] = iter(())

    @property
    def head(self) -> bytes:
        """What stands before the first event of the file that was read last."""
        return self._head

    @property
    def ended(self) -> bool:
        """Whether no event follows those that were read last."""
        ahead = next(self._texts, None)
        if ahead is not None:
            self._texts = chain([ahead], self._texts)
        return ahead is None

    def between(self, path: str, first: int, last: int) -> list[bytes]:
        """Texts of the events `first` to `last - 1` of a file; raises as `split`."""
        if path != self._path or first < self._next:
            self._texts = split(path, self._marker)
            self._path, self._head, self._next = path, next(self._texts), 0
        texts = list(islice(self._texts, first - self._next, last - self._next))
        self._next = last
        return texts


def _open(path: str) -> BinaryIO:
    try:
        with Path(path).open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    if magic.startswith(GZIP):
        return cast("BinaryIO", gzip.open(path))
    if magic == ZSTD:
        return cast("BinaryIO", pa.CompressedInputStream(pa.OSFile(path), "zstd"))
    return Path(path).open("rb")
