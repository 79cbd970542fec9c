"""What a killed run is resumed from: its state after an epoch, written whole or not at all."""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from manyscale.errors import RunError

__all__ = ["TrainingState", "latest", "load", "save"]


@dataclass
class TrainingState:
    """How far a run has come.

    Attributes
    ----------
    epoch, step
        Epochs and steps that are done.
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


def latest(folder: Path) -> Path | None:
    """The newest complete checkpoint of a run's checkpoints folder, or None."""
    return max((path for path in folder.glob("epoch-*") if path.suffix != ".tmp"), default=None)


def save(
    folder: Path, state: TrainingState, network: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    """Write a checkpoint beside the last one, rename it into place, then drop the older ones."""
    target = folder / f"epoch-{state.epoch:05d}"
    draft = target.with_suffix(".tmp")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    moments = {
        f"{group}.{name}": value.contiguous()
        for group, slots in optimizer.state_dict()["state"].items()
        for name, value in slots.items()
    }
    weights = {key: value.contiguous() for key, value in network.state_dict().items()}
    save_file(weights, draft / "network.safetensors")
    save_file(state.best, draft / "best.safetensors")
    save_file(moments, draft / "optimizer.safetensors")
    numbers = {key: value for key, value in vars(state).items() if key != "best"}
    (draft / "state.json").write_text(json.dumps(numbers), encoding="utf-8")
    shutil.rmtree(target, ignore_errors=True)
    draft.rename(target)
    for other in folder.iterdir():
        if other != target:
            shutil.rmtree(other, ignore_errors=True)


def load(
    checkpoint: Path, network: nn.Module, optimizer: torch.optim.Optimizer | None = None
) -> TrainingState:
    """Put a checkpoint's weights into the network and the optimizer and return the state.

    Raises
    ------
    RunError
        Where the checkpoint is damaged or of another network.
    """
    try:
        numbers = json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))
        network.load_state_dict(load_file(checkpoint / "network.safetensors"))
        if optimizer is not None:
            moments: dict[int, dict[str, Any]] = {}
            for key, value in load_file(checkpoint / "optimizer.safetensors").items():
                group, name = key.split(".", 1)
                moments.setdefault(int(group), {})[name] = value
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": moments, "param_groups": groups})
        return TrainingState(best=load_file(checkpoint / "best.safetensors"), **numbers)
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise RunError(
            f"checkpoint {checkpoint} cannot be resumed from ({error}): delete it to start afresh"
        ) from error
