"""Prints the tables of `manyscale.reporting.tables` on a terminal, notes on stderr beside them."""

from collections.abc import Sequence

from rich import table as rich_table
from rich.box import SIMPLE
from rich.console import Console

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


def print_table(table: Table) -> None:
    """Print a table on stdout, figures to the right, and its note on stderr; nothing without rows."""
    if not table.rows:
        return
    drawn = rich_table.Table(
        title=printable(table.title) or None,
        title_justify="left",
        title_style="bold",
        box=SIMPLE,
        padding=(0, 1, 0, 0),
        show_header=bool(table.header),
    )
    names = table.header or [""] * len(table.rows[0])
    for name, figures in zip(names, table.figures, strict=True):
        drawn.add_column(printable(name), justify="right" if figures else "left", overflow="fold")
    for row in table.rows:
        drawn.add_row(*map(printable, row))
    wide = Console(highlight=False, markup=False)
    if not wide.is_terminal:
        wide.width = _PLAIN_WIDTH
    wide.print(drawn)
    if table.note:
        errors = Console(highlight=False, markup=False, stderr=True)
        errors.print(printable(table.note), style="dim", soft_wrap=True)


def _print_lines(lines: Sequence[str]) -> None:
    for line in filter(None, lines):
        Console(highlight=False, markup=False).print(printable(line), soft_wrap=True)


def print_metrics(metrics: Metrics) -> None:
    """Print the figures of a run, of all its classifiers, and what is missing and why."""
    print_table(tables.classifier_table(metrics))
    print_table(tables.yields_table(metrics))
    print_table(tables.cuts_table(metrics))
    print_table(tables.sculpting_table(metrics.sculpting))
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
    print_table(tables.comparison_table(rows))
    if curves:
        print_table(tables.learning_table(curves))


def print_cutflow(processes: Sequence[Process]) -> None:
    """Print the processes, and how much of each passed each step of the selection."""
    if any(process.cutflow for process in processes):
        print_table(tables.process_table(processes))
        print_table(tables.cutflow_table(processes))
