"""Scores of the events of files that are no dataset: one row an entry, selected or not."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from manyscale.card import Card
from manyscale.data.event_filter import split_names
from manyscale.data.identity import event_ids
from manyscale.deployment.beside import load_model, scores_of, with_trees
from manyscale.deployment.predict import Alignment, score
from manyscale.deployment.scores import Scores, column_of
from manyscale.errors import DataError, MissingBranchError
from manyscale.events.files.checks import tell
from manyscale.events.files.convert_settings import ConvertSettings
from manyscale.events.files.formats import Format
from manyscale.events.files.reader import Contents, FileEvents, Piece, Reader
from manyscale.events.settings import GenerateSettings
from manyscale.events.work import in_order, open_executor, usable_cores
from manyscale.progress import LOG
from manyscale.runs.plan_files import (
    SourceFile,
    find_files,
    look_at_first,
    one_reader,
)
from manyscale.runs.worker import FileUnit, collision_schema, unit_seed
from manyscale.schema import STREAMS, StreamSchema

__all__ = ["score_files"]


def score_files(
    paths: Sequence[str],
    kind: Format,
    card: Card,
    model: Path,
    *,
    device: str,
    workers: int | None,
    cluster: str | None,
) -> tuple[int, Iterator[Scores]]:
    """Number of entries of files of one format, and their scores, some thousand at a time, in order.

    The card is that of the run: detector, jets, cuts and the map of ntuples; what fails its cuts has
    no score. Processes and cluster are as of `manyscale.runs.convert.convert_files`.
    """
    files = find_files(paths)
    bundle, beside = load_model(model, device)

    def open_for(
        wanted: Sequence[StreamSchema],
    ) -> tuple[Reader, ConvertSettings, Contents, Alignment]:
        # Of the streams and columns that a file could give, those wanted.
        names = [stream.name for stream in wanted]
        further = {name for stream in wanted for name in stream.columns} & {"d0", "dz"}
        update: dict[str, object] = {"columns": tuple(sorted(further))}
        if set(names) <= set(STREAMS):
            update["streams"] = tuple(names)
        generate = card.generate.model_copy(update=update)
        reader, convert, sample, contents = _look(kind, files, generate, card.convert)
        missing = [name for name in names if name not in contents.streams]
        if missing:
            there = ", ".join(contents.streams) or "none: the card of the run maps no branches"
            why = contents.missing.get(missing[0], f"it gives {there}")
            raise DataError(
                f"{sample.path} does not give the stream '{missing[0]}' that the network wants: {why}"
            )
        align = Alignment(collision_schema(contents.streams), wanted)
        return reader, convert, contents, align

    used, (reader, convert, contents, align) = with_trees(bundle, beside, open_for)
    entries = [reader.entries(file.path) for file in files]
    step = convert.unit_events or reader.step
    pieces = [
        (file.identity, Piece(file.path, first, min(first + step, count)))
        for file, count in zip(files, entries, strict=True)
        for first in range(0, count, step)
    ]
    task = _ScoreUnit(
        reader,
        contents.streams,
        align,
        {name: card.label_of(name, convert.event_class(name)) for name in convert.process},
        card,
        model.absolute(),
        device,
        with_trees=used is not None,
    )
    units = [FileUnit(index, (), piece, of) for index, (of, piece) in enumerate(pieces)]

    def rows() -> Iterator[Scores]:
        noted = Counter[str]()
        processes = min(workers or usable_cores(), len(units))
        with open_executor(processes, cluster) as (executor, in_flight):
            for scores, notes in in_order(task, units, executor, in_flight):
                noted.update(notes)
                yield scores
        tell(noted)

    return sum(entries), rows()


@dataclass(frozen=True)
class _ScoreUnit:
    """Reads a unit of a file and scores it; can be sent to another process, which loads the model."""

    reader: Reader
    streams: Mapping[str, StreamSchema]  # those that the files give
    align: Alignment  # from these to what is scored
    labels: Mapping[str, int]  # by process; empty where the file does not tell
    card: Card
    model: Path
    device: str
    with_trees: bool

    def __call__(self, unit: FileUnit) -> tuple[Scores, Counter[str]]:
        """Score a unit: a row an entry; and what is to be noted of it, with how often."""
        bundle, beside = load_model(self.model, self.device)
        first = unit.piece.first
        seed = unit_seed(self.card.seed, unit.identity, first)
        found = FileEvents.add(list(self.reader.read(unit.piece, self.streams, seed)))
        count = len(found.weight)
        scores: dict[str, NDArray[np.floating]] = {}
        label = np.full(count, -1, np.int8)
        of_process = np.zeros(count, f"U{max(map(len, self.labels), default=1)}")
        observables: dict[str, NDArray[np.generic]] = {}
        for process, (events, _) in found.processes.items():
            row = events.entry - first
            streams = self.align(events.streams)
            network, known = score(bundle.network, streams)
            of = scores_of(beside if self.with_trees else None, streams, network[:, 1])
            for name, given in of.items():
                scores.setdefault(name, np.full(count, np.nan, given.dtype))[row] = given
            of_process[row] = process
            label[row] = self.labels.get(process, -1)
            for name, values in {**events.observables, **known}.items():
                # Where not selected whole numbers are 0, having no other value for it: as floats,
                # with NaN, those beyond 2^53 would be rounded.
                dtype = values.dtype if np.issubdtype(values.dtype, np.number) else np.float64
                empty = np.full(count, 0 if np.issubdtype(dtype, np.integer) else np.nan, dtype)
                observables.setdefault(name, empty)[row] = values
        event_id = event_ids(unit.identity, first + np.arange(count))
        columns: dict[str, NDArray[np.generic]] = {
            "event_id": event_id,
            **{column_of(name): values for name, values in scores.items()},
            "selected": np.isfinite(scores["network"]),
            "split": split_names(event_id, self.card.seed, self.card.data.split),
        }
        if self.labels:
            columns |= {"process": of_process, "label": label}
        return Scores({**observables, **columns, "weight": found.weight}), Counter(found.notes)


def _look(
    kind: Format, files: Sequence[SourceFile], generate: GenerateSettings, convert: ConvertSettings
) -> tuple[Reader, ConvertSettings, SourceFile, Contents]:
    """Look into files; of measured events without the weight and processes of the card.

    Returns
    -------
    Their reader, with the settings that they allow; the file that was looked into, and what is there.
    """
    while True:
        reader = one_reader(kind, files, generate, convert)
        try:
            return reader, convert, *look_at_first(files, reader)
        except MissingBranchError as error:
            # Measured events have neither weights nor what tells processes apart.
            if error.key.startswith("convert.process."):
                convert = convert.model_copy(update={"process": {}})
                LOG.warning("no labels: %s", error)
            elif error.key == "convert.weight":
                convert = convert.model_copy(update={"weight": None})
                LOG.warning("without the weights of the card: %s", error)
            else:
                raise
