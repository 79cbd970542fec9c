"""The plots of an evaluated run, drawn from its files: scores, metrics, data and network."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from manyscale.data.packing import PackedEvents
from manyscale.deployment.predict import Alignment, class_probabilities
from manyscale.deployment.scores import column_of, read_scores
from manyscale.errors import DataError, RunError
from manyscale.evaluation.cuts import scan_cuts
from manyscale.evaluation.results import Metrics, read_history
from manyscale.evaluation.sculpting import MassSample
from manyscale.events.ragged import PackedStream
from manyscale.features.columns import StreamBatch
from manyscale.features.images import ImageMaker, class_means
from manyscale.features.registry import can_compute
from manyscale.model.classifier import MultiScaleClassifier
from manyscale.progress import LOG
from manyscale.reporting import input_plots, physics_plots, process_plots, score_plots
from manyscale.reporting.input_plots import InputColumn
from manyscale.reporting.look import look
from manyscale.reporting.process_plots import ProcessSample
from manyscale.reporting.report import write_report
from manyscale.runs.evaluate import Prediction, Trial, scale
from manyscale.runs.folder import RunFolder
from manyscale.schema import COLUMNS
from manyscale.settings import write_json
from manyscale.statistics.sample import Sample

__all__ = ["draw_plots", "report_run"]

# Events of each class that the over-training plot, the inputs and the images are made of.
_SAMPLE = 10_000
_CONSTANT = 1e-4
_MASSES = ("m_j1", "m_j2", "m_hh")
# The file that is written last: where it is, the plots are all there.
_LAST = "separation.json"


def report_run(root: Path | str) -> Path:
    """Write the report of a run; draw the plots of its evaluation first, where there are none."""
    folder = RunFolder.open(root)
    metrics = folder.read_metrics()
    if not (folder.plots / _LAST).is_file():
        try:
            data = metrics.stamp.data if metrics.stamp else ""
            stated = metrics.yields.cross_sections if metrics.yields else {}
            draw_plots(Trial.open(root, data or None, cross_sections=stated))
        except DataError as error:
            LOG.warning("no plots: %s", error)
    return write_report(folder.root)


def draw_plots(trial: Trial) -> None:
    """Draw the last evaluation of a run, whose test events the trial has.

    Raises
    ------
    RunError
        Where the run is not evaluated, or on other events than those of the trial.
    """
    folder, settings = trial.folder, trial.card.evaluation
    metrics = folder.read_metrics()
    prediction = _prediction(trial, metrics)
    events, network = prediction.events, np.asarray(prediction.network, np.float64)
    weights = trial.test.balance.weights(events)
    curves = {
        trial.card.preset if name == "network" else name: np.asarray(scores, np.float64)
        for name, scores in prediction.scores.items()
    }
    processes = trial.test.schema.processes
    balanced = ProcessSample(processes, events.process, weights, None)
    LOG.info("drawing plots")
    with look(settings.plots):
        score_plots.roc(events.label, curves, weights).save(folder.plots, "roc")
        reliability = score_plots.reliability(events.label, curves, weights)
        reliability.save(folder.plots, "reliability")
        score_plots.history(read_history(folder.history)).save(folder.plots, "history")
        importances = trial.beside.trees.importances
        score_plots.tree_importances(importances).save(folder.plots, "tree_importances")
        process_plots.confusion(balanced, network).save(folder.plots, "confusion")
        # Of a single background it is the ROC curve once more.
        if balanced.background.sum() > 1:
            by_process = process_plots.rejection_by_process(balanced, network)
            by_process.save(folder.plots, "roc_by_process")
        sample = balanced
        if metrics.yields is not None:
            luminosity = metrics.yields.luminosity
            scaled = scale(trial, events, luminosity)
            scans = {name: scan_cuts(scaled, scores) for name, scores in prediction.scores.items()}
            physics_plots.significance(scans, luminosity).save(folder.plots, "significance")
            sample = ProcessSample(processes, events.process, scaled.weight, luminosity)
        process_plots.stacked_score(sample, network, trial.card.preset).save(
            folder.plots, "score_by_process"
        )
        _draw_masses(trial, prediction, metrics, sample)
        _draw_sculpting(trial, prediction, metrics, weights)
        _draw_sample(trial, prediction, curves)
        _draw_training(trial, Sample.of(events.label, network, weights))


def _prediction(trial: Trial, metrics: Metrics) -> Prediction:
    """The scores of the last evaluation beside its events, without their streams."""
    columns = read_scores(trial.folder.scores).columns
    events = trial.test.bookkeeping()
    if not np.array_equal(events.event_id, columns["event_id"].astype(np.uint64)):
        root = trial.folder.root
        raise RunError(
            f"the data have changed since {root} was evaluated: `manyscale evaluate {root}` does it "
            f"again"
        )
    observables = {name: columns[name] for name in trial.test.schema.observables}
    return Prediction(
        replace(events, observables=observables),
        {name: columns[column_of(name)].astype(float) for name in metrics.classifiers},
    )


def _draw_masses(
    trial: Trial, prediction: Prediction, metrics: Metrics, sample: ProcessSample
) -> None:
    """Draw the masses by process, before and after the network's best cut, or one at 70% signal."""
    events, scores = prediction.events, prediction.network
    best = metrics.significance.best if metrics.significance else None
    cut = best.cut if best else float(np.quantile(scores[events.label == 1], 0.3))
    for name in dict.fromkeys((*_MASSES, trial.card.evaluation.mass)):
        values = np.asarray(events.observables.get(name, ()), np.float64)
        # Of a constant there is no distribution.
        if len(np.unique(values[np.isfinite(values)])) > 1:
            words = f"score of at least {cut:.3f}"
            drawn = process_plots.masses(sample, name, values, scores >= cut, words)
            drawn.save(trial.folder.plots, f"mass_{name}")


