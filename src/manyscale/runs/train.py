"""Training: from a card to its data and network, to the weights and trees in the run's folder."""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError

from manyscale.card import Card, card_text
from manyscale.data.dataset import Dataset
from manyscale.data.feeds import Feed
from manyscale.data.folder_feed import hold, make_feed, memory_of
from manyscale.data.identity import identity_of
from manyscale.data.mirror import Mirror
from manyscale.data.npz import read_npz
from manyscale.data.packing import PackedEvents
from manyscale.data.store import no_events
from manyscale.deployment.beside import Beside, tree_extractors
from manyscale.deployment.bundle import PRETRAINED, load_bundle, save_bundle
from manyscale.deployment.predict import CHUNK, predict
from manyscale.errors import CardError, DataError, RunError
from manyscale.evaluation.combination import Combination
from manyscale.evaluation.results import DataFacts, Metrics
from manyscale.evaluation.systematics import check_systematics
from manyscale.evaluation.trees import MOST_EVENTS, MOST_WATCHED, Table, Trees
from manyscale.features.columns import StreamBatch
from manyscale.features.extractor import FeatureExtractor, standardise
from manyscale.features.summaries import summaries
from manyscale.interrupts import held
from manyscale.model.classifier import ModelSettings, MultiScaleClassifier
from manyscale.model.presets import resolve
from manyscale.model.start import FRESH, TakenOver, take_over
from manyscale.model.summary import summarise
from manyscale.model.taps import NO_TAPS, Taps
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
from manyscale.training.schedule import TrainingSettings, total_steps
from manyscale.writing import disk_errors, remove, whole, write_whole

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = [
    "as_resumed",
    "build_model",
    "dropped_tokens",
    "fit_combination",
    "fit_features",
    "fit_members",
    "fit_network",
    "model_settings",
    "open_data",
    "run_loop",
    "start",
    "train_run",
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
    folder.write_card(card_text(card, "manyscale card, as run"))


def start(network: MultiScaleClassifier, settings: TrainingSettings) -> TakenOver:
    """Give a network, its features fitted, the weights that its training starts from.

    Raises
    ------
    CardError
        Where nothing of the run or base that the card names fits.
    RunError
        Where that folder cannot be read.
    """
    if settings.start == "none":
        return FRESH
    folder = PRETRAINED
    if settings.start != "auto":
        folder = settings.start / "model" if (settings.start / "model").is_dir() else settings.start
    found = take_over(network, load_bundle(folder, base=True).network)
    if found.parameters:
        return TakenOver(found.parameters, tuple(f"start, {line}" for line in found.lines))
    if settings.start != "auto":
        raise CardError(f"training.start: nothing of {folder} fits; " + "; ".join(found.lines))
    return FRESH  # nobody has asked for a base of other streams than a jet's constituents


def fit_members(
    network: MultiScaleClassifier,
    card: Card,
    *,
    train: Dataset,
    validation: Dataset,
    taken: TakenOver = FRESH,
    folder: RunFolder | None = None,
    fabric: "Fabric | None" = None,
) -> list[TrainingState]:
    """Train a network, and of an ensemble the further members, which it then holds; see `fit_network`.

    Member k is what the card would train with the seed `seed` + k - 1, on the same split.
    """
    fabric = make_fabric(card.training) if fabric is None else fabric
    states, others = [], []
    for number in range(1, card.training.ensemble + 1):
        member, of = network, card
        if number > 1:
            of = card.model_copy(update={"seed": card.seed + number - 1})
            member = build_model(of, train.schema)
            member.extractors.load_state_dict(network.extractors.state_dict())
            taken = start(member, card.training)
            others.append(member)
            LOG.info("member %d of %d", number, card.training.ensemble)
        states.append(
            fit_network(
                member,
                of,
                train=train,
                validation=validation,
                taken=taken,
                folder=folder and folder.member(number),
                fabric=fabric,
            )
        )
    if others:
        network.join(others)
    return states


def fit_network(
    network: MultiScaleClassifier,
    card: Card,
    *,
    train: Dataset,
    validation: Dataset,
    taken: TakenOver = FRESH,
    folder: RunFolder | None = None,
    fabric: "Fabric | None" = None,
) -> TrainingState:
    """Train a network whose features are fitted; with a folder, from and to its checkpoints.

    Called in each of the processes that train; network and folder of the first count.

    Parameters
    ----------
    taken
        What the network starts from; see `start`.
    fabric
        As the processes have joined; None: this one is to be set up.

    Raises
    ------
    RunError
        Where the loss is no longer finite, memory runs out, or another process is lost.
    CardError
        Where the card asks for devices that are not there.
    """
    fabric = make_fabric(card.training) if fabric is None else fabric
    rank, world = fabric.global_rank, fabric.world_size
    # The processes hold their shares of the training events, but each all validation events.
    hold(validation, (card.data.memory - memory_of(train) / 1e6) / world)
    held_out = validation.bookkeeping()
    weights = validation.balanced_weights(held_out)

    feed = make_feed(train, network.trim, card.data.memory, card.seed, rank=rank, world=world)

    def validate(signals: Sequence[int]) -> loop.Validation:
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

    return run_loop(
        network, card, feed=feed, validate=validate, fabric=fabric, taken=taken, folder=folder
    )


def run_loop(
    network: MultiScaleClassifier,
    card: Card,
    *,
    feed: Feed,
    validate: Callable[[Sequence[int]], loop.Validation],
    fabric: "Fabric",
    taken: TakenOver = FRESH,
    folder: RunFolder | None = None,
    taps: Taps = NO_TAPS,
) -> TrainingState:
    """Set the training loop up for a card and run it; see `fit_network`.

    Parameters
    ----------
    feed
        Gives the batches.
    validate
        Evaluates the network as it stands; given the signals that have come, it may break off.
    taps
        Changes what the network sees in training.
    """
    settings = card.training
    wrapped = fabric.setup_module(network)
    precision = precision_of(settings, fabric.device.type)
    world = fabric.world_size
    graphed = taps is NO_TAPS and can_graph(network, settings, precision, fabric.device, world)
    # Made once the set-up has brought the weights to their device.
    groups = loop.parameter_groups(
        network, settings.weight_decay, taken.parameters, settings.start_rate
    )
    if graphed:
        for group in groups:
            # A graph reads the learning rate where it was when it was recorded.
            group["lr"] = torch.tensor(settings.learning_rate, device=fabric.device)
    optimizer = torch.optim.AdamW(
        groups,
        lr=settings.learning_rate,
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

    graph = None
    if graphed and feed.events >= settings.batch_size:
        longest = {name: of.max_tokens for name, of in network.settings.streams.items()}
        typical = next(iter(feed.batches(0, settings.batch_size)))
        graph = GraphedStep(
            network.train(), optimizer, typical, longest=longest, clip=settings.clip
        )
    with _deterministic(wanted=settings.deterministic), held() as signals:
        return loop.train(
            wrapped,
            feed,
            settings,
            card.seed,
            fabric=fabric,
            optimizer=stepper,
            validate=partial(validate, signals),
            save=save,
            state=state,
            mirror=mirror_of(network, card) if settings.mirrored else None,
            taps=taps,
            graph=graph,
            signals=signals,
        )


@contextmanager
def _deterministic(*, wanted: bool) -> Iterator[None]:
    """Use only what gives the same bits every time, where that is wanted; name what cannot."""
    before = torch.are_deterministic_algorithms_enabled()
    if wanted:
        # cuBLAS reads it when it is first used.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    try:
        yield
    except RuntimeError as error:
        if not (wanted and "deterministic implementation" in str(error)):
            raise
        said = str(error).split(", but")[0]
        raise RunError(
            f"training.deterministic: {said} on this device; set it to false, or take another one"
        ) from error
    finally:
        torch.use_deterministic_algorithms(before)


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


def mirror_of(network: MultiScaleClassifier, card: Card) -> Mirror:
    """What mirrors the events of a network."""
    return Mirror([network.extractor(name).stream for name in network.settings.streams], card.seed)


# ---- what stands beside the network -----------------------------------------------------------


def fit_combination(
    network: MultiScaleClassifier, trees: Trees, dataset: Dataset
) -> Combination | None:
    """Fit the combination of network and trees on a fixed sample of the validation events.

    Neither was trained on them; that they chose epoch and number of trees matters little. None, and a
    line says why, where they do not allow it.
    """
    validation, beside = dataset.validation, Beside(trees, dataset.schema.streams)
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
