"""Judging a trained run: figures, scores and plots of its test events."""

import statistics
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
from manyscale.runs.plotting import plot_inputs, plot_overtraining, plot_scores
from manyscale.runs.training import tree_extractors
from manyscale.statistics.metrics import auc_difference, evaluate
from manyscale.statistics.sample import Sample

__all__ = ["evaluate_run"]

# Training events that the over-training plot and the input plots look at: a fixed sample.
_SAMPLE = 20_000
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
    own = open_data(card)
    dataset = own if data is None else _foreign(data, own, card)
    test = (own.test if data is None else dataset).events()
    weights = dataset.balanced_weights(test)
    progress.say(f"evaluating {len(test)} events")

    alignment = Alignment(dataset.schema, bundle.streams)
    signal = class_probabilities(bundle.network, alignment.streams(test))[:, 1]
    matrix, names = summaries(test, tree_extractors(dataset))
    beside = Trees.load(folder.trees).predict(matrix, names).astype(np.float32)
    metrics = evaluate(test.label, signal, weights)
    metrics["events_per_second"] = _training_rate(folder)
    metrics["parameters"] = sum(p.numel() for p in bundle.network.parameters())
    metrics["trees"] = evaluate(test.label, beside, weights)
    difference, error = auc_difference(test.label, signal, beside, weights)
    metrics["trees"]["network_minus_trees"] = {"auc": difference, "auc_error": error}
    luminosity = card.evaluation.luminosity if luminosity is None else luminosity
    metrics |= _physical(dataset, test, signal, luminosity, progress)

    folder.scores.parent.mkdir(exist_ok=True)
    write_scores(folder.scores, Scores.of(test, signal))
    write_scores(folder.tree_scores, Scores.of(test, beside))
    curves = {card.preset: signal, "trees": beside}
    plot_scores(folder, test.label, weights, curves)
    _plot_training(folder, own, bundle, Sample.of(test.label, signal, weights))
    write_json(folder.metrics, metrics)
    folder.log(f"evaluated: AUC {metrics['auc']:.5f} on {len(test)} events")
    return metrics


def _foreign(path: Path | str, own: Dataset, card: Card) -> Dataset:
    """Open another dataset for the test; events that the network was trained on are refused."""
    dataset = Dataset.open(path).restricted(streams=card.data.streams, classes=card.classes)
    dataset.require_classes()
    known = np.concatenate([own.train.events().event_id, own.validation.events().event_id])
    common = int(np.isin(dataset.events().event_id, known).sum())
    if common:
        raise DataError(
            f"{path}: {common} of its events were used to train the network; a test on them would "
            f"flatter it. Without --data, the run's own test events are taken"
        )
    return dataset


def _physical(
    dataset: Dataset,
    test: PackedEvents,
    signal: NDArray[np.float32],
    luminosity: float | None,
    progress: Progress,
) -> dict[str, Any]:
    """Yields and significance at a luminosity, where the data's cross sections are known."""
    if luminosity is None:
        return {}
    processes = dataset.schema.processes
    if all(process.cross_section is None for process in processes):
        return {}
    whole, part = (
        np.bincount(events.process, events.weight, len(processes))
        for events in (dataset.events(), test)
    )
    for process in np.flatnonzero((part == 0) & (whole != 0)):
        progress.say(f"no test event of {processes[process].name}: the yields count it as nothing")
    factors = np.divide(whole, part, out=np.ones(len(processes)), where=part != 0)
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
    train = train.take(epoch_order(len(train), _SAMPLE_SEED, 0)[:_SAMPLE])
    weights = own.balanced_weights(train)
    streams = Alignment(own.schema, bundle.streams).streams(train)
    signal = class_probabilities(bundle.network, streams)[:, 1]
    plot_overtraining(folder, Sample.of(train.label, signal, weights), test)
    plot_inputs(folder, bundle.network, streams, train.label, weights)


def _training_rate(folder: RunFolder) -> float:
    """Median over the epochs of history.csv."""
    return statistics.median(row["events_per_second"] for row in read_history(folder.history))
