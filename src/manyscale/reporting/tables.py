"""Tables of a run's numbers, described once: the report and the command line show the same."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from manyscale.data.balance import ClassMix
from manyscale.evaluation import results
from manyscale.evaluation.yields import normalisation
from manyscale.model.summary import Summary
from manyscale.reporting import formatting
from manyscale.reporting.formatting import UNKNOWN, count, quantity, rejection, short, sigmas, value
from manyscale.schema import Label, Process

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
    "learning_table",
    "limits_table",
    "mix_table",
    "process_table",
    "provenance_table",
    "rejections_table",
    "sculpting_table",
    "separation_table",
    "splits_table",
    "time_table",
    "yields_table",
]

History = Sequence[Mapping[str, float]]

_FIGURE = re.compile(rf"({UNKNOWN}|none|(above|under) .*|[-+−(]?[\d.,]+.*)?")
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
    """A table in words; one without rows is shown nowhere.

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

    @classmethod
    def of(cls, title: str, rows: Sequence[Mapping[str, str]], note: str = "") -> "Table":
        """Make a table of rows by column; columns that say nothing in any row are left out."""
        names = [
            name
            for name in dict.fromkeys(name for row in rows for name in row)
            if any(row.get(name, "") not in {"", UNKNOWN} for row in rows)
        ]
        return cls(title, names, [[row.get(name, "") for name in names] for row in rows], note)

    @property
    def figures(self) -> list[bool]:
        """Whether each column holds figures, which stand to the right; the first never does."""
        return [
            number > 0 and all(_FIGURE.fullmatch(cell) for cell in column)
            for number, column in enumerate(zip(*self.rows, strict=True))
        ]


# ---- classifiers ------------------------------------------------------------------------------


def classifier_table(metrics: results.Metrics) -> Table:
    """Figures of merit of the network, and of the trees and both combined beside it."""
    titles = {"network": "network", "trees": "boosted trees", "combined": "combined"}
    classifiers = metrics.classifiers
    every = classifiers.values()
    rows = [["AUC", *(value(of.auc, of.auc_error) for of in every)]]
    for one, other, paired in metrics.differences:
        cell = formatting.signed(paired.auc, paired.auc_error)
        cells = [cell if name == one else "" for name in classifiers]
        rows.append([f"AUC, {one} minus {other}", *cells])
    rows.append(["accuracy at one half", *(value(of.accuracy) for of in every)])
    rows.append(["loss (cross-entropy)", *(value(of.loss) for of in every)])
    for key in metrics.background_rejection:
        points = [of.background_rejection.get(key) for of in every]
        rows.append([f"rejection at {key}", *map(rejection, points)])
    rows.append(["test events", *(count(of.n_events) for of in every)])
    rows.append(["effective test events", *(count(of.n_effective) for of in every)])
    return Table(
        "figures of merit",
        ["", *(titles[name] for name in classifiers)],
        rows,
        "Test events, class-balanced weights. Rejection: one over the share of background that passes "
        "the cut which keeps the named share of signal, with its 68% interval from effective event "
        "counts; “above” is the limit where no background event is left.",
    )


def comparison_table(rows: Sequence[results.ComparisonRow]) -> Table:
    """Several classifiers on the same test events; over several trainings the rows are means."""
    base = next((row.difference_to for row in rows if row.difference_to), "first")
    trainings = max((row.trainings for row in rows), default=1)
    errors = "Errors are statistical, differences and ratios paired; intervals are of 68%."
    if trainings > 1:
        errors = (
            f"Means over {trainings} trainings with their errors, statistical or of the spread, "
            "whichever is larger; differences and ratios are paired in each training; intervals are of "
            "68%."
        )
    return Table.of(
        "all on the same test events, class-balanced weights",
        [
            {
                "classifier": row.name,
                "events": count(row.size),
                "AUC": value(row.auc, row.auc_error),
                f"minus {base}": formatting.signed(row.difference, row.difference_error),
                "rejection at 0.50": rejection(row.background_rejection.get("0.50")),
                "rejection at 0.70": rejection(row.background_rejection.get("0.70")),
                "ratio at 0.70": _ratio(row.rejection_ratio.get("0.70")),
                "parameters": count(row.parameters),
                "training [s]": UNKNOWN if row.seconds is None else f"{row.seconds:,.1f}",
            }
            for row in rows
        ],
        f"{errors} Rejection at 0.50: of background, with half the signal kept; ratio: to that of {base}.",
    )


