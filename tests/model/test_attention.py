"""The seam `attend` against attention written out event by event."""

import numpy as np
import pytest
import torch

from helpers.networks import KINDS, network_of
from helpers.toys import toy_events
from manyscale.features.columns import to_torch
from manyscale.features.pairs import pair_features
from manyscale.model.attention import PairBias, attend
from manyscale.model.layout import Layout
from manyscale.model.taps import Taps

COUNTS = np.array([2, 0, 70, 5, 1, 90, 3], np.int64)
OTHERS = np.array([0, 4, 1, 80, 0, 2, 6], np.int64)


def layout_of(counts, device="cpu"):
    return Layout(torch.from_numpy(counts).to(device), counts)


def rows_of(layout, seed, heads=2, d=4):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(layout.event), heads, d, generator=generator)


def joined(*rows):
    return torch.stack(rows, 1)


def one_by_one(query, key, value, query_event, key_event, bias=None):
    """(rows, heads * d): softmax(q k^T / sqrt(d) + bias) v, an event at a time, in double precision."""
    out = torch.zeros(query.shape, dtype=torch.float64)
    for event in np.unique(query_event):
        q, k = np.flatnonzero(query_event == event), np.flatnonzero(key_event == event)
        scores = (
            torch.einsum("qhd,khd->hqk", query[q].double(), key[k].double()) / query.shape[2] ** 0.5
        )
        if bias is not None:
            scores = scores + bias[np.ix_(q, k)]
        out[q] = torch.einsum("hqk,khd->qhd", scores.softmax(2), value[k].double())
    return out.flatten(1).float()


@pytest.mark.parametrize("seed", [0, 1])
def test_self_attention_is_that_of_each_event_alone(seed):
    layout = layout_of(COUNTS)
    query, key, value = (rows_of(layout, 3 * seed + number) for number in range(3))
    expected = one_by_one(query, key, value, layout.event, layout.event)
    torch.testing.assert_close(attend(None, joined(query, key, value), layout.to_itself), expected)
    classes = attend(layout.class_rows(query), joined(key, value), layout.class_to_all)
    torch.testing.assert_close(classes, layout.class_rows(expected))


def test_cross_attention_takes_one_softmax_over_all_contexts():
    layout, others = layout_of(COUNTS), layout_of(OTHERS)
    contexts = layout.to_contexts([others, layout])
    query = rows_of(layout, 0)
    key, value = (torch.cat([rows_of(others, seed), rows_of(layout, seed + 5)]) for seed in (1, 2))
    key_event = np.concatenate([others.event, layout.event])
    expected = one_by_one(query, key, value, layout.event, key_event)
    torch.testing.assert_close(attend(query, joined(key, value), contexts), expected)


def test_a_bias_is_added_to_the_scores():
    layout = layout_of(COUNTS)
    query, key, value = (rows_of(layout, seed) for seed in range(3))
    where = torch.randn(len(layout.event), generator=torch.Generator().manual_seed(7))
    padded = layout.to_itself.padded.keys.pad(where)
    bias = [(at[:, None, :, None] - at[:, None, None, :]) ** 2 for at in padded]
    dense = (where[:, None] - where).double() ** 2
    torch.testing.assert_close(
        attend(None, joined(query, key, value), layout.to_itself, bias=bias),
        one_by_one(query, key, value, layout.event, layout.event, dense),
    )


def test_pair_biases_are_those_of_each_pair_and_none_of_class_tokens():
    layout = layout_of(COUNTS)
    query, key, value = (rows_of(layout, seed) for seed in range(3))
    torch.manual_seed(4)
    pairs = PairBias(heads=2)
    torch.nn.init.normal_(pairs.narrow.weight)
    torch.nn.init.normal_(pairs.narrow.bias)
    momenta = torch.randn(len(layout.token_rows), 4).abs()
    numbers = torch.zeros(4, layout.rows)
    numbers[:, layout.token_rows] = momenta.T
    # Of all rows with all others, head last, written out plainly.
    features = pair_features(numbers[:, :, None], numbers[:, None]).permute(1, 2, 0)
    dense = pairs.narrow(torch.nn.functional.gelu(pairs.wide(features))).detach()
    dense[layout.first_rows] = dense[:, layout.first_rows] = 0
    found = attend(
        None, joined(query, key, value), layout.to_itself, bias=pairs(momenta, layout)
    ).detach()
    for head in range(2):
        of_head = (rows[:, head : head + 1] for rows in (query, key, value))
        expected = one_by_one(*of_head, layout.event, layout.event, dense[..., head])
        torch.testing.assert_close(found[:, 4 * head : 4 * head + 4], expected)


