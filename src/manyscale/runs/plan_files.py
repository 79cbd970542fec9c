"""Input files, and the plan of the units of work in which they are converted."""

import hashlib
import itertools
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from manyscale.data.identity import FIRST_BYTES, file_identity, remote_identity
from manyscale.data.parquet import part_name
from manyscale.data.plans import Plan, PlannedUnit, find_plans
from manyscale.errors import DataError
from manyscale.events.files.convert_settings import ConvertSettings
from manyscale.events.files.formats import Format
from manyscale.events.files.reader import Contents, NoEventsError, Piece, Reader
from manyscale.events.files.readers import choose_reader
from manyscale.events.settings import GenerateSettings
from manyscale.runs.worker import FileUnit

__all__ = [
    "SourceFile",
    "count_entries",
    "find_files",
    "look_at_first",
    "one_reader",
    "plan_files",
    "units_of",
]

# A file of up to this many units is not divided: opening it once more costs time.
_TOLERANCE = 1.5
# Small files make at least so many units, where they are as many, for workers to share.
_UNITS = 16
_NAMED = 3

# What a unit reads: index of a source of the plan, first entry, last entry (None: to the end).
_Pieces = tuple[tuple[int, int, int | None], ...]


@dataclass(frozen=True)
class SourceFile:
    """An input file."""

    path: str  # absolute, or an address
    identity: str  # what `event_id` counts from: name, size, checksum of the first MiB
    size: int  # in bytes


def find_files(paths: Sequence[str]) -> list[SourceFile]:
    """Identify files; a local path is made absolute, so that workers elsewhere find it."""
    known: dict[str, SourceFile] = {}
    for path in paths:
        if "://" in path:
            from manyscale.events.files.root_files import size_and_head  # noqa: PLC0415 - an extra

            size, head = size_and_head(path, FIRST_BYTES)
            identity = remote_identity(path.rpartition("/")[2], size, head)
            file = SourceFile(path, identity, size)
        else:
            local = Path(path)
            try:
                # Not resolved: a link is another file than what it points to.
                absolute, identity = str(local.absolute()), file_identity([local])
                file = SourceFile(absolute, identity, local.stat().st_size)
            except OSError as error:
                raise DataError(f"{path} cannot be read: {error.strerror}") from error
        if file.identity in known:
            raise DataError(
                f"{known[file.identity].path} and {file.path} are the same file (by name, size and "
                "first MiB), and no event can be in a dataset twice: name it once"
            )
        known[file.identity] = file
    return list(known.values())


def one_reader(
    kind: Format,
    files: Sequence[SourceFile],
    generate: GenerateSettings,
    convert: ConvertSettings,
    lines: tuple[str, ...] = (),
) -> Reader:
    """Choose the reader of files, which must be one."""
    first = choose_reader(files[0].path, kind, generate, convert, lines)
    # Only ROOT files must be opened to tell who reads them.
    for file in files[1:] if kind == "ROOT" else ():
        other = choose_reader(file.path, kind, generate, convert, lines)
        if type(other) is not type(first):
            raise DataError(
                f"{files[0].path} and {file.path} are ROOT files of different content: convert "
                "each kind by a call of its own, into the same dataset"
            )
    return first


def look_at_first(files: Sequence[SourceFile], reader: Reader) -> tuple[SourceFile, Contents]:
    """Look into the first file that has events."""
    for file in files:
        try:
            return file, reader.look(file.path)
        except NoEventsError:
            if len(files) == 1:
                raise
    raise DataError(f"none of the {len(files)} files holds an event, the first is {files[0].path}")


def count_entries(reader: Reader, file: SourceFile) -> int:
    """Count the events of a file, which may be none."""
    try:
        return reader.entries(file.path)
    except NoEventsError:
        return 0


