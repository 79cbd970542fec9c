"""A figure with the numbers that it shows: how all look, and the files that they become.

The look is mplhep's style at reading size, in colours that all eyes tell apart, with letters drawn as
outlines, so that a plot looks the same wherever it is opened.
"""

import csv
import functools
import io
import math
import re
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import mplhep
import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.text import Text
from numpy.typing import NDArray

from manyscale.errors import printable
from manyscale.reporting.look import current_look, is_formula, label_of
from manyscale.writing import whole, write_whole

__all__ = [
    "BACKGROUND_COLOURS",
    "CLASS_COLOURS",
    "CLASS_NAMES",
    "DASHES",
    "GREY",
    "Drawn",
    "above_zero",
    "classifier_styles",
    "error_band",
    "jet_image",
    "luminosity_title",
    "panel_grid",
    "pixel_table",
    "room_above",
    "shared_legend",
    "stack_backgrounds",
    "stacked",
    "styled",
]

Floats = NDArray[np.float64]

# It comes with mplhep as TrueType, which SVG and PDF take alike, and has Greek letters and signs.
_FONT = "Fira Sans"
# mplhep's sizes are for a slide of 10 x 10 inches; these for a page and a phone.
_STYLE: dict[str, Any] = {
    "figure.figsize": (5.6, 4.2),
    "figure.constrained_layout.use": True,
    "figure.dpi": 100,
    "font.family": "sans-serif",
    "font.sans-serif": [_FONT, "DejaVu Sans"],
    "font.size": 13,
    "mathtext.fontset": "custom",
    **{f"mathtext.{kind}": _FONT for kind in ("rm", "sf", "tt", "cal")},
    "mathtext.it": f"{_FONT}:italic",
    "mathtext.bf": f"{_FONT}:bold",
    "mathtext.default": "it",
    "axes.labelsize": 14,
    "axes.titlesize": 13,
    "axes.linewidth": 1.0,
    "legend.fontsize": 11,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "patch.linewidth": 1.4,
    "xtick.labelsize": 12,
    "ytick.labelsize": 12,
    "xtick.major.size": 6,
    "xtick.minor.size": 3,
    "ytick.major.size": 6,
    "ytick.minor.size": 3,
    "xtick.major.pad": 4,
    "ytick.major.pad": 4,
    # A reader may have none of the fonts, and what is measured with another one is cut off.
    "svg.fonttype": "path",
    "svg.hashsalt": "manyscale",
    # Fonts within the file, so that a PDF can be searched and edited.
    "pdf.fonttype": 42,
}

# Petroff's sequence of ten (arXiv:2107.02270), made for all kinds of colour vision.
_PALETTE = (
    "#3f90da",
    "#bd1f01",
    "#ffa90e",
    "#832db6",
    "#717581",
    "#a96b59",
    "#e76300",
    "#94a4a2",
    "#92dadd",
    "#b9ac70",
)

#: Dashes of curves that stand side by side, and the colour of what is only a reference.
DASHES = ("solid", "dashed", "dashdot", "dotted")
GREY = _PALETTE[4]
#: Name and colour of the class with label 0 and 1.
CLASS_NAMES = ("background", "signal")
CLASS_COLOURS = (_PALETTE[0], _PALETTE[1])
#: Colours of background processes; the red one is the signal's.
BACKGROUND_COLOURS = (_PALETTE[0], *_PALETTE[2:])
#: Colours of images: of what is counted, and of what has two signs.
_SHADES, _CONTRAST = "inferno", "RdBu_r"

# Index in the palette of the classifiers that every run knows.
_KNOWN = {
    "network": 1,
    "trees": 2,
    "model-1": 6,
    "model-2": 0,
    "model-3": 5,
    "concatenation": 3,
    "kinematics-only": 4,
    "combined": 9,
}


