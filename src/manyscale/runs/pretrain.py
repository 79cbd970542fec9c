"""A base: a network that has learned many processes, from whose weights other trainings start."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from manyscale.card import Card, card_text
from manyscale.data.dataset import Dataset
from manyscale.data.feeds import MemoryFeed, TrainingBatch
from manyscale.data.packing import PackedEvents
from manyscale.deployment.bundle import save_bundle
from manyscale.deployment.predict import class_probabilities
from manyscale.errors import DataError
from manyscale.features.extractor import FeatureExtractor
from manyscale.model.classifier import MultiScaleClassifier
from manyscale.model.layout import Layout
from manyscale.model.taps import Taps
from manyscale.progress import LOG
from manyscale.runs.fit import fit_features, model_settings, open_data, run_loop
from manyscale.runs.folder import RunFolder
from manyscale.runs.train import as_resumed
from manyscale.statistics.metrics import auc
from manyscale.training import loop
from manyscale.training.distributed import make_fabric, refuse_launcher
from manyscale.writing import disk_errors

__all__ = ["HiddenFeatures", "pretrain_base"]

#: What data of another detector or format may lack, each hidden from so many of the events.
_GROUPS = (
    {"particle_class", "charge", "is_charged", "is_photon", "is_neutral_hadron"},
    {"log_energy", "log_energy_rel"},
    {"log_pt_rel", "log_energy_rel"},
    {"log_pt", "log_energy"},
    {"delta_r"},
    {"d0", "dz"},
    {"n_btags"},
    {"multiplicity", "width"},
)
_HIDDEN = 0.1


class HiddenFeatures(Taps):
    """Hides groups of features from whole events at random, as if the data did not have them.

    A hidden feature is zero, its mean; so is, without a further weight, one that a network which starts
    from the base does not have.
    """

    def __init__(self, network: MultiScaleClassifier) -> None:
        self._groups = {
            name: _members(network.extractor(name), network.encoder(name).embedding.sizes)
            for name in network.settings.streams
        }

    def inputs(self, stream: str, rows: Tensor, layout: Layout) -> Tensor:
        """Replace what the embedding of a stream is given."""
        groups = self._groups[stream].to(rows.device)
        hidden = torch.rand(layout.events, len(groups), device=rows.device) < _HIDDEN
        # A feature is seen where none of its groups is hidden.
        seen = (hidden.to(rows.dtype) @ groups == 0).to(rows.dtype)
        return rows * seen.index_select(0, layout.event_of_row)


def _members(extractor: FeatureExtractor, sizes: tuple[int, ...]) -> Tensor:
    """(groups, inputs): 1 where an input of the embedding belongs to a group."""
    names = [*extractor.numbers]
    for name, size in zip(extractor.classes, sizes, strict=True):
        names += [name] * size
    names.append("")  # the flag of class tokens is never hidden
    return torch.tensor([[float(name in group) for name in names] for group in _GROUPS])


def pretrain_base(card: Card, root: Path | str, *, resume: bool = False) -> Path:
    """Train a network to tell all processes of a dataset apart; return its model folder.

    Each process counts as much as any other, and so does each of its events: cross sections and
    weights say how often something happens, not what it looks like. The training events are held in
    memory.

    Parameters
    ----------
    card
        Its data, network and training; `evaluation` means nothing here.
    root
        The base's folder, laid out as that of a run.
    resume
        Go on from the last epoch.

    Raises
    ------
    RunError
        Where the folder holds something else, or was begun with another card.
    CardError, DataError
        Where card and data do not fit together, or there are fewer than two processes.
    """
    refuse_launcher("pretrain")
    folder = RunFolder(Path(root))
    # One process; and a base is where others start from.
    alone = {"devices": 1, "start": "none", "ensemble": 1}
    card = card.model_copy(update={"training": card.training.model_copy(update=alone)})
    dataset = open_data(card, most=card.data.max_events)
    names = [process.name for process in dataset.schema.processes]
    if len(names) < 2:
        raise DataError(f"a base learns to tell processes apart; {dataset.source} has only one")
    settings = model_settings(card, dataset.schema)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(card.seed)
        network = MultiScaleClassifier(settings, dataset.schema, len(names))
    fit_features(network, dataset.train)
    train, held_out = (
        _by_process(network, part, names) for part in (dataset.train, dataset.validation)
    )

    def validate(signals: Sequence[int]) -> loop.Validation:  # noqa: ARG001 - it is short
        found = class_probabilities(network, held_out.streams).astype(np.float64)
        of_true = found[np.arange(len(found)), held_out.label]
        # Of each process against all others.
        aucs = [auc(held_out.label == n, found[:, n], held_out.weight) for n in range(len(names))]
        return loop.Validation(
            loss=float(np.average(-np.log(np.maximum(of_true, 1e-30)), weights=held_out.weight)),
            auc=float(np.mean(aucs)),
        )

    with disk_errors(folder.root), folder.claimed(resume=resume):
        if folder.card.is_file():
            as_resumed(card, folder.read_card(), folder.root, longer=False)
        folder.write_card(card_text(card, "manyscale pretrain, as run"))
        folder.write_provenance({"source": dataset.source, "events": len(dataset)})
        state = run_loop(
            network,
            card,
            feed=MemoryFeed(train, len(train), card.seed),
            validate=validate,
            fabric=make_fabric(card.training),
            folder=folder,
            taps=HiddenFeatures(network),
        )
        LOG.info(
            "best epoch %d: loss %.4f, mean AUC of each process against the others %.4f",
            state.best_epoch,
            state.best_loss,
            state.history[state.best_epoch - 1]["validation_auc"],
        )
        save_bundle(folder.model, network, classes=names)
        return folder.model


def _by_process(network: MultiScaleClassifier, part: Dataset, names: list[str]) -> TrainingBatch:
    """The events with their process as label, weighted so that all processes count alike."""
    events: PackedEvents = part.restricted(streams=list(network.settings.streams)).events()
    counts = np.bincount(events.process, minlength=len(names))
    if not counts.all():
        raise DataError(f"of {names[int(counts.argmin())]} there are no events to learn from")
    weight = (len(events) / len(names) / counts)[events.process].astype(np.float32)
    return TrainingBatch(network.trim(events.streams), events.process, weight, events.event_id)
