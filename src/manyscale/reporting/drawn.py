"""A figure with the numbers that it shows, and the files that both become."""

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from manyscale.reporting.style import PDF_FONTS, styled

__all__ = ["Drawn", "stacked"]


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
        # No date, no program: they would change the bytes.
        self.figure.savefig(
            folder / f"{name}.svg", format="svg", metadata={"Date": None, "Creator": None}
        )
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
