import math

import numpy as np
import pytest
import torch

import manyscale as ms
from helpers import plain_frame
from helpers.commands import toy_dataset
from helpers.toys import SCHEMA, toy_events
from manyscale.data.dataset import Dataset
from manyscale.errors import CardError, DataError
from manyscale.features import images
from manyscale.features.columns import StreamBatch
from manyscale.features.images import ImageMaker, ImageSettings, class_means, pixel_sums
from manyscale.features.jet_frame import FrameSettings
from manyscale.schema import PARTICLE_CLASSES

FRAME = {"centre": "pt", "rotate": "principal", "flip": True}


@pytest.fixture(scope="module")
def data():
    return Dataset.from_events(SCHEMA, toy_events(1, events=60))


@pytest.fixture
def few_at_a_time(monkeypatch):
    """Chunks so small that there are several."""
    monkeypatch.setattr(images, "_CHUNK", 7)


def tokens_of(data, event, stream="jet1"):
    """Columns of one event's tokens as lists, and its axis."""
    packed = data.events().streams[stream]
    return packed.between(event, event + 1).values.astype(float).T.tolist(), packed.axis[event]


def test_pixels_are_those_of_histogram2d():
    rng = np.random.default_rng(0)
    x, y, weight = rng.normal(0, 0.7, (3, 5000))
    image = rng.integers(0, 4, 5000)
    columns = (torch.from_numpy(values) for values in (x, y, weight, image))
    found = pixel_sums(*columns, 4, bins=13, half_width=1.5)
    edges = np.linspace(-1.5, 1.5, 14)
    for number in range(4):
        own = image == number
        expected = np.histogram2d(x[own], y[own], (edges, edges), weights=weight[own])[0]
        np.testing.assert_allclose(found[number], expected, atol=1e-12)


def test_edges_belong_to_the_pixel_above_and_what_is_outside_to_none():
    x = torch.tensor([-1.0, 0.0, 1.0, -1.0001, 0.9999])
    found = pixel_sums(
        x, torch.zeros(5), torch.ones(5), torch.zeros(5, dtype=torch.long), 1, bins=2, half_width=1
    )
    assert found.tolist() == [[[0, 1], [0, 2]]]


@pytest.mark.parametrize("frame", [None, FRAME, {"rotate": "second"}])
@pytest.mark.parametrize("weight", ["pt", "count"])
def test_agrees_with_plain_python(data, few_at_a_time, frame, weight):
    found = ms.jet_images(data, "jet1", bins=9, half_width=0.8, weight=weight, frame=frame)
    assert (found.shape, found.dtype) == ((60, 1, 9, 9), np.float32)
    for event in range(60):
        (pt, eta, phi, *_), axis = tokens_of(data, event)
        if not pt:
            assert not found[event].any()
            continue
        x = [value - float(axis[1]) for value in eta]
        y = [plain_frame.wrapped(value - float(axis[2])) for value in phi]
        x, y = plain_frame.in_frame(FrameSettings(**(frame or {})), x, y, pt)
        weights = pt if weight == "pt" else [1.0] * len(pt)
        expected = plain_frame.image(x, y, weights, 9, 0.8)
        np.testing.assert_allclose(found[event, 0], expected, rtol=1e-5)


def test_image_holds_the_pt_of_the_jet(data):
    found = ms.jet_images(data, "jet2", half_width=math.pi, bins=3).sum((1, 2, 3))
    stream = data.events().streams["jet2"]
    event = np.repeat(np.arange(60), stream.counts)
    np.testing.assert_allclose(found, np.bincount(event, stream.values[:, 0], 60), rtol=1e-5)


