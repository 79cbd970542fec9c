"""A training step on a GPU as one CUDA graph: launched at once instead of kernel by kernel.

A step of a network of this size is some 900 kernels of a few microseconds each; launched one by one, the
GPU waits for the host three quarters of the time. A graph is recorded for fixed shapes, so a batch is
filled up: to `rows` tokens a stream by events that count nothing, of weight 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from manyscale.data.feed import TrainingBatch
from manyscale.features.columns import StreamBatch

__all__ = ["GraphedStep"]

# Room for so many standard deviations of a batch's number of tokens, either way.
_DEVIATIONS = 6.0


@dataclass(frozen=True)
class _Room:
    """Fixed sizes of one stream: tokens of a batch, and most tokens of an event."""

    tokens: int
    longest: int


class GraphedStep:
    """Loss, gradient, clipping and optimizer of one batch, recorded once and replayed.

    Parameters
    ----------
    network
        On a GPU, in training mode.
    optimizer
        Fused and capturable, its learning rates tensors.
    parameters
        What is clipped together.
    clip
        Largest norm of the gradient.
    longest
        Most tokens of an event, by stream.
    dtype
        Of the network's arithmetic.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        clip: float,
        longest: Mapping[str, int],
        dtype: torch.dtype,
    ) -> None:
        self._network, self._optimizer = network, optimizer
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self._clip, self._longest, self._dtype = clip, dict(longest), dtype
        self._rooms: dict[str, _Room] = {}
        self._graph: torch.cuda.CUDAGraph | None = None

    def _plan(self, batch: TrainingBatch) -> None:
        """Choose the sizes from a batch, so that nearly all others of as many events fit."""
        events = len(batch.label)
        spare = {}
        for name, stream in batch.streams.items():
            spread = _DEVIATIONS * float(stream.counts.std()) * events**0.5
            tokens = int(stream.counts.sum() + spread) // 128 * 128 + 256
            self._rooms[name] = _Room(tokens, self._longest[name])
            spare[name] = 2 * spread + 512
        self._fillers = max(
            1 + int(of_stream / self._longest[name]) for name, of_stream in spare.items()
        )
        self._batch_events = events
        device = self._parameters[0].device
        total = events + self._fillers
        self._streams: dict[str, StreamBatch] = {}
        for name, stream in batch.streams.items():
            room = self._rooms[name]
            # What the recording is to expect: so many tokens, and so many in the longest event.
            expected = np.zeros(total, np.int64)
            expected[:] = (room.tokens - room.longest) // (total - 1)
            expected[0] = room.longest
            expected[-1] += room.tokens - expected.sum()
            self._streams[name] = StreamBatch(
                torch.ones(room.tokens, stream.values.shape[1], device=device),
                torch.from_numpy(expected).to(device),
                torch.ones(total, stream.axis.shape[1], device=device),
                expected,
            )
        self._label = torch.zeros(total, dtype=torch.long, device=device)
        self._weight = torch.zeros(total, device=device)

    def _fill(self, batch: TrainingBatch) -> bool:
        """Bring a batch to the GPU, filled up; False where it does not fit."""
        events = len(batch.label)
        if events != self._batch_events:
            return False
        counts = {}
        for name, stream in batch.streams.items():
            room = self._rooms[name]
            rest = room.tokens - len(stream.values)
            if rest < 0 or rest > self._fillers * room.longest:
                return False
            fill = np.full(self._fillers, rest // self._fillers)
            fill[: rest % self._fillers] += 1
            counts[name] = np.concatenate([stream.counts, fill])
        for name, stream in batch.streams.items():
            buffers = self._streams[name]
            _copy(buffers.values[: len(stream.values)], stream.values)
            _copy(buffers.counts, counts[name])
            _copy(buffers.axis[:events], stream.axis)
        _copy(self._label[:events], batch.label)
        _copy(self._weight[:events], batch.weight)
        return True

    def _step(self) -> None:
        self._optimizer.zero_grad(set_to_none=False)
        with torch.autocast("cuda", self._dtype, cache_enabled=False):
            logits = self._network(self._streams)
        losses = nn.functional.cross_entropy(logits.float(), self._label, reduction="none")
        weighted = (self._weight * losses).sum()
        (weighted / self._batch_events).backward()
        norm = nn.utils.clip_grad_norm_(self._parameters, self._clip, foreach=True)
        # A step whose gradient is not finite is passed over by the fused kernel itself.
        self.bad = (~torch.isfinite(norm)).float().reshape(1)
        self._optimizer.step()
        self.loss = weighted.detach()

    def __call__(self, batch: TrainingBatch) -> Tensor | None:
        """Do the step; return the weighted sum of the loss, or None where the batch does not fit."""
        if not self._rooms:
            self._plan(batch)
        if not self._fill(batch):
            return None
        if self._graph is None:
            self._record()
        assert self._graph is not None
        self._graph.replay()
        return self.loss

    def _record(self) -> None:
        state = [p.detach().clone() for p in self._parameters]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self._step()
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._step()
        # Warming up has moved weights and optimizer: as if it had not been.
        with torch.no_grad():
            for p, before in zip(self._parameters, state, strict=True):
                p.copy_(before)
        for of_parameter in self._optimizer.state.values():
            for value in of_parameter.values():
                value.zero_()


def _copy(target: Tensor, source: np.ndarray) -> None:
    target.copy_(torch.from_numpy(np.ascontiguousarray(source)).pin_memory(), non_blocking=True)
