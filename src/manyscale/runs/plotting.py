"""The plots of a run, as SVG in its folder."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from manyscale.data.packing import PackedStream
from manyscale.data.schema import COLUMNS
from manyscale.features.columns import StreamBatch
from manyscale.features.extractor import FeatureExtractor
from manyscale.model.classifier import MultiScaleClassifier
from manyscale.reporting import feature_plots, plots
from manyscale.reporting.run_files import read_history
from manyscale.reporting.style import save
from manyscale.runs.folder import RunFolder, write_json
from manyscale.statistics.sample import Sample

__all__ = ["plot_inputs", "plot_overtraining", "plot_scores"]


def plot_scores(
    folder: RunFolder,
    label: NDArray[np.int64],
    weights: NDArray[np.float64],
    scores: Mapping[str, NDArray[np.float32]],
) -> None:
    """Plot ROC and confusion of the test events, and the history of the training.

    Parameters
    ----------
    label, weights
        (events,): 1 signal, 0 background, class-balanced weights.
    scores
        Signal probabilities by classifier, the network first.
    """
    save(plots.roc(label, scores, weights), folder.plots, "roc")
    save(plots.confusion(label, next(iter(scores.values())), weights), folder.plots, "confusion")
    save(plots.history(read_history(folder.history)), folder.plots, "history")


def plot_overtraining(folder: RunFolder, train: Sample, test: Sample) -> None:
    """Plot the scores of training events beside those of the test events."""
    save(plots.score_distributions(train, test), folder.plots, "scores")


def plot_inputs(
    folder: RunFolder,
    network: MultiScaleClassifier,
    streams: Mapping[str, PackedStream],
    label: NDArray[np.int64],
    weights: NDArray[np.float64],
) -> None:
    """Plot every input of the network by class, and write their ranking to separation.json."""
    ranking = []
    for name, stream in network.trim(streams).items():
        owner = np.repeat(label, stream.counts)
        if not ((owner == 0).any() and (owner == 1).any()):
            folder.log(f"no plot of the inputs of {name}: one class has no tokens there")
            continue
        figure, rows = feature_plots.input_distributions(
            name,
            _inputs(network.extractor(name), stream),
            owner,
            np.repeat(weights, stream.counts),
        )
        save(figure, folder.plots, f"inputs_{name}")
        ranking += [row._asdict() for row in rows]
    write_json(folder.plots / "separation.json", ranking)


def _inputs(extractor: FeatureExtractor, stream: PackedStream) -> list[feature_plots.InputColumn]:
    numbers, classes = extractor.raw(StreamBatch.of(stream))
    columns = []
    for place, name in enumerate(extractor.numbers):
        unit = COLUMNS[name].unit if name in COLUMNS else ""
        columns.append(feature_plots.InputColumn(name, numbers[:, place].numpy(), unit))
    for place, name in enumerate(extractor.classes):
        values = classes[:, place].numpy()
        columns.append(feature_plots.InputColumn(name, values, "", COLUMNS[name].classes))
    return columns