def rejections_table(rows: Sequence[results.ComparisonRow]) -> Table:
    """Background rejections at all signal efficiencies that are quoted, with their spread."""
    return Table.of(
        "background rejection by signal efficiency",
        [
            {
                "classifier": row.name,
                "events": count(row.size),
                "AUC, spread": UNKNOWN if row.auc_spread is None else f"{row.auc_spread:.2g}",
                **{
                    key: rejection(point)
                    + ("" if point.spread is None else f", spread {short(point.spread)}")
                    for key, point in row.background_rejection.items()
                },
            }
            for row in rows
        ],
        "With the 68% interval; “above” is the limit where no background event is left; spread: standard "
        "deviation over the trainings.",
    )


def learning_table(curves: Sequence[results.LearningCurve]) -> Table:
    """Laws of the learning curves, and how many events it takes for a rejection."""
    rows = []
    for curve in curves:
        row = {"classifier": curve.name, "figure": curve.figure}
        if law := curve.law:
            row |= {
                "a": quantity(law.a, law.a_error) if law.a_error else "0, not fitted",
                "b": quantity(law.b, law.b_error),
                "c": value(law.c, law.c_error),
            }
            if curve.target:
                low, high = (
                    "any" if end is None else short(end)
                    for end in (curve.needed_low, curve.needed_high)
                )
                needed = "not reached" if curve.needed is None else short(curve.needed)
                row[f"events for a rejection of {short(1 / curve.target)}"] = (
                    needed if low == high == "any" else f"{needed} ({low} to {high})"
                )
        else:
            row["a"] = curve.notice
        rows.append(row)
    return Table.of(
        "learning curves, a + b / nᶜ of n training events",
        rows,
        "Fitted to the sizes that were run; beyond them it is an extrapolation, whose interval of 68% "
        "holds as far as the law does. With three sizes or fewer a is taken as 0, which is optimistic.",
    )


def _ratio(interval: results.Rejection | None) -> str:
    if interval is None or interval.value is None:
        return UNKNOWN
    return f"{interval.value:.2f} ({interval.low:.2f} to {interval.high or 0:.2f})"


# ---- what an analysis would find --------------------------------------------------------------


def yields_table(metrics: results.Metrics) -> Table:
    """Expected events by process, before and above the network's best cut."""
    yields = metrics.yields
    if yields is None:
        return Table("", [], [])
    best = metrics.significance.best if metrics.significance else None
    of_all = {"all signal": yields.signal, "all background": yields.background}
    rows = []
    for name, every in {**yields.processes, **of_all}.items():
        row = {
            "process": name,
            "class": "" if name in of_all else every.label,
            "expected events": quantity(every.expected, every.error),
            "simulated": count(every.n_events),
            "effective": count(every.n_effective),
        }
        if best and (above := best.processes.get(name)):
            row["above the best cut"] = quantity(above.expected, above.error)
            row["effective there"] = f"{above.n_effective:,.1f}"
        rows.append(row)
    note = f"{_SIMULATED} Where few effective events stand for many expected, the yield is little known."
    return Table.of(f"expected at {yields.luminosity:g} fb^-1, physical weights", rows, note)