def _draw_sculpting(
    trial: Trial, prediction: Prediction, metrics: Metrics, weights: NDArray[np.float64]
) -> None:
    found, events = metrics.sculpting, prediction.events
    if found is None:
        return
    values = np.asarray(events.observables[found.observable], np.float64)
    chosen = (events.label == 0) & np.isfinite(values)
    sample = MassSample.of(found.observable, values[chosen], weights[chosen])
    passing = {
        name: [scores[chosen] >= one.cut for one in getattr(found, name)]
        for name, scores in prediction.scores.items()
    }
    physics_plots.sculpting(sample, passing).save(trial.folder.plots, "sculpting")


def _draw_sample(
    trial: Trial, prediction: Prediction, curves: Mapping[str, NDArray[np.float64]]
) -> None:
    """Draw what needs the streams of test events, of a fixed sample: images, and efficiencies."""
    folder, test = trial.folder, trial.test
    # So many of each class: a rare one would be missing from a sample of all.
    events = test.restricted(max_events=_SAMPLE).events()
    label, weights = events.label, test.balance.weights(events)
    packed = Alignment(test.schema, trial.bundle.streams)(events.streams)
    _draw_images(trial, packed, label, weights)

    signal = label == 1
    observables = {}
    for stream in trial.bundle.streams:
        if "jet_pt" in stream.axis and "jet_pt" not in observables:
            place = stream.axis.index("jet_pt")
            observables["jet_pt"] = packed[stream.name].axis[signal, place].astype(np.float64)
    for name in (*_MASSES, trial.card.evaluation.mass):
        if name in events.observables:
            observables[name] = np.asarray(events.observables[name][signal], np.float64)
    observables = {
        name: values
        for name, values in observables.items()
        if len(np.unique(values[np.isfinite(values)])) > 1
    }
    if observables:
        order = np.argsort(prediction.events.event_id)
        ids = events.event_id[signal]
        at = order[np.searchsorted(prediction.events.event_id, ids, sorter=order)]
        scores = {name: score[at] for name, score in curves.items()}
        drawn = process_plots.signal_efficiency(observables, scores, weights[signal])
        drawn.save(folder.plots, "signal_efficiency")


