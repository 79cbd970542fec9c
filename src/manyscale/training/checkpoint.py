"""What a killed run goes on from: the state behind an epoch, written whole or not at all."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from manyscale.errors import RunError

__all__ = ["TrainingState", "latest", "load", "save"]

Row = dict[str, float]


@dataclass
class TrainingState:
    """Where a run stands.

    Attributes
    ----------
    epoch, step
        Epochs and steps that are done.
    best
        Weights of the epoch with the lowest validation loss so far.
    best_epoch
        That epoch, counted from 1; 0 before the first.
    history
        A row an epoch, as history.csv has them.
    """

    epoch: int = 0
    step: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)
    best_epoch: int = 0
    history: list[Row] = field(default_factory=list)

    @property
    def best_loss(self) -> float:
        """Validation loss of the best epoch; infinite before the first."""
        return (
            self.history[self.best_epoch - 1]["validation_loss"] if self.best_epoch else torch.inf
        )


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"{number}.{name}": value.contiguous()
        for number, slots in optimizer.state_dict()["state"].items()
        for name, value in slots.items()
    }


def _fill_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    slots: dict[int, dict[str, Any]] = {}
    for key, value in tensors.items():
        number, name = key.split(".", 1)
        slots.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict(
        {"state": slots, "param_groups": optimizer.state_dict()["param_groups"]}
    )


def latest(folder: Path) -> Path | None:
    """The newest whole checkpoint of a run's checkpoints folder, or None."""
    whole = sorted(path for path in folder.glob("epoch-*") if path.suffix != ".tmp")
    return whole[-1] if whole else None


def save(
    folder: Path, state: TrainingState, network: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    """Write a checkpoint beside the last one, rename it into place, then drop the older ones."""
    target = folder / f"epoch-{state.epoch:05d}"
    draft = target.with_suffix(".tmp")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    save_file(
        {key: value.contiguous() for key, value in network.state_dict().items()},
        draft / "network.safetensors",
    )
    save_file(state.best, draft / "best.safetensors")
    save_file(_optimizer_tensors(optimizer), draft / "optimizer.safetensors")
    numbers = {
        "epoch": state.epoch,
        "step": state.step,
        "best_epoch": state.best_epoch,
        "history": state.history,
    }
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
            _fill_optimizer(optimizer, load_file(checkpoint / "optimizer.safetensors"))
        return TrainingState(best=load_file(checkpoint / "best.safetensors"), **numbers)
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise RunError(
            f"checkpoint {checkpoint} cannot be resumed from ({error}): delete it to start afresh"
        ) from error
