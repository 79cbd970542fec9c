"""Which layers and streams say the same: linear centred kernel alignment (CKA) of class tokens."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from manyscale.explanation.response import Streams, batches
from manyscale.model.classifier import MultiScaleClassifier
from manyscale.model.layers import Fusion
from manyscale.statistics.sample import effective_events

__all__ = ["Similarity", "alignment", "layer_similarity"]

Matrix = NDArray[np.float64]

# A class token that varies less than this part of its length is the same for all events.
_CONSTANT = 1e-6


@dataclass(frozen=True)
class Similarity:
    """CKA of every layer with every other.

    Attributes
    ----------
    names
        Of the layers, "jet1, layer 2" say, stream by stream, as the network runs.
    matrix
        (layers, layers): 1 the same but for rotation and scale, 0 unrelated. NaN for a layer whose
        class token is the same for all events.
    chance
        (layers, layers): what the same events give on average where one of the two layers belongs
        to other events.
    """

    names: tuple[str, ...]
    matrix: Matrix
    chance: Matrix

    def rows(self) -> list[dict[str, str | float | None]]:
        """A plain row a pair of layers, for JSON: `first`, `second`, `cka`, `chance`."""
        return [
            {
                "first": first,
                "second": second,
                "cka": _number(self.matrix[i, j]),
                "chance": _number(self.chance[i, j]),
            }
            for i, first in enumerate(self.names)
            for j, second in enumerate(self.names)
        ]


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


class _Moments:
    """Weighted sums of rows and of their products: what CKA needs, whatever the number of events."""

    def __init__(self) -> None:
        self._sum: Matrix | float = 0.0
        self._products: Matrix | float = 0.0
        self._weight = 0.0

    def add(self, rows: Matrix, weights: Matrix) -> None:
        weighted = rows * weights[:, None]
        self._sum = self._sum + weighted.sum(axis=0)
        self._products = self._products + weighted.T @ rows
        self._weight += float(weights.sum())

    def covariance(self) -> tuple[Matrix, Matrix]:
        """(width, width), and the mean square of each column, (width,)."""
        mean = np.asarray(self._sum / self._weight)
        squares = np.asarray(self._products / self._weight)
        return squares - np.outer(mean, mean), np.diag(squares)


def alignment(
    widths: Sequence[int], covariance: Matrix, squares: Matrix, events: float
) -> tuple[Matrix, Matrix]:
    """CKA of layers whose columns stand side by side, and what chance gives.

    With C_xy the block of the covariance of layers x and y,

        CKA = ||C_xy||^2 / (||C_xx|| ||C_yy||),

    norms of Frobenius. Averaged over all orders of the events of one of them, the numerator becomes
    tr C_xx tr C_yy / (n - 1): so much is chance.

    Parameters
    ----------
    widths
        Columns of each layer.
    covariance
        (columns, columns).
    squares
        (columns,): mean square of each column, that says what is rounding.
    events
        Effective number.

    References
    ----------
    S. Kornblith, M. Norouzi, H. Lee, G. Hinton, arXiv:1905.00414, section 3.
    """
    starts = np.concatenate([[0], np.cumsum(widths)[:-1]]).astype(np.int64)
    block_sums = np.add.reduceat(np.add.reduceat(covariance**2, starts, axis=0), starts, axis=1)
    traces = np.add.reduceat(np.diag(covariance), starts)
    lengths = np.add.reduceat(squares, starts)
    own = np.sqrt(np.diag(block_sums))
    own[~(traces > _CONSTANT**2 * lengths)] = math.nan
    norm = np.outer(own, own)
    chance = np.outer(traces, traces) / norm / max(events - 1, 1)
    return block_sums / norm, np.minimum(chance, 1.0)


@torch.inference_mode()
def layer_similarity(
    network: MultiScaleClassifier, streams: Streams, weights: NDArray[np.float64]
) -> Similarity:
    """Compare the class tokens behind every layer of every stream and fusion block, and as pooled.

    Parameters
    ----------
    network
        In evaluation mode.
    streams
        Trimmed here.
    weights
        (events,): class-balanced.

    Returns
    -------
    See `alignment` for the formula. Memory grows with the square of the widths, not with the events.
    """
    trimmed = network.trim(streams)
    names = _names(network)
    moments, widths = _Moments(), [0] * len(names)
    with _class_tokens(network) as found:
        for chosen, batch in batches(network, trimmed):
            found.clear()
            network(batch)
            layers = [rows[: len(chosen)].double().cpu().numpy() for rows in found]
            widths = [layer.shape[1] for layer in layers]
            moments.add(np.concatenate(layers, axis=1), weights[chosen])
    matrix, chance = alignment(widths, *moments.covariance(), effective_events(weights))
    return Similarity(tuple(names), matrix, chance)


def _names(network: MultiScaleClassifier) -> list[str]:
    """Names of the layers in the order in which they are called."""
    settings = network.settings
    names = [
        f"{name}, layer {number}"
        for name, stream in settings.streams.items()
        for number in range(1, stream.layers + 1)
    ]
    for number, block in enumerate(settings.fusion, start=1):
        layers = range(1, block.layers + 1)
        within = [""] if block.layers == 1 else [f", layer {layer}" for layer in layers]
        names += [f"{block.query}, fusion {number}{layer}" for layer in within]
    return names + [f"{name}, pooled" for name in settings.streams]


@contextmanager
def _class_tokens(network: MultiScaleClassifier) -> Iterator[list[Tensor]]:
    """Collect the rows behind each layer, class tokens first, and what the head is given."""
    found: list[Tensor] = []

    def keep(_: nn.Module, __: tuple[Tensor, ...], rows: Tensor) -> None:
        found.append(rows)

    def keep_pooled(_: nn.Module, arguments: tuple[Sequence[Tensor]]) -> None:
        found.extend(arguments[0])

    encoders = {network.encoder(name) for name in network.settings.streams}
    layers = [layer for encoder in encoders for layer in encoder.layers]
    layers += [layer for block in network.fusion for layer in cast("Fusion", block).layers]
    hooks = [layer.register_forward_hook(keep) for layer in layers]
    hooks.append(network.head.register_forward_pre_hook(keep_pooled))
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()
