"""What the processes of one training send each other, and what is said where one is lost."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.distributed
from numpy.typing import NDArray
from torch import Tensor, nn

from manyscale.errors import RunError
from manyscale.training.checkpoint import TrainingState

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = [
    "LostProcessError",
    "check_together",
    "interleave",
    "leave",
    "name_lost_processes",
    "send_weights",
]


class LostProcessError(RunError):
    """Another process of a training has ended or does not answer; why, it says itself."""


@contextmanager
def name_lost_processes(rank: int, world: int) -> Iterator[None]:
    """Say in plain words what torch raises where processes cannot reach each other.

    Raises
    ------
    LostProcessError
        Where another process has ended, or has not answered in time.
    """
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, torch.distributed.DistError) or "gloo" in str(error):
            raise LostProcessError(
                f"training process {rank} of {world} (counted from 0) has lost the others: one has "
                f"ended, and says why itself, or has not answered in time; --resume goes on from "
                f"the last epoch ({str(error).splitlines()[0]})"
            ) from error
        raise


def send_weights(fabric: "Fabric", network: nn.Module) -> None:
    """Give all processes the weights, and the standardisation, of the first."""
    if fabric.world_size > 1:
        for tensor in network.state_dict().values():
            torch.distributed.broadcast(tensor, 0)


def check_together(fabric: "Fabric", state: TrainingState) -> None:
    """Refuse to go on where not all processes have found the same checkpoint.

    Raises
    ------
    RunError
        Says that they do not see the same folder.
    """
    steps = _gather(fabric, torch.tensor([state.step], device=fabric.device)).flatten().tolist()
    if len(set(steps)) > 1:
        raise RunError(
            f"the training processes stand at steps {', '.join(map(str, steps))}: the folder of the "
            f"run must be on a disk that all machines share"
        )


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
    if fabric.world_size == 1:
        return share
    padded = torch.zeros(-(-events // fabric.world_size), device=fabric.device)
    padded[: len(share)] = torch.from_numpy(share).to(fabric.device)
    gathered: NDArray[np.float32] = _gather(fabric, padded).cpu().numpy()
    return gathered.T.ravel()[:events]


def _gather(fabric: "Fabric", values: Tensor) -> Tensor:
    """Give all processes the values (n,) of each, as (processes, n)."""
    gathered = values.new_empty(fabric.world_size, len(values))
    if fabric.world_size > 1:
        torch.distributed.all_gather(list(gathered.unbind()), values)
    else:
        gathered[0] = values
    return gathered


def leave() -> None:
    """End the contact to the other processes, if there was any."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
