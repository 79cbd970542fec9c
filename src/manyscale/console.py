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

__all__ = [
    "ConsoleProgress",
    "print_comparison",
    "print_cutflow",
    "print_explanation",
    "print_limits",
    "print_metrics",
    "table",
]

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
        _print_yields(metrics["yields"], metrics["significance"]["best"])
        _print_significance(metrics["significance"], trees["significance"])
    if "sculpting" in metrics:
        _print_sculpting(metrics["sculpting"])
    for line in _notices(metrics):
        Console(highlight=False, markup=False).print(line, soft_wrap=True)


def _print_yields(yields: Mapping[str, Any], best: Mapping[str, Any] | None) -> None:
    """Print expected events by process, before and above the network's best cut."""
    above = {} if best is None else best["processes"]
    header = ["process", "expected", "simulated", "effective"]
    header += ["above best cut", "effective"] if above else []
    rows = []
    for name, every in yields["processes"].items():
        row = [name, _events(every), f"{every['n_events']:,}", f"{every['n_effective']:,.0f}"]
        row += [_events(above[name]), f"{above[name]['n_effective']:,.1f}"] if above else []
        rows.append(row)
    table(f"expected at {yields['luminosity']:g} fb^-1, physical weights", header, rows)


def _events(found: Mapping[str, Any]) -> str:
    return f"{found['expected']:.4g} ± {found['error']:.2g}"


def _print_significance(network: Mapping[str, Any], trees: Mapping[str, Any]) -> None:
    """Print the best cuts of both classifiers for each systematic error of the background."""
    header = ["background to", "classifier", "cut", "signal", "background", "effective", "sigma"]
    rows = [
        [f"{one['background']:.0%}", name, *_best_cut(one["best"])]
        for places in zip(network["systematics"], trees["systematics"], strict=True)
        for name, one in zip(("network", "trees"), places, strict=True)
    ]
    table("best cut on the score, with the simulation's error, physical weights", header, rows)


def _best_cut(best: Mapping[str, Any] | None) -> list[str]:
    if best is None:
        return ["none", "", "", "", ""]
    return [
        f"{best['cut']:.4f}",
        f"{best['signal']:.4g} ± {best['signal_error']:.2g}",
        f"{best['background']:.4g} ± {best['background_error']:.2g}",
        f"{best['background_n_effective']:.1f}",
        f"{best['value']:.3g} ± {best['value_error']:.2g}",
    ]


def _print_sculpting(sculpting: Mapping[str, Any]) -> None:
    """Print how far cuts bend the masses of the background."""
    rows = [
        [f"{one['background_efficiency']:.0%}", name, *_divergence(one)]
        for places in zip(sculpting["network"], sculpting["trees"], strict=True)
        for name, one in zip(("network", "trees"), places, strict=True)
    ]
    title = f"{sculpting['observable']} of background that passes, against the rest, class-balanced"
    table(title, ["passes", "classifier", "divergence [bits]", "by chance"], rows)


def _divergence(one: Mapping[str, Any]) -> list[str]:
    return [
        "unknown"
        if one[value] is None or one[error] is None
        else f"{one[value]:.3f} ± {one[error]:.3f}"
        for value, error in (("divergence", "error"), ("by_chance", "by_chance_spread"))
    ]


def _notices(metrics: Mapping[str, Any]) -> list[str]:
    """Sentences on what is missing, and on too few simulated events, each once."""
    lines = [metrics.get(key, "") for key in ("yields_missing", "sculpting_missing")]
    lines.append(metrics.get("yields", {}).get("notice", ""))
    for name, figures in (("network", metrics), ("trees", metrics["trees"])):
        if notice := figures.get("significance", {}).get("notice"):
            lines.append(f"{name}: {notice}")
    return [line for line in lines if line]


