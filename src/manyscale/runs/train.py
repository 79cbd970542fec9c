"""Training: from a card to its data and network, to the weights and trees in the run's folder."""

import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError

from manyscale.card import Card, card_text, load_card
from manyscale.data.dataset import Dataset
from manyscale.data.folder_feed import hold, make_feed, memory_of
from manyscale.data.npz import read_npz
from manyscale.data.packing import PackedEvents
from manyscale.data.store import no_events
from manyscale.deployment.bundle import save_bundle
from manyscale.deployment.predict import CHUNK, predict
from manyscale.errors import CardError, RunError
from manyscale.evaluation.results import DataFacts, Metrics
from manyscale.evaluation.systematics import check_systematics
from manyscale.evaluation.trees import MOST_EVENTS, MOST_WATCHED, Table, Trees
from manyscale.features.columns import StreamBatch
from manyscale.features.extractor import FeatureExtractor, standardise
from manyscale.features.summaries import summaries
from manyscale.interrupts import held
from manyscale.model.classifier import ModelSettings, MultiScaleClassifier
from manyscale.model.presets import resolve
from manyscale.model.summary import summarise
from manyscale.progress import LOG
from manyscale.reporting.flow_chart import flow_chart
from manyscale.runs.folder import RunFolder
from manyscale.schema import Schema
from manyscale.statistics.metrics import auc, log_loss
from manyscale.training import checkpoint, loop
from manyscale.training.checkpoint import TrainingState
from manyscale.training.distributed import (
    broadcast_weights,
    check_same_step,
    interleave,
    launch,
    leave,
    make_fabric,
    name_lost_processes,
    place,
    precision_of,
    process_rank,
    wait_for_first,
)
from manyscale.training.graph import GraphedStep, can_graph
from manyscale.writing import disk_errors, whole, write_whole

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = [
    "build_model",
    "dropped_tokens",
    "fit_features",
    "fit_network",
    "model_settings",
    "open_data",
    "train_run",
    "tree_extractors",
    "whole_run",
]


# ---- from a card to what is trained -----------------------------------------------------------


def open_data(card: Card, *, most: int | None = None) -> Dataset:
    """Open the data that a card names, with its streams, classes and split.

    Parameters
    ----------
    card
        Its section `data` and its `classes`.
    most
        Events of each class at most; `card.data.max_events` for training and test, None for all.

    Raises
    ------
    CardError
        Where the card names no data.
    DataError
        Where the data cannot be read, or lack what the card asks for.
    """
    data = card.data
    if data.dataset is not None:
        dataset = Dataset.open(data.dataset, split=data.split, seed=card.seed)
    elif data.signal is not None and data.background is not None:
        dataset = read_npz(
            signal=data.signal,
            background=data.background,
            columns=data.columns,
            split=data.split,
            seed=card.seed,
        )
    else:
        raise CardError(
            "the card names no data: set data.dataset to a dataset folder (made by `manyscale "
            "generate` or `convert`), or data.signal and data.background to npz files"
        )
    return dataset.restricted(streams=data.streams, classes=card.classes, max_events=most)


def model_settings(card: Card, schema: Schema) -> ModelSettings:
    """Say what the card's preset and settings mean for the streams of the data."""
    available = [stream.name for stream in schema.streams]
    return resolve(card.preset, available, card.streams, card.fusion, card.head)


def build_model(card: Card, schema: Schema) -> MultiScaleClassifier:
    """Build the network of a card for data of that schema, its weights drawn from the card's seed.

    Raises
    ------
    CardError
        Where card and data do not fit together; the message names the key.
    """
    settings = model_settings(card, schema)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(card.seed)
        return MultiScaleClassifier(settings, schema)


def fit_features(network: MultiScaleClassifier, train: Dataset) -> None:
    """Fit the standardisation on training events; streams that share an encoder share it.

    Raises
    ------
    DataError
        Where a feature is not finite; the message names stream, feature and event.
    """
    groups: dict[str, dict[str, FeatureExtractor]] = {}
    for name, encoder in network.encoder_of.items():
        groups.setdefault(encoder, {})[name] = network.extractor(name)
    standardise(
        list(groups.values()),
        (
            {name: StreamBatch.of(stream) for name, stream in network.trim(events.streams).items()}
            for events in _chunks(network, train)
        ),
    )


def dropped_tokens(network: MultiScaleClassifier, train: Dataset) -> dict[str, float]:
    """Fraction of each stream's tokens that `max_tokens` leaves out."""
    total: Counter[str] = Counter()
    kept: Counter[str] = Counter()
    for events in _chunks(network, train):
        for name, stream in network.trim(events.streams).items():
            total[name] += int(events.streams[name].counts.sum())
            kept[name] += int(stream.counts.sum())
    return {name: 1 - kept[name] / max(1, total[name]) for name in network.settings.streams}


