"""Weights taken over from a base: what is the same afterwards, what is new, what does not fit."""

import numpy as np
import pytest
import torch

from helpers.networks import network_of
from helpers.toys import SCHEMA, toy_events
from manyscale.features.columns import to_torch
from manyscale.model.classifier import MultiScaleClassifier
from manyscale.model.layers import StreamSettings
from manyscale.model.layout import Layout
from manyscale.model.presets import resolve
from manyscale.model.start import take_over
from manyscale.model.taps import Taps
from manyscale.training.loop import parameter_groups

JET = {"width": 8, "encoder": "jets"}
FEATURES = ("delta_eta", "delta_phi", "log_pt", "log_energy", "particle_class")


def base_of(features=FEATURES, **settings):
    """A base of five classes on both jets, with a standardisation of its own."""
    torch.manual_seed(1)
    jet = StreamSettings(**JET, features=features, **settings)
    model = resolve("concatenation", ["jet1", "jet2"], {"jet1": jet, "jet2": jet})
    network = MultiScaleClassifier(model, SCHEMA, classes=5)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        for name in ("jet1", "jet2"):
            extractor = network.extractor(name)
            extractor.mean.copy_(torch.arange(len(extractor.numbers)) * 0.1)
            extractor.deviation.copy_(1 + torch.arange(len(extractor.numbers)) * 0.2)
    return network.eval()


def ours(features=FEATURES, **settings):
    jet = StreamSettings(**(JET | settings), features=features)
    return network_of("model-2", jet1=jet, jet2=jet)


def encoded(network, taps=None):
    """What the encoder of jet1 makes of some events."""
    events = toy_events(4)
    stream = to_torch(network.trim(events.streams), np.arange(len(events)))["jet1"]
    numbers, classes = network.extractor("jet1")(stream)
    layout = Layout(stream.counts, stream.host_counts)
    more = {} if taps is None else {"taps": taps}
    return network.encoder("jet1")(
        numbers, classes, layout, stream="jet1", class_only=False, **more
    )


class Hiding(Taps):
    """Hides some inputs of the embedding."""

    def __init__(self, inputs):
        self.hidden = inputs

    def inputs(self, stream, rows, layout):
        rows = rows.clone()
        rows[:, self.hidden] = 0
        return rows


def test_the_encoder_is_the_bases_and_the_rest_is_fresh():
    base, network = base_of(), ours()
    head = network.head.layers[0].weight.clone()
    taken = take_over(network, base)
    torch.testing.assert_close(encoded(network), encoded(base))
    assert torch.equal(network.head.layers[0].weight, head)
    assert taken.parameters == frozenset(network.encoder("jet1").parameters())
    assert taken.lines == (
        "jet1, jet2: 2 of 2 layers and 5 features of the base's jet1",
        "kinematics: fresh, the base has no such stream",
    )


def test_a_missing_feature_is_one_that_the_base_was_not_shown():
    base, network = base_of(), ours(("log_pt", "delta_phi", "delta_eta"))
    take_over(network, base)
    # Inputs of the base: four numbers, of which log_energy is the last, then the class.
    hidden = Hiding(list(range(3, 4 + 17)))
    torch.testing.assert_close(encoded(network), encoded(base, hidden))


def test_a_new_feature_enters_without_weight():
    base, network = base_of(("log_pt", "delta_eta")), ours(("charge", "log_pt", "delta_eta"))
    taken = take_over(network, base)
    torch.testing.assert_close(encoded(network), encoded(base))
    assert taken.lines[0].endswith("; new: charge")


def test_layers_that_the_base_lacks_are_fresh():
    network = ours(layers=3)
    last = network.encoder("jet1").layers[2].attention.out.weight.clone()
    taken = take_over(network, base_of())
    assert taken.lines[0].startswith("jet1, jet2: 2 of 3 layers")
    assert torch.equal(network.encoder("jet1").layers[2].attention.out.weight, last)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"width": 16}, "fresh, 16 wide with 2 heads; the base's jet1 is 8 wide with 2"),
        ({"heads": 4}, "fresh, 8 wide with 4 heads; the base's jet1 is 8 wide with 2"),
        (
            {"features": ("charge", "pt", "log_pt")},
            "fresh, of its 3 features the base's jet1 knows 1",
        ),
    ],
)
def test_what_does_not_fit_is_named_and_left_alone(settings, said):
    network = ours(**settings)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    taken = take_over(network, base_of())
    assert taken.parameters == frozenset()
    assert taken.lines[0] == f"jet1, jet2: {said}"
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_run_starts_from_all_of_a_run_like_it():
    base, network = network_of("model-2"), network_of("model-2")
    with torch.no_grad():
        for parameter in base.parameters():
            parameter.mul_(1.1)
    taken = take_over(network, base)
    assert taken.parameters == frozenset(network.parameters())
    assert taken.lines[-2:] == ("fusion block 1: as the base's", "head: as the base's")
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, base.state_dict()[name], msg=name)


def test_constituents_of_another_name_start_from_those_of_the_base_and_objects_do_not():
    schema = SCHEMA.model_copy(
        update={
            "streams": (
                SCHEMA.streams[0].model_copy(update={"name": "top"}),
                SCHEMA.streams[2].model_copy(update={"axis": SCHEMA.streams[0].axis}),
            )
        }
    )
    small = StreamSettings(width=8)
    model = resolve("concatenation", ["top", "kinematics"], {"top": small, "kinematics": small})
    taken = take_over(MultiScaleClassifier(model, schema), base_of())
    assert taken.lines[0].startswith("top: 2 of 2 layers and 5 features of the base's jet1; new: ")
    assert taken.lines[1] == "kinematics: fresh, the base has no such stream"


def test_what_was_taken_over_learns_more_slowly():
    network = ours()
    taken = take_over(network, base_of()).parameters
    groups = parameter_groups(network, 0.01, taken, 0.3)
    assert [(group["weight_decay"], group["rate"]) for group in groups] == [
        (0.01, 1.0), (0.0, 1.0), (0.01, 0.3), (0.0, 0.3),
    ]  # fmt: skip
    slow = sum(parameter.numel() for parameter in taken)
    # Each weight begins at a multiple of 16.
    assert slow <= sum(group["params"][0].numel() for group in groups[2:]) < slow + 16 * len(taken)
