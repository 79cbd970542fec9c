"""Small trainings, and ways to break them off."""

from contextlib import contextmanager

import pytest
import torch

from helpers.toys import SCHEMA, toy_events
from manyscale.card import Card
from manyscale.data.dataset import Dataset
from manyscale.model.layers import FusionSettings, HeadSettings, StreamSettings
from manyscale.runs.fit import build_model, fit_features, fit_network
from manyscale.training import loop
from manyscale.training.schedule import TrainingSettings, learning_rate


@contextmanager
def interrupted_after(steps):
    """Break the training in the block off after so many steps, as a kill does, and expect it."""

    def stopping(step, *arguments):
        if step == steps:
            raise KeyboardInterrupt
        return learning_rate(step, *arguments)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):  # noqa: PT012
        patch.setattr(loop, "learning_rate", stopping)
        yield


def trained(folder=None, *, dropout=0.1, pair_bias=False, **settings):
    """Weights and state of a small run; the same for the same arguments."""
    streams = {
        name: StreamSettings(
            width=8, layers=1, dropout=dropout, encoder="jets", pair_bias=pair_bias
        )
        for name in ("jet1", "jet2")
    }
    streams["kinematics"] = StreamSettings(dropout=dropout)
    training = TrainingSettings(**{"epochs": 3, "batch_size": 32, **settings})
    context = ("jet1", "jet2")
    card = Card(
        preset="model-2",
        streams=streams,
        fusion=(FusionSettings(query="kinematics", context=context, dropout=dropout),),
        head=HeadSettings(dropout=dropout),
        training=training,
    )
    dataset = Dataset.from_events(SCHEMA, toy_events(1, events=200, learnable=True))
    return fitted(card, dataset, folder)


def fitted(card, dataset, folder=None):
    """Weights and state of the network of a card, trained on a dataset."""
    network = build_model(card, dataset.schema)
    fit_features(network, dataset.train)
    state = fit_network(
        network, card, train=dataset.train, validation=dataset.validation, folder=folder
    )
    return network.state_dict(), state


def learned(state):
    """The history without what depends on the machine's mood."""
    kept = ("epoch", "train_loss", "validation_loss", "validation_auc", "learning_rate")
    return [{key: row[key] for key in kept} for row in state.history]


def assert_same_bits(first, second):
    """Two state dicts hold the same bits."""
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
