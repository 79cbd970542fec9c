"""The plots of a run, in its folder."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from manyscale.data.packing import PackedStream
from manyscale.data.schema import COLUMNS, StreamSchema
from manyscale.features.columns import StreamBatch
from manyscale.features.extractor import FeatureExtractor
from manyscale.features.images import ImageMaker, ImageSettings, class_means
from manyscale.features.registry import can_compute
from manyscale.model.classifier import MultiScaleClassifier
from manyscale.reporting import feature_plots, image_plots, plots
from manyscale.reporting.run_files import read_history
from manyscale.runs.folder import RunFolder, write_json
from manyscale.statistics.sample import Sample

__all__ = ["drop_plot", "plot_images", "plot_inputs", "plot_overtraining", "plot_scores"]


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
    first = next(iter(scores.values()))
    plots.roc(label, scores, weights).save(folder.plots, "roc")
    plots.confusion(label, first, weights).save(folder.plots, "confusion")
    plots.history(read_history(folder.history)).save(folder.plots, "history")


def drop_plot(folder: RunFolder, name: str) -> None:
    """Take away the files of a plot of an earlier evaluation, which this one may not draw again."""
    for path in folder.plots.glob(f"{name}.*"):
        path.unlink()


def plot_overtraining(folder: RunFolder, train: Sample, test: Sample) -> None:
    """Plot the scores of training events beside those of the test events."""
    plots.score_distributions(train, test).save(folder.plots, "scores")


def plot_images(
    folder: RunFolder,
    streams: Mapping[str, PackedStream],
    label: NDArray[np.int64],
    weights: NDArray[np.float64],
    *,
    schemas: Sequence[StreamSchema],
    settings: ImageSettings,
) -> None:
    """Plot the mean image of each class, for every stream of constituents of a jet.

    Parameters
    ----------
    streams, schemas
        The streams of the test events, by name, and their columns.
    label, weights
        (events,): 1 signal, 0 background, class-balanced weights.
    settings
        Pixels, weight and frame.
    """
    drop_plot(folder, "image_*")
    counting = settings.model_copy(update={"weight": "count"})
    for schema in schemas:
        name = schema.name
        if not all(can_compute(column, schema) for column in ("delta_eta", "delta_phi")):
            continue
        if not can_compute("pt", schema):
            folder.log(f"no image of {name}: it has no pt")
            continue
        means = class_means(ImageMaker(schema, settings), streams[name], label, weights)
        # Weights of both signs may leave less than nothing in every pixel.
        if not (means > 0).any(axis=(1, 2, 3)).all():
            folder.log(f"no image of {name}: one class has no tokens there")
            continue
        ones = np.ones(len(label))
        tokens = class_means(ImageMaker(schema, counting), streams[name], label, ones)
        images = image_plots.class_images(
            means[:, 0],
            np.tensordot(np.bincount(label, minlength=2), tokens[:, 0], 1),
            half_width=settings.half_width,
            unit="pT in a pixel [GeV]" if settings.weight == "pt" else "tokens in a pixel",
            frame=settings.frame.words(),
            turned=settings.frame.rotate != "none",
        )
        images.save(folder.plots, f"image_{name}")


def plot_inputs(
    folder: RunFolder,
    network: MultiScaleClassifier,
    streams: Mapping[str, PackedStream],
    label: NDArray[np.int64],
    weights: NDArray[np.float64],
) -> None:
    """Plot every input of the network by class, and write their ranking to separation.json."""
    drop_plot(folder, "inputs_*")
    ranking = []
    for name, stream in network.trim(streams).items():
        owner, token_weights = (np.repeat(of, stream.counts) for of in (label, weights))
        # Weights of both signs may sum to nothing over the tokens, though not over the events.
        if not all(token_weights[owner == of_class].sum() > 0 for of_class in (0, 1)):
            folder.log(f"no plot of the inputs of {name}: one class has no weight of tokens there")
            continue
        inputs, rows = feature_plots.input_distributions(
            name,
            _inputs(network.extractor(name), stream),
            owner,
            token_weights,
        )
        inputs.save(folder.plots, f"inputs_{name}")
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
