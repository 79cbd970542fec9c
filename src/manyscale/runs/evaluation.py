"""Judging a trained run: figures, scores and plots of its test events."""

import statistics
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manyscale.card import Card, load_card
from manyscale.data.dataset import Dataset
from manyscale.data.packing import PackedEvents
from manyscale.deployment.alignment import Alignment
from manyscale.deployment.bundle import Bundle, load_bundle
from manyscale.deployment.inference import class_probabilities
from manyscale.deployment.scores import Scores, write_scores
from manyscale.errors import DataError
from manyscale.evaluation.summaries import summaries
from manyscale.evaluation.trees import Trees
from manyscale.evaluation.yields import expected_yields, scale_events, significance_scan
from manyscale.progress import Progress, Silent
from manyscale.reporting.run_files import read_history
from manyscale.runs.building import CHUNK, open_data
from manyscale.runs.folder import RunFolder, write_json
from manyscale.runs.plotting import plot_images, plot_inputs, plot_overtraining, plot_scores
from manyscale.runs.training import tree_extractors
from manyscale.statistics.metrics import auc_difference, evaluate
from manyscale.statistics.sample import Sample

__all__ = ["evaluate_run"]

# Events of each class that the over-training plot, the inputs and the images are made of.
_SAMPLE = 10_000


