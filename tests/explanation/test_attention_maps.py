from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers.networks import NAMES, network_of
from helpers.toys import SCHEMA, jet_stream, toy_events
from manyscale.data.packing import PackedStream
from manyscale.data.schema import OBJECT_CLASSES, PARTICLE_CLASSES, StreamSchema
from manyscale.explanation.attention_maps import AttentionMaps
from manyscale.explanation.importance_maps import ImportanceMaps
from manyscale.explanation.pairs import PairAttention
from manyscale.explanation.recording import listening
from manyscale.explanation.response import batches
from manyscale.explanation.tally import ALL, CLASS_TOKEN, Labelled, Tally
from manyscale.explanation.token_attention import last_looks, token_attention
from manyscale.explanation.tokens import RANKS, TokenReader
from manyscale.features.columns import StreamBatch, to_torch
from manyscale.features.images import ImageMaker, ImageSettings, class_means
from manyscale.features.jet_frame import FrameSettings
from manyscale.model.layers import StreamSettings
from manyscale.model.presets import PRESETS

IMAGES = ImageSettings(bins=9, half_width=1.0)
EVENTS = 40


def weights_of(label, rng):
    """Class-balanced, of both signs."""
    weight = rng.uniform(0.5, 2, len(label)) * np.where(rng.random(len(label)) < 0.2, -1, 1)
    for of in (0, 1):
        weight[label == of] /= abs(weight[label == of].sum())
    return weight


def added(maps, network, events, weight):
    """Add some events to maps; return the maps."""
    streams = network.trim(events.streams)
    for chosen, batch in batches(network, streams):
        maps.add(batch, Labelled.of(events.label[chosen], weight[chosen]))
    return maps


@pytest.fixture
def events():
    return toy_events(3, events=EVENTS)


@pytest.fixture
def weight(events):
    return weights_of(events.label, np.random.default_rng(1))


def by_hand(network, events, of_event):
    """(events, ...): a number worked out for each event alone from its attention calls."""
    found = []
    for event in range(len(events)):
        streams = {name: s.take(np.array([event])) for name, s in events.streams.items()}
        calls = []
        with torch.no_grad(), listening(network, calls.append):
            network(to_torch(streams, np.array([0])))
        found.append(of_event(streams, calls))
    return np.array(found)


def mean_of(values, label, weight):
    """Weighted mean of each class and its error."""
    means, errors = [], []
    for of in (0, 1):
        w, x = weight[label == of], values[label == of]
        mean = np.tensordot(w, x, 1) / w.sum()
        means.append(mean)
        errors.append(np.sqrt(np.tensordot(w**2, (x - mean) ** 2, 1)) / abs(w.sum()))
    return np.array(means), np.array(errors)


def test_shares_are_the_means_of_what_each_event_gives(events, weight):
    network = network_of("model-2")
    maps = added(AttentionMaps(network, IMAGES), network, events, weight)
    (place,) = {place for place, _ in maps.cross}

    def leading_jet_to_jet2(streams, calls):
        """Attention of head 1 of the leading jet to the charged hadrons, and to the class token."""
        (call,) = (call for call in calls if call.place == place)
        group = call.weights().groups[0][0, 0]
        slot = call.pattern.queries.row_slot[1].item()
        given = group[slot][call.pattern.keys.row_slot]
        first = 1 + len(streams["jet1"].values)
        kind = streams["jet2"].values[:, 5]
        tokens = given[first + 1 :].numpy()
        return tokens[kind == 0].sum(), given[first].item(), tokens.sum()

    mean, error = mean_of(by_hand(network, events, leading_jet_to_jet2), events.label, weight)
    tally = maps.cross[place, "jet2"]
    channel = maps.asking["kinematics"].index("leading jet")
    found, found_error = tally.by_kind()
    rows = [tally.rows.index(row) for row in ("charged hadron", CLASS_TOKEN, ALL)]
    np.testing.assert_allclose(found[:, rows, channel], mean, atol=1e-6)
    np.testing.assert_allclose(found_error[:, rows, channel], error, atol=1e-6)


@pytest.mark.parametrize("preset", PRESETS)
def test_attention_of_a_query_sums_to_one_over_all_it_looks_at(preset, events, weight):
    network = network_of(preset)
    maps = added(AttentionMaps(network, IMAGES), network, events, weight)
    for place in {place for place, _ in maps.cross}:
        total = 0
        for name in place.context:
            tally = maps.cross[place, name]
            mean, _ = tally.by_kind()
            total = total + mean[:, tally.rows.index(ALL)] + mean[:, tally.rows.index(CLASS_TOKEN)]
        there = np.isfinite(total)
        # No toy has a lepton or a small jet; "any" is equal parts.
        assert there.any()
        np.testing.assert_allclose(total[there], 1, atol=1e-5)
    for tally in maps.own.values():
        mean, _ = tally.by_kind()
        total = mean[:, tally.rows.index(ALL)] + mean[:, tally.rows.index(CLASS_TOKEN)]
        np.testing.assert_allclose(total, 1, atol=1e-5)


