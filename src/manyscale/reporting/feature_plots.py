"""What goes into the network: the distribution of every input by class, ranked by separation."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from manyscale.reporting.drawn import Drawn, stacked
from manyscale.reporting.plots import CLASS_NAMES
from manyscale.reporting.style import CLASS_COLOURS, styled
from manyscale.statistics.metrics import separation
from manyscale.statistics.sample import Floats, Sample

__all__ = ["InputColumn", "Ranking", "input_distributions"]

_BINS = 30
_SHOWN = (0.005, 0.995)  # quantiles: the tails would squeeze the rest
_COLUMNS = 2  # panels side by side: a third would be unreadable on a phone
_MOST_CLASSES = 16


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


class Ranking(NamedTuple):
    """How far an input alone tells the classes apart: <S^2> of `statistics.metrics.separation`."""

    stream: str
    feature: str
    separation: float


@styled
def input_distributions(
    stream: str,
    inputs: Sequence[InputColumn],
    labels: ArrayLike,
    weights: ArrayLike | None = None,
) -> tuple[Drawn, list[Ranking]]:
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
    rows = -(-len(ranked) // _COLUMNS)
    figure = Figure(figsize=(5.6, 2.1 * rows + 0.3))
    panels = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    table: list[dict[str, object]] = []
    for axes, (value, column) in zip(panels, ranked, strict=False):
        sample = Sample.of(labels, np.asarray(column.values, np.float64), weights).balanced()
        draw = _bars if column.classes else _histogram
        unit = f" [{column.unit}]" if column.unit else ""
        name = f"{column.name}{unit}"
        table += [{"input": name, **shares} for shares in draw(axes, column, sample)]
        axes.tick_params(labelsize=9)
        axes.set_xlabel(name, fontsize=10)
        axes.set_title(f"separation {value:.3f}", fontsize=9, loc="right", pad=3)
        axes.set_yticks([])
    for axes in panels[len(ranked) :]:
        axes.set_axis_off()
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=2, fontsize=10)
    return Drawn(figure, stacked(table)), [
        Ranking(stream, column.name, value) for value, column in ranked
    ]


def _of_class(sample: Sample, label: int) -> tuple[Floats, Floats]:
    members = sample.signal == bool(label)
    return sample.scores[members].astype(np.float64), sample.weights[members]


def _histogram(axes: Axes, _: InputColumn, sample: Sample) -> list[dict[str, object]]:
    edges = _edges(sample.scores.astype(np.float64))
    shares: list[dict[str, object]] = []
    for label, name in enumerate(CLASS_NAMES):
        values, weights = _of_class(sample, label)
        content = np.histogram(values, edges, weights=weights)[0]
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


def _bars(axes: Axes, column: InputColumn, sample: Sample) -> list[dict[str, object]]:
    names = column.classes[:_MOST_CLASSES]
    places = np.arange(len(names))
    shares: list[dict[str, object]] = []
    for label, name in enumerate(CLASS_NAMES):
        values, weights = _of_class(sample, label)
        named = (values >= 0) & (values < len(names))
        content = np.bincount(values[named].astype(np.intp), weights[named], len(names))
        axes.barh(
            places + 0.4 * (label - 0.5),
            content,
            height=0.4,
            color=CLASS_COLOURS[label],
            alpha=0.7,
            hatch=("", "//")[label],
            label=name,
        )
        shares.append({"class": name, "from": names, "to": names, "share": content})
    axes.invert_yaxis()
    axes.set_xlim(right=1.9 * axes.get_xlim()[1])  # room for the names
    across = axes.get_yaxis_transform()
    for place, name in enumerate(names):
        axes.text(0.97, place, name, transform=across, fontsize=8, ha="right", va="center")
    axes.minorticks_off()
    return shares
