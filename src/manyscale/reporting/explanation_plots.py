"""Plots of explanations that test themselves: attributions, similarity, worth, sanity curves."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from typing import Any, NamedTuple, TypeVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from manyscale.explanation.deletion import Deletion
from manyscale.explanation.integrated_gradients import FeatureAttribution
from manyscale.explanation.randomisation import RandomisationPoint
from manyscale.explanation.shuffling import Shuffled, Worth
from manyscale.explanation.similarity import Similarity
from manyscale.reporting.drawn import Drawn
from manyscale.reporting.style import CLASS_COLOURS, styled

__all__ = ["attributions", "deletion", "randomisation", "similarity", "worth"]

R = TypeVar("R")

_GREY = "#717581"
# Colour and dashes of the rankings by which tokens are deleted.
_RANKINGS = {
    "Grad-CAM": ("#bd1f01", "solid"),
    "attention": ("#ffa90e", "dashdot"),
    "integrated gradients": ("#832db6", "solid"),
    "pT": ("#3f90da", "dashdot"),
    "random": (_GREY, "dashed"),
}
_OTHERS = ("#a96b59", "#e76300", "#94a4a2", "#92dadd", "#b9ac70")
_AUC_COLOUR, _REJECTION_COLOUR = "#832db6", "#e76300"
_ROW = 0.24  # inches a row of bars
# So many layers still leave room for a number in each cell.
_ANNOTATED = 12


@styled
def attributions(rows: Sequence[FeatureAttribution]) -> Drawn:
    """Bars of the attribution of each feature, stream by stream, signal and background.

    Left the mean of the absolute value, right the mean with its sign.

    Parameters
    ----------
    rows
        As `integrated_gradients.summarise` gives them.
    """
    streams = _grouped(rows, lambda row: row.stream)
    labels = {name: list(_grouped(of, lambda row: row.feature)) for name, of in streams.items()}
    figure, panels = _bar_panels(labels, 2)
    for (left, right), of_stream in zip(panels, streams.values(), strict=True):
        for label, bars in _grouped(of_stream, lambda row: row.label).items():
            signal = label == "signal"
            places = np.arange(len(bars)) + (-0.2 if signal else 0.2)
            how = _Bars(CLASS_COLOURS[signal], 0.36, label)
            how.draw(left, places, [r.absolute for r in bars], [r.absolute_error for r in bars])
            how.draw(right, places, [r.signed for r in bars], [r.signed_error for r in bars])
        right.axvline(0, color="black", linewidth=0.8)
    panels[-1][0].set_xlabel("mean of absolute value [logits]")
    panels[-1][1].set_xlabel("mean, above 0: to signal")
    figure.legend(
        *panels[0][0].get_legend_handles_labels(), loc="outside upper right", ncols=2, fontsize=10
    )
    return Drawn(
        figure,
        {
            "stream": [row.stream for row in rows],
            "feature": [row.feature for row in rows],
            "class": [row.label for row in rows],
            "mean of absolute value [logits]": [row.absolute for row in rows],
            "its error [logits]": [row.absolute_error for row in rows],
            "mean towards signal [logits]": [row.signed for row in rows],
            "error of the mean [logits]": [row.signed_error for row in rows],
        },
    )


@styled
def worth(found: Shuffled) -> Drawn:
    """Bars of what is lost when streams and feature groups are shuffled between the events.

    Left the AUC, right the factor on the background rejection, where it can be told.
    """
    groups = _grouped(found.groups, lambda row: row.stream)
    blocks: dict[str, Sequence[Worth]] = {"whole streams": found.streams, **groups}
    labels = {name: [row.group or row.stream for row in of] for name, of in blocks.items()}
    told = found.signal_efficiency is not None
    figure, panels = _bar_panels(labels, 2 if told else 1)
    for axes, of_block in zip(panels, blocks.values(), strict=True):
        losses = [row.auc_loss for row in of_block]
        errors = [row.auc_loss_error for row in of_block]
        _Bars(_AUC_COLOUR, 0.6).draw(axes[0], np.arange(len(of_block)), losses, errors)
        if told:
            _factors(axes[1], of_block)
        axes[0].axvline(0, color="black", linewidth=0.8)
    panels[-1][0].set_xlabel("loss of AUC")
    if told:
        for axes in panels:
            axes[1].axvline(1, color="black", linewidth=0.8)
        _plain_logarithm(panels[-1][1])
        panels[-1][1].set_xlabel(f"factor on background, {found.signal_efficiency:.0%} signal")
    rows = [*found.streams, *found.groups]
    return Drawn(
        figure,
        {
            "stream": [row.stream for row in rows],
            "shuffled": [row.group or "whole stream" for row in rows],
            "features": [" ".join(row.features) for row in rows],
            "loss of AUC": [row.auc_loss for row in rows],
            "its error": [row.auc_loss_error for row in rows],
            "background grows by a factor": [_or_empty(row.rejection_factor) for row in rows],
            "at least": [_or_empty(row.rejection_low) for row in rows],
            "at most": [_or_empty(row.rejection_high) for row in rows],
        },
    )


@styled
def similarity(found: Similarity) -> Drawn:
    """The matrix of CKA of all layers with each other; numbers in it where there is room."""
    layers = len(found.names)
    side = min(max(0.34 * layers, 1.6), 4.6)
    figure = Figure(figsize=(5.6, side + 1.6))
    axes = figure.subplots()
    edges = np.arange(layers + 1) - 0.5
    image = axes.pcolormesh(edges, edges, found.matrix, cmap="viridis", vmin=0, vmax=1)
    axes.set_facecolor("#d9d9d9")
    axes.invert_yaxis()
    axes.set_aspect("equal")
    size = 9 if layers <= _ANNOTATED else 7
    axes.set_xticks(range(layers), found.names, rotation=90, fontsize=size)
    axes.set_yticks(range(layers), found.names, fontsize=size)
    axes.tick_params(which="both", length=0)
    axes.minorticks_off()
    if layers <= _ANNOTATED:
        _write_numbers(axes, found.matrix)
    bar = figure.colorbar(image, ax=axes, shrink=0.8, pad=0.03)
    bar.set_label("similarity (linear CKA)", fontsize=11)
    pairs = [(i, j) for i in range(layers) for j in range(layers)]
    return Drawn(
        figure,
        {
            "first": [found.names[i] for i, _ in pairs],
            "second": [found.names[j] for _, j in pairs],
            "CKA": [_or_empty(found.matrix[pair]) for pair in pairs],
            "by chance": [_or_empty(found.chance[pair]) for pair in pairs],
        },
    )


@styled
def randomisation(points: Sequence[RandomisationPoint]) -> Drawn:
    """Rank correlation of the explanation with the trained network's, the blocks re-drawn one by one."""
    figure = Figure()
    axes = figure.subplots()
    axes.errorbar(
        range(len(points)),
        [point.correlation for point in points],
        [point.error for point in points],
        fmt="o-",
        markersize=5,
        color=CLASS_COLOURS[1],
        capsize=3,
    )
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_ylim(-0.6, 1.1)
    axes.set_xlim(-0.4, len(points) - 0.6)
    axes.set_xticks(
        range(len(points)), [point.redrawn for point in points], rotation=30, ha="right"
    )
    axes.xaxis.minorticks_off()
    axes.set_xlabel("re-drawn down to")
    axes.set_ylabel("rank correlation")
    return Drawn(
        figure,
        {
            "re-drawn down to": [point.redrawn for point in points],
            "rank correlation": [point.correlation for point in points],
            "error": [point.error for point in points],
        },
    )