def test_mean_channel_is_the_mean_of_the_heads(events, weight):
    network = network_of("model-2")
    maps = added(AttentionMaps(network, IMAGES), network, events, weight)
    for (place, _), tally in maps.cross.items():
        kinds = len(maps.asking[place.stream])
        for values in (tally.image(), tally.by_kind()[0], tally.by_rank(), tally.by_distance()):
            heads = values[..., : place.heads * kinds].reshape(*values.shape[:-1], -1, kinds)
            mean = values[..., place.heads * kinds : -1]
            np.testing.assert_allclose(heads.mean(axis=-2), mean, atol=1e-6)


def test_kinds_of_queries_that_no_event_has_are_nothing(events, weight):
    network = network_of("model-2")
    maps = added(AttentionMaps(network, IMAGES), network, events, weight)
    assert maps.asking["kinematics"] == (CLASS_TOKEN, *OBJECT_CLASSES, "other")
    mean, _ = next(iter(maps.cross.values())).by_kind()
    there = np.isfinite(mean[0, -1, : len(maps.asking["kinematics"])])
    assert there.tolist() == [True, True, True, True, True, False, False, False]


def test_maps_do_not_depend_on_the_batches(events, weight, monkeypatch):
    network = network_of("custom")
    together = added(AttentionMaps(network, IMAGES), network, events, weight)
    apart = AttentionMaps(network, IMAGES)
    for first in range(0, EVENTS, 7):
        part = events.between(first, first + 7)
        added(apart, network, part, weight[first : first + 7])
    for key, tally in together.cross.items():
        np.testing.assert_allclose(apart.cross[key].image(), tally.image(), atol=1e-6)
        np.testing.assert_allclose(apart.cross[key].by_kind(), tally.by_kind(), atol=1e-6)


def test_image_of_pt_is_that_of_jet_images(events, weight):
    reader = TokenReader(SCHEMA.stream("jet1"), IMAGES)
    stream = events.streams["jet1"]
    tally = Tally(reader, 1)
    batch = StreamBatch.of(stream)
    pt = torch.from_numpy(stream.values[:, :1])
    tally.add(reader(batch), pt, Labelled.of(events.label, weight))
    wanted = class_means(ImageMaker(reader.stream, IMAGES), stream, events.label, weight)
    np.testing.assert_allclose(tally.image()[..., 0], wanted[:, 0], rtol=1e-4, atol=1e-4)


def test_tokens_are_ranked_by_pt_within_their_event():
    rng = np.random.default_rng(2)
    stream = jet_stream(rng, [3, 0, RANKS + 5, 1])
    tokens = TokenReader(SCHEMA.stream("jet1"), IMAGES)(StreamBatch.of(stream))
    for first, last in zip(stream.offsets[:-1], stream.offsets[1:], strict=True):
        pt = stream.values[first:last, 0]
        wanted = np.minimum(np.argsort(np.argsort(-pt)), RANKS)
        assert tokens.rank[first:last].tolist() == wanted.tolist()
        np.testing.assert_allclose(tokens.pt_share[first:last], pt / pt.sum(), rtol=1e-5)


def test_notices_say_what_does_not_apply(events, weight):
    assert "no fusion block" in AttentionMaps(network_of("concatenation"), IMAGES).notices()[0]
    alone = AttentionMaps(network_of("kinematics-only"), IMAGES)
    assert "one stream" in alone.notices()[0]
    assert "kinematics: no maps" in alone.notices()[1]
    added(alone, network_of("kinematics-only"), events, weight)
    plain = TokenReader(StreamSchema(name="x", columns=("f0", "f1")), IMAGES)
    assert len(plain.notices()) == 2
    tokens = plain(StreamBatch.of(PackedStream(np.ones((2, 2), np.float32), np.array([2]), np.zeros((1, 0), np.float32))))  # fmt: skip
    assert tokens.kind.tolist() == [0, 0]
    assert tokens.pixel is tokens.rank is None
    assert AttentionMaps(network_of("model-2"), IMAGES).notices() == alone.notices()[1:]


def test_unknown_kinds_are_others():
    rng = np.random.default_rng(2)
    stream = jet_stream(rng, [4])
    stream.values[:, 5] = [0, 4, 9, -1]
    reader = TokenReader(SCHEMA.stream("jet1"), IMAGES)
    assert reader.kinds == (*PARTICLE_CLASSES, "other")
    assert reader(StreamBatch.of(stream)).kind.tolist() == [0, 4, 5, 5]


def test_frame_of_the_card_turns_the_maps_but_not_the_distances(events):
    stream = events.streams["jet1"]
    turned = ImageSettings(frame=FrameSettings(centre="pt", rotate="principal", flip=True))
    plain, other = (
        TokenReader(SCHEMA.stream("jet1"), images)(StreamBatch.of(stream))
        for images in (ImageSettings(frame=FrameSettings()), turned)
    )
    assert (plain.pixel != other.pixel).any()
    assert (plain.distance == other.distance).all()


