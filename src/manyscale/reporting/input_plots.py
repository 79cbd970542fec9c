"""What goes into the network: every input by class, ranked by separation, and mean images of jets."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from manyscale.evaluation.results import Separation
from manyscale.reporting.figure import (
    CLASS_COLOURS,
    CLASS_NAMES,
    Drawn,
    jet_image,
    panel_grid,
    pixel_table,
    shared_legend,
    stacked,
    styled,
)
from manyscale.reporting.look import label_of
from manyscale.statistics.metrics import separation
from manyscale.statistics.sample import Floats, Sample

__all__ = ["InputColumn", "class_images", "input_distributions"]

_BINS = 30
_SHOWN = (0.005, 0.995)  # quantiles: the tails would squeeze the rest
_MOST_CLASSES = 16
# Powers of ten that the colours of an image span: below is the noise of single tokens.
_DECADES = 4
# Tokens of both classes in a pixel below which their difference is chance.
_FEWEST = 10
_UNSEEN = "#d9d9d9"


class InputColumn(NamedTuple):
    """One input of a stream.

    Attributes
    ----------
    name, unit
        Written below its panel.
    values
        (tokens,) numbers, or whole numbers from 0 that count through `classes`.
    classes
        Names of the classes of a categorical input, else empty.
    """

    name: str
    values: NDArray[np.generic]
    unit: str = ""
    classes: tuple[str, ...] = ()


@styled
def input_distributions(
    stream: str,
    inputs: Sequence[InputColumn],
    labels: ArrayLike,
    weights: ArrayLike | None = None,
) -> tuple[Drawn, list[Separation]]:
    """Draw every input of a stream by class, each class with unit area, best separation first.

    Parameters
    ----------
    stream
        Name of the stream, for the ranking.
    inputs
        The inputs of the stream's tokens.
    labels, weights
        (tokens,): those of the events, repeated for each of their tokens.

    Returns
    -------
    The figure, and the ranking in the figure's order.

    Raises
    ------
    DataError
        As `Sample.of`.
    """
    ranked = sorted(
        ((separation(labels, column.values, weights), column) for column in inputs),
        key=lambda pair: (-pair[0], pair[1].name),
    )
    titles = [f"separation {value:.3f}" for value, _ in ranked]
    figure, panels = panel_grid(titles, 2.1)
    table: list[dict[str, object]] = []
    for axes, (_, column) in zip(panels, ranked, strict=True):
        sample = Sample.of(labels, np.asarray(column.values, np.float64), weights).balanced()
        name = f"{column.name} [{column.unit}]" if column.unit else column.name
        if column.classes:
            shares = _bars(axes, column.classes[:_MOST_CLASSES], sample)
        else:
            shares = _histogram(axes, sample)
        table += [{"input": name, **of_class} for of_class in shares]
        called = label_of(column.name)
        axes.set_xlabel(name if called == column.name else called, fontsize=10)
        axes.set_yticks([])
    shared_legend(figure, panels, fontsize=10)
    return Drawn(figure, stacked(table)), [
        Separation(stream=stream, feature=column.name, separation=value) for value, column in ranked
    ]


def _histogram(axes: Axes, sample: Sample) -> list[dict[str, object]]:
    values = sample.scores.astype(np.float64)
    edges = _edges(values)
    shares: list[dict[str, object]] = []
    for label, name in enumerate(CLASS_NAMES):
        members = sample.signal == bool(label)
        content = np.histogram(values[members], edges, weights=sample.weights[members])[0]
        colour = CLASS_COLOURS[label]
        axes.stairs(content, edges, fill=True, color=colour, alpha=0.25)
        axes.stairs(content, edges, color=colour, linestyle=("solid", "dashed")[label], label=name)
        shares.append({"class": name, "from": edges[:-1], "to": edges[1:], "share": content})
    axes.set_xlim(edges[0], edges[-1])
    return shares


def _edges(values: Floats) -> Floats:
    """Bins around whole numbers where there are few of them, else equal ones without the tails."""
    distinct = np.unique(values)
    whole = np.all(distinct == np.round(distinct))
    if whole and distinct[-1] - distinct[0] < _BINS:
        return np.arange(distinct[0] - 0.5, distinct[-1] + 1)
    low, high = np.quantile(values, _SHOWN)
    return np.linspace(low, high if high > low else low + 1, _BINS + 1)


def _bars(axes: Axes, classes: Sequence[str], sample: Sample) -> list[dict[str, object]]:
    centres = np.arange(len(classes))
    shares: list[dict[str, object]] = []
    for label, name in enumerate(CLASS_NAMES):
        # A number beyond the classes shown is left out.
        members = (sample.signal == bool(label)) & np.isin(sample.scores, centres)
        codes = sample.scores[members].astype(np.intp)
        content = np.bincount(codes, sample.weights[members], len(classes))
        axes.barh(
            centres + 0.4 * (label - 0.5),
            content,
            height=0.4,
            color=CLASS_COLOURS[label],
            alpha=0.7,
            hatch=("", "//")[label],
            label=name,
        )
        shares.append({"class": name, "from": classes, "to": classes, "share": content})
    axes.invert_yaxis()
    axes.set_xlim(right=1.9 * axes.get_xlim()[1])  # room for the names
    across = axes.get_yaxis_transform()
    for code, name in enumerate(classes):
        axes.text(0.97, code, name, transform=across, fontsize=8, ha="right", va="center")
    return shares


@styled
def class_images(
    means: NDArray[np.float64],
    hits: NDArray[np.float64],
    *,
    half_width: float,
    unit: str,
    frame: Sequence[str],
    turned: bool,
) -> Drawn:
    """Draw the mean image of background and signal, and their difference over their sum.

    Parameters
    ----------
    means
        (2, bins, bins): background, signal; pixels of eta first, of phi second.
    hits
        (bins, bins): tokens of both classes in each pixel.
    half_width
        The images reach from -half_width to half_width.
    unit
        What a pixel holds, for the scale of colours.
    frame
        The jet frame in words, a line each.
    turned
        Whether the axes are no longer those of eta and phi.
    """
    figure = Figure(figsize=(5.6, 4.9))
    panels = figure.subplot_mosaic([["background", "signal"], ["difference", "words"]])
    classes = [panels[name] for name in CLASS_NAMES]
    for axes in (*classes, panels["difference"]):
        axes.locator_params(nbins=5)
        axes.tick_params(labelsize=10)

    most = means.max(initial=0)
    shades = LogNorm(most * 10.0**-_DECADES, most)
    for axes, name, mean in zip(classes, CLASS_NAMES, means, strict=True):
        drawn = jet_image(axes, mean, half_width, shades)
        axes.set_title(name, fontsize=12, pad=4)
    bar = figure.colorbar(drawn, ax=classes, pad=0.02)
    bar.set_label(unit, fontsize=11)
    bar.ax.tick_params(labelsize=10)

    seen = (hits >= _FEWEST) & (means.sum(0) > 0)
    difference = np.full_like(hits, np.nan)
    np.divide(means[1] - means[0], means.sum(0), out=difference, where=seen)
    below = panels["difference"]
    below.set_facecolor(_UNSEEN)
    below.set_title("difference / sum", fontsize=12, pad=4)
    drawn = jet_image(below, difference, half_width, Normalize(-1, 1))
    bar = figure.colorbar(drawn, ax=panels["words"], location="left", ticks=[-1, -0.5, 0, 0.5, 1])
    bar.ax.yaxis.set_ticks_position("right")
    bar.ax.tick_params(labelsize=10)

    note = "\n".join([*frame, "blue: background", "red: signal", f"grey: under {_FEWEST} tokens"])
    panels["words"].text(0.12, 0.5, note, fontsize=10, va="center", linespacing=1.6)
    panels["words"].set_axis_off()
    for name in ("background", "difference"):
        panels[name].set_ylabel("Δφ, turned [rad]" if turned else "Δφ [rad]", fontsize=11)
    for name in ("difference", "signal"):
        panels[name].set_xlabel("Δη, turned" if turned else "Δη", fontsize=11)
    panels["signal"].set_yticklabels([])
    panels["background"].set_xticklabels([])

    # In the table only the pixels that any token hit.
    images = {f"{name}, {unit}": mean for name, mean in zip(CLASS_NAMES, means, strict=True)}
    images |= {"tokens": hits, "difference / sum": difference}
    return Drawn(figure, stacked([pixel_table(images, hits, half_width)]))
