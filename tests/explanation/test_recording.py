import numpy as np
import pytest
import torch

from helpers.networks import NAMES, network_of
from helpers.toys import toy_events
from manyscale.explanation.recording import (
    Place,
    SelfAttentionCall,
    attention_places,
    listening,
)
from manyscale.features.columns import to_torch
from manyscale.model.layers import StreamSettings
from manyscale.model.presets import PRESETS
from manyscale.model.tokens import Layout

EVENTS = 30


def calls_of(network, streams):
    """Every attention call of one forward pass, and what the layer gave."""
    calls, outputs = [], []
    handles = [
        module.register_forward_hook(lambda _m, _i, out: outputs.append(out))
        for module in dict.fromkeys(module for _, module in attention_places(network))
    ]
    with torch.no_grad(), listening(network, calls.append):
        network(to_torch(streams, np.arange(EVENTS)))
    for handle in handles:
        handle.remove()
    return list(zip(calls, outputs, strict=True))


def dense(call):
    """(heads, query rows, key rows): the weights of all against all, from the padded groups."""
    weights = call.weights()
    queries, keys = weights.pattern.queries, weights.pattern.keys
    heads = call.place.heads
    out = torch.zeros(heads, len(queries.row_slot), len(keys.row_slot))
    asked = answering = 0
    row_of = [torch.full((len(s.owner),), -1) for s in (queries, keys)]
    for of, slots in zip(row_of, (queries, keys), strict=True):
        of[slots.row_slot] = torch.arange(len(slots.row_slot))
    for group in weights.groups:
        bins, _, q, k = group.shape
        rows = row_of[0][asked : asked + bins * q].view(bins, q)
        columns = row_of[1][answering : answering + bins * k].view(bins, k)
        asked, answering = asked + bins * q, answering + bins * k
        for place in range(bins):
            there, seen = rows[place] >= 0, columns[place] >= 0
            block = group[place][:, there][:, :, seen]
            out[:, rows[place][there][:, None], columns[place][seen][None]] = block
    return out


def rows_of(place, streams):
    """The event of each query row and of each key row."""
    events = {name: Layout(stream.counts).event for name, stream in streams.items()}
    asked = events[place.stream]
    return asked, np.concatenate([events[name] for name in place.context or (place.stream,)])


@pytest.mark.parametrize("preset", PRESETS)
def test_weights_sum_to_one_over_the_keys_of_the_event_and_are_zero_beyond(preset):
    network, streams = network_of(preset), toy_events(3, events=EVENTS, longest=60).streams
    for call, _ in calls_of(network, streams):
        asked, answering = rows_of(call.place, streams)
        weights = dense(call)
        asked = asked[: weights.shape[1]]
        same = torch.from_numpy(asked[:, None] == answering[None])
        assert not weights[:, ~same].any()
        torch.testing.assert_close(weights.sum(2), torch.ones(weights.shape[:2]))


def test_weights_are_those_of_each_event_worked_out_alone():
    network, streams = network_of("model-2"), toy_events(3, events=EVENTS).streams
    for call, _ in calls_of(network, streams):
        asked, answering = rows_of(call.place, streams)
        weights = dense(call)
        asked = asked[: weights.shape[1]]
        width = call.asking.shape[1] // call.place.heads
        for event in range(EVENTS):
            mine, other = np.flatnonzero(asked == event), np.flatnonzero(answering == event)
            query = call.asking[mine] @ call.query[0].T + call.query[1]
            key = call.answering[other] @ call.key[0].T + call.key[1]
            for head in range(call.place.heads):
                part = slice(head * width, (head + 1) * width)
                scores = query[:, part] @ key[:, part].T / np.sqrt(width)
                torch.testing.assert_close(
                    weights[head][mine][:, other], torch.softmax(scores, 1), atol=1e-5, rtol=1e-4
                )


@pytest.mark.parametrize("preset", PRESETS)
def test_weights_applied_to_the_values_give_what_the_layer_gives(preset):
    network, streams = network_of(preset), toy_events(4, events=EVENTS, longest=60).streams
    found = calls_of(network, streams)
    modules = dict(attention_places(network))
    for call, output in found:
        module = modules[call.place]
        last = module.query_key_value if isinstance(call, SelfAttentionCall) else module.key_value
        width = call.answering.shape[1]
        value = call.answering @ last.weight[-width:].T + last.bias[-width:]
        heads = value.view(len(value), call.place.heads, -1).transpose(0, 1)
        mixed = (dense(call) @ heads).transpose(0, 1).flatten(1)
        torch.testing.assert_close(module.out(mixed), output, atol=1e-4, rtol=1e-4)


def test_class_tokens_alone_are_the_first_rows_of_all():
    network, streams = network_of("model-2"), toy_events(4, events=EVENTS).streams
    full = [call for call, _ in calls_of(network, streams) if getattr(call, "full", False)]
    assert full
    for call in full:
        assert torch.allclose(dense(call.of_class_tokens()), dense(call)[:, :EVENTS], atol=1e-6)


def test_shared_encoder_tells_its_streams_apart():
    shared = StreamSettings(encoder="jets")
    network = network_of("model-2", jet1=shared, jet2=shared)
    streams = toy_events(5, events=EVENTS).streams
    rows = {name: EVENTS + len(stream.values) for name, stream in streams.items()}
    assert len(set(rows.values())) == len(NAMES)
    calls = []
    with torch.no_grad(), listening(network, calls.append):
        for _ in range(2):
            network(to_torch(streams, np.arange(EVENTS)))
    encoding = [call for call in calls if call.place.block == 0]
    assert [call.place.stream for call in encoding[:6]] == [n for n in NAMES for _ in range(2)]
    assert all(len(call.answering) == rows[call.place.stream] for call in encoding)


def test_shares_of_the_queries_add_up_on_the_keys():
    network, streams = network_of("model-2"), toy_events(6, events=EVENTS).streams
    for call, _ in calls_of(network, streams):
        share = torch.rand(len(call.asking), 3)
        wanted = torch.einsum("hqk,qc->khc", dense(call), share)
        torch.testing.assert_close(call.weights().onto_keys(share), wanted, atol=1e-5, rtol=1e-4)


def test_places_follow_the_settings_and_nothing_stays_behind():
    network = network_of("custom")
    places = [place for place, _ in attention_places(network)]
    assert places[0] == Place("jet1", (), 0, 1, 2)
    assert Place("jet1", ("jet2",), 1, 2, 2) in places
    assert Place("kinematics", ("jet1", "jet2"), 2, 1, 2) in places
    heard = []
    with listening(network, heard.append):
        pass
    network(to_torch(toy_events(1).streams, np.arange(4)))
    assert heard == []
