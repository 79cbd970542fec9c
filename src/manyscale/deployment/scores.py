"""Files of scores: one row an event, in the input's order, as npz, Parquet or ROOT."""

import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from manyscale.data.packing import PackedEvents
from manyscale.errors import DataError, MissingExtraError, RunError
from manyscale.writing import whole

__all__ = ["FORMATS", "Scores", "check_target", "column_of", "read_scores", "write_scores"]

FORMATS = (".npz", ".parquet", ".root")

# Rows held in memory, and brought to the file's format, at a time.
_PIECE = 1 << 17


@dataclass(frozen=True)
class Scores:
    """Scores of some events.

    Attributes
    ----------
    columns
        Named arrays (events,): `event_id`, `score` (the network's signal probability; NaN where not
        `selected`), `score_trees` and `score_combined` where the run has them, `selected`, `split`,
        and `process`, `label`, `weight` and observables where they are known.
    """

    columns: Mapping[str, NDArray[np.generic]]

    @staticmethod
    def of(
        events: PackedEvents,
        scores: Mapping[str, NDArray[np.floating]],
        split: str | NDArray[np.str_],
        processes: Sequence[str] = (),
        *,
        labelled: bool,
    ) -> "Scores":
        """Put the scores of events beside what is known of them.

        Parameters
        ----------
        scores
            By classifier, the `network` first.
        split
            Of each event, or of all.
        processes
            Names of those that `events.process` counts; none: they are not known.
        labelled
            Whether label and weight are known.
        """
        columns: dict[str, NDArray[np.generic]] = {
            "event_id": events.event_id,
            **{column_of(name): values for name, values in scores.items()},
            "selected": np.ones(len(events), np.bool_),
            "split": np.broadcast_to(np.asarray(split), len(events)),
        }
        if processes:
            # The last, of which the place is -1, is that of events of no known process.
            columns["process"] = np.array([*processes, ""])[events.process]
        if labelled:
            columns |= {"label": events.label.astype(np.int8), "weight": events.weight}
        further = {n: of for n, of in events.observables.items() if n not in columns}
        return Scores(columns | further)

    def as_friend(self) -> "Scores":
        """Return the columns that the events do not have themselves."""
        own = {"event_id", "selected", "split"}
        return Scores(
            {n: of for n, of in self.columns.items() if n in own or n.partition("_")[0] == "score"}
        )

    def __len__(self) -> int:
        """Return the number of events."""
        return len(self.columns["event_id"])


def column_of(classifier: str) -> str:
    """Name of the column with the scores of a classifier: the network's is plainly `score`."""
    return "score" if classifier == "network" else f"score_{classifier}"


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


def write_scores(path: Path, batches: Iterable[Scores]) -> None:
    """Write scores batch by batch, in memory that does not grow with their number.

    Parameters
    ----------
    path
        Ends in one of `FORMATS`. An existing file is replaced whole, at the end; where a batch fails,
        it stays as it was and nothing else is left.
    batches
        Of the same columns.
    """
    # A column gets the type that holds all its values, which only the last batch tells: until
    # then the batches wait on disk, in a file without a name.
    with whole(path) as draft, TemporaryFile(dir=path.parent) as aside:
        types: dict[str, np.dtype[Any]] = {}
        pieces: list[int] = []  # where they begin
        waiting: list[Scores] = []
        rows = 0

        def set_aside() -> None:
            pieces.append(aside.tell())
            columns = {n: np.concatenate([batch.columns[n] for batch in waiting]) for n in types}
            table = pa.table(columns)
            with pa.ipc.new_stream(aside, table.schema) as stream:
                stream.write_table(table)
            waiting.clear()

        for batch in batches:
            for name, values in batch.columns.items():
                types[name] = np.result_type(types.get(name, values.dtype), values.dtype)
            waiting.append(batch)
            rows += len(batch)
            if sum(map(len, waiting)) >= _PIECE:
                set_aside()
        if waiting:
            set_aside()

        def tables(*names: str) -> Iterator[dict[str, NDArray[Any]]]:
            for piece in pieces:
                aside.seek(piece)
                table = pa.ipc.open_stream(aside).read_all()
                yield {name: table[name].to_numpy().astype(types[name]) for name in names}

        _write(draft, path.suffix, types, rows, tables)


def _write(
    path: Path,
    suffix: str,
    types: Mapping[str, np.dtype[Any]],
    rows: int,
    tables: Callable[..., Iterator[dict[str, NDArray[Any]]]],
) -> None:
    """Write tables of some columns, which can be read time and again, in a format."""
    if suffix == ".npz":
        # Column by column: in an npz one array ends before the next begins.
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, dtype in types.items():
                descr = npy_format.dtype_to_descr(dtype)
                header = {"descr": descr, "fortran_order": False, "shape": (rows,)}
                with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                    npy_format.write_array_header_1_0(file, header)
                    for table in tables(name):
                        file.write(table[name].tobytes())
    elif suffix == ".parquet":
        schema = pa.schema(
            {n: pa.string() if t.kind == "U" else pa.from_numpy_dtype(t) for n, t in types.items()}
        )
        with pq.ParquetWriter(path, schema, write_page_checksum=True) as writer:
            for table in tables(*types):
                writer.write_table(pa.table(table))
    else:
        with _uproot().recreate(path) as root:
            root.mktree("scores", {n: "string" if t.kind == "U" else t for n, t in types.items()})
            for table in tables(*types):
                root["scores"].extend(table)


def read_scores(path: Path) -> Scores:
    """Read back a Parquet file of scores.

    Raises
    ------
    RunError
        Where it is missing or damaged.
    """
    try:
        table = pq.read_table(path, page_checksum_verification=True)
        return Scores({name: table[name].to_numpy() for name in table.column_names})
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        raise RunError(
            f"the scores {path} cannot be read ({error}): evaluate the run again"
        ) from error
