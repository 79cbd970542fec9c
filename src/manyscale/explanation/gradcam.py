"""Grad-CAM on tokens: which of them move the score, by the gradient at the deepest layer that has them.

Selvaraju et al., arXiv:1610.02391, equations 1 and 2, weigh each channel of the last feature map of an
image by the mean of its gradient over the pixels, and keep the positive part of the weighted sum. Here
tokens stand for pixels and the width of a token for the channels: with A the token's row,

    alpha_k = mean over the event's tokens of dy / dA_k,   importance = relu(sum_k alpha_k A_k),

where y is the logit of the predicted class minus that of the other.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from manyscale.deployment.predict import batches, class_logits
from manyscale.events.ragged import PackedStream
from manyscale.explanation.tokens import ClassMeans, Labelled, TokenReader, Tokens
from manyscale.features.columns import Segments, StreamBatch
from manyscale.model.attention import WeightsTap
from manyscale.model.classifier import MultiScaleClassifier
from manyscale.model.layout import Layout
from manyscale.model.taps import NO_TAPS, Place, Taps

__all__ = [
    "GradCam",
    "ImportanceMaps",
    "grad_cam",
    "logit_difference",
    "responses",
    "token_importance",
]

L = TypeVar("L", Tensor, NDArray[np.float32])


def logit_difference(logits: L) -> L:
    """(events,): logit of signal minus logit of background, ln p / (1 - p) of the score p.

    It is what explanations explain: unlike the probability it does not saturate near 0 and 1.
    """
    return logits[:, 1] - logits[:, 0]


def responses(
    network: MultiScaleClassifier, streams: Mapping[str, PackedStream]
) -> NDArray[np.float64]:
    """(events,): the logit difference of each event; streams as in `class_logits`."""
    return logit_difference(class_logits(network, streams)).astype(np.float64)


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
        (tokens,) by stream: relu of the evidence for the predicted class, over its sum over all
        tokens of the event; all zero where no token speaks for that class.
    """

    logit: Tensor
    evidence: Mapping[str, Tensor]
    importance: Mapping[str, Tensor]


def grad_cam_places(network: MultiScaleClassifier) -> dict[str, Place]:
    """Where the rows of each stream are last all there; streams that nothing attends to are left out.

    That is where a fusion block first attends to them; for a stream that only queries, what goes into
    the last self-attention of the last block in which it does; for any other, what goes into the last
    layer of its encoder, which works out the class row alone.
    """
    settings, places = network.settings, {}
    for name, stream in settings.streams.items():
        blocks = list(enumerate(settings.fusion, start=1))
        queries = [number for number, block in blocks if block.query == name]
        first = next((number for number, block in blocks if name in block.context), None)
        if first is not None:
            before = [number for number in queries if number < first]
            number = before[-1] if before else 0
            context = settings.fusion[number - 1].context if number else ()
            places[name] = Place(name, number, part="output", context=context)
        elif queries:
            block = settings.fusion[queries[-1] - 1]
            at = (name, queries[-1], block.layers)
            places[name] = Place(*at, "cross-attention", block.context, block.heads)
        elif stream.layers > 1:
            places[name] = Place(name, layer=stream.layers - 1)
        elif stream.layers == 1:
            places[name] = Place(name, part="embedding")
    return places


class _RowTaps(Taps):
    """Keeps the rows at some places, from where the graph of gradients begins."""

    def __init__(self, places: Mapping[str, Place], weights: Taps) -> None:
        self.places, self.of_weights = set(places.values()), weights
        self.found: dict[str, Tensor] = {}
        self.layouts: dict[str, Layout] = {}

    def rows(self, place: Place, rows: Tensor, layout: Layout) -> Tensor:
        if place in self.places:
            # What comes from another stream's rows has a gradient already.
            rows = rows if rows.requires_grad else rows.requires_grad_()
            self.found[place.stream], self.layouts[place.stream] = rows, layout
        return rows

    def weights(self, place: Place) -> WeightsTap | None:
        return self.of_weights.weights(place)


