"""Plans of files: those that a dataset has, and one for the files that are new to it."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from manyscale.data.plans import Plan, PlannedUnit, find_plans
from manyscale.errors import DataError
from manyscale.events.files.source import Piece, Reader
from manyscale.runs.file_units import FileUnit, part_of
from manyscale.runs.sources import SourceFile, divide

__all__ = ["FilePlanner", "units_of"]

_NAMED = 3


@dataclass(frozen=True)
class FilePlanner:
    """Plans what one call does.

    Attributes
    ----------
    folder
        The dataset.
    reader
        Of the files.
    step
        Entries of a unit.
    processes
        Names of the processes, each of which has a part a unit.
    settings
        All that the records of a file follow from, beside the file, as JSON: the sections of the
        card, and `processes`.
    again
        The command of the call.
    """

    folder: Path
    reader: Reader
    step: int
    processes: Sequence[str]
    settings: str
    again: str

    def plans(self, files: Sequence[SourceFile], entries: int) -> list[Plan]:
        """Plans of which the files are: those that are there, and one for files that are new.

        Parameters
        ----------
        files
            All of one content.
        entries
            Of the first file.

        Raises
        ------
        DataError
            Where a file is in the dataset as something else, or other cuts selected its process.
        """
        wanted = {file.identity: file.path for file in files}
        known = []
        for plan in find_plans(self.folder):
            shared = wanted.keys() & set(plan.sources)
            if shared and plan.settings != self.settings:
                raise DataError(
                    f"{wanted[min(shared)]} is in {self.folder} already, as another process or with "
                    "other settings, and no event can be in it twice: name another folder"
                )
            if shared:
                known.append(plan)
            elif both := _selected_otherwise(plan.settings, self.settings):
                raise DataError(
                    f"{self.folder} holds events of {', '.join(both)} that other cuts have selected: "
                    "give these another name with --process, or the card of before"
                )
        there = {source for plan in known for source in plan.sources}
        new = [file for file in files if file.identity not in there]
        if new:
            first = entries if new[0] is files[0] else self.reader.entries(new[0].path)
            known.append(self._plan(new, first))
        return known

    def _plan(self, files: Sequence[SourceFile], entries: int) -> Plan:
        sources = [file.identity for file in files]
        name = hashlib.sha256(json.dumps([self.settings, sources]).encode()).hexdigest()[:16]
        place = {file.path: at for at, file in enumerate(files)}
        size = {file.path: file.size for file in files}
        divided = list(divide(files, self.reader, entries, self.step))
        pieces_of = Counter(piece.path for unit in divided for piece in unit)
        total = sum(size.values())
        units = tuple(
            PlannedUnit(
                parts=tuple(part_of(process, name, at) for process in self.processes),
                what=", ".join(map(str, unit[:_NAMED])) + (" ..." if len(unit) > _NAMED else ""),
                pieces=tuple((place[piece.path], piece.first, piece.last) for piece in unit),
                share=sum(size[piece.path] / pieces_of[piece.path] for piece in unit) / total,
            )
            for at, unit in enumerate(divided)
        )
        return Plan(
            name=name,
            again=self.again,
            whole=True,
            units=units,
            sources=tuple(sources),
            size=total,
            settings=self.settings,
        )


def units_of(plan: Plan, files: Sequence[SourceFile], folder: Path) -> list[FileUnit]:
    """Units of a plan, with its files where they are now.

    Raises
    ------
    DataError
        Where a unit that is missing in the folder needs a file that is not named.
    """
    path = {file.identity: file.path for file in files}
    missing = set(plan.missing(folder))
    units = []
    for at, unit in enumerate(plan.units):
        needed = tuple(plan.sources[source] for source, *_ in unit.pieces)
        if at in missing and not all(identity in path for identity in needed):
            raise DataError(
                "some of these files were begun together with others that are not named now: give "
                f"the same command again ({plan.again})"
            )
        pieces = tuple(
            Piece(path.get(identity, ""), first, last)
            for identity, (_, first, last) in zip(needed, unit.pieces, strict=True)
        )
        units.append(FileUnit(plan.name, at, pieces, needed))
    return units


def _selected_otherwise(before: str, now: str) -> list[str]:
    """Processes that two plans have both, where their cuts differ."""
    if not before:
        return []
    theirs, ours = json.loads(before), json.loads(now)
    both = set(theirs["processes"].values()) & set(ours["processes"].values())
    same = all(
        theirs[section][key] == ours[section][key]
        for section, key in (("generate", "cuts"), ("convert", "selection"))
    )
    return [] if same else sorted(both)
