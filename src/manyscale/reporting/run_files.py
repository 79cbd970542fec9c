"""Reads what a run folder holds, for its report: each file checked, each absence noted."""

import csv
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from manyscale.data.schema import Process
from manyscale.errors import RunError

__all__ = ["ComparisonRow", "DataFacts", "Figures", "Rejection", "RunFiles", "read_history"]

T = TypeVar("T")


class _Part(BaseModel):
    """Part of a JSON file of a run; what a report does not need is passed over."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Rejection(_Part):
    """Background rejection at one signal efficiency; `value` None where only a limit is known."""

    value: float | None
    low: float
    high: float | None


class Difference(_Part):
    """AUC of one classifier minus that of another on the same events, and its paired error."""

    auc: float
    auc_error: float | None = None


class ComparisonRow(_Part):
    """One classifier of several on the same test events.

    Attributes
    ----------
    difference, difference_error
        AUC of this one minus that of `difference_to`, paired, and its error.
    parameters, events_per_second
        Of the network, and of its training; None where they mean nothing.
    """

    name: str
    auc: float
    auc_error: float | None = None
    difference_to: str = ""
    difference: float | None = None
    difference_error: float | None = None
    background_rejection: dict[str, Rejection] = {}
    parameters: int | None = None
    events_per_second: float | None = None


class Figures(_Part):
    """One classifier's figures of merit, as in metrics.json."""

    auc: float
    auc_error: float | None = None
    accuracy: float | None = None
    loss: float | None = None
    n_events: int | None = None
    n_effective: float | None = None
    events_per_second: float | None = None
    background_rejection: dict[str, Rejection] = {}


class _Trees(Figures):
    """The trees' part of metrics.json."""

    network_minus_trees: Difference | None = None


class _Yield(_Part):
    """Expected events with their error from the number of simulated events."""

    label: str = ""
    expected: float
    error: float
    n_events: int
    n_effective: float


class _Yields(_Part):
    """Expected events at a luminosity in fb^-1."""

    luminosity: float
    processes: dict[str, _Yield] = {}
    signal: _Yield
    background: _Yield


class _Cut(_Part):
    """What a cut on the score keeps, and its significance without and with the error of b."""

    cut: float
    signal: float
    signal_error: float
    background: float
    background_error: float
    value: float
    value_with_mc_error: float


class _Significance(_Part):
    """The best cut; None where none leaves enough simulated background."""

    least_background_events: float
    best: _Cut | None


class _Metrics(Figures):
    """The whole of metrics.json."""

    trees: _Trees | None = None
    yields: _Yields | None = None
    significance: _Significance | None = None


class DataFacts(_Part):
    """data.json: processes, events of each class in each split, dropped tokens, what was odd."""

    processes: tuple[Process, ...] = ()
    splits: dict[str, dict[str, int]] = {}
    dropped_tokens: dict[str, float] = {}
    notices: tuple[str, ...] = ()


class _BlockRow(_Part):
    """A row of the layer table."""

    name: str
    lines: tuple[str, ...]
    output: str
    parameters: int
    shared_with: str = ""


class _NetworkTable(_Part):
    """summary.json."""

    blocks: tuple[_BlockRow, ...] = ()
    parameters: int = 0


class _RankingRow(_Part):
    """A row of plots/separation.json."""

    stream: str
    feature: str
    separation: float


@dataclass(frozen=True)
class RunFiles:
    """All that a report tells of a run; what the run does not have is None or empty."""

    card: str
    provenance: Mapping[str, Any]
    metrics: _Metrics
    history: tuple[Mapping[str, float], ...]
    data: DataFacts | None
    network: _NetworkTable | None
    flow_chart: str | None
    comparison: tuple[ComparisonRow, ...]
    separation: tuple[_RankingRow, ...]
    plots: Mapping[str, str]

    @classmethod
    def read(cls, folder: Path) -> "RunFiles":
        """Read a run folder.

        Raises
        ------
        RunError
            Where card.yaml, provenance.json, metrics.json or history.csv is missing, or any file is
            not what it should be; the message names the file.
        """
        metrics = _json(folder / "metrics.json", _Metrics)
        provenance = _json(folder / "provenance.json", dict[str, Any])
        return cls(
            card=_text(folder / "card.yaml"),
            provenance=provenance,
            metrics=metrics,
            history=read_history(folder / "history.csv"),
            data=_if_there(folder / "data.json", DataFacts),
            network=_if_there(folder / "summary.json", _NetworkTable),
            flow_chart=_text(chart) if (chart := folder / "flow_chart.svg").is_file() else None,
            comparison=_if_there(folder / "comparison.json", tuple[ComparisonRow, ...]) or (),
            separation=_if_there(folder / "plots" / "separation.json", tuple[_RankingRow, ...])
            or (),
            plots={path.stem: _text(path) for path in sorted((folder / "plots").glob("*.svg"))},
        )


def read_history(path: Path) -> tuple[Mapping[str, float], ...]:
    """Read the rows of history.csv; what a row leaves empty is NaN.

    Raises
    ------
    RunError
        Where the file is missing or holds something other than numbers.
    """
    rows = csv.DictReader(_text(path).splitlines())
    try:
        return tuple(
            {key: float(value) if value else math.nan for key, value in row.items()} for row in rows
        )
    except (ValueError, TypeError) as error:
        raise RunError(f"{path}, line {rows.line_num}: not a row of numbers ({error})") from error


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RunError(
            f"{path.parent} has no {path.name}: finish the run first, `manyscale train` with "
            f"--resume, then `manyscale evaluate`"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"cannot read {path}: {error}") from error


def _json(path: Path, kind: type[T]) -> T:
    text = _text(path)
    try:
        return TypeAdapter(kind).validate_python(json.loads(text))
    except json.JSONDecodeError as error:
        raise RunError(f"{path} is not JSON: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise RunError(f"{path}, {where}: {first['msg']}") from error


def _if_there(path: Path, kind: type[T]) -> T | None:
    return _json(path, kind) if path.is_file() else None