def grad_cam(
    network: MultiScaleClassifier, batch: Mapping[str, StreamBatch], weights: Taps = NO_TAPS
) -> GradCam:
    """Work out Grad-CAM of a batch.

    The forward pass keeps a graph from the rows in question on alone, so that a pass costs little more
    than a prediction. A stream whose tokens do not reach the head has no evidence at all. `weights` is
    given the attention weights of the same pass.
    """
    taps = _RowTaps(grad_cam_places(network), weights)
    learned = [parameter for parameter in network.parameters() if parameter.requires_grad]
    try:
        # Were parameters to have gradients, the graph would begin at the embedding.
        for parameter in learned:
            parameter.requires_grad_(False)
        with torch.enable_grad():
            logit = logit_difference(network(batch, taps))
            watched = {name: rows for name, rows in taps.found.items() if rows.requires_grad}
            gradients: tuple[Tensor | None, ...] = ()
            if watched:
                gradients = torch.autograd.grad(logit.sum(), [*watched.values()], allow_unused=True)
    finally:
        for parameter in learned:
            parameter.requires_grad_()
    logit = logit.detach()
    segments = {
        name: Segments.of(stream.counts, len(stream.values)) for name, stream in batch.items()
    }
    evidence = {name: stream.values.new_zeros(len(stream.values)) for name, stream in batch.items()}
    for (name, rows), gradient in zip(watched.items(), gradients, strict=True):
        if gradient is not None:
            # Class tokens, which come first, gather what is of all tokens.
            counts, of_tokens = segments[name].counts, taps.layouts[name].token_rows
            total = torch.segment_reduce(gradient[of_tokens], "sum", lengths=counts, initial=0)
            alpha = total / counts.clamp(min=1)[:, None]
            evidence[name] = (segments[name].spread(alpha) * rows.detach()[of_tokens]).sum(1)

    # An event in which no token speaks for the predicted class has no importance at all.
    predicted = torch.where(logit < 0, -1.0, 1.0)
    positive = {
        name: (of * segments[name].spread(predicted)).relu() for name, of in evidence.items()
    }
    of_event = torch.stack([segments[name].sum(of) for name, of in positive.items()]).sum(0)
    scale = torch.where(of_event > 0, 1 / of_event, 0)
    importance = {name: of * segments[name].spread(scale) for name, of in positive.items()}
    return GradCam(logit, evidence, importance)


def token_importance(
    network: MultiScaleClassifier, streams: Mapping[str, PackedStream]
) -> dict[str, NDArray[np.float32]]:
    """Say how much each token speaks for the predicted class: `GradCam.importance`, by stream."""
    found = {name: np.zeros(len(stream.values), np.float32) for name, stream in streams.items()}
    for chosen, batch in batches(network, streams):
        importance = grad_cam(network, batch).importance
        for name, stream in streams.items():
            found[name][stream.rows(chosen)] = importance[name].cpu().numpy()
    return found


class ImportanceMaps:
    """Adds up Grad-CAM of a network, batch by batch, in memory that does not grow.

    Attributes
    ----------
    means
        By stream. Channels: of "importance", `GradCam.importance`, and of "even", what each token
        would have were all of the event alike. What all tokens of a stream have together is the
        stream's part of the event.
    """

    def __init__(self, network: MultiScaleClassifier, readers: Mapping[str, TokenReader]) -> None:
        device = next(network.parameters()).device
        channels = [{"of": "importance"}, {"of": "even"}]
        self.means = {
            name: ClassMeans(reader, channels, device) for name, reader in readers.items()
        }

    def add(
        self, importance: Mapping[str, Tensor], tokens: Mapping[str, Tokens], events: Labelled
    ) -> None:
        """Count the events of a batch."""
        counts = torch.stack([of_stream.segments.counts for of_stream in tokens.values()]).sum(0)
        even = 1 / counts.clamp(min=1)
        for name, means in self.means.items():
            given = [importance[name], tokens[name].segments.spread(even)]
            means.add(tokens[name], torch.stack(given, 1), events)