def test_pairs_of_equal_attention_have_one_at_all_distances(events, weight):
    network = network_of("model-2")
    with torch.no_grad():
        for name in ("jet1", "jet2"):
            for layer in network.encoder(name).layers:
                layer.attention.query_key_value.weight.zero_()
                layer.attention.query_key_value.bias.zero_()
    weight = abs(weight)
    pairs = added(PairAttention(network, IMAGES), network, events, weight)
    assert {(place.stream, place.layer) for place in pairs.profiles} == {
        ("jet1", 1), ("jet1", 2), ("jet2", 1), ("jet2", 2),
    }  # fmt: skip
    for profile in pairs.profiles.values():
        means = profile.means()
        assert np.isfinite(means).any()
        np.testing.assert_allclose(means[np.isfinite(means)], 1, rtol=1e-5)


def test_pairs_are_those_counted_by_hand(events, weight):
    network = network_of("model-2")
    pairs = added(PairAttention(network, IMAGES), network, events, weight)
    place, profile = next(iter(pairs.profiles.items()))

    def sums(streams, calls):
        (call,) = (call for call in calls if call.place == place)
        stream = streams[place.stream]
        tokens = TokenReader(SCHEMA.stream(place.stream), IMAGES)(StreamBatch.of(stream))
        number, bins = len(stream.values), len(profile.edges) - 1
        given = call.weights().groups[0][0, 1].numpy()[1:, 1:]
        apart = np.linalg.norm(tokens.place[:, None].numpy() - tokens.place[None].numpy(), axis=-1)
        off = ~np.eye(number, dtype=bool)
        found = np.histogram(apart[off], profile.edges, weights=given[off])[0]
        return np.stack([found, np.histogram(apart[off], profile.edges)[0] / (number + 1)]).reshape(
            2, bins
        )

    of_event = by_hand(network, events, sums)
    for label in (0, 1):
        top, bottom = np.tensordot(
            weight[events.label == label], of_event[events.label == label], 1
        )
        with np.errstate(invalid="ignore"):
            np.testing.assert_allclose(
                profile.means()[label, 1], top / bottom, rtol=1e-4, atol=1e-5
            )


def test_last_look_is_the_cross_attention_where_there_is_one():
    looks = last_looks(network_of("model-2"))
    assert looks["jet1"] == looks["jet2"]
    assert looks["jet1"].context == ("jet1", "jet2")
    assert (looks["kinematics"].context, looks["kinematics"].block) == ((), 1)
    unseen = last_looks(network_of("concatenation", jet2=StreamSettings(layers=0)))
    assert set(unseen) == {"jet1", "kinematics"}


def test_a_stream_without_encoder_layers_may_ask():
    looks = last_looks(network_of("model-2", kinematics=StreamSettings(layers=0)))
    assert (looks["kinematics"].context, looks["kinematics"].block) == ((), 1)
    assert looks["jet1"].stream == "kinematics"


@pytest.mark.parametrize("preset", PRESETS)
def test_attention_of_a_token_does_not_depend_on_the_other_events(preset, events):
    network = network_of(preset)
    streams = network.trim(events.streams)
    together = token_attention(network, streams)
    alone = [
        token_attention(network, {n: s.take(np.array([event])) for n, s in streams.items()})
        for event in range(EVENTS)
    ]
    for name, values in together.items():
        np.testing.assert_allclose(np.concatenate([of[name] for of in alone]), values, atol=1e-5)
        assert (values > 0).all()
        total = np.bincount(np.repeat(np.arange(EVENTS), streams[name].counts), values, EVENTS)
        assert (total < 1 + 1e-5).all()


def test_importance_of_all_streams_sums_to_one(events, weight):
    network = network_of("model-2")
    maps = added(ImportanceMaps(network, IMAGES), network, events, abs(weight))
    total = sum(tally.by_kind()[0][:, -1] for tally in maps.tallies.values())
    # Grad-CAM of an event is nothing where no token speaks for what is said.
    assert (total[:, 0] < 1 + 1e-5).all()
    assert (total[:, 0] > 0.8).all()
    np.testing.assert_allclose(total[:, 1], 1, atol=1e-5)


def test_events_of_no_weight_do_not_count(events, weight):
    network = network_of("model-3")
    kept = np.arange(EVENTS) % 3 != 0
    few = added(
        AttentionMaps(network, IMAGES), network, events.take(np.flatnonzero(kept)), weight[kept]
    )
    unknown = replace(events, label=np.where(kept, events.label, -1))
    same = added(AttentionMaps(network, IMAGES), network, unknown, np.where(kept, weight, 0))
    for key, tally in few.cross.items():
        np.testing.assert_allclose(same.cross[key].image(), tally.image(), atol=1e-6)


def test_streams_are_those_of_the_network():
    assert set(AttentionMaps(network_of("model-2"), IMAGES).readers) == set(NAMES)
