"""Judging a trained run: figures, scores and plots of its test events."""

import statistics
from pathlib import Path
from typing import Any

import numpy as np

from manyscale.card import Card
from manyscale.data.dataset import Dataset
from manyscale.deployment.alignment import Alignment
from manyscale.deployment.bundle import Bundle
from manyscale.deployment.inference import class_probabilities
from manyscale.deployment.scores import Scores, write_scores
from manyscale.errors import DataError
from manyscale.evaluation.yields import expected_yields, significance_scan
from manyscale.progress import Progress, Silent
from manyscale.reporting.run_files import read_history
from manyscale.runs.folder import RunFolder, write_json
from manyscale.runs.judging import Judged, Trial, judge, scale
from manyscale.runs.plotting import plot_images, plot_inputs, plot_overtraining, plot_scores
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
    trial = Trial.open(root, data)
    folder, card, bundle, test = trial.folder, trial.card, trial.bundle, trial.test
    luminosity = trial.luminosity(luminosity)
    progress.say(f"evaluating {len(test)} events")

    judged = judge(trial)
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
    metrics |= _physical(trial, judged, luminosity, progress)

    folder.scores.parent.mkdir(exist_ok=True)
    write_scores(folder.scores, Scores.of(events, signal, labelled=True))
    write_scores(folder.tree_scores, Scores.of(events, judged.trees, labelled=True))
    curves = {card.preset: signal, "trees": judged.trees}
    plot_scores(folder, events.label, weights, curves)
    _plot_images(folder, test, bundle, card)
    _plot_training(folder, trial.own, bundle, Sample.of(events.label, signal, weights))
    write_json(folder.metrics, metrics)
    folder.log(f"evaluated: AUC {metrics['auc']:.5f} on {len(test)} events")
    return metrics


def _physical(
    trial: Trial, judged: Judged, luminosity: float | None, progress: Progress
) -> dict[str, Any]:
    """Yields and significance at a luminosity."""
    if luminosity is None:
        return {}
    if all(process.cross_section is None for process in trial.whole.schema.processes):
        return {}
    try:
        scaled = scale(trial, judged.events, luminosity, progress)
    except DataError as error:
        progress.say(f"no physical yields: {error}")
        return {}
    return {
        "yields": expected_yields(scaled),
        "significance": significance_scan(scaled, judged.signal),
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
