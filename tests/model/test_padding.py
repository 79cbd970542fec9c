import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from helpers.networks import KINDS, network_of
from helpers.toys import jet_stream, object_stream, toy_events
from manyscale.data.npz import read_npz_events
from manyscale.deployment.predict import class_probabilities
from manyscale.events.ragged import PackedStream
from manyscale.features.columns import to_torch
from manyscale.model.padded import PaddedNetwork, real_first
from manyscale.schema import StreamSchema

LENGTH = 24


def events_of(lengths, seed):
    """Events whose three streams have the given numbers of tokens."""
    rng = np.random.default_rng(seed)
    jet1, jet2, objects = np.array(lengths, np.int64).T
    most = object_stream(rng, len(objects))
    chosen = np.concatenate([4 * event + np.arange(count) for event, count in enumerate(objects)])
    kinematics = PackedStream(most.values[chosen.astype(np.int64)], objects, most.axis)
    return {"jet1": jet_stream(rng, jet1), "jet2": jet_stream(rng, jet2), "kinematics": kinematics}


def padded_scores(network, streams):
    lengths = {name: LENGTH if name != "kinematics" else 4 for name in network.settings.streams}
    padded = PaddedNetwork(network)
    with torch.no_grad():
        return padded(padded.arrays(streams, lengths)).softmax(1).numpy()


@example(lengths=[(0, 0, 0), (3, 0, 4)], seed=0, preset="pairs")
@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(
        st.tuples(st.integers(0, LENGTH), st.integers(0, LENGTH), st.integers(0, 4)),
        min_size=1,
        max_size=12,
    ),
    seed=st.integers(0, 1000),
    preset=st.sampled_from(KINDS),
)
def test_packed_and_padded_scores_are_equal(lengths, seed, preset):
    network = network_of(preset)
    streams = events_of(lengths, seed)
    np.testing.assert_allclose(
        class_probabilities(network, streams), padded_scores(network, streams), atol=1e-5
    )


@pytest.mark.parametrize("preset", KINDS)
def test_packed_and_padded_gradients_are_equal(preset):
    network = network_of(preset)
    streams = toy_events(5, events=30, longest=LENGTH).streams
    lengths = {name: LENGTH if name != "kinematics" else 4 for name in network.settings.streams}
    padded = PaddedNetwork(network)
    padded(padded.arrays(streams, lengths)).square().sum().backward()
    grads = [parameter.grad.clone() for parameter in network.parameters()]
    network.zero_grad()
    network(to_torch(streams, np.arange(30))).square().sum().backward()
    for parameter, grad in zip(network.parameters(), grads, strict=True):
        torch.testing.assert_close(parameter.grad, grad, atol=1e-3, rtol=1e-3)


def test_one_giant_event_changes_no_score_of_its_neighbours():
    network = network_of("concatenation")
    network.settings = network.settings.model_copy(
        update={
            "streams": {
                name: stream.model_copy(update={"max_tokens": 5000})
                for name, stream in network.settings.streams.items()
            }
        }
    )
    lengths = [(5000, 3, 4), *[(7, 0, 2)] * 30, (0, 5000, 1)]
    streams = events_of(lengths, 3)
    together = class_probabilities(network, streams)
    small = {name: stream.take(np.arange(1, 31)) for name, stream in streams.items()}
    np.testing.assert_allclose(class_probabilities(network, small), together[1:31], atol=1e-5)
    giant = {name: stream.take(np.array([0])) for name, stream in streams.items()}
    np.testing.assert_allclose(class_probabilities(network, giant), together[:1], atol=1e-5)


@pytest.mark.parametrize("columns", [("pt", "eta"), ("f0", "f1")])
def test_real_tokens_come_to_the_front_and_are_trimmed_as_when_packed(columns):
    rng = np.random.default_rng(2)
    stream = StreamSchema(name="jet", columns=columns)
    values = rng.integers(1, 4, (30, 9, 2)).astype(np.float32)  # of equal pt the first are kept
    values[rng.random((30, 9)) < 0.4] = 0
    packed = read_npz_events(values, [stream]).streams["jet"]
    by = 0 if columns[0] == "pt" else None
    for most in (3, 20):
        kept = real_first(stream, torch.from_numpy(values), most).numpy()
        np.testing.assert_array_equal(kept, packed.leading(most, by).padded())
    assert real_first(stream, torch.zeros(2, 0, 2), 5).shape == (2, 1, 2)
