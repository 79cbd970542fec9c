"""Weights re-drawn block by block: what depends on them is lost, what does not stays."""

import numpy as np
import pytest
import torch

from helpers.networks import network_of
from helpers.toys import toy_events
from manyscale.explanation.gradcam import token_importance
from manyscale.explanation.randomisation import Randomisation, RandomisationPoint, randomisation
from manyscale.explanation.response import responses
from manyscale.model.layers import StreamSettings

STEPS = ["nothing", "head", "fusion 1", "layer 2", "layer 1", "embedding"]


def of_inputs(network, streams):
    """An explanation that never asks the network."""
    return {name: stream.values[:, 0] for name, stream in streams.items()}


def of_embedding(network, streams):
    """An explanation made of the weights of the embedding alone."""
    found = {}
    for name, stream in streams.items():
        weight = network.encoder(name).embedding.linear.weight.detach().numpy()
        found[name] = stream.values[:, 1:3] @ weight[0, 1:3]
    return found


def run(importance, network=None, seed=1, **options):
    network = network or network_of("model-2")
    streams = network.trim(toy_events(1, events=80).streams)
    return randomisation(network, streams, np.ones(80), importance, seed=seed, **options)


def test_an_explanation_of_the_inputs_alone_stays_and_fails():
    found = run(of_inputs)
    assert [point.redrawn for point in found.points] == STEPS
    assert [point.correlation for point in found.points] == pytest.approx([1] * 6)
    assert not found.passes


def test_it_changes_where_the_weights_that_it_depends_on_are_drawn():
    found = run(of_embedding, draws=20)
    assert [point.correlation for point in found.points[:-1]] == pytest.approx([1] * 5)
    last = found.points[-1]
    # The sign of a random direction is as often as not turned round.
    assert abs(last.correlation) < 4 * last.error
    assert 0 < last.error < 0.3


def test_grad_cam_depends_on_what_was_learned():
    found = run(token_importance, draws=2)
    assert found.points[0].correlation == pytest.approx(1)
    assert found.points[-1].correlation < 0.5
    assert all(0 < point.error < 0.5 for point in found.points[1:])


def test_the_seed_decides_and_the_network_stays():
    network = network_of("model-2")
    streams = toy_events(2, events=10).streams
    before = responses(network, streams)
    state = torch.random.get_rng_state()
    first, second, other = (run(token_importance, network, seed, draws=2) for seed in (1, 1, 9))
    assert first == second != other
    assert torch.equal(torch.random.get_rng_state(), state)
    np.testing.assert_array_equal(responses(network, streams), before)


def test_a_shared_encoder_is_drawn_once_and_a_shallow_one_with_its_last_layer():
    shared = StreamSettings(encoder="jets")
    network = network_of(
        "concatenation", jet1=shared, jet2=shared, kinematics=StreamSettings(layers=1)
    )
    found = run(of_inputs, network)
    assert [point.redrawn for point in found.points] == [s for s in STEPS if s != "fusion 1"]


def test_passing_needs_the_error_to_be_small():
    def last(correlation, error):
        return Randomisation((RandomisationPoint("embedding", correlation, error),)).passes

    assert last(0.1, 0.1)
    assert last(-0.1, 0.1)
    assert not last(0.4, 0.1)
    assert not last(-0.6, 0.0)
    row = RandomisationPoint("head", 0.5, float("nan")).as_dict()
    assert row == {"redrawn": "head", "correlation": 0.5, "error": None}