def evaluate_run(
    root: Path | str,
    *,
    data: Path | str | None = None,
    luminosity: float | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Judge a run on its test events, and write metrics.json, scores and plots.

    Parameters
    ----------
    root
        The folder of a trained run.
    data
        A dataset whose events all count as test events, instead of the run's own test split.
    luminosity
        In fb^-1, in place of the card's.

    Returns
    -------
    The content of metrics.json.

    Raises
    ------
    RunError
        Where the run is not trained to its end.
    DataError
        Where the run's data are gone or lack a class, or `data` holds events of the training.
    """
    progress = progress or Silent()
    folder = RunFolder.open(root)
    card = load_card(folder.card)
    bundle = load_bundle(folder.model)
    luminosity = card.evaluation.luminosity if luminosity is None else luminosity
    if luminosity is not None and not 0 < luminosity < np.inf:
        raise DataError(f"the luminosity is {luminosity:g} fb^-1; it must be above 0")
    own = open_data(card, most=card.data.max_events)
    test = own.test if data is None else _foreign(data, own, card)
    progress.say(f"evaluating {len(test)} events")

    judged = _judge(test, own, bundle, Trees.load(folder.trees))
    events, signal = judged.events, judged.signal
    weights = test.balance.weights(events)
    metrics = evaluate(events.label, signal, weights)
    metrics["events_per_second"] = _training_rate(folder)
    metrics["parameters"] = sum(p.numel() for p in bundle.network.parameters())
    metrics["trees"] = evaluate(events.label, judged.trees, weights)
    difference, error = auc_difference(events.label, signal, judged.trees, weights)
    metrics["trees"]["network_minus_trees"] = {
        "auc": difference,
        "auc_error": None if np.isnan(error) else error,
    }
    whole = test if data is not None else open_data(card)
    metrics |= _physical(whole, events, signal, luminosity, progress)

    folder.scores.parent.mkdir(exist_ok=True)
    write_scores(folder.scores, Scores.of(events, signal, labelled=True))
    write_scores(folder.tree_scores, Scores.of(events, judged.trees, labelled=True))
    curves = {card.preset: signal, "trees": judged.trees}
    plot_scores(folder, events.label, weights, curves)
    _plot_images(folder, test, bundle, card)
    _plot_training(folder, own, bundle, Sample.of(events.label, signal, weights))
    write_json(folder.metrics, metrics)
    folder.log(f"evaluated: AUC {metrics['auc']:.5f} on {len(test)} events")
    return metrics


@dataclass(frozen=True)
class _Judged:
    """Test events without what they are made of, and their scores by network and trees, (events,)."""

    events: PackedEvents
    signal: NDArray[np.float32]
    trees: NDArray[np.float32]


def _judge(test: Dataset, own: Dataset, bundle: Bundle, trees: Trees) -> _Judged:
    """Score the test events chunk by chunk."""
    # By name: another dataset may have its columns in another order.
    as_own = Alignment(test.schema, own.schema.streams)
    taken = Alignment(own.schema, bundle.streams)
    extractors = tree_extractors(own)
    events, signal, beside = [], [], []
    for chunk in test.chunks(CHUNK):
        streams = as_own.streams(chunk)
        events.append(chunk.only([]))
        signal.append(class_probabilities(bundle.network, taken.select(streams))[:, 1])
        matrix, names = summaries(replace(chunk, streams=streams), extractors)
        beside.append(trees.predict(matrix, names).astype(np.float32))
    return _Judged(PackedEvents.concatenate(events), np.concatenate(signal), np.concatenate(beside))


def _foreign(path: Path | str, own: Dataset, card: Card) -> Dataset:
    """Open another dataset for the test; events that the network was trained on are refused."""
    dataset = Dataset.open(path).restricted(streams=card.data.streams, classes=card.classes)
    dataset.require_classes()
    tested = dataset.event_ids
    common = sum(
        int(np.isin(events.event_id, tested).sum())
        for part in (own.train, own.validation)
        for events in part.bookkeeping_chunks()
    )
    if common:
        raise DataError(
            f"{path}: {common} of its events were used to train the network; a test on them would "
            f"flatter it. Without --data, the run's own test events are taken"
        )
    return dataset


def _physical(
    whole: Dataset,
    test: PackedEvents,
    signal: NDArray[np.float32],
    luminosity: float | None,
    progress: Progress,
) -> dict[str, Any]:
    """Yields and significance at a luminosity; the test events stand for `whole`."""
    if luminosity is None:
        return {}
    processes = whole.schema.processes
    if all(process.cross_section is None for process in processes):
        return {}
    every = whole.process_weights
    part = np.bincount(test.process, test.weight, len(processes))
    for process in np.flatnonzero((part == 0) & (every != 0)):
        progress.say(f"no test event of {processes[process].name}: the yields count it as nothing")
    factors = np.divide(every, part, out=np.ones(len(processes)), where=part != 0)
    try:
        scaled = scale_events(processes, test.process, test.weight, luminosity, factors)
    except DataError as error:
        progress.say(f"no physical yields: {error}")
        return {}
    return {
        "yields": expected_yields(scaled),
        "significance": significance_scan(scaled, signal),
    }


def _plot_images(folder: RunFolder, test: Dataset, bundle: Bundle, card: Card) -> None:
    """Plot the mean jet images of a fixed sample of the test events."""
    sample = test.restricted(max_events=_SAMPLE)
    events = sample.events()
    plot_images(
        folder,
        Alignment(test.schema, bundle.streams).streams(events),
        events.label,
        test.balance.weights(events),
        schemas=bundle.streams,
        settings=card.evaluation.images,
    )


def _plot_training(folder: RunFolder, own: Dataset, bundle: Bundle, test: Sample) -> None:
    """Plot a fixed sample of the training events: their scores beside the test's, and the inputs."""
    # So many of each class: a rare one would be missing from a sample of all.
    train = own.train.restricted(max_events=_SAMPLE)
    events = train.events()
    weights = train.balance.weights(events)
    streams = Alignment(own.schema, bundle.streams).streams(events)
    signal = class_probabilities(bundle.network, streams)[:, 1]
    plot_overtraining(folder, Sample.of(events.label, signal, weights), test)
    plot_inputs(folder, bundle.network, streams, events.label, weights)


def _training_rate(folder: RunFolder) -> float:
    """Median over the epochs of history.csv."""
    return statistics.median(row["events_per_second"] for row in read_history(folder.history))
