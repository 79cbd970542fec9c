"""Events of files into a dataset, whatever the format: the whole of `manyscale convert`."""

import hashlib
import json
import math
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from manyscale.card import Card, load_card
from manyscale.data.identity import copies
from manyscale.data.manifest import check_together, merge
from manyscale.data.npz import Columns, Files, named_columns, open_padded, warn_of_values
from manyscale.data.parquet import (
    PARTS,
    PartBook,
    claim_folder,
    new_part,
    part_name,
    part_path,
    read_book,
)
from manyscale.data.sources import (
    Source,
    Stated,
    collecting,
    find_sources,
    parts_there,
    stated_of_parts,
    with_stated,
)
from manyscale.errors import CardError, DataError, MissingExtraError
from manyscale.events.files.checks import tell
from manyscale.events.files.convert_settings import ConvertSettings
from manyscale.events.files.formats import Format, of_one_format
from manyscale.events.settings import NAMED_PROCESSES
from manyscale.events.work import open_executor, run_units, usable_cores
from manyscale.progress import LOG, progress_bar
from manyscale.schema import (
    CutflowStep,
    Label,
    Process,
    Schema,
    StreamSchema,
    misspelt_columns,
)

if TYPE_CHECKING:
    from manyscale.events.files.reader import Contents
    from manyscale.runs.worker import FileUnit, MakeFileParts

__all__ = ["Added", "Request", "convert_files", "convert_npz"]

# Sections of the card's `generate` on which the records of files depend.
_GENERATE = {"multiparton", "detector", "jets", "objects", "streams", "columns", "cuts"}
# Keys of the card's `convert` on which the records do not depend.
_STATED: Any = {
    "unit_events": True,
    "process": {"__all__": {"cross_section", "sum_weights"}},
}
# What is the same for all events of a process.
_OF_ALL_EVENTS = {
    "cross_section": "cross section [pb]",
    "k_factor": "k-factor",
    "filter_efficiency": "filter efficiency",
    "share": "share of its class",
}
_NAMED = 3


@dataclass(frozen=True)
class Added:
    """What was added to a dataset: in words, and the processes with their cutflows."""

    said: str
    processes: tuple[Process, ...] = ()


@dataclass(frozen=True)
class Request:
    """What a user says of the events of some files.

    Attributes
    ----------
    label, process
        Class of the events, and name of their process, by default the class.
    cross_section, sum_weights
        In pb; and the sum of the weights of all events that were generated for these files.
    weights
        Branch or expression of the event weights, instead of the format's own.
    """

    label: Label | None = None
    process: str | None = None
    cross_section: float | None = None
    sum_weights: float | None = None
    weights: str | None = None

    def named(self) -> tuple[str, Label]:
        """Name and class of the process that all the events are of."""
        if self.label is not None:
            return self.process or self.label, self.label
        classes: dict[str, Label] = {"signal": "signal", "background": "background"}
        classes |= {name: named.event_class for name, named in NAMED_PROCESSES.items()}
        if self.process in classes:
            return self.process, classes[self.process]
        known = ", ".join(NAMED_PROCESSES)
        if self.process is not None:
            raise DataError(
                f"say what the events are: the class of '{self.process}' is not known, as those of "
                f"{known} are; add --label signal or --label background"
            )
        raise DataError(
            "say what the events are: --label signal or --label background, or --process with one "
            f"of {known}"
        )

    def options(self) -> list[str]:
        """Words of the command line that say the same."""
        names = ("label", "process", "cross_section", "weights", "sum_weights")
        said = {f"--{name.replace('_', '-')}": getattr(self, name) for name in names}
        return [
            word for option, value in said.items() if value is not None
            for word in (option, str(value))
        ]  # fmt: skip


