"""Scoring new events with a trained run."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from manyscale.card import Card
from manyscale.data.dataset import Dataset
from manyscale.data.event_filter import split_names
from manyscale.data.npz import npz_batches, open_npz
from manyscale.deployment.beside import Beside, with_trees
from manyscale.deployment.bundle import Bundle, load_bundle
from manyscale.deployment.predict import Alignment, choose_device, predict, score
from manyscale.deployment.scores import Scores, check_target, write_scores
from manyscale.errors import DataError, MissingExtraError
from manyscale.events.files.formats import of_one_format
from manyscale.progress import progress_bar
from manyscale.runs.folder import RunFolder
from manyscale.schema import StreamSchema
from manyscale.writing import disk_errors

__all__ = ["predict_run"]


def predict_run(
    root: Path | str, source: Path | str, target: Path | str, *, device: str = "auto"
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
    device
        auto, cpu or cuda.

    Returns
    -------
    The number of events scored, one row each, in the order of the source.

    Raises
    ------
    RunError, DataError
        Where run or source cannot be read, or the source lacks a stream or a column.
    CardError
        Where the device is not there.
    """
    source, target = str(source), Path(target)
    # Before the network and the events are read, which takes time.
    check_target(target)
    remote = "://" in source
    # Also a file of scores inside a dataset's folder.
    if not remote and target.resolve().is_relative_to(Path(source).resolve()):
        raise DataError(f"the scores would overwrite their input {source}: name another file")
    folder = RunFolder.open(root)
    bundle = load_bundle(folder.model, choose_device(device))
    beside = Beside.load(folder.model)
    card = folder.read_card()
    if not remote and Path(source).is_dir():
        total, scores = _of_dataset(Path(source), bundle, beside, card)
    else:
        kind, paths = of_one_format([source])
        padded = {"arr_0", *(stream.name for stream in bundle.streams)}
        if kind == "npz" and not (
            card.convert.branches and padded.isdisjoint(open_npz(Path(paths[0])))
        ):
            total, scores = _of_npz(Path(source), bundle, beside, card)
        else:
            try:
                from manyscale.runs.predict_files import score_files  # noqa: PLC0415 - an extra
            except ModuleNotFoundError as error:
                raise MissingExtraError(str(error.name), "convert") from error
            total, scores = score_files(paths, kind, card, bundle, beside)
    if not total:
        raise DataError(f"{source} has no events")
    with progress_bar("scoring", total, "events") as bar:

        def counted() -> Iterator[Scores]:
            for batch in scores:
                yield batch
                bar.advance(len(batch))

        with disk_errors(target):
            write_scores(target, counted())
    return total


def _of_dataset(
    source: Path, bundle: Bundle, beside: Beside | None, card: Card
) -> tuple[int, Iterator[Scores]]:
    """Number of events of a dataset, and their scores chunk by chunk."""
    dataset = Dataset.open(source)
    processes = dataset.schema.processes
    names = [process.name for process in processes]
    labels = np.array([card.label_of(of.name, of.label) for of in processes], np.int64)
    labelled = bool(len(labels) and labels.min() >= 0)

    def aligned(streams: Sequence[StreamSchema]) -> Sequence[StreamSchema]:
        Alignment(dataset.schema, streams)  # refuses what the data lack
        return streams

    scorer, wanted = with_trees(bundle, beside, aligned)

    def scores() -> Iterator[Scores]:
        for events, probability in predict(bundle.network, dataset, wanted=wanted):
            known = replace(events, label=labels[events.process]) if len(labels) else events
            found = scorer(events.streams, probability[:, 1])
            split = split_names(events.event_id, card.seed, card.data.split)
            yield Scores.of(known, found, split, names, labelled=labelled)

    return len(dataset), scores()


def _of_npz(
    source: Path, bundle: Bundle, beside: Beside | None, card: Card
) -> tuple[int, Iterator[Scores]]:
    """The same of padded arrays, whose events have no label."""
    scorer, (total, batches) = with_trees(bundle, beside, partial(npz_batches, source))

    def scores() -> Iterator[Scores]:
        for events in batches:
            probability, known = score(bundle.network, events.streams)
            events = replace(events, observables={**events.observables, **known})  # noqa: PLW2901
            found = scorer(events.streams, probability[:, 1])
            split = split_names(events.event_id, card.seed, card.data.split)
            yield Scores.of(events, found, split, labelled=False)

    return total, scores()
