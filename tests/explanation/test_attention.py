from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers.networks import KINDS, network_of
from helpers.toys import SCHEMA, jet_stream, toy_events
from manyscale.deployment.predict import batches
from manyscale.events.ragged import PackedStream
from manyscale.explanation.attention import AttentionMaps, last_attention, token_attention
from manyscale.explanation.gradcam import ImportanceMaps, grad_cam
from manyscale.explanation.tokens import (
    ALL,
    CLASS_TOKEN,
    RANKS,
    ClassMeans,
    Labelled,
    TokenReader,
    token_readers,
)
from manyscale.features.columns import StreamBatch, to_torch
from manyscale.features.images import ImageMaker, ImageSettings, class_means
from manyscale.features.jet_frame import FrameSettings
from manyscale.model.layers import StreamSettings
from manyscale.model.taps import Taps
from manyscale.schema import OBJECT_CLASSES, PARTICLE_CLASSES, StreamSchema

IMAGES = ImageSettings(bins=9, half_width=1.0)
EVENTS = 40


def weights_of(label, rng):
    """Class-balanced, of both signs."""
    weight = rng.uniform(0.5, 2, len(label)) * np.where(rng.random(len(label)) < 0.2, -1, 1)
    for of in (0, 1):
        weight[label == of] /= abs(weight[label == of].sum())
    return weight


def maps_of(network, images=IMAGES):
    """Empty maps of attention and of Grad-CAM."""
    readers = token_readers(network, images)
    return AttentionMaps(network, readers), ImportanceMaps(network, readers)


def added(network, events, weight, maps=None):
    """Add some events to maps; return the maps."""
    attention, importance = maps = maps or maps_of(network)
    for chosen, batch in batches(network, network.trim(events.streams)):
        tokens = {name: reader(batch[name]) for name, reader in attention.readers.items()}
        label, of_chosen = events.label[chosen].clip(0), weight[chosen]
        labelled = Labelled(torch.from_numpy(label), torch.from_numpy(of_chosen))
        cam = grad_cam(network, batch, attention.taps(tokens, labelled))
        importance.add(cam.importance, tokens, labelled)
    return maps


@pytest.fixture
def events():
    return toy_events(3, events=EVENTS)


@pytest.fixture
def weight(events):
    return weights_of(events.label, np.random.default_rng(1))


class Heard(Taps):
    """Keeps the attention weights of each place."""

    def __init__(self):
        self.found = {}

    def weights(self, place):
        return lambda weights: self.found.update({place: weights})


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
    maps, _ = added(network, events, weight)
    (place,) = {place for place, _ in maps.cross}
    by_hand = []
    for event in range(EVENTS):
        streams = {name: s.take(np.array([event])) for name, s in events.streams.items()}
        heard = Heard()
        with torch.no_grad():
            network(to_torch(streams, np.array([0])), heard)
        weights = heard.found[place]
        # Attention of head 1 of the leading jet, the first token after the class token.
        slot = weights.layout.padded.queries.unpad_index[1].item()
        given = weights.buckets[0][0, 0, slot][weights.layout.padded.keys.unpad_index]
        first = 1 + len(streams["jet1"].values)
        tokens = given[first + 1 :].numpy()
        charged = streams["jet2"].values[:, 5] == 0
        by_hand.append((tokens[charged].sum(), given[first].item(), tokens.sum()))
    mean, error = mean_of(np.array(by_hand), events.label, weight)
    means = maps.cross[place, "jet2"]
    channel = means.channel(query="leading jet", head=1)
    for number, row in enumerate(("charged hadron", CLASS_TOKEN, ALL)):
        found, found_error = means.share(row, channel)
        np.testing.assert_allclose(found, mean[:, number], atol=1e-6)
        np.testing.assert_allclose(found_error, error[:, number], atol=1e-6)


def test_self_attention_is_that_of_the_class_token(events, weight):
    """Whether the layer works out all rows, as in a context's encoder, or the class row alone."""
    network = network_of("model-2")
    maps, _ = added(network, events, weight)
    by_hand = {place: [] for place in maps.own}
    for event in range(EVENTS):
        streams = {name: s.take(np.array([event])) for name, s in events.streams.items()}
        heard = Heard()
        with torch.no_grad():
            network(to_torch(streams, np.array([0])), heard)
        for place in maps.own:
            weights = heard.found[place]
            padded = weights.layout.padded
            slots = [p.unpad_index for p in (padded.queries, padded.keys)]
            by_hand[place].append(weights.buckets[0][0, 1, slots[0][0]][slots[1]][1:].sum().item())
    for place, means in maps.own.items():
        mean, error = mean_of(np.array(by_hand[place]), events.label, weight)
        np.testing.assert_allclose(
            means.share(ALL, means.channel(head=2)), (mean, error), atol=1e-6
        )


@pytest.mark.parametrize("preset", KINDS)
def test_attention_of_a_query_sums_to_one_over_all_keys(preset, events, weight):
    network = network_of(preset)
    maps, _ = added(network, events, weight)
    for place in {place for place, _ in maps.cross}:
        total = 0
        for name in place.context:
            mean, _ = maps.cross[place, name].by_kind()
            total = total + mean[:, -2:].sum(axis=1)
        there = np.isfinite(total)
        # No toy has a lepton or a small jet; "any" is equal parts.
        assert there.any()
        np.testing.assert_allclose(total[there], 1, atol=1e-5)
    for means in maps.own.values():
        assert means.rows[-2:] == (CLASS_TOKEN, ALL)
        np.testing.assert_allclose(means.by_kind()[0][:, -2:].sum(axis=1), 1, atol=1e-5)


