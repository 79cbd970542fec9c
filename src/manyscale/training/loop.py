"""The training loop: from a batch to a checkpoint, readable from top to bottom."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import nn

from manyscale.data.packing import PackedStream
from manyscale.data.sampling import batch_events, epoch_order
from manyscale.errors import RunError
from manyscale.features.columns import to_torch
from manyscale.progress import Progress
from manyscale.training.checkpoint import TrainingState
from manyscale.training.schedule import TrainingSettings, learning_rate, total_steps

__all__ = ["TrainingEvents", "Validation", "train"]


@dataclass(frozen=True)
class TrainingEvents:
    """Events to train on.

    Attributes
    ----------
    streams
        The streams that the network takes, each of (events,).
    label
        (events,), int64: the class of each event.
    weight
        (events,), float32: how much each counts in the loss; class-balanced, with a mean of one.
    """

    streams: Mapping[str, PackedStream]
    label: NDArray[np.int64]
    weight: NDArray[np.float32]


@dataclass(frozen=True)
class Validation:
    """What an epoch is judged by: loss and AUC on the validation events."""

    loss: float
    auc: float


def train(
    network: nn.Module,
    data: TrainingEvents,
    settings: TrainingSettings,
    seed: int,
    *,
    fabric: Fabric,
    optimizer: torch.optim.Optimizer,
    validate: Callable[[], Validation],
    save: Callable[[TrainingState], None],
    state: TrainingState,
    progress: Progress,
) -> TrainingState:
    """Train the network from where `state` stands to the end, and load its best weights.

    The batches are a pure function of (seed, epoch, step), and so is dropout: the same card on the
    same machine gives the same weights, resumed or not.

    Parameters
    ----------
    network, optimizer
        As set up by `fabric`; changed in place.
    validate
        Judges the network as it stands.
    save
        Writes a checkpoint; called behind each epoch.

    Raises
    ------
    RunError
        Where the loss is no longer finite.
    """
    events = len(data.label)
    steps = total_steps(settings, events)
    label = torch.from_numpy(data.label)
    weight = torch.from_numpy(data.weight)
    progress.start("training", steps, "steps", done=state.step)
    while state.step < steps and not _stalled(state, settings):
        network.train()
        begun = time.perf_counter()
        order = epoch_order(events, seed, state.epoch)
        loss_sum = torch.zeros((), device=fabric.device)
        weight_sum = torch.zeros((), device=fabric.device)
        seen = 0
        for chosen in batch_events(order, settings.batch_size):
            rate = learning_rate(state.step, steps, settings)
            for group in optimizer.param_groups:
                group["lr"] = rate
            torch.manual_seed(_step_seed(seed, state.step))
            batch = to_torch(data.streams, chosen, fabric.device)
            w = weight[chosen].to(fabric.device)
            losses = nn.functional.cross_entropy(
                network(batch), label[chosen].to(fabric.device), reduction="none"
            )
            loss = (w * losses).sum() / len(chosen)
            optimizer.zero_grad()
            fabric.backward(loss)
            fabric.clip_gradients(
                network, optimizer, max_norm=settings.clip, error_if_nonfinite=False
            )
            optimizer.step()
            loss_sum += loss.detach() * len(chosen)
            weight_sum += w.sum()
            seen += len(chosen)
            state.step += 1
            progress.advance(1)
            if state.step == steps:
                break
        mean_loss = float(loss_sum / weight_sum)  # waits for the device
        seconds = time.perf_counter() - begun
        if not np.isfinite(mean_loss):
            raise RunError(
                f"the training loss is {mean_loss} in epoch {state.epoch + 1}: lower "
                f"training.learning_rate (now {settings.learning_rate}) or look for extreme event "
                f"weights, and train into another folder"
            )
        network.eval()
        validation = validate()
        state.epoch += 1
        row = {
            "epoch": state.epoch,
            "train_loss": mean_loss,
            "validation_loss": validation.loss,
            "validation_auc": validation.auc,
            "learning_rate": rate,
            "events_per_second": seen / seconds,
        }
        if validation.loss < state.best_loss or not state.best:
            state.best = {key: value.clone() for key, value in network.state_dict().items()}
            state.best_epoch = state.epoch
        state.history.append(row)
        save(state)
        progress.advance(0, note=f"loss {validation.loss:.4f}, AUC {validation.auc:.4f}")
    progress.stop()
    network.load_state_dict(state.best)
    network.eval()
    return state


def _stalled(state: TrainingState, settings: TrainingSettings) -> bool:
    """Whether the validation loss has not fallen for `patience` epochs."""
    return settings.patience is not None and state.epoch - state.best_epoch >= settings.patience


def _step_seed(seed: int, step: int) -> int:
    """Seed of what is random in one step (dropout)."""
    return int(np.random.SeedSequence((seed, step)).generate_state(1, np.uint64)[0])
