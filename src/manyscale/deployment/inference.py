"""Scores of events from a network, in memory that does not grow with their number."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from manyscale.data.packing import PackedStream
from manyscale.features.columns import to_torch
from manyscale.model.classifier import MultiScaleClassifier

__all__ = ["class_probabilities"]

_BATCH = 1024


@torch.inference_mode()
def class_probabilities(
    network: MultiScaleClassifier, streams: Mapping[str, PackedStream]
) -> NDArray[np.float32]:
    """Probability of each class, (events, classes), in the order of the events.

    Parameters
    ----------
    network
        In evaluation mode.
    streams
        The streams that it takes; trimmed here to its `max_tokens`.
    """
    trimmed = network.trim(streams)
    events = len(next(iter(trimmed.values())))
    device = next(network.parameters()).device
    parts = [
        torch.softmax(
            network(
                to_torch(trimmed, np.arange(first, min(first + _BATCH, events)), device)
            ).float(),
            dim=1,
        ).cpu()
        for first in range(0, events, _BATCH)
    ]
    return torch.cat(parts).numpy() if parts else np.zeros((0, network.classes), np.float32)