def print_limits(found: Mapping[str, Any]) -> None:
    """Print expected limits and significance; `found` as in limits.json."""
    header = ["signal", "classifier", "limit on mu", "68% band", "limit [fb]", "sigma", "no syst."]
    rows = [
        [_signal_name(row), name, *_limit_cells(row)]
        for name, classifier in found["classifiers"].items()
        for row in classifier["hypotheses"]
    ]
    confidence = f"{found['confidence']:.0%} CL, {found['luminosity']:g} fb^-1, physical weights"
    table(f"expected limits, {confidence}", header, rows)
    systematics = ", ".join(found["systematics"]) or "none in the card"
    Console(highlight=False, stderr=True, markup=False).print(
        f"Errors from the number of simulated events. Systematics: {systematics}; no syst.: sigma "
        "without them.",
        style="dim",
        soft_wrap=True,
    )
    for line in [*_counting_lines(found), *found["notices"]]:
        Console(highlight=False, markup=False).print(line, soft_wrap=True)


def _signal_name(row: Mapping[str, Any]) -> str:
    return row["signal"] if row["mass"] is None else f"{row['signal']}, {row['mass']:g} GeV"


def _limit_cells(row: Mapping[str, Any]) -> list[str]:
    mu, error = row["mu"], row["mu_error"]
    return [
        f"{mu['0']:.4g} ± {error:.2g}",
        f"{mu['-1']:.3g} to {mu['1']:.3g}",
        f"{row['limit_fb']['0']:.4g}",
        f"{row['significance']:.3g} ± {row['significance_error']:.1g}",
        f"{row['significance_statistics_only']:.3g}",
    ]


def _counting_lines(found: Mapping[str, Any]) -> list[str]:
    """Where counting above the best cut is beyond the asymptotic formula: what toys say."""
    return [
        f"{name}: counting above {row['cut']:.4f} ({row['signal']:.3g} over "
        f"{row['background']:.3g}): {row['toys']:.2f} sigma by toys, {row['asymptotic']:.2f} by the "
        "asymptotic formula: trust the toys."
        for name, rows in found["counting"].items()
        for row in rows
        if row["cut"] is not None and row["trust"] == "toys"
    ]


def print_explanation(found: Mapping[str, Any]) -> None:
    """Print what each stream is worth; `found` as in explanation/summary.json."""
    header = ["stream", "attention", "Grad-CAM", "AUC lost", "rejection lost by"]
    table("", header, [_stream_row(row) for row in found["streams"]])
    counts = " and ".join(f"{count:,} {name}" for name, count in found["deep_events"].items())
    meaning = (
        "attention: part that the class token of the fusion gives to the stream's tokens; Grad-CAM: "
        "part of the importance; lost: when the stream is shuffled between events "
        f"({counts} events). Class-balanced. Attention alone is weak evidence."
    )
    Console(highlight=False, stderr=True).print(meaning, style="dim", soft_wrap=True)
    for notice in found["notices"]:
        Console(highlight=False, markup=False).print(notice, soft_wrap=True)


def _stream_row(row: Mapping[str, Any]) -> list[str]:
    factor = row["rejection_factor"]
    return [
        row["stream"],
        "" if row["attention"] is None else f"{row['attention']:.0%}",
        f"{row['importance']:.0%}",
        _with_error(row["auc_loss"], row["auc_loss_error"], sign="+"),
        "unknown"
        if factor is None
        else f"{factor:.1f} ({row['rejection_low']:.1f}-{row['rejection_high']:.1f})",
    ]


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


def _passed(process: Process) -> str:
    """Part of the generated weights that passes all steps."""
    first, last = process.cutflow[0].sum_weights, process.cutflow[-1].sum_weights
    return f"{last / first:.3g}" if first > 0 else "unknown"


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
    rows.append(["part that passes", *(_passed(process) for process in shown)])
    known = [process.cross_section for process in shown]
    rows.append(["cross section [pb]", *("unknown" if x is None else f"{x:.4g}" for x in known)])
    table("cutflow: events", ["step", *(process.name for process in shown)], rows)
