"""A run: a card trained into its folder, with the boosted trees beside the network."""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError

from manyscale.card import Card, card_text
from manyscale.data.dataset import Dataset
from manyscale.data.identity import identity_of
from manyscale.data.store import no_events
from manyscale.deployment.beside import Beside, tree_extractors
from manyscale.deployment.bundle import save_bundle
from manyscale.deployment.predict import CHUNK, predict
from manyscale.errors import DataError, RunError
from manyscale.evaluation.combination import Combination
from manyscale.evaluation.results import DataFacts, Metrics
from manyscale.evaluation.systematics import check_systematics
from manyscale.evaluation.trees import MOST_EVENTS, MOST_WATCHED, Table, Trees
from manyscale.features.extractor import FeatureExtractor
from manyscale.features.summaries import summaries
from manyscale.model.classifier import MultiScaleClassifier
from manyscale.model.summary import summarise
from manyscale.progress import LOG
from manyscale.reporting.flow_chart import flow_chart
from manyscale.runs.fit import (
    build_model,
    dropped_tokens,
    fit_features,
    fit_members,
    mirror_of,
    open_data,
    start,
)
from manyscale.runs.folder import RunFolder
from manyscale.training.distributed import (
    launch,
    leave,
    make_fabric,
    name_lost_processes,
    place,
    process_rank,
    wait_for_first,
)
from manyscale.training.schedule import TrainingSettings, total_steps
from manyscale.writing import disk_errors, remove, whole, write_whole

__all__ = ["as_resumed", "fit_combination", "train_run", "whole_run"]


def whole_run(
    card: Card, root: Path | str, *, resume: bool = False, plots: bool = True
) -> Metrics | None:
    """Train a card, evaluate it on its test events and write its report; return metrics.json.

    Without `plots` they are left to `manyscale report`.
    Of several processes that torchrun or srun has started, all but the first return None as soon as
    the network is trained.
    """
    from manyscale.reporting.report import write_report  # noqa: PLC0415 - matplotlib takes long
    from manyscale.runs.evaluate import evaluate_run  # noqa: PLC0415 - which needs this file

    folder = train_run(card, root, resume=resume, longer=True)
    if folder.finished:  # before, and was not trained longer now
        return Metrics.read(folder.metrics)
    if process_rank() > 0:
        return None
    with disk_errors(folder.root), folder.locked():
        metrics = evaluate_run(root, plots=plots)
        write_report(folder.root)
    return metrics


def train_run(
    card: Card,
    root: Path | str,
    *,
    resume: bool = False,
    longer: bool = False,
    trees_from: RunFolder | None = None,
) -> RunFolder:
    """Train the network of a card, and the boosted trees beside it, into a run folder.

    With `training.devices` the processes are started here; where torchrun or srun has started them,
    all of them call this, and the first writes the folder.

    Parameters
    ----------
    card
        All of the run.
    root
        The run's folder; it may not hold a run, except with `resume`.
    resume
        Go on from the last checkpoint; on a finished run nothing is done.
    longer
        Whether the card of a run to be resumed may ask for more epochs or steps, or another patience.
    trees_from
        A run on the same events whose trees are taken instead of training them again.

    Raises
    ------
    RunError
        Where the folder is taken, the card differs from that of the run to be resumed, or a
        process has died.
    CardError, DataError
        Where card and data do not fit together, or devices are not there.
    """
    folder = RunFolder(Path(root))
    card = card.with_paths(Path.resolve)  # it must hold from any folder

    if resume and folder.card.is_file():
        before = folder.read_card()
        card = as_resumed(card, before, folder.root, longer=longer)
        # Of a run that is trained longer the model stays until the new one is there.
        if folder.model.is_dir() and _length(card.training) == _length(before.training):
            return folder
    work = partial(_train, card, folder, resume=resume, trees_from=trees_from)
    if (count := place(card.training).to_start) > 0:
        launch(work, count)
    else:
        work()
    return folder


def _length(training: TrainingSettings) -> tuple[int | None, ...]:
    """What says when a training ends."""
    return training.epochs, training.max_steps, training.patience


