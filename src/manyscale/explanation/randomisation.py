"""Does an explanation depend on what the network learned? Its weights re-drawn, block by block."""

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from manyscale.explanation.rank_correlation import rank_correlation
from manyscale.explanation.response import Streams
from manyscale.model.classifier import MultiScaleClassifier
from manyscale.statistics.means import Mean, weighted_mean
from manyscale.statistics.sample import Floats

__all__ = ["Importance", "Randomisation", "RandomisationPoint", "randomisation"]

#: (tokens,) by stream: the higher, the more the token speaks for the class that the network says.
Importance = Callable[[MultiScaleClassifier, Streams], Mapping[str, NDArray[np.float32]]]

# A rank correlation below this is little: the explanation of a network of no knowledge looks otherwise.
_LITTLE = 0.5


@dataclass(frozen=True)
class RandomisationPoint:
    """Rank correlation of the explanation with the trained network's; a point of the curve.

    Attributes
    ----------
    redrawn
        The block that was re-drawn last, those above it as well: "nothing", "head", "fusion 1",
        "layer 2", "layer 1", "embedding".
    correlation, error
        Mean over the events, and over several draws.
    """

    redrawn: str
    correlation: float
    error: float

    def as_dict(self) -> dict[str, str | float | None]:
        """A plain row, for JSON."""
        return {
            name: None if isinstance(value, float) and math.isnan(value) else value
            for name, value in asdict(self).items()
        }


@dataclass(frozen=True)
class Randomisation:
    """The curve, from nothing re-drawn to everything."""

    points: tuple[RandomisationPoint, ...]

    @property
    def passes(self) -> bool:
        """Whether with all weights re-drawn the correlation is below 0.5 by two errors."""
        last = self.points[-1]
        return abs(last.correlation) + 2 * last.error < _LITTLE

    def as_dict(self) -> dict[str, object]:
        """Plain values, for JSON."""
        return {"passes": self.passes, "points": [point.as_dict() for point in self.points]}


def randomisation(
    network: MultiScaleClassifier,
    streams: Streams,
    weights: NDArray[np.float64],
    importance: Importance,
    *,
    seed: int,
    draws: int = 3,
) -> Randomisation:
    """Re-draw the weights block by block, from the head down, and follow the explanation.

    Compared is the order of the tokens by importance, within each stream of each event: Spearman's
    correlation with that of the trained network, averaged over the streams of the event, then over
    the events. An explanation that stays as it was tells of the inputs, not of the network.

    Parameters
    ----------
    network
        In evaluation mode; it is copied, not changed.
    streams
        Already trimmed by the network.
    weights
        (events,): class-balanced.
    importance
        The explanation.
    seed
        Of the weights that are drawn.
    draws
        How often the cascade is run.

    Returns
    -------
    Each weight is drawn from a normal distribution of the mean and deviation that its tensor had, so
    that the size of what flows through the network stays. An importance that is the same for all
    tokens counts as no correlation; where it is so in the trained network, the event is left out.
    The error is that of the mean over the events, and the spread of the draws, in quadrature.

    References
    ----------
    J. Adebayo et al., arXiv:1810.03292, section 3 (cascading randomisation).
    """
    trained = importance(network, streams)
    cascades = [
        _cascade(network, streams, weights, importance, trained=trained, seed=seed + draw)
        for draw in range(draws)
    ]
    untouched = _agreement(trained, trained, streams, weights)
    points = [RandomisationPoint("nothing", *untouched)]
    for step, name in enumerate(_blocks(network)):
        means = [cascade[step] for cascade in cascades]
        values = np.array([mean.value for mean in means])
        variance = float(np.mean([mean.error**2 for mean in means]))
        if draws > 1:
            variance += float(values.var(ddof=1)) / draws
        points.append(RandomisationPoint(name, float(values.mean()), math.sqrt(variance)))
    return Randomisation(tuple(points))


def _cascade(
    network: MultiScaleClassifier,
    streams: Streams,
    weights: NDArray[np.float64],
    importance: Importance,
    *,
    trained: Mapping[str, NDArray[np.float32]],
    seed: int,
) -> list[Mean]:
    """Agreement with the trained explanation after each block."""
    other = copy.deepcopy(network)
    generator = torch.Generator().manual_seed(seed)
    means = []
    for modules in _blocks(other).values():
        for module in modules:
            _redraw(module, generator)
        means.append(_agreement(trained, importance(other, streams), streams, weights))
    return means


def _blocks(network: MultiScaleClassifier) -> dict[str, list[nn.Module]]:
    """The blocks from the head down; encoders of all streams side by side, layer by layer."""
    blocks: dict[str, list[nn.Module]] = {"head": [network.head]}
    for number in range(len(network.fusion), 0, -1):
        blocks[f"fusion {number}"] = [network.fusion[number - 1]]
    # Each once, though streams may share it; in an order that does not change.
    encoders = list({id(e): e for e in map(network.encoder, network.settings.streams)}.values())
    for number in range(max(len(encoder.layers) for encoder in encoders), 0, -1):
        blocks[f"layer {number}"] = [
            encoder.layers[number - 1] for encoder in encoders if len(encoder.layers) >= number
        ]
    blocks["embedding"] = [encoder.embedding for encoder in encoders]
    return blocks


@torch.no_grad()
def _redraw(module: nn.Module, generator: torch.Generator) -> None:
    for parameter in module.parameters():
        # On the CPU: the same numbers on every device.
        drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float32)
        deviation = parameter.std(correction=0)
        parameter.copy_(parameter.mean() + deviation * drawn.to(parameter))


def _agreement(
    trained: Mapping[str, NDArray[np.float32]],
    other: Mapping[str, NDArray[np.float32]],
    streams: Streams,
    weights: NDArray[np.float64],
) -> Mean:
    """Mean over the events of the rank correlation, itself the mean over the streams."""
    found: list[Floats] = []
    for name, values in trained.items():
        counts = streams[name].counts
        event = np.repeat(np.arange(len(counts)), counts)
        found.append(rank_correlation(values, other[name], event, len(counts)))
    by_stream = np.array(found)
    known = ~np.isnan(by_stream)
    some = known.any(axis=0)
    event_means = np.where(known, by_stream, 0).sum(axis=0)[some] / known.sum(axis=0)[some]
    return weighted_mean(event_means, weights[some])
