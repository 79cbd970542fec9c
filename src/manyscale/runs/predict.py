"""Scoring new events with a trained run."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from manyscale.card import Card
from manyscale.data.dataset import Dataset
from manyscale.data.event_filter import split_names
from manyscale.data.npz import npz_batches
from manyscale.data.npz_arrays import open_npz
from manyscale.deployment.beside import Beside, load_model, scores_of, with_trees
from manyscale.deployment.bundle import Bundle
from manyscale.deployment.predict import Alignment, predict, score
from manyscale.deployment.scores import Scores, check_target, write_scores
from manyscale.errors import DataError, MissingExtraError
from manyscale.events.files.formats import Format, of_one_format
from manyscale.progress import progress_bar
from manyscale.runs.folder import RunFolder
from manyscale.schema import StreamSchema
from manyscale.writing import disk_errors

__all__ = ["predict_run"]


def predict_run(
    root: Path | str,
    source: Path | str | Sequence[str],
    target: Path | str,
    *,
    friend: bool = False,
    device: str = "auto",
    workers: int | None = None,
    cluster: str | None = None,
) -> int:
    """Score every event of a dataset or of files and write the scores.

    Parameters
    ----------
    root
        The folder of a trained run.
    source
        A dataset folder; an npz file as for training, one array, or one a stream; or any file that
        `convert` reads, or several of one format, globs and lists of files: then read as the run's
        own card says, and events that fail its cuts are not `selected` and have no score.
    target
        Ends in .npz, .parquet or .root; replaced whole, at the end.
    friend
        Write a friend of the trees of ROOT files, which has their entries in their order: without
        the columns that these have themselves.
    device
        auto, cpu or cuda.
    workers
        Processes that read and score files; without it, one for each core that this process may use.
    cluster
        Address of a dask scheduler whose workers do it.

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
    sources = [str(source)] if isinstance(source, Path | str) else list(source)
    target = Path(target)
    # Before the network and the events are read, which takes time.
    check_target(target)
    for one in sources:
        # Also a file of scores inside a dataset's folder.
        if "://" not in one and target.resolve().is_relative_to(Path(one).resolve()):
            raise DataError(f"the scores would overwrite their input {one}: name another file")
    folder = RunFolder.open(root)
    card = folder.read_card()
    bundle, beside = load_model(folder.model, device)
    kind: Format | None = None  # a dataset
    paths = sources
    if len(sources) > 1 or "://" in sources[0] or not Path(sources[0]).is_dir():
        kind, paths = of_one_format(sources)
    if friend and (kind != "ROOT" or target.suffix != ".root"):
        raise DataError(
            f"a friend is a tree of a ROOT file beside those of others: {sources[0]} and {target} are "
            f"not both ROOT files"
        )
    if kind is None:
        total, scores = _of_dataset(Path(paths[0]), bundle, beside, card)
    elif kind == "npz" and _is_padded(paths, bundle, card):
        total, scores = _of_npz(Path(paths[0]), bundle, beside, card)
    else:
        try:
            from manyscale.runs.predict_files import score_files  # noqa: PLC0415 - an extra
        except ModuleNotFoundError as error:
            raise MissingExtraError(str(error.name), "convert") from error
        total, scores = score_files(
            paths, kind, card, folder.model, device=device, workers=workers, cluster=cluster
        )
    if not total:
        raise DataError(f"{', '.join(sources)}: no events")
    with progress_bar("scoring", total, "events") as bar:

        def counted() -> Iterator[Scores]:
            for batch in scores:
                yield batch.as_friend() if friend else batch
                bar.advance(len(batch))

        with disk_errors(target):
            write_scores(target, counted())
    return total


def _is_padded(paths: Sequence[str], bundle: Bundle, card: Card) -> bool:
    """Whether an npz holds padded streams, not the arrays that the card maps."""
    padded = {"arr_0", *(stream.name for stream in bundle.streams)}
    if card.convert.branches and padded.isdisjoint(open_npz(Path(paths[0]))):
        return False
    if len(paths) > 1:
        raise DataError("several npz of padded events are scored by a call each")
    return True


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

    used, wanted = with_trees(bundle, beside, aligned)

    def scores() -> Iterator[Scores]:
        for events, probability in predict(bundle.network, dataset, wanted=wanted):
            known = replace(events, label=labels[events.process]) if len(labels) else events
            found = scores_of(used, events.streams, probability[:, 1])
            split = split_names(events.event_id, card.seed, card.data.split)
            yield Scores.of(known, found, split, names, labelled=labelled)

    return len(dataset), scores()


def _of_npz(
    source: Path, bundle: Bundle, beside: Beside | None, card: Card
) -> tuple[int, Iterator[Scores]]:
    """The same of padded arrays, whose events have no label."""
    used, (total, batches) = with_trees(bundle, beside, partial(npz_batches, source))

    def scores() -> Iterator[Scores]:
        for events in batches:
            probability, known = score(bundle.network, events.streams)
            events = replace(events, observables={**events.observables, **known})  # noqa: PLW2901
            found = scores_of(used, events.streams, probability[:, 1])
            split = split_names(events.event_id, card.seed, card.data.split)
            yield Scores.of(events, found, split, labelled=False)

    return total, scores()
