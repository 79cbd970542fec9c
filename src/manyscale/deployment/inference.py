"""Scores of events from a network, in memory that does not grow with their number."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from manyscale.data.packing import PackedStream
from manyscale.features.columns import to_torch
from manyscale.model.batches import batches_by_length
from manyscale.model.classifier import MultiScaleClassifier

__all__ = ["class_probabilities"]


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
    events = len(next(iter(trimmed.values())))
    device = next(network.parameters()).device
    found = np.empty((events, network.classes), np.float32)
    for chosen in batches_by_length(trimmed):
        logits = network(to_torch(trimmed, chosen, device)).float()
        found[chosen] = torch.softmax(logits, dim=1).cpu().numpy()
    return found