def cuts_table(metrics: results.Metrics) -> Table:
    """Best cut of each classifier for each systematic uncertainty of the background."""
    cuts = [
        (one.background, name, one.best)
        for name, figures in metrics.classifiers.items()
        for one in (figures.significance.systematics if figures.significance else ())
    ]
    rows = []
    # The classifiers side by side.
    for uncertainty, name, best in sorted(cuts, key=lambda cut: cut[0]):
        row = {"background to": f"{uncertainty:.0%}", "classifier": name, "significance": "none"}
        if best:
            row |= {
                "significance": sigmas(best.value, best.value_error),
                "cut": f"{best.cut:.4f}",
                "signal": quantity(best.signal, best.signal_error),
                "background": quantity(best.background, best.background_error),
                "effective": f"{best.background_n_effective:,.1f}",
            }
        rows.append(row)
    return Table.of(
        "best cut on the score, with the simulation's error, physical weights",
        rows,
        "For systematic uncertainties of the background, fractions of itself. The cut was chosen on "
        f"these same events, which flatters it. {_SIMULATED} None: no cut leaves enough simulated "
        "background; effective: background events.",
    )


def sculpting_table(sculpting: results.Sculpting | None) -> Table:
    """How far cuts sculpt the masses of the background."""
    if sculpting is None:
        return Table("", [], [])
    names = ("network", "trees", "combined")
    cuts = [(name, one) for name in names for one in getattr(sculpting, name)]
    return Table.of(
        f"how cuts sculpt {sculpting.observable} of the background, class-balanced weights",
        [
            {
                "passes": f"{one.background_efficiency:.0%}",
                "classifier": name,
                "effective events": count(one.n_effective),
                "divergence [bits]": value(one.divergence, one.error),
                "by chance": value(one.by_chance, one.by_chance_spread),
            }
            for name, one in sorted(cuts, key=lambda cut: -cut[1].background_efficiency)
        ],
        "Does the cut sculpt the background? Jensen-Shannon divergence of the masses: 0 equal, 1 "
        "apart; beside it what a cut at random gives.",
    )


def limits_table(limits: results.Limits) -> Table:
    """Expected limits and significance of every signal from the score of every classifier."""
    return Table.of(
        f"expected limits, {limits.confidence:.0%} CL, {limits.luminosity:g} fb^-1, physical weights",
        [
            {
                "signal": row.signal if row.mass is None else f"{row.signal}, {row.mass:g} GeV",
                "score of": name,
                "limit on mu": quantity(row.mu.get("0"), row.mu_error),
                "68% band": f"{short(row.mu.get('-1'))} to {short(row.mu.get('1'))}",
                "95% band": f"{short(row.mu.get('-2'))} to {short(row.mu.get('2'))}",
                "limit [fb]": short(row.limit_fb.get("0")),
                "significance": sigmas(row.significance, row.significance_error),
                "without systematics": sigmas(row.significance_statistics_only),
            }
            for name, row in limits.rows
        ],
        "Upper limits on the signal strength mu (cross section over the stated one) and on the cross "
        f"section, and the discovery significance. {_SIMULATED} Systematics: "
        f"{', '.join(limits.systematics) or 'none in the card'}.",
    )


def effects_table(limits: results.Limits) -> Table:
    """What each systematic changes above a cut on the network's score."""
    effects = limits.effects or results.SystematicEffects(cut=0)
    rows = [
        {
            "systematic": name,
            "process": process,
            "up": formatting.percent(change.up),
            "down": formatting.percent(change.down),
        }
        for name, changes in effects.changes.items()
        for process, change in changes.items()
    ]
    title = f"what each systematic changes above a score of {short(effects.cut)} of the network"
    return Table.of(title, rows, "Expected events at plus and at minus one standard deviation.")