def test_mean_channel_is_the_mean_of_the_heads(events, weight):
    network = network_of("model-2")
    maps, _ = added(network, events, weight)
    for (place, _), means in maps.cross.items():
        for kind in maps.queries[place.stream]:
            heads = [means.channel(query=kind, head=head) for head in (1, 2)]
            mean = means.channel(query=kind, head="mean")
            for values in (means.image(), means.by_kind()[0], means.binned("rank")):
                of_heads = values[..., heads].mean(axis=-1)
                np.testing.assert_allclose(of_heads, values[..., mean], atol=1e-6)


def test_kinds_of_queries_that_no_event_has_are_nothing(events, weight):
    network = network_of("model-2")
    maps, _ = added(network, events, weight)
    assert maps.queries["kinematics"] == (CLASS_TOKEN, *OBJECT_CLASSES, "other")
    mean, _ = next(iter(maps.cross.values())).by_kind()
    there = np.isfinite(mean[0, -1, : len(maps.queries["kinematics"])])
    assert there.tolist() == [True, True, True, True, True, False, False, False]


def test_maps_do_not_depend_on_the_batches(events, weight):
    network = network_of("custom")
    together, _ = added(network, events, weight)
    apart, importance = maps_of(network)
    for first in range(0, EVENTS, 7):
        part = events.between(first, first + 7)
        added(network, part, weight[first : first + 7], (apart, importance))
    for key, means in together.cross.items():
        np.testing.assert_allclose(apart.cross[key].image(), means.image(), atol=1e-6)
        np.testing.assert_allclose(apart.cross[key].by_kind(), means.by_kind(), atol=1e-6)


def test_image_of_pt_is_that_of_jet_images(events, weight):
    reader = TokenReader(SCHEMA.stream("jet1"), IMAGES)
    stream = events.streams["jet1"]
    means = ClassMeans(reader, [{}])
    pt = torch.from_numpy(stream.values[:, :1])
    labelled = Labelled(torch.from_numpy(events.label), torch.from_numpy(weight))
    means.add(reader(StreamBatch.of(stream)), pt, labelled)
    wanted = class_means(ImageMaker(reader.stream, IMAGES), stream, events.label, weight)
    np.testing.assert_allclose(means.image()[..., 0], wanted[:, 0], rtol=1e-4, atol=1e-4)


def test_tokens_are_ranked_by_pt_within_their_event():
    rng = np.random.default_rng(2)
    stream = jet_stream(rng, [3, 0, RANKS + 5, 1])
    tokens = TokenReader(SCHEMA.stream("jet1"), IMAGES)(StreamBatch.of(stream))
    for first, last in zip(stream.offsets[:-1], stream.offsets[1:], strict=True):
        pt = stream.values[first:last, 0]
        wanted = np.minimum(np.argsort(np.argsort(-pt)), RANKS)
        assert tokens.rank[first:last].tolist() == wanted.tolist()
        np.testing.assert_allclose(tokens.pt_share[first:last], pt / pt.sum(), rtol=1e-5)


def test_notices_say_what_does_not_apply():
    assert "no fusion block" in maps_of(network_of("concatenation"))[0].notices()[0]
    alone, _ = maps_of(network_of("kinematics-only"))
    assert "one stream" in alone.notices()[0]
    assert "kinematics: no maps" in alone.notices()[1]
    plain = TokenReader(StreamSchema(name="x", columns=("f0", "f1")), IMAGES)
    assert len(plain.notices()) == 2
    tokens = plain(StreamBatch.of(PackedStream(np.ones((2, 2), np.float32), np.array([2]), np.zeros((1, 0), np.float32))))  # fmt: skip
    assert tokens.kind.tolist() == [0, 0]
    assert tokens.pixel is tokens.rank is None
    assert maps_of(network_of("model-2"))[0].notices() == alone.notices()[1:]


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


def test_last_is_the_cross_attention_where_there_is_one():
    last = last_attention(network_of("model-2"))
    assert last["jet1"] == last["jet2"]
    assert last["jet1"].context == ("jet1", "jet2")
    assert (last["kinematics"].context, last["kinematics"].block) == ((), 1)
    unseen = last_attention(network_of("concatenation", jet2=StreamSettings(layers=0)))
    assert set(unseen) == {"jet1", "kinematics"}


def test_a_stream_without_encoder_layers_may_query():
    last = last_attention(network_of("model-2", kinematics=StreamSettings(layers=0)))
    assert (last["kinematics"].context, last["kinematics"].block) == ((), 1)
    assert last["jet1"].stream == "kinematics"


@pytest.mark.parametrize("preset", KINDS)
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
    _, maps = added(network, events, abs(weight))
    total = sum(means.by_kind()[0][:, -1] for means in maps.means.values())
    # Grad-CAM of an event is nothing where no token speaks for what is said.
    assert (total[:, 0] < 1 + 1e-5).all()
    assert (total[:, 0] > 0.8).all()
    np.testing.assert_allclose(total[:, 1], 1, atol=1e-5)


def test_events_of_no_weight_do_not_count(events, weight):
    network = network_of("model-3")
    kept = np.arange(EVENTS) % 3 != 0
    few, _ = added(network, events.take(np.flatnonzero(kept)), weight[kept])
    unknown = replace(events, label=np.where(kept, events.label, -1))
    same, _ = added(network, unknown, np.where(kept, weight, 0))
    for key, means in few.cross.items():
        np.testing.assert_allclose(same.cross[key].image(), means.image(), atol=1e-6)
