"""Evaluating a trained run on its test events: predictions, figures of merit, scores and plots."""

import datetime as dt
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manyscale.card import Card
from manyscale.checksums import sha256
from manyscale.data.dataset import Dataset
from manyscale.data.identity import identity_of
from manyscale.data.packing import PackedEvents
from manyscale.deployment.beside import Beside
from manyscale.deployment.bundle import Bundle, load_bundle
from manyscale.deployment.predict import choose_device, predict
from manyscale.deployment.scores import Scores, write_scores
from manyscale.errors import CardError, DataError
from manyscale.evaluation.cuts import scan_cuts, significance_figures
from manyscale.evaluation.results import (
    AucDifference,
    CombinedFigures,
    Metrics,
    Significance,
    Stamp,
    TreeFigures,
    read_history,
)
from manyscale.evaluation.sculpting import MassSample, sculpt
from manyscale.evaluation.trees import Trees
from manyscale.evaluation.yields import ScaledEvents, expected_yields, scale_events
from manyscale.progress import LOG
from manyscale.runs.fit import open_data
from manyscale.runs.folder import RunFolder
from manyscale.runs.model_card import describe_model
from manyscale.runs.train import fit_combination
from manyscale.settings import read_json
from manyscale.statistics.metrics import auc_difference, evaluate

__all__ = ["PLOTS", "Prediction", "Trial", "evaluate_run", "predict_trial", "scale"]

#: The plots of an evaluation, and what stands beside them.
PLOTS = (
    *("roc", "roc_by_process", "confusion", "reliability", "history", "tree_importances"),
    *("score_by_process", "scores", "mass_*", "signal_efficiency", "significance", "sculpting"),
    *("image_*", "inputs_*", "separation"),
)


@dataclass(frozen=True)
class Trial:
    """A trained run, and the events that it is tested on."""

    folder: RunFolder
    card: Card
    bundle: Bundle
    beside: Beside
    own: Dataset  #: the run's own data: all splits
    test: Dataset
    whole: Dataset  #: the events that the test events stand for
    data: str  #: where the test events are; empty: the run's own

    @staticmethod
    def open(
        root: Path | str,
        data: Path | str | None = None,
        device: str = "auto",
        cross_sections: Mapping[str, float] | None = None,
    ) -> "Trial":
        """Open a trained run with its own test split, or with a dataset that is test as a whole.

        Cross sections [pb] count before those of the run's card.
        """
        folder = RunFolder.open(root)
        card = folder.read_card()
        stated = {**card.evaluation.cross_sections, **(cross_sections or {})}
        for name, cross_section in stated.items():
            if not 0 < cross_section < np.inf:
                raise DataError(f"the cross section of {name} is {cross_section:g} pb, not above 0")
        evaluation = card.evaluation.model_copy(update={"cross_sections": stated})
        card = card.model_copy(update={"evaluation": evaluation})
        try:
            own = open_data(card, most=card.data.max_events)
        except DataError as error:
            card, own = _moved(folder, card, data, error)
            data = None
        if data is None:
            test = own.test
            test.require_classes()
            # Of a limited run the yields stand for all events, not for those that it was limited to.
            whole = own if card.data.max_events is None else open_data(card)
        else:
            test = whole = _foreign(data, own, card)
        where = choose_device(device)
        bundle, beside = load_bundle(folder.model, where), Beside.load(folder.model, where)
        if beside is None:
            # A run from before there were combinations.
            trees = Trees.load(folder.trees)
            combination = fit_combination(bundle.network, trees, own)
            beside = Beside(trees, own.schema.streams, combination, where)
            beside.save(folder.model)
        named = "" if data is None else str(data)
        return Trial(folder, card, bundle, beside, own, test, whole, named)

    def stamp(self, luminosity: float | None = None) -> Stamp:
        """Say of which events something is made, and that it is made now."""
        known = self.test.event_ids.tobytes() + self.whole.schema.model_dump_json().encode()
        return Stamp(
            data=self.data,
            events=len(self.test),
            identity=sha256(known)[:16],
            luminosity=luminosity,
            made=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        )

    def luminosity(self, asked: float | None) -> float | None:
        """The luminosity that is asked for, or else the card's, in fb^-1; DataError if not above 0."""
        chosen = self.card.evaluation.luminosity if asked is None else asked
        if chosen is not None and not 0 < chosen < np.inf:
            raise DataError(f"the luminosity is {chosen:g} fb^-1; it must be above 0")
        return chosen


