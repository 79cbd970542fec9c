"""Files of scores: one row an event, in the input's order, as npz, Parquet or ROOT."""

import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType, TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from manyscale.data.packing import PackedEvents
from manyscale.errors import DataError, MissingExtraError

__all__ = ["FORMATS", "ScoreWriter", "Scores", "check_target", "read_scores", "write_scores"]

FORMATS = (".npz", ".parquet", ".root")

# Rows of a file of scores that are brought to their format at a time.
_PIECE = 1 << 17


@dataclass(frozen=True)
class Scores:
    """Scores of some events.

    Attributes
    ----------
    columns
        Named arrays (events,): `event_id`, `score` (the signal probability; NaN where not
        `selected`), `selected`, and `label`, `weight` and observables where they are known.
    """

    columns: Mapping[str, NDArray[np.generic]]

    @staticmethod
    def of(events: PackedEvents, score: NDArray[np.floating], *, labelled: bool) -> "Scores":
        """Put the scores of events beside what is known of them; `labelled`: label and weight are."""
        columns: dict[str, NDArray[np.generic]] = {
            "event_id": events.event_id,
            "score": np.asarray(score, np.float32),
            "selected": np.ones(len(events), np.bool_),
        }
        if labelled:
            columns |= {"label": events.label.astype(np.int8), "weight": events.weight}
        return Scores(columns | dict(events.observables))

    def __len__(self) -> int:
        """Return the number of events."""
        return len(self.columns["event_id"])


def check_target(path: Path) -> None:
    """Refuse a name of which no file of scores can be made, before any work is done.

    Raises
    ------
    DataError
        Where the ending is not one of `FORMATS`, the path is a folder, or its folder is missing.
    MissingExtraError
        Where ROOT is asked for and uproot is not installed.
    """
    if path.suffix not in FORMATS:
        raise DataError(f"scores are written as {', '.join(FORMATS)}; {path} ends in none of them")
    if path.is_dir():
        raise DataError(f"{path} is a folder; name a file for the scores")
    if not path.parent.is_dir():
        raise DataError(f"there is no folder {path.parent} to write {path.name} to")
    if path.suffix == ".root":
        _uproot()


def _uproot() -> ModuleType:
    try:
        import uproot  # noqa: PLC0415 - an extra
    except ImportError:
        raise MissingExtraError("uproot", "root") from None
    return uproot


def write_scores(path: Path, scores: Scores) -> None:
    """Write scores by the ending of the name; an existing file is replaced whole, at the end."""
    with ScoreWriter(path) as writer:
        writer.add(scores)


class ScoreWriter:
    """Writes scores batch by batch, in memory that does not grow with their number.

    The file takes its place whole, at the end of a `with`; where that raises, nothing is left.

    Parameters
    ----------
    path
        Ends in one of `FORMATS`; an existing file is replaced.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._columns: dict[str, _ColumnFile] = {}

    def __enter__(self) -> Self:
        """Begin, in a hidden folder beside the file."""
        name = f".{self._path.name}."
        self._scratch = TemporaryDirectory(prefix=name, suffix=".tmp", dir=self._path.parent)
        return self

    def add(self, scores: Scores) -> None:
        """Write the scores of further events, of the same columns."""
        folder = Path(self._scratch.name)
        if not self._columns:
            self._columns = {
                name: _ColumnFile(folder / str(place), values.dtype)
                for place, (name, values) in enumerate(scores.columns.items())
            }
        for name, column in self._columns.items():
            column.append(scores.columns[name])

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Put the file in its place, if all went well."""
        with self._scratch:
            if kind is None:
                draft = Path(self._scratch.name) / f"whole{self._path.suffix}"
                _WRITERS[self._path.suffix](draft, self._columns)
                draft.replace(self._path)


class _ColumnFile:
    """One column on disk, as bare numbers, of the type that holds all values so far."""

    def __init__(self, path: Path, dtype: np.dtype[Any]) -> None:
        self._path = path
        self.dtype = dtype
        self.rows = 0
        path.touch()

    def append(self, values: NDArray[np.generic]) -> None:
        common = np.result_type(self.dtype, values.dtype)
        if common != self.dtype:
            self._convert(common)
        with self._path.open("ab") as file:
            np.ascontiguousarray(values, common).tofile(file)
        self.rows += len(values)

    def pieces(self) -> Iterator[NDArray[Any]]:
        """Give the values, some at a time."""
        with self._path.open("rb") as file:
            while len(values := np.fromfile(file, self.dtype, _PIECE)):
                yield values

    def _convert(self, dtype: np.dtype[Any]) -> None:
        wider = self._path.with_suffix(".wider")
        with wider.open("wb") as file:
            for values in self.pieces():
                values.astype(dtype).tofile(file)
        wider.replace(self._path)
        self.dtype = dtype


def _together(columns: Mapping[str, _ColumnFile]) -> Iterator[dict[str, NDArray[Any]]]:
    """Give all columns piece by piece."""
    for values in zip(*(column.pieces() for column in columns.values()), strict=True):
        yield dict(zip(columns, values, strict=True))


def _write_npz(path: Path, columns: Mapping[str, _ColumnFile]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, column in columns.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                header = {
                    "descr": npy_format.dtype_to_descr(column.dtype),
                    "fortran_order": False,
                    "shape": (column.rows,),
                }
                npy_format.write_array_header_1_0(file, header)
                for values in column.pieces():
                    file.write(values.tobytes())


def _write_parquet(path: Path, columns: Mapping[str, _ColumnFile]) -> None:
    types = {name: pa.from_numpy_dtype(column.dtype) for name, column in columns.items()}
    with pq.ParquetWriter(path, pa.schema(types)) as writer:
        for piece in _together(columns):
            writer.write_table(pa.table(piece))


def _write_root(path: Path, columns: Mapping[str, _ColumnFile]) -> None:
    with _uproot().recreate(path) as file:
        file.mktree("scores", {name: column.dtype for name, column in columns.items()})
        for piece in _together(columns):
            file["scores"].extend(piece)


_WRITERS: dict[str, Callable[[Path, Mapping[str, _ColumnFile]], None]] = {
    ".npz": _write_npz,
    ".parquet": _write_parquet,
    ".root": _write_root,
}


def read_scores(path: Path) -> Scores:
    """Read back a Parquet file of scores."""
    table = pq.read_table(path)
    return Scores({name: table[name].to_numpy() for name in table.column_names})
