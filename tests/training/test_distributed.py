"""Processes: what is asked for and what there is, how they are started, end, and train together."""

import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from helpers import tasks
from helpers.commands import toy_dataset
from helpers.weights import assert_same_but_for_rounding
from manyscale.card import Card, DataSettings, card_text
from manyscale.data.dataset import Dataset
from manyscale.errors import CardError, DataError, RunError
from manyscale.evaluation.results import read_history
from manyscale.model.layers import FusionSettings, HeadSettings, StreamSettings
from manyscale.progress import LOG, show
from manyscale.runs.folder import RunFolder
from manyscale.runs.train import _train, train_run
from manyscale.training.distributed import (
    LostProcessError,
    launch,
    name_lost_processes,
    place,
    process_rank,
    refuse_launcher,
)
from manyscale.training.schedule import TrainingSettings

needs_two_cores = pytest.mark.skipif(
    (os.cpu_count() or 1) < 2, reason="two processes need two cores"
)

TORCHRUN = {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}
SRUN = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_NTASKS_PER_NODE": "2", "SLURM_PROCID": "3"}


@pytest.fixture(autouse=True)
def _two_cores(monkeypatch):
    # A batch system has granted two of the many cores of a machine.
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    for name in (*TORCHRUN, *SRUN):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def launched(monkeypatch, request):
    for name, value in request.param.items():
        monkeypatch.setenv(name, value)


by_both = pytest.mark.parametrize("launched", [TORCHRUN, SRUN], indirect=True)


def settings(**values):
    return TrainingSettings(accelerator="cpu", **values)


def test_one_process_where_nothing_is_said():
    placement = place(settings())
    assert (placement.world, placement.to_start, process_rank()) == (1, 0, 0)


def test_devices_are_to_be_started_where_nobody_has():
    assert place(settings(devices=2)).to_start == 2


@by_both
@pytest.mark.parametrize("devices", ["auto", 2])
def test_what_a_launcher_has_started_is_taken(launched, devices):
    placement = place(settings(devices=devices, nodes=2))
    assert (placement.world, placement.to_start, process_rank()) == (4, 0, 3)


@by_both
@pytest.mark.parametrize("asked", [{"devices": 4}, {"nodes": 1}])
def test_a_card_that_disagrees_with_the_launcher_is_refused(launched, asked):
    with pytest.raises(CardError, match="has started 2 processes on each of 2 nodes"):
        place(settings(**{"nodes": 2, **asked}))


@by_both
def test_what_only_one_process_may_do_is_refused(launched):
    with pytest.raises(RunError, match=r"compare cannot be run by .* as 4 processes"):
        refuse_launcher("compare")


@pytest.mark.parametrize("launched", [{"SLURM_STEP_NUM_TASKS": "4"}], indirect=True)
def test_srun_must_say_how_many_a_node(launched):
    with pytest.raises(CardError, match="--ntasks-per-node"):
        place(settings())


@pytest.mark.parametrize("launched", [{**TORCHRUN, "WORLD_SIZE": "1"}], indirect=True)
def test_one_process_of_a_launcher_is_one_process(launched):
    refuse_launcher("compare")
    assert place(settings()).world == 1


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"devices": 3}, "training.devices is 3, but this machine has 2 cores"),
        ({"nodes": 2}, "start it on all of them with torchrun or srun"),
        ({"devices": 2, "batch_size": 1}, "batch_size is 1, fewer than the 2 processes"),
    ],
)
def test_what_is_not_there_is_refused(asked, said):
    with pytest.raises(CardError, match=said):
        place(settings(**asked))


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[/third_party/gloo/transport/tcp/pair.cc:547] Connection closed by peer"),
        torch.distributed.DistBackendError("NCCL communicator was aborted"),
    ],
)
@pytest.mark.parametrize("launched", [TORCHRUN], indirect=True)
def test_a_lost_process_is_named_as_such(launched, error):
    with (
        pytest.raises(LostProcessError, match=r"process 3 of 4 .* has lost the others"),
        name_lost_processes(),
    ):
        raise error


def test_other_faults_are_not_taken_for_a_lost_process():
    with pytest.raises(RuntimeError, match="shape"), name_lost_processes():
        raise RuntimeError("a shape is wrong")


def test_the_first_of_the_processes_is_heard(capfd):
    show()
    try:
        launch(tasks.tell, 2)
    finally:
        LOG.handlers.clear()
        LOG.propagate = True
    assert capfd.readouterr().err.splitlines() == ["0 of 2"]


@pytest.mark.parametrize(
    ("work", "error", "said"),
    [
        (tasks.refuse_in_the_second, DataError, "event 7 is odd"),
        (tasks.lose_each_other, RunError, "process 1 .* by SIGKILL, perhaps for lack of memory"),
    ],
)
def test_where_one_fails_the_cause_is_named_and_the_others_are_ended(work, error, said):
    begun = time.monotonic()
    with pytest.raises(error, match=said):
        launch(work, 2)
    assert time.monotonic() - begun < 60


def test_ctrl_c_ends_all_within_seconds(tmp_path):
    """Sent to the parent alone, as a batch system does."""
    threading.Thread(target=interrupt_when_ready, args=(tmp_path,), daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        launch(partial(tasks.wait_for_ever, tmp_path), 2)
    asked = float((tmp_path / "asked").read_text(encoding="utf-8"))
    assert time.monotonic() - asked < 10
    for path in tmp_path.glob("process-*"):
        with pytest.raises(ProcessLookupError):
            os.kill(int(path.read_text(encoding="utf-8")), 0)


def interrupt_when_ready(folder):
    while len(list(folder.glob("process-*"))) < 2:
        time.sleep(0.1)
    time.sleep(0.5)
    (folder / "asked").write_text(str(time.monotonic()), encoding="utf-8")
    os.kill(os.getpid(), signal.SIGINT)


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
        fusion=(FusionSettings(query=STREAMS[-1], context=STREAMS[:-1], dropout=0.0),),
        head=HeadSettings(dropout=0.0),
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


@needs_two_cores
def test_two_processes_give_what_one_gives(card, alone, tmp_path):
    together = train_run(with_training(card, devices=2, accumulate=2), tmp_path / "run")
    assert together.trees.is_file()
    assert_same_training(alone, together)


@needs_two_cores
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
    assert_same_training(alone, RunFolder(tmp_path / "run"))


@needs_two_cores
def test_a_first_process_that_prepares_for_long_is_waited_for(card, alone, tmp_path):
    """Before, the others gave up where it passed over the events for more than ten minutes."""
    small = with_training(card, devices=2)
    train = partial(_train, small, RunFolder(tmp_path / "run"), resume=False, trees_from=alone)
    launch(partial(tasks.prepare_slowly, train), 2)
    assert_same_training(alone, RunFolder(tmp_path / "run"))
