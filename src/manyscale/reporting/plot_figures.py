"""The plots of a run as figures of its report: drawing, caption, and numbers."""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass

from markupsafe import Markup

from manyscale.reporting.captions import SECTIONS, caption_of, in_order, section_of
from manyscale.reporting.inline_svg import inline_svg

__all__ = ["PlotFigure", "figures_by_section"]

# Characters of drawings and numbers that one page carries; there is room for more below 3 MB.
_MOST = 2_200_000
# Of tables for which that is too little, so many rows.
_FIRST_ROWS = 200


@dataclass(frozen=True)
class PlotFigure:
    """One plot in the page.

    Attributes
    ----------
    name
        Of its files in plots/.
    drawing
        An SVG element whose ids are its own.
    numbers
        CSV text, empty where the run has none; the first rows where `cut`.
    rows
        Of the whole file, its head not counted.
    """

    name: str
    drawing: Markup
    caption: str
    numbers: str
    rows: int
    cut: bool


def figures_by_section(
    plots: Mapping[str, str], tables: Mapping[str, str]
) -> dict[str, list[PlotFigure]]:
    """Sort the plots of a run into the sections of its report.

    Parameters
    ----------
    plots, tables
        SVG and CSV text by name.

    Raises
    ------
    RunError
        Where a plot is not SVG.
    """
    names = in_order(plots)
    drawings = {name: inline_svg(plots[name], f"plot-{n}") for n, name in enumerate(names)}
    whole = _carried_whole(tables, _MOST - sum(map(len, drawings.values())))
    sections: dict[str, list[PlotFigure]] = {section: [] for section in SECTIONS}
    for name, drawing in drawings.items():
        numbers, rows, cut = _numbers(tables.get(name, ""), whole=name in whole)
        figure = PlotFigure(
            name,
            Markup(drawing),  # noqa: S704 - rewritten, scripts taken out
            caption_of(name),
            numbers,
            rows,
            cut,
        )
        sections[section_of(name)].append(figure)
    return sections


def _carried_whole(tables: Mapping[str, str], room: int) -> set[str]:
    """Names of the tables that the page carries whole: the small ones first."""
    whole = set()
    for name in sorted(tables, key=lambda name: (len(tables[name]), name)):
        room -= len(tables[name])
        if room < 0:
            break
        whole.add(name)
    return whole


def _numbers(text: str, *, whole: bool) -> tuple[str, int, bool]:
    """CSV text, whole or its first rows; how many rows the whole has; whether any is left out."""
    source = io.StringIO(text, newline="")
    reader = csv.reader(source)
    head = [row for _, row in zip(range(_FIRST_ROWS + 1), reader, strict=False)]
    rows = len(head) + sum(1 for _ in reader) - 1
    if whole or rows <= _FIRST_ROWS:
        return text, max(rows, 0), False
    first = io.StringIO(newline="")
    csv.writer(first).writerows(head)
    return first.getvalue(), rows, True
