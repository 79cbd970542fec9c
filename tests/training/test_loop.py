import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers.toys import SCHEMA, toy_events
from helpers.weights import assert_same_but_for_rounding
from manyscale.card import Card
from manyscale.data.dataset import Dataset
from manyscale.data.feed import TrainingBatch
from manyscale.errors import RunError
from manyscale.model.classifier import MultiScaleClassifier
from manyscale.model.layers import StreamSettings
from manyscale.progress import Silent
from manyscale.runs.building import build_model, fit_features
from manyscale.runs.folder import RunFolder
from manyscale.runs.training import fit_network
from manyscale.training import checkpoint, loop
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
    fit_features(network, dataset.train)
    state = fit_network(
        network,
        card,
        train=dataset.train,
        validation=dataset.validation,
        folder=folder,
        progress=progress,
    )
    return network.state_dict(), state


def learned(state):
    """The history without what depends on the machine's mood."""
    kept = ("epoch", "train_loss", "validation_loss", "validation_auc", "learning_rate")
    return [{key: row[key] for key in kept} for row in state.history]


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
    assert learned(state) == learned(whole_state)


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
    fit_features(network, dataset.train)
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
        fit_features(network, data.train)
        fit_network(network, card, train=data.train, validation=data.validation)
        found.append(network.head.layers[0].weight.detach().clone())
    assert not torch.equal(found[0], found[1])


@pytest.mark.parametrize("parts", [3, 50])
def test_a_step_in_parts_gives_the_same_result(parts):
    whole, whole_state = trained(dropout=0.0, max_steps=6)
    divided, state = trained(dropout=0.0, max_steps=6, accumulate=parts)
    assert_same_but_for_rounding(whole, divided)
    for ours, theirs in zip(state.history, whole_state.history, strict=True):
        assert ours["train_loss"] == pytest.approx(theirs["train_loss"], rel=1e-5)


def test_an_epoch_tells_where_its_time_went():
    _, state = trained(epochs=1)
    (row,) = state.history
    phases = ("data", "forward", "backward", "optimizer", "validation")
    assert all(row[f"{phase}_seconds"] > 0 for phase in phases)
    assert row["peak_memory_mb"] > 10
    assert all(math.isfinite(value) for value in row.values())


def test_a_process_without_events_gets_an_event_that_counts_nothing():
    events = toy_events(1)
    streams = {name: stream.take(np.arange(0)) for name, stream in events.streams.items()}
    (part,) = loop._parts(TrainingBatch(streams, events.label[:0], np.zeros(0, np.float32)), 3)
    network = build_model(Card(), SCHEMA)
    batch, label, weight = loop._on_device(part, torch.device("cpu"))
    losses = torch.nn.functional.cross_entropy(network(batch), label, reduction="none")
    (weight * losses).sum().backward()
    assert torch.isfinite(losses).all()
    # The other processes wait for each gradient.
    gradients = [parameter.grad for parameter in network.parameters()]
    assert all(gradient is not None and not gradient.any() for gradient in gradients)


def test_parts_hold_each_event_once_and_none_is_empty():
    events = toy_events(1, events=10)
    weight = np.arange(10, dtype=np.float32)
    for count in (1, 3, 10, 11):
        parts = loop._parts(TrainingBatch(events.streams, events.label, weight), count)
        sizes = [len(part.label) for part in parts]
        assert len(parts) == min(count, 10)
        assert max(sizes) - min(sizes) <= 1
        assert np.concatenate([part.weight for part in parts]).tolist() == weight.tolist()
        assert [len(part.streams["jet1"]) for part in parts] == sizes


def test_each_process_and_step_has_its_own_dropout():
    def drawn(seed, step, rank):
        loop._seed_dropout(seed, step, rank, torch.device("cpu"))
        return torch.rand(8).tolist()

    assert drawn(1, 2, 0) == drawn(1, 2, 0)
    different = [drawn(1, 2, 0), drawn(1, 2, 1), drawn(1, 3, 0), drawn(2, 2, 0)]
    assert len({tuple(numbers) for numbers in different}) == 4


@pytest.mark.parametrize(
    ("error", "settings", "said"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"),
            {},
            r"with 32 events at a time.*accumulate=2 .* in parts of 16 .*batch_size=16 ",
        ),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate"),
            {"accumulate": 4},
            r"with 8 events at a time.*accumulate=8 .* in parts of 4 .*batch_size=16 ",
        ),
        (MemoryError(), {"batch_size": 1}, "a smaller width or max_tokens"),
    ],
)
def test_out_of_memory_says_what_would_fit(monkeypatch, error, settings, said):
    def too_much(*arguments):
        raise error

    monkeypatch.setattr(MultiScaleClassifier, "forward", too_much)
    with pytest.raises(RunError, match=said):
        trained(**settings)


def test_other_faults_of_a_step_stay_what_they_are(monkeypatch):
    def wrong(*arguments):
        raise RuntimeError("a shape is wrong")

    monkeypatch.setattr(MultiScaleClassifier, "forward", wrong)
    with pytest.raises(RuntimeError, match="a shape is wrong"):
        trained()


def test_deterministic_algorithms_train_and_are_left_again():
    weights, _ = trained(deterministic=True, max_steps=2)
    plain, _ = trained(max_steps=2)
    assert not torch.are_deterministic_algorithms_enabled()
    assert_same_but_for_rounding(weights, plain)
