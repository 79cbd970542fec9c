"""A killed run that is resumed ends as one that was not."""

import logging
import os
import signal
from contextlib import contextmanager

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision

from helpers.training import assert_same_bits, interrupted_after, learned, trained
from manyscale.errors import RunError
from manyscale.runs import fit
from manyscale.runs.folder import RunFolder
from manyscale.training import checkpoint, loop
from manyscale.training.schedule import learning_rate


@pytest.mark.parametrize("steps", [2, 7, 11])
def test_a_killed_run_resumed_gives_the_same_bits(tmp_path, steps):
    whole, whole_state = trained()
    folder = RunFolder(tmp_path)
    with interrupted_after(steps):
        trained(folder)
    resumed, state = trained(folder)
    assert_same_bits(whole, resumed)
    assert learned(state) == learned(whole_state)


@contextmanager
def signalled_at(number, patch, *steps):
    """Send this process a signal while it works through each of these steps."""

    def sending(step, *arguments):
        if step in steps and step not in seen:
            seen.add(step)
            os.kill(os.getpid(), number)
        return learning_rate(step, *arguments)

    seen = set()
    with patch.context() as inside:
        inside.setattr(loop, "learning_rate", sending)
        yield


def test_a_signal_is_obeyed_after_its_step_and_nothing_is_lost(tmp_path, monkeypatch):
    """An epoch has 5 steps."""
    whole, whole_state = trained()
    folder = RunFolder(tmp_path)
    with signalled_at(signal.SIGINT, monkeypatch, 3, 9, 12):
        for step in (4, 10, 13):
            with pytest.raises(KeyboardInterrupt):
                trained(folder)
            last = checkpoint.saved(folder.checkpoints)[-1]
            assert f"-step-{step:09d}-" in last.name
        resumed, state = trained(folder)
    assert_same_bits(whole, resumed)
    assert learned(state) == learned(whole_state)
    assert len(checkpoint.saved(folder.checkpoints)) == 2


def test_a_signal_during_validation_is_obeyed_and_nothing_is_lost(tmp_path, monkeypatch):
    whole, whole_state = trained()
    predict, left = fit.predict, iter([False, True])

    def slow(*arguments, **options):
        if next(left, False):
            os.kill(os.getpid(), signal.SIGINT)
        yield from predict(*arguments, **options)

    folder = RunFolder(tmp_path)
    monkeypatch.setattr(fit, "predict", slow)
    with pytest.raises(KeyboardInterrupt):
        trained(folder)
    assert checkpoint.saved(folder.checkpoints)[-1].name.startswith("epoch-00001-step-000000010-")
    resumed, state = trained(folder)
    assert_same_bits(whole, resumed)
    assert learned(state) == learned(whole_state)


def test_checkpoints_are_written_within_an_epoch_too(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "SECONDS", 0.0)
    whole, _ = trained()
    folder = RunFolder(tmp_path)
    with interrupted_after(8):
        trained(folder)
    assert [path.stem.split("-")[3] for path in checkpoint.saved(folder.checkpoints)] == [
        "000000007",
        "000000008",
    ]
    resumed, _ = trained(folder)
    assert_same_bits(whole, resumed)


def test_the_scale_of_half_precision_is_resumed_too(tmp_path, monkeypatch):
    """The scaler halves its scale where a gradient overflows, as it does at first."""
    scalers = []

    def on_a_cpu(settings):
        scalers.append(torch.amp.GradScaler("cpu", init_scale=2.0**40, growth_interval=3))
        precision = MixedPrecision("16-mixed", "cpu", scaler=scalers[-1])
        return Fabric(accelerator="cpu", plugins=[precision])

    monkeypatch.setattr(fit, "make_fabric", on_a_cpu)
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


def test_of_a_damaged_checkpoint_the_one_before_is_taken_with_a_warning(tmp_path, caplog):
    whole, _ = trained()
    folder = RunFolder(tmp_path)
    trained(folder)
    first, last = checkpoint.saved(folder.checkpoints)
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    last.write_bytes(content)
    with caplog.at_level(logging.WARNING, "manyscale"):
        resumed, _ = trained(folder)
    assert f"{last} cannot be resumed from: it is damaged" in caplog.text
    assert_same_bits(whole, resumed)
    assert first in checkpoint.saved(folder.checkpoints)
    for path in checkpoint.saved(folder.checkpoints):
        path.write_bytes(b"cut short")
    with pytest.raises(RunError, match="delete them to start afresh"):
        trained(folder)
