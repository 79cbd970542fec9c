"""Prints the tables of `manyscale.reporting.tables` on a terminal, notes on stderr beside them."""

import os
import re
import textwrap
from collections.abc import Sequence

from rich import table as rich_table
from rich.box import SIMPLE
from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement

from manyscale.errors import printable
from manyscale.evaluation.results import ComparisonRow, Explanation, LearningCurve, Limits, Metrics
from manyscale.reporting import findings, tables
from manyscale.reporting.tables import Table
from manyscale.schema import Process

__all__ = [
    "print_comparison",
    "print_cutflow",
    "print_explanation",
    "print_limits",
    "print_metrics",
    "print_table",
]

_PLAIN_WIDTH = 140  # nothing says how wide a file or pipe is


def print_table(*some: Table) -> None:
    """Print tables on stdout, and their notes on stderr, what several say once.

    Those without rows are left out. No figure is broken: where a terminal is narrower than a table, this
    stands in pieces, one below the other, each with the first column.
    """
    wide = Console(highlight=False, markup=False)
    if not wide.is_terminal and "COLUMNS" not in os.environ:
        wide.width = _PLAIN_WIDTH
    unlimited = wide.options.update(width=10_000)
    errors = Console(highlight=False, markup=False, stderr=True)
    said: set[str] = set()
    for table in filter(lambda table: table.rows, some):
        rest, title = list(range(1, len(table.rows[0]))), table.title
        piece: list[int] = []
        while rest or not piece:
            piece = [0, *rest[:1]]
            for column in rest[1:]:
                drawn = _drawn(table, [*piece, column], title)
                if Measurement.get(wide, unlimited, drawn).minimum > wide.width:
                    break
                piece.append(column)
            wide.print(_drawn(table, piece, title))
            rest, title = rest[len(piece) - 1 :], ""
        sentences = re.split(r"(?<=\.) (?=[A-Z])", table.note)
        if note := " ".join(one for one in sentences if one not in said):
            errors.print(printable(note), style="dim", soft_wrap=True)
        said.update(sentences)


def _drawn(table: Table, columns: Sequence[int], title: str) -> rich_table.Table:
    """Some columns of a table, figures to the right and in one piece."""
    drawn = rich_table.Table(
        title=printable(title) or None,
        title_justify="left",
        title_style="bold",
        box=SIMPLE,
        padding=(0, 1, 0, 0),
        show_header=bool(table.header),
    )
    for column in columns:
        cells = [printable(row[column]) for row in table.rows]
        name = printable(table.header[column]) if table.header else ""
        figures = table.figures[column]
        # Of figures the name alone may have several lines, of texts no word is broken.
        whole = name.split() + (cells if figures else " ".join(cells).split())
        least = max(map(cell_len, whole), default=1)
        if figures:
            name = textwrap.fill(name, least)
        drawn.add_column(
            name,
            justify="right" if figures else "left",
            overflow="fold",
            no_wrap=figures,
            min_width=least,
        )
    for row in table.rows:
        drawn.add_row(*(printable(row[column]) for column in columns))
    return drawn


def _print_lines(lines: Sequence[str]) -> None:
    for line in filter(None, lines):
        Console(highlight=False, markup=False).print(printable(line), soft_wrap=True)


def print_metrics(metrics: Metrics) -> None:
    """Print the figures of a run, of all its classifiers, and what is missing and why."""
    print_table(
        tables.classifier_table(metrics),
        tables.yields_table(metrics),
        tables.cuts_table(metrics),
        tables.sculpting_table(metrics.sculpting),
    )
    lines = [findings.suspicion(metrics), findings.combination_sentence(metrics)]
    lines += [metrics.yields_missing, metrics.sculpting_missing]
    lines.append(metrics.yields.notice if metrics.yields else "")
    for name, figures in metrics.classifiers.items():
        if (found := figures.significance) and found.notice:
            lines.append(f"{name}: {found.notice}")
    _print_lines(lines)


def print_limits(limits: Limits) -> None:
    """Print expected limits and significance, and where exact counts are to be trusted instead."""
    print_table(tables.limits_table(limits))
    # Where counting above the best cut is beyond the asymptotic formula.
    doubts = [
        f"{name}: counting above {row.cut:.4f} ({row.signal:.3g} over {row.background:.3g}): "
        f"{row.exact:.2f} sigma by exact Poisson counts, {row.asymptotic:.2f} by the asymptotic "
        "formula: trust the counts."
        for name, rows in limits.counting.items()
        for row in rows
        if row.cut is not None and row.trust == "exact"
    ]
    _print_lines([*doubts, *limits.notices])


def print_explanation(explanation: Explanation) -> None:
    """Print attention and importance of each stream."""
    print_table(tables.importance_table(explanation))
    _print_lines(explanation.notices)


def print_comparison(rows: Sequence[ComparisonRow], curves: Sequence[LearningCurve] = ()) -> None:
    """Print classifiers on the same test events, and their learning curves."""
    learned = [tables.learning_table(curves)] if curves else []
    print_table(tables.comparison_table(rows), *learned)


def print_cutflow(processes: Sequence[Process]) -> None:
    """Print the processes, and how much of each passed each step of the selection."""
    if any(process.cutflow for process in processes):
        print_table(tables.process_table(processes), tables.cutflow_table(processes))
