"""The loop: what it trains, what it refuses, and what it tells."""

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from helpers.toys import SCHEMA, toy_events
from helpers.training import assert_same_bits, fitted, trained
from helpers.weights import assert_same_but_for_rounding
from manyscale.card import Card
from manyscale.data.dataset import Dataset
from manyscale.data.feeds import TrainingBatch
from manyscale.errors import RunError
from manyscale.features.columns import to_torch
from manyscale.model import attention
from manyscale.model.classifier import MultiScaleClassifier
from manyscale.model.layers import FusionSettings, StreamSettings
from manyscale.model.presets import resolve
from manyscale.runs.fit import build_model, fit_features, fit_network
from manyscale.runs.folder import RunFolder
from manyscale.training import graph, loop
from manyscale.training.schedule import TrainingSettings


class FakeEvent:
    """An event of a GPU that takes 2 ms from each to the next."""

    recorded = 0

    def __init__(self, *, enable_timing=False):
        self.place = None

    def record(self):
        self.place = FakeEvent.recorded
        FakeEvent.recorded += 1

    def synchronize(self):
        pass

    def elapsed_time(self, later):
        return 2.0 * (later.place - self.place)


def batch_of(events):
    weight = np.ones(len(events), np.float32)
    return TrainingBatch(events.streams, events.label, weight, events.event_id)


def network_steps(network, groups, count=4):
    """State dict after some steps on the same events."""
    optimizer = torch.optim.AdamW(groups, lr=0.01, weight_decay=0.0)
    events = toy_events(1, events=40)
    streams = to_torch(network.trim(events.streams), np.arange(40))
    wide = {name: one._replace(values=one.values.double()) for name, one in streams.items()}
    network.eval()
    for _ in range(count):
        network(wide).square().mean().backward()
        torch.nn.utils.clip_grad_norm_([p for g in groups for p in g["params"]], 0.01)
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
    return network.state_dict()


@pytest.mark.parametrize("pair_bias", [False, True])
def test_same_card_gives_the_same_weights_to_the_bit(pair_bias):
    first, _ = trained(pair_bias=pair_bias)
    second, _ = trained(pair_bias=pair_bias)
    assert_same_bits(first, second)
    # They begin at zero, and have learned.
    assert all(value.any() for name, value in first.items() if ".pairs." in name)


@pytest.mark.parametrize(
    ("streams", "heads", "recorded", "said"),
    [
        ({}, 2, True, 0),
        ({"jet1": StreamSettings(pair_bias=True)}, 2, False, 0),
        ({"jet1": StreamSettings(width=20, heads=4)}, 2, False, 1),
        ({}, 8, False, 1),
    ],
)
def test_steps_are_recorded_only_where_all_attention_is_that_of_packed_rows(
    monkeypatch, streams, heads, recorded, said
):
    """Padded rows are arranged on the host: a graph would keep those of its recording."""
    told = []
    monkeypatch.setattr(attention, "_VARLEN", attention.attend)
    monkeypatch.setattr(attention.LOG, "info", told.append)
    monkeypatch.setattr(graph, "takes_varlen", cache(attention.takes_varlen.__wrapped__))
    fusion = [FusionSettings(query="kinematics", context=("jet1",), heads=heads)]
    network = MultiScaleClassifier(
        resolve("model-2", [one.name for one in SCHEMA.streams], streams, fusion), SCHEMA
    )
    where = ("bf16-mixed", torch.device("cuda"), 1)
    for _ in range(2):
        assert graph.can_graph(network, TrainingSettings(), *where) is recorded
    assert ["heads of width" in line for line in told] == [True] * said
    assert not graph.can_graph(network, TrainingSettings(accumulate=2), *where)


def test_training_learns_and_keeps_the_best_epoch():
    _, state = trained(epochs=8, learning_rate=1e-2, dropout=0.0)
    losses = [row["validation_loss"] for row in state.history]
    assert losses[state.best_epoch - 1] == min(losses)
    assert max(row["validation_auc"] for row in state.history) > 0.75


