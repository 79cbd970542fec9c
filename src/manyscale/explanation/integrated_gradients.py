"""Integrated gradients: how far each input moved the score away from that of average tokens."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count, islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from manyscale.data.packing import PackedEvents
from manyscale.deployment.predict import batches
from manyscale.evaluation.results import FeatureAttribution, IntegratedGradients
from manyscale.events.ragged import PackedStream
from manyscale.explanation.gradcam import logit_difference, responses
from manyscale.features.columns import StreamBatch
from manyscale.features.extractor import FeatureExtractor
from manyscale.model.classifier import MultiScaleClassifier
from manyscale.model.layout import Layout
from manyscale.model.taps import Taps
from manyscale.statistics.sample import weighted_mean

__all__ = ["Attributions", "feature_inputs", "integrated_gradients", "summarise"]


@dataclass(frozen=True)
class Attributions:
    """How much of the logit difference each feature of each token accounts for.

    Attributes
    ----------
    features
        Names by stream.
    values
        (tokens, features) by stream, float32, in logits: positive towards signal.
    response
        (events,): logit difference.
    baseline
        (events,): logit difference of the baseline, as many average tokens without a class.
    residual
        (events,): sum of all attributions of the event minus (response - baseline); it vanishes with
        the number of steps.
    """

    features: Mapping[str, tuple[str, ...]]
    values: Mapping[str, NDArray[np.float32]]
    response: NDArray[np.float64]
    baseline: NDArray[np.float64]
    residual: NDArray[np.float64]

    def importance(self, streams: Mapping[str, PackedStream]) -> dict[str, NDArray[np.float32]]:
        """(tokens,) by stream: how much a token speaks for the predicted class, in logits.

        The sum over its features, negated for events predicted as background: a ranking for
        `checks.deletion`. `streams`: those attributed.
        """
        towards = np.where(self.response >= 0, 1, -1).astype(np.float32)
        return {
            name: values.sum(axis=1) * np.repeat(towards, streams[name].counts)
            for name, values in self.values.items()
        }

    @property
    def completeness(self) -> dict[str, float]:
        """Largest and root mean square `residual`, and root mean square change, in logits."""
        return {
            "largest_residual": float(np.abs(self.residual).max()),
            "rms_residual": math.sqrt((self.residual**2).mean()),
            "rms_change": math.sqrt(((self.response - self.baseline) ** 2).mean()),
        }


class _Scaled(Taps):
    """Scales what the embeddings are given, but for the flag of class tokens, and keeps it."""

    def __init__(self, scale: float) -> None:
        self.scale = scale
        self.leaves: dict[str, Tensor] = {}
        self.layouts: dict[str, Layout] = {}

    def inputs(self, stream: str, rows: Tensor, layout: Layout) -> Tensor:
        scaled = rows.detach() * self.scale
        scaled[:, -1] = rows[:, -1]
        self.leaves[stream], self.layouts[stream] = scaled.requires_grad_(), layout
        return scaled


def feature_inputs(extractor: FeatureExtractor) -> dict[str, list[int]]:
    """Which inputs of the embedding each feature is: a number one, a class as many as there are."""
    inputs = count()
    sizes = dict.fromkeys(extractor.numbers, 1)
    sizes |= {name: extractor.class_sizes[name] for name in extractor.classes}
    return {name: list(islice(inputs, size)) for name, size in sizes.items()}


def integrated_gradients(
    network: MultiScaleClassifier, streams: Mapping[str, PackedStream], steps: int = 32
) -> Attributions:
    """Attribute the logit difference to the inputs of the embedding, by integrated gradients.

    Of the logit difference f and an input x_i with the baseline b_i = 0 (a number at its mean over
    the training events; no class) the attribution is

        x_i int_0^1 df/dx_i(a x) da,

    the integral by Gauss-Legendre quadrature. All tokens move together; their number, the class tokens
    and pair biases stay. The attributions of an event sum to f(x) - f(0): completeness. Each of the steps is a
    point at which the gradient is taken, one pass forward and back.

    References
    ----------
    M. Sundararajan, A. Taly, Q. Yan, arXiv:1703.01365, equation 1.
    """
    inputs_of = {name: feature_inputs(network.extractor(name)) for name in network.settings.streams}
    values = {
        name: np.empty((len(streams[name].values), len(inputs)), np.float32)
        for name, inputs in inputs_of.items()
    }
    response = responses(network, streams)
    baseline, total = np.empty_like(response), np.zeros_like(response)
    for chosen, batch in batches(network, streams):
        # Numbers are standardised, so that 0 is their mean over the training events.
        with torch.no_grad():
            baseline[chosen] = logit_difference(network(batch, _Scaled(0.0))).double().cpu().numpy()
        for name, integral in _integrate(network, batch, steps).items():
            # A class counts with all of its one-hot inputs together.
            parts = [integral[:, inputs].sum(1) for inputs in inputs_of[name].values()]
            found = torch.stack(parts, 1).cpu().numpy()
            values[name][streams[name].rows(chosen)] = found
            event = np.repeat(chosen, streams[name].counts[chosen])
            total += np.bincount(event, found.sum(axis=1, dtype=np.float64), len(total))
    features = {name: tuple(inputs) for name, inputs in inputs_of.items()}
    return Attributions(features, values, response, baseline, total - (response - baseline))


@torch.enable_grad()
def _integrate(
    network: MultiScaleClassifier, batch: Mapping[str, StreamBatch], steps: int
) -> dict[str, Tensor]:
    """Attributions of the inputs of each stream, (tokens, inputs)."""
    points, widths = np.polynomial.legendre.leggauss(steps)
    integral: dict[str, Tensor] = {}
    for point, width in zip((points + 1) / 2, widths / 2, strict=True):
        taps = _Scaled(float(point))
        difference = logit_difference(network(batch, taps))
        gradients = torch.autograd.grad(difference.sum(), [*taps.leaves.values()])
        for (name, leaf), gradient in zip(taps.leaves.items(), gradients, strict=True):
            # The gradient is that at a x; a leaf is a x itself, so that x is the leaf over a.
            part = gradient * leaf.detach() * (width / point)
            part = part[taps.layouts[name].token_rows]
            integral[name] = integral[name] + part if name in integral else part
    return integral


def summarise(
    attributions: Attributions, events: PackedEvents, weights: NDArray[np.float64]
) -> IntegratedGradients:
    """Average the attributions over the events of each class."""
    rows = []
    for stream, features in attributions.features.items():
        counts = events.streams[stream].counts
        event = np.repeat(np.arange(len(counts)), counts)
        for index, feature in enumerate(features):
            sums = np.bincount(event, attributions.values[stream][:, index], len(counts))
            for label, name in ((1, "signal"), (0, "background")):
                members = events.label == label
                signed = weighted_mean(sums[members], weights[members])
                absolute = weighted_mean(np.abs(sums[members]), weights[members])
                rows.append(
                    FeatureAttribution(
                        stream=stream,
                        feature=feature,
                        label=name,
                        signed=signed.value,
                        signed_error=signed.error,
                        absolute=absolute.value,
                        absolute_error=absolute.error,
                    )
                )
    return IntegratedGradients(completeness=attributions.completeness, features=tuple(rows))
