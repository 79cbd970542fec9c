"""Networks for tests."""

import torch

from helpers.toys import SCHEMA
from manyscale.model.classifier import MultiScaleClassifier
from manyscale.model.layers import FusionSettings
from manyscale.model.presets import resolve

NAMES = ("jet1", "jet2", "kinematics")
CUSTOM = (
    FusionSettings(query="jet1", context=("jet2",), layers=2),
    FusionSettings(query="kinematics", context=("jet1", "jet2")),
)


def network_of(preset, **streams):
    """A network on the streams of the toy events, its weights drawn always alike."""
    torch.manual_seed(3)
    fusion = CUSTOM if preset == "custom" else None
    network = MultiScaleClassifier(resolve(preset, NAMES, streams, fusion), SCHEMA)
    # Weights far from the small initial ones, so that every part matters to the score.
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return network.eval()
