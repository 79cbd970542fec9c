"""Tables of a run's numbers, described once: the report and the command line show the same."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from manyscale.data.schema import Process
from manyscale.evaluation.results import (
    BestCut,
    ComparisonRow,
    DataFacts,
    Explanation,
    Limits,
    Metrics,
    Sculpting,
    Separation,
    SignalLimit,
)
from manyscale.evaluation.yields import normalisation
from manyscale.model.summary import Summary
from manyscale.reporting.formatting import (
    UNKNOWN,
    count,
    percent,
    quantity,
    rejection,
    short,
    sigmas,
    signed,
    value,
)

__all__ = [
    "Table",
    "classifier_table",
    "comparison_table",
    "cutflow_table",
    "cuts_table",
    "effects_table",
    "history_table",
    "importance_table",
    "layer_table",
    "limits_table",
    "process_table",
    "provenance_table",
    "sculpting_table",
    "separation_table",
    "signal_name",
    "splits_table",
    "time_table",
    "yields_table",
]

_FIGURE = re.compile(rf"({UNKNOWN}|unknown|none|(above|under) .*|[-+−(]?[\d.,]+.*)?")
_SIMULATED = "Errors: from the number of simulated events."
_PHASES = {
    "data_seconds": "waiting for data",
    "forward_seconds": "forward",
    "backward_seconds": "backward",
    "optimizer_seconds": "optimizer",
    "validation_seconds": "validation",
}


@dataclass(frozen=True)
class Table:
    """A table in words.

    Attributes
    ----------
    title
        What it is of, without a full stop at its end.
    header
        Names of the columns; empty: they need none.
    rows
        One text a column.
    note
        Sentences on what the numbers mean.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    @property
    def figures(self) -> list[bool]:
        """Whether each column holds figures, which stand to the right; the first never does."""
        columns = list(zip(*self.rows, strict=True))
        return [
            number > 0 and all(_FIGURE.fullmatch(cell) for cell in column)
            for number, column in enumerate(columns)
        ]


# ---- classifiers ------------------------------------------------------------------------------


def classifier_table(metrics: Metrics) -> Table:
    """Figures of merit of the network, and of the trees beside it."""
    classifiers = [metrics, *([metrics.trees] if metrics.trees else [])]
    rows = [["AUC", *(value(one.auc, one.auc_error) for one in classifiers)]]
    if metrics.trees and (paired := metrics.trees.network_minus_trees):
        rows.append(["AUC, network minus trees", signed(paired.auc, paired.auc_error), ""])
    rows += [
        ["accuracy at one half", *(value(one.accuracy) for one in classifiers)],
        ["loss (cross-entropy)", *(value(one.loss) for one in classifiers)],
    ]
    rows += [
        [
            f"rejection at {key}",
            *(rejection(one.background_rejection.get(key)) for one in classifiers),
        ]
        for key in metrics.background_rejection
    ]
    rows += [
        ["test events", *(count(one.n_events) for one in classifiers)],
        ["effective test events", *(count(one.n_effective) for one in classifiers)],
    ]
    return Table(
        "figures of merit",
        ["", "network", "boosted trees"][: 1 + len(classifiers)],
        rows,
        "Test events, class-balanced weights. Rejection: one over the share of background that passes "
        "the cut which keeps the named share of signal, with its 68% interval from effective event "
        "counts; “above” is the limit where no background event is left.",
    )


def comparison_table(rows: Sequence[ComparisonRow], trainings: int = 1) -> Table:
    """Several classifiers on the same test events; see `manyscale.evaluation.compare`."""
    keys = [key for key in ("0.50", "0.70") if any(key in row.background_rejection for row in rows)]
    base = next((row.difference_to for row in rows if row.difference_to), "first")
    columns = {
        "classifier": [row.name for row in rows],
        "AUC": [value(row.auc, row.auc_error) for row in rows],
        f"minus {base}": [signed(row.difference, row.difference_error) for row in rows],
        **{
            f"rejection at {key}": [rejection(row.background_rejection.get(key)) for row in rows]
            for key in keys
        },
        "parameters": [count(row.parameters) for row in rows],
        "training events per second": [count(row.events_per_second) for row in rows],
    }
    errors = (
        "Differences are paired; rejections with their 68% interval."
        if trainings == 1
        else f"All means over {trainings} trainings with other seeds, and so splits, with their errors."
    )
    return _of_columns(
        "all on the same test events, class-balanced weights",
        columns,
        f"{errors} Rejection at 0.50: of background, with half the signal kept.",
    )


