"""Scores of a dataset, its events decoded chunk by chunk."""

import numpy as np
from numpy.typing import NDArray

from manyscale.data.dataset import Dataset
from manyscale.deployment.predict import class_probabilities
from manyscale.model.classifier import MultiScaleClassifier
from manyscale.runs.building import CHUNK

__all__ = ["signal_scores"]


def signal_scores(
    network: MultiScaleClassifier, dataset: Dataset, *, rank: int = 0, world: int = 1
) -> NDArray[np.float32]:
    """Signal probability of each event, (events,), in the order of the dataset.

    Parameters
    ----------
    network
        In evaluation mode.
    dataset
        Holds the streams of the network, columns as it was trained on.
    rank, world
        Which of how many processes share the events: of every `world` of them this scores one, the
        first, or the second, and so on.
    """
    parts, first = [], 0
    for events in dataset.chunks(CHUNK):
        chosen = np.arange((rank - first) % world, len(events), world)
        first += len(events)
        share = events if world == 1 else events.take(chosen)
        parts.append(class_probabilities(network, share.streams)[:, 1])
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)