def convert_files(
    files: Sequence[str],
    folder: Path | str,
    request: Request | None = None,
    *,
    card: Path | str | None = None,
    workers: int | None = None,
    cluster: str | None = None,
    share: tuple[int, int] | None = None,
) -> Added:
    """Add the events of files to a dataset.

    Units that are there already are not made again, so that a killed call is resumed where it was,
    and several machines can each make a share into one folder.

    Parameters
    ----------
    files
        Files of one format, globs, text files with a file a line; of npz one file, or several
        streams as "jet1=a.npz", "jet2=b.npz"; where the card maps branches, any number of npz whose
        arrays it names.
    folder
        The dataset, new or to be added to.
    request
        What the events are.
    card
        Its `generate` says detector, jets, cuts and streams, its `convert` what to take from
        ntuples, its `data.columns` the columns of an npz.
    workers
        Processes; without it, one for each core that this process may use.
    cluster
        Address of a dask scheduler whose workers do the units.
    share
        Do the units from the first number up to, not with, the second.

    Returns
    -------
    What was added, in words and as a cutflow.

    Raises
    ------
    CardError, DataError
        Where a file cannot be read, does not fit the dataset, or is in it as something else; a unit
        that failed twice is named after the others are done.
    """
    request = request or Request()
    _check_positive(request.cross_section, request.sum_weights)
    folder = Path(folder)
    loaded = load_card(card) if card is not None else Card()
    # A path may hold an = itself; a stream's name holds no slash.
    if all("=" in text and "/" not in text.partition("=")[0] for text in files):
        return _convert_npz(files, folder, request, loaded)
    kind, paths = of_one_format(files)
    if kind == "npz" and not loaded.convert.branches:
        return _convert_npz(paths, folder, request, loaded)
    return _convert_events(
        kind, paths, folder, request, loaded,
        card_path=card, workers=workers, cluster=cluster, share=share,
    )  # fmt: skip


def _convert_npz(files: Sequence[str], folder: Path, request: Request, card: Card) -> Added:
    """Add the events of npz files: one alone, or one a stream of the same events."""
    by_stream: dict[str, str] = {}
    for text in files:
        stream, equals, path = text.partition("=")
        if not equals and len(files) > 1:
            raise DataError(
                "several npz files are the streams of the same events: write jet1=a.npz jet2=b.npz; "
                "files of other events are added by another call"
            )
        if stream in by_stream:
            raise DataError(f"two files are given for the stream '{stream}'")
        by_stream[stream] = path
    if request.weights is not None:
        raise DataError("--weights names a branch; an npz has none, its events count one each")
    process, label = request.named()
    return convert_npz(
        folder,
        by_stream if all(by_stream.values()) else files[0],
        label,
        process,
        columns=card.data.columns or None,
        cross_section=request.cross_section,
        sum_weights=request.sum_weights,
        share=_stated(process, request, card, card.convert).share,
    )


def _convert_events(
    kind: Format,
    paths: Sequence[str],
    folder: Path,
    request: Request,
    card: Card,
    *,
    card_path: Path | str | None,
    workers: int | None,
    cluster: str | None,
    share: tuple[int, int] | None,
) -> Added:
    """Add the events of all other files: have the units made that are missing, and merge."""
    try:
        # What reads files is an extra; npz files are converted without it.
        from manyscale.runs import plan_files, worker  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise MissingExtraError(str(error.name), "convert") from error

    # What the events are, and who reads them.
    claim_folder(folder)
    convert = card.convert
    if request.weights is not None:
        convert = convert.model_copy(update={"weight": request.weights})
    if convert.process and (kind in {"HepMC", "LHE"} or not convert.branches):
        raise CardError(
            "convert.process divides the events of an ntuple, which convert.branches maps; of "
            "other files --label and --process say what all the events are"
        )
    books = _read_books(folder)
    processes = _processes(request, convert, list(books.values()))
    names = [process.name for process in processes.values()]
    # Settings of Pythia for the shower of hard events: the card says them of a process.
    alone = card.generate.processes.get(names[0]) if len(names) == 1 else None
    lines = alone.pythia if alone is not None else ()
    files = plan_files.find_files(paths)
    reader = plan_files.one_reader(kind, files, card.generate, convert, lines)
    sample, contents = plan_files.look_at_first(files, reader)
    _report(sample.path, contents)
    streams = _without(contents.streams, convert.drop, sample.path)
    worker.check_streams(folder, streams)

    # The units, and which of them are not made yet. The settings are all that a record follows from
    # beside its file: a file that is in the dataset with others is refused.
    settings = {
        "reader": type(reader).__name__,
        "seed": card.seed,
        "generate": card.generate.model_dump(mode="json", include=_GENERATE),
        "convert": convert.model_dump(mode="json", exclude=_STATED),
        "processes": {key: process.name for key, process in processes.items()},
        "lines": lines,
    }
    options = [*request.options(), *(() if card_path is None else ("--card", str(card_path)))]
    named = shlex.join(file.path for file in files[:_NAMED]) + " ..." * (len(files) > _NAMED)
    known = [identity for source in find_sources(folder) for identity in source.sources]
    _warn_of_copies(known, [file.identity for file in files])
    sources, dropped = plan_files.sources_of(
        files,
        folder,
        reader=reader,
        step=convert.unit_events or reader.step,
        entries_per_byte=contents.entries / sample.size,
        settings=json.dumps(settings, sort_keys=True),
        again=f"manyscale convert {named} {shlex.join([*options, '--out', str(folder)])}",
    )
    # What the user states of a process is noted with the files, so that it can be corrected later.
    stated = {name: _stated(name, request, card, convert) for name in names}
    _check_others(folder, books, stated, own={part for of in sources for part in of.parts})
    sources = _with_stated(sources, stated)
    units = plan_files.units_of(sources, files)
    chosen = worker.share_of(units, share, "the files make")
    there = parts_there(folder)
    todo = [unit for unit in chosen if not there.issuperset(unit.parts)]

    task = worker.MakeFileParts(
        reader,
        streams,
        folder.absolute() if cluster else folder,
        processes,
        card.seed,
        {"command": "convert", **settings},
    )
    workers = min(workers or usable_cores(), max(1, len(todo)))
    with collecting(folder, sources, dropped, shared=share is not None):
        _make(task, todo, len(chosen), workers, cluster)

    # What the dataset has now.
    there = parts_there(folder)
    left = sum(not there.issuperset(unit.parts) for unit in units)
    if left:
        return Added(
            f"{left} of {len(units)} units are missing still; `manyscale inspect {folder}` names "
            "them, and finishes the dataset once all are there"
        )
    added = tuple(process for process in merge(folder).processes if process.name in names)
    _report_unknown(added, several=len(convert.process) > 1)
    if not todo:
        return Added(f"{folder} has these events already", added)
    selected = sum(process.cutflow[-1].events for process in added)
    if not selected:
        LOG.warning("no event passed the selection; the cutflow says where they were lost")
    return Added(f"{', '.join(names)}: {selected:,} events in {folder}", added)


