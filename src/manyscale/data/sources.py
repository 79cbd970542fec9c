"""What a dataset is to be made of, so that what is missing is a difference of two sets of parts.

A call notes in the dataset, one file a source, which parts each input file gives. A part is named by
file, entries and settings, so that any call for the same comes to the same name, and makes it only
where it is not there.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from manyscale.data.parquet import PARTS
from manyscale.errors import DataError
from manyscale.schema import Process
from manyscale.writing import disk_errors, write_whole

__all__ = [
    "Source",
    "SourceUnit",
    "Stated",
    "Unfinished",
    "collecting",
    "find_sources",
    "held_back",
    "inherit_sources",
    "making_again",
    "missing_notices",
    "parts_there",
    "stated_of_parts",
    "together",
    "unfinished",
    "with_stated",
]

#: Folder of the notes inside a dataset, and the one of earlier versions, which is read alike.
SOURCES = "sources"
_BEFORE = "plans"


class _Frozen(BaseModel):
    # Notes of earlier versions say more.
    model_config = ConfigDict(extra="ignore", frozen=True)


class SourceUnit(_Frozen):
    """A unit of work.

    Attributes
    ----------
    parts
        Names of the parts that it makes.
    what
        What it is, in words.
    piece
        Entries of the file that it reads, from the first to, not with, the second (null: to the end).
    share
        Its part of all that the source gives.
    """

    parts: tuple[str, ...]
    what: str
    piece: tuple[int, int | None] = (0, None)
    share: float = 0.0


class Stated(_Frozen):
    """What a user says of a process; cross section in pb, sum of the weights of all events."""

    cross_section: float | None = None
    sum_weights: float | None = None
    k_factor: float | None = None
    filter_efficiency: float | None = None
    share: float | None = None


class Source(_Frozen):
    """A file, or a section `generate` of a card, whose events belong to a dataset.

    Attributes
    ----------
    name
        Of its note; the same file has the same, whoever converts it.
    again
        The command that makes what is missing.
    whole
        Whether its parts count only when all are there.
    call
        The sources of one call count only when all of them are whole.
    first
        Number of its first unit among those of the call.
    sources
        Identity of the file; several in notes of earlier versions.
    size
        In bytes.
    settings
        What is made of it, as JSON: the same file cannot be in a dataset in two ways.
    stated
        What the user says of the processes in it, by name; it counts more than what the file says.
    """

    name: str
    again: str
    whole: bool
    call: str = ""
    first: int = 0
    units: tuple[SourceUnit, ...] = ()
    sources: tuple[str, ...] = ()
    size: int = 0
    settings: str = ""
    stated: Mapping[str, Stated] = {}

    @property
    def parts(self) -> set[str]:
        """Names of all its parts."""
        return {part for unit in self.units for part in unit.parts}

    def missing(self, there: set[str]) -> list[int]:
        """Which units have parts that are not there."""
        return [at for at, unit in enumerate(self.units) if not there >= set(unit.parts)]


class Unfinished(_Frozen):
    """What is missing of a call: of how many units, which, and the command that makes them."""

    again: str
    total: int
    missing: tuple[tuple[int, str], ...]


def parts_there(folder: Path) -> set[str]:
    """Names of the parts that a dataset folder has."""
    return {path.stem for path in (folder / PARTS).glob("*.parquet")}


def find_sources(folder: Path) -> list[Source]:
    """What a dataset is to be made of, in the order of calls and units.

    Raises
    ------
    DataError
        Where a note is damaged.
    """
    found = []
    for path in sorted(p for of in (_BEFORE, SOURCES) for p in (folder / of).glob("[!.]*.json")):
        try:
            found.append(Source.model_validate_json(path.read_text(encoding="utf-8")))
        except (OSError, ValidationError, ValueError) as error:
            raise DataError(
                f"{path} is damaged; remove it and give the same command again"
            ) from error
    return sorted(found, key=lambda source: (source.call, source.first, source.name))


def together(sources: Sequence[Source]) -> list[list[Source]]:
    """Group sources by the call with which they count."""
    groups: dict[str, list[Source]] = {}
    for source in sources:
        groups.setdefault(source.call or source.name, []).append(source)
    return list(groups.values())


def unfinished(folder: Path) -> list[Unfinished]:
    """What is missing of a dataset, call by call."""
    there = parts_there(folder)
    found = []
    for group in together(find_sources(folder)):
        missing = tuple(
            (source.first + at, source.units[at].what)
            for source in group
            for at in source.missing(there)
        )
        if missing:
            total = sum(len(source.units) for source in group)
            found.append(Unfinished(again=group[0].again, total=total, missing=missing))
    return found


def missing_notices(folder: Path) -> list[str]:
    """Say, a line a call, what is missing of a dataset and how it is made."""
    return [
        f"{len(call.missing)} of {call.total} units of the dataset {folder} are missing; "
        f"`{call.again}` makes them"
        for call in unfinished(folder)
    ]


def making_again(folder: Path, part: str) -> str:
    """Which command makes a part anew, in words."""
    for source in find_sources(folder):
        if part in source.parts and source.again:
            return f"`{source.again}`"
    return "the same command"


def held_back(folder: Path) -> set[str]:
    """Names of parts that do not count yet, because others of their call are missing."""
    there = parts_there(folder)
    groups = together([source for source in find_sources(folder) if source.whole])
    return {
        part
        for group in groups
        if any(source.missing(there) for source in group)
        for source in group
        for part in source.parts
    }


@contextmanager
def collecting(
    folder: Path, sources: Sequence[Source], dropped: Sequence[Source] = (), *, shared: bool
) -> Iterator[None]:
    """Note sources in a dataset folder while their parts are made.

    A source of which nothing came out is taken away again, and the folder, where it is empty then.

    Parameters
    ----------
    dropped
        Unfinished ones that go, with their parts.
    shared
        Whether others may be at work on the same sources; then they stay.

    Raises
    ------
    DataError
        Where the folder cannot be written, or another call has begun to read one of the files.
    """
    by_name = {source.name: source for source in find_sources(folder)}
    for source in sources:
        other = by_name.get(source.name, source)
        if other.settings != source.settings and other not in dropped:
            raise DataError(
                f"two calls read the file {json.loads(source.sources[0])[0][0]} at the same "
                f"time; let one end first (`{other.again}`, `{source.again}`)"
            )
    kept = {part for source in sources for part in source.parts}
    for source in dropped:
        _forget(folder, source)
        for part in source.parts - kept:
            (folder / PARTS / f"{part}.parquet").unlink(missing_ok=True)
    try:
        for source in sources:
            if by_name.get(source.name) != source:
                _write(folder, source)
        yield
    except BaseException:
        there = parts_there(folder)
        for source in sources:
            if not shared and len(source.missing(there)) == len(source.units):
                _forget(folder, source)
        for path in (folder / SOURCES, folder / PARTS, folder):
            with suppress(OSError):
                path.rmdir()
        raise


def inherit_sources(origin: Path, folder: Path) -> None:
    """Have a dataset that was made of another know of which files its events are."""
    sources = [identity for source in find_sources(origin) for identity in source.sources]
    if sources:
        settings = json.dumps({"written": True})
        _write(
            folder,
            Source(
                name="written", again="", whole=False, sources=tuple(sources), settings=settings
            ),
        )


def _write(folder: Path, source: Source) -> None:
    path = folder / SOURCES / f"{source.name}.json"
    with disk_errors(path):
        # The folder of the parts says that this is a dataset in the making.
        (folder / PARTS).mkdir(parents=True, exist_ok=True)
    write_whole(path, source.model_dump_json(exclude_none=True))
    # A note of an earlier version says the same no more.
    (folder / _BEFORE / path.name).unlink(missing_ok=True)


def _forget(folder: Path, source: Source) -> None:
    for of in (SOURCES, _BEFORE):
        (folder / of / f"{source.name}.json").unlink(missing_ok=True)


def stated_of_parts(sources: Sequence[Source]) -> dict[str, tuple[Mapping[str, Stated], float]]:
    """For each part, what is stated of the processes of its source, and the part's share of it."""
    return {
        part: (source.stated, unit.share)
        for source in sources
        if source.stated
        for unit in source.units
        for part in unit.parts
    }


def with_stated(process: Process, stated: Stated | None, fraction: float) -> Process:
    """What a part says of its process, completed by its fraction of what the user says of it."""
    if stated is None:
        return process
    update: dict[str, float | None] = dict(stated.model_dump(exclude_none=True))
    if stated.cross_section is not None:
        update["cross_section_error"] = None
    if stated.sum_weights is not None:
        update |= {"sum_weights": stated.sum_weights * fraction, "sum_weights2": None}
    return process.model_copy(update=update)
