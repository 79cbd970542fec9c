"""What streams and feature groups are worth, where it is known: all, or nothing."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers.linear_network import linear_network
from helpers.networks import network_of
from helpers.toys import SCHEMA, toy_events
from manyscale.data.balance import balanced_weights
from manyscale.errors import DataError
from manyscale.explanation.response import responses
from manyscale.explanation.shuffling import feature_groups, shuffle
from manyscale.model.layers import StreamSettings
from manyscale.statistics.metrics import auc

ONLY_MASS = {"kinematics": {"log_mass": 1.0}}


def shuffled(network, events, seed=0, **options):
    weights = balanced_weights(events, SCHEMA.processes)
    return shuffle(network, events, weights, random=np.random.default_rng(seed), **options)


@pytest.fixture(scope="module")
def events():
    return toy_events(7, events=600, longest=5, learnable=True)


def test_a_network_that_sees_one_feature_loses_all_with_it_and_nothing_else(events):
    found = shuffled(linear_network(ONLY_MASS), events)
    assert found.auc > 0.75
    streams = {worth.stream: worth for worth in found.streams}
    groups = {(worth.stream, worth.group): worth for worth in found.groups}
    for of_mass in (streams.pop("kinematics"), groups.pop(("kinematics", "mass"))):
        assert of_mass.auc_loss == pytest.approx(found.auc - 0.5, abs=3 * of_mass.auc_loss_error)
        assert 0 < of_mass.auc_loss_error < 0.05
        # By chance the rejection is one over the signal efficiency.
        everything = found.rejection * found.signal_efficiency
        assert of_mass.rejection_low / 1.3 < everything < of_mass.rejection_high * 1.3
        assert 1 < of_mass.rejection_low < of_mass.rejection_factor < of_mass.rejection_high
    for worthless in (*streams.values(), *groups.values()):
        assert abs(worthless.auc_loss) < 1e-12
        assert worthless.auc_loss_error < 1e-12
        assert worthless.rejection_factor == 1
        assert worthless.rejection_low == worthless.rejection_high == 1


def lone_feature():
    """A network of one stream and one feature."""
    settings = StreamSettings(features=("log_mass",))
    return linear_network(ONLY_MASS, "kinematics-only", kinematics=settings)


def test_shuffling_the_only_feature_of_lone_tokens_is_shuffling_the_stream():
    events = toy_events(8, events=400, longest=5, learnable=True)
    first = events.streams["kinematics"].leading(1, None)
    found = shuffled(lone_feature(), replace(events, streams={"kinematics": first}), repeats=20)
    (stream,), (group,) = found.streams, found.groups
    assert abs(stream.auc_loss - group.auc_loss) < 0.02
    assert stream.auc_loss_error == pytest.approx(group.auc_loss_error, rel=0.2)


def test_a_stream_without_information_is_worth_nothing_within_its_error(events):
    # The network listens to jet1, too, whose pT says nothing of the class.
    noisy = linear_network({"kinematics": {"log_mass": 1.0}, "jet1": {"log_pt": 0.05}})
    found = shuffled(noisy, events)
    (jet1,) = (worth for worth in found.streams if worth.stream == "jet1")
    (momentum,) = (w for w in found.groups if (w.stream, w.group) == ("jet1", "momentum"))
    for worth in (jet1, momentum):
        assert 0 < worth.auc_loss_error < 0.05
        assert abs(worth.auc_loss) < 3 * worth.auc_loss_error


def test_the_error_is_the_spread_over_samples():
    losses, errors = [], []
    for seed in range(60):
        events = toy_events(100 + seed, events=150, longest=0, learnable=True)
        (worth,) = shuffled(lone_feature(), events, seed).streams
        losses.append(worth.auc_loss)
        errors.append(worth.auc_loss_error)
    assert np.mean(errors) == pytest.approx(np.std(losses), rel=0.3)


def test_of_a_network_with_attention_every_group_is_worked_out():
    network = network_of("model-2")
    events = toy_events(9, events=120, learnable=True)
    found = shuffled(network, events, repeats=2)
    assert [worth.stream for worth in found.streams] == ["jet1", "jet2", "kinematics"]
    of_jet = [worth.group for worth in found.groups if worth.stream == "jet1"]
    assert of_jet == ["direction", "momentum", "identity"]
    signal, scores = events.label, responses(network, events.streams)
    weights = balanced_weights(events, SCHEMA.processes)
    assert found.auc == pytest.approx(auc(signal, scores, weights))
    assert len(found.groups) == 3 + 3 + len(feature_groups(network.extractor("kinematics").names))
    assert all(worth.auc_loss_error > 0 for worth in found.groups)


def test_the_same_seed_gives_the_same_and_the_network_stays(events):
    network = network_of("model-2")
    few = events.take(np.arange(60))
    before = responses(network, few.streams)
    first, second, other = (shuffled(network, few, seed, repeats=2) for seed in (1, 1, 2))
    assert first == second != other
    np.testing.assert_array_equal(responses(network, few.streams), before)


def test_negative_weights_are_taken(events):
    weights = balanced_weights(events, SCHEMA.processes)
    weights[::10] *= -1
    found = shuffle(
        linear_network(ONLY_MASS), events, weights, random=np.random.default_rng(0), repeats=3
    )
    (worth,) = (w for w in found.streams if w.stream == "kinematics")
    assert worth.auc_loss == pytest.approx(found.auc - 0.5, abs=3 * worth.auc_loss_error)
    plain = shuffled(linear_network(ONLY_MASS), events, repeats=3)
    assert worth.auc_loss_error > plain.streams[2].auc_loss_error


def test_too_little_background_leaves_the_rejection_open():
    events = toy_events(3, events=40, learnable=True)
    perfect = linear_network(ONLY_MASS)
    signal = events.label == 1
    values = events.streams["kinematics"].values
    values[:, 3] = np.repeat(np.where(signal, 1000, 1), 4)
    found = shuffled(perfect, events, repeats=2)
    assert found.auc == 1
    assert found.signal_efficiency is found.rejection is None
    assert found.as_dict()["streams"][2]["rejection_factor"] is None
    assert found.streams[2].auc_loss > 0.3


def test_one_class_is_refused(events):
    one = events.take(np.flatnonzero(events.label == 1))
    with pytest.raises(DataError, match="no background events"):
        shuffled(linear_network(ONLY_MASS), one)


def test_every_feature_is_in_one_group():
    names = ("pt", "d0", "dz", "mystery", "log_pt", "is_photon", "phi_rel", "log_mass", "width")
    groups = feature_groups(names)
    assert sorted(name for members in groups.values() for name in members) == sorted(names)
    assert groups["displacement"] == ("d0", "dz")
    assert groups["mystery"] == ("mystery",)
    assert groups["momentum"] == ("pt", "log_pt")


def test_features_are_shuffled_as_the_network_sees_them():
    """A group of all features, shuffled, must give the network the same tokens in another order."""
    network = network_of("model-1")
    events = toy_events(5, events=30)
    extractor = network.extractor("jet1")
    seen = []
    hook = network.encoder("jet1").embedding.register_forward_pre_hook(
        lambda _, arguments: seen.append(arguments[:2])
    )
    shuffled(network, events, repeats=1)
    hook.remove()
    whole = torch.cat([*seen[0]], dim=1)
    for numbers, classes in seen:
        assert torch.equal(torch.cat([numbers, classes], 1).sort(dim=0)[0], whole.sort(dim=0)[0])
    momentum = seen[-2][0] if len(seen) > 2 else None
    assert momentum is not None
    place = extractor.numbers.index("log_pt")
    beside = extractor.numbers.index("log_energy")
    pairs = {tuple(row) for row in whole[:, [place, beside]].tolist()}
    assert {tuple(row) for row in momentum[:, [place, beside]].tolist()} == pairs
    assert not torch.equal(momentum[:, place], whole[:, place])
    assert torch.equal(momentum[:, 0], whole[:, 0])
