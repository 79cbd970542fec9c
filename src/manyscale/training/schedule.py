"""How long a run is, and the learning rate at each of its steps."""

import math
from bisect import bisect_right
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from manyscale.data.feeds import steps_per_epoch
from manyscale.settings import Settings, setting

__all__ = ["TrainingSettings", "cycle_ends", "learning_rate", "total_steps"]


class TrainingSettings(Settings):
    """How the network is trained."""

    start: Literal["auto", "none"] | Path = setting(
        "auto",
        "weights to start from: auto, those that the package carries, in streams that they know (a "
        "jet's constituents, kinematics); none, fresh ones; or the folder of a run or a base",
    )
    start_rate: float = setting(
        0.3, "factor on the learning rate of weights that were taken over", gt=0, le=1
    )
    mirrored: bool = setting(
        True, "mirror whole events at random in eta and phi, where it is known how columns change"
    )
    ensemble: int = setting(
        1,
        "networks trained one after the other, alike but for their seeds; their mean is the score",
        ge=1,
    )
    epochs: int = setting(20, "passes over the training events at most", ge=1)
    batch_size: int = setting(256, "events a step", ge=1)
    learning_rate: float = setting(2e-3, "highest learning rate", gt=0, allow_inf_nan=False)
    max_steps: int | None = setting(
        None, "steps at most; null: the epochs alone end the run; whichever ends first", ge=1
    )
    warmup: float = setting(
        0.1, "fraction of the run's steps in which the learning rate rises", ge=0, lt=1
    )
    restarts: tuple[Annotated[int, Field(ge=1)], ...] = setting(
        (),
        "steps after which the learning rate rises and falls anew; written by --resume where a run is "
        "trained longer",
    )
    weight_decay: float = setting(0.01, "decoupled weight decay of AdamW", ge=0)
    clip: float = setting(1.0, "largest norm of the gradient; beyond it is scaled down", gt=0)
    patience: int | None = setting(
        None, "epochs without a lower validation loss after which the run ends; null: never", ge=1
    )
    accumulate: int = setting(
        1, "parts that a step's events are worked through in, where memory is short", ge=1
    )
    accelerator: Literal["auto", "cpu", "gpu"] = setting("auto", "where to train")
    devices: Literal["auto"] | Annotated[int, Field(ge=1)] = setting(
        "auto",
        "GPUs, or processes on CPUs, of each node, from 1; auto: as torchrun or srun started them, "
        "else all GPUs, or one process on CPUs",
    )
    nodes: int = setting(1, "machines; for more than one start it with torchrun or srun", ge=1)
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = setting(
        "auto", "arithmetic of the network; auto: bf16-mixed on GPUs that have it, else 32-true"
    )
    deterministic: bool = setting(
        False, "the same bits every time on GPUs too, more slowly; CPUs give them anyway"
    )
    tensorboard: bool = setting(
        False, "also write TensorBoard event files into the run's folder, beside history.csv"
    )


def total_steps(settings: TrainingSettings, events: int) -> int:
    """Count the steps of a whole run over so many training events."""
    steps = settings.epochs * steps_per_epoch(events, settings.batch_size)
    return steps if settings.max_steps is None else min(steps, settings.max_steps)


def cycle_ends(steps: int, settings: TrainingSettings) -> list[int]:
    """Steps at which the learning rate has fallen to zero, the last of them `steps`, the run's end."""
    return [*(end for end in settings.restarts if end < steps), steps]


def learning_rate(step: int, steps: int, settings: TrainingSettings) -> float:
    """Learning rate of step `step` of `steps`: a linear rise, then half a cosine down to zero.

    With `restarts` so from each of these to the next (SGDR, arXiv:1608.03983). A pure function of the
    step, so that a resumed run needs no state for it.

    Examples
    --------
    >>> settings = TrainingSettings(learning_rate=1.0, warmup=0.5)
    >>> [learning_rate(step, 4, settings) for step in range(4)]
    [0.5, 1.0, 1.0, 0.5]
    """
    ends = [0, *cycle_ends(steps, settings)]
    cycle = bisect_right(ends, step)
    step, steps = step - ends[cycle - 1], ends[cycle] - ends[cycle - 1]
    rise = settings.warmup * steps
    if step < rise:
        return settings.learning_rate * min(1.0, (step + 1) / rise)
    way = (step - rise) / (steps - rise)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * way))
