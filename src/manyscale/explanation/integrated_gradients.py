"""Integrated gradients: how far each input moved the score away from that of average tokens."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from manyscale.data.packing import PackedEvents
from manyscale.explanation.response import Streams, batches, logit_difference, responses
from manyscale.features.columns import StreamBatch
from manyscale.features.extractor import FeatureExtractor
from manyscale.model.classifier import MultiScaleClassifier
from manyscale.statistics.means import weighted_mean

__all__ = ["Attributions", "FeatureAttribution", "integrated_gradients", "summarise"]

_CLASSES = ((1, "signal"), (0, "background"))


@dataclass(frozen=True)
class Attributions:
    """How much of the logit difference each feature of each token accounts for.

    Attributes
    ----------
    features
        Names by stream.
    values
        (tokens, features) by stream, float32, in logits: positive towards signal.
    answer
        (events,): logit difference.
    baseline
        (events,): logit difference of the baseline, as many average tokens without a class.
    residual
        (events,): sum of all attributions of the event minus (answer - baseline); it vanishes with
        the number of steps.
    """

    features: Mapping[str, tuple[str, ...]]
    values: Mapping[str, NDArray[np.float32]]
    answer: NDArray[np.float64]
    baseline: NDArray[np.float64]
    residual: NDArray[np.float64]

    def importance(self, streams: Streams) -> dict[str, NDArray[np.float32]]:
        """(tokens,) by stream: what a token says for the class that the network says, in logits.

        The sum over its features, turned round for events called background: a ranking for
        `deletion.deletion`.

        Parameters
        ----------
        streams
            Those attributed.
        """
        towards = np.where(self.answer >= 0, 1, -1).astype(np.float32)
        return {
            name: values.sum(axis=1) * np.repeat(towards, streams[name].counts)
            for name, values in self.values.items()
        }

    @property
    def completeness(self) -> dict[str, float]:
        """Largest and root mean square `residual`, and root mean square change, in logits."""
        return {
            "largest_residual": float(np.abs(self.residual).max(initial=0)),
            "rms_residual": _root_mean_square(self.residual),
            "rms_change": _root_mean_square(self.answer - self.baseline),
        }


def _root_mean_square(values: NDArray[np.float64]) -> float:
    return math.sqrt(float((values**2).sum()) / max(len(values), 1))


@dataclass(frozen=True)
class FeatureAttribution:
    """What one feature of one stream does to the events of one class; a bar of the figure.

    Attributes
    ----------
    label
        "signal" or "background".
    signed, signed_error
        Mean over the events of the sum over their tokens, in logits: positive towards signal. An
        error is NaN where there is one event only.
    absolute, absolute_error
        Mean over the events of the absolute value of that sum.
    """

    stream: str
    feature: str
    label: str
    signed: float
    signed_error: float
    absolute: float
    absolute_error: float

    def as_dict(self) -> dict[str, str | float | None]:
        """A plain row, for JSON."""
        return {
            name: None if isinstance(value, float) and math.isnan(value) else value
            for name, value in asdict(self).items()
        }


def integrated_gradients(
    network: MultiScaleClassifier, streams: Streams, steps: int = 32
) -> Attributions:
    """Attribute the logit difference to the inputs of the embedding, by integrated gradients.

    Of the logit difference f and an input x_i with the baseline b_i = 0 (a number at its mean over
    the training events; no class) the attribution is

        x_i int_0^1 df/dx_i(a x) da,

    the integral by Gauss-Legendre quadrature. All tokens move together; their number and the class
    tokens stay. The attributions of an event sum to f(x) - f(0): completeness.

    Parameters
    ----------
    network
        In evaluation mode.
    streams
        Already trimmed by the network.
    steps
        Points at which the gradient is taken: one pass forward and back each.

    References
    ----------
    M. Sundararajan, A. Taly, Q. Yan, arXiv:1703.01365, equation 1.
    """
    names = tuple(network.settings.streams)
    extractors = {name: network.extractor(name) for name in names}
    features = {name: (*of.numbers, *of.classes) for name, of in extractors.items()}
    values = {
        name: np.empty((len(streams[name].values), len(features[name])), np.float32)
        for name in names
    }
    answer = responses(network, streams)
    baseline, total = np.empty_like(answer), np.zeros_like(answer)
    for chosen, batch in batches(network, streams):
        baseline[chosen] = _at(network, batch, 0.0)[0].detach().double().cpu().numpy()
        for name, inputs in zip(names, _integrate(network, batch, steps), strict=True):
            found = _by_feature(inputs, extractors[name]).cpu().numpy()
            values[name][streams[name].rows(chosen)] = found
            event = np.repeat(chosen, streams[name].counts[chosen])
            total += np.bincount(event, found.sum(axis=1, dtype=np.float64), len(total))
    return Attributions(features, values, answer, baseline, total - (answer - baseline))


def _integrate(
    network: MultiScaleClassifier, batch: Mapping[str, StreamBatch], steps: int
) -> list[Tensor]:
    """Attributions of the inputs of each stream, (tokens, inputs), in the order of the streams."""
    places, widths = np.polynomial.legendre.leggauss(steps)
    integral: list[Tensor] = []
    for place, width in zip((places + 1) / 2, widths / 2, strict=True):
        difference, leaves = _at(network, batch, float(place))
        gradients = torch.autograd.grad(difference.sum(), leaves)
        # The gradient is that at a x; a leaf is a x itself, so that x is the leaf over a.
        parts = [
            gradient * leaf.detach() * (width / place)
            for gradient, leaf in zip(gradients, leaves, strict=True)
        ]
        integral = parts if not integral else [a + b for a, b in zip(integral, parts, strict=True)]
    events = len(difference)
    # The mark of class tokens, the last input, did not move.
    return [inputs[events:, :-1] for inputs in integral]


def _at(
    network: MultiScaleClassifier, batch: Mapping[str, StreamBatch], place: float
) -> tuple[Tensor, list[Tensor]]:
    """Logit difference (events,) at a place between baseline, 0, and inputs, 1, and those inputs."""
    with torch.enable_grad(), _scaled(network, place) as leaves:
        return logit_difference(network(batch)), leaves


@contextmanager
def _scaled(network: MultiScaleClassifier, place: float) -> Iterator[list[Tensor]]:
    """Scale what the embeddings are given, but for the mark of class tokens; collect it, in order."""
    leaves: list[Tensor] = []

    def scale(_: nn.Module, arguments: tuple[Tensor]) -> Tensor:
        moved = arguments[0].detach() * place
        moved[:, -1] = arguments[0][:, -1]
        leaves.append(moved.requires_grad_())
        return moved

    # A shared encoder has one embedding, which is called once a stream, in the order of streams.
    linears = {network.encoder(name).embedding.linear for name in network.settings.streams}
    hooks = [linear.register_forward_pre_hook(scale) for linear in linears]
    try:
        yield leaves
    finally:
        for hook in hooks:
            hook.remove()


def _by_feature(inputs: Tensor, extractor: FeatureExtractor) -> Tensor:
    """Sum the inputs of each class, (tokens, inputs) to (tokens, features)."""
    sizes = [1] * len(extractor.numbers) + [extractor.class_sizes[n] for n in extractor.classes]
    return torch.stack([part.sum(dim=1) for part in torch.split(inputs, sizes, dim=1)], dim=1)


def summarise(
    attributions: Attributions, events: PackedEvents, weights: NDArray[np.float64]
) -> list[FeatureAttribution]:
    """Average the attributions over the events of each class.

    Parameters
    ----------
    events
        Those attributed, streams trimmed as there.
    weights
        (events,): class-balanced.
    """
    rows = []
    for stream, features in attributions.features.items():
        counts = events.streams[stream].counts
        event = np.repeat(np.arange(len(counts)), counts)
        for place, feature in enumerate(features):
            sums = np.bincount(event, attributions.values[stream][:, place], len(counts))
            for label, name in _CLASSES:
                members = events.label == label
                signed = weighted_mean(sums[members], weights[members])
                absolute = weighted_mean(np.abs(sums[members]), weights[members])
                rows.append(FeatureAttribution(stream, feature, name, *signed, *absolute))
    return rows
