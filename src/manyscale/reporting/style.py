"""How every plot looks: mplhep's style at reading size, colours that all eyes tell apart, and text that stays text."""

import zlib
from collections.abc import Callable, Iterable
from functools import wraps
from typing import ParamSpec, TypeVar

import mplhep
from matplotlib import rc_context

__all__ = ["CLASS_COLOURS", "PDF_FONTS", "LineStyle", "classifier_styles", "styled"]

P = ParamSpec("P")
R = TypeVar("R")
LineStyle = tuple[str, str]

# mplhep's sizes are for a slide of 10 x 10 inches; these for a page and a phone.
_STYLE = {
    **mplhep.style.CMS,
    "figure.figsize": (5.6, 4.2),
    "figure.constrained_layout.use": True,
    # A reader without the first, which comes with mplhep, has one of the same widths.
    "font.sans-serif": ["TeX Gyre Heros", "Helvetica", "Arial", "Liberation Sans", "DejaVu Sans"],
    "font.size": 13,
    "legend.fontsize": 11,
    "axes.linewidth": 1.0,
    "lines.linewidth": 1.8,
    "xtick.major.size": 6,
    "xtick.minor.size": 3,
    "ytick.major.size": 6,
    "ytick.minor.size": 3,
    # Text stays text: small files, found by a search in the page.
    "svg.fonttype": "none",
    "svg.hashsalt": "manyscale",
    # Fonts within the file, so that a PDF can be searched and edited.
    "pdf.fonttype": 42,
}

#: For PDF files, into which matplotlib cannot put OpenType fonts soundly: TrueType of the same widths.
PDF_FONTS = ("Arial", "Liberation Sans", "Fira Sans", "DejaVu Sans")

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
_DASHES = ("solid", "dashed", "dashdot", "dotted")

#: Colour of the class with label 0 (background) and 1 (signal).
CLASS_COLOURS = (_PALETTE[0], _PALETTE[1])

# Places in the palette of the classifiers that every run knows.
_KNOWN = {
    "network": 1,
    "trees": 2,
    "model-1": 6,
    "model-2": 0,
    "model-3": 5,
    "concatenation": 3,
    "kinematics-only": 4,
}


def classifier_styles(names: Iterable[str]) -> dict[str, LineStyle]:
    """Colour and dashes of each classifier, the same in every plot.

    The presets and the trees have fixed places in the palette. Any other name takes the place that
    its checksum says, or the next free one, so that no two of one plot look the same.

    Examples
    --------
    >>> classifier_styles(["trees"])["trees"] == classifier_styles(["mine", "trees"])["trees"]
    True
    """
    styles: dict[str, LineStyle] = {}
    taken: set[int] = set()
    for name in sorted(set(names), key=lambda name: (name not in _KNOWN, name)):
        place = _KNOWN.get(name, zlib.crc32(name.encode()) % len(_PALETTE))
        while place in taken:
            place += 1
        taken.add(place)
        styles[name] = (_PALETTE[place % len(_PALETTE)], _DASHES[place % len(_DASHES)])
    return styles


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Run a drawing function in the style, and leave matplotlib's settings as they were."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> R:
        with rc_context(_STYLE):
            return draw(*args, **kwargs)

    return drawn
