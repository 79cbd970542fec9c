"""Which layers and streams say the same: linear centred kernel alignment (CKA) of class tokens."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from manyscale.deployment.predict import batches
from manyscale.evaluation.results import LayerPair
from manyscale.events.ragged import PackedStream
from manyscale.model.classifier import MultiScaleClassifier
from manyscale.model.layout import Layout
from manyscale.model.taps import Place, Taps
from manyscale.statistics.sample import effective_events

__all__ = ["alignment", "layer_similarity"]

Matrix = NDArray[np.float64]

# A class token that varies less than this part of its length is the same for all events.
_CONSTANT = 1e-6


class _ClassTokens(Taps):
    """Keeps the class tokens after each layer, and as they are pooled, in the order of the network."""

    def __init__(self, network: MultiScaleClassifier) -> None:
        self.fusion = network.settings.fusion
        self.found: dict[str, Tensor] = {}

    def rows(self, place: Place, rows: Tensor, layout: Layout) -> Tensor:
        if place.part == "pooled":
            self.found[f"{place.stream}, pooled"] = rows
        elif place.part == "layer":
            name = f"{place.stream}, layer {place.layer}"
            if place.block:
                name = f"{place.stream}, fusion {place.block}"
                if self.fusion[place.block - 1].layers > 1:
                    name += f", layer {place.layer}"
            only = len(rows) == layout.events
            self.found[name] = rows if only else layout.class_rows(rows)
        return rows


@torch.inference_mode()
def layer_similarity(
    network: MultiScaleClassifier,
    streams: Mapping[str, PackedStream],
    weights: NDArray[np.float64],
) -> tuple[LayerPair, ...]:
    """Compare the class tokens after every layer of every stream and fusion block, and as pooled.

    Each layer with each, in the order of the network; see `alignment` for the formula. Memory grows
    with the square of the widths, not with the events.
    """
    widths: dict[str, int] = {}
    # Weighted sums of rows and of their products: all that CKA needs of any number of events.
    total: Matrix | float = 0.0
    products: Matrix | float = 0.0
    for chosen, batch in batches(network, streams):
        taps = _ClassTokens(network)
        network(batch, taps)
        widths = {name: rows.shape[1] for name, rows in taps.found.items()}
        rows = torch.cat(list(taps.found.values()), 1).double().cpu().numpy()
        weighted = rows * weights[chosen, None]
        total = total + weighted.sum(axis=0)
        products = products + weighted.T @ rows
    mean, squares = (np.asarray(of / weights.sum()) for of in (total, products))
    covariance = squares - np.outer(mean, mean)
    matrix, chance = alignment(
        list(widths.values()), covariance, np.diag(squares), effective_events(weights)
    )
    names = list(widths)
    return tuple(
        LayerPair(first=names[i], second=names[j], cka=matrix[i, j], chance=chance[i, j])
        for i, j in np.ndindex(matrix.shape)
    )


def alignment(
    widths: Sequence[int], covariance: Matrix, squares: Matrix, events: float
) -> tuple[Matrix, Matrix]:
    """CKA of layers whose columns stand side by side, and what chance gives.

    With C_xy the block of the covariance of layers x and y,

        CKA = ||C_xy||^2 / (||C_xx|| ||C_yy||),

    norms of Frobenius: 1 the same but for rotation and scale, 0 unrelated, NaN for a layer whose class
    token is the same for all events. Averaged over all orders of the events of one of them, the
    numerator becomes tr C_xx tr C_yy / (n - 1): so much is chance.

    Parameters
    ----------
    widths
        Columns of each layer.
    covariance
        (columns, columns).
    squares
        (columns,): mean square of each column, to tell variation from rounding.
    events
        Effective number.

    References
    ----------
    S. Kornblith, M. Norouzi, H. Lee, G. Hinton, arXiv:1905.00414, section 3.
    """
    starts = np.concatenate([[0], np.cumsum(widths)[:-1]]).astype(np.int64)
    # The squared norm of every block at once: squares added up block by block, down and across.
    block_sums = np.add.reduceat(np.add.reduceat(covariance**2, starts, axis=0), starts, axis=1)
    traces = np.add.reduceat(np.diag(covariance), starts)
    lengths = np.add.reduceat(squares, starts)
    own = np.sqrt(np.diag(block_sums))
    own[~(traces > _CONSTANT**2 * lengths)] = math.nan
    norm = np.outer(own, own)
    chance = np.outer(traces, traces) / norm / max(events - 1, 1)
    return block_sums / norm, np.minimum(chance, 1.0)
