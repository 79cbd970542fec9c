import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers.toys import SCHEMA, toy_events
from manyscale.card import Card
from manyscale.data.dataset import Dataset
from manyscale.errors import RunError
from manyscale.model.encoder import StreamSettings
from manyscale.progress import Silent
from manyscale.runs.building import build_model, fit_features
from manyscale.runs.folder import RunFolder
from manyscale.runs.training import fit_network
from manyscale.training import checkpoint
from manyscale.training.schedule import TrainingSettings


class StopAfter(Silent):
    """Raises what Ctrl-C raises after so many steps."""

    def __init__(self, steps):
        self.left = steps

    def advance(self, units, note=""):
        self.left -= units
        if self.left < 0:
            raise KeyboardInterrupt


def trained(folder=None, progress=None, *, dropout=0.1, **settings):
    """Weights and history of a small run; the same for the same arguments."""
    streams = {
        name: StreamSettings(width=8, layers=1, dropout=dropout, encoder="jets")
        for name in ("jet1", "jet2")
    }
    training = TrainingSettings(**{"epochs": 3, "batch_size": 32, **settings})
    card = Card(preset="model-2", streams=streams, training=training)
    dataset = Dataset.from_events(SCHEMA, toy_events(1, events=200, learnable=True))
    network = build_model(card, dataset.schema)
    train = dataset.train.events()
    fit_features(network, train)
    state = fit_network(
        network,
        card,
        train=dataset.train,
        validation=dataset.validation,
        folder=folder,
        progress=progress,
    )
    return network.state_dict(), state


def assert_same_bits(first, second):
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def test_same_card_gives_the_same_weights_to_the_bit():
    first, _ = trained()
    second, _ = trained()
    assert_same_bits(first, second)


@pytest.mark.parametrize("steps", [2, 7, 11])
def test_a_killed_run_resumed_gives_the_same_bits(tmp_path, steps):
    whole, whole_state = trained()
    folder = RunFolder(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        trained(folder, StopAfter(steps))
    resumed, state = trained(folder)
    assert_same_bits(whole, resumed)
    strip = [{k: v for k, v in row.items() if k != "events_per_second"} for row in state.history]
    assert strip == [
        {k: v for k, v in row.items() if k != "events_per_second"} for row in whole_state.history
    ]


def test_training_learns_and_keeps_the_best_epoch():
    _, state = trained(epochs=8, learning_rate=1e-2, dropout=0.0)
    losses = [row["validation_loss"] for row in state.history]
    assert losses[state.best_epoch - 1] == min(losses)
    assert max(row["validation_auc"] for row in state.history) > 0.75


def test_max_steps_and_patience_end_a_run():
    _, state = trained(max_steps=4)
    assert (state.step, state.epoch) == (4, 1)
    _, state = trained(epochs=50, patience=2, learning_rate=0.3)
    assert state.epoch < 50
    assert state.epoch - state.best_epoch == 2


def test_loss_that_is_not_finite_names_the_epoch_and_what_to_do():
    events = toy_events(1, events=200)
    heavy = replace(events, weight=np.where(np.arange(200) == 7, 1e300, 1.0))
    dataset = Dataset.from_events(SCHEMA, heavy)
    card = Card(training=TrainingSettings(epochs=1, batch_size=32, learning_rate=1e30, clip=1e30))
    network = build_model(card, SCHEMA)
    train = dataset.train.events()
    fit_features(network, train)
    with pytest.raises(RunError, match=r"training loss is .* in epoch 1: lower"):
        fit_network(network, card, train=dataset.train, validation=dataset.validation)


def test_checkpoints_hold_no_pickle_and_a_damaged_one_is_named(tmp_path):
    folder = RunFolder(tmp_path)
    trained(folder, epochs=1)
    last = checkpoint.latest(folder.checkpoints)
    assert last is not None
    assert {path.suffix for path in last.iterdir()} == {".safetensors", ".json"}
    numbers = json.loads((last / "state.json").read_text(encoding="utf-8"))
    assert numbers["epoch"] == 1
    (last / "optimizer.safetensors").write_bytes(b"cut short")
    with pytest.raises(RunError, match="cannot be resumed from"):
        trained(folder, epochs=1)


def test_half_written_checkpoint_is_no_checkpoint(tmp_path):
    (tmp_path / "epoch-00001").mkdir()
    (tmp_path / "epoch-00002.tmp").mkdir()
    assert checkpoint.latest(tmp_path) == tmp_path / "epoch-00001"


def test_event_weights_count_in_the_loss():
    events = toy_events(1, events=200)
    signal_first = np.where(events.streams["jet1"].counts > 5, 5.0, 1.0)
    dataset = Dataset.from_events(SCHEMA, events)
    weighted = Dataset.from_events(SCHEMA, replace(events, weight=signal_first))
    card = Card(training=TrainingSettings(epochs=1, batch_size=64))
    found = []
    for data in (dataset, weighted):
        network = build_model(card, SCHEMA)
        train = data.train.events()
        fit_features(network, train)
        fit_network(network, card, train=data.train, validation=data.validation)
        found.append(network.head.layers[0].weight.detach().clone())
    assert not torch.equal(found[0], found[1])