def _report(path: str, contents: "Contents") -> None:
    """Say what the files give; refuse them where it is nothing."""
    LOG.info("%s: %s", path, contents.title)
    missing = [f"no {stream}: {why}" for stream, why in contents.missing.items()]
    for line in (*missing, *contents.remarks):
        LOG.info(line)
    for line in (line for of in contents.streams.values() for line in misspelt_columns(of)):
        LOG.warning(line)
    if not contents.streams:
        why = "; ".join(missing)
        why = why or "no branches are mapped; give a card with convert.branches by --card"
        raise DataError(f"{path} gives none of the streams wanted: {why}")


def _make(
    task: "MakeFileParts", todo: "Sequence[FileUnit]", total: int, workers: int, cluster: str | None
) -> None:
    """Make the parts of units, of so many in total, and say what was odd."""
    notes, weighted = Counter[str](), not todo
    with progress_bar("converting", total, "units", total - len(todo)) as bar:
        if todo:
            with open_executor(workers, cluster) as (executor, in_flight):
                for _, (any_weight, odd) in run_units(task, todo, executor, in_flight):
                    notes += odd
                    weighted |= any_weight
                    bar.advance(1)
    if not weighted:
        # Another branch makes other records: of these nothing must be left to be resumed.
        for path in (part_path(task.folder, part) for unit in todo for part in unit.parts):
            path.unlink(missing_ok=True)
        raise DataError("all event weights are 0; --weights names another branch of weights")
    tell(notes)


def _report_unknown(processes: Sequence[Process], *, several: bool) -> None:
    """Say what is not known of processes, and what makes it known."""
    for process in processes:
        for what, value, option in (
            ("cross section", process.cross_section, "--cross-section"),
            ("sum of weights of all generated events", process.sum_weights, "--sum-weights"),
        ):
            if value is None:
                where = "convert.process of the card" if several else option
                LOG.warning(
                    "the %s of %s is unknown, so no yields: %s says it", what, process.name, where
                )


# ---- processes, and what is stated of them ----------------------------------------------------