def test_half_precision_learns_what_single_precision_does():
    single, half = (trained(precision=kind)[1].history for kind in ("32-true", "bf16-mixed"))
    for a, b in zip(single, half, strict=True):
        assert a["train_loss"] != b["train_loss"]  # it is another arithmetic
        assert b["validation_loss"] == pytest.approx(a["validation_loss"], abs=3e-3)
        assert b["validation_auc"] == pytest.approx(a["validation_auc"], abs=5e-3)


def test_max_steps_and_patience_end_a_run():
    _, state = trained(max_steps=4)
    assert (state.step, state.epoch) == (4, 1)
    _, state = trained(epochs=50, patience=2, learning_rate=0.3)
    assert state.epoch < 50
    assert state.epoch - state.best_epoch == 2


def test_a_gradient_that_is_not_finite_never_reaches_the_weights(tmp_path):
    """Before, such a gradient in the last step of an epoch made a checkpoint of NaN."""
    events = toy_events(1, events=200)
    data = Dataset.from_events(SCHEMA, events)
    card = Card(training=TrainingSettings(epochs=2, batch_size=32))
    network = build_model(card, SCHEMA)
    fit_features(network, data.train)
    bad = np.flatnonzero(events.event_id == data.train.event_ids[7])[0]
    token = events.streams["jet1"].offsets[bad]
    events.streams["jet1"].values[token, SCHEMA.stream("jet1").columns.index("pt")] = np.nan
    with pytest.raises(RunError, match="the gradient is not finite in epoch 1") as told:
        fit_network(
            network, card, train=data.train, validation=data.validation, folder=RunFolder(tmp_path)
        )
    aside = Dataset.open(tmp_path / "not_finite").events()
    assert len(aside) == 32
    assert events.event_id[bad] in aside.event_id
    assert np.isin(aside.event_id, data.train.event_ids).all()
    place = f"'log_pt' of stream 'jet1' in event {events.event_id[bad]}: by inf"
    assert place in str(told.value)
    assert all(torch.isfinite(value).all() for value in network.state_dict().values())


def test_events_of_extreme_weight_are_named():
    """Weights of both signs that all but cancel make the balanced ones of a few events huge."""
    events = toy_events(1, events=200)
    train = Dataset.from_events(SCHEMA, events).train.events()
    first, second = train.event_id[train.label == 1][:2]
    for event_id, weight in ((first, 1e36), (second, -1e36)):
        events.weight[events.event_id == event_id] = weight
    card = Card(training=TrainingSettings(epochs=1, batch_size=200))
    with pytest.raises(RunError, match="the largest losses are those of events") as told:
        fitted(card, Dataset.from_events(SCHEMA, events))
    assert all(f"{one} (weight" in str(told.value) for one in (first, second))


def test_on_a_gpu_the_last_step_of_an_epoch_is_looked_at_too(monkeypatch):
    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    monkeypatch.setattr(torch, "empty", lambda *size, pin_memory: torch.zeros(*size))  # noqa: PLW0108
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(3))], fused=True)
    watch = loop._GradientWatch(optimizer, torch.device("cuda"))
    good, bad = torch.tensor(1.0), torch.tensor(torch.nan)
    assert watch.see(good, "first") is None
    assert optimizer.found_inf == 0
    assert watch.see(bad, "second") is None
    assert optimizer.found_inf == 1
    assert watch.see(good, "third") == "second"
    assert watch.see(bad, "fourth") is None
    assert watch.last() == "fourth"
    assert watch.last() is None


def test_only_the_matrices_of_linear_layers_decay():
    network = build_model(Card(streams={"kinematics": {"positions": True}}), SCHEMA)
    before = {name: value.clone() for name, value in network.named_parameters()}
    groups = loop.parameter_groups(network, 0.5)
    optimizer = torch.optim.AdamW(groups, lr=0.1, fused=True)
    optimizer.step()
    for name, value in network.named_parameters():
        # Without a gradient nothing but the decay moves a weight.
        kept = 1 if name.endswith((".bias", "embedding", "positions.weight")) else 1 - 0.1 * 0.5
        torch.testing.assert_close(value, kept * before[name], msg=name)