def _of_columns(title: str, columns: Mapping[str, Sequence[str]], note: str = "") -> Table:
    """A table of columns, those that say nothing left out."""
    said = {name: column for name, column in columns.items() if set(column) - {UNKNOWN, ""}}
    return Table(title, list(said), [list(row) for row in zip(*said.values(), strict=True)], note)


# ---- what an analysis would find --------------------------------------------------------------


def yields_table(metrics: Metrics) -> Table | None:
    """Expected events by process, before and above the network's best cut."""
    yields = metrics.yields
    if yields is None:
        return None
    best = metrics.significance.best if metrics.significance else None
    header = ["process", "class", "expected events", "simulated", "effective"]
    header += ["above the best cut", "effective"] if best else []
    of_all = {"all signal": yields.signal, "all background": yields.background}
    rows = []
    for name, every in {**yields.processes, **of_all}.items():
        cells = [name, "" if name in of_all else every.label, quantity(every.expected, every.error)]
        cells += [count(every.n_events), count(every.n_effective)]
        if best:
            above = best.processes.get(name)
            cells += (
                [quantity(above.expected, above.error), f"{above.n_effective:,.1f}"]
                if above
                else _above(name, best)
            )
        rows.append(cells)
    note = f"{_SIMULATED} Where few effective events stand for many expected, the yield is little known."
    return Table(f"expected at {yields.luminosity:g} fb^-1, physical weights", header, rows, note)


def _above(name: str, best: BestCut) -> list[str]:
    if name == "all signal":
        return [quantity(best.signal, best.signal_error), UNKNOWN]
    return [
        quantity(best.background, best.background_error),
        f"{best.background_n_effective:,.1f}",
    ]


def cuts_table(metrics: Metrics) -> Table | None:
    """Best cut of each classifier for each systematic uncertainty of the background."""
    found = [
        ("network", metrics.significance),
        ("trees", metrics.trees and metrics.trees.significance),
    ]
    rows = []
    for name, significance in found:
        for one in significance.systematics if significance else ():
            best, cells = one.best, ["none", "", "", "", ""]
            if best:
                cells = [
                    sigmas(best.value, best.value_error),
                    f"{best.cut:.4f}",
                    quantity(best.signal, best.signal_error),
                    quantity(best.background, best.background_error),
                    f"{best.background_n_effective:,.1f}",
                ]
            rows.append((one.background, [f"{one.background:.0%}", name, *cells]))
    if not rows:
        return None
    header = [
        "background to",
        "classifier",
        "significance",
        "cut",
        "signal",
        "background",
        "effective",
    ]
    return Table(
        "best cut on the score, with the simulation's error, physical weights",
        header,
        [row for _, row in sorted(rows, key=lambda pair: pair[0])],
        "For systematic uncertainties of the background, fractions of itself. The cut was chosen on "
        f"these same events, which flatters it. {_SIMULATED} None: no cut leaves enough simulated "
        "background; effective: background events.",
    )


def sculpting_table(sculpting: Sculpting) -> Table:
    """How far cuts sculpt the masses of the background."""
    cuts = [
        (one, name)
        for name, found in (("network", sculpting.network), ("trees", sculpting.trees))
        for one in found
    ]
    cuts.sort(key=lambda cut: -cut[0].background_efficiency)
    rows = [
        [
            f"{one.background_efficiency:.0%}",
            name,
            count(one.n_effective),
            value(one.divergence, one.error),
            value(one.by_chance, one.by_chance_spread),
        ]
        for one, name in cuts
    ]
    return Table(
        f"{sculpting.observable} of background that passes, against the rest, class-balanced weights",
        ["passes", "classifier", "effective events", "divergence [bits]", "by chance"],
        rows,
        "Does the cut sculpt the background? Jensen-Shannon divergence of the masses: 0 equal, 1 "
        "apart; beside it what a cut at random gives.",
    )


def signal_name(row: SignalLimit) -> str:
    """Name of a signal hypothesis, with its mass where it has one."""
    return row.signal if row.mass is None else f"{row.signal}, {row.mass:g} GeV"


