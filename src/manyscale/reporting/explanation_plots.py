"""Plots of explanations: maps, shares and profiles of attention and Grad-CAM, ablations, sanity checks."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from typing import Any, NamedTuple, TypeVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
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
from manyscale.reporting.figure import CLASS_COLOURS, CLASS_NAMES, GREY, Drawn, stacked, styled

__all__ = [
    "Curve",
    "Share",
    "attributions",
    "class_maps",
    "deletion",
    "head_maps",
    "permutation",
    "profiles",
    "randomisation",
    "shares",
    "similarity",
]

R = TypeVar("R")
Floats = NDArray[np.float64]

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
_DASHES = ("solid", "dotted", "dashed", "dashdot")
_ROW = 0.24  # inches a row of bars
# So many layers still leave room for a number in each cell.
_ANNOTATED = 12

# Powers of ten that the colours of maps span: below is the noise of single tokens.
_DECADES = 2.5
_CONTRAST_DECADES = 1.5
_SHADES, _CONTRAST = "inferno", "RdBu_r"
# Inches: of the page, of a map at most, and around the maps.
_WIDTH, _LARGEST = 5.6, 1.8
_LEFT, _RIGHT, _TOP, _BOTTOM, _GAP = 0.3, 0.15, 0.85, 0.5, 0.08


def _grouped(rows: Sequence[R], key: Callable[[R], str]) -> dict[str, list[R]]:
    """Rows of each key, in the order in which they come."""
    groups: dict[str, list[R]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def _table(rows: Sequence[object], columns: Mapping[str, str]) -> dict[str, list[object]]:
    """A column of the table for each attribute of the rows; what is not known is left empty."""
    values = {name: [getattr(row, of) for row in rows] for name, of in columns.items()}
    return {
        name: ["" if value is None else value for value in of_rows]
        for name, of_rows in values.items()
    }


def _known(values: Sequence[float | None]) -> Floats:
    """What is not known as NaN, which matplotlib leaves out."""
    return np.array([math.nan if value is None else value for value in values])


# ---- bars of streams and features ----


@styled
def attributions(rows: Sequence[FeatureAttribution]) -> Drawn:
    """Bars of the attribution of each feature, stream by stream, signal and background.

    Left the mean of the absolute value, right the mean with its sign.
    """
    streams = _grouped(rows, lambda row: row.stream)
    labels = {name: list(_grouped(of, lambda row: row.feature)) for name, of in streams.items()}
    figure, panels = _bar_panels(labels, 2)
    for line, of_stream in zip(panels, streams.values(), strict=True):
        for label, bars in _grouped(of_stream, lambda row: row.label).items():
            signal = label == "signal"
            places = np.arange(len(bars)) + (-0.2 if signal else 0.2)
            look = {"height": 0.36, "color": CLASS_COLOURS[signal], "label": label}
            for axes, of in zip(line, ("absolute", "signed"), strict=True):
                values, errors = (
                    _known([getattr(r, name) for r in bars]) for name in (of, f"{of}_error")
                )
                _bars(axes, places, values, errors, **look)
        line[1].axvline(0, color="black", linewidth=0.8)
    panels[-1][0].set_xlabel("mean of absolute value [logits]")
    panels[-1][1].set_xlabel("mean, above 0: to signal")
    figure.legend(
        *panels[0][0].get_legend_handles_labels(), loc="outside upper right", ncols=2, fontsize=10
    )
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
    known = found.signal_efficiency is not None
    figure, panels = _bar_panels(labels, 2 if known else 1)
    for axes, of_block in zip(panels, blocks.values(), strict=True):
        places = np.arange(len(of_block))
        losses, errors, factor, low, high = (
            _known([getattr(row, name) for row in of_block])
            for name in (
                *("auc_loss", "auc_loss_error"),
                *("rejection_factor", "rejection_low", "rejection_high"),
            )
        )
        _bars(axes[0], places, losses, errors, height=0.6, color=_AUC_COLOUR)
        axes[0].axvline(0, color="black", linewidth=0.8)
        if known:
            # Bars begin at 1; a cross stands where the factor is not known.
            of_known = ~np.isnan(factor)
            axes[1].plot(np.ones((~of_known).sum()), places[~of_known], "x", color=GREY)
            ends = np.array([factor - low, high - factor])[:, of_known]
            look = {"height": 0.6, "left": 1, "color": _REJECTION_COLOUR}
            _bars(axes[1], places[of_known], factor[of_known], ends, **look)
            axes[1].axvline(1, color="black", linewidth=0.8)
    panels[-1][0].set_xlabel("loss of AUC")
    if known:
        axis = panels[-1][1].xaxis
        panels[-1][1].set_xscale("log")
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
        panels[-1][1].set_xlabel(f"factor on background, {found.signal_efficiency:.0%} signal")
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
    labels: Mapping[str, Sequence[str]], columns: int
) -> tuple[Figure, list[list[Axes]]]:
    """Panels for horizontal bars: a block of rows for each name, `columns` side by side."""
    rows = [len(of) for of in labels.values()]
    figure = Figure(figsize=(_WIDTH, _ROW * sum(rows) + 0.34 * len(rows) + 0.9))
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


def _bars(axes: Axes, places: NDArray[Any], ends: Floats, errors: Floats, **look: Any) -> None:  # noqa: ANN401
    """Horizontal bars with errors, all of a panel in one go, from `left` or 0 to their ends."""
    axes.barh(places, ends - look.get("left", 0), alpha=0.75, **look)
    axes.errorbar(ends, places, xerr=errors, fmt="none", ecolor="black", elinewidth=1)


# ---- similarity, sanity checks ----


@styled
def similarity(pairs: Sequence[LayerPair]) -> Drawn:
    """The matrix of CKA of all layers with each other; numbers in it where there is room."""
    names = list(dict.fromkeys(pair.first for pair in pairs))
    layers = len(names)
    matrix = _known([pair.cka for pair in pairs]).reshape(layers, layers)
    side = min(max(0.34 * layers, 1.6), 4.6)
    figure = Figure(figsize=(_WIDTH, side + 1.6))
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
        for (row, column), value in np.ndenumerate(matrix):
            if not math.isnan(value):
                shown, colour = (
                    f"{value:.2f}".removeprefix("0"),
                    "black" if value > 0.6 else "white",
                )
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
    axes.errorbar(
        range(len(points)),
        _known([point.correlation for point in points]),
        _known([point.error for point in points]),
        fmt="o-",
        markersize=5,
        color=CLASS_COLOURS[1],
        capsize=3,
    )
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_ylim(-0.6, 1.1)
    axes.set_xlim(-0.4, len(points) - 0.6)
    axes.set_xticks(range(len(points)), [p.redrawn for p in points], rotation=30, ha="right")
    axes.xaxis.minorticks_off()
    axes.set_xlabel("re-drawn down to")
    axes.set_ylabel("rank correlation")
    columns = {
        "re-drawn down to": "redrawn",
        "rank correlation": "correlation",
        "error": "error",
    }
    return Drawn(figure, _table(points, columns))


@styled
def deletion(points: Sequence[DeletionCurvePoint]) -> Drawn:
    """How far the logit difference falls against the share of tokens deleted, a curve a ranking."""
    figure = Figure()
    axes = figure.subplots()
    curves = _grouped(points, lambda point: point.by)
    for (by, curve), marker, other in zip(
        curves.items(), cycle("osD^v<>"), cycle(_OTHERS), strict=False
    ):
        colour, dashes = _RANKINGS.get(by, (other, "dotted"))
        axes.errorbar(
            [100 * point.fraction for point in curve],
            _known([point.drop for point in curve]),
            _known([point.drop_error for point in curve]),
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


# ---- maps in the plane of a jet ----


@styled
def class_maps(images: Mapping[str, Floats], plane: ImageSettings, unit: str) -> Drawn:
    """Draw a row of three maps each: background, signal, signal minus background.

    Parameters
    ----------
    images
        Name of the row -> (2, bins, bins): mean of background and of signal, pixels of eta first.
    plane
        Reach and frame of the maps.
    unit
        What a pixel holds.
    """
    figure, panels = _grid(list(images), (*CLASS_NAMES, "difference"), plane)
    shades = _shades(images)
    widest = max(float(np.abs(image[1] - image[0]).max()) for image in images.values()) or 1.0
    # Linear near zero alone: the core of a jet holds most, its rest tells the classes apart, too.
    apart = SymLogNorm(widest * 10.0**-_CONTRAST_DECADES, vmin=-widest, vmax=widest)
    for row, image in zip(panels, images.values(), strict=True):
        _picture(row[0], image[0], plane, shades)
        _picture(row[1], image[1], plane, shades)
        _picture(row[2], image[1] - image[0], plane, apart)
    _colour_bar(figure, panels[:, :2], shades, unit)
    _colour_bar(figure, panels[:, 2:], apart, "signal − background")
    return Drawn(figure, _pixels(images, CLASS_NAMES, plane))


@styled
def head_maps(
    images: Mapping[str, Floats], heads: Sequence[str], plane: ImageSettings, unit: str
) -> Drawn:
    """Draw a row of maps each, one a head.

    Parameters
    ----------
    images
        Name of the row -> (heads, bins, bins).
    heads
        Their names.
    plane
        Reach and frame of the maps.
    unit
        What a pixel holds.
    """
    figure, panels = _grid(list(images), heads, plane)
    shades = _shades(images)
    for row, image in zip(panels, images.values(), strict=True):
        for axes, of_head in zip(row, image, strict=True):
            _picture(axes, of_head, plane, shades)
    _colour_bar(figure, panels, shades, unit)
    return Drawn(figure, _pixels(images, heads, plane))


def _grid(
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
    figure.text(
        0.5, 0.08 / height, f"across: Δη, up: Δφ{turned}; same scale", fontsize=9, ha="center"
    )
    return figure, panels


def _shades(images: Mapping[str, Floats]) -> LogNorm:
    """One logarithmic scale for all."""
    most = max(float(image.max()) for image in images.values())
    most = most if most > 0 else 1.0
    return LogNorm(most * 10.0**-_DECADES, most)


def _picture(axes: Axes, image: Floats, plane: ImageSettings, shades: Normalize) -> None:
    reach, logarithmic = plane.half_width, isinstance(shades, LogNorm)
    least = -np.inf if shades.vmin is None else shades.vmin
    # An image stays small in the SVG, where a rectangle a pixel would be half a megabyte.
    axes.imshow(
        image.clip(min=least).T,
        origin="lower",
        extent=(-reach, reach, -reach, reach),
        norm=shades,
        cmap=_SHADES if logarithmic else _CONTRAST,
        interpolation="none",
    )
    axes.tick_params(which="both", color="white" if logarithmic else "black")


def _colour_bar(figure: Figure, panels: NDArray[np.object_], shades: Normalize, label: str) -> None:
    """Draw the scale of colours above some columns of panels."""
    first, last = panels[0, 0].get_position(), panels[0, -1].get_position()
    width, height = figure.get_size_inches()
    left, right = first.x0 + _GAP / width, last.x1 - _GAP / width
    axes = figure.add_axes((left, last.y1 + 0.3 / height, right - left, 0.09 / height))
    colours = _SHADES if isinstance(shades, LogNorm) else _CONTRAST
    bar = figure.colorbar(ScalarMappable(shades, colours), cax=axes, orientation="horizontal")
    axes.xaxis.set_ticks_position("top")
    axes.set_title(label, fontsize=9, pad=16)
    axes.tick_params(labelsize=8)
    axes.minorticks_off()
    if isinstance(shades, SymLogNorm):
        most = shades.vmax or 1.0
        bar.set_ticks([-most, 0, most], labels=[f"{-most:.1g}", "0", f"{most:.1g}"])


def _pixels(
    images: Mapping[str, Floats], columns: Sequence[str], plane: ImageSettings
) -> dict[str, list[object]]:
    """A row a pixel in which any map is not zero, by the place of its middle; a column a map."""
    together = np.concatenate(list(images.values()))
    names = [f"{name}, {of}" for name in images for of in columns]
    eta, phi = np.nonzero(together.any(axis=0))
    bins = together.shape[1]
    middle = ((np.arange(bins) + 0.5) / bins * 2 - 1) * plane.half_width
    table = {"delta eta": middle[eta], "delta phi [rad]": middle[phi]}
    table |= {name: values[eta, phi] for name, values in zip(names, together, strict=True)}
    return {name: [float(f"{value:.3e}") for value in values] for name, values in table.items()}


# ---- what tokens are given: shares of kinds, profiles in pT and distance ----


class Share(NamedTuple):
    """Part of a whole, attention say, in events of each class: a row of a panel.

    Attributes
    ----------
    panel, row
        Who is given and who gives, or the other way round.
    value, error
        (2,): background and signal.
    expected
        (2,): what to compare with; not a number: nothing.
    """

    panel: str
    row: str
    value: Floats
    error: Floats
    expected: Floats


class Curve(NamedTuple):
    """A curve of a profile, in events of each class.

    Attributes
    ----------
    panel, axis
        Title of its panel, and label of the horizontal axis: curves of the same two stand together.
    name
        What it follows.
    edges
        (bins + 1,): of the horizontal axis.
    values
        (2, bins): background and signal; not a number: nothing.
    """

    panel: str
    axis: str
    name: str
    edges: Floats
    values: Floats


@styled
def shares(points: Sequence[Share], *, label: str, expected: str) -> Drawn:
    """Draw a panel for each name, a row each who gives, both classes in it.

    Parameters
    ----------
    label
        Of the horizontal axis.
    expected
        What the grey marks are.
    """
    names = list(dict.fromkeys(point.panel for point in points))
    rows = list(dict.fromkeys(point.row for point in points))
    figure, panels = _panels(names, 0.55 + 0.3 * len(rows), sharey=True)
    for axes, name in zip(panels, names, strict=False):
        members = [point for point in points if point.panel == name]
        places = np.array([rows.index(point.row) for point in members])
        value, error, compared = (
            np.array([getattr(point, of) for point in members])
            for of in ("value", "error", "expected")
        )
        for of_class, name_of_class in enumerate(CLASS_NAMES):
            height = places + (0.16 if of_class else -0.16)
            axes.plot(compared[:, of_class], height, "|", color=GREY, ms=9, label=expected)
            axes.errorbar(
                value[:, of_class],
                height,
                xerr=error[:, of_class],
                fmt="o",
                color=CLASS_COLOURS[of_class],
                markersize=4,
                label=name_of_class,
            )
        axes.set_yticks(range(len(rows)), rows)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlim(left=0)
    figure.supxlabel(label, fontsize=10)
    _legend(figure, panels)
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

    Parameters
    ----------
    label
        Of the vertical axis.
    """
    panels_of = _grouped(curves, lambda curve: f"{curve.panel}\n{curve.axis}")
    titles = [members[0].panel for members in panels_of.values()]
    figure, panels = _panels(titles, 2.1, sharey=False)
    for axes, members in zip(panels, panels_of.values(), strict=False):
        for curve, dashes in zip(members, cycle(_DASHES), strict=False):
            for of, values, colour in zip(CLASS_NAMES, curve.values, CLASS_COLOURS, strict=True):
                # No verticals down to zero: many bins would hide the curves of others.
                axes.stairs(
                    values,
                    curve.edges,
                    baseline=None,
                    color=colour,
                    ls=dashes,
                    lw=1.5,
                    label=f"{of}, {curve.name}",
                )
        axes.set_xlabel(members[0].axis, fontsize=10)
        axes.set_xlim(members[0].edges[0], members[0].edges[-1])
        axes.set_ylim(bottom=0)
    figure.supylabel(label, fontsize=10)
    _legend(figure, panels)
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


def _panels(titles: Sequence[str], height: float, *, sharey: bool) -> tuple[Figure, list[Axes]]:
    """Panels of that height, two side by side."""
    across = min(len(titles), 2)
    down = -(-len(titles) // across)
    figure = Figure(figsize=(_WIDTH, 0.8 + height * down))
    panels: list[Axes] = list(figure.subplots(down, across, squeeze=False, sharey=sharey).flatten())
    for axes, title in zip(panels, titles, strict=False):
        axes.set_title(title, fontsize=10, pad=4)
        axes.minorticks_off()
        axes.tick_params(labelsize=9)
    for axes in panels[len(titles) :]:
        axes.set_axis_off()
    return figure, panels


def _legend(figure: Figure, panels: Sequence[Axes]) -> None:
    """One for all panels, above them; the same words once."""
    entries = {
        word: handle
        for axes in panels
        for handle, word in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        entries.values(),
        entries.keys(),
        loc="outside upper center",
        ncols=2 + len(entries) % 2,
        fontsize=9,
    )
