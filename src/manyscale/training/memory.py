"""Memory of a training: how much it took, and what to do where it is not enough."""

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from manyscale.errors import RunError
from manyscale.training.schedule import TrainingSettings

__all__ = ["advise_on_memory", "peak_memory_mb"]

_MB = 1e6
# Linux alone has it.
_STATUS = Path("/proc/self/status")
# torch has a class of its own for GPUs alone.
_CPU_SAYS = ("can't allocate memory", "not enough memory")


def peak_memory_mb(device: torch.device) -> float:
    """Most memory that this process held so far, in MB: of the GPU where there is one, else resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / _MB
    if _STATUS.is_file():
        # getrusage would tell the peak of the process that started this one, where it was higher.
        peak = _STATUS.read_text(encoding="ascii").split("VmHWM:")[1].split()[0]
        return int(peak) * 1024 / _MB
    kilobytes = sys.platform != "darwin"  # macOS counts in bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1024 if kilobytes else 1) / _MB


@contextmanager
def advise_on_memory(settings: TrainingSettings, events: int) -> Iterator[None]:
    """Turn what torch and numpy raise when memory runs out into advice.

    Parameters
    ----------
    settings
        Of the training.
    events
        That were worked through at a time.

    Raises
    ------
    RunError
        Where memory runs out: says which settings would halve what is needed.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        raise RunError(_advice(settings, events, error)) from error


def _is_out_of_memory(error: Exception) -> bool:
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or any(words in str(error) for words in _CPU_SAYS)


def _advice(settings: TrainingSettings, events: int, error: Exception) -> str:
    said = str(error).splitlines()[0] if str(error) else type(error).__name__
    if events == 1:
        return (
            f"out of memory in a training step with a single event at a time: take a smaller width "
            f"or max_tokens of the streams ({said})"
        )
    return (
        f"out of memory in a training step, with {events} events at a time: half of them should "
        f"fit. training.accumulate={2 * settings.accumulate} works through the same batch in parts "
        f"of {-(-events // 2)} and gives the same result; training.batch_size="
        f"{max(1, settings.batch_size // 2)} takes smaller steps ({said})"
    )