def test_weights_in_two_arrays_train_as_they_would_alone():
    plain, flat = (build_model(Card(), SCHEMA).double() for _ in range(2))
    states = network_steps(plain, [{"params": list(plain.parameters())}])
    assert_close = torch.testing.assert_close
    for name, value in network_steps(flat, loop.parameter_groups(flat, 0.0)).items():
        assert_close(value, states[name], msg=name)


def test_event_weights_count_in_the_loss():
    events = toy_events(1, events=200)
    signal_first = np.where(events.streams["jet1"].counts > 5, 5.0, 1.0)
    dataset = Dataset.from_events(SCHEMA, events)
    weighted = Dataset.from_events(SCHEMA, replace(events, weight=signal_first))
    card = Card(training=TrainingSettings(epochs=1, batch_size=64))
    found = [fitted(card, data)[0]["head.layers.0.weight"] for data in (dataset, weighted)]
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
    (part,) = loop._parts(batch_of(events).take(np.arange(0)), 3)
    network = build_model(Card(streams={"jet1": StreamSettings(pair_bias=True)}), SCHEMA)
    batch, label, weight = loop._on_device(part, torch.device("cpu"))
    losses = torch.nn.functional.cross_entropy(network(batch), label, reduction="none")
    (weight * losses).sum().backward()
    assert torch.isfinite(losses).all()
    # The other processes wait for each gradient.
    gradients = [parameter.grad for parameter in network.parameters()]
    assert all(gradient is not None and not gradient.any() for gradient in gradients)


def test_parts_hold_each_event_once_and_none_is_empty():
    events = toy_events(1, events=10)
    for count in (1, 3, 10, 11):
        parts = loop._parts(batch_of(events), count)
        sizes = [len(part) for part in parts]
        assert len(parts) == min(count, 10)
        assert max(sizes) - min(sizes) <= 1
        assert (
            np.concatenate([part.event_id for part in parts]).tolist() == events.event_id.tolist()
        )
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


def test_an_operation_that_is_not_deterministic_is_named(monkeypatch):
    def without_order(*arguments):
        return torch.zeros(3).put_(torch.tensor([0]), torch.ones(1))

    monkeypatch.setattr(MultiScaleClassifier, "forward", without_order)
    with pytest.raises(RunError, match=r"training.deterministic: put_ does not have .*false"):
        trained(deterministic=True)
    assert not torch.are_deterministic_algorithms_enabled()


def test_deterministic_algorithms_train_and_are_left_again():
    weights, _ = trained(deterministic=True, max_steps=2)
    plain, _ = trained(max_steps=2)
    assert not torch.are_deterministic_algorithms_enabled()
    assert_same_but_for_rounding(weights, plain)


def test_phases_on_a_cpu_add_up_to_the_time_between_first_and_last_mark(monkeypatch):
    times = iter([10.0, 11.0, 13.0, 13.5, 17.5])
    monkeypatch.setattr(loop.time, "perf_counter", lambda: next(times))
    measured = loop.Clock(torch.device("cpu"))
    for phase in ("data", "forward", "data", "optimizer"):
        measured.mark(phase)
    assert measured.seconds() == {
        "data_seconds": 1.5,
        "forward_seconds": 2.0,
        "backward_seconds": 0.0,
        "optimizer_seconds": 4.0,
    }


def test_phases_on_a_gpu_are_read_from_its_events_and_none_is_lost(monkeypatch):
    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    monkeypatch.setattr(loop.Clock, "_WAITING", 5)
    measured = loop.Clock(torch.device("cuda"))
    for _ in range(10):
        for phase in ("data", "forward", "backward", "optimizer"):
            measured.mark(phase)
    assert len(measured._marks) == 5
    for seconds in measured.seconds().values():
        assert seconds == pytest.approx(10 * 2e-3)
