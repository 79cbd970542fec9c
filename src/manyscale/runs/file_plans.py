"""Plans of files: those that a dataset has, and one for the files that are new to it."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
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

    def plans(self, files: Sequence[SourceFile], entries_per_byte: float) -> list[Plan]:
        """Plans of which the files are: those that are there, and one for files that are new.

        Parameters
        ----------
        files
            All of one content.
        entries_per_byte
            Of files of that content.

        Raises
        ------
        DataError
            Where a file is in the dataset as something else, or other cuts selected its process.
        """
        wanted = {file.identity: file.path for file in files}
        every = find_plans(self.folder)
        known: list[Plan] = []
        left: list[Plan] = []
        for plan in every:
            shared = wanted.keys() & set(plan.sources)
            if shared and plan.settings != self.settings:
                raise DataError(
                    f"{wanted[min(shared)]} is in {self.folder} already, as another process or with "
                    "other settings, and no event can be in it twice: name another folder"
                )
            if shared:
                unfinished = plan.missing(self.folder) and not wanted.keys() >= set(plan.sources)
                (left if unfinished else known).append(plan)
            elif both := _selected_otherwise(plan.settings, self.settings):
                raise DataError(
                    f"{self.folder} holds events of {', '.join(both)} that other cuts have selected: "
                    "give these another name with --process, or the card of before"
                )
        there = {source for plan in known for source in plan.sources}
        new = [file for file in files if file.identity not in there]
        if new:
            number = 1 + max((plan.number for plan in every), default=0)
            known.append(self._plan(new, left, number, entries_per_byte))
        return known

    def _plan(
        self,
        files: Sequence[SourceFile],
        left: Sequence[Plan],
        number: int,
        entries_per_byte: float,
    ) -> Plan:
        """Plan files; what was done of them for unfinished plans, which named others too, is kept."""
        place = {file.identity: at for at, file in enumerate(files)}
        adopted = list(_adopted(left, place))
        taken = {source for pieces, _ in adopted for source, *_ in pieces}
        rest = [file for at, file in enumerate(files) if at not in taken]
        divided = [
            tuple((place[file.identity], first, last) for file, first, last in unit)
            for unit in divide(rest, self.reader, entries_per_byte, self.step)
        ]
        content = [self.settings, [file.identity for file in files], divided]
        name = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
        parts = [
            tuple(part_of(process, name, at) for process in self.processes)
            for at in range(len(divided))
        ]
        every = [*adopted, *zip(divided, parts, strict=True)]
        pieces_of = Counter(source for pieces, _ in every for source, *_ in pieces)
        total = sum(file.size for file in files)
        units = tuple(
            PlannedUnit(
                parts=made,
                what=_describe([Piece(files[of].path, first, last) for of, first, last in pieces]),
                pieces=pieces,
                share=sum(files[source].size / pieces_of[source] for source, *_ in pieces) / total,
            )
            for pieces, made in every
        )
        return Plan(
            name=name,
            number=number,
            again=self.again,
            whole=True,
            units=units,
            sources=tuple(file.identity for file in files),
            size=total,
            settings=self.settings,
            replaces=tuple(plan.name for plan in left),
        )


_Pieces = tuple[tuple[int, int, int | None], ...]


def _adopted(
    plans: Sequence[Plan], place: Mapping[str, int]
) -> Iterator[tuple[_Pieces, tuple[str, ...]]]:
    """Units of plans of which all files are named: what they read, and their parts."""
    for plan in plans:
        lost = {
            source
            for unit in plan.units
            for source, *_ in unit.pieces
            if not all(plan.sources[other] in place for other, *_ in unit.pieces)
        }
        for unit in plan.units:
            if lost.isdisjoint(source for source, *_ in unit.pieces):
                pieces = tuple(
                    (place[plan.sources[source]], first, last)
                    for source, first, last in unit.pieces
                )
                yield pieces, unit.parts


def _describe(pieces: Sequence[Piece]) -> str:
    return ", ".join(map(str, pieces[:_NAMED])) + (" ..." if len(pieces) > _NAMED else "")


def units_of(plan: Plan, files: Sequence[SourceFile]) -> list[FileUnit]:
    """Units of a plan, with its files where they are now."""
    path = {file.identity: file.path for file in files}
    return [
        FileUnit(
            plan=plan.name,
            index=at,
            parts=unit.parts,
            pieces=tuple(
                Piece(path.get(plan.sources[source], ""), first, last)
                for source, first, last in unit.pieces
            ),
            identities=tuple(plan.sources[source] for source, *_ in unit.pieces),
        )
        for at, unit in enumerate(plan.units)
    ]


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
