"""npz files into a dataset folder."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from manyscale.data.manifest import check_together, merge
from manyscale.data.npz import Columns, Files, PaddedEvents, named_columns, open_padded
from manyscale.data.parquet import (
    PARTS,
    PartBook,
    claim_folder,
    new_part,
    part_name,
    part_path,
    read_book,
)
from manyscale.errors import DataError
from manyscale.schema import CutflowStep, Label, Process, Schema, StreamSchema

__all__ = ["Converted", "check_positive", "convert_npz", "describe_process", "read_books"]


@dataclass(frozen=True)
class Converted:
    """What became of some npz files.

    Attributes
    ----------
    process
        The process that their events are of.
    events
        Number of events in the files.
    added
        False where the dataset held them already and nothing was done.
    notices
        What is odd about the values, a line each.
    """

    process: str
    events: int
    added: bool
    notices: tuple[str, ...] = ()


def convert_npz(
    folder: Path | str,
    files: Files,
    label: Label,
    process: str | None = None,
    *,
    columns: Columns = None,
    cross_section: float | None = None,
    sum_weights: float | None = None,
) -> Converted:
    """Add the events of npz files to a dataset; make the dataset where there is none.

    Parameters
    ----------
    folder
        The dataset.
    files
        A file, or a file a stream; see `manyscale.data.npz.read_npz`.
    label, process
        Class and process of the events; the process is named as the class where not said.
    columns
        Names of the columns, a list a stream. Where the dataset exists and they are not said, they
        are taken from it.
    cross_section
        In pb.
    sum_weights
        Sum of the weights of the events generated, before whatever selected those in the files.

    Raises
    ------
    DataError
        Where a file cannot be read, does not fit the dataset, or is in it as something else. Then
        nothing is written.
    """
    folder, process = Path(folder), process or label
    check_positive(cross_section, sum_weights)
    claim_folder(folder)
    padded = open_padded(files)
    books = read_books(folder)
    there = _find(padded, process, label, books)
    others = [book for path, book in books.items() if path != there]
    described = describe_process(process, label, cross_section, others)
    if there is not None and _says(books[there].process, cross_section, sum_weights):
        merge(folder)
        return Converted(process, len(padded), added=False)
    streams = _streams(padded, columns, list(books.values()))
    events = float(len(padded))
    book = PartBook(
        streams=streams,
        weights=Schema(streams=streams).weights,
        observables=(),
        process=described.model_copy(
            update={
                "generated": len(padded),
                "sum_weights": sum_weights,
                "sum_weights2": None,
                "cutflow": (
                    CutflowStep(step="in the file", events=len(padded), sum_weights=events),
                ),
            }
        ),
        identity=padded.identity,
        made={
            "command": "convert",
            "process": process,
            "files": {name: array.where for name, array in padded.arrays.items()},
        },
    )
    name = _part_name(process, padded)
    check_together([*books.items(), (part_path(folder, name), book)])
    packers = padded.packers(streams)
    with new_part(folder, name, Schema(streams=streams), process) as part:
        for packed in padded.pack(packers):
            part.write(packed)
        part.close(book)
    merge(folder)
    notices = tuple(line for packer in packers.values() for line in packer.notices())
    return Converted(process, len(padded), added=True, notices=notices)


def check_positive(cross_section: float | None, sum_weights: float | None) -> None:
    """Refuse a stated cross section or sum of weights that is not above 0."""
    for what, number in (("cross section", cross_section), ("sum of weights", sum_weights)):
        if number is not None and not 0 < number < math.inf:
            raise DataError(f"the {what} is {number:g}; it must be above 0")


def read_books(folder: Path) -> dict[Path, PartBook]:
    """Read what the parts of a dataset say of themselves; none where there is no dataset yet."""
    return {path: read_book(path)[0] for path in sorted((folder / PARTS).glob("*.parquet"))}


def _part_name(process: str, padded: PaddedEvents) -> str:
    source = hashlib.blake2b(f"{process}\n{padded.identity}".encode(), digest_size=8).hexdigest()
    return part_name(process, source)


def describe_process(
    name: str, label: Label, cross_section: float | None, books: Sequence[PartBook]
) -> Process:
    """Describe the process, as the dataset does where it has it; refuse to say otherwise of it."""
    known = next((book.process for book in books if book.process.name == name), None)
    if known is None:
        return Process(name=name, label=label, cross_section=cross_section)
    if known.label != label:
        raise DataError(
            f"the dataset holds the process '{name}' as {known.label}, not as {label}: give this one "
            f"another name with --process"
        )
    if cross_section is not None and known.cross_section != cross_section:
        raise DataError(
            f"the dataset holds the process '{name}' with a cross section of "
            f"{_in_pb(known.cross_section)}, not {_in_pb(cross_section)}: give this one another name "
            f"with --process"
        )
    return known


def _in_pb(cross_section: float | None) -> str:
    return "unknown size" if cross_section is None else f"{cross_section:g} pb"


def _find(
    padded: PaddedEvents, process: str, label: Label, books: Mapping[Path, PartBook]
) -> Path | None:
    """Find the part that these files are in the dataset already, as this process."""
    for path, book in books.items():
        if book.identity != padded.identity:
            continue
        if (book.process.name, book.process.label) == (process, label):
            return path
        names = ", ".join(array.where for array in padded.arrays.values())
        raise DataError(
            f"{names}: its events are in the dataset already, as {book.process.label} of the process "
            f"'{book.process.name}'; they cannot be {label} of '{process}' as well"
        )
    return None


def _says(process: Process, cross_section: float | None, sum_weights: float | None) -> bool:
    """Whether a process has what is stated now."""
    return cross_section in {None, process.cross_section} and sum_weights in {
        None,
        process.sum_weights,
    }


def _streams(
    padded: PaddedEvents, columns: Columns, books: Sequence[PartBook]
) -> tuple[StreamSchema, ...]:
    """Streams of the files; those of the dataset where it has parts."""
    named = dict(named_columns(columns, list(padded.arrays)))
    if not books:
        return padded.streams(named)
    known = {stream.name: stream for stream in books[0].streams}
    if known.keys() != padded.arrays.keys():
        raise DataError(
            f"the dataset has the streams {', '.join(known)}, the files are "
            f"{', '.join(padded.arrays)}; they must be the same"
        )
    for name, stream in known.items():
        named.setdefault(name, stream.all_columns)
    ours = {stream.name: stream for stream in padded.streams(named)}
    for name, stream in known.items():
        if not ours[name].same_content(stream):
            raise DataError(
                f"the dataset has in its stream '{name}' the columns "
                f"{', '.join(stream.all_columns)}, the file {', '.join(ours[name].all_columns)}; they "
                f"must be the same"
            )
    return tuple(ours[name] for name in known)
