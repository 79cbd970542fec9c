"""What the command line shows while it works: bars on a terminal, plain lines elsewhere."""

import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, Self

from rich.box import SIMPLE
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from manyscale.data.schema import Process

__all__ = ["ConsoleProgress", "print_comparison", "print_cutflow", "print_metrics", "table"]

# Seconds between two lines where there is no terminal to draw a bar on.
_INTERVAL = 10.0
_PLAIN_WIDTH = 120
_FIGURE = re.compile(r"(unknown|[-+>]? ?[\d.,]+(e[-+]\d+)?.*)?")


class ConsoleProgress:
    """Shows long work on stderr; see `manyscale.progress.Progress`."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._what = ""
        self._unit = ""
        self._note = ""
        self._total = 0
        self._done = 0
        self._first = 0
        self._begun = 0.0
        self._last_line = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        """Give the terminal back, whatever happened."""
        if self._bar is not None:
            self._bar.stop()

    def start(self, what: str, total: int, unit: str, done: int = 0) -> None:
        """Begin a bar, or the first plain line."""
        self.stop()
        self._what, self._unit, self._note = what, unit, ""
        self._total, self._done, self._first = total, done, done
        self._begun = self._last_line = time.monotonic()
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TextColumn("left"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=self._console,
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task(what, total=total, completed=done, rate="", note="")
        else:
            self.say(f"{what}: {total} {unit}" + (f", {done} are done already" if done else ""))

    def advance(self, units: int, note: str = "") -> None:
        """Move the bar; without a terminal, write a line now and then, and for each note."""
        self._done += units
        self._note = note or self._note
        if self._bar is not None:
            self._bar.update(
                self._task,
                completed=self._done,
                rate=f"{self._rate():.0f} {self._unit}/s",
                note=self._note,
            )
        elif note or time.monotonic() - self._last_line > _INTERVAL:
            self._last_line = time.monotonic()
            self.say(self._line())

    def _rate(self) -> float:
        return (self._done - self._first) / max(time.monotonic() - self._begun, 1e-9)

    def _line(self) -> str:
        rate = self._rate()
        left = (self._total - self._done) / rate if rate else 0.0
        note = f", {self._note}" if self._note else ""
        return (
            f"{self._what}: {self._done} of {self._total} {self._unit}, {rate:.0f} a second, "
            f"{left:.0f} s left{note}"
        )

    def stop(self) -> None:
        """End the bar and leave one line of what was done."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        if self._what:
            seconds = time.monotonic() - self._begun
            note = f"; {self._note}" if self._note else ""
            self.say(f"{self._what}: {self._done} {self._unit} in {seconds:.1f} s{note}")
            self._what = ""

    def say(self, line: str) -> None:
        """Write a line that stays."""
        self._console.print(line, markup=False, soft_wrap=True)


def table(title: str, header: list[str], rows: list[list[str]]) -> None:
    """Print a table on stdout, figures to the right."""
    drawn = Table(
        title=title or None,
        title_justify="left",
        title_style="bold",
        box=SIMPLE,
        padding=(0, 1, 0, 0),
    )
    for place, name in enumerate(header):
        figures = place > 0 and all(_FIGURE.fullmatch(row[place]) for row in rows)
        drawn.add_column(name, justify="right" if figures else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*row)
    wide = Console(highlight=False, markup=False)
    if not wide.is_terminal:
        wide.width = _PLAIN_WIDTH  # nothing says how wide a file or pipe is
    wide.print(drawn)


def print_metrics(metrics: Mapping[str, Any]) -> None:
    """Print the figures of a run, the trees beside the network; `metrics` as in metrics.json."""
    trees = metrics["trees"]
    minus = trees["network_minus_trees"]
    against = {"difference": -minus["auc"], "difference_error": minus["auc_error"]}
    nothing = {"parameters": None, "events_per_second": None}
    print_comparison(
        [{"name": "network", **metrics}, {"name": "trees", **nothing, **trees, **against}]
    )
    if "yields" in metrics:
        _print_yields(metrics["yields"], metrics["significance"])


def _print_yields(yields: Mapping[str, Any], significance: Mapping[str, Any]) -> None:
    parts = [f"{yields[kind]['expected']:.4g} {kind}" for kind in ("signal", "background")]
    line = f"expected at {yields['luminosity']:g} fb^-1: {parts[0]}, {parts[1]} events"
    best = significance["best"]
    if best is None:
        found = "no cut leaves enough simulated background for a significance"
    else:
        found = (
            f"best cut {best['cut']:.3f}: {best['signal']:.4g} over {best['background']:.4g}, "
            f"{best['value_with_mc_error']:.2g} sigma with the error of the simulation"
        )
    Console(highlight=False).print(f"{line}; {found}", soft_wrap=True)


def print_comparison(rows: Sequence[Mapping[str, Any]], trainings: int = 1) -> None:
    """Print classifiers judged on the same events; see `manyscale.evaluation.compare`."""
    header = ["classifier", "AUC", "minus first", "rej. 50%", "rej. 70%", "params"]
    table("", header, [_comparison_row(row) for row in rows])
    meaning = (
        "with the paired error; rejections with their 68% interval"
        if trainings == 1
        else f"all means over {trainings} trainings with other seeds, and so splits, with their errors"
    )
    Console(highlight=False, stderr=True).print(
        f"Test events, class-balanced. minus first: AUC minus the first's; {meaning}.\n"
        "0.9554(28) is 0.9554 ± 0.0028; rej. 50%: background rejection with half the signal kept.",
        style="dim",
        soft_wrap=True,
    )


def _comparison_row(row: Mapping[str, Any]) -> list[str]:
    difference = row.get("difference")
    return [
        row["name"],
        _with_error(row["auc"], row["auc_error"]),
        "" if difference is None else _with_error(difference, row["difference_error"], sign="+"),
        *(_rejection(row["background_rejection"][key]) for key in ("0.50", "0.70")),
        "" if row["parameters"] is None else f"{row['parameters']:,}",
    ]


def _with_error(value: float, error: float | None, sign: str = "") -> str:
    return f"{value:{sign}.4f}" + ("" if error is None else f"({error * 1e4:.0f})")


def _rejection(point: Mapping[str, float | None]) -> str:
    if point["value"] is None:
        return f"> {point['low']:.0f}"
    return f"{point['value']:.0f} ({point['low']:.0f}-{point['high']:.0f})"


def print_cutflow(processes: Sequence[Process]) -> None:
    """Print how many events of each process passed each step of the selection."""
    shown = [process for process in processes if process.cutflow]
    if not shown:
        return
    steps = [step.step for step in shown[0].cutflow]
    rows = [
        [step, *(f"{process.cutflow[place].events:,}" for process in shown)]
        for place, step in enumerate(steps)
    ]
    passed = [process.cutflow[-1].events / max(1, process.cutflow[0].events) for process in shown]
    rows.append(["part that passes", *(f"{part:.3f}" for part in passed)])
    known = [process.cross_section for process in shown]
    rows.append(["cross section [pb]", *("unknown" if x is None else f"{x:.4g}" for x in known)])
    table("cutflow: events", ["step", *(process.name for process in shown)], rows)
