"""dataset.json: what the parts of a dataset are together, made from the parts alone."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from manyscale.data.parquet import MANIFEST, PARTS, PartBook, read_book
from manyscale.data.sources import find_sources, held_back, stated_of_parts, with_stated
from manyscale.errors import DataError
from manyscale.progress import LOG
from manyscale.schema import COLUMNS, SCHEMA_VERSION, Generated, Process, Schema, StreamSchema
from manyscale.writing import write_whole

__all__ = [
    "Manifest",
    "PartEntry",
    "check_together",
    "difference",
    "has_parts",
    "is_merged",
    "merge",
    "read_manifest",
    "verify",
]

_FOOTER_TAIL = 8
# So often parts may come while dataset.json is written; whoever adds them writes it after them.
_ROUNDS = 10


class PartEntry(BaseModel):
    """One part, as dataset.json lists it.

    Attributes
    ----------
    file
        Its path inside the dataset; leads nowhere else.
    size
        In bytes.
    footer
        Checksum of the Parquet footer alone: tells cheaply whether the part is still the one of
        which `sha256` was taken.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    file: str = Field(pattern=rf"^{PARTS}/[^/\x00]+\.parquet$", max_length=250)
    process: str
    events: int
    size: int
    sha256: str
    footer: str


class Manifest(BaseModel):
    """The content of dataset.json.

    Attributes
    ----------
    content
        Streams, processes, weights, observables.
    parts
        Sorted by file.
    made
        How the parts were made, each way once.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    content: Schema
    parts: tuple[PartEntry, ...]
    made: tuple[dict[str, Any], ...] = ()

    def to_json(self) -> str:
        """Write it down as dataset.json stands on disk."""
        columns = [name for stream in self.content.streams for name in stream.all_columns]
        content = {
            **self.content.model_dump(mode="json"),
            "units": {name: COLUMNS[name].unit for name in columns if name in COLUMNS},
            "made": list(self.made),
            "parts": [part.model_dump() for part in self.parts],
        }
        return json.dumps(content, indent=1) + "\n"

    @staticmethod
    def from_json(text: str) -> "Manifest":
        """Read what `to_json` wrote; ValueError where it is something else."""
        raw = json.loads(text)
        if not isinstance(raw, dict):
            raise TypeError("it is no JSON object")
        if isinstance(raw.get("version"), int) and raw["version"] > SCHEMA_VERSION:
            raise ValueError(
                f"it is of version {raw['version']}, this manyscale reads up to {SCHEMA_VERSION}: "
                f"install a newer one"
            )
        content = {name: raw[name] for name in Schema.model_fields if name in raw}
        return Manifest.model_validate({**raw, "content": content})


def read_manifest(folder: Path) -> Manifest:
    """Read the dataset.json of a dataset.

    Raises
    ------
    DataError
        Where the folder is no dataset, or its dataset.json cannot be read.
    """
    if not folder.exists():
        raise DataError(f"there is no dataset {folder}")
    if not folder.is_dir():
        raise DataError(f"{folder} is a file; a dataset is a folder with {MANIFEST}")
    path = folder / MANIFEST
    if not path.is_file():
        unfinished = (
            f" (it is unfinished: `manyscale inspect {folder}` says what is missing)"
            if (folder / PARTS).is_dir()
            else ""
        )
        raise DataError(f"{folder} is no dataset: it has no {MANIFEST}{unfinished}")
    try:
        return Manifest.from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise DataError(f"{path} cannot be read: {reason}") from error


def merge(folder: Path | str) -> Schema:
    """Bring dataset.json up to date with the parts that are there, whatever machine made them.

    Parts of a call that counts only as a whole, and is not complete, are left out. Weights and
    observables may differ between parts: those that one lacks are its nominal weight, and NaN.

    Several writers may add parts and merge at once: a part that comes while another merge is at
    work is in the last dataset.json written.

    Raises
    ------
    DataError
        Where there is no part, one cannot be read, or two do not fit together.
    """
    folder = Path(folder)
    books: dict[tuple[str, int, int], tuple[PartBook, PartEntry]] = {}
    for _ in range(_ROUNDS):
        listing = _listing(folder)
        try:
            known = {part.file: part for part in read_manifest(folder).parts}
        except DataError:
            known = {}
        for part in listing:
            if part not in books:
                path = folder / PARTS / part[0]
                book, events = read_book(path)
                books[part] = book, _entry(path, book, events, known)
        manifest = _from_parts(folder, [books[part] for part in listing])
        write_whole(folder / MANIFEST, manifest.to_json())
        if _listing(folder) == listing:
            return manifest.content
    LOG.info(
        "others are still adding parts to %s; `manyscale inspect %s` brings it up to date at the end",
        folder,
        folder,
    )
    return manifest.content


def verify(folder: Path | str) -> tuple[str, ...]:
    """Check size and SHA-256 of each part against dataset.json.

    Returns
    -------
    A line for each part that is missing, damaged or not listed; none where all is well.
    """
    folder = Path(folder)
    faults = []
    manifest = read_manifest(folder)
    for part in manifest.parts:
        path = folder / part.file
        if not path.is_file():
            faults.append(f"{path} is missing")
        elif path.stat().st_size != part.size:
            faults.append(f"{path} has {path.stat().st_size} bytes instead of {part.size}")
        elif _sha256(path) != part.sha256:
            faults.append(f"{path} is damaged: its SHA-256 has changed")
    listed = {part.file for part in manifest.parts}
    faults.extend(
        f"{folder / PARTS / name} is not in {MANIFEST}"
        for name, *_ in _listing(folder)
        if f"{PARTS}/{name}" not in listed
    )
    return tuple(faults)


def has_parts(folder: Path) -> bool:
    """Whether there are parts that count."""
    return bool(_listing(folder))


def is_merged(folder: Path) -> bool:
    """Whether dataset.json lists all parts that count."""
    try:
        listed = {part.file for part in read_manifest(folder).parts}
    except DataError:
        return False
    return listed == {f"{PARTS}/{name}" for name, *_ in _listing(folder)}


def _listing(folder: Path) -> list[tuple[str, int, int]]:
    """Parts there are that count: name, size, time of last change; sorted by name."""
    try:
        hidden = held_back(folder)
        paths = [path for path in (folder / PARTS).glob("*.parquet") if path.stem not in hidden]
        found = [(path.name, path.stat()) for path in paths]
    except FileNotFoundError:
        return _listing(folder)
    return sorted((name, stat.st_size, stat.st_mtime_ns) for name, stat in found)


def _from_parts(folder: Path, parts: Sequence[tuple[PartBook, PartEntry]]) -> Manifest:
    if not parts:
        raise DataError(f"{folder} has no parts to make a dataset of")
    stated = stated_of_parts(find_sources(folder))
    books: list[tuple[Path, PartBook]] = []
    for book, entry in parts:
        path = folder / entry.file
        said, fraction = stated.get(path.stem, ({}, 0.0))
        process = with_stated(book.process, said.get(book.process.name), fraction)
        books.append((path, book.model_copy(update={"process": process})))
    processes = check_together(books)
    made = {json.dumps(book.made, sort_keys=True): book.made for _, book in books if book.made}
    return Manifest(
        content=Schema(
            streams=books[0][1].streams,
            processes=processes,
            weights=_union(book.weights for _, book in books),
            observables=_union(book.observables for _, book in books),
        ),
        parts=tuple(entry for _, entry in parts),
        made=tuple(made.values()),
    )


def _entry(path: Path, book: PartBook, events: int, known: dict[str, PartEntry]) -> PartEntry:
    """List a part; the checksum of one that is listed already stands, so that damage shows."""
    file = f"{PARTS}/{path.name}"
    size = path.stat().st_size
    footer = _footer_checksum(path)
    before = known.get(file)
    unchanged = before is not None and (before.size, before.footer) == (size, footer)
    return PartEntry(
        file=file,
        process=book.process.name,
        events=events,
        size=size,
        sha256=before.sha256 if before is not None and unchanged else _sha256(path),
        footer=footer,
    )


def _footer_checksum(path: Path) -> str:
    with path.open("rb") as file:
        end = file.seek(-_FOOTER_TAIL, 2)
        length = int.from_bytes(file.read(4), "little")
        file.seek(max(0, end - length))
        return hashlib.blake2b(file.read(length), digest_size=16).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_together(books: Sequence[tuple[Path, PartBook]]) -> tuple[Process, ...]:
    """Check that parts can be one dataset, and add up what they say of their processes.

    Returns
    -------
    The processes, signal first, then by name.

    Raises
    ------
    DataError
        Where two do not fit together: other streams, or another say on a process.
    """
    first_path, first = books[0]
    for path, book in books[1:]:
        if differ := difference(first.streams, book.streams, (str(first_path), str(path))):
            raise DataError(
                f"the parts {first_path} and {path} do not fit together, they have other streams or "
                f"columns: {differ}"
            )
    of_name: dict[str, list[tuple[Path, Process]]] = {}
    for path, book in books:
        of_name.setdefault(book.process.name, []).append((path, book.process))
    added = [_add_up(parts) for parts in of_name.values()]
    return tuple(sorted(added, key=lambda process: (process.label != "signal", process.name)))


def difference(
    one: Sequence[StreamSchema], other: Sequence[StreamSchema], called: tuple[str, str]
) -> str:
    """Say which streams and columns only one of two has; nothing where both have the same.

    Parameters
    ----------
    called
        What messages call the two.
    """
    columns = [{of.name: of.columns + of.axis for of in streams} for streams in (one, other)]
    said = []
    for here, there, name in zip(columns, reversed(columns), called, strict=True):
        only = [stream for stream in here if stream not in there]
        only += [
            f"{stream}.{column}"
            for stream in here
            for column in here[stream]
            if column not in there.get(stream, here[stream])
        ]
        if only:
            said.append(f"only {name} has {', '.join(only)}")
    if not said and list(columns[0].items()) != list(columns[1].items()):
        said = [
            f"{name} has, in this order, "
            + "; ".join(f"{stream} ({', '.join(of)})" for stream, of in some.items())
            for some, name in zip(columns, called, strict=True)
        ]
    return "; ".join(said)


def _union(names: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """All names, each once, in the order in which they first stand."""
    return tuple(dict.fromkeys(name for some in names for name in some))


def _add_up(parts: Sequence[tuple[Path, Process]]) -> Process:
    first_path, first = parts[0]
    for path, process in parts[1:]:
        for what in ("label", "k_factor", "filter_efficiency", "share"):
            if getattr(process, what) != getattr(first, what):
                raise DataError(
                    f"the parts {first_path} and {path} do not fit together: for one the {what} of "
                    f"the process {first.name} is {getattr(first, what)}, for the other "
                    f"{getattr(process, what)}"
                )
    return first.model_copy(update=dict(Generated.add([process for _, process in parts])))
