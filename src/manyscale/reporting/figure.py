"""A figure with the numbers that it shows: how all look, and the files that they become.

The look is mplhep's style at reading size, in colours that all eyes tell apart, with text that stays text.
"""

import csv
import io
import math
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
from manyscale.writing import whole, write_whole

__all__ = [
    "CLASS_COLOURS",
    "CLASS_NAMES",
    "DASHES",
    "GREY",
    "Drawn",
    "above_zero",
    "classifier_styles",
    "jet_image",
    "panel_grid",
    "pixel_table",
    "room_above",
    "shared_legend",
    "stacked",
    "styled",
]

Floats = NDArray[np.float64]

# mplhep's sizes are for a slide of 10 x 10 inches; these for a page and a phone.
_STYLE = {
    **mplhep.style.CMS,
    "figure.figsize": (5.6, 4.2),
    "figure.constrained_layout.use": True,
    # In inches; a browser may have only a font that is wider than the one measured with.
    "figure.constrained_layout.w_pad": 0.18,
    # A reader without the first, which comes with mplhep, has one of the same widths. Every text of an
    # SVG names them all, so they are few.
    "font.sans-serif": ["TeX Gyre Heros", "Arial", "DejaVu Sans"],
    "font.size": 13,
    "legend.fontsize": 11,
    "axes.linewidth": 1.0,
    "lines.linewidth": 1.8,
    "xtick.major.size": 6,
    "xtick.minor.size": 3,
    "ytick.major.size": 6,
    "ytick.minor.size": 3,
    # Text stays text: small files, easy to edit.
    "svg.fonttype": "none",
    "svg.hashsalt": "manyscale",
    # Fonts within the file, so that a PDF can be searched and edited.
    "pdf.fonttype": 42,
}

# matplotlib cannot put OpenType fonts into PDF files soundly: TrueType of the same widths.
_PDF_FONTS = ("Arial", "Liberation Sans", "Fira Sans", "DejaVu Sans")

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


#: Decorator that runs a drawing function in the style, and leaves matplotlib's settings as they were.
styled = rc_context(_STYLE)

# What plots and ticks of log axes write as formulas.
_FORMULA = re.compile(r"fb\$\^\{-1\}\$|\$\\mathdefault")


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
        """Write `name.svg`, `name.pdf` and `name.csv` into a folder; the same figure, the same bytes."""
        for text in self.figure.findobj(Text):
            # matplotlib makes a formula of what stands between two dollars; here it is part of a name.
            if not _FORMULA.search(text.get_text()):
                text.set_parse_math("$" not in text.get_text())
            if (shown := printable(text.get_text())) != text.get_text():
                text.set_text(shown)
        drawing = io.StringIO()
        # No date, no program: they would change the bytes.
        self.figure.savefig(drawing, format="svg", metadata={"Date": None, "Creator": None})
        write_whole(folder / f"{name}.svg", _compact(drawing.getvalue()))
        # Where things stand is settled: working it out again takes as long as drawing.
        self.figure.set_layout_engine("none")
        with rc_context({"font.sans-serif": _PDF_FONTS}), whole(folder / f"{name}.pdf") as draft:
            self.figure.savefig(
                draft,
                format="pdf",
                metadata={"CreationDate": None, "Creator": None, "Producer": None},
            )
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


# What tags of an SVG need not say: more than hundredths of a point, line ends of paths, turns by zero.
_WASTE = re.compile(
    r"""(?<=\.\d\d)\d+|\s+(?=[LMCQz]\s)|(?<=[\dz])\ ?\n(?=")|\ transform="rotate\(-?0\ [^"]*"
    """,
    re.VERBOSE,
)


def _compact(svg: str) -> str:
    """Leave out what no eye sees, a quarter of the file: a report carries thirty of them."""
    svg = re.sub(r"<metadata>.*?</metadata>|^ +", "", svg, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"<[^>]+>", lambda tag: _WASTE.sub("", tag[0]), svg)


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
