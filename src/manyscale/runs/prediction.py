"""Scoring new events with a trained run."""

from pathlib import Path

from manyscale.data.dataset import Dataset
from manyscale.data.npz import read_npz_events
from manyscale.data.schema import Schema
from manyscale.deployment.alignment import Alignment
from manyscale.deployment.bundle import load_bundle
from manyscale.deployment.inference import class_probabilities
from manyscale.deployment.scores import Scores, check_target, write_scores
from manyscale.errors import DataError
from manyscale.progress import Progress, Silent
from manyscale.runs.folder import RunFolder

__all__ = ["predict_run"]

_CHUNK = 20_000


def predict_run(
    root: Path | str, source: Path | str, target: Path | str, *, progress: Progress | None = None
) -> int:
    """Score every event of a dataset or an npz file and write the scores.

    Parameters
    ----------
    root
        The folder of a trained run.
    source
        A dataset folder, or an npz file as for training: one array, or one a stream.
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
    source, target = Path(source), Path(target)
    check_target(target)
    bundle = load_bundle(RunFolder.open(root).model)
    if source.is_dir():
        dataset = Dataset.open(source)
        alignment = Alignment(dataset.schema, bundle.streams)
        chunks, total = dataset.chunks(_CHUNK), len(dataset)
    else:
        events = read_npz_events(source, bundle.streams)
        alignment = Alignment(Schema(streams=bundle.streams), bundle.streams)
        chunks, total = iter([events]), len(events)
    if not total:
        raise DataError(f"{source} has no events")
    progress.start("scoring", total, "events")
    parts = []
    for events in chunks:
        signal = class_probabilities(bundle.network, alignment.streams(events))[:, 1]
        parts.append(Scores.of(events, signal))
        progress.advance(len(events))
    progress.stop()
    write_scores(target, Scores.concatenate(parts))
    return total
