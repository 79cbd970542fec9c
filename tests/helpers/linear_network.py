"""A network whose answer is known in closed form: a sum over tokens of weights times inputs."""

import torch

from helpers.networks import NAMES
from helpers.toys import SCHEMA
from manyscale.features.columns import StreamBatch
from manyscale.model.classifier import MultiScaleClassifier
from manyscale.model.layers import StreamSettings
from manyscale.model.layout import Layout
from manyscale.model.presets import resolve
from manyscale.model.taps import NO_TAPS


class LinearNetwork(MultiScaleClassifier):
    """Logit difference: offset plus the sum over all tokens of the first column of the embedding."""

    offset = 0.0

    def forward(self, batch, taps=NO_TAPS):
        difference = 0.0
        for name in self.settings.streams:
            layout = Layout(batch[name].counts, batch[name].host_counts)
            numbers, classes = self.extractor(name)(batch[name])
            rows = self.encoder(name).embedding(numbers, classes, layout, stream=name, taps=taps)
            event = layout.event_of_row[layout.token_rows]
            tokens = torch.zeros(layout.events).index_add(0, event, rows[layout.token_rows, 0])
            difference = difference + tokens
        difference = difference + self.offset
        return torch.stack([-difference / 2, difference / 2], dim=1)


def linear_network(weights=None, preset="concatenation", **streams):
    """Weights: stream -> feature -> weight of a number (all others 0); None: drawn always alike."""
    torch.manual_seed(5)
    streams = {
        name: StreamSettings(encoder=name) for name in NAMES
    } | streams  # each its own weights
    network = LinearNetwork(resolve(preset, NAMES, streams), SCHEMA).eval()
    if weights is None:
        return network
    with torch.no_grad():
        for name in network.settings.streams:
            linear = network.encoder(name).embedding.linear
            linear.weight.zero_()
            linear.bias.zero_()
            for feature, weight in weights.get(name, {}).items():
                linear.weight[0, network.extractor(name).numbers.index(feature)] = weight
    return network


def token_terms(network, streams):
    """(tokens, inputs) by stream: weight times input of every token, closed form."""
    terms = {}
    for name, stream in streams.items():
        extractor, linear = network.extractor(name), network.encoder(name).embedding.linear
        numbers, classes = extractor(StreamBatch.of(stream))
        hot = [
            torch.nn.functional.one_hot(classes[:, place], extractor.class_sizes[feature])
            for place, feature in enumerate(extractor.classes)
        ]
        inputs = torch.cat([numbers, *hot], dim=1)
        terms[name] = (inputs * linear.weight[0, :-1]).detach().numpy()
    return terms
