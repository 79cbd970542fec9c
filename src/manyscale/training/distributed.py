"""Which processes train and on what: placed by the settings, started by torch, joined by Fabric."""

import inspect
import logging
import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing.queues import SimpleQueue
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
import torch.distributed
from numpy.typing import NDArray
from torch import nn
from torch.multiprocessing.spawn import ProcessExitedException, start_processes
from torch.nn.parallel import DistributedDataParallel

from manyscale.errors import CardError, ManyscaleError, RunError
from manyscale.events.work import usable_cores
from manyscale.interrupts import ENDING
from manyscale.progress import LOG, is_shown, show
from manyscale.training.schedule import TrainingSettings

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]

__all__ = [
    "LostProcessError",
    "Placement",
    "agreement",
    "broadcast_weights",
    "check_same_step",
    "gather",
    "interleave",
    "launch",
    "leave",
    "make_fabric",
    "name_lost_processes",
    "place",
    "precision_of",
    "process_rank",
    "refuse_launcher",
    "wait_for_first",
]

#: A process waits so long for the others in a step before it gives up.
TIMEOUT = timedelta(minutes=10)
#: ... and so long for the first to prepare, which passes over all events.
PREPARATION_TIMEOUT = timedelta(days=30)

# Seconds given to processes to end by themselves, and to the cause of a failure to be seen before
# its consequences.
_GRACE = 3.0
# ... and, where they are interrupted, to write a checkpoint.
_SAVING = 10.0
_CAUSE_FIRST = 15.0
_TORCHRUN = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")


class LostProcessError(RunError):
    """Another process of a training has ended or does not answer; it says itself why."""


class Placement(NamedTuple):
    """Where a training takes place.

    Attributes
    ----------
    accelerator
        `cpu`, `cuda` or `mps`.
    devices, nodes
        Processes of each node, one per device, and nodes.
    launcher
        `torchrun` or `srun` where it has started the processes; None: this one is alone so far.
    """

    accelerator: Literal["cpu", "cuda", "mps"]
    devices: int
    nodes: int
    launcher: str | None

    @property
    def world(self) -> int:
        """Number of processes."""
        return self.devices * self.nodes

    @property
    def to_start(self) -> int:
        """Processes that this one has yet to start; 0 where it trains itself."""
        return self.world if self.world > 1 and self.launcher is None else 0


class _Launched(NamedTuple):
    """The processes that a launcher has started, and which of them this is."""

    by: str
    processes: int
    per_node: int
    rank: int


def _launched() -> _Launched | None:
    """What torchrun or srun has started; None where neither has, or one process alone."""
    if all(name in os.environ for name in _TORCHRUN):
        world, per_node, rank = "WORLD_SIZE", "LOCAL_WORLD_SIZE", "RANK"
        by = "torchrun"
    elif int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        world, per_node, rank = "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS_PER_NODE", "SLURM_PROCID"
        by = "srun"
        if per_node not in os.environ:
            raise CardError("srun needs --ntasks-per-node, so that each node has as many processes")
    else:
        return None
    found = _Launched(by, *(int(os.environ[name]) for name in (world, per_node, rank)))
    return found if found.processes > 1 else None


def process_rank() -> int:
    """Which of all training processes this is, from 0; the first writes and shows everything."""
    launched = _launched()
    return launched.rank if launched else 0


def refuse_launcher(command: str) -> None:
    """Refuse torchrun and srun for a command that only one process may run.

    Raises
    ------
    RunError
        Where there are several.
    """
    if launched := _launched():
        raise RunError(
            f"{command} cannot be run by {launched.by} as {launched.processes} processes: start it "
            f"once; with training.devices it starts what it needs"
        )


def place(settings: TrainingSettings) -> Placement:
    """Say where a training takes place, before anything is written.

    Raises
    ------
    CardError
        Where devices, nodes or precision are asked for that are not there, or that do not fit to
        what torchrun or srun has started; the message says what there is.
    """
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if settings.accelerator == "gpu" and not (cuda or mps):
        raise CardError("training.accelerator is gpu, but torch finds none here: use auto or cpu")
    accelerator: Literal["cpu", "cuda", "mps"] = "cuda" if cuda else "mps"
    found, what = torch.cuda.device_count() if cuda else 1, "GPUs"
    if settings.accelerator == "cpu" or not (cuda or mps):
        accelerator, found, what = "cpu", usable_cores(), "cores"
        if settings.precision == "16-mixed":
            raise CardError("training.precision 16-mixed needs a GPU: use bf16-mixed or 32-true")

    launched = _launched()
    if settings.devices != "auto":
        devices = settings.devices
    elif launched:
        devices = launched.per_node
    else:
        devices = found if accelerator == "cuda" else 1
    if launched:
        nodes = launched.processes // launched.per_node
        if (devices, settings.nodes) != (launched.per_node, nodes):
            raise CardError(
                f"the card asks for training.devices={settings.devices} and training.nodes="
                f"{settings.nodes}, but {launched.by} has started {launched.per_node} processes on "
                f"each of {nodes} nodes: make them agree"
            )
    elif settings.nodes > 1:
        raise CardError(
            f"training.nodes is {settings.nodes}, but this command runs on one machine alone: "
            f"start it on all of them with torchrun or srun, see examples/"
        )
    if devices > found:
        hint = "; with srun ask for --gpus-per-node" if launched and launched.by == "srun" else ""
        raise CardError(
            f"training.devices is {devices}, but this machine has {found} {what} that torch can "
            f"use{hint}"
        )
    placement = Placement(accelerator, devices, settings.nodes, launched.by if launched else None)
    if settings.batch_size < placement.world:
        raise CardError(
            f"training.batch_size is {settings.batch_size}, fewer than the {placement.world} "
            f"processes that share each batch"
        )
    return placement


