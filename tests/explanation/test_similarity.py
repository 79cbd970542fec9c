"""Linear CKA: its invariances, the naive formula, and the layers of a network."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.networks import network_of
from helpers.toys import toy_events
from manyscale.deployment.predict import batches
from manyscale.explanation import similarity
from manyscale.explanation.similarity import alignment, layer_similarity
from manyscale.model.layers import StreamSettings


def naive(x, y):
    """Kornblith et al., by the kernels: tr(K H L H) over its norms."""
    events = len(x)
    centre = np.eye(events) - 1 / events
    k, other = centre @ x @ x.T @ centre, centre @ y @ y.T @ centre
    return (k * other).sum() / np.sqrt((k**2).sum() * (other**2).sum())


def compared(network, streams, weights):
    """Names of the layers, and the matrix of their CKA."""
    pairs = layer_similarity(network, streams, weights)
    names = list(dict.fromkeys(pair.first for pair in pairs))
    matrix = np.array([np.nan if pair.cka is None else pair.cka for pair in pairs])
    return names, matrix.reshape(len(names), len(names))


def cka(*layers, events=None):
    """CKA and chance of layers (events, width)."""
    rows = np.concatenate(layers, axis=1)
    moments = np.cov(rows, rowvar=False, bias=True), (rows**2).mean(axis=0)
    return alignment([layer.shape[1] for layer in layers], *moments, events or len(rows))


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    widths=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    events=st.integers(8, 40),
    scale=st.floats(1e-3, 1e3),
)
def test_it_is_the_naive_formula_and_free_of_rotation_and_scale(seed, widths, events, scale):
    rng = np.random.default_rng(seed)
    x, y = (rng.normal(1, 2, (events, width)) for width in widths)
    rotation = np.linalg.qr(rng.normal(size=(widths[0], widths[0])))[0]
    matrix, _ = cka(x, y, scale * x @ rotation + 3)
    assert matrix[0, 1] == pytest.approx(naive(x, y), rel=1e-8)
    assert matrix[0, 2] == pytest.approx(1, rel=1e-8)
    assert matrix[2, 1] == pytest.approx(matrix[0, 1], rel=1e-8)
    np.testing.assert_allclose(np.diag(matrix), 1)


def test_chance_is_what_unrelated_events_give():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(200, 5)), rng.normal(size=(200, 8))
    _, chance = cka(x, y)
    reordered = [cka(x, y[rng.permutation(200)])[0][0, 1] for _ in range(400)]
    error = np.std(reordered) / 20
    assert abs(np.mean(reordered) - chance[0, 1]) < 4 * error
    assert chance[0, 1] < 0.1


def test_layers_of_a_network_are_named_and_compared(monkeypatch):
    network = network_of("model-2", jet2=StreamSettings(layers=1))
    streams = toy_events(1, events=80).streams
    weights = np.full(80, 1 / 80)
    names, matrix = compared(network, streams, weights)
    assert names == [
        "jet1, layer 1",
        "jet1, layer 2",
        "jet2, layer 1",
        "kinematics, layer 1",
        "kinematics, layer 2",
        "kinematics, fusion 1",
        "jet1, pooled",
        "jet2, pooled",
        "kinematics, pooled",
    ]
    np.testing.assert_allclose(np.diag(matrix), 1)
    np.testing.assert_allclose(matrix, matrix.T)
    place = names.index
    own = matrix[place("jet1, layer 2"), place("jet1, pooled")]
    apart = matrix[place("jet1, layer 2"), place("jet2, pooled")]
    assert own > 0.9
    assert apart < 0.2

    monkeypatch.setattr(similarity, "batches", partial(batches, rows=100))
    _, in_pieces = compared(network, streams, weights)
    np.testing.assert_allclose(in_pieces, matrix, atol=1e-4)


def test_pooled_rows_are_those_that_the_head_is_given():
    network = network_of("concatenation")
    streams = toy_events(1, events=50).streams
    given_to_head = []
    hook = network.head.register_forward_pre_hook(lambda _, args: given_to_head.extend(args[0]))
    _, matrix = compared(network, streams, np.ones(50))
    hook.remove()
    x, y = (rows.double().numpy() for rows in given_to_head[1:3])
    assert matrix[-2, -1] == pytest.approx(naive(x, y), rel=1e-6)


def test_a_shared_encoder_gives_layers_of_each_stream():
    shared = StreamSettings(encoder="jets")
    network = network_of("concatenation", jet1=shared, jet2=shared)
    streams = toy_events(1, events=60).streams
    same = {**streams, "jet2": streams["jet1"]}
    names, matrix = compared(network, same, np.ones(60))
    first, second = (names.index(f"{name}, layer 2") for name in ("jet1", "jet2"))
    assert matrix[first, second] == pytest.approx(1)
    assert compared(network, streams, np.ones(60))[1][first, second] < 0.5


def test_weights_count_as_events_repeated():
    network = network_of("concatenation")
    events = toy_events(1, events=40)
    times = np.random.default_rng(2).integers(0, 4, 40)
    repeated = events.take(np.repeat(np.arange(40), times))
    _, weighted = compared(network, events.streams, times.astype(float))
    _, plain = compared(network, repeated.streams, np.ones(len(repeated)))
    np.testing.assert_allclose(weighted, plain, atol=1e-5)


def test_a_layer_that_says_the_same_of_all_events_has_no_similarity():
    network = network_of("concatenation", jet1=StreamSettings(layers=0))
    names, matrix = compared(network, toy_events(1).streams, np.ones(40))
    constant = names.index("jet1, pooled")
    assert np.isnan(matrix[constant]).all()
    assert not np.isnan(np.delete(np.delete(matrix, constant, 0), constant, 1)).any()