def limits_table(limits: Limits) -> Table:
    """Expected limits and significance of every signal from the score of every classifier."""

    def band(row: SignalLimit, low: str, high: str) -> str:
        return f"{short(row.mu.get(low))} to {short(row.mu.get(high))}"

    rows = [
        [
            signal_name(row),
            name,
            quantity(row.mu.get("0"), row.mu_error),
            band(row, "-1", "1"),
            band(row, "-2", "2"),
            short(row.limit_fb.get("0")),
            sigmas(row.significance, row.significance_error),
            sigmas(row.significance_statistics_only),
        ]
        for name, row in limits.rows
    ]
    header = ["signal", "score of", "limit on mu", "68% band", "95% band", "limit [fb]"]
    return Table(
        f"expected limits, {limits.confidence:.0%} CL, {limits.luminosity:g} fb^-1, physical weights",
        [*header, "significance", "without systematics"],
        rows,
        "Upper limits on the signal strength mu (cross section over the stated one) and on the cross "
        f"section, and the discovery significance. {_SIMULATED} Systematics: "
        f"{', '.join(limits.systematics) or 'none in the card'}.",
    )


def effects_table(limits: Limits) -> Table | None:
    """What each systematic changes above a cut on the network's score."""
    effects = limits.effects
    if effects is None or not effects.changes:
        return None
    rows = [
        [name, process, percent(change.up), percent(change.down)]
        for name, changes in effects.changes.items()
        for process, change in changes.items()
    ]
    return Table(
        f"what each systematic changes above a score of {short(effects.cut)} of the network",
        ["systematic", "process", "up", "down"],
        rows,
        "Expected events at plus and at minus one standard deviation.",
    )


# ---- explanations -----------------------------------------------------------------------------


def importance_table(explanation: Explanation) -> Table | None:
    """Attention and importance of each stream beside what is lost without it."""
    if not explanation.streams:
        return None
    rows = []
    for row in explanation.streams:
        factor = short(row.rejection_factor)
        if row.rejection_low is not None and row.rejection_high is not None:
            factor += f" ({short(row.rejection_low)} to {short(row.rejection_high)})"
        loss = value(row.auc_loss, row.auc_loss_error)
        rows.append([row.stream, short(row.attention), short(row.importance), loss, factor])
    events = " and ".join(f"{number:,} {name}" for name, number in explanation.deep_events.items())
    return Table(
        "attention beside permutation importance, class-balanced weights",
        ["stream", "attention", "Grad-CAM", "AUC lost", "rejection lost by a factor"],
        rows,
        "Attention: the part that the class token of the fusion gives to the stream's tokens; "
        "Grad-CAM: their part of the importance; lost: when the stream is permuted between the events "
        f"({events}). Attention alone is weak evidence.",
    )


# ---- data -------------------------------------------------------------------------------------


def process_table(
    processes: Sequence[Process], further: Mapping[str, Sequence[str]] | None = None
) -> Table:
    """Processes: cross section and what was generated, then `further` columns by name."""
    columns: dict[str, Sequence[str]] = {
        "process": [process.name for process in processes],
        "class": [process.label for process in processes],
        "cross section [pb]": [
            "unknown"
            if process.cross_section is None
            else quantity(process.cross_section, process.cross_section_error)
            for process in processes
        ],
        # A factor of one says nothing.
        "k-factor": [_factor(process.k_factor) for process in processes],
        "filter efficiency": [_factor(process.filter_efficiency) for process in processes],
        "share of its class": [short(process.share) for process in processes],
        "generated": [count(process.generated) for process in processes],
        "sum of weights": [_weights(process.sum_weights) for process in processes],
        **(further or {}),
    }
    note = "The cross section is as generated, before k-factor and filter efficiency."
    return _of_columns("processes", columns, note)


def _factor(factor: float) -> str:
    return UNKNOWN if factor == 1 else f"{factor:.3g}"


def _weights(weights: float | None) -> str:
    return "unknown" if weights is None else f"{weights:,.6g}"


def cutflow_table(processes: Sequence[Process], luminosity: float | None = None) -> Table:
    """How much of each process passed each step of the selection.

    Parameters
    ----------
    luminosity
        In fb^-1; gives the expected events, too, where cross section and weights are known.
    """
    rows = []
    for process in processes:
        total, scale = process.sum_weights or 0.0, None
        if luminosity is not None and process.cross_section is not None and total > 0:
            scale = normalisation(process, luminosity)
        for step in process.cutflow:
            # By weight where weights are known: events may be biased.
            passed, of = (step.sum_weights, total) if total else (step.events, process.generated)
            cells = [process.name, step.step, count(step.events), _weights(step.sum_weights)]
            cells.append(f"{passed / of:.3g}" if of else UNKNOWN)
            cells.append("unknown" if scale is None else quantity(step.sum_weights * scale))
            rows.append(cells)
    header = ["process", "step", "events", "sum of weights", "part that passes"]
    if luminosity is None:
        rows = [row[:-1] for row in rows]
    else:
        header.append(f"expected at {luminosity:g} fb^-1")
    note = "The part is that of all generated, by weight where weights are known."
    return Table("cutflow", header, rows, note)


