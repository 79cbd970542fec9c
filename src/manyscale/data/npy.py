"""Arrays of padded events: out of an npz, a block at a time and never unpickled, or in memory."""

import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, Protocol

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import ArrayLike, NDArray

from manyscale.errors import DataError

__all__ = ["MemoryArray", "NpzArray", "PaddedArray", "choose_array", "open_npz"]

_UNREADABLE = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError, TypeError,
    OverflowError, SyntaxError, RuntimeError,
)  # fmt: skip


class PaddedArray(Protocol):
    """Numbers (events, tokens, columns), zeros behind the real tokens."""

    @property
    def where(self) -> str:
        """What messages call the array."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Events, tokens, columns."""

    def blocks(self, events: int) -> Iterator[NDArray[Any]]:
        """Give the array piece by piece, so many events each."""


@dataclass(frozen=True)
class MemoryArray:
    """A padded array in memory, checked for shape and type."""

    where: str
    values: NDArray[Any]

    @staticmethod
    def of(values: ArrayLike, where: str) -> "MemoryArray":
        """Check an array that a user gave.

        Raises
        ------
        DataError
            Where it holds no numbers, or is not (events, tokens, columns).
        """
        try:
            array = np.asarray(values)
        except ValueError as error:
            raise DataError(f"{where}: no array can be made of it: {error}") from error
        _check_type(array.dtype, where)
        _check_shape(array.shape, where)
        return MemoryArray(where, array)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Events, tokens, columns."""
        events, tokens, columns = self.values.shape
        return events, tokens, columns

    def blocks(self, events: int) -> Iterator[NDArray[Any]]:
        """Give the array piece by piece, so many events each."""
        for first in range(0, len(self.values), events):
            yield self.values[first : first + events]


@dataclass(frozen=True)
class NpzArray:
    """One array of an npz file: its shape and type are known, its numbers not yet read.

    Attributes
    ----------
    sizes
        The array's shape, of any rank.
    header
        Bytes before the numbers.
    """

    path: Path
    member: str
    dtype: np.dtype[Any]
    sizes: tuple[int, ...]
    fortran: bool
    header: int

    @property
    def name(self) -> str:
        """The array's name in the file."""
        return self.member.removesuffix(".npy")

    @property
    def where(self) -> str:
        """What messages call the array."""
        return str(self.path) if self.name == "arr_0" else f"{self.path}, array '{self.name}'"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Events, tokens, columns.

        Raises
        ------
        DataError
            Where the array holds no numbers, or has another rank or no events.
        """
        _check_type(self.dtype, self.where)
        _check_shape(self.sizes, self.where)
        events, tokens, columns = self.sizes
        return events, tokens, columns

    def blocks(self, events: int) -> Iterator[NDArray[Any]]:
        """Give the array piece by piece, so many events each.

        Raises
        ------
        DataError
            Where the file is damaged.
        """
        total, tokens, columns = self.shape
        step = total if self.fortran else events
        order: Literal["F", "C"] = "F" if self.fortran else "C"
        with (
            _readable(self.path),
            zipfile.ZipFile(self.path) as archive,
            archive.open(self.member) as file,
        ):
            file.read(self.header)
            for first in range(0, total, step):
                shape = (min(step, total - first), tokens, columns)
                size = int(np.prod(shape)) * self.dtype.itemsize
                data = file.read(size)
                if len(data) < size:
                    raise EOFError("it ends before its last event")
                piece: NDArray[Any] = np.ndarray(shape, self.dtype, data, order=order)
                yield from MemoryArray(self.where, piece).blocks(events)


def open_npz(path: Path) -> dict[str, NpzArray]:
    """Look at what arrays an npz file holds, by name, without reading their numbers.

    Raises
    ------
    DataError
        Where there is no such file, or it is none, is damaged or holds no arrays.
    """
    _check_is_npz(path)
    with _readable(path), zipfile.ZipFile(path) as archive:
        members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
        if not members:
            raise ValueError("it is a zip file without arrays in it")
        arrays = [_look_at(path, archive, info) for info in members]
    return {array.name: array for array in arrays}


def choose_array(arrays: dict[str, NpzArray], stream: str) -> NpzArray:
    """Choose the array of a file that holds one stream: arr_0, one named as the stream, the only one.

    Raises
    ------
    DataError
        Where none of the three exists.
    """
    for name in ("arr_0", stream):
        if name in arrays:
            return arrays[name]
    first, *others = arrays.values()
    if others:
        raise DataError(
            f"{first.path} holds the arrays {', '.join(arrays)}: which one is meant? Keep one alone "
            f"in the file, or name it arr_0"
        )
    return first


def _look_at(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> NpzArray:
    with archive.open(info) as file:
        shape, fortran, dtype = _read_header(file)
        header = file.tell()
    array = NpzArray(path, info.filename, dtype, shape, fortran, header)
    stored = header + int(np.prod(shape, dtype=object)) * dtype.itemsize
    if not dtype.hasobject and info.file_size != stored:
        raise ValueError(f"array '{array.name}' should have {stored} bytes, has {info.file_size}")
    return array


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = npy_format.read_magic(file)
    if version == (1, 0):
        return npy_format.read_array_header_1_0(file)
    if version == (2, 0):
        return npy_format.read_array_header_2_0(file)
    raise ValueError(f"version {version} of the array format is not for plain numbers")


def _check_is_npz(path: Path) -> None:
    if not path.exists():
        raise DataError(f"there is no file {path}")
    if not path.is_file():
        raise DataError(f"{path} is a folder, not an npz file")
    with _readable(path), path.open("rb") as file:
        begin = file.read(6)
    if begin == b"\x93NUMPY":
        raise DataError(f"{path} is an npy file: store it with numpy.savez(path, array) as npz")
    if begin[:1] == b"\x80":
        raise DataError(
            f"{path} is a pickle, which is never opened, for it could run code: store the array with "
            f"numpy.savez(path, array)"
        )
    if begin[:2] != b"PK":
        raise DataError(f"{path} is no npz file: it is not what numpy.savez writes")


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    except _UNREADABLE as error:
        raise DataError(
            f"{path} cannot be read as npz; it may be cut short or damaged: {error}"
        ) from error


def _check_type(dtype: np.dtype[Any], where: str) -> None:
    if dtype.hasobject:
        raise DataError(
            f"{where}: the array holds Python objects, which are never opened, for they could run "
            f"code: store plain numbers of shape (events, tokens, columns), padded with zeros"
        )
    if dtype.kind not in "biuf":
        raise DataError(f"{where}: the array holds {dtype} instead of numbers")


def _check_shape(shape: tuple[int, ...], where: str) -> None:
    if len(shape) != 3:
        raise DataError(
            f"{where}: the array has the shape {shape}; it should be (events, tokens, columns)"
        )
    if not shape[0]:
        raise DataError(f"{where}: the array has no events")
    if not shape[2]:
        raise DataError(f"{where}: the array has no columns")