def _chunks(network: MultiScaleClassifier, dataset: Dataset) -> Iterator[PackedEvents]:
    """The events chunk by chunk, with the streams that the network takes."""
    return dataset.restricted(streams=list(network.settings.streams)).chunks(CHUNK)


# ---- a run ------------------------------------------------------------------------------------


def whole_run(card: Card, root: Path | str, *, resume: bool = False) -> Metrics | None:
    """Train a card, evaluate it on its test events and write its report; return metrics.json.

    Of several processes that torchrun or srun has started, all but the first return None as soon as
    the network is trained.
    """
    from manyscale.reporting.report import write_report  # noqa: PLC0415 - matplotlib takes long
    from manyscale.runs.evaluate import evaluate_run  # noqa: PLC0415 - which needs this file

    folder = RunFolder(Path(root))
    finished = resume and folder.finished
    train_run(card, root, resume=resume)
    if finished:
        return Metrics.read(folder.metrics)
    if process_rank() > 0:
        return None
    with disk_errors(), folder.locked():
        metrics = evaluate_run(root)
        write_report(folder.root)
    return metrics


def train_run(
    card: Card,
    root: Path | str,
    *,
    resume: bool = False,
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
    # The run's card must hold from any folder.
    paths: dict[str, object] = {}
    if card.data.dataset is not None:
        paths["dataset"] = card.data.dataset.resolve()
    for label in ("signal", "background"):
        if (files := getattr(card.data, label)) is not None:
            paths[label] = {name: path.resolve() for name, path in files.items()}
    card = card.model_copy(update={"data": card.data.model_copy(update=paths)})

    if resume and folder.card.is_file():
        # Where and in how many parts it is worked out, and in how much memory, may change: that is
        # what the messages on memory and devices advise.
        free: dict[str, Any] = {
            "evaluation": True,
            "generate": True,
            "data": {"memory"},
            "training": {"accumulate", "devices", "nodes", "accelerator", "tensorboard"},
        }
        ours, theirs = (one.model_dump(exclude=free) for one in (card, load_card(folder.card)))
        differing = [key for key in ours if ours[key] != theirs[key]]
        if differing:
            raise RunError(
                f"{folder.root} was begun with another card: they differ in "
                f"{', '.join(differing)}. Resume with {folder.card}, or train into another folder"
            )
        if folder.model.is_dir():
            return folder
    work = partial(_train, card, folder, resume=resume, trees_from=trees_from)
    if (count := place(card.training).to_start) > 0:
        launch(work, count)
    else:
        work()
    return folder


@name_lost_processes()
@disk_errors()
def _train(card: Card, folder: RunFolder, *, resume: bool, trees_from: RunFolder | None) -> None:
    """Train in this process; of several, the first alone writes, and fits what is not of the loop."""
    with ExitStack() as claims:
        _train_claimed(card, folder, claims, resume=resume, trees_from=trees_from)


def _train_claimed(
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
        claims.enter_context(folder.claimed(resume=resume))
        if not (begun := folder.card.is_file()):
            folder.write_provenance({"source": dataset.source, "events": len(dataset)})
            folder.write_card(card_text(card, "manyscale card, as run"))
        folder.log("training resumed" if begun else "training begins")
        for notice in dataset.notices:
            folder.log(notice)
            LOG.info(notice)
        DataFacts(
            processes=dataset.schema.processes,
            splits={
                name: dict(part.class_counts)
                for name, part in (("train", train), ("validation", validation), ("test", test))
            },
            mix=dataset.mix,
            dropped_tokens=dropped_tokens(network, train),
            notices=tuple(dataset.notices),
        ).write(folder.root / "data.json")
        summary = summarise(network)
        summary.write(folder.summary)
        write_whole(folder.flow_chart, flow_chart(summary))
    wait_for_first(fabric)

    try:
        state = fit_network(
            network, card, train=train, validation=validation, folder=folder, fabric=fabric
        )
    except KeyboardInterrupt:
        if first:
            folder.log("interrupted")
            LOG.info(f"{folder.root} can be resumed: the same command with --resume")
        raise
    leave()
    if not first:
        return
    folder.log(f"trained {state.epoch} epochs, {state.step} steps; best epoch {state.best_epoch}")

    # The model folder comes into being whole: with the trees.
    with whole(folder.model) as draft:
        try:
            save_bundle(draft, network)
        except SafetensorError as error:  # its writer says so of a full disk
            raise RunError(f"cannot write the weights into {folder.root}: {error}") from error
        if trees_from is not None:
            shutil.copy(trees_from.trees, draft / folder.trees.name)
        else:
            LOG.info("training the boosted trees")
            extractors = tree_extractors(dataset)
            watched, names = _table(validation, MOST_WATCHED, extractors)
            learned, _ = _table(train, MOST_EVENTS, extractors)
            # 0: all cores that this process may use. The trees are the same for any number of threads.
            trees = Trees.fit(learned, watched, names, seed=card.seed, threads=0)
            trees.save(draft / folder.trees.name)


def fit_network(  # noqa: C901, PLR0915 - what the loop is handed, in one piece
    network: MultiScaleClassifier,
    card: Card,
    *,
    train: Dataset,
    validation: Dataset,
    folder: RunFolder | None = None,
    fabric: "Fabric | None" = None,
) -> TrainingState:
    """Train a network whose features are fitted; with a folder, from and to its checkpoints.

    Called in each of the processes that train; network and folder of the first count.

    Parameters
    ----------
    fabric
        As the processes have joined; None: this one is to be set up.

    Raises
    ------
    RunError
        Where the loss is no longer finite, memory runs out, or another process is lost.
    CardError
        Where the card asks for devices that are not there.
    """
    settings = card.training
    fabric = make_fabric(settings) if fabric is None else fabric
    rank, world = fabric.global_rank, fabric.world_size
    wrapped = fabric.setup_module(network)
    precision = precision_of(settings, fabric.device.type)
    graphed = can_graph(settings, precision, fabric.device, world)
    # Made once the set-up has brought the weights to their device.
    optimizer = torch.optim.AdamW(
        loop.parameter_groups(network, settings.weight_decay),
        # A graph reads the learning rate where it was when it was recorded.
        lr=torch.tensor(settings.learning_rate, device=fabric.device)
        if graphed
        else settings.learning_rate,
        # Fabric does not clip for an optimizer that unscales the gradients of half precision itself.
        fused=precision != "16-mixed",
        capturable=graphed,
    )
    stepper = fabric.setup_optimizers(optimizer)
    assert isinstance(stepper, torch.optim.Optimizer)  # noqa: S101 - for the type checker
    broadcast_weights(fabric, network)
    state = TrainingState()
    if folder and (resumed := checkpoint.resume(folder.checkpoints, network, optimizer)):
        state = resumed
        if state.scaler:
            fabric.strategy.precision.load_state_dict(state.scaler)
        LOG.info(f"resumed after epoch {state.epoch}, step {state.step}")
    check_same_step(fabric, state.step)

    # The processes hold their shares of the training events, but each all validation events.
    hold(validation, (card.data.memory - memory_of(train) / 1e6) / world)
    held_out = validation.bookkeeping()
    weights = validation.balanced_weights(held_out)

    signals: list[int] = []

    def validate() -> loop.Validation:
        share = []
        for _, probabilities in predict(network, validation, rank=rank, world=world):
            if signals:
                raise KeyboardInterrupt
            share.append(probabilities[:, 1])
        signal = interleave(fabric, np.concatenate(share), len(held_out))
        return loop.Validation(
            loss=log_loss(held_out.label, signal, weights),
            auc=auc(held_out.label, signal, weights),
        )

    board = None
    if settings.tensorboard and folder is not None and fabric.is_global_zero:
        from lightning_fabric.loggers.tensorboard import TensorBoardLogger  # noqa: PLC0415

        try:
            board = TensorBoardLogger(folder.root, name="tensorboard", version="")
            _ = board.experiment  # imports the library
        except ModuleNotFoundError as error:
            raise RunError(
                "training.tensorboard needs the library 'tensorboard', which is not installed: "
                "pip install tensorboard, or set it to false"
            ) from error

    def save(state: TrainingState) -> None:
        if folder is not None and fabric.is_global_zero:
            if board is not None and not state.begun:
                board.log_metrics(state.history[-1], step=state.epoch)
                board.save()
            if state.history:
                folder.write_history(state.history)
            state.scaler = fabric.strategy.precision.state_dict()
            checkpoint.save(folder.checkpoints, state, network, optimizer)

    feed = make_feed(train, network.trim, card.data.memory, card.seed, rank=rank, world=world)
    graph = None
    if graphed and feed.events >= settings.batch_size:
        longest = {name: of.max_tokens for name, of in network.settings.streams.items()}
        typical = next(iter(feed.batches(0, settings.batch_size)))
        graph = GraphedStep(
            network.train(), optimizer, typical, longest=longest, clip=settings.clip
        )
    before = torch.are_deterministic_algorithms_enabled()
    if settings.deterministic:
        # cuBLAS reads it when it is first used.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    try:
        with held() as signals:
            return loop.train(
                wrapped,
                feed,
                settings,
                card.seed,
                fabric=fabric,
                optimizer=stepper,
                validate=validate,
                save=save,
                state=state,
                graph=graph,
                signals=signals,
            )
    finally:
        torch.use_deterministic_algorithms(before)


# ---- the trees beside the network -------------------------------------------------------------


def tree_extractors(dataset: Dataset) -> dict[str, FeatureExtractor]:
    """The features of which the trees' summaries are made: all that the data's columns allow."""
    return {stream.name: FeatureExtractor.for_stream(stream) for stream in dataset.schema.streams}


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
