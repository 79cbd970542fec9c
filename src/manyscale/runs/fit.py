"""From a card to its data and network, and the network fitted to the training events."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from manyscale.card import Card
from manyscale.data.dataset import Dataset
from manyscale.data.feeds import Feed
from manyscale.data.folder_feed import hold, make_feed, memory_of
from manyscale.data.mirror import Mirror
from manyscale.data.npz import read_npz
from manyscale.data.packing import PackedEvents
from manyscale.deployment.bundle import PRETRAINED, load_bundle
from manyscale.deployment.predict import CHUNK, predict
from manyscale.errors import CardError, RunError
from manyscale.features.columns import StreamBatch
from manyscale.features.extractor import FeatureExtractor, standardise
from manyscale.interrupts import held
from manyscale.model.classifier import ModelSettings, MultiScaleClassifier
from manyscale.model.layers import without_onednn
from manyscale.model.presets import resolve
from manyscale.model.start import FRESH, TakenOver, take_over
from manyscale.model.taps import NO_TAPS, Taps
from manyscale.progress import LOG
from manyscale.runs.folder import RunFolder
from manyscale.schema import Schema
from manyscale.statistics.metrics import auc, log_loss
from manyscale.training import checkpoint, loop
from manyscale.training.checkpoint import TrainingState
from manyscale.training.distributed import (
    broadcast_weights,
    check_same_step,
    interleave,
    make_fabric,
    precision_of,
)
from manyscale.training.graph import GraphedStep, can_graph
from manyscale.training.schedule import TrainingSettings

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = [
    "build_model",
    "dropped_tokens",
    "fit_features",
    "fit_members",
    "fit_network",
    "mirror_of",
    "model_settings",
    "open_data",
    "run_loop",
    "start",
]


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
        Where the loss is no longer finite, memory runs out, or another process is lost. In the first
        case a folder gets the events of that step as a dataset, `not_finite`.
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

    try:
        return run_loop(
            network, card, feed=feed, validate=validate, fabric=fabric, taken=taken, folder=folder
        )
    except loop.NotFiniteError as error:
        if folder is None:
            raise
        aside = folder.root / ("not_finite" if world == 1 else f"not_finite-{rank}")
        if not aside.exists():
            parts = [
                events.take(np.flatnonzero(np.isin(events.event_id, error.event_id)))
                for events in train.chunks(CHUNK)
            ]
            Dataset.from_events(train.schema, PackedEvents.concatenate(parts)).write(aside)
        raise RunError(f"{error}. The events of this step are in the dataset {aside}") from None


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
    # Without it bf16 is slow on CPUs.
    kernels = without_onednn() if precision == "32-true" else nullcontext()
    with kernels, _deterministic(wanted=settings.deterministic), held() as signals:
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


def mirror_of(network: MultiScaleClassifier, card: Card) -> Mirror:
    """What mirrors the events of a network."""
    return Mirror([network.extractor(name).stream for name in network.settings.streams], card.seed)
