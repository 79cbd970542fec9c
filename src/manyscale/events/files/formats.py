"""What kind of file is it, by its content; and who reads it."""

import gzip
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pyarrow as pa

from manyscale.errors import DataError

__all__ = ["GZIP", "ZSTD", "Format", "csv_delimiter", "expand", "of_one_format", "recognise"]

#: What compressed files begin with.
GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"

#: ROOT stands for a file of which the trees tell more: see `manyscale.events.files.readers`.
Format = Literal["npz", "ROOT", "Parquet", "HDF5", "HepMC", "LHE", "CSV", "list"]

_HEAD = 4096
_PATTERN = "*?["
_MAGIC: tuple[tuple[bytes, Format], ...] = (
    (b"root", "ROOT"),
    (b"PK\x03\x04", "npz"),
    (b"PAR1", "Parquet"),
    (b"\x89HDF\r\n\x1a\n", "HDF5"),
)
_KNOWN = "npz, ROOT, Parquet, HDF5, HepMC, LHE and CSV"


def recognise(path: str) -> Format:
    """Tell the format of a file from its first bytes, whatever its name.

    Parameters
    ----------
    path
        A file; an address such as root://... is taken as ROOT.

    Raises
    ------
    DataError
        Where it does not exist, cannot be read, is empty, or is of no known format.
    """
    if "://" in path:
        return "ROOT"
    head = _read_head(Path(path))
    for magic, known in _MAGIC:
        if head.startswith(magic):
            return known
    text = _decompressed(head, path).lstrip()
    if text.startswith((b"HepMC::", b"HepMC3")):
        return "HepMC"
    if b"<LesHouchesEvents" in text:
        return "LHE"
    if not text:
        raise DataError(f"{path} has nothing in it")
    if _is_list(text, path):
        return "list"
    if csv_delimiter(text) is not None:
        return "CSV"
    raise DataError(
        f"{path} is of no format that is known here: {_KNOWN} are, and a text file with a file a "
        "line, of which the first exists"
    )


def of_one_format(paths: Sequence[str]) -> tuple[Format, list[str]]:
    """Put files in the place of globs and lists, and tell their format, which must be one.

    Raises
    ------
    DataError
        Where a file is missing, of no known format, or of another than the first.
    """
    files = expand(paths)
    if not files:
        raise DataError(f"{', '.join(paths)} names no files")
    first = recognise(files[0])
    for file in files[1:]:
        other = recognise(file)
        if other != first:
            raise DataError(
                f"{files[0]} is of the format {first}, {file} of {other}: convert each format by a "
                "call of its own, into the same dataset"
            )
    return first, files


def expand(paths: Sequence[str]) -> list[str]:
    """Put the files that globs and lists of files stand for in their place.

    Raises
    ------
    DataError
        Where a glob matches nothing, a folder or an unknown file is named, or one file twice.
    """
    files: list[str] = []
    for path in paths:
        try:
            for one in _glob(path):
                files.extend(_listed(one) if recognise(one) == "list" else [one])
        except OSError as error:  # of a name that is too long for one
            raise DataError(f"{path[:200]} cannot be read: {error.strerror}") from error
    twice = [file for file, times in Counter(files).items() if times > 1]
    if twice:
        raise DataError(f"{twice[0]} is named twice")
    return files


def _glob(path: str) -> list[str]:
    if "://" in path or Path(path).exists() or not any(sign in path for sign in _PATTERN):
        return [path]
    place = Path(path)
    # The folder part of a pattern may be one, too.
    try:
        found = sorted(map(str, Path(place.anchor or ".").glob(path.removeprefix(place.anchor))))
    except ValueError as error:
        raise DataError(f"{path} is no pattern of files: {error}") from error
    if not found:
        raise DataError(f"no file matches {path}")
    return found


def _listed(path: str) -> list[str]:
    try:
        lines = [line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the list of files {path} cannot be read: {error}") from error
    named = [line for line in lines if line and not line.startswith("#")]
    files = [file for name in named for file in _glob(_beside(name, path))]
    for file in files:
        if recognise(file) == "list":
            raise DataError(f"the list {path} names {file}, which is a list itself")
    return files


def _beside(name: str, path: str) -> str:
    """Names in a list count from where one is, or else from where the list is."""
    if "://" in name or Path(name).exists():
        return name
    beside = Path(path).parent / name
    if beside.exists() or any(sign in name for sign in _PATTERN):
        return str(beside)
    raise DataError(f"{path} names a file {name} that does not exist")


def _read_head(path: Path) -> bytes:
    if path.is_dir():
        raise DataError(f"{path} is a folder; name its files, say {path}/*.root")
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except FileNotFoundError:
        raise DataError(f"there is no file {path}") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    if not head:
        raise DataError(f"{path} is empty")
    return head


def _decompressed(head: bytes, path: str) -> bytes:
    try:
        if head.startswith(GZIP):
            return zlib.decompressobj(wbits=zlib.MAX_WBITS | 16).decompress(head)
        if head.startswith(ZSTD):
            with pa.CompressedInputStream(pa.OSFile(path), "zstd") as stream:
                return bytes(stream.read(_HEAD))
    except (OSError, zlib.error, pa.ArrowException, gzip.BadGzipFile) as error:
        raise DataError(f"{path} cannot be decompressed; it may be cut short ({error})") from error
    return head


def csv_delimiter(text: bytes) -> str | None:
    """What divides the columns of a table as text; None where its lines are no rows of one."""
    try:
        # A character may be cut in two at the end.
        lines = text.decode("utf-8-sig", "ignore" if len(text) >= _HEAD else "strict").split("\n")
    except UnicodeDecodeError:
        return None
    # The last line may be cut short, but the first may be longer than what was read.
    first, *others = lines[:-1] or lines
    for delimiter in ",;\t":
        number = first.count(delimiter)
        if number and all(line.count(delimiter) >= number for line in others[:1] if line.strip()):
            return delimiter
    return None


def _is_list(text: bytes, path: str) -> bool:
    """Whether the first line of a text names a file."""
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith(b"#")]
    if not lines:
        return False
    try:
        first = lines[0].decode().strip()
        return "://" in first or any(
            place.is_file() or any(place.parent.glob(place.name))
            for place in (Path(first), Path(path).parent / first)
        )
    except (UnicodeDecodeError, OSError, ValueError):
        return False
