"""Training a card into a run folder."""

import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from manyscale.card import Card, card_text, load_card
from manyscale.data.dataset import Dataset
from manyscale.data.feeds import hold, make_feed, memory_of
from manyscale.data.store import no_events
from manyscale.deployment.bundle import save_bundle
from manyscale.errors import RunError
from manyscale.evaluation.summaries import summaries
from manyscale.evaluation.systematics import check_systematics
from manyscale.evaluation.trees import MOST_EVENTS, MOST_WATCHED, Table, Trees
from manyscale.features.extractor import FeatureExtractor
from manyscale.model.classifier import MultiScaleClassifier
from manyscale.model.summary import summarise
from manyscale.progress import Progress, Silent
from manyscale.reporting.flow_chart import flow_chart
from manyscale.runs.building import (
    CHUNK,
    build_model,
    dropped_tokens,
    fit_features,
    open_data,
)
from manyscale.runs.folder import RunFolder, write_json
from manyscale.runs.scoring import signal_scores
from manyscale.statistics.metrics import auc, log_loss
from manyscale.training import checkpoint
from manyscale.training.checkpoint import TrainingState
from manyscale.training.collective import (
    check_together,
    interleave,
    leave,
    name_lost_processes,
    send_weights,
)
from manyscale.training.devices import (
    deterministic_algorithms,
    make_fabric,
    place,
    process_rank,
)
from manyscale.training.flat import FlatWeights
from manyscale.training.processes import run_processes

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["fit_network", "train_run", "tree_extractors"]


def train_run(
    card: Card,
    root: Path | str,
    *,
    resume: bool = False,
    trees_from: RunFolder | None = None,
    progress: Progress | None = None,
) -> RunFolder:
    """Train the network of a card, and the boosted trees beside it, into a run folder.

    Parameters
    ----------
    card
        All of the run.
    root
        The run's folder; it may not hold a run, except with `resume`.
    resume
        Go on from the last epoch; on a finished run nothing is done.
    trees_from
        A run on the same events whose trees are taken instead of training them again.

    With `training.devices` the processes are started here; where torchrun or srun has started them,
    all of them call this, and the folder is written by the first.

    Raises
    ------
    RunError
        Where the folder is taken, the card differs from that of the run to be resumed, or a
        process has died.
    CardError, DataError
        Where card and data do not fit together, or devices are not there.
    """
    progress = progress or Silent()
    folder = RunFolder(Path(root))
    if resume and folder.card.is_file():
        _check_same(card, folder)
        if folder.model.is_dir():
            return folder
    card = _with_absolute_paths(card)
    if (count := place(card.training).to_start) > 0:
        work = partial(_train_in_turn, card, root, resume=resume, trees_from=trees_from)
        run_processes(work, count, progress)
    else:
        _train(card, folder, resume=resume, trees_from=trees_from, progress=progress)
    return folder


def _train_in_turn(
    card: Card, root: Path | str, progress: Progress, *, resume: bool, trees_from: RunFolder | None
) -> None:
    """Train as one of several processes that were started for it."""
    _train(card, RunFolder(Path(root)), resume=resume, trees_from=trees_from, progress=progress)


def _train(
    card: Card,
    folder: RunFolder,
    *,
    resume: bool,
    trees_from: RunFolder | None,
    progress: Progress,
) -> None:
    """Train in this process; where there are several, the first alone writes and fits what is not of the loop."""
    dataset = open_data(card, most=card.data.max_events)
    network = build_model(card, dataset.schema)
    check_systematics(card.evaluation.systematics, dataset.schema)
    if process_rank() > 0:
        fit_network(
            network, card, train=dataset.train, validation=dataset.validation, folder=folder
        )
        return
    for part in (dataset, dataset.train, dataset.validation, dataset.test):
        part.require_classes()
        _ = part.balance  # refuses weights that cannot be balanced
    fit_features(network, dataset.train)

    folder.claim(resume=resume)
    if not folder.card.is_file():
        folder.write_card(card_text(card, "manyscale card, as run"))
        folder.write_provenance({"source": dataset.source, "events": len(dataset)})
    folder.log("training begins" if not resume else "training goes on")
    for notice in dataset.notices:
        folder.log(notice)
        progress.say(notice)
    _write_facts(folder, dataset, network)
    try:
        state = fit_network(
            network,
            card,
            train=dataset.train,
            validation=dataset.validation,
            folder=folder,
            progress=progress,
        )
    except KeyboardInterrupt:
        folder.log("interrupted")
        progress.say(f"{folder.root} can be gone on with: the same command with --resume")
        raise
    folder.log(f"trained {state.epoch} epochs, {state.step} steps; best epoch {state.best_epoch}")
    _write_model(folder, network, dataset, seed=card.seed, trees_from=trees_from, progress=progress)


def _write_model(
    folder: RunFolder,
    network: MultiScaleClassifier,
    dataset: Dataset,
    *,
    seed: int,
    trees_from: RunFolder | None,
    progress: Progress,
) -> None:
    """Write the model folder with the trees, whole."""
    draft = folder.root / "model.tmp"
    save_bundle(draft, network)
    if trees_from is not None:
        shutil.copy(trees_from.trees, draft / folder.trees.name)
    else:
        progress.say("training the boosted trees")
        trees = _fit_trees(dataset.train, dataset.validation, seed)
        trees.save(draft / folder.trees.name)
    draft.rename(folder.model)


