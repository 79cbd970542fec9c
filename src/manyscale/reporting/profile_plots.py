"""What tokens are given, attention or importance: shares of kinds, profiles in pT and distance."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from manyscale.reporting.drawn import Drawn, stacked
from manyscale.reporting.plots import CLASS_NAMES
from manyscale.reporting.style import CLASS_COLOURS, styled

__all__ = ["Axis", "Curve", "Share", "profiles", "shares"]

Floats = NDArray[np.float64]

_DASHES = ("solid", "dotted", "dashed", "dashdot")
_GREY = "#717581"


@dataclass(frozen=True)
class Share:
    """What a target is given by somebody, in events of each class: a row of a panel.

    Attributes
    ----------
    panel, row
        The target and who gives, or the other way round.
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


@dataclass(frozen=True)
class Axis:
    """A horizontal axis: its label, and the edges of its bins."""

    label: str
    edges: Floats


@dataclass(frozen=True)
class Curve:
    """A curve of a profile, in events of each class.

    Attributes
    ----------
    panel
        Title of its panel.
    name
        What it follows.
    axis
        The bins.
    values
        (2, bins): background and signal; not a number: nothing.
    """

    panel: str
    name: str
    axis: Axis
    values: Floats


@styled
def shares(points: Sequence[Share], *, label: str, expected: str) -> Drawn:
    """Draw who gives how much to what, a panel a target, a row each who gives.

    Parameters
    ----------
    label
        Of the horizontal axis.
    expected
        What the grey marks are.
    """
    names = list(dict.fromkeys(point.panel for point in points))
    rows = list(dict.fromkeys(point.row for point in points))
    figure, panels = _panels(len(names), 0.55 + 0.3 * len(rows), sharey=True)
    for axes, name in zip(panels, names, strict=False):
        _draw_shares(axes, [point for point in points if point.panel == name], rows, expected)
        axes.set_title(name, fontsize=10, pad=4)
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


def _draw_shares(axes: Axes, points: Sequence[Share], rows: Sequence[str], expected: str) -> None:
    places = np.array([rows.index(point.row) for point in points])
    for label, (of, colour) in enumerate(zip(CLASS_NAMES, CLASS_COLOURS, strict=True)):
        height = places + 0.16 * (1 if label else -1)
        awaited = np.array([point.expected[label] for point in points])
        axes.plot(awaited, height, "|", color=_GREY, markersize=9, label=expected)
        axes.errorbar(
            [point.value[label] for point in points],
            height,
            xerr=[point.error[label] for point in points],
            fmt="o",
            color=colour,
            markersize=4,
            label=of,
        )
    axes.set_yticks(range(len(rows)), rows)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.tick_params(labelsize=9)


@styled
def profiles(curves: Sequence[Curve], *, label: str, from_zero: bool = True) -> Drawn:
    """Draw what tokens are given against pT rank or distance.

    Parameters
    ----------
    curves
        A panel holds those of the same panel and axis: dashes tell them apart, colours the classes.
    label
        Of the vertical axis.
    from_zero
        Whether that axis begins at zero.
    """
    names = list(dict.fromkeys((curve.panel, curve.axis.label) for curve in curves))
    figure, panels = _panels(len(names), 2.1, sharey=False)
    for axes, name in zip(panels, names, strict=False):
        members = [curve for curve in curves if (curve.panel, curve.axis.label) == name]
        for place, curve in enumerate(members):
            dashes = _DASHES[place % len(_DASHES)]
            for of, values, colour in zip(CLASS_NAMES, curve.values, CLASS_COLOURS, strict=True):
                legend = f"{of}, {curve.name}"
                edges = curve.axis.edges
                # No verticals down to zero: many bins would hide the curves of others.
                axes.stairs(
                    values, edges, baseline=None, color=colour, ls=dashes, lw=1.5, label=legend
                )
        axes.set_title(name[0], fontsize=10, pad=4)
        axes.set_xlabel(name[1], fontsize=10)
        axes.set_xlim(members[0].axis.edges[0], members[0].axis.edges[-1])
        if from_zero:
            axes.set_ylim(bottom=0)
        axes.tick_params(labelsize=9)
    figure.supylabel(label, fontsize=10)
    _legend(figure, panels)
    table = [
        {
            "panel": curve.panel,
            "curve": curve.name,
            "class": of,
            "against": curve.axis.label,
            "from": curve.axis.edges[:-1],
            "to": curve.axis.edges[1:],
            "value": values,
        }
        for curve in curves
        for of, values in zip(CLASS_NAMES, curve.values, strict=True)
    ]
    return Drawn(figure, stacked(table))


def _panels(number: int, height: float, *, sharey: bool) -> tuple[Figure, list[Axes]]:
    """Panels of that height, two side by side."""
    across = min(number, 2)
    down = -(-number // across)
    figure = Figure(figsize=(5.6, 0.8 + height * down))
    panels: list[Axes] = list(figure.subplots(down, across, squeeze=False, sharey=sharey).flatten())
    for axes in panels:
        axes.minorticks_off()
    for axes in panels[number:]:
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
