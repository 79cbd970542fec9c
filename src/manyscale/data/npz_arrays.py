"""Padded arrays: in memory, or of an npz file that is looked at before a number of it is read."""

import lzma
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import ArrayLike, NDArray

from manyscale.errors import DataError

__all__ = ["MemoryArray", "NpzArray", "choose_array", "open_npz"]

_UNREADABLE = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError, TypeError,
    OverflowError, SyntaxError, RuntimeError, tokenize.TokenError,
)  # fmt: skip


@dataclass(frozen=True)
class MemoryArray:
    """Numbers (events, tokens, columns) in memory, zeros behind the real tokens."""

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
        _check(array.dtype, array.shape, where)
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
        _check(self.dtype, self.sizes, self.where)
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
    if not path.exists():
        raise DataError(f"there is no file {path}")
    if not path.is_file():
        raise DataError(f"{path} is a folder, not an npz file")
    arrays = {}
    with _readable(path):
        with path.open("rb") as file:
            begin = file.read(6)
        if begin == b"\x93NUMPY":
            raise DataError(f"{path} is an npy file: store it with numpy.savez(path, array) as npz")
        if begin[:1] == b"\x80":
            raise DataError(
                f"{path} is a pickle, which is never opened, for it could run code: store the array "
                "with numpy.savez(path, array)"
            )
        if begin[:2] != b"PK":
            raise DataError(f"{path} is no npz file: it is not what numpy.savez writes")
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if info.filename.endswith(".npy"):
                    array = _look_at(path, archive, info)
                    arrays[array.name] = array
        if not arrays:
            raise ValueError("it is a zip file without arrays in it")
    return arrays


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
    readers = {
        (1, 0): npy_format.read_array_header_1_0,
        (2, 0): npy_format.read_array_header_2_0,
    }
    with archive.open(info) as file:
        version = npy_format.read_magic(file)
        if version not in readers:
            raise ValueError(f"version {version} of the array format is not for plain numbers")
        shape, fortran, dtype = readers[version](file)
        header = file.tell()
    array = NpzArray(path, info.filename, dtype, shape, fortran, header)
    stored = header + int(np.prod(shape, dtype=object)) * dtype.itemsize
    # No deflated byte stands for more than 1032.
    if info.compress_type == zipfile.ZIP_DEFLATED and info.file_size > 1032 * info.compress_size:
        raise ValueError(f"array '{array.name}' claims more than the file can hold")
    if not dtype.hasobject and info.file_size != stored:
        raise ValueError(f"array '{array.name}' should have {stored} bytes, has {info.file_size}")
    return array


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


def _check(dtype: np.dtype[Any], shape: tuple[int, ...], where: str) -> None:
    """Refuse what are no numbers, or not those of events, tokens and columns."""
    if dtype.hasobject:
        raise DataError(
            f"{where}: the array holds Python objects, which are never opened, for they could run "
            f"code: store plain numbers of shape (events, tokens, columns), padded with zeros"
        )
    if dtype.kind not in "biuf":
        raise DataError(f"{where}: the array holds {dtype} instead of numbers")
    if len(shape) != 3:
        raise DataError(
            f"{where}: the array has the shape {shape}; it should be (events, tokens, columns)"
        )
    if not shape[0]:
        raise DataError(f"{where}: the array has no events")
    if not shape[1]:  # of a few bytes, and any number of events
        raise DataError(f"{where}: the array has no room for a token")
    if not shape[2]:
        raise DataError(f"{where}: the array has no columns")
