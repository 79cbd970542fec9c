"""Integrated gradients against closed forms: weight times input, completeness."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.linear_network import linear_network, token_terms
from helpers.networks import KINDS, network_of
from helpers.toys import SCHEMA, toy_events
from manyscale.data.balance import balanced_weights
from manyscale.events.ragged import PackedStream
from manyscale.explanation.gradcam import responses
from manyscale.explanation.integrated_gradients import integrated_gradients, summarise
from manyscale.model.layers import StreamSettings


def test_of_a_linear_network_they_are_weight_times_input():
    network = linear_network()
    streams = toy_events(1).streams
    found = integrated_gradients(network, streams, steps=1)
    for name, terms in token_terms(network, streams).items():
        numbers = len(network.extractor(name).numbers)
        expected = np.column_stack([terms[:, :numbers], terms[:, numbers:].sum(axis=1)])
        np.testing.assert_allclose(found.values[name], expected, atol=1e-5)
    np.testing.assert_allclose(found.residual, 0, atol=1e-4)


@settings(max_examples=6, deadline=None)
@given(
    seed=st.integers(0, 1000),
    preset=st.sampled_from(KINDS),
    lengths=st.lists(st.integers(0, 6), min_size=1, max_size=5),
)
def test_they_sum_to_the_change_from_the_baseline(seed, preset, lengths):
    network = network_of(preset)
    streams = network.trim(toy_events(seed, events=len(lengths), longest=6).streams)
    found = integrated_gradients(network, streams, steps=64)
    assert set(found.values) == set(network.settings.streams)
    assert found.completeness["largest_residual"] < 0.01 * (1 + abs(found.response).max())


def test_more_steps_leave_less():
    network = network_of("model-2")
    streams = network.trim(toy_events(2).streams)
    few, many = (integrated_gradients(network, streams, steps).completeness for steps in (4, 32))
    assert many["rms_residual"] < 0.01 * few["rms_residual"]
    assert many["rms_change"] == few["rms_change"] > 0


def test_streams_that_share_an_encoder_are_told_apart():
    shared = StreamSettings(encoder="jets")
    network = network_of("concatenation", jet1=shared, jet2=shared)
    streams = network.trim(toy_events(3).streams)
    empty = PackedStream(
        streams["jet2"].values[:0], np.zeros_like(streams["jet2"].counts), streams["jet2"].axis
    )
    found = integrated_gradients(network, {**streams, "jet2": empty})
    assert found.values["jet2"].shape[0] == 0
    assert np.abs(found.values["jet1"]).max() > 1e-3
    np.testing.assert_allclose(found.residual, 0, atol=1e-2)


def test_the_baseline_has_numbers_at_their_mean_and_no_class():
    network = network_of("model-1")
    streams = network.trim(toy_events(4).streams)
    found = integrated_gradients(network, streams, steps=4)
    linear = network.encoder("jet1").embedding.linear
    with torch.no_grad():
        linear.weight[:, :-1] = 0  # whatever a token is, it is now what the baseline is
    np.testing.assert_allclose(responses(network, streams), found.baseline, atol=1e-5)


def test_they_leave_the_network_as_it_was():
    network = network_of("model-2")
    streams = network.trim(toy_events(2).streams)
    before = responses(network, streams)
    found = integrated_gradients(network, streams, steps=2)
    np.testing.assert_array_equal(responses(network, streams), before)
    np.testing.assert_array_equal(found.response, before)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_importance_is_towards_the_class_that_the_network_says():
    network = linear_network()
    streams = toy_events(1).streams
    found = integrated_gradients(network, streams, steps=1)
    importance = found.importance(streams)
    total = np.zeros(len(found.response))
    for name, stream in streams.items():
        event = np.repeat(np.arange(len(stream)), stream.counts)
        total += np.bincount(event, importance[name], len(stream))
    np.testing.assert_allclose(
        total, np.sign(found.response) * (found.response - found.baseline), atol=1e-4
    )


def test_means_by_class_are_those_of_hand():
    network = linear_network({"kinematics": {"log_mass": 2.0, "eta": -1.0}})
    events = toy_events(6, events=30)
    weights = balanced_weights(events, SCHEMA.processes)
    weights[3] *= -1
    found = summarise(integrated_gradients(network, events.streams, steps=1), events, weights)
    rows = found.features
    mass = np.log1p(events.streams["kinematics"].values[:, 3]).reshape(30, 4).sum(axis=1) * 2
    for label, name in ((1, "signal"), (0, "background")):
        (row,) = (
            r for r in rows if (r.stream, r.feature, r.label) == ("kinematics", "log_mass", name)
        )
        members = events.label == label
        expected = np.average(mass[members], weights=weights[members])
        assert row.signed == pytest.approx(expected, rel=1e-5)
        assert row.absolute == pytest.approx(expected, rel=1e-5)  # masses are positive here
        assert 0 < row.signed_error < abs(expected)
    others = [r for r in rows if r.feature not in {"log_mass", "eta"}]
    assert {r.absolute for r in others} == {0.0}
    assert len(rows) == 2 * sum(len(network.extractor(n).names) for n in events.streams)


def test_an_error_that_is_not_known_is_null_in_json():
    network, events = linear_network(), toy_events(6, events=1)
    found = summarise(integrated_gradients(network, events.streams, 1), events, np.ones(1))
    row = next(row for row in found.plain()["features"] if row["signed"] is not None)
    assert row["signed_error"] is None
