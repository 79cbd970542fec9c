"""Judging a trained run: figures, scores and plots of its test events."""

import statistics
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manyscale.card import Card
from manyscale.data.dataset import Dataset
from manyscale.deployment.predict import Alignment
from manyscale.deployment.bundle import Bundle
from manyscale.deployment.predict import class_probabilities
from manyscale.deployment.scores import Scores, write_scores
from manyscale.errors import DataError
from manyscale.evaluation.cuts import scan_cuts, significance_figures
from manyscale.evaluation.sculpting import MassSample, sculpt, sculpting_figures
from manyscale.evaluation.yields import expected_yields
from manyscale.progress import Progress, Silent
from manyscale.reporting import physics_plots
from manyscale.reporting.run_files import read_history
from manyscale.runs.folder import RunFolder, write_json
from manyscale.runs.judging import Judged, Trial, judge, scale
from manyscale.runs.plotting import (
    drop_plot,
    plot_images,
    plot_inputs,
    plot_overtraining,
    plot_scores,
)
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
    metrics = {"weights": "class-balanced", **evaluate(events.label, signal, weights)}
    metrics["events_per_second"] = _training_rate(folder)
    metrics["parameters"] = sum(p.numel() for p in bundle.network.parameters())
    metrics["trees"] = {
        "weights": "class-balanced",
        **evaluate(events.label, judged.trees, weights),
    }
    difference, error = auc_difference(events.label, signal, judged.trees, weights)
    metrics["trees"]["network_minus_trees"] = {
        "auc": difference,
        "auc_error": None if np.isnan(error) else error,
    }
    _add_sculpting(metrics, trial, judged, weights)
    _add_physical(metrics, trial, judged, luminosity, progress)

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


def _add_physical(
    metrics: dict[str, Any],
    trial: Trial,
    judged: Judged,
    luminosity: float | None,
    progress: Progress,
) -> None:
    """Add yields and significance at a luminosity with their plot, or why there are none."""
    drop_plot(trial.folder, "significance")
    if luminosity is None:
        metrics["yields_missing"] = (
            "No expected events, no significance: the card says no luminosity; give --luminosity "
            "[fb^-1]."
        )
        return
    classifiers = {"network": judged.signal, "trees": judged.trees}
    try:
        scaled = scale(trial, judged.events, luminosity, progress)
        scans = {name: scan_cuts(scaled, scores) for name, scores in classifiers.items()}
    except DataError as error:
        metrics["yields_missing"] = f"No expected events, no significance: {error}."
        return
    metrics["yields"] = expected_yields(scaled) | {"notice": _untested(trial, judged)}
    metrics["significance"] = significance_figures(scans["network"])
    metrics["trees"]["significance"] = significance_figures(scans["trees"])
    physics_plots.significance(scans, luminosity).save(trial.folder.plots, "significance")


def _untested(trial: Trial, judged: Judged) -> str:
    """Name the processes that have events, but none for the test."""
    processes = trial.whole.schema.processes
    tested = np.bincount(judged.events.process, minlength=len(processes))
    names = ", ".join(
        process.name
        for process, weight, number in zip(
            processes, trial.whole.process_weights, tested, strict=True
        )
        if weight and not number
    )
    return f"No test event is of {names}: it counts as nothing." if names else ""


def _add_sculpting(
    metrics: dict[str, Any], trial: Trial, judged: Judged, weights: NDArray[np.float64]
) -> None:
    """Add how cuts on the scores bend the background's masses with its plot, or why it is not known."""
    drop_plot(trial.folder, "sculpting")
    observable = trial.card.evaluation.mass
    observables = judged.events.observables
    if observable not in observables:
        known = ", ".join(observables) or "none"
        metrics["sculpting_missing"] = (
            f"Whether cuts bend the background's masses is not known: the data have no observable "
            f"'{observable}' (they have {known}); evaluation.mass of the card names another."
        )
        return
    masses = np.asarray(observables[observable], np.float64)
    chosen = (judged.events.label == 0) & np.isfinite(masses)
    try:
        sample = MassSample.of(observable, masses[chosen], weights[chosen])
    except DataError as error:
        metrics["sculpting_missing"] = (
            f"Whether cuts bend the background's masses is not known: {error}."
        )
        return
    scores = {"network": judged.signal[chosen], "trees": judged.trees[chosen]}
    sculpted = sculpt(sample, scores, seed=trial.card.seed)
    metrics["sculpting"] = sculpting_figures(sample, sculpted)
    physics_plots.sculpting(sample, sculpted).save(trial.folder.plots, "sculpting")


def _plot_images(folder: RunFolder, test: Dataset, bundle: Bundle, card: Card) -> None:
    """Plot the mean jet images of a fixed sample of the test events."""
    sample = test.restricted(max_events=_SAMPLE)
    events = sample.events()
    plot_images(
        folder,
        Alignment(test.schema, bundle.streams)(events.streams),
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
    streams = Alignment(own.schema, bundle.streams)(events.streams)
    signal = class_probabilities(bundle.network, streams)[:, 1]
    plot_overtraining(folder, Sample.of(events.label, signal, weights), test)
    plot_inputs(folder, bundle.network, streams, events.label, weights)


def _training_rate(folder: RunFolder) -> float:
    """Median over the epochs of history.csv."""
    return statistics.median(row["events_per_second"] for row in read_history(folder.history))