def classifier_styles(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Colour and dashes of each classifier, the same in every plot.

    The presets and the trees have fixed colours. Any other name takes the one that its checksum says,
    or the next free one, so that no two of one plot look the same.

    Examples
    --------
    >>> classifier_styles(["trees"])["trees"] == classifier_styles(["mine", "trees"])["trees"]
    True
    """
    styles: dict[str, tuple[str, str]] = {}
    taken: set[int] = set()
    # The known names first, so that no other takes their colour.
    for name in sorted(set(names), key=lambda name: (name not in _KNOWN, name)):
        index = _KNOWN.get(name, zlib.crc32(name.encode()) % len(_PALETTE))
        while index in taken:
            index += 1
        taken.add(index)
        styles[name] = (_PALETTE[index % len(_PALETTE)], DASHES[index % len(DASHES)])
    return styles


P = ParamSpec("P")
R = TypeVar("R")


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Decorate a drawing function: it runs in the style, and leaves matplotlib's settings as they were."""

    @functools.wraps(draw)
    def drawn(*args: P.args, **keywords: P.kwargs) -> R:
        settings: Any = {**getattr(mplhep.style, current_look().style), **_STYLE}
        with rc_context(settings):
            return draw(*args, **keywords)

    return drawn


@dataclass(frozen=True)
class Drawn:
    """A figure and its numbers.

    Attributes
    ----------
    figure
        Drawn by a function that is `styled`.
    table
        Columns by name, with their unit in brackets, all of the same length: what is drawn, a row a
        point. Several curves stand one below the other, told apart by a column.
    """

    figure: Figure
    table: Mapping[str, Sequence[object]]

    @styled
    def save(self, folder: Path, name: str) -> None:
        """Write `name.svg` and `name.csv`, and where the card asks for it `name.pdf`, into a folder.

        The same figure gives the same bytes.
        """
        settings = current_look()
        words = " ".join(filter(None, (settings.experiment, settings.title)))
        # Maps are placed by hand, without room for it.
        if words and self.figure.get_layout_engine() is not None:
            bold = "bold" if settings.experiment else "normal"
            self.figure.suptitle(words, x=0.02, ha="left", fontsize=13, fontweight=bold)
        for text in self.figure.findobj(Text):
            # matplotlib makes a formula of what stands between two dollars; here it may be a name.
            text.set_parse_math(is_formula(text.get_text()))
            if (shown := printable(text.get_text())) != text.get_text():
                text.set_text(shown)
        drawing = io.StringIO()
        # No date, no program: they would change the bytes.
        self.figure.savefig(drawing, format="svg", metadata={"Date": None, "Creator": None})
        write_whole(folder / f"{name}.svg", _compact(drawing.getvalue()))
        (folder / f"{name}.pdf").unlink(missing_ok=True)
        if settings.pdf:
            # Where things stand is settled: working it out again takes as long as drawing.
            self.figure.set_layout_engine("none")
            metadata = {"CreationDate": None, "Creator": None, "Producer": None}
            with whole(folder / f"{name}.pdf") as draft:
                self.figure.savefig(draft, format="pdf", metadata=metadata)
        table = io.StringIO(newline="")
        writer = csv.writer(table)
        writer.writerow(self.table)
        for row in zip(*self.table.values(), strict=True):
            # Seven digits are all that a figure shows; what is not a number stands empty.
            writer.writerow(
                ("" if math.isnan(cell) else f"{cell:.7g}")
                if isinstance(cell, float | np.floating)
                else cell
                for cell in row
            )
        write_whole(folder / f"{name}.csv", table.getvalue())


def stacked(tables: Iterable[Mapping[str, object]]) -> dict[str, list[object]]:
    """Put tables of the same columns one below the other; a single value stands in every row.

    Examples
    --------
    >>> stacked([{"curve": "a", "x": [1, 2]}, {"curve": "b", "x": [3]}])
    {'curve': ['a', 'a', 'b'], 'x': [1, 2, 3]}
    """
    columns: dict[str, list[object]] = {}
    for table in tables:
        filled = np.broadcast_arrays(*(np.atleast_1d(np.asarray(part)) for part in table.values()))
        for name, values in zip(table, filled, strict=True):
            columns.setdefault(name, []).extend(values.tolist())
    return columns


# What an SVG need not say: more than hundredths of a point, line ends of paths, turns by zero, names of
# groups and the groups around a lone mark.
_WASTE = re.compile(
    r"""(?P<kept>scale\([^)]*\))|(?<=\.\d\d)\d+|\s+(?=[LMCQz]\s)|(?<=[\dz])\ ?\n(?=")|\ transform="rotate\(-?0\ [^"]*"
    |(?<=<g)\ id="[^"]*"(?=>)""",
    re.VERBOSE,
)
_LONE = re.compile(r"<g>\s*(<use [^>]*/>)\s*</g>")


def _compact(svg: str) -> str:
    """Leave out what no eye sees, a third of the file: a report carries thirty of them."""
    svg = re.sub(r"<metadata>.*?</metadata>|^ +", "", svg, flags=re.DOTALL | re.MULTILINE)
    svg = re.sub(r'(?<=<path d=")[^"]*', lambda path: re.sub(r"(?<=\.\d)\d+", "", path[0]), svg)
    svg = re.sub(r"<[^!>][^>]*>", lambda tag: _WASTE.sub(lambda of: of["kept"] or "", tag[0]), svg)
    svg = _LONE.sub(r"\1", _LONE.sub(r"\1", svg))
    svg = re.sub(r'(<use [^>]*)transform="translate\(([-\d.]+) 0\)"', r'\1x="\2"', svg)
    # Letters and marks, of which each stands many times: short names, and no style twice.
    known = {
        name: (f"a{number:x}", style)
        for number, (name, style) in enumerate(
            dict(re.findall(r'<path id="([^"]+)"[^>]*?( style="[^"]*"|/>)', svg)).items()
        )
    }

    def shorter(found: re.Match[str]) -> str:
        name, style = known.get(found[2], (found[2], ""))
        tag = f'{found[1]}{name}"{found[3]}'
        return tag.replace(style, "") if found[1].startswith("<use") and style != "/>" else tag

    return re.sub(r'(<path id="|<use xlink:href="#)([^"]+)"([^>]*)', shorter, svg)


# ---- what several figures are made of ---------------------------------------------------------


def panel_grid(
    titles: Sequence[str], height: float, *, sharey: bool = False
) -> tuple[Figure, list[Axes]]:
    """Panels of that height [inches], two side by side, under room for a legend."""
    # A third would be unreadable on a phone.
    across = min(len(titles), 2)
    down = -(-len(titles) // across)
    figure = Figure(figsize=(5.6, 0.8 + height * down))
    panels: list[Axes] = list(figure.subplots(down, across, squeeze=False, sharey=sharey).flat)
    for axes, title in zip(panels, titles, strict=False):
        axes.set_title(title, fontsize=10, pad=4)
        axes.minorticks_off()
        axes.tick_params(labelsize=9)
    for axes in panels[len(titles) :]:
        axes.set_axis_off()
    return figure, panels[: len(titles)]


def shared_legend(figure: Figure, panels: Iterable[Axes], **look: Any) -> None:  # noqa: ANN401
    """One legend for all panels, above them; the same words once."""
    entries = {
        word: handle
        for axes in panels
        for handle, word in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    look = {"loc": "outside upper center", "ncols": len(entries), **look}
    figure.legend(entries.values(), entries.keys(), **look)


def room_above(axes: Axes, share: float) -> None:
    """Make a logarithmic axis longer by that share, for a legend above the curves."""
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * (high / low) ** share)


def above_zero(values: Floats, errors: Floats) -> tuple[Floats, Floats]:
    """Errors down and up on a log axis: down to a tenth at most, as the whole would reach to zero."""
    return np.minimum(errors, 0.9 * values), errors


def luminosity_title(axes: Axes, luminosity: float | None) -> None:
    """Write the luminosity [fb^-1] to the right above a plot; nothing where there is none."""
    if luminosity is not None:
        axes.set_title(f"{luminosity:,g} fb⁻¹", fontsize=12, loc="right", pad=4)


def stack_backgrounds(axes: Axes, content: Floats, edges: Floats, names: Sequence[str]) -> Floats:
    """Stack (processes, bins), the smallest lowest, each in the colour of its place; return the sum."""
    total = np.zeros(content.shape[1])
    sums = content.sum(axis=1)
    for place in np.argsort(sums):
        below, total = total, total + content[place]
        if sums[place] > 0:
            colour = BACKGROUND_COLOURS[place % len(BACKGROUND_COLOURS)]
            look: dict[str, Any] = {"color": colour, "alpha": 0.75, "fill": True}
            axes.stairs(total, edges, baseline=below, label=label_of(names[place]), **look)
    return total


def error_band(axes: Axes, value: Floats, error: Floats, edges: Floats, words: str) -> None:
    """Hatch a stack's error; on a log axis the band may not reach down to zero."""
    look: dict[str, Any] = {"facecolor": "none", "edgecolor": "black", "linewidth": 0}
    low = np.maximum(value - error, 1e-9 * value)
    axes.stairs(value + error, edges, baseline=low, fill=True, hatch="////", label=words, **look)


def jet_image(axes: Axes, image: Floats, half_width: float, shades: Normalize) -> AxesImage:
    """Draw an image of a jet, (bins, bins) with eta first: eta to the right, phi upwards."""
    counted = isinstance(shades, LogNorm)
    axes.tick_params(which="both", color="white" if counted else "black")
    # An image stays small in the SVG, where a rectangle a pixel would be half a megabyte.
    return axes.imshow(
        np.clip(image, shades.vmin, None).T,
        origin="lower",
        extent=(-half_width, half_width, -half_width, half_width),
        norm=shades,
        cmap=_SHADES if counted else _CONTRAST,
        interpolation="none",
    )


def pixel_table(
    images: Mapping[str, Floats], hit: NDArray[np.generic], half_width: float
) -> dict[str, Floats]:
    """Columns of the images of a jet: a row a pixel that is `hit`, by the position of its centre."""
    eta, phi = np.nonzero(hit)
    centres = ((np.arange(len(hit)) + 0.5) / len(hit) * 2 - 1) * half_width
    positions = {"delta eta": centres[eta], "delta phi [rad]": centres[phi]}
    return positions | {name: image[eta, phi] for name, image in images.items()}
