import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.networks import network_of
from helpers.toys import toy_events
from manyscale.deployment import inference
from manyscale.deployment.inference import class_probabilities


@settings(max_examples=20, deadline=None)
@given(events=st.integers(1, 40), rows=st.integers(1, 200), seed=st.integers(0, 1000))
def test_scores_depend_neither_on_the_batches_nor_on_their_order(events, rows, seed):
    network = network_of("model-2")
    streams = toy_events(seed, events=events).streams
    together = class_probabilities(network, streams)
    usual = inference._ROWS
    try:
        inference._ROWS = rows
        in_batches = class_probabilities(network, streams)
    finally:
        inference._ROWS = usual
    np.testing.assert_allclose(in_batches, together, atol=1e-5)


@given(lengths=st.lists(st.one_of(st.integers(1, 50), st.integers(1, 40_000)), max_size=200))
def test_batches_hold_every_event_once_the_shortest_first(lengths):
    lengths = np.array(lengths, np.int64)
    batches = list(inference._batches(lengths))
    order = np.concatenate([*batches, np.zeros(0, np.int64)])
    assert sorted(order.tolist()) == list(range(len(lengths)))
    assert (np.diff(lengths[order]) >= 0).all()
    for batch in batches:
        assert lengths[batch][:-1].sum() < inference._ROWS + lengths[batch].max()