def _moved(
    folder: RunFolder, card: Card, data: Path | str | None, error: DataError
) -> tuple[Card, Dataset]:
    """The run's own data, not found where they were, where the dataset that is given is these."""
    gone = f"the data of the run {folder.root} cannot be opened: {error}"
    if data is None:
        raise DataError(
            f"{gone}. If they were moved, say where they are by --data, or under `data` in "
            f"{folder.card}"
        ) from error
    here = card.data.model_copy(update={"dataset": Path(data), "signal": None, "background": None})
    card = card.model_copy(update={"data": here})
    own = open_data(card, most=card.data.max_events)
    if identity_of(own.event_ids) != read_json(folder.provenance)["data"].get("identity"):
        raise DataError(
            f"{gone}. {data} holds other events, and without its own the run cannot tell which of "
            "them it was trained on"
        ) from error
    return card, own


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


@dataclass(frozen=True)
class Prediction:
    """Test events without their streams, and their signal probabilities.

    Attributes
    ----------
    scores
        By classifier, (events,) each: `network`, `trees`, and `combined` where there is one.
    """

    events: PackedEvents
    scores: dict[str, NDArray[np.floating]]

    @property
    def network(self) -> NDArray[np.floating]:
        """Those of the network."""
        return self.scores["network"]


def predict_trial(
    trial: Trial, alter: Callable[[PackedEvents], PackedEvents] | None = None
) -> Prediction:
    """Score the test events by every classifier, chunk by chunk.

    Parameters
    ----------
    alter
        Changes the events before they are scored, as a shift of energies does; their number stays.
    """
    events = []
    scores: dict[str, list[NDArray[np.floating]]] = {}
    # Streams of the run's own data, by name: another dataset may have its columns in another order.
    for chunk, probabilities in predict(
        trial.bundle.network, trial.test, wanted=trial.beside.streams, alter=alter
    ):
        events.append(chunk.only([]))
        for name, found in trial.beside.scores(chunk.streams, probabilities[:, 1]).items():
            scores.setdefault(name, []).append(found)
    return Prediction(
        PackedEvents.concatenate(events),
        {name: np.concatenate(parts) for name, parts in scores.items()},
    )


def scale(trial: Trial, events: PackedEvents, luminosity: float) -> ScaledEvents:
    """Scale the test events to those expected at a luminosity [fb^-1]; they stand for the whole."""
    processes = trial.whole.schema.processes
    stated = trial.card.evaluation.cross_sections
    if unknown := stated.keys() - {process.name for process in processes}:
        known = ", ".join(process.name for process in processes)
        raise CardError(f"a cross section is given of {min(unknown)}; the processes are {known}")
    processes = tuple(
        of.model_copy(update={"cross_section": stated[of.name], "cross_section_error": None})
        if of.name in stated
        else of
        for of in processes
    )
    every = trial.whole.process_weights
    part = np.bincount(events.process, events.weight, len(processes))
    for index in np.flatnonzero((part == 0) & (every != 0)):
        LOG.info("no test event of %s: the yields count it as nothing", processes[index].name)
    factors = np.divide(every, part, out=np.ones(len(processes)), where=part != 0)
    return scale_events(processes, events.process, events.weight, luminosity, factors)