@styled
def deletion(found: Deletion) -> Drawn:
    """How far the logit difference falls against the share of tokens deleted, a curve a ranking."""
    figure = Figure()
    axes = figure.subplots()
    curves = _grouped(found.points, lambda point: point.by)
    markers = cycle("osD^v<>")
    for (by, points), marker, other in zip(curves.items(), markers, cycle(_OTHERS), strict=False):
        colour, dashes = _RANKINGS.get(by, (other, "dotted"))
        axes.errorbar(
            [100 * point.fraction for point in points],
            [point.drop for point in points],
            [point.drop_error for point in points],
            fmt=marker,
            linestyle=dashes,
            markersize=5,
            capsize=2,
            color=colour,
            label=by,
        )
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xlim(left=0)
    axes.set_xlabel("tokens deleted, of each event [%]")
    axes.set_ylabel("loss of logit difference")
    axes.legend(loc="upper left")
    rows = found.points
    return Drawn(
        figure,
        {
            "deleted by": [point.by for point in rows],
            "share deleted": [point.fraction for point in rows],
            "loss of logit difference": [point.drop for point in rows],
            "its error": [point.drop_error for point in rows],
            "loss beyond random": [point.over_random for point in rows],
            "error beyond random": [point.over_random_error for point in rows],
            "loss of AUC": [point.auc_loss for point in rows],
            "error of the loss of AUC": [point.auc_loss_error for point in rows],
        },
    )