def precision_of(settings: TrainingSettings, accelerator: str) -> Precision:
    """The arithmetic of a training on `cpu`, `cuda` or `mps`."""
    if settings.precision != "auto":
        return settings.precision
    return "bf16-mixed" if accelerator == "cuda" and torch.cuda.is_bf16_supported() else "32-true"


def make_fabric(settings: TrainingSettings) -> "Fabric":
    """Set up this process as one of those that train; of several, wait until all are there.

    Raises
    ------
    CardError
        As `place`.
    """
    # Fabric takes as long to import as torch; only training pays for it.
    from lightning_fabric import Fabric  # noqa: PLC0415
    from lightning_fabric.plugins.environments.lightning import (  # noqa: PLC0415
        LightningEnvironment,
    )
    from lightning_fabric.plugins.environments.slurm import SLURMEnvironment  # noqa: PLC0415
    from lightning_fabric.plugins.environments.torchelastic import (  # noqa: PLC0415
        TorchElasticEnvironment,
    )
    from lightning_fabric.strategies.ddp import DDPStrategy  # noqa: PLC0415

    placement = place(settings)
    if placement.world == 1:
        return Fabric(
            accelerator=placement.accelerator,
            devices=1,
            precision=precision_of(settings, placement.accelerator),
            plugins=[LightningEnvironment()],
        )
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    if process_rank() > 0:
        LOG.handlers.clear()  # the first process alone shows lines and bars
    # The standardisation is the only buffer: it never changes and need not be sent at each step.
    new = "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters
    options: dict[str, Any] = {"forward_sync_buffers" if new else "broadcast_buffers": False}
    by_slurm = placement.launcher == "srun"
    fabric = Fabric(
        accelerator=placement.accelerator,
        devices=placement.devices,
        num_nodes=placement.nodes,
        precision=precision_of(settings, placement.accelerator),
        strategy=DDPStrategy(timeout=TIMEOUT, **options),
        plugins=[SLURMEnvironment() if by_slurm else TorchElasticEnvironment()],
    )
    fabric.launch()
    return fabric


# ---- what the processes send each other -------------------------------------------------------


def wait_for_first(fabric: "Fabric") -> None:
    """Wait until the first process has come here, however long it prepares."""
    if fabric.world_size > 1:
        # Gloo sees at once where a process has ended; its long timeout is for this alone.
        group = torch.distributed.new_group(backend="gloo", timeout=PREPARATION_TIMEOUT)
        torch.distributed.barrier(group)


def broadcast_weights(fabric: "Fabric", network: nn.Module) -> None:
    """Give all processes the weights, and the standardisation, of the first."""
    if fabric.world_size > 1:
        for tensor in network.state_dict().values():
            torch.distributed.broadcast(tensor, 0)


def check_same_step(fabric: "Fabric", step: int) -> None:
    """Refuse to train where not all processes have found the same checkpoint.

    Raises
    ------
    RunError
        Says that they do not see the same folder.
    """
    steps = torch.zeros(fabric.world_size, dtype=torch.int64, device=fabric.device)
    steps[fabric.global_rank] = step
    found = fabric.all_reduce(steps, reduce_op="sum")
    assert isinstance(found, torch.Tensor)  # noqa: S101
    if (found != step).any():
        raise RunError(
            f"the training processes stand at steps {', '.join(map(str, found.tolist()))}: the "
            f"folder of the run must be on a disk that all machines share"
        )


def agreement(fabric: "Fabric") -> Callable[[int], int]:
    """How processes agree: what is returned gives, in all of them, the largest number of any."""
    if fabric.world_size == 1:
        return int
    # By Gloo, on the CPU: a GPU would have to be waited for.
    group = torch.distributed.new_group(backend="gloo", timeout=TIMEOUT)

    def largest(number: int) -> int:
        told = torch.tensor(number)
        torch.distributed.all_reduce(told, torch.distributed.ReduceOp.MAX, group=group)
        return int(told)

    return largest


