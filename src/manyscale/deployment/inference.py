"""Scores of events from a network, in memory that does not grow with their number."""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from manyscale.data.packing import PackedStream
from manyscale.features.columns import to_torch
from manyscale.model.classifier import MultiScaleClassifier

__all__ = ["class_probabilities"]

# Rows of a batch, class tokens counted; measured, for short events and for long ones.
_ROWS = 16_384


@torch.inference_mode()
def class_probabilities(
    network: MultiScaleClassifier, streams: Mapping[str, PackedStream]
) -> NDArray[np.float32]:
    """Probability of each class, (events, classes), in the order of the events.

    Scored are batches of similar length, which need the least padding: a score does not depend on
    the events beside it.

    Parameters
    ----------
    network
        In evaluation mode.
    streams
        The streams that it takes; trimmed here to its `max_tokens`.
    """
    trimmed = network.trim(streams)
    lengths = np.sum([stream.counts + 1 for stream in trimmed.values()], axis=0)
    device = next(network.parameters()).device
    found = np.empty((len(lengths), network.classes), np.float32)
    for chosen in _batches(lengths):
        logits = network(to_torch(trimmed, chosen, device)).float()
        found[chosen] = torch.softmax(logits, dim=1).cpu().numpy()
    return found


def _batches(lengths: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Events of each batch, the shortest first: so many that their rows are about `_ROWS`."""
    order = np.argsort(lengths, kind="stable")
    batch = np.cumsum(lengths[order]) // _ROWS
    cuts = np.flatnonzero(np.diff(batch)) + 1
    return (part for part in np.split(order, cuts) if len(part))
