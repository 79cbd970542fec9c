"""Judging a trained run: figures, scores and plots of its test events."""

import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manyscale.card import Card, load_card
from manyscale.data.dataset import Dataset
from manyscale.data.packing import PackedEvents
from manyscale.data.sampling import epoch_order
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
from manyscale.runs.building import open_data
from manyscale.runs.folder import RunFolder, write_json
from manyscale.runs.plotting import plot_images, plot_inputs, plot_overtraining, plot_scores
from manyscale.runs.training import tree_extractors
from manyscale.statistics.metrics import auc_difference, evaluate
from manyscale.statistics.sample import Sample

__all__ = ["evaluate_run"]

# Training events of each class that the over-training plot and the input plots look at: a fixed sample.
_SAMPLE = 10_000
_SAMPLE_SEED = 0


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
    dataset = own if data is None else _foreign(data, own, card)
    test = (own.test if data is None else dataset).events()
    weights = dataset.balanced_weights(test)
    progress.say(f"evaluating {len(test)} events")

    # By name: another dataset may have its columns in another order.
    streams = Alignment(dataset.schema, own.schema.streams).streams(test)
    taken = Alignment(own.schema, bundle.streams).select(streams)
    signal = class_probabilities(bundle.network, taken)[:, 1]
    matrix, names = summaries(replace(test, streams=streams), tree_extractors(own))
    beside = Trees.load(folder.trees).predict(matrix, names).astype(np.float32)
    metrics = evaluate(test.label, signal, weights)
    metrics["events_per_second"] = _training_rate(folder)
    metrics["parameters"] = sum(p.numel() for p in bundle.network.parameters())
    metrics["trees"] = evaluate(test.label, beside, weights)
    difference, error = auc_difference(test.label, signal, beside, weights)
    metrics["trees"]["network_minus_trees"] = {
        "auc": difference,
        "auc_error": None if np.isnan(error) else error,
    }
    whole = dataset if data is not None else open_data(card)
    metrics |= _physical(whole, test, signal, luminosity, progress)

    folder.scores.parent.mkdir(exist_ok=True)
    write_scores(folder.scores, Scores.of(test, signal, labelled=True))
    write_scores(folder.tree_scores, Scores.of(test, beside, labelled=True))
    curves = {card.preset: signal, "trees": beside}
    plot_scores(folder, test.label, weights, curves)
    plot_images(
        folder,
        taken,
        test.label,
        weights,
        schemas=bundle.streams,
        settings=card.evaluation.images,
    )
    _plot_training(folder, own, bundle, Sample.of(test.label, signal, weights))
    write_json(folder.metrics, metrics)
    folder.log(f"evaluated: AUC {metrics['auc']:.5f} on {len(test)} events")
    return metrics


def _foreign(path: Path | str, own: Dataset, card: Card) -> Dataset:
    """Open another dataset for the test; events that the network was trained on are refused."""
    dataset = Dataset.open(path).restricted(streams=card.data.streams, classes=card.classes)
    dataset.require_classes()
    known = np.concatenate([own.train.event_ids, own.validation.event_ids])
    common = int(np.isin(dataset.event_ids, known).sum())
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


def _plot_training(folder: RunFolder, own: Dataset, bundle: Bundle, test: Sample) -> None:
    """Plot a fixed sample of the training events: their scores beside the test's, and the inputs."""
    train = own.train.events()
    order = epoch_order(len(train), _SAMPLE_SEED, 0)
    # So many of each class: a rare one would be missing from a sample of all.
    train = train.take(
        np.concatenate([order[train.label[order] == label][:_SAMPLE] for label in (0, 1)])
    )
    weights = own.balanced_weights(train)
    streams = Alignment(own.schema, bundle.streams).streams(train)
    signal = class_probabilities(bundle.network, streams)[:, 1]
    plot_overtraining(folder, Sample.of(train.label, signal, weights), test)
    plot_inputs(folder, bundle.network, streams, train.label, weights)


def _training_rate(folder: RunFolder) -> float:
    """Median over the epochs of history.csv."""
    return statistics.median(row["events_per_second"] for row in read_history(folder.history))
