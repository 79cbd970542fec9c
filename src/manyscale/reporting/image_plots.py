"""What jets look like: the mean image of each class, and where the two differ."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from manyscale.reporting.drawn import Drawn
from manyscale.reporting.plots import CLASS_NAMES
from manyscale.reporting.style import styled

__all__ = ["class_images"]

# Powers of ten that the colours span: below is the noise of single tokens.
_DECADES = 4
# Tokens of both classes in a pixel below which their difference is chance.
_FEWEST = 10
_UNSEEN = "#d9d9d9"


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
    most = means.max(initial=0)
    shades = LogNorm(most * 10.0**-_DECADES, most)
    for name, mean in zip(CLASS_NAMES, means, strict=True):
        drawn = _picture(panels[name], mean.clip(min=shades.vmin), half_width, shades, "inferno")
        panels[name].set_title(name, fontsize=12, pad=4)
        panels[name].tick_params(which="both", color="white")
    bar = figure.colorbar(drawn, ax=[panels[name] for name in CLASS_NAMES], pad=0.02)
    bar.set_label(unit, fontsize=11)
    bar.ax.tick_params(labelsize=10)

    seen = (hits >= _FEWEST) & (means.sum(0) > 0)
    difference = np.full_like(hits, np.nan)
    np.divide(means[1] - means[0], means.sum(0), out=difference, where=seen)
    below = panels["difference"]
    below.set_facecolor(_UNSEEN)
    below.set_title("difference / sum", fontsize=12, pad=4)
    drawn = _picture(below, difference, half_width, Normalize(-1, 1), "RdBu_r")
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
    return Drawn(figure, _pixels(means, hits, difference, half_width, unit))


def _pixels(
    means: NDArray[np.float64],
    hits: NDArray[np.float64],
    difference: NDArray[np.float64],
    half_width: float,
    unit: str,
) -> dict[str, list[float]]:
    """The pixels that any token hit, by the place of their middle."""
    eta, phi = np.nonzero(hits)
    middle = ((np.arange(len(hits)) + 0.5) / len(hits) * 2 - 1) * half_width
    columns = {
        "delta eta": middle[eta],
        "delta phi [rad]": middle[phi],
        **{
            f"{name}, {unit}": mean[eta, phi] for name, mean in zip(CLASS_NAMES, means, strict=True)
        },
        "tokens": hits[eta, phi],
        "difference / sum": difference[eta, phi],
    }
    return {name: numbers.tolist() for name, numbers in columns.items()}


def _picture(
    axes: Axes, image: NDArray[np.float64], half_width: float, shades: Normalize, colours: str
) -> AxesImage:
    axes.locator_params(nbins=5)
    axes.tick_params(labelsize=10)
    # An image stays small in the SVG, where a rectangle a pixel would be half a megabyte.
    return axes.imshow(
        image.T,
        origin="lower",
        extent=(-half_width, half_width, -half_width, half_width),
        norm=shades,
        cmap=colours,
        interpolation="none",
    )
