"""Plots of explanations: maps, shares and profiles of attention and Grad-CAM, ablations, sanity checks."""

from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from typing import Any, NamedTuple, TypeVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import LogNorm, Normalize, SymLogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from manyscale.evaluation.results import (
    Correlation,
    DeletionCurvePoint,
    FeatureAttribution,
    LayerPair,
    PermutationImportance,
)
from manyscale.features.images import ImageSettings
from manyscale.reporting.figure import (
    CLASS_COLOURS,
    CLASS_NAMES,
    DASHES,
    GREY,
    Drawn,
    Floats,
    jet_image,
    panel_grid,
    pixel_table,
    shared_legend,
    stacked,
    styled,
)

__all__ = [
    "Curve",
    "Share",
    "attributions",
    "class_maps",
    "deletion",
    "permutation",
    "profiles",
    "randomisation",
    "shares",
    "similarity",
]

R = TypeVar("R")

# Colour and dashes of the rankings by which tokens are deleted.
_RANKINGS = {
    "Grad-CAM": ("#bd1f01", "solid"),
    "attention": ("#ffa90e", "dashdot"),
    "integrated gradients": ("#832db6", "solid"),
    "pT": ("#3f90da", "dashdot"),
    "random": (GREY, "dashed"),
}
_OTHERS = ("#a96b59", "#e76300", "#94a4a2", "#92dadd", "#b9ac70")
_AUC_COLOUR, _REJECTION_COLOUR = "#832db6", "#e76300"
_ROW = 0.24  # inches a row of bars
# So many layers still leave room for a number in each cell.
_ANNOTATED = 12

# Powers of ten that the colours of maps span: below is the noise of single tokens.
_DECADES = 2.5
_CONTRAST_DECADES = 1.5
# Inches: of the page, of a map at most, and around the maps.
_WIDTH, _LARGEST = 5.6, 1.8
_LEFT, _RIGHT, _TOP, _BOTTOM, _GAP = 0.3, 0.15, 0.85, 0.5, 0.08