@pytest.mark.parametrize("biased", [False, True])
def test_weights_of_the_tap_are_those_of_the_output(biased):
    layout = layout_of(COUNTS)
    query, key, value = (rows_of(layout, seed) for seed in range(3))
    bias = [
        torch.randn(*mask.shape[:2], *[mask.shape[3]] * 2) for mask in layout.to_itself.padded.masks
    ]
    heard = []
    out = attend(
        None,
        joined(query, key, value),
        layout.to_itself,
        bias=bias if biased else None,
        tap=heard.append,
    )
    (weights,) = heard
    values = layout.to_itself.padded.keys.pad(value)
    again = [
        torch.einsum("bhqk,bkhd->bqhd", of_bucket, padded).flatten(2)
        for of_bucket, padded in zip(weights.buckets, values, strict=True)
    ]
    torch.testing.assert_close(layout.to_itself.padded.queries.unpad(again), out)
    # What all queries of an event give to its keys is their number.
    ones = torch.ones(layout.events, 1), torch.ones(len(layout.token_rows), 1)
    ((to_classes, to_tokens),) = weights.onto_keys(*ones)
    owner = layout.event_of_row[layout.token_rows].numpy()
    given = np.bincount(owner, to_tokens.mean(1)[:, 0].numpy(), layout.events)
    np.testing.assert_allclose(to_classes.mean(1)[:, 0].numpy() + given, COUNTS + 1, rtol=1e-5)


class Listener(Taps):
    def __init__(self):
        self.heard, self.shapes = [], {}

    def weights(self, place):
        return lambda weights: self.heard.append((place, weights))

    def rows(self, place, rows, layout):
        self.shapes[place.stream, place.block, place.layer, place.part] = len(rows)
        return rows


@pytest.mark.parametrize("preset", KINDS)
def test_taps_hear_every_attention_and_change_no_score(preset):
    network = network_of(preset)
    streams = toy_events(5, events=20).streams
    batch = to_torch(network.trim(streams), np.arange(20))
    listener = Listener()
    assert torch.equal(network(batch, listener), network(batch))
    assert [place for place, _ in listener.heard] == network.attention_places()
    for place, weights in listener.heard:
        assert all(bucket.shape[1] == place.heads for bucket in weights.buckets)
    pooled = {key[0]: rows for key, rows in listener.shapes.items() if key[3] == "pooled"}
    assert pooled == dict.fromkeys(network.settings.streams, 20)


def test_taps_change_what_they_return():
    class Blind(Taps):
        def inputs(self, stream, rows, layout):
            return rows if stream != "jet1" else rows * (rows[:, -1:] != 0)

    network = network_of("model-2")
    batch = to_torch(network.trim(toy_events(5, events=20).streams), np.arange(20))
    changed, plain = network(batch, Blind()), network(batch)
    some = (batch["jet1"].counts > 0).numpy()
    assert (changed != plain).any(1).numpy()[some].all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("d", [16, 5])
def test_every_kernel_of_a_gpu_gives_what_events_alone_give(d):
    layout, others = layout_of(COUNTS, "cuda"), layout_of(OTHERS, "cuda")
    query, key, value = (rows_of(layout, seed, d=d).cuda() for seed in range(3))
    more = [
        torch.cat([rows_of(others, s, d=d), rows_of(layout, s + 5, d=d)]).cuda() for s in (1, 2)
    ]
    contexts = layout.to_contexts([others, layout])
    key_event = np.concatenate([others.event, layout.event])
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 3e-2)):
        q, k, v, *kv = (x.to(dtype, copy=True).requires_grad_() for x in (query, key, value, *more))
        # A head of 5 is none that the variable-length kernel takes.
        for found, expected in (
            (
                attend(None, joined(q, k, v), layout.to_itself),
                (q, k, v, layout.event, layout.event),
            ),
            (attend(q, joined(*kv), contexts), (q, *kv, layout.event, key_event)),
        ):
            exact = one_by_one(*(x.detach().cpu() for x in expected[:3]), *expected[3:])
            torch.testing.assert_close(found.cpu().float(), exact, atol=tolerance, rtol=tolerance)
            found.float().square().sum().backward()
            assert all(torch.isfinite(x.grad).all() for x in expected[:3])
