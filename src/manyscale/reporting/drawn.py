"""A figure with the numbers that it shows, and the files that both become."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from manyscale.reporting.style import styled

__all__ = ["Drawn"]


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
        self.figure.savefig(
            folder / f"{name}.pdf",
            format="pdf",
            metadata={"CreationDate": None, "Creator": None, "Producer": None},
        )
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(self.table)
            writer.writerows(zip(*self.table.values(), strict=True))
