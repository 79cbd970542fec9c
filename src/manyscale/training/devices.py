"""Which processes train, and on what: checked against what there is, then set up by Fabric."""

import inspect
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch.nn.parallel import DistributedDataParallel

from manyscale.errors import CardError, RunError
from manyscale.training.schedule import TrainingSettings

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = [
    "Placement",
    "deterministic_algorithms",
    "make_fabric",
    "place",
    "process_rank",
    "refuse_launcher",
]

#: So long a process waits for the others before it gives up.
TIMEOUT = timedelta(minutes=10)

Launcher = Literal["torchrun", "srun"]

_TORCHRUN = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")


@dataclass(frozen=True)
class Placement:
    """Where a training takes place.

    Attributes
    ----------
    accelerator
        `cpu`, `cuda` or `mps`.
    devices, nodes
        Processes of each node, one a device, and nodes.
    launcher
        What has started the processes; None: this one is the only one so far.
    """

    accelerator: Literal["cpu", "cuda", "mps"]
    devices: int
    nodes: int
    launcher: Launcher | None

    @property
    def world(self) -> int:
        """Processes in all."""
        return self.devices * self.nodes

    @property
    def to_start(self) -> int:
        """Processes that this one has yet to start; 0 where it trains itself."""
        return self.world if self.world > 1 and self.launcher is None else 0


@dataclass(frozen=True)
class _Launch:
    """The processes that a launcher has started."""

    by: Launcher
    processes: int
    on_this_node: int

    @property
    def nodes(self) -> int:
        return self.processes // self.on_this_node


def _launch() -> _Launch | None:
    """What torchrun or srun has started; None where neither has, or one process alone."""
    if all(name in os.environ for name in _TORCHRUN):
        launch = _Launch(
            "torchrun", int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_WORLD_SIZE"])
        )
    elif (tasks := int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))) > 1:
        if "SLURM_NTASKS_PER_NODE" not in os.environ:
            raise CardError("srun needs --ntasks-per-node, so that each node has as many processes")
        launch = _Launch("srun", tasks, int(os.environ["SLURM_NTASKS_PER_NODE"]))
    else:
        return None
    return launch if launch.processes > 1 else None


def process_rank() -> int:
    """Which of all training processes this is, from 0; the first writes and shows all."""
    launch = _launch()
    if launch is None:
        return 0
    return int(os.environ["RANK" if launch.by == "torchrun" else "SLURM_PROCID"])


def refuse_launcher(command: str) -> None:
    """Refuse torchrun and srun for a command that only one process may run.

    Raises
    ------
    RunError
        Where there are several.
    """
    if launch := _launch():
        raise RunError(
            f"{command} cannot be run by {launch.by} as {launch.processes} processes: start it once; "
            f"with training.devices it starts what it needs"
        )


def place(settings: TrainingSettings) -> Placement:
    """Say where a training takes place, before anything is written.

    Raises
    ------
    CardError
        Where devices, nodes or precision are asked for that are not there, or that do not fit to
        what torchrun or srun has started; the message says what there is.
    """
    accelerator = _accelerator(settings)
    launch = _launch()
    found = torch.cuda.device_count() if accelerator == "cuda" else 1
    if launch:
        devices: int = launch.on_this_node
        _check_launch(settings, launch)
    else:
        devices = found if settings.devices == "auto" else settings.devices
        if settings.nodes > 1:
            raise CardError(
                f"training.nodes is {settings.nodes}, but this command runs on one machine alone: "
                f"start it on all of them with torchrun or srun, see examples/"
            )
    placement = Placement(accelerator, devices, settings.nodes, launch.by if launch else None)
    _check_devices(placement)
    if settings.batch_size < placement.world:
        raise CardError(
            f"training.batch_size is {settings.batch_size}, fewer than the {placement.world} "
            f"processes that share each batch"
        )
    return placement


def _accelerator(settings: TrainingSettings) -> Literal["cpu", "cuda", "mps"]:
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if settings.accelerator == "gpu" and not (cuda or mps):
        raise CardError("training.accelerator is gpu, but torch finds none here: use auto or cpu")
    on_cpu = settings.accelerator == "cpu" or not (cuda or mps)
    if settings.precision == "16-mixed" and on_cpu:
        raise CardError("training.precision 16-mixed needs a GPU: use bf16-mixed or 32-true")
    if on_cpu:
        return "cpu"
    return "cuda" if cuda else "mps"


def _check_launch(settings: TrainingSettings, launch: _Launch) -> None:
    asked = launch.on_this_node if settings.devices == "auto" else settings.devices
    if (asked, settings.nodes) != (launch.on_this_node, launch.nodes):
        raise CardError(
            f"the card asks for training.devices={settings.devices} and training.nodes="
            f"{settings.nodes}, but {launch.by} has started {launch.on_this_node} processes on each "
            f"of {launch.nodes} nodes: make them agree"
        )


def _check_devices(placement: Placement) -> None:
    if placement.accelerator == "cpu":
        found, what = os.cpu_count() or 1, "cores"
    elif placement.accelerator == "cuda":
        found, what = torch.cuda.device_count(), "GPUs"
    else:
        found, what = 1, "GPUs"
    if placement.devices > found:
        hint = "; with srun ask for --gpus-per-node" if placement.launcher == "srun" else ""
        raise CardError(
            f"training.devices is {placement.devices}, but this machine has {found} {what} that "
            f"torch can use{hint}"
        )


def make_fabric(settings: TrainingSettings, placement: Placement) -> "Fabric":
    """Set up this process as one of those that train; waits for the others."""
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

    if placement.world == 1:
        return Fabric(
            accelerator=placement.accelerator,
            devices=1,
            precision=settings.precision,
            plugins=[LightningEnvironment()],
        )
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    by_slurm = placement.launcher == "srun"
    # The standardisation is the only buffer: it never changes and need not be sent each step.
    new = "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters
    options: dict[str, Any] = {"forward_sync_buffers" if new else "broadcast_buffers": False}
    fabric = Fabric(
        accelerator=placement.accelerator,
        devices=placement.devices,
        num_nodes=placement.nodes,
        precision=settings.precision,
        strategy=DDPStrategy(timeout=TIMEOUT, **options),
        plugins=[SLURMEnvironment() if by_slurm else TorchElasticEnvironment()],
    )
    fabric.launch()
    return fabric


@contextmanager
def deterministic_algorithms(wanted: bool) -> Iterator[None]:  # noqa: FBT001 - it is the setting
    """Let torch use only algorithms that give the same bits every time, if that is wanted."""
    if not wanted:
        yield
        return
    # cuBLAS reads it when it is first used.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
