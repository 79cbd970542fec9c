"""Writes the report of a comparison: one HTML file that needs nothing else, from its table and plots."""

import shlex
from pathlib import Path

from manyscale.evaluation.results import ComparisonRow, LearningCurve
from manyscale.reporting import findings, tables
from manyscale.reporting.report import MOST_BYTES, figures_by_section, rows_if_there, write_page

__all__ = ["COMPARISON", "CURVES", "read_curves", "write_comparison_report"]

#: Names of the files of the table and of the learning curves.
COMPARISON, CURVES = "comparison.json", "learning.json"


def read_curves(folder: Path) -> tuple[LearningCurve, ...]:
    """Read the learning curves of a comparison; none where no sizes were run."""
    return rows_if_there(folder / CURVES, LearningCurve)


def write_comparison_report(folder: Path) -> Path:
    """Write report.html into the folder of a comparison, from comparison.json, learning.json and plots/.

    Raises
    ------
    RunError
        Where a file is not what it should be.
    """
    rows = rows_if_there(folder / COMPARISON, ComparisonRow)
    # What is found at the largest size is what is told.
    largest = max((row.size or 0 for row in rows), default=0)
    last = [row for row in rows if (row.size or 0) == largest]
    sections = figures_by_section(folder / "plots", MOST_BYTES)
    context = {
        "name": folder.resolve().name,
        "path": shlex.quote(str(folder)),
        "tables": tables,
        "rows": rows,
        "last": last,
        "largest": largest,
        "best": max(last, key=lambda row: row.auc, default=None),
        "sentences": [sentence for row in last if (sentence := findings.compare(row))],
        "curves": read_curves(folder),
        "figures": [*sections["summary"], *sections["comparison"]],
    }
    return write_page(folder, "comparison.html.jinja", context)
