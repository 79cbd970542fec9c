"""A training step on a GPU as one CUDA graph: launched at once, not kernel by kernel.

A step of a network of this size is some 900 kernels of a few microseconds each. Launched one by one, the
GPU waits for the host most of the time; a recorded graph took a quarter of it (docs/performance.md). A
graph is recorded for fixed shapes, so each batch is filled up by events of weight 0.
"""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from manyscale.data.feeds import TrainingBatch
from manyscale.features.columns import StreamBatch
from manyscale.model.attention import takes_varlen
from manyscale.model.classifier import MultiScaleClassifier
from manyscale.training.schedule import TrainingSettings

__all__ = ["GraphedStep", "can_graph"]

# Room for batches of so many standard deviations more tokens than the mean, or fewer.
_DEVIATIONS = 6.0
# Streams of few tokens get this much room in any case.
_SPARE = 256


class GraphedStep:
    """Loss, gradient, clipping and optimizer of a batch in one graph.

    Parameters
    ----------
    network
        On a GPU, in training mode.
    optimizer
        Fused and capturable, its learning rates tensors; `found_inf` is set here.
    typical
        A batch of the size of all but the last of an epoch: its numbers of tokens say how much room
        is needed. The same batch for every start of a run, so that a resumed one has the same shapes.
    longest
        Most tokens of an event, by stream.
    clip
        Largest norm of the gradient.

    Attributes
    ----------
    loss, norm
        Weighted sum of the loss, and norm of the gradient before clipping, of the last step.
    """

    loss: Tensor
    norm: Tensor

    def __init__(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        typical: TrainingBatch,
        *,
        longest: Mapping[str, int],
        clip: float,
    ) -> None:
        self._network, self._optimizer, self._clip = network, optimizer, clip
        self._parameters: list[Tensor] = [p for g in optimizer.param_groups for p in g["params"]]
        self._longest = dict(longest)
        self._events = len(typical.label)
        device = self._parameters[0].device
        spread = {
            name: _DEVIATIONS * float(stream.counts.std()) * self._events**0.5 + _SPARE
            for name, stream in typical.streams.items()
        }
        # Events that fill up: so many that a batch with few tokens is filled by events of usual length.
        self._fillers = 1 + max(int(2 * of / self._longest[name]) for name, of in spread.items())
        events = self._events + self._fillers
        self._streams: dict[str, StreamBatch] = {}
        for name, stream in typical.streams.items():
            tokens = int(stream.counts.sum() + spread[name])
            # What the recording is told: so many tokens, and so many in the longest event.
            longest_of = min(self._longest[name], tokens)
            told = _shared(tokens - longest_of, events - 1)
            counts = np.concatenate([told, [longest_of]])
            self._streams[name] = StreamBatch(
                torch.ones(tokens, stream.values.shape[1], device=device),
                torch.from_numpy(counts).to(device),
                torch.ones(events, stream.axis.shape[1], device=device),
                counts,
            )
        self._label = torch.zeros(events, dtype=torch.int64, device=device)
        self._weight = torch.zeros(events, device=device)
        self._bad = torch.zeros((), device=device)
        self._record()

    def __call__(self, batch: TrainingBatch) -> bool:
        """Do the step, without waiting for it; False, and nothing done, where the batch does not fit."""
        if len(batch.label) != self._events:
            return False
        counts = {}
        for name, stream in batch.streams.items():
            rest = len(self._streams[name].values) - len(stream.values)
            if not 0 <= rest <= self._fillers * self._longest[name]:
                return False
            counts[name] = np.concatenate([stream.counts, _shared(rest, self._fillers)])
        for name, stream in batch.streams.items():
            buffers = self._streams[name]
            # Tokens of the events that fill up stay what they were: real ones, of an earlier batch.
            _copy(stream.values, buffers.values)
            _copy(counts[name], buffers.counts)
            _copy(stream.axis, buffers.axis)
        _copy(batch.label, self._label)
        _copy(batch.weight, self._weight)
        self._graph.replay()
        return True

    def _step(self) -> None:
        # Cached casts of weights would be those of the recording.
        with torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
            logits = self._network(self._streams)
        losses = nn.functional.cross_entropy(logits.float(), self._label, reduction="none")
        weighted = (self._weight * losses).sum()
        torch.autograd.backward(weighted / self._events)
        self.loss = weighted.detach()
        self.norm = nn.utils.clip_grad_norm_(self._parameters, self._clip)
        self._bad.copy_(~torch.isfinite(self.norm))
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=False)

    def _record(self) -> None:
        weights = [p.detach().clone() for p in self._parameters]
        state = {
            parameter: {key: value.clone() for key, value in of.items()}
            for parameter, of in self._optimizer.state.items()
        }
        # With it the fused optimizer itself leaves out a step whose gradient is not finite.
        self._optimizer.found_inf = self._bad  # type: ignore[attr-defined]
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):  # torch wants some steps before a recording
            for _ in range(3):
                self._step()
        torch.cuda.current_stream().wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._step()
        # As if those steps had not been.
        with torch.no_grad():
            for parameter, before in zip(self._parameters, weights, strict=True):
                parameter.copy_(before)
            for parameter, of in self._optimizer.state.items():
                for key, value in of.items():
                    if parameter in state:
                        value.copy_(state[parameter][key])
                    else:
                        value.zero_()


def can_graph(
    network: MultiScaleClassifier,
    settings: TrainingSettings,
    precision: str,
    device: torch.device,
    world: int,
) -> bool:
    """Whether steps can be recorded: on one GPU, where all attention is that of packed rows, in bf16.

    Padded rows, which pair biases and some widths of heads need, are arranged on the host, for each
    batch: a graph would keep those of its recording.
    """
    streams, fusion = network.settings.streams, network.settings.fusion
    heads = {of.width // of.heads for of in streams.values()}
    heads |= {streams[block.query].width // block.heads for block in fusion}
    return (
        device.type == "cuda"
        and all(map(takes_varlen, heads))
        and precision == "bf16-mixed"
        and world == settings.accumulate == 1
        and not settings.deterministic
        and not any(of.pair_bias for of in streams.values())
    )


def _shared(tokens: int, events: int) -> NDArray[np.int64]:
    """So many tokens shared out evenly to so many events."""
    counts = np.full(events, tokens // max(events, 1), np.int64)
    counts[: tokens - int(counts.sum())] += 1
    return counts


def _copy(source: NDArray[np.generic], target: Tensor) -> None:
    """Copy to the first rows of a buffer on the GPU, in its queue."""
    host = torch.from_numpy(source).pin_memory()
    target[: len(host)].copy_(host, non_blocking=True)