def test_turning_and_moving_a_jet_keeps_its_image():
    events = toy_events(2, events=20)
    expected = ms.jet_images(events, "jet1", bins=5, frame=FRAME, schema=SCHEMA)
    stream = events.streams["jet1"]
    stream.values[:, 2] = (stream.values[:, 2] + 2.0 + np.pi) % (2 * np.pi) - np.pi
    stream.axis[:, 2] = (stream.axis[:, 2] + 2.0 + np.pi) % (2 * np.pi) - np.pi
    stream.values[:, 1] += 0.5
    stream.axis[:, 1] += 0.5
    found = ms.jet_images(events, "jet1", bins=5, frame=FRAME, schema=SCHEMA)
    # A token within rounding of an edge may change its pixel.
    assert np.isclose(found, expected, rtol=1e-4).mean() > 0.99


def test_images_of_the_classes_add_up_to_the_image(data):
    together = ms.jet_images(data, "jet1", bins=6)
    apart = ms.jet_images(data, "jet1", bins=6, by_class=True)
    assert apart.shape == (60, 5, 6, 6)
    np.testing.assert_allclose(apart.sum(1, keepdims=True), together, rtol=1e-5)
    stream = data.events().streams["jet1"]
    photons = stream.values[:, 5] == PARTICLE_CLASSES.index("photon")
    event = np.repeat(np.arange(60), stream.counts)
    wide = ms.jet_images(data, "jet1", bins=2, half_width=4, weight="count", by_class=True)
    np.testing.assert_array_equal(wide[:, 3].sum((1, 2)), np.bincount(event, photons, 60))


def test_unknown_class_is_in_no_image():
    events = toy_events(3, events=5)
    events.streams["jet1"].values[:, 5] = 9
    assert not ms.jet_images(events, "jet1", by_class=True, schema=SCHEMA).any()


def test_dataset_and_its_events_give_the_same(tmp_path, few_at_a_time):
    data = Dataset.open(toy_dataset(tmp_path / "toys", events=30))
    whole = ms.jet_images(data, "jet1", bins=4, frame=FRAME)
    parts = [
        ms.jet_images(events, "jet1", bins=4, frame=FRAME, schema=data.schema)
        for events in data.chunks(11)
    ]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_mean_of_each_class_is_the_weighted_mean_of_its_images(data, few_at_a_time):
    events = data.events()
    settings = ImageSettings(bins=5, frame=FrameSettings(**FRAME))
    weights = np.random.default_rng(4).uniform(1e-6, 3e-6, 60)
    maker = ImageMaker(SCHEMA.stream("jet1"), settings)
    found = class_means(maker, events.streams["jet1"], events.label, weights)
    each = ms.jet_images(data, "jet1", bins=5, frame=FRAME)
    for label in (0, 1):
        own = events.label == label
        expected = np.average(each[own], axis=0, weights=weights[own])
        np.testing.assert_allclose(found[label], expected, rtol=1e-5)


def test_single_precision_is_single_precision(data):
    maker = ImageMaker(SCHEMA.stream("jet1"), ImageSettings(weight="count"), by_class=True)
    made = maker(StreamBatch.of(data.events().streams["jet1"]))
    assert (made.dtype, tuple(made.shape)) == (torch.float32, (60, 5, 41, 41))


def test_no_events_give_no_images():
    none = toy_events(5).between(0, 0)
    assert ms.jet_images(none, "jet1", schema=SCHEMA).shape == (0, 1, 41, 41)


@pytest.mark.parametrize(
    ("stream", "asked", "error", "said"),
    [
        ("jet3", {}, DataError, "no stream 'jet3'"),
        ("kinematics", {}, CardError, "image of kinematics: .* do not give delta_eta"),
        ("kinematics", {"frame": FRAME, "by_class": True}, CardError, "column particle_class"),
        ("jet1", {"weight": "energy"}, CardError, "weight is 'energy'"),
        ("jet1", {"frame": {"turn": "up"}}, CardError, "frame.turn"),
        ("jet1", {"bins": 0}, CardError, "bins is 0"),
    ],
)
def test_wrong_wishes_are_named(data, stream, asked, error, said):
    with pytest.raises(error, match=said):
        ms.jet_images(data, stream, **asked)


def test_events_alone_need_a_schema():
    with pytest.raises(DataError, match=r"schema=data\.schema"):
        ms.jet_images(toy_events(6), "jet1")
