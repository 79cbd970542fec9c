"""A killed run that is resumed ends as one that was not."""

import json

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision

from helpers.training import assert_same_bits, interrupted_after, learned, trained
from manyscale.errors import RunError
from manyscale.runs import train
from manyscale.runs.folder import RunFolder
from manyscale.training import checkpoint


@pytest.mark.parametrize("steps", [2, 7, 11])
def test_a_killed_run_resumed_gives_the_same_bits(tmp_path, steps):
    whole, whole_state = trained()
    folder = RunFolder(tmp_path)
    with interrupted_after(steps):
        trained(folder)
    resumed, state = trained(folder)
    assert_same_bits(whole, resumed)
    assert learned(state) == learned(whole_state)


def test_the_scale_of_half_precision_is_resumed_too(tmp_path, monkeypatch):
    """The scaler halves its scale where a gradient overflows, as it does at first."""
    scalers = []

    def on_a_cpu(settings):
        scalers.append(torch.amp.GradScaler("cpu", init_scale=2.0**40, growth_interval=3))
        precision = MixedPrecision("16-mixed", "cpu", scaler=scalers[-1])
        return Fabric(accelerator="cpu", plugins=[precision])

    monkeypatch.setattr(train, "make_fabric", on_a_cpu)
    half = {"precision": "16-mixed", "epochs": 6, "dropout": 0.0}
    whole, state = trained(**half)
    assert state.step == 30
    assert 0 < scalers[0].get_scale() < 2.0**40
    folder = RunFolder(tmp_path)
    with interrupted_after(17):
        trained(folder, **half)
    resumed, _ = trained(folder, **half)
    assert_same_bits(whole, resumed)
    assert scalers[2].get_scale() == scalers[0].get_scale()


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
    assert checkpoint.latest(tmp_path / "none") is None