def as_resumed(card: Card, before: Card, root: Path, *, longer: bool) -> Card:
    """The card with which a run goes on that was begun with another; RunError where it cannot.

    Where it trains longer, the learning rate rises and falls anew after the steps of before: with the
    `restarts` that say so the card alone gives the same weights, trained in one go.
    """
    # Where and in how many parts it is worked out, and in how much memory, may change: that is
    # what the messages on memory and devices advise.
    free: dict[str, Any] = {
        "evaluation": True,
        "generate": True,
        "data": {"memory"},
        "training": {
            "accumulate", "devices", "nodes", "accelerator", "tensorboard", "restarts",
            *(("epochs", "max_steps", "patience") if longer else ()),
        },
    }  # fmt: skip
    ours, theirs = (one.model_dump(mode="json", exclude=free) for one in (card, before))
    if differing := list(_differences(ours, theirs)):
        raise RunError(
            f"{root} was begun with another card: they differ in {'; '.join(differing)}. Resume with "
            f"{root / 'card.yaml'}, or train into another folder"
        )
    restarts = before.training.restarts
    if _length(card.training) != _length(before.training):
        events = len(open_data(card, most=card.data.max_events).train)
        steps, done = (total_steps(one.training, events) for one in (card, before))
        if steps < done:
            raise RunError(
                f"{root} was begun with {done} steps, and the card has {steps}: a run can be trained "
                "longer, not shorter. Raise training.epochs (or max_steps), or train into another folder"
            )
        if steps > done:
            restarts = (*restarts, done)
            LOG.info("after the %d steps of before, %d more", done, steps - done)
    training = card.training.model_copy(update={"restarts": restarts})
    return card.model_copy(update={"training": training})


