"""Networks for tests."""

import torch

from helpers.toys import SCHEMA
from manyscale.model.classifier import MultiScaleClassifier
from manyscale.model.layers import FusionSettings, StreamSettings
from manyscale.model.presets import PRESETS, resolve

NAMES = ("jet1", "jet2", "kinematics")
CUSTOM = (
    FusionSettings(query="jet1", context=("jet2",), layers=2),
    FusionSettings(query="kinematics", context=("jet1", "jet2")),
)
# Two streams that share an encoder with its pair biases, and one of its own.
PAIRS = {
    "jet1": StreamSettings(pair_bias=True, encoder="jets"),
    "jet2": StreamSettings(pair_bias=True, encoder="jets"),
    "kinematics": StreamSettings(pair_bias=True),
}
#: What `network_of` makes: the presets, concatenation with pair biases, and two networks of model-2.
KINDS = (*PRESETS, "pairs", "ensemble")


def network_of(preset, **streams):
    """A network on the streams of the toy events, its weights drawn always alike."""
    if preset == "pairs":
        streams = {
            name: streams.get(name, of).model_copy(update={"pair_bias": True})
            for name, of in PAIRS.items()
        }
        preset = "concatenation"
    members = 2 if preset == "ensemble" else 1
    torch.manual_seed(3)
    fusion = CUSTOM if preset == "custom" else None
    settings = resolve("model-2" if preset == "ensemble" else preset, NAMES, streams, fusion)
    network = MultiScaleClassifier(settings.model_copy(update={"members": members}), SCHEMA)
    # Weights far from the small initial ones, so that every part matters to the score.
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return network.eval()
