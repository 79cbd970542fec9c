"""Reads what a run folder holds, for its report: each file checked, each absence noted."""

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from manyscale.data.schema import Process
from manyscale.errors import RunError
from manyscale.reporting.display_file import Display
from manyscale.reporting.explanation_files import Explanations
from manyscale.reporting.json_files import Part, read_json, read_json_if_there, read_text
from manyscale.reporting.limit_file import LimitFile
from manyscale.reporting.metrics_file import Metrics, Rejection

__all__ = ["ComparisonRow", "DataFacts", "RunFiles", "read_history"]


class ComparisonRow(Part):
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
    background_rejection: dict[str, Rejection] = Field(default_factory=dict)
    parameters: int | None = None
    events_per_second: float | None = None


class DataFacts(Part):
    """data.json: processes, events of each class in each split, dropped tokens, what was odd."""

    processes: tuple[Process, ...] = ()
    splits: dict[str, dict[str, int]] = Field(default_factory=dict)
    dropped_tokens: dict[str, float] = Field(default_factory=dict)
    notices: tuple[str, ...] = ()


class _BlockRow(Part):
    """A row of the layer table."""

    name: str
    lines: tuple[str, ...]
    output: str
    parameters: int
    shared_with: str = ""


class _NetworkTable(Part):
    """summary.json."""

    blocks: tuple[_BlockRow, ...] = ()
    parameters: int = 0


class _RankingRow(Part):
    """A row of plots/separation.json."""

    stream: str
    feature: str
    separation: float


@dataclass(frozen=True)
class RunFiles:
    """All that a report tells of a run; what the run does not have is None or empty."""

    card: str
    provenance: Mapping[str, Any]
    metrics: Metrics
    history: tuple[Mapping[str, float], ...]
    data: DataFacts | None
    network: _NetworkTable | None
    flow_chart: str | None
    comparison: tuple[ComparisonRow, ...]
    separation: tuple[_RankingRow, ...]
    limits: LimitFile | None
    explanation: Explanations | None
    display: Display | None
    plots: Mapping[str, str]
    tables: Mapping[str, str]

    @classmethod
    def read(cls, folder: Path) -> "RunFiles":
        """Read a run folder.

        Raises
        ------
        RunError
            Where card.yaml, provenance.json, metrics.json or history.csv is missing, or any file is
            not what it should be; the message names the file.
        """
        metrics = read_json(folder / "metrics.json", Metrics)
        provenance = read_json(folder / "provenance.json", dict[str, Any])
        return cls(
            card=read_text(folder / "card.yaml"),
            provenance=provenance,
            metrics=metrics,
            history=read_history(folder / "history.csv"),
            data=read_json_if_there(folder / "data.json", DataFacts),
            network=read_json_if_there(folder / "summary.json", _NetworkTable),
            flow_chart=read_text(chart) if (chart := folder / "flow_chart.svg").is_file() else None,
            comparison=read_json_if_there(folder / "comparison.json", tuple[ComparisonRow, ...])
            or (),
            separation=read_json_if_there(
                folder / "plots" / "separation.json", tuple[_RankingRow, ...]
            )
            or (),
            limits=read_json_if_there(folder / "limits" / "limits.json", LimitFile),
            explanation=Explanations.read(folder / "explanation"),
            display=read_json_if_there(folder / "explanation" / "display.json", Display),
            plots=_texts(folder / "plots", "svg"),
            tables=_texts(folder / "plots", "csv"),
        )


def read_history(path: Path) -> tuple[Mapping[str, float], ...]:
    """Read the rows of history.csv; what a row leaves empty is NaN.

    Raises
    ------
    RunError
        Where the file is missing or holds something other than numbers.
    """
    rows = csv.DictReader(read_text(path).splitlines())
    try:
        return tuple(
            {key: float(value) if value else math.nan for key, value in row.items()} for row in rows
        )
    except (ValueError, TypeError) as error:
        raise RunError(f"{path}, line {rows.line_num}: not a row of numbers ({error})") from error


def _texts(folder: Path, suffix: str) -> dict[str, str]:
    return {path.stem: read_text(path) for path in sorted(folder.glob(f"*.{suffix}"))}