def evaluate_run(
    root: Path | str,
    *,
    data: Path | str | None = None,
    luminosity: float | None = None,
    cross_sections: Mapping[str, float] | None = None,
    device: str = "auto",
    plots: bool = True,
) -> Metrics:
    """Evaluate a run on its test events, and write metrics.json, scores and plots.

    Parameters
    ----------
    root
        The folder of a trained run.
    data
        A dataset whose events all count as test events, instead of the run's own test split.
    luminosity
        In fb^-1, in place of the card's.
    cross_sections
        In pb, by process, before those of card and data.
    device
        Where the network runs: auto, cpu or cuda.
    plots
        Whether to draw them now; `manyscale report` does it later.

    Returns
    -------
    The content of metrics.json.

    Raises
    ------
    RunError
        Where the run is not trained to its end.
    DataError
        Where the run's data are gone or lack a class, or `data` holds events of the training.
    CardError
        Where the device is not there.
    """
    trial = Trial.open(root, data, device, cross_sections)
    folder, network, test = trial.folder, trial.bundle.network, trial.test
    luminosity = trial.luminosity(luminosity)
    LOG.info("evaluating %d events", len(test))

    prediction = predict_trial(trial)
    events = prediction.events
    weights = test.balance.weights(events)
    figures: dict[str, dict[str, Any]] = {
        name: {"weights": "class-balanced", **evaluate(events.label, scores, weights)}
        for name, scores in prediction.scores.items()
    }

    def difference(one: str, other: str) -> AucDifference:
        first, second = (prediction.scores[name] for name in (one, other))
        value, error = auc_difference(events.label, first, second, weights)
        return AucDifference(auc=value, auc_error=error)

    figures["trees"]["network_minus_trees"] = difference("network", "trees")
    combination = trial.beside.combination
    if combination is not None:
        figures["combined"] |= {
            "combination": combination,
            "combined_minus_network": difference("combined", "network"),
            "combined_minus_trees": difference("combined", "trees"),
        }
    yields, significance, physical = _physical(trial, prediction, luminosity)
    for name, found in significance.items():
        figures[name]["significance"] = found
    beside: dict[str, Any] = {"trees": TreeFigures(**figures["trees"])}
    if combination is None:
        beside["combined_missing"] = (
            "Network and trees are not combined: the validation events are of one class, or neither "
            "score tells their classes apart."
        )
    else:
        beside["combined"] = CombinedFigures(**figures["combined"])
    metrics = Metrics(
        stamp=trial.stamp(luminosity if "yields" in yields else None),
        **figures["network"],
        events_per_second=statistics.median(
            row["events_per_second"] for row in read_history(folder.history)
        ),
        parameters=sum(p.numel() for p in network.parameters()),
        **_sculpting(trial, prediction, weights),
        **yields,
        **beside,
    )

    folder.scores.parent.mkdir(exist_ok=True)
    processes = [process.name for process in test.schema.processes]
    tested = Scores.of(events, prediction.scores, "test", processes, labelled=True)
    write_scores(folder.scores, [Scores({**tested.columns, **physical})])
    folder.drop_plots(*PLOTS)
    describe_model(folder, network, metrics)
    # After the scores: a run with metrics.json is evaluated.
    metrics.write(folder.metrics)
    folder.log(f"evaluated: AUC {metrics.auc:.5f} on {len(test)} events")
    if plots:
        from manyscale.runs.plots import draw_plots  # noqa: PLC0415 - matplotlib takes long

        draw_plots(trial)
    return metrics


def _physical(
    trial: Trial, prediction: Prediction, luminosity: float | None
) -> tuple[dict[str, Any], dict[str, Significance], dict[str, NDArray[np.float64]]]:
    """Yields and significance at a luminosity, or why there are none.

    Returns a part of metrics.json, the significance by classifier, and a column of the scores.
    """
    none = "No expected events, no significance"
    if luminosity is None:
        said = f"{none}: the card says no luminosity; give --luminosity [fb^-1]."
        return {"yields_missing": said}, {}, {}
    try:
        scaled = scale(trial, prediction.events, luminosity)
        scans = {name: scan_cuts(scaled, scores) for name, scores in prediction.scores.items()}
    except DataError as error:
        return {"yields_missing": f"{none}: {error}."}, {}, {}
    # Processes that have events, but none for the test.
    tested = np.bincount(prediction.events.process, minlength=len(scaled.processes))
    untested = ", ".join(
        scaled.processes[index].name
        for index in np.flatnonzero((trial.whole.process_weights != 0) & (tested == 0))
    )
    notice = f"No test event is of {untested}: it counts as nothing." if untested else ""
    found = expected_yields(scaled, notice)
    stated = trial.card.evaluation.cross_sections
    return (
        {"yields": found.model_copy(update={"cross_sections": stated})},
        {name: significance_figures(scan) for name, scan in scans.items()},
        {"physical_weight": scaled.weight},
    )


def _sculpting(
    trial: Trial, prediction: Prediction, weights: NDArray[np.float64]
) -> dict[str, Any]:
    """How cuts on the scores sculpt the background's masses, or why it is not known."""
    observable = trial.card.evaluation.mass
    events, observables = prediction.events, prediction.events.observables
    unknown = "Whether cuts sculpt the background's masses is not known"
    if observable not in observables:
        known = ", ".join(observables) or "none"
        said = (
            f"{unknown}: the data have no observable '{observable}' (they have {known}); "
            "evaluation.mass of the card names another."
        )
        return {"sculpting_missing": said}
    masses = np.asarray(observables[observable], np.float64)
    # Events without a mass, such as of no second jet, cannot be sculpted.
    chosen = (events.label == 0) & np.isfinite(masses)
    try:
        sample = MassSample.of(observable, masses[chosen], weights[chosen])
    except DataError as error:
        return {"sculpting_missing": f"{unknown}: {error}."}
    scores = {name: values[chosen] for name, values in prediction.scores.items()}
    return {"sculpting": sculpt(sample, scores, seed=trial.card.seed)}