def _processes(
    request: Request, convert: ConvertSettings, books: Sequence[PartBook]
) -> dict[str, Process]:
    """The processes as far as they are known, by the reader's names for them."""
    from manyscale.events.files.reader import THE_PROCESS  # noqa: PLC0415 - an extra

    if not convert.process:
        name, label = request.named()
        return {THE_PROCESS: _described(name, label, books)}
    if request.label is not None or request.process is not None:
        raise DataError(
            "the card's convert.process says what the events are: leave out --label and --process"
        )
    if len(convert.process) > 1 and (request.cross_section or request.sum_weights):
        raise DataError(
            "the card's convert.process names several processes, to which --cross-section and "
            "--sum-weights cannot all apply: say them there, as in "
            '{ttbar: {where: "is_ttbar == 1", cross_section: 831, sum_weights: 1.2e9}}'
        )
    return {name: _described(name, convert.event_class(name), books) for name in convert.process}


def _stated(process: str, request: Request, card: Card, convert: ConvertSettings) -> Stated:
    """What the user says of a process: on the command line, or else in the card."""
    # What the card itself says, not the processes that a card has by default.
    given = card.generate.processes if "processes" in card.generate.model_fields_set else {}
    sources = (request, convert.process.get(process), given.get(process))
    said = {
        key: [value for of in sources if (value := getattr(of, key, None)) is not None]
        for key in Stated.model_fields
    }
    return Stated(**{key: values[0] for key, values in said.items() if values})


def _with_stated(sources: Sequence[Source], stated: Mapping[str, Stated]) -> list[Source]:
    """Sources with what the user says now instead of what was said before."""
    size = sum(source.size for source in sources)

    def updated(source: Source, name: str, now: Stated) -> Stated:
        said = now.model_dump(exclude_none=True)
        if now.sum_weights is not None:
            # It is that of all the files together: each has its part by size.
            said["sum_weights"] = now.sum_weights * source.size / size
        return source.stated.get(name, Stated()).model_copy(update=said)

    return [
        of.model_copy(update={"stated": {n: updated(of, n, now) for n, now in stated.items()}})
        for of in sources
    ]


def _check_others(
    folder: Path, books: Mapping[Path, PartBook], stated: Mapping[str, Stated], own: set[str]
) -> None:
    """Refuse what other events of a process do not have, those of other parts than our own."""
    said_of = stated_of_parts(find_sources(folder))
    for path, book in books.items():
        now = stated.get(book.process.name)
        if now is None or path.stem in own:
            continue
        said, fraction = said_of.get(path.stem, ({}, 0.0))
        process = with_stated(book.process, said.get(book.process.name), fraction)
        for key, what in _OF_ALL_EVENTS.items():
            known, wanted = getattr(process, key), getattr(now, key)
            if None not in {known, wanted} and known != wanted:
                raise DataError(
                    f"{folder} holds other events of the process '{process.name}' with a "
                    f"{what} of {known!r}, not {wanted!r}: give these another name with --process"
                )


def _without(
    streams: Mapping[str, StreamSchema], drop: Sequence[str], path: str
) -> dict[str, StreamSchema]:
    """Streams of a file without the columns that the card drops."""
    left = dict(streams)
    for text in drop:
        name, _, column = text.partition(".")
        stream = left.get(name)
        if stream is None or column not in stream.columns + stream.axis:
            LOG.warning("convert.drop: %s gives no %s, so there is nothing to drop", path, text)
            continue
        columns = tuple(of for of in stream.columns if of != column)
        axis = tuple(of for of in stream.axis if of != column)
        if not columns:
            raise CardError(f"convert.drop leaves the stream '{name}' without a column")
        left[name] = stream.model_copy(update={"columns": columns, "axis": axis})
    return left


def _check_positive(cross_section: float | None, sum_weights: float | None) -> None:
    for what, number in (("cross section", cross_section), ("sum of weights", sum_weights)):
        if number is not None and not 0 < number < math.inf:
            raise DataError(f"the {what} is {number:g}; it must be above 0")


def _read_books(folder: Path) -> dict[Path, PartBook]:
    """Read what the parts of a dataset say of themselves; none where there is no dataset yet."""
    return {path: read_book(path)[0] for path in sorted((folder / PARTS).glob("*.parquet"))}


def _described(name: str, label: Label, books: Sequence[PartBook]) -> Process:
    """Describe the process, as the dataset does where it has it; refuse another class."""
    known = next((book.process for book in books if book.process.name == name), None)
    if known is None:
        return Process(name=name, label=label)
    if known.label != label:
        raise DataError(
            f"the dataset holds the process '{name}' as {known.label}, not as {label}: give this one "
            f"another name with --process"
        )
    return known


