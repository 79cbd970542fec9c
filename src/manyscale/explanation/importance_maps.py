"""Grad-CAM averaged over many events, by class: where in a jet what speaks for the score is."""

from collections.abc import Mapping

import torch

from manyscale.explanation.gradcam import grad_cam
from manyscale.explanation.tally import Labelled, Tally
from manyscale.explanation.tokens import token_readers
from manyscale.features.columns import StreamBatch
from manyscale.features.images import ImageSettings
from manyscale.model.classifier import MultiScaleClassifier

__all__ = ["ImportanceMaps"]


class ImportanceMaps:
    """Adds up Grad-CAM of a network, batch by batch, in memory that does not grow.

    Parameters
    ----------
    network
        In evaluation mode.
    images
        Pixels and frame of the maps.

    Attributes
    ----------
    readers
        By stream, what its tokens are.
    tallies
        By stream, two channels: `GradCam.importance`, and what each token would have were all of the
        event alike. What all tokens of a stream have together is the stream's part of the event.
    """

    def __init__(self, network: MultiScaleClassifier, images: ImageSettings) -> None:
        self._network = network
        self.readers = token_readers(network, images)
        self.tallies = {name: Tally(reader, 2) for name, reader in self.readers.items()}

    def add(self, batch: Mapping[str, StreamBatch], events: Labelled) -> None:
        """Count the events of a batch, its streams as trimmed by the network."""
        importance = grad_cam(self._network, batch).importance
        counts = torch.stack([stream.counts for stream in batch.values()]).sum(0)
        even = 1 / counts.clamp(min=1)
        for name, reader in self.readers.items():
            tokens = reader(batch[name])
            given = torch.stack([importance[name], even[tokens.segments.event]], 1)
            self.tallies[name].add(tokens, given, events)
