"""Mirrored events: what changes its sign, what does not, and that the choice is the event's own."""

import numpy as np
import pytest
import torch

from helpers.toys import SCHEMA, toy_events
from manyscale.data.feeds import TrainingBatch
from manyscale.data.identity import uniform
from manyscale.data.mirror import Mirror
from manyscale.features.columns import StreamBatch
from manyscale.features.extractor import FeatureExtractor
from manyscale.features.jet_frame import FrameSettings
from manyscale.schema import StreamSchema

ODD = {"delta_eta": "eta", "eta": "eta", "delta_phi": "phi", "phi_rel": "phi"}


def training_batch(seed=1, events=60):
    packed = toy_events(seed, events=events)
    weight = packed.weight.astype(np.float32)
    return TrainingBatch(packed.streams, packed.label, weight, packed.event_id)


def turned(events, way, epoch=3):
    """(events,): -1 where an event is mirrored."""
    return np.where(uniform(events.event_id, f"mirror {way} 7 {epoch}") < 0.5, -1.0, 1.0)


@pytest.mark.parametrize("name", ["jet1", "kinematics"])
def test_of_all_features_directions_alone_change_and_only_their_sign(name):
    events = training_batch()
    seen = Mirror(SCHEMA.streams, 7)(events, 3)
    extractor = FeatureExtractor.for_stream(SCHEMA.stream(name))
    before, classes = extractor.raw(StreamBatch.of(events.streams[name]))
    after, same = extractor.raw(StreamBatch.of(seen.streams[name]))
    assert torch.equal(classes, same)
    for number, feature in enumerate(extractor.numbers):
        sign = 1.0
        if feature in ODD:
            of_event = turned(events, ODD[feature])
            assert 0.25 < np.mean(of_event < 0) < 0.75
            sign = torch.from_numpy(np.repeat(of_event, events.streams[name].counts)).float()
        torch.testing.assert_close(
            after[:, number], sign * before[:, number], rtol=1e-5, atol=2e-5, msg=feature
        )


def test_a_frame_that_flips_takes_the_mirror_back():
    """After centre, rotation and flip a mirrored jet is the same jet."""
    events = training_batch()
    frame = FrameSettings(centre="pt", rotate="principal", flip=True)
    extractor = FeatureExtractor.for_stream(SCHEMA.stream("jet1"), None, frame)
    seen = Mirror(SCHEMA.streams, 7)(events, 3)
    before, after = (extractor.raw(StreamBatch.of(of.streams["jet1"]))[0] for of in (events, seen))
    # Two constituents have no side of more pT that rounding could not move.
    enough = torch.from_numpy(np.repeat(*[events.streams["jet1"].counts] * 2)) > 2
    torch.testing.assert_close(after[enough], before[enough], rtol=1e-3, atol=1e-3)


def test_the_choice_is_the_events_own_and_another_in_each_epoch():
    events = training_batch()
    mirror = Mirror(SCHEMA.streams, 7)
    together = mirror(events, 3).streams["jet1"]
    some = np.array([50, 3, 17])
    alone = mirror(events.take(some), 3).streams["jet1"]
    np.testing.assert_array_equal(alone.values, together.take(some).values)
    assert not np.array_equal(mirror(events, 4).streams["jet1"].values, together.values)
    assert not np.array_equal(
        Mirror(SCHEMA.streams, 8)(events, 3).streams["jet1"].axis, together.axis
    )


def test_nothing_is_mirrored_where_a_column_is_not_known():
    events = training_batch()
    strange = StreamSchema(name="extra", columns=("f0", "pt"))
    mirror = Mirror([*SCHEMA.streams, strange], 7)
    assert mirror.unknown == ("extra.f0",)
    assert mirror(events, 3) is events
