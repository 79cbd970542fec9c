"""Maps of attention and of Grad-CAM in the plane of a jet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize, SymLogNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from manyscale.reporting.drawn import Drawn
from manyscale.reporting.plots import CLASS_NAMES
from manyscale.reporting.style import styled

__all__ = ["Plane", "class_maps", "head_maps"]

Floats = NDArray[np.float64]

# Powers of ten that the colours span: below is the noise of single tokens.
_DECADES = 2.5
_CONTRAST_DECADES = 1.5
_SHADES, _CONTRAST = "inferno", "RdBu_r"

# Inches: of the page, of a panel at most, and around the panels.
_WIDTH, _LARGEST = 5.6, 1.8
_LEFT, _RIGHT, _TOP, _BOTTOM, _GAP = 0.3, 0.15, 0.85, 0.5, 0.08


@dataclass(frozen=True)
class Plane:
    """The plane in which maps are drawn.

    Attributes
    ----------
    half_width
        It reaches from -half_width to half_width.
    turned
        Whether the axes are no longer those of eta and phi.
    unit
        What a pixel holds.
    """

    half_width: float
    turned: bool
    unit: str


@styled
def class_maps(images: Mapping[str, Floats], plane: Plane) -> Drawn:
    """Draw a row of three maps each: background, signal, signal minus background.

    Parameters
    ----------
    images
        Name of the row -> (2, bins, bins): mean of background and of signal, pixels of eta first.
    plane
        Where they are.
    """
    figure, panels = _grid(list(images), (*CLASS_NAMES, "difference"), plane)
    shades = _shades(images)
    widest = max(float(np.abs(image[1] - image[0]).max()) for image in images.values())
    # Linear near zero alone: the core of a jet holds most, its rest tells the classes apart, too.
    widest = widest if widest > 0 else 1.0
    apart = SymLogNorm(widest * 10.0**-_CONTRAST_DECADES, vmin=-widest, vmax=widest)
    for row, image in zip(panels, images.values(), strict=True):
        _picture(row[0], image[0], plane, shades)
        _picture(row[1], image[1], plane, shades)
        _picture(row[2], image[1] - image[0], plane, apart)
    _bar(figure, panels[:, :2], shades, plane.unit)
    _bar(figure, panels[:, 2:], apart, "signal − background")
    return Drawn(figure, _table(images, CLASS_NAMES, plane))


@styled
def head_maps(images: Mapping[str, Floats], heads: Sequence[str], plane: Plane) -> Drawn:
    """Draw a row of maps each, one a head.

    Parameters
    ----------
    images
        Name of the row -> (heads, bins, bins).
    heads
        Their names.
    plane
        Where they are.
    """
    figure, panels = _grid(list(images), heads, plane)
    shades = _shades(images)
    for row, image in zip(panels, images.values(), strict=True):
        for axes, of_head in zip(row, image, strict=True):
            _picture(axes, of_head, plane, shades)
    _bar(figure, panels, shades, plane.unit)
    return Drawn(figure, _table(images, heads, plane))


def _grid(
    rows: Sequence[str], columns: Sequence[str], plane: Plane
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
        corner = _LEFT + column * (side + _GAP), height - _TOP - (row + 1) * (side + _GAP)
        axes = figure.add_axes(
            (corner[0] / width, corner[1] / height, side / width, side / height),
            xticks=ticks,
            yticks=ticks,
        )
        axes.tick_params(top=False, right=False, labelleft=False, length=3, labelsize=8)
        axes.tick_params(which="minor", bottom=False, top=False, left=False, right=False)
        axes.tick_params(labelbottom=row == len(rows) - 1)
        panels[row, column] = axes
    for axes, name in zip(panels[0], columns, strict=True):
        axes.set_title(name, fontsize=10, pad=4)
    for axes, name in zip(panels[:, 0], rows, strict=True):
        axes.set_ylabel(name, fontsize=9, loc="center", labelpad=4)
    turned = ", turned" if plane.turned else ""
    figure.text(
        0.5, 0.08 / height, f"across: Δη, up: Δφ{turned}; same scale", fontsize=9, ha="center"
    )
    return figure, panels


def _shades(images: Mapping[str, Floats]) -> LogNorm:
    """One logarithmic scale for all."""
    most = max(float(image.max()) for image in images.values())
    most = most if most > 0 else 1.0
    return LogNorm(most * 10.0**-_DECADES, most)


def _picture(axes: Axes, image: Floats, plane: Plane, shades: Normalize) -> None:
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


def _bar(figure: Figure, panels: NDArray[np.object_], shades: Normalize, label: str) -> None:
    """Draw the scale of colours above some columns of panels."""
    first, last = panels[0, 0].get_position(), panels[0, -1].get_position()
    width, height = figure.get_size_inches()
    gap = _GAP / width
    axes = figure.add_axes(
        (
            first.x0 + gap,
            last.y1 + 0.3 / height,
            last.x1 - first.x0 - 2 * gap,
            0.09 / height,
        )
    )
    colours = _SHADES if isinstance(shades, LogNorm) else _CONTRAST
    bar = figure.colorbar(ScalarMappable(shades, colours), cax=axes, orientation="horizontal")
    axes.xaxis.set_ticks_position("top")
    axes.set_title(label, fontsize=9, pad=16)
    axes.tick_params(labelsize=8)
    axes.minorticks_off()
    if isinstance(shades, SymLogNorm):
        most = shades.vmax or 1.0
        bar.set_ticks([-most, 0, most], labels=[f"{-most:.1g}", "0", f"{most:.1g}"])


def _table(
    images: Mapping[str, Floats], columns: Sequence[str], plane: Plane
) -> dict[str, list[object]]:
    """A row a pixel in which any map is not zero, by the place of its middle; a column a map."""
    together = np.concatenate(list(images.values()))
    names = [f"{name}, {of}" for name in images for of in columns]
    eta, phi = np.nonzero(together.any(axis=0))
    bins = together.shape[1]
    middle = ((np.arange(bins) + 0.5) / bins * 2 - 1) * plane.half_width
    places = {"delta eta": middle[eta], "delta phi [rad]": middle[phi]}
    maps = {name: values[eta, phi] for name, values in zip(names, together, strict=True)}
    return {
        name: [float(f"{value:.3e}") for value in values]
        for name, values in (places | maps).items()
    }
