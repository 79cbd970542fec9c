"""Deleting tokens: of a sum over tokens the drop is known exactly."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.linear_network import linear_network, token_terms
from helpers.networks import network_of
from helpers.toys import SCHEMA, toy_events
from manyscale.data.balance import balanced_weights
from manyscale.data.packing import PackedStream
from manyscale.errors import DataError
from manyscale.explanation.deletion import _kept, deletion
from manyscale.explanation.response import responses

JETS = ("jet1", "jet2")


@settings(max_examples=50, deadline=None)
@given(
    counts=st.lists(st.integers(0, 9), min_size=1, max_size=6),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 1000),
    levels=st.integers(1, 5),
)
def test_the_highest_go_and_exactly_so_many(counts, fraction, seed, levels):
    counts = np.array(counts)
    rng = np.random.default_rng(seed)
    values = rng.integers(0, levels, counts.sum()).astype(float)
    tokens = np.column_stack([values, np.arange(len(values))]).astype(np.float32)
    stream = PackedStream(tokens, counts, np.zeros((len(counts), 0), np.float32))
    kept = _kept(stream, values, fraction)
    for event in range(len(counts)):
        before = stream.values[stream.offsets[event] : stream.offsets[event + 1]]
        after = kept.values[kept.offsets[event] : kept.offsets[event + 1]]
        gone = np.floor(fraction * counts[event] + 0.5)
        assert len(after) == counts[event] - gone
        assert (np.diff(after[:, 1]) > 0).all()
        removed = before[~np.isin(before[:, 1], after[:, 1]), 0]
        if len(removed) and len(after):
            assert removed.min() >= after[:, 0].max()


def exact(network, streams):
    """What each token adds to the logit difference, towards the class that the network says."""
    says = np.where(responses(network, streams) > 0, 1, -1)
    return {
        name: terms.sum(axis=1) * np.repeat(says, streams[name].counts)
        for name, terms in token_terms(network, streams).items()
        if name in JETS
    }


@pytest.fixture(scope="module")
def network():
    found = linear_network({name: {"delta_r": 1.0, "log_pt": -0.2} for name in JETS})
    found.offset = -1.0
    return found


@pytest.fixture(scope="module")
def events():
    return toy_events(4, events=300, longest=14, learnable=True)


def run(network, events, rankings, seed=0, **options):
    weights = balanced_weights(events, SCHEMA.processes)
    random = np.random.default_rng(seed)
    return deletion(network, events, weights, rankings, random=random, **options)


def test_the_drop_is_what_the_deleted_tokens_add(network, events):
    ranking = exact(network, events.streams)
    found = run(network, events, {"exact": ranking}, fractions=(0.4,))
    drop = np.zeros(len(events))
    for name in JETS:
        stream = events.streams[name]
        for event in range(len(events)):
            own = np.sort(ranking[name][stream.offsets[event] : stream.offsets[event + 1]])[::-1]
            drop[event] += own[: int(0.4 * len(own) + 0.5)].sum()
    right = (responses(network, events.streams) > 0) == (events.label == 1)
    weights = balanced_weights(events, SCHEMA.processes)
    point = found.points[0]
    assert (found.events, found.streams) == (right.sum(), JETS)
    assert point.drop == pytest.approx(np.average(drop[right], weights=weights[right]), abs=1e-4)
    assert 0 < point.drop_error < 0.2 * point.drop


def test_what_matters_passes_and_what_does_not_fails(network, events):
    ranking = exact(network, events.streams)
    found = run(
        network,
        events,
        {"exact": ranking, "reversed": {name: -values for name, values in ranking.items()}},
    )
    assert found.passes("exact")
    assert not found.passes("reversed")
    assert found.excess["reversed"].value < 0
    curves = {by: [p.drop for p in found.points if p.by == by] for by in ("exact", "random")}
    assert all(a > b for a, b in zip(curves["exact"], curves["random"], strict=True))
    assert {point.by for point in found.points} == {"exact", "reversed", "pT", "random"}
    assert set(found.excess) == {"exact", "reversed", "pT"}
    exact_point, random_point = (
        next(p for p in found.points if (p.by, p.fraction) == (by, 0.2))
        for by in ("exact", "random")
    )
    assert exact_point.over_random == pytest.approx(exact_point.drop - random_point.drop)
    assert random_point.over_random == random_point.over_random_error == 0


def test_random_against_random_does_not_pass(network, events):
    rng = np.random.default_rng(5)
    others = {name: rng.random(len(events.streams[name].values)) for name in JETS}
    found = run(network, events, {"chance": others})
    mean = found.excess["chance"]
    assert abs(mean.value) < 3 * mean.error


def test_empty_events_and_all_streams_are_taken():
    network = network_of("model-2")
    events = toy_events(6, events=40, longest=1)
    assert (events.streams["jet1"].counts == 0).any()
    ranking = {name: np.zeros(len(s.values)) for name, s in events.streams.items()}
    found = run(network, events, {"none": ranking}, fractions=(0.99,))
    assert found.streams == ("jet1", "jet2", "kinematics")
    assert all(np.isfinite(point.drop) for point in found.points)


def test_a_network_that_has_no_event_right_tells_nothing():
    network = linear_network({"jet1": {"delta_r": 1.0}})
    network.offset = -1.0
    events = toy_events(6, events=40)
    says = responses(network, events.streams) > 0
    assert 0 < says.sum() < 40
    opposite = replace(events, label=np.where(says, 0, 1))
    ranking = {name: np.ones(len(events.streams[name].values)) for name in JETS}
    found = run(network, opposite, {"none": ranking})
    assert found.events == 0
    assert not found.passes("none")
    assert found.as_dict()["excess"]["none"] == {"value": None, "error": None, "passes": False}
    assert found.as_dict()["points"][0]["drop"] is None


def test_the_same_seed_gives_the_same(network, events):
    ranking = {"exact": exact(network, events.streams)}
    first, second, other = (run(network, events, ranking, seed) for seed in (1, 1, 2))
    assert first == second != other
    assert first.as_dict()["excess"]["exact"]["passes"] is True


def test_rankings_of_different_streams_are_refused(network, events):
    ranking = exact(network, events.streams)
    with pytest.raises(DataError, match="'short' ranks the tokens of jet1, another"):
        run(network, events, {"exact": ranking, "short": {"jet1": ranking["jet1"]}})
