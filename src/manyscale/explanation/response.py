"""How the network answers to some events: the logit difference, batch by batch."""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from manyscale.data.packing import PackedStream
from manyscale.features.columns import StreamBatch, to_torch
from manyscale.model.batches import batches_by_length
from manyscale.model.classifier import MultiScaleClassifier

__all__ = ["Streams", "batches", "logit_difference", "responses"]

Streams = Mapping[str, PackedStream]


def batches(
    network: MultiScaleClassifier, streams: Streams
) -> Iterator[tuple[NDArray[np.int64], dict[str, StreamBatch]]]:
    """Cut some events into batches of similar length: the events of each, and their streams.

    Parameters
    ----------
    streams
        Already trimmed by the network.
    """
    device = next(network.parameters()).device
    for chosen in batches_by_length(streams):
        yield chosen, to_torch(streams, chosen, device)


def logit_difference(logits: Tensor) -> Tensor:
    """(events,): logit of signal minus logit of background, ln p / (1 - p) of the score p.

    It is what explanations explain: unlike the probability it does not saturate near 0 and 1.
    """
    return logits[:, 1] - logits[:, 0]


@torch.inference_mode()
def responses(network: MultiScaleClassifier, streams: Streams) -> NDArray[np.float64]:
    """(events,): the logit difference of each event.

    Parameters
    ----------
    network
        In evaluation mode.
    streams
        The streams that it takes; trimmed here to its `max_tokens`.
    """
    trimmed = network.trim(streams)
    found = np.empty(len(next(iter(trimmed.values()))))
    for chosen, batch in batches(network, trimmed):
        found[chosen] = logit_difference(network(batch)).double().cpu().numpy()
    return found
