"""Grad-CAM on tokens: which of them move the score, by the gradient at the deepest layer that has them.

Selvaraju et al., arXiv:1610.02391, equations 1 and 2, weigh each channel of the last feature map of an
image by the mean of its gradient over the pixels, and keep the positive part of the weighted sum. Here
tokens stand for pixels and the width of a token for the channels: with A the token's row,

    alpha_k = mean over the event's tokens of dy / dA_k,   importance = relu(sum_k alpha_k A_k),

where y is the logit of the class that the network says minus that of the other.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from manyscale.explanation.response import Streams, logit_difference
from manyscale.features.columns import Segments, StreamBatch, to_torch
from manyscale.model.batches import batches_by_length
from manyscale.model.classifier import MultiScaleClassifier

__all__ = ["GradCam", "grad_cam", "token_importance"]


@dataclass(frozen=True)
class GradCam:
    """Grad-CAM of a batch.

    Attributes
    ----------
    logit
        (events,): logit of signal minus that of background.
    evidence
        (tokens,) by stream: sum_k alpha_k A_k for y = `logit`, before the relu: positive towards
        signal, negative towards background.
    importance
        (tokens,) by stream: relu of the evidence for the class that the network says, over its sum
        over all tokens of the event; all zero where no token speaks for that class.
    """

    logit: Tensor
    evidence: Mapping[str, Tensor]
    importance: Mapping[str, Tensor]


def token_importance(
    network: MultiScaleClassifier, streams: Streams
) -> dict[str, NDArray[np.float32]]:
    """Say how much each token speaks for the class that the network says.

    Parameters
    ----------
    network
        In evaluation mode.
    streams
        Already trimmed by the network.

    Returns
    -------
    (tokens,) by stream, see `GradCam.importance`: the tokens of an event, over all streams, sum to one.
    """
    found = {name: np.zeros(len(stream.values), np.float32) for name, stream in streams.items()}
    device = next(network.parameters()).device
    for chosen in batches_by_length(streams):
        importance = grad_cam(network, to_torch(streams, chosen, device)).importance
        for name, stream in streams.items():
            found[name][stream.rows(chosen)] = importance[name].cpu().numpy()
    return found


def grad_cam(network: MultiScaleClassifier, batch: Mapping[str, StreamBatch]) -> GradCam:
    """Work out Grad-CAM of a batch, its streams as trimmed by the network.

    The forward pass keeps a graph from the watched rows on alone, so that a pass costs little more
    than a prediction. A stream whose tokens do not reach the head has no evidence at all.
    """
    with _watching(network) as watched, torch.enable_grad():
        logit = logit_difference(network(batch))
        names = [name for name, rows in watched.items() if rows.requires_grad]
        gradients = torch.autograd.grad(
            logit.sum(), [watched[name] for name in names], allow_unused=True
        )
    evidence = {name: stream.values.new_zeros(len(stream.values)) for name, stream in batch.items()}
    segments = {
        name: Segments.of(stream.counts, len(stream.values)) for name, stream in batch.items()
    }
    for name, gradient in zip(names, gradients, strict=True):
        if gradient is not None:
            evidence[name] = _evidence(watched[name].detach(), gradient, segments[name])
    return GradCam(logit.detach(), evidence, _importance(logit.detach(), evidence, segments))


def _evidence(rows: Tensor, gradient: Tensor, segments: Segments) -> Tensor:
    """(tokens,): sum_k alpha_k A_k, from rows and gradients (events + tokens, width)."""
    events = len(segments.counts)
    rows, gradient = rows[events:], gradient[events:]
    total = torch.segment_reduce(gradient, "sum", lengths=segments.counts, axis=0, initial=0)
    alpha = total / segments.counts.clamp(min=1)[:, None]
    return (alpha[segments.event] * rows).sum(1)


def _importance(
    logit: Tensor, evidence: Mapping[str, Tensor], segments: Mapping[str, Segments]
) -> dict[str, Tensor]:
    """Positive part of the evidence for the class that the network says, an event's sum one."""
    said = torch.where(logit < 0, -1.0, 1.0)
    spoken = {name: (of * segments[name].spread(said)).relu() for name, of in evidence.items()}
    total = torch.stack([segments[name].sum(of) for name, of in spoken.items()]).sum(0)
    scale = torch.where(total > 0, 1 / total, 0)
    return {name: of * segments[name].spread(scale) for name, of in spoken.items()}


@contextmanager
def _watching(network: MultiScaleClassifier) -> Iterator[dict[str, Tensor]]:
    """Collect, in a forward pass, the rows of each stream whose gradient is asked for."""
    watched: dict[str, Tensor] = {}
    learned = [parameter for parameter in network.parameters() if parameter.requires_grad]
    with ExitStack() as stack:
        for handle in _watch(network, watched):
            stack.callback(handle.remove)
        for parameter in learned:
            parameter.requires_grad_(False)
            stack.callback(parameter.requires_grad_)
        yield watched


class _Point(NamedTuple):
    """Where rows are watched: what goes into a module, or what comes out of it.

    `callers` are the streams for which the module is called, in their order.
    """

    module: nn.Module
    of_input: bool
    callers: tuple[str, ...]


def _watch(network: MultiScaleClassifier, watched: dict[str, Tensor]) -> list[RemovableHandle]:
    """Set the hooks that collect the rows of every stream."""
    points = {name: _point(network, name) for name in network.settings.streams}
    handles = []
    for point in dict.fromkeys(points.values()):
        if point is None:
            continue
        calls = cycle([name if points[name] == point else None for name in point.callers])
        keep = partial(_keep, calls, watched)
        if point.of_input:
            handles.append(point.module.register_forward_pre_hook(_of_input(keep)))
        else:
            handles.append(point.module.register_forward_hook(_of_output(keep)))
    return handles


def _point(network: MultiScaleClassifier, name: str) -> _Point | None:
    """Where the rows of a stream are last all there; None where nothing looks at its tokens.

    That is where a fusion block first looks at them; for a stream that only asks, what goes into the
    last self-attention of the last block in which it asks; for any other, what goes into the last
    layer of its encoder, which works out the class row alone.
    """
    settings, encoder = network.settings, network.encoder(name)
    shared = network.encoder_of[name]
    sharing = tuple(other for other in settings.streams if network.encoder_of[other] == shared)
    asks = [place for place, block in enumerate(settings.fusion) if block.query == name]
    answers = [place for place, block in enumerate(settings.fusion) if name in block.context]
    if answers:
        before = [place for place in asks if place < answers[0]]
        if before:
            return _Point(network.fusion[before[-1]], False, (name,))
        return _Point(encoder, False, sharing)
    if asks:
        last = list(network.fusion[asks[-1]].get_submodule("layers").children())[-1]
        return _Point(last.get_submodule("encoder_layer"), True, (name,))
    layers = list(encoder.layers)
    return _Point(layers[-1], True, sharing) if layers else None


def _keep(calls: Iterator[str | None], watched: dict[str, Tensor], rows: Tensor) -> None:
    name = next(calls)
    if name is not None:
        # What comes from another stream's watched rows has a gradient already.
        watched[name] = rows if rows.requires_grad else rows.requires_grad_()


def _of_input(keep: Callable[[Tensor], None]) -> Callable[[nn.Module, tuple[Any, ...]], None]:
    return lambda _, given: keep(given[0])


def _of_output(
    keep: Callable[[Tensor], None],
) -> Callable[[nn.Module, tuple[Any, ...], Tensor], None]:
    return lambda _, __, rows: keep(rows)
