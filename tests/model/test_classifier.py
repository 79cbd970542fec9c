import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.networks import KINDS, NAMES, network_of
from helpers.symmetries import (
    assert_batch_is_free,
    assert_padding_is_free,
    assert_token_order_is_free,
)
from helpers.toys import SCHEMA, toy_events
from manyscale.deployment.predict import class_probabilities
from manyscale.errors import CardError
from manyscale.features.columns import StreamBatch, to_torch
from manyscale.model.classifier import MultiScaleClassifier
from manyscale.model.layers import FusionSettings, StreamSettings
from manyscale.model.layout import Buckets
from manyscale.model.presets import resolve
from manyscale.model.summary import summarise

# phi relative to the first object gives the order of the objects a meaning: left out here.
UNORDERED = StreamSettings(features=("log_pt", "eta", "log_mass", "n_btags", "object_class"))


@pytest.mark.parametrize("preset", KINDS)
def test_scores_have_the_symmetries_of_sets(preset):
    network = network_of(preset, kinematics=UNORDERED)
    streams = toy_events(5).streams
    rng = np.random.default_rng(0)
    assert_token_order_is_free(network, streams, rng)
    assert_batch_is_free(network, streams, rng)
    assert_padding_is_free(network, streams)


@settings(max_examples=15, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 9), min_size=1, max_size=6),
    seed=st.integers(0, 1000),
    preset=st.sampled_from(KINDS),
)
def test_events_of_any_length_score_alike_alone_and_together(lengths, seed, preset):
    network = network_of(preset)
    events = toy_events(seed, events=len(lengths), longest=9)
    assert_batch_is_free(network, events.streams, np.random.default_rng(seed))


def test_order_of_the_context_changes_no_score():
    network = network_of("model-2")
    other = MultiScaleClassifier(
        resolve(
            "model-2", NAMES, fusion=[FusionSettings(query="kinematics", context=("jet2", "jet1"))]
        ),
        SCHEMA,
    ).eval()
    other.load_state_dict(network.state_dict())
    with torch.no_grad():
        other.fusion[0].stream_embedding.copy_(network.fusion[0].stream_embedding.flip(0))
    streams = toy_events(1).streams
    np.testing.assert_allclose(
        class_probabilities(other, streams), class_probabilities(network, streams), atol=1e-5
    )


def test_every_token_of_every_stream_is_seen():
    network = network_of("model-2")
    events = toy_events(2, events=6)
    everything = np.arange(6)

    def logits(streams):
        return network(to_torch(streams, everything)).detach().numpy()

    base = logits(events.streams)
    for name, stream in events.streams.items():
        values = stream.values.copy()
        values[-1, :4] *= 1.1
        owner = np.nonzero(stream.counts)[0][-1]
        changed = {**events.streams, name: type(stream)(values, stream.counts, stream.axis)}
        difference = np.abs(logits(changed) - base).max(axis=1)
        assert difference[owner] > 1e-4
        assert (np.delete(difference, owner) < 1e-5).all()