def _check_same(card: Card, folder: RunFolder) -> None:
    """A run may only be resumed with the card it was begun with."""
    ours = _with_absolute_paths(card).model_dump(exclude={"evaluation", "generate"})
    theirs = load_card(folder.card).model_dump(exclude={"evaluation", "generate"})
    differing = [key for key in ours if ours[key] != theirs[key]]
    if differing:
        raise RunError(
            f"{folder.root} was begun with another card: they differ in {', '.join(differing)}. "
            f"Resume with {folder.card}, or train into another folder"
        )


def _with_absolute_paths(card: Card) -> Card:
    """The same card with paths that hold from any folder."""
    data = card.data
    changes: dict[str, object] = {}
    if data.dataset is not None:
        changes["dataset"] = data.dataset.resolve()
    for label in ("signal", "background"):
        files = getattr(data, label)
        if files is not None:
            changes[label] = {name: path.resolve() for name, path in files.items()}
    return card.model_copy(update={"data": data.model_copy(update=changes)})


def _write_facts(folder: RunFolder, dataset: Dataset, network: MultiScaleClassifier) -> None:
    """Write what the report says of data and network."""
    splits = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    facts = {
        "processes": [process.model_dump() for process in dataset.schema.processes],
        "splits": {name: part.class_counts for name, part in splits.items()},
        "dropped_tokens": dropped_tokens(network, dataset.train),
        "notices": list(dataset.notices),
    }
    write_json(folder.root / "data.json", facts)
    summary = summarise(network)
    summary.write(folder.summary)
    folder.flow_chart.write_text(flow_chart(summary), encoding="utf-8")


def fit_network(
    network: MultiScaleClassifier,
    card: Card,
    *,
    train: Dataset,
    validation: Dataset,
    folder: RunFolder | None = None,
    progress: Progress | None = None,
) -> TrainingState:
    """Train a network whose features are fitted; with a folder, from and to its checkpoints.

    Called in each of the processes that train; network and folder of the first count.

    Raises
    ------
    RunError
        Where the loss is no longer finite, memory runs out, or another process is lost.
    CardError
        Where the card asks for devices that are not there.
    """
    placement = place(card.training)
    with (
        deterministic_algorithms(card.training.deterministic),
        name_lost_processes(process_rank(), placement.world),
    ):
        fabric = make_fabric(card.training, placement)
        progress = progress if progress and fabric.is_global_zero else Silent()
        state = _fit(
            network,
            card,
            train=train,
            validation=validation,
            fabric=fabric,
            folder=folder,
            progress=progress,
        )
        leave()
    return state


def _fit(
    network: MultiScaleClassifier,
    card: Card,
    *,
    train: Dataset,
    validation: Dataset,
    fabric: "Fabric",
    folder: RunFolder | None,
    progress: Progress,
) -> TrainingState:
    from manyscale.training import loop  # noqa: PLC0415 - it imports Fabric, which takes long

    wrapped = fabric.setup_module(network)
    # Behind the set-up, which brings the weights to their device.
    optimizer = torch.optim.AdamW(
        [FlatWeights(network).parameter],
        lr=card.training.learning_rate,
        weight_decay=card.training.weight_decay,
        fused=True,
    )
    stepper = fabric.setup_optimizers(optimizer)
    assert isinstance(stepper, torch.optim.Optimizer)  # noqa: S101 - for the type checker
    send_weights(fabric, network)
    state = TrainingState()
    if folder is not None and (last := checkpoint.latest(folder.checkpoints)) is not None:
        state = checkpoint.load(last, network, optimizer)
        progress.say(f"going on behind epoch {state.epoch}")
    check_together(fabric, state)
    hold(validation, card.data.memory - memory_of(train) / 1e6)
    held_out = validation.bookkeeping()
    weights = validation.balanced_weights(held_out)

    def validate() -> loop.Validation:
        share = signal_scores(network, validation, rank=fabric.global_rank, world=fabric.world_size)
        signal = interleave(fabric, share, len(held_out))
        return loop.Validation(
            loss=log_loss(held_out.label, signal, weights),
            auc=auc(held_out.label, signal, weights),
        )

    def save(state: TrainingState) -> None:
        if folder is not None and fabric.is_global_zero:
            checkpoint.save(folder.checkpoints, state, network, optimizer)
            folder.write_history(state.history)
        fabric.barrier()

    return loop.train(
        wrapped,
        make_feed(train, network.trim, card.data.memory, card.seed),
        card.training,
        card.seed,
        fabric=fabric,
        optimizer=stepper,
        validate=validate,
        save=save,
        state=state,
        progress=progress,
    )


def tree_extractors(dataset: Dataset) -> dict[str, FeatureExtractor]:
    """The features of which the trees' summaries are made: all that the data's columns allow."""
    return {stream.name: FeatureExtractor.for_stream(stream) for stream in dataset.schema.streams}


def _fit_trees(train: Dataset, validation: Dataset, seed: int) -> Trees:
    extractors = tree_extractors(train)
    watched, names = _table(validation, MOST_WATCHED, extractors)
    return Trees.fit(_table(train, MOST_EVENTS, extractors)[0], watched, names, seed=seed)


def _table(
    part: Dataset, most: int, extractors: Mapping[str, FeatureExtractor]
) -> tuple[Table, tuple[str, ...]]:
    """Summarise a fixed sample of the events, chunk by chunk; name the summaries."""
    sample = part.sample(most)
    events = sample.bookkeeping()
    names = summaries(no_events(part.schema), extractors)[1]
    # Filled in place: joined afterwards, it would be there twice.
    matrix = np.empty((len(sample), len(names)), np.float32)
    filled = 0
    for chunk in sample.chunks(CHUNK):
        matrix[filled : filled + len(chunk)], _ = summaries(chunk, extractors)
        filled += len(chunk)
    return Table(matrix, events.label, part.balance.weights(events)), names