def splits_table(data: DataFacts) -> Table:
    """Events of each class in each split."""
    rows = [
        [split, count(counts.get("signal")), count(counts.get("background"))]
        for split, counts in data.splits.items()
    ]
    return Table("events of each class in each split", ["split", "signal", "background"], rows)


def separation_table(ranking: Sequence[Separation]) -> Table:
    """Inputs, the best first."""
    best = sorted(ranking, key=lambda row: -row.separation)
    return Table(
        "inputs by separation",
        ["rank", "input", "stream", "separation"],
        [
            [f"{rank}", row.feature, row.stream, f"{row.separation:.4f}"]
            for rank, row in enumerate(best, start=1)
        ],
        "How far an input alone tells the classes apart: 0 not at all, 1 wholly. Inputs that say much "
        "only together rank low here.",
    )


# ---- the run ----------------------------------------------------------------------------------


def layer_table(summary: Summary, title: str) -> Table:
    """The blocks of a network."""
    rows = [
        [
            block.name,
            "; ".join(block.lines),
            block.output,
            f"as {block.shared_with}" if block.shared_with else count(block.parameters),
        ]
        for block in summary.blocks
    ]
    rows.append(["all", "", "", count(summary.parameters)])
    return Table(title, ["block", "what it does", "shape of its output", "parameters"], rows)


def time_table(history: Sequence[Mapping[str, float]]) -> Table | None:
    """Seconds of each phase of the training in all epochs; None where they were not measured.

    Examples
    --------
    >>> time_table([{"data_seconds": 1.0, "forward_seconds": 3.0}]).rows
    [['waiting for data', '1.0', '25%'], ['forward', '3.0', '75%']]
    """
    last = history[-1] if history else {}
    seconds = {
        phase: math.fsum(row[key] for row in history if not math.isnan(row[key]))
        for key, phase in _PHASES.items()
        if key in last
    }
    total = math.fsum(seconds.values())
    if not total > 0:
        return None
    rows = [[phase, f"{spent:.1f}", f"{spent / total:.0%}"] for phase, spent in seconds.items()]
    memory = last.get("peak_memory_mb")
    note = "" if memory is None else f"At most {count(memory)} MB of memory were held."
    title = "where the time of the training went, all epochs together"
    return Table(title, ["phase", "seconds", "share"], rows, note)


def history_table(history: Sequence[Mapping[str, float]]) -> Table:
    """Every epoch."""
    rows = [[f"{number:.6g}" for number in row.values()] for row in history]
    return Table("every epoch", list(history[0]) if history else [], rows)


def provenance_table(
    provenance: Mapping[str, object], metrics: Metrics, history: Sequence[Mapping[str, float]]
) -> Table:
    """What was run, where and with which versions."""
    rows = [list(row) for row in _flat({**provenance, "versions": None})]
    versions = ", ".join(f"{name} {what}" for name, what in _flat(provenance.get("versions")))
    rows += [["versions", versions]] if versions else []
    rows.append(["epochs", f"{len(history)}"])
    if metrics.events_per_second:
        speed = count(metrics.events_per_second)
        rows.append(["training events per second (median of the epochs)", speed])
    return Table("", [], rows)


def _flat(tree: object, path: str = "") -> Iterator[tuple[str, str]]:
    """Where in nested JSON, and what stands there; what is empty is left out."""
    if isinstance(tree, Mapping):
        for key, branch in tree.items():
            yield from _flat(branch, f"{path}, {key}" if path else str(key))
    elif isinstance(tree, list):
        for number, branch in enumerate(tree, start=1):
            name = branch.get("name") if isinstance(branch, Mapping) else None
            yield from _flat(branch, f"{path}, {name or number}" if path else str(number))
    elif tree is not None:
        yield path, quantity(tree) if isinstance(tree, float) else str(tree)