def importance_table(explanation: results.Explanation) -> Table:
    """Attention and importance of each stream beside what is lost without it."""
    rows = []
    for row in explanation.streams:
        factor = short(row.rejection_factor)
        if row.rejection_low is not None and row.rejection_high is not None:
            factor += f" ({short(row.rejection_low)} to {short(row.rejection_high)})"
        rows.append(
            {
                "stream": row.stream,
                "attention": short(row.attention),
                "Grad-CAM": short(row.importance),
                "AUC lost": value(row.auc_loss, row.auc_loss_error),
                "rejection lost by a factor": factor,
            }
        )
    events = " and ".join(f"{number:,} {name}" for name, number in explanation.deep_events.items())
    return Table.of(
        "attention beside permutation importance, class-balanced weights",
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
    rows = []
    for number, process in enumerate(processes):
        factors = {"k-factor": process.k_factor, "filter efficiency": process.filter_efficiency}
        rows.append(
            {
                "process": process.name,
                "class": process.label,
                "cross section [pb]": quantity(process.cross_section, process.cross_section_error),
                # A factor of one says nothing.
                **{name: UNKNOWN if one == 1 else f"{one:.3g}" for name, one in factors.items()},
                "share of its class": short(process.share),
                "generated": count(process.generated),
                "sum of weights": quantity(process.sum_weights),
                **{name: column[number] for name, column in (further or {}).items()},
            }
        )
    note = "The cross section is as generated, before k-factor and filter efficiency."
    return Table.of("processes", rows, note)


def mix_table(mix: Mapping[Label, ClassMix]) -> Table:
    """What each process makes of its class in training and in class-balanced figures, and by what."""
    rows = [
        {"class": label, "process": name, "part of the class": f"{part:.3g}", "mixed by": of.rule}
        for label, of in mix.items()
        for name, part in of.fractions.items()
    ]
    note = (
        "Of the events as selected. Cross section: times k-factor and filter efficiency; events "
        "alike: each with its weight as it is."
    )
    return Table.of("mix of each class under class-balanced weights", rows, note)


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
            row = {
                "process": process.name,
                "step": step.step,
                "events": count(step.events),
                "sum of weights": quantity(step.sum_weights),
                "part that passes": f"{passed / of:.3g}" if of else UNKNOWN,
            }
            if luminosity is not None:
                expected = None if scale is None else step.sum_weights * scale
                row[f"expected at {luminosity:g} fb^-1"] = quantity(expected)
            rows.append(row)
    note = "The part is that of all generated, by weight where weights are known."
    return Table.of("cutflow", rows, note)


def splits_table(data: results.DataFacts) -> Table:
    """Events of each class in each split."""
    rows = [
        {"split": split, **{name: count(counts.get(name)) for name in ("signal", "background")}}
        for split, counts in data.splits.items()
    ]
    return Table.of("events of each class in each split", rows)


def separation_table(ranking: Sequence[results.Separation]) -> Table:
    """Inputs, the best first."""
    rows = [
        {
            "rank": f"{rank}",
            "input": row.feature,
            "stream": row.stream,
            "separation": f"{row.separation:.4f}",
        }
        for rank, row in enumerate(sorted(ranking, key=lambda row: -row.separation), start=1)
    ]
    note = (
        "How far an input alone tells the classes apart: 0 not at all, 1 wholly. Inputs that say much "
        "only together rank low here."
    )
    return Table.of("inputs by separation", rows, note)


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


def time_table(history: History) -> Table:
    """Seconds of each phase of the training in all epochs, where they were measured.

    Examples
    --------
    >>> time_table([{"data_seconds": 1.0, "forward_seconds": 3.0}]).rows
    [['waiting for data', '1.0', '25%'], ['forward', '3.0', '75%']]
    """
    last = history[-1] if history else {}
    seconds = {
        phase: float(np.nansum([row[key] for row in history]))
        for key, phase in _PHASES.items()
        if key in last
    }
    total = sum(seconds.values()) or math.inf
    rows = [
        {"phase": phase, "seconds": f"{spent:.1f}", "share": f"{spent / total:.0%}"}
        for phase, spent in seconds.items()
    ]
    memory = last.get("peak_memory_mb")
    note = "" if memory is None else f"At most {count(memory)} MB of memory were held."
    return Table.of("where the time of the training went, all epochs together", rows, note)


def history_table(history: History) -> Table:
    """Every epoch."""
    rows = [{key: f"{number:.6g}" for key, number in row.items()} for row in history]
    return Table.of("every epoch", rows)


def provenance_table(
    provenance: Mapping[str, object], metrics: results.Metrics, history: History
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