def plan_files(
    files: Sequence[SourceFile],
    folder: Path,
    *,
    reader: Reader,
    step: int,
    entries_per_byte: float,
    settings: str,
    again: str,
) -> list[Plan]:
    """Plans of which the files are: those that the dataset has, and one for files that are new.

    Parameters
    ----------
    files
        All of one content, with so many `entries_per_byte`.
    folder
        The dataset.
    step
        Entries of a unit.
    settings
        All that the records of a file follow from, beside the file, as JSON: the sections of the
        card, and `processes`, each of which has a part a unit.
    again
        The command of the call.
    """
    ours = json.loads(settings)
    wanted = {file.identity: file.path for file in files}
    every = find_plans(folder)
    known: list[Plan] = []  # stay as they are
    unfinished: list[Plan] = []  # name further files, which are not named now
    for plan in every:
        shared = wanted.keys() & set(plan.sources)
        if shared and plan.settings != settings:
            raise DataError(
                f"{wanted[min(shared)]} is in {folder} already, as another process or with "
                "other settings, and no event can be in it twice: name another folder"
            )
        if shared:
            begun = plan.missing(folder) and not wanted.keys() >= set(plan.sources)
            (unfinished if begun else known).append(plan)
        elif plan.settings:
            theirs = json.loads(plan.settings)
            both = set(theirs["processes"].values()) & set(ours["processes"].values())
            same = all(
                theirs[section][key] == ours[section][key]
                for section, key in (("generate", "cuts"), ("convert", "selection"))
            )
            if both and not same:
                raise DataError(
                    f"{folder} holds events of {', '.join(sorted(both))} that other cuts have "
                    "selected: give these another name with --process, or the card of before"
                )
    there = {source for plan in known for source in plan.sources}
    new = [file for file in files if file.identity not in there]
    if not new:
        return known

    # What was done of the new files for unfinished plans is kept; the rest is divided.
    index = {file.identity: at for at, file in enumerate(new)}
    adopted = list(_adopted(unfinished, index))
    taken = {source for pieces, _ in adopted for source, *_ in pieces}
    rest = [file for at, file in enumerate(new) if at not in taken]
    divided: list[_Pieces] = [
        tuple((index[file.identity], first, last) for file, first, last in unit)
        for unit in _divide(rest, reader, entries_per_byte, step)
    ]
    content = json.dumps([settings, [file.identity for file in new], divided])
    name = hashlib.sha256(content.encode()).hexdigest()[:16]
    made = [
        tuple(part_name(process, name, f"{at:06d}") for process in ours["processes"].values())
        for at in range(len(divided))
    ]
    units = [*adopted, *zip(divided, made, strict=True)]
    # A unit's share of the plan is that of the bytes it reads.
    pieces_of = Counter(source for pieces, _ in units for source, *_ in pieces)
    total = sum(file.size for file in new)
    plan = Plan(
        name=name,
        number=1 + max((plan.number for plan in every), default=0),
        again=again,
        whole=True,
        units=tuple(
            PlannedUnit(
                parts=parts,
                what=", ".join(
                    str(Piece(new[source].path, first, last))
                    for source, first, last in pieces[:_NAMED]
                )
                + (" ..." if len(pieces) > _NAMED else ""),
                pieces=pieces,
                share=sum(new[source].size / pieces_of[source] for source, *_ in pieces) / total,
            )
            for pieces, parts in units
        ),
        sources=tuple(file.identity for file in new),
        size=total,
        settings=settings,
        replaces=tuple(plan.name for plan in unfinished),
    )
    return [*known, plan]


def _adopted(
    plans: Sequence[Plan], index: Mapping[str, int]
) -> Iterator[tuple[_Pieces, tuple[str, ...]]]:
    """Units of plans of which all files are named: what they read, and their parts."""
    for plan in plans:
        # A file is lost with any of its units: pieces of it would be read twice.
        lost = {
            source
            for unit in plan.units
            for source, *_ in unit.pieces
            if not all(plan.sources[other] in index for other, *_ in unit.pieces)
        }
        for unit in plan.units:
            if lost.isdisjoint(source for source, *_ in unit.pieces):
                pieces = tuple(
                    (index[plan.sources[source]], first, last)
                    for source, first, last in unit.pieces
                )
                yield pieces, unit.parts


def _divide(
    files: Sequence[SourceFile], reader: Reader, entries_per_byte: float, step: int
) -> Iterator[list[tuple[SourceFile, int, int | None]]]:
    """Divide files into units of about the same work: pieces of large ones, several small ones.

    Small files are not opened for it: opening one can cost more than reading it.
    """
    largest = step / entries_per_byte
    size = min(largest, sum(file.size for file in files) / _UNITS)
    waiting: list[tuple[SourceFile, int, int | None]] = []
    room = size
    for file in files:
        if file.size > _TOLERANCE * largest and (count := count_entries(reader, file)):
            parts = math.ceil(count / step)
            edges = [count * part // parts for part in range(parts + 1)]
            for first, last in itertools.pairwise(edges):
                yield [(file, first, last)]
            continue
        waiting.append((file, 0, None))
        room -= file.size
        if room <= 0:
            yield waiting
            waiting, room = [], size
    if waiting:
        yield waiting


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
