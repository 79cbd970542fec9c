import os

import pytest
import torch

from manyscale.errors import CardError, RunError
from manyscale.training.collective import LostProcessError, name_lost_processes
from manyscale.training.devices import place, process_rank, refuse_launcher
from manyscale.training.schedule import TrainingSettings

TORCHRUN = {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}
SRUN = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_NTASKS_PER_NODE": "2", "SLURM_PROCID": "3"}


@pytest.fixture(autouse=True)
def _two_cores(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
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
def test_a_lost_process_is_named_as_such(error):
    with (
        pytest.raises(LostProcessError, match=r"process 1 of 2 .* has lost the others"),
        name_lost_processes(1, 2),
    ):
        raise error


def test_other_faults_are_not_taken_for_a_lost_process():
    with pytest.raises(RuntimeError, match="shape"), name_lost_processes(1, 2):
        raise RuntimeError("a shape is wrong")
