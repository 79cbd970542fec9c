"""Input files and how they are divided into units of work."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from manyscale.data.identity import FIRST_BYTES, file_identity, remote_identity
from manyscale.errors import DataError
from manyscale.events.files.convert_settings import ConvertSettings
from manyscale.events.files.formats import Format
from manyscale.events.files.readers import choose_reader
from manyscale.events.files.source import Contents, NoEventsError, Reader
from manyscale.events.settings import GenerateSettings

__all__ = ["SourceFile", "count_entries", "divide", "find_files", "look_at_first", "one_reader"]

# A file of up to this many units is not divided: opening it once more costs time.
_TOLERANCE = 1.5
# Small files make at least so many units, where they are as many, for workers to share.
_UNITS = 16


@dataclass(frozen=True)
class SourceFile:
    """An input file.

    Attributes
    ----------
    path
        Where it is; an absolute path or address.
    identity
        What `event_id` counts from: name, size, checksum of the first MiB.
    size
        In bytes.
    """

    path: str
    identity: str
    size: int


def one_reader(
    kind: Format,
    files: Sequence[SourceFile],
    generate: GenerateSettings,
    convert: ConvertSettings,
    lines: tuple[str, ...] = (),
) -> Reader:
    """Choose the reader of files, which must be one.

    Raises
    ------
    DataError
        Where two need different ones: Delphes and NanoAOD files, say.
    """
    first = choose_reader(files[0].path, kind, generate, convert, lines)
    if kind == "ROOT":
        for file in files[1:]:
            other = choose_reader(file.path, kind, generate, convert, lines)
            if type(other) is not type(first):
                raise DataError(
                    f"{files[0].path} and {file.path} are ROOT files of different content: convert "
                    "each kind by a call of its own, into the same dataset"
                )
    return first


def find_files(paths: Sequence[str]) -> list[SourceFile]:
    """Identify files; a local path is made absolute, so that workers elsewhere find it.

    Raises
    ------
    DataError
        Where one cannot be read, or two are the same: of the same name, size and first MiB.
    """
    files = [_remote(path) if "://" in path else _local(Path(path)) for path in paths]
    known: dict[str, str] = {}
    for file in files:
        if file.identity in known:
            raise DataError(
                f"{known[file.identity]} and {file.path} are the same file (by name, size and first "
                "MiB), and no event can be in a dataset twice: name it once"
            )
        known[file.identity] = file.path
    return files


def _local(path: Path) -> SourceFile:
    try:
        # Not resolved: a link is another file than what it points to.
        return SourceFile(str(path.absolute()), file_identity([path]), path.stat().st_size)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error


def _remote(path: str) -> SourceFile:
    from manyscale.events.files.root_files import size_and_head  # noqa: PLC0415  # an extra

    size, head = size_and_head(path, FIRST_BYTES)
    return SourceFile(path, remote_identity(path.rpartition("/")[2], size, head), size)


def divide(
    files: Sequence[SourceFile], reader: Reader, entries_per_byte: float, step: int
) -> Iterator[list[tuple[SourceFile, int, int | None]]]:
    """Divide files into units of about the same work: pieces of large ones, several small ones.

    Small files are not opened for it: opening one can cost more than reading it.

    Parameters
    ----------
    files
        Of one format.
    reader
        Counts the entries of large files.
    entries_per_byte
        Of such files.
    step
        Entries of a unit.

    Yields
    ------
    Pieces of a unit: each a file, its first entry, and its last but one, None for all.
    """
    largest = step / entries_per_byte
    size = min(largest, sum(file.size for file in files) / _UNITS)
    waiting: list[tuple[SourceFile, int, int | None]] = []
    room = size
    for file in files:
        if file.size > _TOLERANCE * largest and (count := count_entries(reader, file)):
            parts = math.ceil(count / step)
            edges = [count * part // parts for part in range(parts + 1)]
            for first, last in itertools.pairwise(edges):
                yield [(file, first, last)]
            continue
        waiting.append((file, 0, None))
        room -= file.size
        if room <= 0:
            yield waiting
            waiting, room = [], size
    if waiting:
        yield waiting


def count_entries(reader: Reader, file: SourceFile) -> int:
    """Count the events of a file, which may be none."""
    try:
        return reader.entries(file.path)
    except NoEventsError:
        return 0


def look_at_first(files: Sequence[SourceFile], reader: Reader) -> tuple[SourceFile, Contents]:
    """Look into the first file that has events.

    Raises
    ------
    DataError
        Where none has, or one is damaged.
    """
    for file in files:
        try:
            contents = reader.look(file.path)
        except NoEventsError as error:
            last = error
        else:
            return file, contents
    if len(files) == 1:
        raise last
    raise DataError(f"none of the {len(files)} files holds an event, the first is {files[0].path}")
