"""The training loop: from a batch to a checkpoint, readable from top to bottom."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from manyscale.data.feed import Feed, TrainingBatch
from manyscale.data.packing import PackedStream
from manyscale.errors import RunError
from manyscale.features.columns import StreamBatch, on_device
from manyscale.progress import Progress
from manyscale.training.checkpoint import TrainingState
from manyscale.training.clock import Clock
from manyscale.training.memory import advise_on_memory, peak_memory_mb
from manyscale.training.schedule import TrainingSettings, learning_rate, total_steps

__all__ = ["Validation", "train"]


@dataclass(frozen=True)
class Validation:
    """What an epoch is judged by: loss and AUC on the validation events."""

    loss: float
    auc: float


def train(
    network: nn.Module,
    feed: Feed,
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

    Of a step with n events, over all processes together, the loss is sum(w l) / n, l the
    cross-entropy of an event and w its weight; however many processes share the step, in however
    many parts each works through its share, the gradient is that of this sum.

    The batches are a pure function of (seed, epoch, step), dropout one of (seed, step, process):
    the same card on the same machine gives the same weights, resumed or not.

    Parameters
    ----------
    network, optimizer
        As set up by `fabric`; changed in place.
    feed
        Gives the batches, to each process its share.
    validate
        Judges the network as it stands; gives the same in all processes.
    save
        Writes a checkpoint; called behind each epoch, in all processes.

    Raises
    ------
    RunError
        Where the loss is no longer finite, or memory runs out.
    """
    rank, world, device = fabric.global_rank, fabric.world_size, fabric.device
    steps = total_steps(settings, feed.events)
    progress.start("training", steps, "steps", done=state.step)
    while state.step < steps and not _stalled(state, settings):
        network.train()
        begun, clock = time.perf_counter(), Clock(device)
        loss_sum = torch.zeros((), device=device)
        weight_sum, seen = 0.0, 0
        for share in feed.batches(state.epoch, settings.batch_size, rank=rank, world=world):
            together = min(settings.batch_size, feed.events - seen)
            rate = learning_rate(state.step, steps, settings)
            _set_rate(optimizer, rate)
            _seed_dropout(seed, state.step, rank, device)
            parts = _parts(share, settings.accumulate)
            for number, part in enumerate(parts, start=1):
                with (
                    advise_on_memory(settings, len(part.label)),
                    # Gradients are added up over the processes with those of the last part.
                    fabric.no_backward_sync(network, enabled=number < len(parts)),  # type: ignore[arg-type]
                ):
                    streams, label, weight = _on_device(part, device)
                    clock.mark("data")
                    losses = nn.functional.cross_entropy(network(streams), label, reduction="none")
                    weighted = (weight * losses).sum()
                    clock.mark("forward")
                    # Of the processes' gradients the mean is taken, hence the factor `world`.
                    fabric.backward(weighted / (together / world))
                    clock.mark("backward")
                loss_sum += weighted.detach()
                weight_sum += float(part.weight.sum())
            fabric.clip_gradients(
                network, optimizer, max_norm=settings.clip, error_if_nonfinite=False
            )
            optimizer.step()
            optimizer.zero_grad(set_to_none=False)
            clock.mark("optimizer")
            seen += together
            state.step += 1
            progress.advance(1)
            if state.step == steps:
                break
        mean_loss = _mean_loss(fabric, loss_sum, weight_sum)
        seconds = time.perf_counter() - begun
        if not np.isfinite(mean_loss):
            raise RunError(
                f"the training loss is {mean_loss} in epoch {state.epoch + 1}: lower "
                f"training.learning_rate (now {settings.learning_rate}) or look for extreme event "
                f"weights, and train into another folder"
            )
        network.eval()
        judging = time.perf_counter()
        validation = validate()
        state.epoch += 1
        if validation.loss < state.best_loss or not state.best:
            state.best = {key: value.clone() for key, value in network.state_dict().items()}
            state.best_epoch = state.epoch
        state.history.append(
            {
                "epoch": state.epoch,
                "train_loss": mean_loss,
                "validation_loss": validation.loss,
                "validation_auc": validation.auc,
                "learning_rate": rate,
                "events_per_second": seen / seconds,
                **clock.seconds(),
                "validation_seconds": time.perf_counter() - judging,
                "peak_memory_mb": peak_memory_mb(device),
            }
        )
        save(state)
        progress.advance(0, note=f"loss {validation.loss:.4f}, AUC {validation.auc:.4f}")
    progress.stop()
    network.load_state_dict(state.best)
    network.eval()
    return state


def _stalled(state: TrainingState, settings: TrainingSettings) -> bool:
    """Whether the validation loss has not fallen for `patience` epochs."""
    return settings.patience is not None and state.epoch - state.best_epoch >= settings.patience


def _set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def _seed_dropout(seed: int, step: int, rank: int, device: torch.device) -> None:
    """Seed what is random in one step of one process."""
    drawn = np.random.SeedSequence((seed, step, rank)).generate_state(1, np.uint64)[0]
    # torch.manual_seed also seeds devices that are not used, which takes a tenth of a small step.
    torch.default_generator.manual_seed(int(drawn))
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(int(drawn))


def _parts(share: TrainingBatch, count: int) -> list[TrainingBatch]:
    """Divide the events of a step into parts of a similar number, none empty."""
    events = len(share.label)
    if events == 0:
        return [_nothing(share)]
    if count == 1:
        return [share]
    edges = np.unique(np.linspace(0, events, count + 1).astype(int))
    return [_between(share, int(first), int(last)) for first, last in pairwise(edges)]


def _on_device(
    part: TrainingBatch, device: torch.device
) -> tuple[dict[str, StreamBatch], Tensor, Tensor]:
    """Bring streams, labels and weights to a device."""
    streams = {name: StreamBatch.of(stream, device) for name, stream in part.streams.items()}
    return streams, on_device(part.label, device), on_device(part.weight, device)


def _between(batch: TrainingBatch, first: int, last: int) -> TrainingBatch:
    return TrainingBatch(
        {name: stream.between(first, last) for name, stream in batch.streams.items()},
        batch.label[first:last],
        batch.weight[first:last],
    )


def _nothing(batch: TrainingBatch) -> TrainingBatch:
    """One event without a token that counts nothing: so that a process without events takes part."""
    streams = {
        name: PackedStream(
            stream.values[:0],
            np.zeros(1, np.int64),
            np.zeros((1, stream.axis.shape[1]), np.float32),
        )
        for name, stream in batch.streams.items()
    }
    return TrainingBatch(streams, np.zeros(1, np.int64), np.zeros(1, np.float32))


def _mean_loss(fabric: Fabric, loss_sum: Tensor, weight_sum: float) -> float:
    """Weighted mean of the loss over the events of all processes; waits for the device."""
    sums = fabric.all_reduce(
        torch.stack([loss_sum, loss_sum.new_tensor(weight_sum)]), reduce_op="sum"
    )
    assert isinstance(sums, Tensor)  # noqa: S101 - for the type checker
    return float(sums[0] / sums[1])
