"""A figure with the numbers that it shows, and the files that both become."""

import csv
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.text import Text

from manyscale.reporting.style import PDF_FONTS, styled

__all__ = ["Drawn", "stacked"]

# What plots and ticks of log axes write as formulas.
_FORMULA = re.compile(r"fb\$\^\{-1\}\$|\$\\mathdefault")


@dataclass(frozen=True)
class Drawn:
    """A figure and its numbers.

    Attributes
    ----------
    figure
        Drawn in the style of `manyscale.reporting.style`.
    table
        Columns by name, with their unit in brackets, all of the same length: what is drawn, a row a
        point. Several curves stand one below the other, told apart by a column.
    """

    figure: Figure
    table: Mapping[str, Sequence[object]]

    @styled
    def save(self, folder: Path, name: str) -> None:
        """Write `name.svg`, `name.pdf` and `name.csv` into a folder; the same figure, the same bytes."""
        folder.mkdir(parents=True, exist_ok=True)
        _take_names_as_they_are(self.figure)
        # No date, no program: they would change the bytes.
        self.figure.savefig(
            folder / f"{name}.svg", format="svg", metadata={"Date": None, "Creator": None}
        )
        # Where things stand is settled: working it out again takes as long as drawing.
        self.figure.set_layout_engine("none")
        with rc_context({"font.sans-serif": PDF_FONTS}):
            self.figure.savefig(
                folder / f"{name}.pdf",
                format="pdf",
                metadata={"CreationDate": None, "Creator": None, "Producer": None},
            )
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(self.table)
            for row in zip(*self.table.values(), strict=True):
                writer.writerow([_cell(value) for value in row])


def _take_names_as_they_are(figure: Figure) -> None:
    """Make no formula of a name with dollars: matplotlib takes what stands between two for one."""
    for text in figure.findobj(Text):
        if not _FORMULA.search(text.get_text()):
            text.set_parse_math("$" not in text.get_text())


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


def _cell(value: object) -> object:
    """A number to seven digits, all that a figure shows; nothing for none and not a number."""
    if not isinstance(value, float | np.floating):
        return value
    return "" if math.isnan(value) else f"{value:.7g}"