@pytest.mark.parametrize("preset", ["model-2", "pairs"])
def test_class_row_shortcut_gives_the_same_as_working_out_all_tokens(preset):
    network = network_of(preset)
    batch = to_torch(toy_events(4).streams, np.arange(20))
    short = network(batch)
    network._needed = [set(NAMES) for _ in network._needed]
    torch.testing.assert_close(network(batch), short, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("preset", KINDS)
def test_every_parameter_of_a_used_block_learns(preset):
    network = network_of(preset).train()
    network(to_torch(toy_events(4).streams, np.arange(20))).square().sum().backward()
    idle = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []


def test_shared_encoder_halves_the_weights():
    shared = StreamSettings(encoder="jets")
    together = network_of("concatenation", jet1=shared, jet2=shared)
    own = {name: StreamSettings(encoder=name) for name in ("jet1", "jet2")}
    apart = network_of("concatenation", **own)
    assert together.encoder("jet1") is together.encoder("jet2")
    jets = sum(p.numel() for p in together.encoder("jet1").parameters())
    difference = sum(p.numel() for p in apart.parameters()) - sum(
        p.numel() for p in together.parameters()
    )
    assert difference == jets


def test_summary_counts_every_parameter_once_and_names_pair_biases():
    network = network_of("pairs")
    summary = summarise(network)
    own = [block.parameters for block in summary.blocks]
    assert sum(own) == summary.parameters == sum(p.numel() for p in network.parameters())
    encoders = [block for block in summary.blocks if block.kind == "encoder"]
    assert all("pair biases" in block.lines for block in encoders)
    jets, _, kinematics = (block.parameters for block in encoders)
    assert jets == kinematics > 16 * 5


def test_positions_make_the_order_of_tokens_matter():
    streams = toy_events(5).streams
    with pytest.raises(AssertionError):
        assert_token_order_is_free(
            network_of("model-1", jet1=StreamSettings(positions=True)),
            streams,
            np.random.default_rng(0),
        )


@pytest.mark.parametrize(
    ("streams", "fusion", "said"),
    [
        ({"jet3": StreamSettings()}, None, "the data have no stream 'jet3'"),
        ({}, [FusionSettings(query="jet9", context=("jet1",))], "'jet9', which is no stream"),
        ({}, [FusionSettings(query="jet1", context=("jet1",))], "names a stream twice"),
        ({}, [FusionSettings(query="jet1", context=("jet2",), heads=5)], r"fusion\[0\].heads is 5"),
        (
            {"jet1": StreamSettings(encoder="a"), "jet2": StreamSettings(encoder="a", layers=1)},
            None,
            "share the encoder 'a'",
        ),
        ({"jet1": StreamSettings(features=("pt", "mass"))}, None, "no feature 'mass'"),
        (
            {"jet1": StreamSettings(pair_bias=True, layers=0)},
            None,
            "jet1.pair_bias needs one layer",
        ),
        ({"jet1": StreamSettings(pair_bias=True, layers=1)}, [], "jet1.pair_bias needs two layers"),
    ],
)
def test_what_does_not_fit_together_is_named(streams, fusion, said):
    with pytest.raises(CardError, match=said):
        MultiScaleClassifier(resolve("model-2", NAMES, streams, fusion), SCHEMA)


@pytest.mark.parametrize("preset", ["model-2", "pairs"])
def test_gradients_of_grouped_attention_are_those_of_events_alone(preset):
    network = network_of(preset)
    events = toy_events(9, events=64, longest=60)
    buckets = Buckets.of(events.streams["jet1"].counts + 1)
    assert len(buckets.sizes) > 1 or not all(buckets.alone)
    network(to_torch(events.streams, np.arange(64))).square().sum().backward()
    together = [parameter.grad.clone() for parameter in network.parameters()]
    network.zero_grad()
    for event in range(64):
        network(to_torch(events.streams, np.array([event]))).square().sum().backward()
    for parameter, grad in zip(network.parameters(), together, strict=True):
        torch.testing.assert_close(parameter.grad, grad, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", ["train", "items", "a.b", "values"])
def test_streams_and_encoders_may_be_called_as_torch_calls_its_own(name):
    schema = SCHEMA.model_copy(
        update={"streams": (SCHEMA.stream("jet1").model_copy(update={"name": name}),)}
    )
    settings = resolve("model-1", [name], {name: StreamSettings(encoder=name)})
    network = MultiScaleClassifier(settings, schema)
    batch = to_torch({name: toy_events(1).streams["jet1"]}, np.arange(4))
    assert network(batch).shape == (4, 2)


@pytest.mark.parametrize("kind", KINDS)
def test_forward_and_backward_ask_the_device_for_nothing(kind):
    """On torch's device without data, which mixes with no other and can tell nothing."""
    network = network_of(kind).to("meta").train()
    streams = toy_events(1).streams
    batch = {name: StreamBatch.of(streams[name], "meta") for name in network.settings.streams}
    network(batch).sum().backward()
    assert all(weight.grad.device.type == "meta" for weight in network.parameters())
