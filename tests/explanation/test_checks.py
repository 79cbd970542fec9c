"""Deleting tokens, of a sum over which the drop is known; weights re-drawn; rank correlation."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from helpers.linear_network import linear_network, token_terms
from helpers.networks import network_of
from helpers.toys import SCHEMA, toy_events
from manyscale.data.balance import balanced_weights
from manyscale.errors import DataError
from manyscale.events.ragged import PackedStream
from manyscale.explanation.checks import (
    _kept,
    deletion,
    passes,
    randomisation,
    rank_correlation,
)
from manyscale.explanation.gradcam import responses, token_importance
from manyscale.model.layers import StreamSettings

JETS = ("jet1", "jet2")
STEPS = ["nothing", "head", "fusion 1", "layer 2", "layer 1", "embedding"]


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
    """What each token adds to the logit difference, towards the predicted class."""
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


def deleted(network, events, rankings, seed=0, **options):
    weights = balanced_weights(events, SCHEMA.processes)
    random = np.random.default_rng(seed)
    return deletion(network, events, weights, rankings, random=random, **options)


def test_the_drop_is_what_the_deleted_tokens_add(network, events):
    ranking = exact(network, events.streams)
    found = deleted(network, events, {"exact": ranking}, fractions=(0.4,))
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
    found = deleted(
        network,
        events,
        {"exact": ranking, "reversed": {name: -values for name, values in ranking.items()}},
    )
    assert found.excess["exact"].passes
    assert not found.excess["reversed"].passes
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
    found = deleted(network, events, {"chance": others})
    mean = found.excess["chance"]
    assert abs(mean.value) < 3 * mean.error


def test_empty_events_and_all_streams_are_taken():
    network = network_of("model-2")
    events = toy_events(6, events=40, longest=1)
    assert (events.streams["jet1"].counts == 0).any()
    ranking = {name: np.zeros(len(s.values)) for name, s in events.streams.items()}
    found = deleted(network, events, {"none": ranking}, fractions=(0.99,))
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
    found = deleted(network, opposite, {"none": ranking})
    assert found.events == 0
    assert not found.excess["none"].passes
    assert found.plain()["excess"]["none"] == {"value": None, "error": None, "passes": False}
    assert found.plain()["points"][0]["drop"] is None


def test_the_same_seed_gives_the_same(network, events):
    ranking = {"exact": exact(network, events.streams)}
    first, second, other = (deleted(network, events, ranking, seed) for seed in (1, 1, 2))
    assert first == second != other


def test_rankings_of_different_streams_are_refused(network, events):
    ranking = exact(network, events.streams)
    with pytest.raises(DataError, match="'short' ranks the tokens of jet1, another"):
        deleted(network, events, {"exact": ranking, "short": {"jet1": ranking["jet1"]}})


def of_inputs(network, streams):
    """An explanation that does not depend on the network."""
    return {name: stream.values[:, 0] for name, stream in streams.items()}


def of_embedding(network, streams):
    """An explanation made of the weights of the embedding alone."""
    found = {}
    for name, stream in streams.items():
        weight = network.encoder(name).embedding.linear.weight.detach().numpy()
        found[name] = stream.values[:, 1:3] @ weight[0, 1:3]
    return found


def redrawn(importance, network=None, seed=1, **options):
    network = network or network_of("model-2")
    streams = network.trim(toy_events(1, events=80).streams)
    return randomisation(network, streams, np.ones(80), importance, seed=seed, **options)


def test_an_explanation_of_the_inputs_alone_stays_and_fails():
    found = redrawn(of_inputs)
    assert [point.redrawn for point in found.points] == STEPS
    assert [point.correlation for point in found.points] == pytest.approx([1] * 6)
    assert not found.passes


def test_it_changes_where_the_weights_that_it_depends_on_are_drawn():
    found = redrawn(of_embedding, draws=20)
    assert [point.correlation for point in found.points[:-1]] == pytest.approx([1] * 5)
    last = found.points[-1]
    # The sign of a random direction is as often as not turned round.
    assert abs(last.correlation) < 4 * last.error
    assert 0 < last.error < 0.3


def test_grad_cam_depends_on_what_was_learned():
    found = redrawn(token_importance, draws=2)
    assert found.points[0].correlation == pytest.approx(1)
    assert found.points[-1].correlation < 0.5
    assert all(0 < point.error < 0.5 for point in found.points[1:])


def test_the_seed_decides_and_the_network_stays():
    network = network_of("model-2")
    streams = toy_events(2, events=10).streams
    before = responses(network, streams)
    state = torch.random.get_rng_state()
    first, second, other = (redrawn(token_importance, network, seed, draws=2) for seed in (1, 1, 9))
    assert first == second != other
    assert torch.equal(torch.random.get_rng_state(), state)
    np.testing.assert_array_equal(responses(network, streams), before)


def test_a_shared_encoder_is_drawn_once_and_a_shallow_one_with_its_last_layer():
    shared = StreamSettings(encoder="jets")
    network = network_of(
        "concatenation", jet1=shared, jet2=shared, kinematics=StreamSettings(layers=1)
    )
    found = redrawn(of_inputs, network)
    assert [point.redrawn for point in found.points] == [s for s in STEPS if s != "fusion 1"]


def test_passing_needs_the_error_to_be_small():
    assert passes(0.1, 0.1)
    assert passes(-0.1, 0.1)
    assert not passes(0.4, 0.1)
    assert not passes(-0.6, 0.0)
    assert not passes(0.1, float("nan"))


@settings(max_examples=50, deadline=None)
@given(
    values=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5), st.integers(0, 5)), max_size=40)
)
def test_rank_correlation_of_each_group_is_scipys(values):
    group, first, second = np.array(values, np.int64).reshape(-1, 3).T
    found = rank_correlation(first.astype(float), second.astype(float), group, 5)
    for number in range(5):
        a, b = first[group == number], second[group == number]
        if len(set(a)) < 2:
            assert np.isnan(found[number])
        elif len(set(b)) < 2:
            assert found[number] == 0
        else:
            np.testing.assert_allclose(found[number], spearmanr(a, b).statistic, atol=1e-12)
