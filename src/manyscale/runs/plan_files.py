"""Input files, and the units of work in which they are converted."""

import hashlib
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manyscale.data.identity import FIRST_BYTES, file_identity, remote_identity
from manyscale.data.parquet import part_name
from manyscale.data.sources import Source, SourceUnit, find_sources, parts_there, together
from manyscale.errors import DataError
from manyscale.events.files.convert_settings import ConvertSettings
from manyscale.events.files.formats import Format
from manyscale.events.files.reader import Contents, NoEventsError, Piece, Reader
from manyscale.events.files.readers import choose_reader
from manyscale.events.settings import GenerateSettings
from manyscale.runs.worker import FileUnit

__all__ = [
    "SourceFile",
    "find_files",
    "look_at_first",
    "one_reader",
    "sources_of",
    "units_of",
]

# A file of up to so many units is not divided: opening it once more costs time.
_TOLERANCE = 1.5


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
                size = local.stat().st_size
                file = SourceFile(str(local.absolute()), file_identity([local]), size)
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


def sources_of(
    files: Sequence[SourceFile],
    folder: Path,
    *,
    reader: Reader,
    step: int,
    entries_per_byte: float,
    settings: str,
    again: str,
) -> tuple[list[Source], list[Source]]:
    """Say which parts the files give; a file that the dataset knows gives those that it had.

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

    Returns
    -------
    Sources of the files in their order; and unfinished ones that go: begun together with these, and
    not named now.
    """
    wanted = {file.identity: file.path for file in files}
    noted = find_sources(folder)
    for source in noted:
        _check_fits(source, wanted, settings, folder)
    there = parts_there(folder)
    of_file = {identity: source for source in noted for identity in source.sources}
    begun = {
        source.name: source
        for group in together([source for source in noted if source.whole])
        if any(source.missing(there) for source in group)
        and any(wanted.keys() & set(source.sources) for source in group)
        for source in group
    }
    call = _digest(settings, *sorted(wanted))
    sources: dict[str, Source] = {}
    first = 0
    for file in files:
        known = of_file.get(file.identity)
        # Earlier versions divided files together, and said otherwise of what: of that only what is
        # whole is taken.
        if known is None or (known.name in begun and known.name != _digest(file.identity)):
            known = _source(file, reader, step, entries_per_byte, settings)
            known = known.model_copy(update={"again": again, "call": call, "first": first})
        elif known.name in begun:
            known = known.model_copy(update={"again": again, "call": call, "first": first})
        if known.name not in sources:
            sources[known.name] = known
            first += len(known.units)
    return list(sources.values()), [of for of in begun.values() if of.name not in sources]


def _source(
    file: SourceFile, reader: Reader, step: int, entries_per_byte: float, settings: str
) -> Source:
    """Divide a file into units of about the same work.

    A small one is not opened for it: that can cost more than reading it.
    """
    names = json.loads(settings)["processes"].values()
    digest = _digest(settings, file.identity)
    pieces: list[tuple[Piece, tuple[str, ...]]] = [(Piece(file.path, 0, None), ())]
    if file.size * entries_per_byte > _TOLERANCE * step and (count := reader.entries(file.path)):
        parts = math.ceil(count / step)
        edges = [count * part // parts for part in range(parts + 1)]
        pieces = [
            (Piece(file.path, first, last), (f"{first:09d}-{last:09d}",))
            for first, last in itertools.pairwise(edges)
        ]
    return Source(
        name=_digest(file.identity),
        again="",
        whole=True,
        units=tuple(
            SourceUnit(
                parts=tuple(part_name(name, digest, *entries) for name in names),
                what=str(piece),
                share=1 / len(pieces),
                piece=(piece.first, piece.last),
            )
            for piece, entries in pieces
        ),
        sources=(file.identity,),
        size=file.size,
        settings=settings,
    )


def _check_fits(source: Source, wanted: Mapping[str, str], settings: str, folder: Path) -> None:
    """Refuse files that are in the dataset with other settings, and events that other cuts select."""
    theirs, ours = json.loads(source.settings or "{}"), json.loads(settings)
    if shared := wanted.keys() & set(source.sources):
        if not _same(theirs, ours):
            raise DataError(
                f"{wanted[min(shared)]} is in {folder} already, as another process or with "
                "other settings, and no event can be in it twice: name another folder"
            )
        return
    both = set(theirs.get("processes", {}).values()) & set(ours["processes"].values())
    same = all(
        theirs.get(section, {}).get(key) == ours[section][key]
        for section, key in (("generate", "cuts"), ("convert", "selection"))
    )
    if both and not same:
        raise DataError(
            f"{folder} holds events of {', '.join(sorted(both))} that other cuts have "
            "selected: give these another name with --process, or the card of before"
        )


def _same(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> bool:
    """Whether settings are the same; keys that an earlier version did not have are at their default."""
    for section, default in (("generate", GenerateSettings()), ("convert", ConvertSettings())):
        known = {**default.model_dump(mode="json"), **theirs.get(section, {})}
        if any(known.get(key) != value for key, value in ours[section].items()):
            return False
    keys = ours.keys() - {"generate", "convert"}
    return all(theirs.get(key) == ours[key] for key in keys)


def _digest(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def units_of(sources: Sequence[Source], files: Sequence[SourceFile]) -> list[FileUnit]:
    """Units of sources, with their files where they are now, numbered as they follow each other."""
    path = {file.identity: file.path for file in files}
    units = [(source, unit) for source in sources for unit in source.units]
    return [
        FileUnit(
            index=number,
            parts=unit.parts,
            piece=Piece(path.get(source.sources[0], ""), *unit.piece),
            identity=source.sources[0],
        )
        for number, (source, unit) in enumerate(units)
    ]
