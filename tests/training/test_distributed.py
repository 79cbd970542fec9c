"""Two processes on CPUs give what one gives."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from helpers.commands import toy_dataset
from helpers.weights import assert_same_but_for_rounding
from manyscale.card import Card, DataSettings, card_text
from manyscale.data.dataset import Dataset
from manyscale.model.layers import StreamSettings
from manyscale.reporting.run_files import read_history
from manyscale.runs.training import train_run
from manyscale.training.schedule import TrainingSettings

pytestmark = pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="two processes need two cores")

STREAMS = ("jet1", "jet2", "kinematics")
# Seconds; a hang must end.
LIMIT = 240


@pytest.fixture(scope="module")
def card(tmp_path_factory):
    """A small card; the last step of its epochs has one event, which one process does without."""
    dataset = toy_dataset(tmp_path_factory.mktemp("data") / "toys")
    events = len(Dataset.open(dataset).train)
    batch_size = next(size for size in range(31, events) if events % size == 1 and size % 2)
    return Card(
        data=DataSettings(dataset=dataset),
        streams={name: StreamSettings(width=8, layers=1, dropout=0.0) for name in STREAMS},
        training=TrainingSettings(epochs=3, batch_size=batch_size, accelerator="cpu"),
    )


@pytest.fixture(scope="module")
def alone(card, tmp_path_factory):
    return train_run(card, tmp_path_factory.mktemp("alone") / "run")


def with_training(card, **values):
    return card.model_copy(update={"training": card.training.model_copy(update=values)})


def assert_same_training(first, second):
    weights = [load_file(run.model / "weights.safetensors") for run in (first, second)]
    assert_same_but_for_rounding(*weights)
    histories = [read_history(run.history) for run in (first, second)]
    for ours, theirs in zip(*histories, strict=True):
        for key in ("train_loss", "validation_loss", "validation_auc"):
            assert ours[key] == pytest.approx(theirs[key], rel=1e-5), key


def test_two_processes_give_what_one_gives(card, alone, tmp_path):
    together = train_run(with_training(card, devices=2, accumulate=2), tmp_path / "run")
    assert together.trees.is_file()
    assert_same_training(alone, together)


def test_two_processes_of_torchrun_write_one_run(card, alone, tmp_path):
    (tmp_path / "card.yaml").write_text(card_text(card, "two processes"), encoding="utf-8")
    scripts = Path(sys.executable).parent
    launch = [scripts / "torchrun", "--standalone", "--nproc-per-node", "2", "--no-python"]
    train = [scripts / "manyscale", "train", tmp_path / "card.yaml", "--out", tmp_path / "run"]
    done = subprocess.run(
        [*launch, *train], capture_output=True, text=True, check=False, timeout=LIMIT
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("report: ") == 1
    assert_same_training(alone, type(alone)(tmp_path / "run"))
