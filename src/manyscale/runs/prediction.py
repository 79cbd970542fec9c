"""Scoring new events with a trained run."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from manyscale.card import Card, load_card
from manyscale.data.dataset import Dataset
from manyscale.data.npz import npz_batches
from manyscale.data.packing import PackedEvents
from manyscale.data.schema import Label, Process, Schema
from manyscale.deployment.predict import Alignment
from manyscale.deployment.bundle import Bundle, load_bundle
from manyscale.deployment.predict import class_probabilities
from manyscale.deployment.scores import Scores, ScoreWriter, check_target
from manyscale.errors import DataError, MissingExtraError
from manyscale.events.files.formats import of_one_format
from manyscale.progress import Progress, Silent
from manyscale.runs.folder import RunFolder

__all__ = ["predict_run"]

_CHUNK = 20_000


def predict_run(
    root: Path | str, source: Path | str, target: Path | str, *, progress: Progress | None = None
) -> int:
    """Score every event of a dataset or a file and write the scores.

    Parameters
    ----------
    root
        The folder of a trained run.
    source
        A dataset folder; an npz file as for training, one array, or one a stream; or any file that
        `convert` reads, then read as the run's own card says: events that fail its cuts are not
        `selected` and have no score.
    target
        Ends in .npz, .parquet or .root; replaced whole, at the end.

    Returns
    -------
    The number of events scored, one row each, in the order of the source.

    Raises
    ------
    RunError, DataError
        Where run or source cannot be read, or the source lacks a stream or a column.
    """
    progress = progress or Silent()
    target = Path(target)
    check_target(target)
    if "://" not in str(source):
        _check_apart(Path(source), target)
    folder = RunFolder.open(root)
    bundle = load_bundle(folder.model)
    card = load_card(folder.card)
    total, scores = _scores(str(source), bundle, card)
    if not total:
        raise DataError(f"{source} has no events")
    progress.start("scoring", total, "events")
    with ScoreWriter(target) as writer:
        for part in scores:
            writer.add(part)
            progress.advance(len(part))
        progress.stop()
    return total


def _check_apart(source: Path, target: Path) -> None:
    if target.resolve() == source.resolve() or target.resolve().is_relative_to(source.resolve()):
        raise DataError(f"the scores would overwrite their input {source}: name another file")


def _scores(source: str, bundle: Bundle, card: Card) -> tuple[int, Iterator[Scores]]:
    """Number of events of a source, and their scores batch by batch."""
    if "://" not in source and Path(source).is_dir():
        return _of_dataset(Path(source), bundle, card)
    kind, paths = of_one_format([source])
    if kind == "npz":
        return _of_npz(Path(source), bundle)
    try:
        from manyscale.runs.file_scores import FileScores  # noqa: PLC0415  # an extra
    except ModuleNotFoundError as error:
        raise MissingExtraError(str(error.name), "convert") from error
    files = FileScores(paths, kind, card, bundle.streams)
    alignment = Alignment(files.schema, bundle.streams)
    return files.entries, files.rows(partial(_signal, bundle, alignment))


def _of_dataset(source: Path, bundle: Bundle, card: Card) -> tuple[int, Iterator[Scores]]:
    dataset = Dataset.open(source)
    labels = _labels(card, dataset.schema.processes)
    labelled = bool(len(labels) and labels.min() >= 0)
    alignment = Alignment(dataset.schema, bundle.streams)

    def scores() -> Iterator[Scores]:
        for events in dataset.chunks(_CHUNK):
            signal = _signal(bundle, alignment, events)
            known = replace(events, label=labels[events.process]) if len(labels) else events
            yield Scores.of(known, signal, labelled=labelled)

    return len(dataset), scores()


def _of_npz(source: Path, bundle: Bundle) -> tuple[int, Iterator[Scores]]:
    alignment = Alignment(Schema(streams=bundle.streams), bundle.streams)
    total, batches = npz_batches(source, bundle.streams)

    def scores() -> Iterator[Scores]:
        for events in batches:
            yield Scores.of(events, _signal(bundle, alignment, events), labelled=False)

    return total, scores()


def _signal(bundle: Bundle, alignment: Alignment, events: PackedEvents) -> NDArray[np.floating]:
    return class_probabilities(bundle.network, alignment(events.streams))[:, 1]


def _labels(card: Card, processes: Sequence[Process]) -> NDArray[np.int64]:
    """Label of each process by the run's own classes; -1 for those of neither."""
    classes = card.classes or {}
    named = {name: label for label, names in classes.items() for name in names}
    numbers: dict[Label, int] = {"signal": 1, "background": 0}
    return np.array(
        [
            # A class that the card lists holds the processes listed and no others.
            -1
            if process.label in classes and process.name not in named
            else numbers[named.get(process.name, process.label)]
            for process in processes
        ],
        np.int64,
    )
