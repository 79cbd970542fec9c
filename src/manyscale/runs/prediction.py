"""Scoring new events with a trained run."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from manyscale.card import Card, load_card
from manyscale.data.dataset import Dataset
from manyscale.data.npz import read_npz_events
from manyscale.data.schema import Label, Process, Schema
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
    if target.resolve() == source.resolve() or target.resolve().is_relative_to(source.resolve()):
        raise DataError(f"the scores would overwrite their input {source}: name another file")
    folder = RunFolder.open(root)
    bundle = load_bundle(folder.model)
    labels = np.zeros(0, np.int64)
    if source.is_dir():
        dataset = Dataset.open(source)
        labels = _labels(load_card(folder.card), dataset.schema.processes)
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
        if len(labels):
            events = replace(events, label=labels[events.process])  # noqa: PLW2901
        parts.append(Scores.of(events, signal, labelled=bool(len(labels) and labels.min() >= 0)))
        progress.advance(len(events))
    progress.stop()
    write_scores(target, Scores.concatenate(parts))
    return total


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
