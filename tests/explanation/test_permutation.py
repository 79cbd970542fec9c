"""Permutation importance where it is known: all, or nothing; the ratio of background rejections."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.linear_network import linear_network
from helpers.networks import network_of
from helpers.toys import SCHEMA, toy_events
from manyscale.data.balance import balanced_weights
from manyscale.errors import DataError
from manyscale.explanation.gradcam import responses
from manyscale.explanation.permutation import (
    feature_groups,
    permutation_importance,
    rejection_factor,
    working_point,
)
from manyscale.model.layers import StreamSettings
from manyscale.statistics.metrics import auc, background_rejection
from manyscale.statistics.sample import Sample

ONLY_MASS = {"kinematics": {"log_mass": 1.0}}


def permuted(network, events, seed=0, **options):
    events = replace(events, streams=network.trim(events.streams))
    weights = balanced_weights(events, SCHEMA.processes)
    return permutation_importance(
        network, events, weights, random=np.random.default_rng(seed), **options
    )


@pytest.fixture(scope="module")
def events():
    return toy_events(7, events=600, longest=5, learnable=True)


def test_a_network_that_sees_one_feature_loses_all_with_it_and_nothing_else(events):
    found = permuted(linear_network(ONLY_MASS), events)
    assert found.auc > 0.75
    streams = {lost.stream: lost for lost in found.streams}
    groups = {(lost.stream, lost.group): lost for lost in found.groups}
    for of_mass in (streams.pop("kinematics"), groups.pop(("kinematics", "mass"))):
        assert of_mass.auc_loss == pytest.approx(found.auc - 0.5, abs=3 * of_mass.auc_loss_error)
        assert 0 < of_mass.auc_loss_error < 0.05
        # By chance the rejection is one over the signal efficiency.
        everything = found.rejection * found.signal_efficiency
        assert of_mass.rejection_low / 1.3 < everything < of_mass.rejection_high * 1.3
        assert 1 < of_mass.rejection_low < of_mass.rejection_factor < of_mass.rejection_high
    for nothing in (*streams.values(), *groups.values()):
        assert abs(nothing.auc_loss) < 1e-12
        assert nothing.auc_loss_error < 1e-12
        assert nothing.rejection_low < nothing.rejection_factor == 1 < nothing.rejection_high


def lone_feature():
    """A network of one stream and one feature."""
    settings = StreamSettings(features=("log_mass",))
    return linear_network(ONLY_MASS, "kinematics-only", kinematics=settings)


def test_permuting_the_only_feature_of_lone_tokens_is_permuting_the_stream():
    events = toy_events(8, events=400, longest=5, learnable=True)
    first = events.streams["kinematics"].leading(1, None)
    found = permuted(lone_feature(), replace(events, streams={"kinematics": first}), repeats=20)
    (stream,), (group,) = found.streams, found.groups
    assert abs(stream.auc_loss - group.auc_loss) < 0.02
    assert stream.auc_loss_error == pytest.approx(group.auc_loss_error, rel=0.2)


def test_a_stream_without_information_loses_nothing_within_its_error(events):
    # The network listens to jet1, too, whose pT says nothing of the class.
    noisy = linear_network({"kinematics": {"log_mass": 1.0}, "jet1": {"log_pt": 0.05}})
    found = permuted(noisy, events)
    (jet1,) = (lost for lost in found.streams if lost.stream == "jet1")
    (momentum,) = (w for w in found.groups if (w.stream, w.group) == ("jet1", "momentum"))
    for lost in (jet1, momentum):
        assert 0 < lost.auc_loss_error < 0.05
        assert abs(lost.auc_loss) < 3 * lost.auc_loss_error


def test_the_error_is_the_spread_over_samples():
    losses, errors = [], []
    for seed in range(60):
        events = toy_events(100 + seed, events=150, longest=0, learnable=True)
        (lost,) = permuted(lone_feature(), events, seed).streams
        losses.append(lost.auc_loss)
        errors.append(lost.auc_loss_error)
    assert np.mean(errors) == pytest.approx(np.std(losses), rel=0.3)


def test_of_a_network_with_attention_every_group_is_worked_out():
    network = network_of("model-2")
    events = toy_events(9, events=120, learnable=True)
    found = permuted(network, events, repeats=2)
    assert [lost.stream for lost in found.streams] == ["jet1", "jet2", "kinematics"]
    of_jet = [lost.group for lost in found.groups if lost.stream == "jet1"]
    assert of_jet == ["direction", "momentum", "identity"]
    signal, scores = events.label, responses(network, events.streams)
    weights = balanced_weights(events, SCHEMA.processes)
    assert found.auc == pytest.approx(auc(signal, scores, weights))
    assert len(found.groups) == 3 + 3 + len(feature_groups(network.extractor("kinematics").names))
    assert all(lost.auc_loss_error > 0 for lost in found.groups)


def test_the_same_seed_gives_the_same_and_the_network_stays(events):
    network = network_of("model-2")
    few = events.take(np.arange(60))
    before = responses(network, few.streams)
    first, second, other = (permuted(network, few, seed, repeats=2) for seed in (1, 1, 2))
    assert first == second != other
    np.testing.assert_array_equal(responses(network, few.streams), before)


def test_negative_weights_are_taken(events):
    weights = balanced_weights(events, SCHEMA.processes)
    weights[::10] *= -1
    found = permutation_importance(
        linear_network(ONLY_MASS), events, weights, random=np.random.default_rng(0), repeats=3
    )
    (lost,) = (w for w in found.streams if w.stream == "kinematics")
    assert lost.auc_loss == pytest.approx(found.auc - 0.5, abs=3 * lost.auc_loss_error)
    plain = permuted(linear_network(ONLY_MASS), events, repeats=3)
    assert lost.auc_loss_error > plain.streams[2].auc_loss_error


def test_too_little_background_leaves_the_rejection_open():
    events = toy_events(3, events=40, learnable=True)
    perfect = linear_network(ONLY_MASS)
    signal = events.label == 1
    values = events.streams["kinematics"].values
    values[:, 3] = np.repeat(np.where(signal, 1000, 1), 4)
    found = permuted(perfect, events, repeats=2)
    assert found.auc == 1
    assert found.signal_efficiency is found.rejection is None
    assert found.streams[2].rejection_factor is None
    assert found.streams[2].auc_loss > 0.3


def test_one_class_is_refused(events):
    one = events.take(np.flatnonzero(events.label == 1))
    with pytest.raises(DataError, match="no background events"):
        permuted(linear_network(ONLY_MASS), one)


def test_every_feature_is_in_one_group():
    names = ("pt", "d0", "dz", "mystery", "log_pt", "is_photon", "phi_rel", "log_mass", "width")
    groups = feature_groups(names)
    assert sorted(name for members in groups.values() for name in members) == sorted(names)
    assert groups["displacement"] == ("d0", "dz")
    assert groups["mystery"] == ("mystery",)
    assert groups["momentum"] == ("pt", "log_pt")


def test_features_are_permuted_as_the_network_sees_them():
    """A group permuted gives the embedding the same tokens, this group in another order, together."""
    network = network_of("model-1")
    linear = network.encoder("jet1").embedding.linear
    seen = []
    hook = linear.register_forward_pre_hook(lambda _, given: seen.append(given[0].clone()))
    permuted(network, toy_events(5, events=30), repeats=1)
    hook.remove()
    # Tokens alone: of the events as they are, the whole stream permuted, then direction, momentum, identity.
    whole, _, direction, momentum, identity = (rows[rows[:, -1] == 0] for rows in seen)
    for other in (direction, momentum, identity):
        assert torch.equal(other.sort(dim=0)[0], whole.sort(dim=0)[0])
    names = network.extractor("jet1").numbers
    own = [names.index(name) for name in names if name.startswith("log_")]
    rest = [index for index in range(whole.shape[1]) if index not in own]
    assert torch.equal(momentum[:, rest], whole[:, rest])
    assert not torch.equal(momentum[:, own], whole[:, own])
    assert set(map(tuple, momentum[:, own].tolist())) == set(map(tuple, whole[:, own].tolist()))
    assert not torch.equal(identity[:, len(names) :], whole[:, len(names) :])


def scored(seed, events=400, distance=1.5):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, events)
    return Sample.of(label, rng.normal(size=events) + distance * label, rng.uniform(0.5, 2, events))


def noisy(sample, seed):
    return sample.scores + np.random.default_rng(seed).normal(size=len(sample.scores))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), decimals=st.integers(0, 3))
def test_it_is_the_ratio_of_rejections_ties_included(seed, decimals):
    sample = scored(seed)._replace(scores=scored(seed).scores.round(decimals))
    other = noisy(sample, seed).round(decimals)
    found = rejection_factor(sample, [other], 0.7)
    before, after = (
        background_rejection(sample.signal, scores, sample.weights)["0.70"]["value"]
        for scores in (sample.scores, other)
    )
    assert found.value == pytest.approx(before / after)
    assert found.low < found.value < found.high


def test_its_error_is_at_least_the_spread_over_samples():
    logs, errors = [], []
    for seed in range(100):
        found = rejection_factor(scored(seed), [noisy(scored(seed), 1000 + seed)], 0.7)
        logs.append(math.log(found.value))
        errors.append(math.log(found.high / found.low) / 2)
    assert 0.85 * np.std(logs) < np.mean(errors) < 2 * np.std(logs)


def test_its_error_has_the_spread_of_the_repeats():
    sample = scored(3)
    alike = rejection_factor(sample, [noisy(sample, 1)] * 4, 0.7)
    apart = rejection_factor(sample, [noisy(sample, 1), sample.scores] * 2, 0.7)
    assert math.log(apart.high / apart.low) > math.log(alike.high / alike.low)


def test_a_pair_of_opposite_weights_changes_no_value():
    sample = scored(2)
    pair = Sample(
        np.append(sample.signal, [False, False]),
        np.append(sample.scores, [9.0, 9.0]),
        np.append(sample.weights, [1.0, -1.0]),
    )
    plain = rejection_factor(sample, [noisy(sample, 0)], 0.7)
    with_pair = rejection_factor(pair, [np.append(noisy(sample, 0), [9.0, 9.0])], 0.7)
    assert with_pair.value == pytest.approx(plain.value)


def test_the_working_point_leaves_background():
    assert working_point(scored(1)) == 0.7
    assert working_point(scored(1, distance=2.5)) in {0.9, 0.95}
    assert working_point(scored(1, distance=50.0)) is None


def test_no_background_left_is_no_ratio():
    sample = scored(1, distance=50.0)
    assert rejection_factor(sample, [-sample.scores], 0.7) is None