def gather(fabric: "Fabric", numbers: list[float]) -> list[list[float]]:
    """Give all processes the numbers of each."""
    if fabric.world_size == 1:
        return [numbers]
    own = torch.tensor(numbers, dtype=torch.float64, device=fabric.device)
    found = fabric.all_gather(own)
    assert isinstance(found, torch.Tensor)  # noqa: S101
    every: list[list[float]] = found.tolist()
    return every


def interleave(fabric: "Fabric", share: NDArray[np.float32], events: int) -> NDArray[np.float32]:
    """Join what the processes have of each event: of n processes the first has events 0, n, 2n, ...

    Parameters
    ----------
    share
        (events of this process,)
    events
        Number of events in all.

    Returns
    -------
    (events,), in all processes.
    """
    joined = torch.zeros(events, device=fabric.device)
    joined[fabric.global_rank :: fabric.world_size] = torch.from_numpy(share).to(fabric.device)
    found = fabric.all_reduce(joined, reduce_op="sum")
    assert isinstance(found, torch.Tensor)  # noqa: S101
    values: NDArray[np.float32] = found.cpu().numpy()
    return values


def leave() -> None:
    """End the contact to the other processes, if there was any."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@contextmanager
def name_lost_processes() -> Iterator[None]:
    """Say in plain words what torch raises where processes cannot reach each other.

    Raises
    ------
    LostProcessError
        Where another process has ended, or has not answered in time.
    """
    try:
        yield
    except RuntimeError as error:
        lost = isinstance(error, torch.distributed.DistError) or "gloo" in str(error)
        if not lost or not (launched := _launched()):
            raise
        raise LostProcessError(
            f"training process {launched.rank} of {launched.processes} (counted from 0) has lost "
            f"the others: one has ended, and says itself why, or has not answered in time; --resume "
            f"resumes after the last checkpoint ({str(error).splitlines()[0]})"
        ) from error


# ---- processes started here -------------------------------------------------------------------


def launch(work: Callable[[], None], count: int) -> None:
    """Do some work in several processes of this machine that train together; wait for its end.

    They find each other as those of torchrun do, and are started by what torch's elastic launcher
    and Fabric's are built on: those two add a rendezvous and signal handlers that stay, or cannot
    be interrupted. Where one process fails the others are ended.

    Parameters
    ----------
    work
        What each process calls; can be pickled.

    Raises
    ------
    ManyscaleError
        As a process raises it.
    RunError
        Where a process has died: says which, and how.
    """
    from lightning_fabric.plugins.environments.lightning import (  # noqa: PLC0415
        find_free_network_port,
    )

    # It warns where it ends processes, which is told here.
    logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)
    raised: SimpleQueue[ManyscaleError] = multiprocessing.get_context("spawn").SimpleQueue()
    environment = {
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(find_free_network_port()),
    }
    arguments = (work, environment, raised, is_shown())
    context = start_processes(_process, arguments, count, join=False)
    try:
        while not context.join(grace_period=_GRACE):
            pass
    except ProcessExitedException as death:
        errors = []
        while not raised.empty():
            errors.append(raised.get())
        how = f"ended with exit code {death.exit_code}"
        if death.signal_name:
            how = f"was ended by {death.signal_name}"
            how += ", perhaps for lack of memory" if death.signal_name == "SIGKILL" else ""
        died = RunError(
            f"training process {death.error_index} (counted from 0) {how}; the others were ended "
            f"too. --resume resumes after the last checkpoint"
        )
        raise (errors[0] if errors else died) from None
    finally:
        for process in context.processes:
            process.terminate()
        for process in context.processes:
            process.join(_SAVING)
            process.kill()


def _process(
    rank: int,
    work: Callable[[], None],
    environment: dict[str, str],
    raised: "SimpleQueue[ManyscaleError]",
    shown: bool,  # noqa: FBT001
) -> None:
    """What each started process does."""
    for number in ENDING:
        signal.signal(number, _interrupt)
    os.environ.update(environment, RANK=str(rank), LOCAL_RANK=str(rank))
    if "OMP_NUM_THREADS" not in os.environ:
        # Each would use all cores, and they would wait for each other.
        torch.set_num_threads(max(1, torch.get_num_threads() // int(environment["WORLD_SIZE"])))
    if shown and rank == 0:
        show()
    try:
        work()
    except KeyboardInterrupt:
        pass
    except Exception as error:  # noqa: BLE001 - a fault of ours, for the parent to raise
        if isinstance(error, LostProcessError):
            time.sleep(_CAUSE_FIRST)  # once the parent has seen it, it ends this process
        told = error if isinstance(error, ManyscaleError) else None
        told = told or RunError(f"{type(error).__name__}: {error}")
        told.add_note(traceback.format_exc())  # --debug shows it
        raised.put(told)
    else:
        return
    # An orderly end would wait for processes that are there no more.
    os._exit(1)


def _interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - a handler's arguments
    # Ctrl-C reaches parent and children, and the parent then asks the children to end: once is enough.
    for other in ENDING:
        signal.signal(other, signal.SIG_IGN)
    raise KeyboardInterrupt
