"""Test events by process: scores and masses stacked, rejection, confusion, efficiencies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray

from manyscale.evaluation.results import Rejection
from manyscale.reporting.figure import (
    BACKGROUND_COLOURS,
    CLASS_COLOURS,
    DASHES,
    Drawn,
    classifier_styles,
    error_band,
    luminosity_title,
    panel_grid,
    room_above,
    shared_legend,
    stack_backgrounds,
    stacked,
    styled,
)
from manyscale.reporting.formatting import short
from manyscale.reporting.look import label_of
from manyscale.reporting.score_plots import EFFICIENCIES, rejection_curves
from manyscale.schema import Process
from manyscale.statistics.intervals import efficiency
from manyscale.statistics.metrics import background_rejection
from manyscale.statistics.sample import Floats

__all__ = [
    "ProcessSample",
    "confusion",
    "masses",
    "rejection_by_process",
    "signal_efficiency",
    "stacked_score",
]

_SCORE_BINS, _MASS_BINS, _VALUE_BINS = 25, 24, 8
_SHOWN = (0.005, 0.995)  # quantiles: the tails would squeeze the rest
_LEAST = 1e-7  # of the highest bin is drawn
_KEPT = 0.70  # of the signal, where efficiencies are taken


@dataclass(frozen=True)
class ProcessSample:
    """Test events, and the process of each."""

    processes: tuple[Process, ...]
    process: NDArray[np.int64]  #: (events,): index in `processes`
    #: (events,): expected events at the luminosity [fb^-1]; where that is None class-balanced.
    weight: Floats
    luminosity: float | None

    def contents(self, values: Floats, edges: Floats, power: int = 1) -> Floats:
        """(processes, bins): sums of the weights, or of a power of them."""
        return np.array(
            [
                np.histogram(values[of], edges, weights=self.weight[of] ** power)[0]
                for of in (self.process == number for number in range(len(self.processes)))
            ]
        ).reshape(len(self.processes), len(edges) - 1)

    @property
    def background(self) -> NDArray[np.bool_]:
        """(processes,): which are background."""
        return np.array([process.label == "background" for process in self.processes], bool)

    def take(self, chosen: NDArray[np.bool_]) -> "ProcessSample":
        """The chosen events alone."""
        return replace(self, process=self.process[chosen], weight=self.weight[chosen])


def _draw(axes: Axes, sample: ProcessSample, values: Floats, edges: Floats) -> dict[str, Any]:
    """Stack the backgrounds with the signals as lines upon them, each scaled to be seen.

    Without a luminosity each process is a line of unit area.
    """
    content = np.maximum(sample.contents(values, edges), 0)
    error = np.sqrt(sample.contents(values, edges, power=2))
    background = sample.background
    names = [process.name for process in sample.processes]
    if sample.luminosity is None:
        total = content.sum(axis=1, keepdims=True)
        content, error = (
            np.divide(of, total, out=np.zeros_like(of), where=total > 0) for of in (content, error)
        )
        styles = zip(cycle(BACKGROUND_COLOURS), cycle(DASHES), strict=False)
        for shape, name, is_one, (colour, dashes) in zip(
            content, names, background, styles, strict=False
        ):
            axes.stairs(
                shape,
                edges,
                baseline=None,
                color=colour if is_one else CLASS_COLOURS[1],
                linestyle=dashes if is_one else "solid",
                label=label_of(name),
            )
        axes.set_ylabel("share of the process")
        axes.set_ylim(bottom=0)
    else:
        total = stack_backgrounds(axes, content[background], edges, _of(names, background))
        squares = (error[background] ** 2).sum(axis=0)
        error_band(axes, total, np.sqrt(squares), edges, "error of simulation")
        for dashes, name, shape in zip(
            cycle(DASHES), _of(names, ~background), content[~background], strict=False
        ):
            factor = total.sum() / shape.sum() if shape.sum() > 0 else 1.0
            factor = float(f"{factor:.0e}") if factor > 3 else 1.0
            words = label_of(name) + (f" × {short(factor)}" if factor > 1 else "")
            look: dict[str, Any] = {"color": CLASS_COLOURS[1], "linestyle": dashes, "label": words}
            axes.stairs(factor * shape, edges, baseline=None, **look)
        axes.set_yscale("log")
        # Of ten decades there would be a hundred.
        axes.yaxis.set_minor_locator(NullLocator())
        if (total > 0).any():
            axes.set_ylim(max(total[total > 0].min() / 10, _LEAST * total.max()), 2 * total.max())
        axes.set_ylabel("expected events")
    axes.set_xlim(edges[0], edges[-1])
    return {
        "process": np.repeat(names, len(edges) - 1),
        "from": np.tile(edges[:-1], len(names)),
        "to": np.tile(edges[1:], len(names)),
        "content": content.ravel(),
        "error": error.ravel(),
    }


def _of(names: Sequence[str], chosen: NDArray[np.bool_]) -> list[str]:
    return [name for name, one in zip(names, chosen, strict=True) if one]


@styled
def stacked_score(sample: ProcessSample, scores: Floats, classifier: str) -> Drawn:
    """Scores by process: backgrounds stacked as expected at the luminosity, signals on top."""
    figure = Figure()
    axes = figure.subplots()
    table = _draw(axes, sample, scores, np.linspace(0, 1, _SCORE_BINS + 1))
    luminosity_title(axes, sample.luminosity)
    if sample.luminosity is not None:
        room_above(axes, 0.4)
    axes.set_xlabel(f"score of {classifier}")
    axes.legend(loc="upper center", ncols=2)
    return Drawn(figure, stacked([table]))


@styled
def masses(
    sample: ProcessSample, name: str, values: Floats, passed: NDArray[np.bool_], cut: str
) -> Drawn:
    """An observable by process: above all events, below those that pass a cut on the score.

    Parameters
    ----------
    name
        Of the observable.
    values, passed
        (events,): NaN where an event has none; whether it passes.
    cut
        In words.
    """
    known = np.isfinite(values)
    low, high = np.quantile(values[known], _SHOWN)
    edges = np.linspace(low, high, _MASS_BINS + 1)
    figure = Figure(figsize=(5.6, 5.2))
    panels = figure.subplots(2, 1, sharex=True)
    table = []
    for axes, words, chosen in zip(
        panels, ("all test events", cut), (known, known & passed), strict=True
    ):
        drawn = _draw(axes, sample.take(chosen), values[chosen], edges)
        axes.set_title(words, fontsize=11, loc="left", pad=4)
        table.append({"events": words} | drawn)
    luminosity_title(panels[0], sample.luminosity)
    panels[1].set_xlabel(label_of(name))
    shared_legend(figure, panels[:1], ncols=3, fontsize=10)
    return Drawn(figure, stacked(table))


def rejection_by_process(sample: ProcessSample, scores: Floats) -> Drawn:
    """Rejection of each background process against the efficiency of all signal."""
    is_signal = ~sample.background[sample.process]
    curves, styles, words = {}, {}, {}
    for place, number in enumerate(np.flatnonzero(sample.background)):
        chosen = is_signal | (sample.process == number)
        if sample.weight[chosen & ~is_signal].sum() <= 0:
            continue
        name = sample.processes[number].name
        words[name] = label_of(name)
        points = background_rejection(
            is_signal[chosen], scores[chosen], sample.weight[chosen], EFFICIENCIES
        )
        curves[name] = {key: Rejection.model_validate(of) for key, of in points.items()}
        colour = BACKGROUND_COLOURS[place % len(BACKGROUND_COLOURS)]
        styles[name] = (colour, DASHES[place % len(DASHES)])
    return rejection_curves(curves, styles=styles, words=words)


@styled
def confusion(sample: ProcessSample, scores: Floats) -> Drawn:
    """Where the events of each process go at a signal probability of one half.

    Each row sums to 100%; the errors are half the 68.3% Clopper-Pearson interval.
    """
    rows, table = [], []
    for number in np.argsort(sample.background, kind="stable"):
        chosen = sample.process == number
        if sample.weight[chosen].sum() > 0:
            called = efficiency(sample.weight[chosen], scores[chosen] > 0.5)
            rows.append((sample.processes[number].name, called))
    figure = Figure(figsize=(5.6, 1.3 + 0.55 * len(rows)))
    axes = figure.subplots()
    shares = np.array([[1 - called.value, called.value] for _, called in rows])
    edges = np.arange(len(rows) + 1) - 0.5
    axes.pcolormesh((-0.5, 0.5, 1.5), edges, shares, cmap="Blues", vmin=0, vmax=1)
    for row, (name, called) in enumerate(rows):
        for column, share in enumerate(shares[row]):
            words = f"{share:.1%} ± {(called.high - called.low) / 2:.1%}"
            colour = "white" if share > 0.5 else "black"
            axes.text(column, row, words, ha="center", va="center", color=colour, fontsize=11)
        table.append(
            {
                "process": name,
                "predicted signal": called.value,
                "68% low": called.low,
                "68% high": called.high,
            }
        )
    axes.invert_yaxis()
    axes.set_xticks([0, 1], ["background", "signal"])
    axes.set_yticks(range(len(rows)), [label_of(name) for name, _ in rows])
    axes.minorticks_off()
    axes.tick_params(which="both", length=0)
    axes.set_xlabel("predicted class")
    return Drawn(figure, stacked(table))


@styled
def signal_efficiency(
    values: Mapping[str, Floats], scores: Mapping[str, Floats], weights: Floats
) -> Drawn:
    """Efficiency of cuts that keep 70% of the signal against observables of the signal events.

    Parameters
    ----------
    values
        By observable, (events,) of the signal; NaN where an event has none.
    scores, weights
        Of the same events, by classifier.
    """
    figure, panels = panel_grid([""] * len(values), 2.5, sharey=True)
    styles = classifier_styles(scores)
    table = []
    for axes, (name, every) in zip(panels, values.items(), strict=True):
        known = np.isfinite(every)
        edges = np.unique(np.quantile(every[known], np.linspace(0, 1, _VALUE_BINS + 1)))
        for classifier, score in scores.items():
            order = np.argsort(-score)
            # The highest score at which enough lies; weights of both signs may cross it often.
            at = np.argmax(np.cumsum(weights[order]) >= _KEPT * weights.sum())
            passed = score >= score[order[at]]
            found = []
            for low, high in pairwise(edges):
                within = known & (every >= low) & (every <= high)
                some = weights[within].sum() > 0
                found.append(efficiency(weights[within], passed[within]) if some else (np.nan,) * 3)
            value, low, high = np.array(found).T
            centres = (edges[1:] + edges[:-1]) / 2
            colour, dashes = styles[classifier]
            axes.errorbar(
                centres,
                value,
                yerr=np.maximum((value - low, high - value), 0),
                fmt="o",
                markersize=3,
                linestyle=dashes,
                linewidth=1.2,
                color=colour,
                label=classifier,
            )
            table.append(
                {
                    "observable": name,
                    "classifier": classifier,
                    "from": edges[:-1],
                    "to": edges[1:],
                    "signal efficiency": value,
                    "68% low": low,
                    "68% high": high,
                }
            )
        axes.axhline(_KEPT, color="black", linewidth=0.8, linestyle="dotted")
        axes.set_ylim(0, 1.02)
        axes.set_xlabel(label_of(name), fontsize=11)
    panels[0].set_ylabel("signal efficiency", fontsize=11)
    shared_legend(figure, panels[:1], fontsize=10)
    return Drawn(figure, stacked(table))
