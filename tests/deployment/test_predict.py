from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.networks import KINDS, network_of
from helpers.toys import toy_events
from manyscale.deployment import predict
from manyscale.errors import CardError
from manyscale.events.ragged import PackedStream


@given(
    counts=st.lists(st.one_of(st.integers(0, 50), st.integers(0, 400)), max_size=200),
    rows=st.integers(1, 300),
)
@settings(max_examples=30, deadline=None)
def test_batches_hold_every_event_once_the_shortest_first(counts, rows):
    counts = np.array(counts, np.int64)
    nothing = np.zeros((len(counts), 0), np.float32)
    stream = PackedStream(np.zeros((counts.sum(), 1), np.float32), counts, nothing)
    batches = [
        chosen for chosen, _ in predict.batches(network_of("model-1"), {"jet": stream}, rows)
    ]
    order = np.concatenate([*batches, np.zeros(0, np.int64)])
    assert sorted(order.tolist()) == list(range(len(counts)))
    lengths = counts + 1
    assert (np.diff(lengths[order]) >= 0).all()
    for batch in batches:
        assert lengths[batch][:-1].sum() < rows + lengths[batch].max()


@settings(max_examples=20, deadline=None)
@given(events=st.integers(1, 40), rows=st.integers(1, 200), seed=st.integers(0, 1000))
def test_scores_depend_neither_on_the_batches_nor_on_their_order(events, rows, seed):
    network = network_of("model-2")
    streams = toy_events(seed, events=events).streams
    together = predict.class_probabilities(network, streams)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predict, "batches", partial(predict.batches, rows=rows))
        in_batches = predict.class_probabilities(network, streams)
        patch.setattr(predict, "_SORTED", set())  # as on a GPU
        in_order = predict.class_probabilities(network, streams)
    np.testing.assert_allclose(in_batches, together, atol=1e-5)
    np.testing.assert_allclose(in_order, together, atol=1e-5)


def test_a_device_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert predict.choose_device("auto").type == "cpu"
    with pytest.raises(CardError, match="finds no GPU"):
        predict.choose_device("cuda")
    with pytest.raises(CardError, match="no device 'gpu'"):
        predict.choose_device("gpu")


@pytest.mark.parametrize("kind", KINDS)
def test_a_device_is_not_asked_for_anything_before_the_end(kind):
    """On torch's device without data, which mixes with no other and can tell nothing."""
    network = network_of(kind).to("meta")
    streams = {name: toy_events(1).streams[name] for name in network.settings.streams}
    with pytest.raises(NotImplementedError, match="Cannot copy out of meta") as asked:
        predict.score(network, streams)
    assert asked.traceback[-1].name == "_per_event"
