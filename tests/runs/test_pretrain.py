"""A base from the command that makes it to the runs that start from it."""

import json

import numpy as np
import pytest
import torch

import manyscale as ms
from helpers.commands import run, toy_dataset, write_parts
from helpers.networks import network_of
from helpers.toys import SCHEMA, toy_events
from helpers.training import assert_same_bits, interrupted_after
from manyscale.card import Card
from manyscale.deployment.bundle import PRETRAINED, load_bundle
from manyscale.errors import CardError, RunError
from manyscale.features.columns import to_torch
from manyscale.model.start import FRESH
from manyscale.model.taps import Taps
from manyscale.runs.fit import start
from manyscale.runs.pretrain import _GROUPS, HiddenFeatures, pretrain_base
from manyscale.schema import StreamSchema
from manyscale.training.schedule import TrainingSettings

TEXT = """
preset: concatenation
data: {dataset: data, streams: [jet1, jet2]}
streams: {jet1: &jet {encoder: jets, width: 8, layers: 1}, jet2: *jet}
training: {epochs: 2, batch_size: 32}
"""


@pytest.fixture
def card(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    toy_dataset(tmp_path / "data")
    (tmp_path / "base.yaml").write_text(TEXT)
    return tmp_path / "base.yaml"


def test_a_base_is_made_and_a_run_starts_from_it(card, capsys, monkeypatch):
    done = run(capsys, monkeypatch, "pretrain", card, "--out", "base")
    assert done.code == 0, done.err
    assert "start from it by training.start: base" in done.out
    assert json.loads((card.parent / "base/model/config.json").read_text())["classes"] == [
        "hh4b",
        "qcd",
    ]
    card.write_text(
        TEXT.replace("streams: [jet1, jet2]", "").replace("{dataset: data, }", "{dataset: data}")
    )
    done = run(
        capsys, monkeypatch, "train", card, "--out", "run", "--no-plots", "--set", "training.start=base"
    )  # fmt: skip
    assert done.code == 0, done.err
    said = "start, jet1, jet2: 1 of 1 layers and 9 features of the base's jet1"
    assert said in done.err
    assert said in (card.parent / "run/log.txt").read_text()
    # A base scores no events.
    done = run(capsys, monkeypatch, "predict", "base", "data", "--out", "scores.npz")
    assert done.code == 1
    assert "is a base of `manyscale pretrain`" in done.err


def test_an_ended_pretraining_is_resumed_to_the_same_bits(card):
    chosen = ms.load_card(card)
    pretrain_base(chosen, "whole")
    with interrupted_after(9):
        pretrain_base(chosen, "ended")
    with pytest.raises(RunError, match="already holds a run: add --resume"):
        pretrain_base(chosen, "ended")
    pretrain_base(chosen, "ended", resume=True)
    first, second = (load_bundle(f"{name}/model", base=True) for name in ("whole", "ended"))
    assert_same_bits(first.network.state_dict(), second.network.state_dict())
    other = chosen.model_copy(update={"seed": 2})
    with pytest.raises(RunError, match="was begun with another card"):
        pretrain_base(other, "ended", resume=True)


def test_one_process_is_refused(card, tmp_path):
    one = SCHEMA.model_copy(update={"processes": SCHEMA.processes[:1]})
    events = toy_events(1)
    write_parts(tmp_path / "one", one, events.take(np.flatnonzero(events.process == 0)))
    chosen = ms.load_card(card, ["data.dataset=one"])
    with pytest.raises(ms.ManyscaleError, match="a base learns to tell processes apart"):
        pretrain_base(chosen, "base")
    assert not (tmp_path / "base").exists()


def test_hidden_groups_are_hidden_from_whole_events_and_class_tokens_stay():
    network = network_of("concatenation")
    seen = []

    class Recorder(Taps):
        def inputs(self, stream, rows, layout):
            hidden = HiddenFeatures(network).inputs(stream, rows, layout)
            if stream == "jet1":
                seen.append((rows, hidden, layout))
            return hidden

    events = toy_events(2, events=400)
    torch.manual_seed(0)
    network(to_torch(network.trim(events.streams), np.arange(400)), Recorder())
    (before, after, layout), *_ = seen
    assert torch.equal(layout.class_rows(after), layout.class_rows(before))
    names = network.extractor("jet1").numbers
    tokens = layout.token_rows[layout.index == 0]  # one an event
    for name in ("log_pt", "delta_eta"):
        column = names.index(name)
        kept = after[tokens, column] == before[tokens, column]
        hidden = sum(name in group for group in _GROUPS)
        assert float(kept.float().mean()) == pytest.approx(0.8**hidden, abs=0.07)
    # All tokens of an event alike.
    gone = (after != before).any(1)[layout.token_rows].float()
    of_event = layout.event_of_row[layout.token_rows]
    sums = torch.zeros(400).index_add(0, of_event, gone)
    assert bool(((sums == 0) | (sums == layout.counts)).all())


def test_by_default_jets_and_objects_start_from_the_packaged_base():
    for name, begun in (("model-2", 3), ("concatenation", 2), ("kinematics-only", 1)):
        network = ms.build_model(Card(preset=name), SCHEMA)
        taken = start(network, TrainingSettings())
        assert len(taken.lines) == begun
        assert not any("fresh" in line for line in taken.lines)
    assert not start(network, TrainingSettings(start="none")).lines


def test_a_stream_that_the_base_knows_nothing_of_is_no_fault():
    schema = SCHEMA.model_copy(update={"streams": (StreamSchema(name="x", columns=("f0", "f1")),)})
    network = ms.build_model(Card(preset="model-1"), schema)
    assert start(network, TrainingSettings()) == FRESH
    with pytest.raises(CardError, match=r"nothing of .* fits; x: fresh, the base has no"):
        start(network, TrainingSettings(start=PRETRAINED))


def test_a_start_that_is_no_model_is_refused(tmp_path):
    network = ms.build_model(Card(preset="kinematics-only"), SCHEMA)
    with pytest.raises(RunError, match="is no model folder"):
        start(network, TrainingSettings(start=tmp_path))