# ---- npz files --------------------------------------------------------------------------------


def convert_npz(
    folder: Path | str,
    files: Files,
    label: Label,
    process: str | None = None,
    *,
    columns: Columns = None,
    cross_section: float | None = None,
    sum_weights: float | None = None,
    share: float | None = None,
) -> Added:
    """Add the events of npz files to a dataset, as one part; make the dataset where there is none.

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
    share
        Of the process in its class.

    Raises
    ------
    DataError
        Where a file cannot be read, does not fit the dataset, or is in it as something else. Then
        nothing is written.
    """
    folder, process = Path(folder), process or label
    _check_positive(cross_section, sum_weights)
    claim_folder(folder)
    padded = open_padded(files)
    paths = {name: array.where for name, array in padded.arrays.items()}
    books = _read_books(folder)
    there = next((at for at, book in books.items() if book.identity == padded.identity), None)
    if there is not None:
        known = books.pop(there).process
        if (known.name, known.label) != (process, label):
            raise DataError(
                f"{', '.join(paths.values())}: its events are in the dataset already, as "
                f"{known.label} of the process '{known.name}'; they cannot be {label} of '{process}' "
                "as well"
            )
        said = (cross_section, known.cross_section), (sum_weights, known.sum_weights)
        if all(now in {None, before} for now, before in (*said, (share, known.share))):
            merge(folder)
            return Added(f"{folder} has these {len(padded)} events of {process} already")
    _warn_of_copies([book.identity for book in books.values()], [padded.identity])
    described = _described(process, label, list(books.values()))
    said_now = Stated(cross_section=cross_section, share=share)
    _check_others(folder, books, {process: said_now}, own=set())
    streams = _npz_streams(padded.streams, list(paths), columns, list(books.values()))
    step = CutflowStep(step="in the file", events=len(padded), sum_weights=float(len(padded)))
    update: dict[str, Any] = {
        "generated": len(padded),
        "sum_weights": sum_weights,
        "sum_weights2": None,
        "cutflow": (step,),
        **said_now.model_dump(exclude_none=True),
    }
    schema = Schema(streams=streams)
    made = {"command": "convert", "process": process, "files": paths}
    book = PartBook.of(schema, described.model_copy(update=update), padded.identity, made)
    name = part_name(
        process,
        hashlib.blake2b(f"{process}\n{padded.identity}".encode(), digest_size=8).hexdigest(),
    )
    check_together([*books.items(), (part_path(folder, name), book)])
    packers = padded.packers(streams)
    with new_part(folder, name, schema, process) as part:
        for packed in padded.pack(packers):
            part.write(packed)
        part.close(book)
    merge(folder)
    warn_of_values(packers)
    if cross_section is None:
        LOG.warning("the cross section is unknown, so no yields: --cross-section says it")
    return Added(f"{len(padded)} events of {process} added to {folder}")


def _npz_streams(
    describe: Callable[[Mapping[str, Sequence[str]]], tuple[StreamSchema, ...]],
    names: Sequence[str],
    columns: Columns,
    books: Sequence[PartBook],
) -> tuple[StreamSchema, ...]:
    """Streams of the files; those of the dataset where it has parts."""
    named = dict(named_columns(columns, names))
    if not books:
        return describe(named)
    known = {stream.name: stream for stream in books[0].streams}
    if known.keys() != set(names):
        raise DataError(
            f"the dataset has the streams {', '.join(known)}, the files are {', '.join(names)}; they "
            "must be the same"
        )
    for name, stream in known.items():
        named.setdefault(name, stream.all_columns)
    ours = {stream.name: stream for stream in describe(named)}
    for name, stream in known.items():
        if not ours[name].same_content(stream):
            raise DataError(
                f"the dataset has in its stream '{name}' the columns "
                f"{', '.join(stream.all_columns)}, the file {', '.join(ours[name].all_columns)}; they "
                f"must be the same"
            )
    return tuple(ours[name] for name in known)


def _warn_of_copies(known: Iterable[str], new: Iterable[str]) -> None:
    """Say which new files seem to be copies of others, by their identities."""
    for other, name in copies(known, new):
        LOG.warning(
            "%s and %s are the same under two names, by size and first MiB: if one is a copy of the "
            "other, its events count twice",
            other,
            name,
        )
