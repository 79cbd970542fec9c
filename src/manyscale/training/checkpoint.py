"""What a killed run is resumed from: its whole state after a step, written whole or not at all."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_of
from safetensors.torch import save as bytes_of
from torch import Tensor, nn

from manyscale.checksums import sha256
from manyscale.errors import RunError
from manyscale.progress import LOG
from manyscale.writing import is_draft, remove, write_whole

__all__ = ["SECONDS", "TrainingState", "resume", "save", "saved"]

#: A checkpoint is written so often within an epoch, too.
SECONDS = 300.0

# Characters of the checksum in a file's name.
_DIGEST = 16


@dataclass
class TrainingState:
    """How far a run has come.

    Attributes
    ----------
    epoch, step
        Epochs and steps that are done.
    begun
        Steps that are done of the epoch after these.
    sums
        Sum of the weighted losses in these steps and of the weights: a pair a process.
    best
        Weights of the epoch with the lowest validation loss so far.
    best_epoch
        That epoch, counted from 1; 0 before the first.
    history
        One row per epoch, as in history.csv.
    scaler
        State of the gradient scaler of half precision; empty with another precision.
    """

    epoch: int = 0
    step: int = 0
    begun: int = 0
    sums: list[list[float]] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    best_epoch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    scaler: dict[str, float] = field(default_factory=dict)

    @property
    def best_loss(self) -> float:
        """Validation loss of the best epoch; infinite before the first."""
        if not self.best_epoch:
            return torch.inf
        return self.history[self.best_epoch - 1]["validation_loss"]


def saved(folder: Path) -> list[Path]:
    """The complete checkpoints in a run's checkpoints folder, the oldest first."""
    return sorted(folder.glob("epoch-*.safetensors"))


def save(
    folder: Path, state: TrainingState, network: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    """Write a checkpoint, its checksum in its name; then drop all but it and the one before."""
    numbers = {key: value for key, value in vars(state).items() if key != "best"}
    moments = {
        f"{group}.{name}": value
        for group, slots in optimizer.state_dict()["state"].items()
        for name, value in slots.items()
    }
    parts = {"network": network.state_dict(), "best": state.best, "optimizer": moments}
    tensors = {
        f"{part}/{name}": value.contiguous()
        for part, own in parts.items()
        for name, value in own.items()
    }
    text = json.dumps(numbers).encode()
    tensors["state"] = torch.from_numpy(np.frombuffer(text, np.uint8).copy())
    content = bytes_of(tensors)
    done = f"epoch-{state.epoch:05d}-step-{state.step:09d}"
    target = folder / f"{done}-{sha256(content)[:_DIGEST]}.safetensors"
    write_whole(target, content)
    for path in saved(folder):
        if path != target and path.name >= done:
            remove(path)  # later, but damaged: else the run had gone on from there
    _drop_older(folder)


def resume(
    folder: Path, network: nn.Module, optimizer: torch.optim.Optimizer | None = None
) -> TrainingState | None:
    """Put the newest good checkpoint's weights into network and optimizer and return its state.

    Where one is damaged the one before is taken, and a warning shown.

    Returns
    -------
    None where there is no checkpoint.

    Raises
    ------
    RunError
        Where all are damaged, or of another network.
    """
    fault = None
    for path in reversed(saved(folder)):
        try:
            state = _load(path, network, optimizer)
        except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
            LOG.warning("checkpoint %s cannot be resumed from: %s", path, error)
            fault = error
        else:
            _drop_older(folder)
            return state
    if fault is not None:
        raise RunError(
            f"no checkpoint in {folder} can be resumed from ({fault}): delete them to start afresh"
        ) from fault
    return None


def _load(path: Path, network: nn.Module, optimizer: torch.optim.Optimizer | None) -> TrainingState:
    content = path.read_bytes()
    if sha256(content)[:_DIGEST] != path.stem.rpartition("-")[2]:
        raise RunError("it is damaged, its checksum is not that of its name")
    tensors = tensors_of(content)
    numbers = json.loads(tensors.pop("state").numpy().tobytes())
    parts: dict[str, dict[str, Tensor]] = {"network": {}, "best": {}, "optimizer": {}}
    for key, value in tensors.items():
        part, _, name = key.partition("/")
        parts[part][name] = value
    state = TrainingState(best=parts["best"], **numbers)
    network.load_state_dict(parts["network"])
    if optimizer is not None:
        moments: dict[int, dict[str, Any]] = {}
        for key, value in parts["optimizer"].items():
            group, _, name = key.partition(".")
            moments.setdefault(int(group), {})[name] = value
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": moments, "param_groups": groups})
    return state


def _drop_older(folder: Path) -> None:
    """Keep the last two checkpoints, and nothing of what a killed process was writing."""
    for path in (*saved(folder)[:-2], *filter(is_draft, folder.iterdir())):
        remove(path)
