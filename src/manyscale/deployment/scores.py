"""Files of scores: one row an event, in the input's order, as npz, Parquet or ROOT."""

import zipfile
from collections.abc import Iterator, Mapping
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

# Rows held in memory, and brought to the file's format, at a time.
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
        self._types: dict[str, np.dtype[Any]] = {}
        self._waiting: list[Scores] = []
        self._pieces: list[Path] = []
        self._rows = 0

    def __enter__(self) -> Self:
        """Begin, in a hidden folder beside the file."""
        name = f".{self._path.name}."
        self._scratch = TemporaryDirectory(prefix=name, suffix=".tmp", dir=self._path.parent)
        return self

    def add(self, scores: Scores) -> None:
        """Write the scores of further events, of the same columns."""
        # A column gets the type that holds all its values, which only the last batch tells.
        for name, values in scores.columns.items():
            self._types[name] = np.result_type(self._types.get(name, values.dtype), values.dtype)
        self._waiting.append(scores)
        self._rows += len(scores)
        if sum(map(len, self._waiting)) >= _PIECE:
            self._set_aside()

    def _set_aside(self) -> None:
        """Put what waits on disk."""
        columns = [np.concatenate([s.columns[n] for s in self._waiting]) for n in self._types]
        piece = Path(self._scratch.name) / f"{len(self._pieces)}.npz"
        np.savez(piece, *columns)
        self._pieces.append(piece)
        self._waiting = []

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Put the file in its place, if all went well."""
        with self._scratch:
            if kind is None:
                if self._waiting:
                    self._set_aside()
                draft = Path(self._scratch.name) / f"whole{self._path.suffix}"
                write = {".npz": self._npz, ".parquet": self._parquet, ".root": self._root}
                write[self._path.suffix](draft)
                draft.replace(self._path)

    def _values(self, name: str) -> Iterator[NDArray[Any]]:
        """The values of a column, piece by piece."""
        index = list(self._types).index(name)
        for piece in self._pieces:
            with np.load(piece, allow_pickle=False) as columns:
                yield columns[f"arr_{index}"].astype(self._types[name])

    def _tables(self) -> Iterator[dict[str, NDArray[Any]]]:
        """All columns, piece by piece."""
        for values in zip(*map(self._values, self._types), strict=True):
            yield dict(zip(self._types, values, strict=True))

    def _npz(self, path: Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, dtype in self._types.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                    descr = npy_format.dtype_to_descr(dtype)
                    header = {"descr": descr, "fortran_order": False, "shape": (self._rows,)}
                    npy_format.write_array_header_1_0(file, header)
                    for values in self._values(name):
                        file.write(values.tobytes())

    def _parquet(self, path: Path) -> None:
        types = {name: pa.from_numpy_dtype(dtype) for name, dtype in self._types.items()}
        with pq.ParquetWriter(path, pa.schema(types)) as writer:
            for table in self._tables():
                writer.write_table(pa.table(table))

    def _root(self, path: Path) -> None:
        with _uproot().recreate(path) as file:
            file.mktree("scores", self._types)
            for table in self._tables():
                file["scores"].extend(table)


def read_scores(path: Path) -> Scores:
    """Read back a Parquet file of scores."""
    table = pq.read_table(path)
    return Scores({name: table[name].to_numpy() for name in table.column_names})