def _draw_images(
    trial: Trial,
    packed: Mapping[str, PackedStream],
    label: NDArray[np.int64],
    weights: NDArray[np.float64],
) -> None:
    """Draw the mean image of each class, for every stream of constituents of a jet."""
    folder, settings = trial.folder, trial.card.evaluation.images
    counting = settings.model_copy(update={"weight": "count"})
    for stream in trial.bundle.streams:
        name = stream.name
        if not all(can_compute(column, stream) for column in ("delta_eta", "delta_phi")):
            continue
        if not can_compute("pt", stream):
            folder.log(f"no image of {name}: it has no pt")
            continue
        means = class_means(ImageMaker(stream, settings), packed[name], label, weights)
        # Weights of both signs may leave less than nothing in every pixel.
        if not (means > 0).any(axis=(1, 2, 3)).all():
            folder.log(f"no image of {name}: one class has no tokens there")
            continue
        ones = np.ones(len(label))
        tokens = class_means(ImageMaker(stream, counting), packed[name], label, ones)
        images = input_plots.class_images(
            means[:, 0],
            np.tensordot(np.bincount(label, minlength=2), tokens[:, 0], 1),
            half_width=settings.half_width,
            unit="pT in a pixel [GeV]" if settings.weight == "pt" else "tokens in a pixel",
            frame=settings.frame.words(),
            turned=settings.frame.rotate != "none",
        )
        images.save(folder.plots, f"image_{name}")


def _draw_training(trial: Trial, test: Sample) -> None:
    """Draw a fixed sample of the training events: their scores beside the test's, and the inputs.

    The ranking of the inputs goes into separation.json.
    """
    folder, network = trial.folder, trial.bundle.network
    train = trial.own.train.restricted(max_events=_SAMPLE)
    events: PackedEvents = train.events()
    label, weights = events.label, train.balance.weights(events)
    streams = Alignment(trial.own.schema, trial.bundle.streams)(events.streams)
    signal = class_probabilities(network, streams)[:, 1]
    scores = score_plots.score_distributions(Sample.of(label, signal, weights), test)
    scores.save(folder.plots, "scores")

    ranking = []
    for stream, packed in network.trim(streams).items():
        owner, token_weights = (np.repeat(of, packed.counts) for of in (label, weights))
        for kind, chosen, columns in _inputs(network, stream, packed):
            # Weights of both signs may sum to nothing over the tokens, though not over the events.
            of_kind, its_weights = owner[chosen], token_weights[chosen]
            if not all(its_weights[of_kind == of_class].sum() > 0 for of_class in (0, 1)):
                folder.log(f"no plot of the inputs of {kind}: one class has no weight of tokens")
                continue
            inputs, rows = input_plots.input_distributions(kind, columns, of_kind, its_weights)
            name = stream if kind == stream else f"{stream}_{kind.replace(' ', '_')}"
            inputs.save(folder.plots, f"inputs_{name}")
            ranking += [row.plain() for row in rows]
    write_json(folder.plots / _LAST, ranking)


def _inputs(
    network: MultiScaleClassifier, name: str, stream: PackedStream
) -> Iterator[tuple[str, NDArray[np.bool_], list[InputColumn]]]:
    """What the network takes of each token of a stream, before it is standardised.

    Kinds of objects are kept apart, jets from missing momentum: the name of the kind, or of the
    stream, which of its tokens these are, and their inputs.
    """
    extractor = network.extractor(name)
    numbers, classes = extractor.raw(StreamBatch.of(stream))
    units = [COLUMNS[column].unit if column in COLUMNS else "" for column in extractor.numbers]
    every = [
        InputColumn(column, values.numpy(), unit)
        for column, values, unit in zip(extractor.numbers, numbers.T, units, strict=True)
    ]
    kinds: tuple[str, ...] = ()
    for column, values in zip(extractor.classes, classes.T, strict=True):
        if column == "object_class":
            kinds, of_token = COLUMNS[column].classes, values.numpy()
        else:
            every.append(InputColumn(column, values.numpy(), "", COLUMNS[column].classes))
    if not kinds:
        yield name, np.ones(len(stream.values), bool), every
        return
    for code, kind in enumerate(kinds):
        chosen = of_token == code
        columns = [one._replace(values=one.values[chosen]) for one in every]
        # A missing momentum has no mass, but for rounding.
        columns = [one for one in columns if chosen.any() and np.ptp(one.values) > _CONSTANT]
        if columns:
            yield kind, chosen, columns
