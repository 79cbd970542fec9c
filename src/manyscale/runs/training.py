"""Training a card into a run folder."""

import shutil
from pathlib import Path

import numpy as np
import torch

from manyscale.card import Card, card_text, load_card
from manyscale.data.dataset import Dataset
from manyscale.data.sampling import epoch_order
from manyscale.deployment.bundle import save_bundle
from manyscale.deployment.inference import class_probabilities
from manyscale.errors import CardError, RunError
from manyscale.evaluation.summaries import summaries
from manyscale.evaluation.trees import MOST_EVENTS, Table, Trees
from manyscale.features.extractor import FeatureExtractor
from manyscale.model.classifier import MultiScaleClassifier
from manyscale.model.summary import summarise
from manyscale.progress import Progress, Silent
from manyscale.reporting.flow_chart import flow_chart
from manyscale.runs.building import build_model, dropped_tokens, fit_features, open_data
from manyscale.runs.folder import RunFolder, write_json
from manyscale.statistics.metrics import auc, log_loss
from manyscale.training import checkpoint
from manyscale.training.checkpoint import TrainingState
from manyscale.training.schedule import TrainingSettings

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

    Raises
    ------
    RunError
        Where the folder is taken, or the card differs from that of the run to be resumed.
    CardError, DataError
        Where card and data do not fit together.
    """
    progress = progress or Silent()
    folder = RunFolder(Path(root))
    if resume and folder.card.is_file():
        _check_same(card, folder)
        if folder.model.is_dir():
            return folder
    card = _with_absolute_paths(card)
    check_device(card.training)
    dataset = open_data(card, most=card.data.max_events)
    network = build_model(card, dataset.schema)
    for part in (dataset, dataset.train, dataset.validation, dataset.test):
        part.require_classes()
        part.balanced_weights(part.events())
    fit_features(network, dataset.train.events())

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

    draft = folder.root / "model.tmp"
    save_bundle(draft, network)
    if trees_from is not None:
        shutil.copy(trees_from.trees, draft / folder.trees.name)
    else:
        progress.say("training the boosted trees")
        trees = _fit_trees(dataset.train, dataset.validation, card.seed)
        trees.save(draft / folder.trees.name)
    draft.rename(folder.model)
    return folder


def check_device(settings: TrainingSettings) -> None:
    """Refuse, before anything is written, a device or precision that this machine does not have.

    Raises
    ------
    CardError
        Where a GPU is asked for and there is none, or half precision without one.
    """
    gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
    if settings.accelerator == "gpu" and not gpu:
        raise CardError("training.accelerator is gpu, but torch finds none here: use auto or cpu")
    if settings.precision == "16-mixed" and (settings.accelerator == "cpu" or not gpu):
        raise CardError("training.precision 16-mixed needs a GPU: use bf16-mixed or 32-true")


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
        "dropped_tokens": dropped_tokens(network, dataset.train.events()),
        "notices": list(dataset.notices),
    }
    write_json(folder.root / "data.json", facts)
    summary = summarise(network)
    write_json(folder.summary, summary.as_dict())
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
    """Train a network whose features are fitted; with a folder, from and to its checkpoints."""
    # Fabric takes as long to import as torch; only training pays for it.
    from lightning_fabric import Fabric  # noqa: PLC0415

    from manyscale.training import loop  # noqa: PLC0415

    settings, progress = card.training, progress or Silent()
    fabric = Fabric(accelerator=settings.accelerator, devices=1, precision=settings.precision)
    optimizer = torch.optim.AdamW(
        network.parameters(),
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        fused=True,
    )
    wrapped, stepper = fabric.setup(network, optimizer)
    # Behind the set-up, so that the optimizer's state lands on the device of its weights.
    state = TrainingState()
    if folder is not None and (last := checkpoint.latest(folder.checkpoints)) is not None:
        state = checkpoint.load(last, network, optimizer)
        progress.say(f"going on behind epoch {state.epoch}")
    held_out = validation.events()
    judged = network.trim(held_out.streams)
    judged_weights = validation.balanced_weights(held_out)

    def validate() -> loop.Validation:
        signal = class_probabilities(network, judged)[:, 1]
        return loop.Validation(
            loss=log_loss(held_out.label, signal, judged_weights),
            auc=auc(held_out.label, signal, judged_weights),
        )

    def save(state: TrainingState) -> None:
        if folder is not None:
            checkpoint.save(folder.checkpoints, state, network, optimizer)
            folder.write_history(state.history)

    events = train.events()
    weights = train.balanced_weights(events)
    data = loop.TrainingEvents(
        network.trim(events.streams),
        events.label,
        (weights / weights.mean()).astype(np.float32),
    )
    return loop.train(
        wrapped,
        data,
        settings,
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

    def table(part: Dataset) -> tuple[Table, tuple[str, ...]]:
        events = part.events()
        weights = part.balanced_weights(events)
        # Drawn before they are summarised: the summaries of all might not fit in memory.
        chosen = epoch_order(len(events), seed, 0)[:MOST_EVENTS]
        events = events.take(chosen)
        matrix, names = summaries(events, extractors)
        return Table(matrix, events.label, weights[chosen]), names

    watched, names = table(validation)
    return Trees.fit(table(train)[0], watched, names, seed=seed)