def _grouped(rows: Sequence[R], key: Callable[[R], str]) -> dict[str, list[R]]:
    """Rows of each key, in the order in which they come."""
    groups: dict[str, list[R]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def _numbers(rows: Sequence[object], *names: str) -> list[Floats]:
    """Attributes of the rows; what is not known as NaN, which matplotlib leaves out."""
    return [np.array([getattr(row, name) for row in rows], np.float64) for name in names]


def _table(rows: Sequence[object], columns: Mapping[str, str]) -> dict[str, list[object]]:
    """A column of the table for each attribute of the rows."""
    return {title: [getattr(row, name) for row in rows] for title, name in columns.items()}


# ---- bars of streams and features -------------------------------------------------------------


@styled
def attributions(rows: Sequence[FeatureAttribution]) -> Drawn:
    """Bars of the attribution of each feature, stream by stream, signal and background.

    Left the mean of the absolute value, right the mean with its sign.
    """
    streams = _grouped(rows, lambda row: row.stream)
    labels = {name: list(_grouped(of, lambda row: row.feature)) for name, of in streams.items()}
    figure, panels = _bar_panels(
        labels, ("mean of absolute value [logits]", "mean, above 0: to signal")
    )
    for line, of_stream in zip(panels, streams.values(), strict=True):
        for label, bars in _grouped(of_stream, lambda row: row.label).items():
            signal = label == "signal"
            at = np.arange(len(bars)) + (-0.2 if signal else 0.2)
            look: dict[str, Any] = {"height": 0.36, "color": CLASS_COLOURS[signal], "label": label}
            for axes, of in zip(line, ("absolute", "signed"), strict=True):
                _bars(axes, at, *_numbers(bars, of, f"{of}_error"), **look)
        line[1].axvline(0, color="black", linewidth=0.8)
    shared_legend(figure, panels[0][:1], loc="outside upper right", fontsize=10)
    columns = {
        "stream": "stream",
        "feature": "feature",
        "class": "label",
        "mean of absolute value [logits]": "absolute",
        "its error [logits]": "absolute_error",
        "mean towards signal [logits]": "signed",
        "error of the mean [logits]": "signed_error",
    }
    return Drawn(figure, _table(rows, columns))


@styled
def permutation(found: PermutationImportance) -> Drawn:
    """Bars of what is lost when streams and feature groups are permuted between the events.

    Left the AUC, right the factor on the background rejection, where it is known.
    """
    rows = [*found.streams, *found.groups]
    blocks = _grouped(rows, lambda row: row.stream if row.group else "whole streams")
    labels = {name: [row.group or row.stream for row in of] for name, of in blocks.items()}
    titles = ["loss of AUC"]
    if found.signal_efficiency is not None:
        titles.append(f"factor on background, {found.signal_efficiency:.0%} signal")
    figure, panels = _bar_panels(labels, titles)
    for (of_auc, *of_rejection), block in zip(panels, blocks.values(), strict=True):
        at = np.arange(len(block))
        loss = _numbers(block, "auc_loss", "auc_loss_error")
        _bars(of_auc, at, *loss, height=0.6, color=_AUC_COLOUR)
        of_auc.axvline(0, color="black", linewidth=0.8)
        factor, low, high = _numbers(block, "rejection_factor", "rejection_low", "rejection_high")
        for axes in of_rejection:
            # Bars begin at 1; a cross stands where the factor is not known.
            known = ~np.isnan(factor)
            axes.plot(np.ones((~known).sum()), at[~known], "x", color=GREY)
            ends = np.array([factor - low, high - factor])[:, known]
            look = {"height": 0.6, "left": 1, "color": _REJECTION_COLOUR}
            _bars(axes, at[known], factor[known], ends, **look)
            axes.axvline(1, color="black", linewidth=0.8)
    for axes in panels[-1][1:]:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    columns = {
        "loss of AUC": "auc_loss",
        "its error": "auc_loss_error",
        "background grows by a factor": "rejection_factor",
        "at least": "rejection_low",
        "at most": "rejection_high",
    }
    what: dict[str, list[object]] = {
        "stream": [row.stream for row in rows],
        "permuted": [row.group or "whole stream" for row in rows],
        "features": [" ".join(row.features) for row in rows],
    }
    return Drawn(figure, what | _table(rows, columns))


def _bar_panels(
    labels: Mapping[str, Sequence[str]], titles: Sequence[str]
) -> tuple[Figure, list[list[Axes]]]:
    """Panels for horizontal bars: a block of rows for each name, a column for each title."""
    rows = [len(of) for of in labels.values()]
    figure = Figure(figsize=(_WIDTH, _ROW * sum(rows) + 0.34 * len(rows) + 0.9))
    grid = figure.subplots(
        len(rows), len(titles), sharex="col", sharey="row", squeeze=False, height_ratios=rows
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
    for axes, title in zip(panels[-1], titles, strict=True):
        axes.set_xlabel(title, fontsize=11)
    return figure, panels


def _bars(axes: Axes, places: NDArray[Any], ends: Floats, errors: Floats, **look: Any) -> None:  # noqa: ANN401
    """Horizontal bars with errors, all of a panel in one go, from `left` or 0 to their ends."""
    axes.barh(places, ends - look.get("left", 0), alpha=0.75, **look)
    axes.errorbar(ends, places, xerr=errors, fmt="none", ecolor="black", elinewidth=1)


# ---- similarity, sanity checks ----------------------------------------------------------------


@styled
def similarity(pairs: Sequence[LayerPair]) -> Drawn:
    """The matrix of CKA of all layers with each other; numbers in it where there is room."""
    names = list(dict.fromkeys(pair.first for pair in pairs))
    layers = len(names)
    matrix = _numbers(pairs, "cka")[0].reshape(layers, layers)
    figure = Figure(figsize=(_WIDTH, min(max(0.34 * layers, 1.6), 4.6) + 1.6))
    axes = figure.subplots()
    edges = np.arange(layers + 1) - 0.5
    image = axes.pcolormesh(edges, edges, matrix, cmap="viridis", vmin=0, vmax=1)
    axes.set_facecolor("#d9d9d9")
    axes.invert_yaxis()
    axes.set_aspect("equal")
    size = 9 if layers <= _ANNOTATED else 7
    axes.set_xticks(range(layers), names, rotation=90, fontsize=size)
    axes.set_yticks(range(layers), names, fontsize=size)
    axes.tick_params(which="both", length=0)
    axes.minorticks_off()
    if layers <= _ANNOTATED:
        for row, column in np.argwhere(~np.isnan(matrix)):
            value = matrix[row, column]
            shown, colour = f"{value:.2f}".removeprefix("0"), "black" if value > 0.6 else "white"
            axes.text(column, row, shown, ha="center", va="center", fontsize=8, color=colour)
    bar = figure.colorbar(image, ax=axes, shrink=0.8, pad=0.03)
    bar.set_label("similarity (linear CKA)", fontsize=11)
    columns = {"first": "first", "second": "second", "CKA": "cka", "by chance": "chance"}
    return Drawn(figure, _table(pairs, columns))


@styled
def randomisation(points: Sequence[Correlation]) -> Drawn:
    """Rank correlation of the explanation with the trained network's, the blocks re-drawn one by one."""
    figure = Figure()
    axes = figure.subplots()
    values, errors = _numbers(points, "correlation", "error")
    look: dict[str, Any] = {"fmt": "o-", "markersize": 5, "capsize": 3, "color": CLASS_COLOURS[1]}
    axes.errorbar(range(len(points)), values, errors, **look)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_ylim(-0.6, 1.1)
    axes.set_xlim(-0.4, len(points) - 0.6)
    axes.set_xticks(range(len(points)), [p.redrawn for p in points], rotation=30, ha="right")
    axes.xaxis.minorticks_off()
    axes.set_xlabel("re-drawn down to")
    axes.set_ylabel("rank correlation")
    columns = {"re-drawn down to": "redrawn", "rank correlation": "correlation", "error": "error"}
    return Drawn(figure, _table(points, columns))


@styled
def deletion(points: Sequence[DeletionCurvePoint]) -> Drawn:
    """How far the logit difference falls against the share of tokens deleted, a curve a ranking."""
    figure = Figure()
    axes = figure.subplots()
    curves = _grouped(points, lambda point: point.by)
    looks = zip(curves.items(), cycle("osD^v<>"), cycle(_OTHERS), strict=False)
    for (by, curve), marker, other in looks:
        colour, dashes = _RANKINGS.get(by, (other, "dotted"))
        fraction, drop, error = _numbers(curve, "fraction", "drop", "drop_error")
        look: dict[str, Any] = {
            "fmt": marker,
            "markersize": 5,
            "capsize": 2,
            "color": colour,
            "linestyle": dashes,
        }
        axes.errorbar(100 * fraction, drop, error, label=by, **look)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xlim(left=0)
    axes.set_xlabel("tokens deleted, of each event [%]")
    axes.set_ylabel("loss of logit difference")
    axes.legend(loc="upper left")
    columns = {
        "deleted by": "by",
        "share deleted": "fraction",
        "loss of logit difference": "drop",
        "its error": "drop_error",
        "loss beyond random": "over_random",
        "error beyond random": "over_random_error",
        "loss of AUC": "auc_loss",
        "error of the loss of AUC": "auc_loss_error",
    }
    return Drawn(figure, _table(points, columns))


# ---- maps in the plane of a jet ---------------------------------------------------------------


@styled
def class_maps(images: Mapping[str, Floats], plane: ImageSettings, unit: str) -> Drawn:
    """Draw a row of three maps for each (2, bins, bins): background, signal, signal minus background.

    `plane` has the reach and frame of the maps, `unit` says what a pixel holds.
    """
    figure, panels = _map_panels(list(images), (*CLASS_NAMES, "difference"), plane)
    shades = _shades(images)
    widest = max(float(np.abs(image[1] - image[0]).max()) for image in images.values()) or 1.0
    # Linear near zero alone: the core of a jet holds most, its rest tells the classes apart, too.
    apart = SymLogNorm(widest * 10.0**-_CONTRAST_DECADES, vmin=-widest, vmax=widest)
    for row, (background, signal) in zip(panels, images.values(), strict=True):
        jet_image(row[0], background, plane.half_width, shades)
        jet_image(row[1], signal, plane.half_width, shades)
        jet_image(row[2], signal - background, plane.half_width, apart)
    _colour_bar(figure, panels[:, :2], shades, unit)
    bar = _colour_bar(figure, panels[:, 2:], apart, "signal − background")
    bar.set_ticks([-widest, 0, widest], labels=[f"{-widest:.1g}", "0", f"{widest:.1g}"])
    return Drawn(figure, _pixels(images, CLASS_NAMES, plane))


def _map_panels(
    rows: Sequence[str], columns: Sequence[str], plane: ImageSettings
) -> tuple[Figure, NDArray[np.object_]]:
    """Square panels with their names above and beside them; numbers along the last row alone.

    Placed by hand: matplotlib's own layout takes seconds for so many panels.
    """
    side = min((_WIDTH - _LEFT - _RIGHT) / max(len(columns), 3), _LARGEST) - _GAP
    width = _LEFT + _RIGHT + (side + _GAP) * len(columns)
    height = _TOP + _BOTTOM + (side + _GAP) * len(rows)
    figure = Figure(figsize=(width, height))
    figure.set_layout_engine("none")
    panels = np.empty((len(rows), len(columns)), np.object_)
    ticks = (-plane.half_width / 2, 0, plane.half_width / 2)
    for row, column in np.ndindex(panels.shape):
        left, bottom = _LEFT + column * (side + _GAP), height - _TOP - (row + 1) * (side + _GAP)
        box = (left / width, bottom / height, side / width, side / height)
        axes = panels[row, column] = figure.add_axes(box, xticks=ticks, yticks=ticks)
        axes.tick_params(top=False, right=False, labelleft=False, length=3, labelsize=8)
        axes.tick_params(which="minor", bottom=False, top=False, left=False, right=False)
        axes.tick_params(labelbottom=row == len(rows) - 1)
    for axes, name in zip(panels[0], columns, strict=True):
        axes.set_title(name, fontsize=10, pad=4)
    for axes, name in zip(panels[:, 0], rows, strict=True):
        axes.set_ylabel(name, fontsize=9, loc="center", labelpad=4)
    turned = ", turned" if plane.frame.rotate != "none" else ""
    words = f"across: Δη, up: Δφ{turned}; same scale"
    figure.text(0.5, 0.08 / height, words, fontsize=9, ha="center")
    return figure, panels


def _shades(images: Mapping[str, Floats]) -> LogNorm:
    """One logarithmic scale for all."""
    most = max(float(image.max()) for image in images.values())
    most = most if most > 0 else 1.0
    return LogNorm(most * 10.0**-_DECADES, most)


def _colour_bar(
    figure: Figure, panels: NDArray[np.object_], shades: Normalize, label: str
) -> Colorbar:
    """Draw the scale of colours above some columns of panels."""
    first, last = panels[0, 0].get_position(), panels[0, -1].get_position()
    width, height = figure.get_size_inches()
    left, right = first.x0 + _GAP / width, last.x1 - _GAP / width
    axes = figure.add_axes((left, last.y1 + 0.3 / height, right - left, 0.09 / height))
    colours = panels[0, 0].images[0].cmap
    bar = figure.colorbar(ScalarMappable(shades, colours), cax=axes, orientation="horizontal")
    axes.xaxis.set_ticks_position("top")
    axes.set_title(label, fontsize=9, pad=16)
    axes.tick_params(labelsize=8)
    axes.minorticks_off()
    return bar


def _pixels(
    images: Mapping[str, Floats], columns: Sequence[str], plane: ImageSettings
) -> dict[str, list[float]]:
    """A row a pixel in which any map is not zero, a column a map, to the digits that colours show."""
    maps = {
        f"{name}, {of}": values
        for name, image in images.items()
        for of, values in zip(columns, image, strict=True)
    }
    hit = np.any(list(maps.values()), axis=0)
    table = pixel_table(maps, hit, plane.half_width)
    return {name: [float(f"{value:.3e}") for value in values] for name, values in table.items()}


# ---- what tokens are given: shares of kinds, profiles in pT and distance ----------------------


class Share(NamedTuple):
    """Part of a whole, attention say: row of a panel, (2,) values of background and signal.

    `expected` is what to compare them with; NaN: nothing.
    """

    panel: str
    row: str
    value: Floats
    error: Floats
    expected: Floats


class Curve(NamedTuple):
    """A curve of a profile: its name, (bins + 1,) edges, (2, bins) values of background and signal.

    Curves of the same panel and horizontal axis stand together.
    """

    panel: str
    axis: str
    name: str
    edges: Floats
    values: Floats


@styled
def shares(points: Sequence[Share], *, label: str, expected: str) -> Drawn:
    """Draw each panel with its rows, both classes in them, grey marks for what is `expected`.

    `label` stands below the horizontal axis.
    """
    panels_of = _grouped(points, lambda point: point.panel)
    rows = list(_grouped(points, lambda point: point.row))
    figure, panels = panel_grid(list(panels_of), 0.55 + 0.3 * len(rows), sharey=True)
    for axes, members in zip(panels, panels_of.values(), strict=True):
        at = np.array([rows.index(point.row) for point in members])
        value, error, compared = _numbers(members, "value", "error", "expected")
        for number, (name, colour) in enumerate(zip(CLASS_NAMES, CLASS_COLOURS, strict=True)):
            height = at + (-0.16, 0.16)[number]
            axes.plot(compared[:, number], height, "|", color=GREY, ms=9, label=expected)
            look: dict[str, Any] = {"fmt": "o", "color": colour, "markersize": 4, "label": name}
            axes.errorbar(value[:, number], height, xerr=error[:, number], **look)
        axes.set_yticks(range(len(rows)), rows)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlim(left=0)
    figure.supxlabel(label, fontsize=10)
    shared_legend(figure, panels, fontsize=9)
    table = [
        {
            "of": point.panel,
            "by": point.row,
            "class": CLASS_NAMES,
            "value": point.value,
            "error": point.error,
            expected: point.expected,
        }
        for point in points
    ]
    return Drawn(figure, stacked(table))


@styled
def profiles(curves: Sequence[Curve], *, label: str) -> Drawn:
    """Draw what tokens are given against pT rank or distance: colours tell classes apart, dashes curves.

    `label` stands beside the vertical axis.
    """
    panels_of = _grouped(curves, lambda curve: f"{curve.panel}\n{curve.axis}")
    titles = [members[0].panel for members in panels_of.values()]
    figure, panels = panel_grid(titles, 2.1)
    for axes, members in zip(panels, panels_of.values(), strict=True):
        for curve, dashes in zip(members, cycle(DASHES), strict=False):
            for of, values, colour in zip(CLASS_NAMES, curve.values, CLASS_COLOURS, strict=True):
                # No verticals down to zero: many bins would hide the curves of others.
                look: dict[str, Any] = {"baseline": None, "color": colour, "ls": dashes, "lw": 1.5}
                axes.stairs(values, curve.edges, label=f"{of}, {curve.name}", **look)
        axes.set_xlabel(members[0].axis, fontsize=10)
        axes.set_xlim(members[0].edges[0], members[0].edges[-1])
        axes.set_ylim(bottom=0)
    figure.supylabel(label, fontsize=10)
    shared_legend(figure, panels, ncols=2, fontsize=9)
    table = [
        {
            "panel": curve.panel,
            "curve": curve.name,
            "class": of,
            "against": curve.axis,
            "from": curve.edges[:-1],
            "to": curve.edges[1:],
            "value": values,
        }
        for curve in curves
        for of, values in zip(CLASS_NAMES, curve.values, strict=True)
    ]
    return Drawn(figure, stacked(table))
