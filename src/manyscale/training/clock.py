"""Where the time of an epoch goes, measured without making a device wait."""

import time
from collections import deque
from typing import Literal, get_args

import torch

__all__ = ["Clock", "Phase"]

Phase = Literal["data", "forward", "backward", "optimizer"]

# Marks on a GPU that wait to be read before the finished ones among them are.
_WAITING = 1000


class Clock:
    """Adds up the seconds of each phase of the training steps.

    On a GPU, which works through its orders on its own, a mark is an event in its queue: a phase
    takes as long as the GPU takes, and `data` is also the time that it stands idle before a step.

    Parameters
    ----------
    device
        Where the network is trained. The first phase begins at once.
    """

    def __init__(self, device: torch.device) -> None:
        self._seconds: dict[Phase, float] = dict.fromkeys(get_args(Phase), 0.0)
        self._on_gpu = device.type == "cuda"
        self._events: deque[tuple[Phase, torch.cuda.Event]] = deque()
        self._last = time.perf_counter()
        self._last_event = self._event() if self._on_gpu else None

    def mark(self, phase: Phase) -> None:
        """End a phase: all since the last mark belonged to it."""
        if self._on_gpu:
            self._events.append((phase, self._event()))
            if len(self._events) > _WAITING:
                self._read(wait=False)
            return
        now = time.perf_counter()
        self._seconds[phase] += now - self._last
        self._last = now

    def seconds(self) -> dict[str, float]:
        """Seconds of each phase so far, as `data_seconds` and so on; waits for the device."""
        self._read(wait=True)
        return {f"{phase}_seconds": seconds for phase, seconds in self._seconds.items()}

    def _event(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def _read(self, *, wait: bool) -> None:
        while self._events and (wait or self._events[0][1].query()):  # type: ignore[no-untyped-call]
            phase, event = self._events.popleft()
            event.synchronize()
            if self._last_event is not None:
                self._seconds[phase] += self._last_event.elapsed_time(event) / 1e3  # from ms
            self._last_event = event
