import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import plain_frame
from helpers.symmetries import permuted_tokens
from helpers.toys import SCHEMA, jet_stream, toy_events
from manyscale.errors import CardError
from manyscale.events.ragged import PackedStream
from manyscale.features.columns import Segments, StreamBatch
from manyscale.features.extractor import FeatureExtractor
from manyscale.features.jet_frame import (
    FrameSettings,
    centred,
    in_frame,
    mirrored,
    principal_up,
    second_subjet_up,
)
from manyscale.features.registry import wrap_phi
from manyscale.schema import StreamSchema

FRAMES = [
    FrameSettings(centre=centre, rotate=rotate, flip=flip)
    for centre, rotate, flip in itertools.product(
        ("axis", "pt"), ("none", "principal", "second"), (False, True)
    )
]
every_frame = pytest.mark.parametrize(
    "frame", FRAMES, ids=lambda f: f"{f.centre}-{f.rotate}-{f.flip}"
)
turns = pytest.mark.parametrize("turn", [principal_up, second_subjet_up])
JET = SCHEMA.stream("jet1")


def random_jets(seed, jets=60, most=30):
    """Tokens in one to three clumps around a random axis near the wrap of phi, double precision."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, most, jets)
    counts[:3] = [0, 1, 2]
    tokens = counts.sum()
    clumps = rng.normal(0, 0.4, (jets, 3, 2))
    owner = np.repeat(np.arange(jets), counts)
    place = clumps[owner, rng.integers(0, 3, tokens)] + rng.normal(0, 0.08, (tokens, 2))
    eta = place[:, 0] + rng.uniform(-2, 2, jets)[owner]
    phi = place[:, 1] + rng.choice([-3.1, 3.1, 0.3], jets)[owner]
    x, y, pt = (
        torch.from_numpy(v)
        for v in (eta, np.angle(np.exp(1j * phi)), rng.exponential(10, tokens) + 0.1)
    )
    return x, y, pt, Segments.of(torch.from_numpy(counts))


def centred_jets(seed):
    x, y, pt, jets = random_jets(seed)
    return *centred(x, y, pt, jets), pt, jets


def one_jet(*tokens):
    x, y, pt = torch.tensor(tokens, dtype=torch.float64).T
    return x, y, pt, Segments.of(torch.tensor([len(tokens)]))


def close(found, expected, atol=1e-6):
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=atol, rtol=0)


@every_frame
def test_agrees_with_plain_python(frame):
    x, y, pt, jets = random_jets(1, jets=200)
    if frame.centre == "axis":
        x, y = x.clamp(-1, 1), y / 3
    found = in_frame(frame, x, y, pt, jets)
    ends = np.cumsum(jets.counts.numpy())
    expected = [[], []]
    for first, last in zip(ends - jets.counts.numpy(), ends, strict=True):
        if last > first:
            jet = [v[first:last].tolist() for v in (x, y, pt)]
            for column, values in zip(expected, plain_frame.in_frame(frame, *jet), strict=True):
                column.extend(values)
    close(found, torch.tensor(expected, dtype=torch.float64))
    moved = not frame.changes_nothing
    assert ((found[0] - x).abs() > 1e-3).any().item() is moved


@settings(deadline=None, max_examples=30)
@given(st.floats(-7, 7), st.floats(-2, 2), st.integers(0, 99))
def test_centre_moves_with_the_jet(angle, shift, seed):
    """Moving all tokens in eta, and around in phi across the wrap, changes nothing."""
    x, y, pt, jets = random_jets(seed)
    close(centred(x + shift, wrap_phi(y + angle), pt, jets), centred(x, y, pt, jets))


def test_centre_is_the_weighted_mean():
    x, y, pt, jets = one_jet((1.0, math.pi - 0.1, 3.0), (2.0, -math.pi + 0.1, 1.0))
    found = centred(x, y, pt, jets)
    close(found, torch.tensor([[-0.25, 0.75], [-0.05, 0.15]], dtype=torch.float64), atol=1e-12)


@turns
@settings(deadline=None, max_examples=30)
@given(angle=st.floats(-7, 7), seed=st.integers(0, 99))
def test_turned_pattern_is_turned_back(turn, angle, seed):
    x, y, pt, jets = centred_jets(seed)
    cos, sin = math.cos(angle), math.sin(angle)
    two = jets.spread(jets.counts) > 1
    found = turn(x * cos - y * sin, x * sin + y * cos, pt, jets)
    close([v[two] for v in found], [v[two] for v in turn(x, y, pt, jets)])


@turns
def test_turn_keeps_distances(turn):
    x, y, pt, jets = centred_jets(3)
    torch.testing.assert_close(torch.hypot(*turn(x, y, pt, jets)), torch.hypot(x, y))


def test_principal_axis_stands_up_with_the_harder_half_above():
    x, y, pt, jets = centred_jets(4)
    x, y = principal_up(x, y, pt, jets)
    covariance = jets.sum(pt * x * y)
    torch.testing.assert_close(covariance, torch.zeros_like(covariance), atol=1e-10, rtol=0)
    assert (jets.sum(pt * y * y) >= jets.sum(pt * x * x)).all()
    assert (jets.sum(pt * (y > 0)) >= jets.sum(pt * (y < 0)))[jets.counts > 1].all()


def test_second_subjet_is_above_the_first():
    clumps = [(0.3, 0.1, 50.0), (0.32, 0.1, 9.0), (-0.3, -0.3, 20.0), (-0.33, -0.3, 9.0)]
    x, y = second_subjet_up(*one_jet(*clumps))
    assert (y[2:] > y[:2].max() + 0.5).all()
    # 59 GeV at (0.3031, 0.1) and 29 GeV at (-0.3093, -0.3)
    axis = (9 * x[1] + 50 * x[0]) / 59, (9 * x[3] + 20 * x[2]) / 29
    assert axis[0].item() == pytest.approx(axis[1].item(), abs=1e-12)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 99))
def test_mirrored_jets_become_the_same(seed):
    """After both flips a jet, and its mirror image in eta or in phi, are one and the same."""
    x, y, pt, jets = centred_jets(seed)
    plain = FrameSettings(flip=True)
    expected = in_frame(plain, x, y, pt, jets)
    for image in ((-x, y), (x, -y), (-x, -y)):
        close(in_frame(plain, *image, pt, jets), expected)
    for rotate in ("principal", "second"):
        frame = FrameSettings(centre="pt", rotate=rotate, flip=True)
        close(in_frame(frame, -x, y, pt, jets), in_frame(frame, x, y, pt, jets))


def test_harder_side_is_right():
    x, _, pt, jets = centred_jets(5)
    x = mirrored(x, pt, jets)
    assert (jets.sum(pt * (x > 0)) >= jets.sum(pt * (x < 0))).all()
    assert mirrored(*(one_jet((1, 0, 5), (-2, 0, 5))[i] for i in (0, 2, 3))).tolist() == [1, -2]


@every_frame
def test_order_of_tokens_and_other_jets_do_not_matter(frame):
    stream = jet_stream(np.random.default_rng(6), [12, 0, 7, 1, 3])
    seen = FeatureExtractor.for_stream(JET, ("delta_eta", "delta_phi", "delta_r", "log_pt"), frame)

    def features(of):
        numbers = seen.raw(StreamBatch.of(of))[0].numpy()
        event = np.repeat(np.arange(len(of)), of.counts)
        return numbers[np.lexsort((numbers[:, 3], event))]

    expected = features(stream)
    shuffled = permuted_tokens(stream, np.random.default_rng(7))
    np.testing.assert_allclose(features(shuffled), expected, atol=1e-5)
    alone = [features(stream.take(np.array([jet]))) for jet in range(5)]
    np.testing.assert_allclose(np.concatenate(alone), expected, atol=1e-6)


@every_frame
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_jets_without_a_direction_are_well_defined(frame, dtype):
    """None, one, all at one place, no pT at all: finite, and not turned by rounding errors."""
    tokens = [(0.1, 0.2, 5.0)] + 3 * [(0.1, 0.2, 7.0)] + 2 * [(0.3, -0.3, 0.0)]
    x, y, pt = torch.tensor(tokens, dtype=dtype).T
    jets = Segments.of(torch.tensor([0, 1, 3, 2, 0]))
    found = torch.stack(in_frame(frame, x, y, pt, jets))
    assert torch.isfinite(found).all()
    expected = torch.zeros(2, 4) if frame.centre == "pt" else torch.tensor([[0.1], [0.2]])
    torch.testing.assert_close(found[:, :4].float(), expected.expand(2, 4), atol=1e-6, rtol=0)
    nothing = torch.zeros(0, dtype=dtype)
    none = in_frame(frame, nothing, nothing, nothing, Segments.of(torch.zeros(2, dtype=torch.long)))
    assert all(part.shape == (0,) for part in none)


def test_isotropic_jet_is_not_turned():
    cross = one_jet((0.5, 0, 1), (-0.5, 0, 1), (0, 0.5, 1), (0, -0.5, 1))
    close(principal_up(*cross), cross[:2], atol=1e-12)


def test_gradients_are_finite():
    x, y, pt, jets = (v.requires_grad_() if i < 3 else v for i, v in enumerate(centred_jets(8)))
    for frame in FRAMES:
        parts = torch.autograd.grad(sum(in_frame(frame, x, y, pt, jets)).square().sum(), (x, y))
        assert all(torch.isfinite(part).all() for part in parts)


def relative_stream(stream):
    """The same jets as an npz has them: delta_eta, delta_phi and pt, no axis."""
    extractor = FeatureExtractor.for_stream(JET, ("delta_eta", "delta_phi", "delta_r"))
    directions = extractor.raw(StreamBatch.of(stream))[0].numpy()
    values = np.concatenate([directions, stream.values[:, :1]], axis=1)
    return PackedStream(values, stream.counts, np.zeros((len(stream), 0), np.float32))


@every_frame
def test_columns_of_an_npz_give_the_same(frame):
    stream = toy_events(9).streams["jet1"]
    names = ("delta_eta", "delta_phi", "delta_r")
    relative = StreamSchema(name="jet1", columns=(*names, "pt"))
    found = FeatureExtractor.for_stream(relative, names, frame).raw(
        StreamBatch.of(relative_stream(stream))
    )[0]
    expected = FeatureExtractor.for_stream(JET, names, frame).raw(StreamBatch.of(stream))[0]
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)
    torch.testing.assert_close(found[:, 2], torch.hypot(found[:, 0], found[:, 1]))


def test_frame_leaves_the_other_features_alone():
    stream = StreamBatch.of(toy_events(10).streams["jet1"])
    plain = FeatureExtractor.for_stream(JET)
    framed = FeatureExtractor.for_stream(JET, None, FrameSettings(centre="pt", rotate="principal"))
    assert framed.names == plain.names
    same = [name not in {"delta_eta", "delta_phi", "delta_r"} for name in plain.numbers]
    assert torch.equal(framed.raw(stream)[0][:, same], plain.raw(stream)[0][:, same])
    assert torch.equal(framed.raw(stream)[1], plain.raw(stream)[1])
    nothing = FeatureExtractor.for_stream(JET, None, FrameSettings())
    assert torch.equal(nothing.raw(stream)[0], plain.raw(stream)[0])


def test_tokens_without_an_axis_are_centred_on_their_pt():
    absolute = StreamSchema(name="parts", columns=("pt", "eta", "phi"))
    stream = toy_events(11).streams["jet1"]
    few = PackedStream(stream.values[:, :3], stream.counts, np.zeros((40, 0), np.float32))
    frame = FrameSettings(centre="pt", rotate="second", flip=True)
    found = FeatureExtractor.for_stream(absolute, None, frame)
    assert found.names == ("delta_eta", "delta_phi", "delta_r", "log_pt", "log_energy")
    expected = FeatureExtractor.for_stream(JET, ("delta_eta", "delta_phi", "delta_r"), frame)
    torch.testing.assert_close(
        found.raw(StreamBatch.of(few))[0][:, :3],
        expected.raw(StreamBatch.of(stream))[0],
        atol=5e-5,
        rtol=0,
    )


@pytest.mark.parametrize(
    ("columns", "frame", "said"),
    [
        (("delta_eta", "delta_phi"), {"centre": "pt"}, "do not give pt$"),
        (("pt", "eta", "phi"), {"rotate": "second"}, "do not give delta_eta, delta_phi$"),
        (("f0", "f1"), {"centre": "pt", "flip": True}, "do not give eta, phi, pt$"),
    ],
)
def test_missing_columns_are_named(columns, frame, said):
    stream = StreamSchema(name="jet1", columns=columns)
    with pytest.raises(CardError, match=rf"^streams\.jet1\.frame: .*{said}"):
        FeatureExtractor.for_stream(stream, None, FrameSettings(**frame))