def _grouped(rows: Sequence[R], key: Callable[[R], str]) -> dict[str, list[R]]:
    """Rows of each key, in the order in which they come."""
    groups: dict[str, list[R]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def _bar_panels(
    labels: Mapping[str, Sequence[str]], columns: int
) -> tuple[Figure, list[list[Axes]]]:
    """Panels for horizontal bars: a block of rows for each name, `columns` side by side."""
    rows = [len(of) for of in labels.values()]
    figure = Figure(figsize=(5.6, _ROW * sum(rows) + 0.34 * len(rows) + 0.9))
    grid = figure.subplots(
        len(rows), columns, sharex="col", sharey="row", squeeze=False, height_ratios=rows
    )
    panels = [list(line) for line in grid]
    for line, (name, of) in zip(panels, labels.items(), strict=True):
        line[0].set_title(name, fontsize=11, loc="left", pad=3)
        line[0].set_yticks(range(len(of)), of, fontsize=9)
        line[0].set_ylim(len(of) - 0.4, -0.6)
        for axes in line:
            axes.yaxis.set_tick_params(which="both", length=0)
            axes.minorticks_off()
            axes.xaxis.set_major_locator(MaxNLocator(4))
            axes.tick_params(axis="x", which="both", labelsize=10)
            axes.xaxis.label.set_fontsize(11)
    return figure, panels


class _Bars(NamedTuple):
    """How horizontal bars with errors look; all of a panel are drawn in one go."""

    colour: str
    width: float
    label: str = ""

    def draw(
        self,
        axes: Axes,
        places: NDArray[np.number[Any]],
        values: Sequence[float],
        errors: Sequence[float],
    ) -> None:
        axes.barh(places, values, self.width, color=self.colour, alpha=0.75, label=self.label)
        axes.errorbar(values, places, xerr=errors, fmt="none", ecolor="black", elinewidth=1)


def _factors(axes: Axes, rows: Sequence[Worth]) -> None:
    """Bars from 1 to the factor on the background; a cross where it cannot be told."""
    told = [(place, row) for place, row in enumerate(rows) if row.rejection_factor is not None]
    for place in set(range(len(rows))) - {place for place, _ in told}:
        axes.plot(1, place, "x", color=_GREY)
    places = np.array([place for place, _ in told], np.float64)
    value, low, high = (
        np.array([getattr(row, f"rejection_{name}") for _, row in told], np.float64)
        for name in ("factor", "low", "high")
    )
    axes.barh(places, value - 1, 0.6, left=1, color=_REJECTION_COLOUR, alpha=0.75)
    axes.errorbar(
        value, places, xerr=[value - low, high - value], fmt="none", ecolor="black", elinewidth=1
    )


def _plain_logarithm(axes: Axes) -> None:
    """A logarithmic axis labelled 1, 2, 5, 10."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _write_numbers(axes: Axes, matrix: NDArray[np.float64]) -> None:
    for (row, column), value in np.ndenumerate(matrix):
        if not math.isnan(value):
            axes.text(
                column,
                row,
                f"{value:.2f}".removeprefix("0"),
                ha="center",
                va="center",
                fontsize=8,
                color="black" if value > 0.6 else "white",
            )


def _or_empty(value: float | None) -> float | str:
    """A number, or nothing where there is none."""
    return "" if value is None or math.isnan(value) else float(value)