def _differences(ours: Any, theirs: Any, key: str = "") -> Iterator[str]:  # noqa: ANN401 - of JSON
    """Which keys of two cards differ, with both values."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for name in ours | theirs:
            yield from _differences(ours.get(name), theirs.get(name), f"{key}.{name}".strip("."))
    elif ours != theirs:
        yield f"{key} (there {json.dumps(theirs)}, here {json.dumps(ours)})"


@name_lost_processes()
def _train(card: Card, folder: RunFolder, *, resume: bool, trees_from: RunFolder | None) -> None:
    """Train in this process; of several, the first alone writes, and fits what is not of the loop."""
    with disk_errors(folder.root), ExitStack() as claims:
        _train_claimed(card, folder, claims, resume=resume, trees_from=trees_from)


def _train_claimed(  # noqa: C901, PLR0912, PLR0915 - from data to model folder, in one piece
    card: Card, folder: RunFolder, claims: ExitStack, *, resume: bool, trees_from: RunFolder | None
) -> None:
    fabric = make_fabric(card.training)
    first = fabric.is_global_zero
    dataset = open_data(card, most=card.data.max_events)
    train, validation, test = dataset.train, dataset.validation, dataset.test
    network = build_model(card, dataset.schema)
    check_systematics(card.evaluation.systematics, dataset.schema)

    # What passes over all events the first process does, while the others wait for it.
    if first:
        for part in (dataset, train, validation, test):
            part.require_classes()
            _ = part.balance  # refuses weights that cannot be balanced
        fit_features(network, train)
    # Every process: which weights were taken over decides how fast they learn.
    taken = start(network, card.training)
    if first:
        claims.enter_context(folder.claimed(resume=resume))
        longer = folder.model.is_dir()
        if not (begun := folder.card.is_file()):
            folder.write_provenance(
                {
                    "source": dataset.source,
                    "events": len(dataset),
                    "identity": identity_of(dataset.event_ids),
                }
            )
        if not longer:
            folder.write_card(card_text(card, "manyscale card, as run"))
        folder.log("training resumed" if begun else "training begins")
        warnings = [*dataset.notices, *_unused(network, card)]
        notices = [*warnings, *taken.lines, *_notices(network, card)]
        for notice in notices:
            folder.log(notice)
            (LOG.warning if notice in warnings else LOG.info)(notice)
        DataFacts(
            processes=dataset.schema.processes,
            splits={
                name: dict(part.class_counts)
                for name, part in (("train", train), ("validation", validation), ("test", test))
            },
            mix=dataset.mix,
            dropped_tokens=dropped_tokens(network, train),
            notices=tuple(notices),
        ).write(folder.root / "data.json")
    wait_for_first(fabric)

    try:
        states = fit_members(
            network,
            card,
            train=train,
            validation=validation,
            taken=taken,
            folder=folder,
            fabric=fabric,
        )
    except KeyboardInterrupt:
        if first:
            folder.log("interrupted")
            LOG.info(f"{folder.root} can be resumed: the same command with --resume")
        raise
    leave()
    if not first:
        return
    folder.log(
        "; ".join(
            f"trained {s.epoch} epochs, {s.step} steps; best epoch {s.best_epoch}" for s in states
        )
    )
    summary = summarise(network)
    summary.write(folder.summary)
    write_whole(folder.flow_chart, flow_chart(summary))

    for path in (folder.report, folder.metrics):  # of the model of before, if it was trained longer
        remove(path)
    # The model folder comes into being whole: with the trees.
    with whole(folder.model) as draft:
        try:
            save_bundle(draft, network)
        except SafetensorError as error:  # its writer says so of a full disk
            raise RunError(f"cannot write the weights into {folder.root}: {error}") from error
        if trees_from is not None:
            trees = Trees.load(trees_from.trees)
        else:
            LOG.info("training the boosted trees")
            extractors = tree_extractors(dataset.schema.streams)
            watched, names = _table(validation, MOST_WATCHED, extractors)
            learned, _ = _table(train, MOST_EVENTS, extractors)
            # 0: all cores that this process may use. The trees are the same for any number of threads.
            trees = Trees.fit(learned, watched, names, seed=card.seed, threads=0)
        beside = Beside(trees, dataset.schema.streams, fit_combination(network, trees, dataset))
        beside.save(draft)
    if longer:  # else it stands there, and a draft that a killed process leaves would stay
        folder.write_card(card_text(card, "manyscale card, as run"))


def _notices(network: MultiScaleClassifier, card: Card) -> list[str]:
    """What its user is told of a training that cannot be seen from the card."""
    found = []
    if card.training.mirrored and (unknown := mirror_of(network, card).unknown):
        named = ", ".join(unknown[:3]) + (", ..." if len(unknown) > 3 else "")
        found.append(f"events are not mirrored: how {named} would change is not known")
    if (members := card.training.ensemble) > 1:
        found.append(f"an ensemble of {members}: history.csv and its plot are of the first")
    return found


def _unused(network: MultiScaleClassifier, card: Card) -> list[str]:
    """What a card says in vain, as where its preset alone was changed."""
    taken = network.settings.streams
    found = [
        f"streams.{name} of the card does nothing: preset {card.preset} does not take this stream"
        for name in card.streams
        if name not in taken
    ]
    left = set(taken).difference(*((of.query, *of.context) for of in card.fusion or ()))
    if card.fusion and left and card.preset != "custom":
        found.append(
            f"the card's fusion leaves out {', '.join(sorted(left))}: it is not that of preset "
            f"{card.preset}, which counts where `fusion` is deleted"
        )
    return found


def fit_combination(
    network: MultiScaleClassifier, trees: Trees, dataset: Dataset
) -> Combination | None:
    """Fit the combination of network and trees on a fixed sample of the validation events.

    Neither was trained on them; that they chose epoch and number of trees matters little. None, and a
    line says why, where they do not allow it.
    """
    device = next(network.parameters()).device
    validation, beside = dataset.validation, Beside(trees, dataset.schema.streams, device=device)
    rows = []
    try:
        validation.require_classes()
        sample, balance = validation.sample(MOST_WATCHED), validation.balance
        for events, signal in predict(network.eval(), sample, wanted=beside.streams):
            scores = beside.scores(events.streams, signal[:, 1])
            rows.append((events.label, *scores.values(), balance.weights(events)))
        found = Combination.fit(*map(np.concatenate, zip(*rows, strict=True)))
    except DataError as error:
        LOG.warning("no combination of network and trees: %s", error)
        return None
    if found.notice:
        LOG.info("combination of network and trees: %s", found.notice)
    return found


def _table(
    part: Dataset, most: int, extractors: Mapping[str, FeatureExtractor]
) -> tuple[Table, tuple[str, ...]]:
    """Summarise a fixed sample of the events, chunk by chunk; name the summaries."""
    sample = part.sample(most)
    events = sample.bookkeeping()
    names = summaries(no_events(part.schema).streams, extractors)[1]
    # Filled in place: joined afterwards, it would be there twice.
    matrix = np.empty((len(sample), len(names)), np.float32)
    filled = 0
    for chunk in sample.chunks(CHUNK):
        matrix[filled : filled + len(chunk)], _ = summaries(chunk.streams, extractors)
        filled += len(chunk)
    return Table(matrix, events.label, part.balance.weights(events)), names
