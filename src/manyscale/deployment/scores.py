"""Files of scores: one row an event, in the input's order, as npz, Parquet or ROOT."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from manyscale.data.packing import PackedEvents
from manyscale.errors import DataError, MissingExtraError

__all__ = ["FORMATS", "Scores", "check_target", "read_scores", "write_scores"]

FORMATS = (".npz", ".parquet", ".root")


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

    @staticmethod
    def concatenate(parts: Sequence["Scores"]) -> "Scores":
        """Join the scores of several batches of events."""
        names = parts[0].columns
        return Scores(
            {name: np.concatenate([part.columns[name] for part in parts]) for name in names}
        )


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
    draft = path.with_name(f".{path.name}.tmp{path.suffix}")
    columns = {name: np.ascontiguousarray(values) for name, values in scores.columns.items()}
    try:
        if path.suffix == ".npz":
            np.savez_compressed(draft, **columns)  # type: ignore[arg-type]
        elif path.suffix == ".parquet":
            pq.write_table(pa.table(columns), draft)
        else:
            with _uproot().recreate(draft) as file:
                file.mktree("scores", {name: values.dtype for name, values in columns.items()})
                file["scores"].extend(columns)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def read_scores(path: Path) -> Scores:
    """Read back a Parquet file of scores."""
    table = pq.read_table(path)
    return Scores({name: table[name].to_numpy() for name in table.column_names})
