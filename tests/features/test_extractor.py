import math

import numpy as np
import pytest
import torch
import vector

from helpers.toys import SCHEMA, toy_events
from manyscale.errors import CardError, DataError
from manyscale.events.ragged import PackedStream
from manyscale.features.columns import StreamBatch
from manyscale.features.extractor import FeatureExtractor, standardise
from manyscale.features.registry import default_features, describe, wrap_phi
from manyscale.schema import StreamSchema

JET = SCHEMA.stream("jet1")
NAMED = StreamSchema(
    name="constituents",
    columns=(
        "delta_eta", "delta_phi", "pt", "energy", "log_pt_rel", "log_energy_rel", "particle_class",
    ),
)  # fmt: skip


def one_token(eta, phi, pt, energy, axis):
    values = np.array([[pt, eta, phi, energy, 1, 0]], np.float32)
    stream = PackedStream(values, np.array([1]), np.array([axis], np.float32))
    return StreamBatch.of(stream)


def test_features_in_a_jet_by_hand():
    extractor = FeatureExtractor.for_stream(JET)
    batch = one_token(0.5, 3.1, 20.0, 25.0, [300.0, 0.2, -3.0, 80.0])
    numbers, classes = extractor.raw(batch)
    found = dict(zip(extractor.numbers, numbers[0].tolist(), strict=True))
    delta_phi = 3.1 + 3.0 - 2 * math.pi
    assert found["delta_eta"] == pytest.approx(0.3, abs=1e-6)
    assert found["delta_phi"] == pytest.approx(delta_phi, abs=1e-6)
    assert found["delta_r"] == pytest.approx(math.hypot(0.3, delta_phi), abs=1e-6)
    assert found["log_pt"] == pytest.approx(math.log(20))
    assert found["log_energy"] == pytest.approx(math.log(25))
    assert found["log_pt_rel"] == pytest.approx(math.log(20 / 300), abs=1e-6)
    jet_energy = math.sqrt((300 * math.cosh(0.2)) ** 2 + 80**2)
    assert found["log_energy_rel"] == pytest.approx(math.log(25 / jet_energy), abs=1e-6)
    assert classes.tolist() == [[0]]


@pytest.mark.parametrize("names", [("pt", "eta", "phi", "mass"), ("pt", "eta", "phi")])
def test_energy_is_that_of_a_token_with_its_mass(names):
    generator = np.random.default_rng(2)
    pt, eta, phi, mass = (
        generator.uniform(*ends, 50) for ends in ((1, 90), (-4, 4), (-3, 3), (1, 90))
    )
    massive = vector.arr(
        {"pt": pt, "eta": eta, "phi": phi, "mass": mass if "mass" in names else 0 * mass}
    )
    jet = [300.0, 0.2, -3.0, 80.0]
    jet_energy = vector.obj(pt=jet[0], eta=jet[1], phi=jet[2], mass=jet[3]).energy
    schema = StreamSchema(name="subjets1", columns=names, axis=JET.axis)
    values = np.stack([pt, eta, phi, mass], 1).astype(np.float32)[:, : len(names)]
    stream = PackedStream(values, np.array([50]), np.array([jet], np.float32))
    extractor = FeatureExtractor.for_stream(schema)
    found = dict(zip(extractor.numbers, extractor.raw(StreamBatch.of(stream))[0].T, strict=True))
    expected = torch.from_numpy(np.log(massive.energy)).float()
    torch.testing.assert_close(found["log_energy"], expected, rtol=1e-5, atol=1e-6)
    relative = expected - math.log(jet_energy)
    torch.testing.assert_close(found["log_energy_rel"], relative, rtol=1e-5, atol=1e-5)


def test_a_mass_below_zero_counts_as_none():
    schema = StreamSchema(name="kinematics", columns=("pt", "eta", "mass"))
    stream = PackedStream(
        np.array([[20, 0, -1]], np.float32), np.array([1]), np.zeros((1, 0), np.float32)
    )
    numbers, _ = FeatureExtractor.for_stream(schema, ("log_energy",)).raw(StreamBatch.of(stream))
    assert numbers.item() == pytest.approx(math.log(20))


def test_rotation_in_phi_changes_no_feature_of_a_jet():
    extractor = FeatureExtractor.for_stream(JET)
    stream = toy_events(3).streams["jet1"]
    turned_values, turned_axis = stream.values.copy(), stream.axis.copy()
    turned_values[:, 2] = (stream.values[:, 2] + 2.5 + np.pi) % (2 * np.pi) - np.pi
    turned_axis[:, 2] = (stream.axis[:, 2] + 2.5 + np.pi) % (2 * np.pi) - np.pi
    turned = PackedStream(turned_values, stream.counts, turned_axis)
    torch.testing.assert_close(
        extractor.raw(StreamBatch.of(turned))[0],
        extractor.raw(StreamBatch.of(stream))[0],
        atol=2e-5,
        rtol=1e-5,
    )


def test_phi_of_objects_is_relative_to_the_leading_one():
    stream = StreamSchema(name="kinematics", columns=("pt", "phi"))
    values = np.array([[9, 3.0], [5, -3.0], [7, 1.0]], np.float32)
    packed = PackedStream(values, np.array([2, 1]), np.zeros((2, 0), np.float32))
    extractor = FeatureExtractor.for_stream(stream)
    assert extractor.numbers == ("log_pt", "phi_rel")
    relative = extractor.raw(StreamBatch.of(packed))[0][:, 1]
    assert relative.tolist() == pytest.approx([0, 2 * math.pi - 6, 0], abs=1e-6)


def test_phi_beside_the_jets_is_relative_to_the_leading_jet():
    schema = StreamSchema(name="leptons", columns=("pt", "eta", "phi"), axis=("jet_phi",))
    assert default_features(schema) == ("log_pt", "eta", "delta_phi")
    values = np.array([[1, 0, 3.0], [1, 0, -3.0], [1, 0, 1.0]], np.float32)
    stream = PackedStream(values, np.array([2, 1]), np.array([[3.1], [0.5]], np.float32))
    numbers, _ = FeatureExtractor.for_stream(schema, ("delta_phi",)).raw(StreamBatch.of(stream))
    assert numbers.flatten().tolist() == pytest.approx([-0.1, 2 * np.pi - 6.1, 0.5], abs=1e-6)


def test_wrap_keeps_pi_and_moves_minus_pi():
    phi = torch.linspace(-20, 20, 4001, dtype=torch.float64)
    wrapped = wrap_phi(phi)
    assert (wrapped > -math.pi).all()
    assert (wrapped <= math.pi).all()
    torch.testing.assert_close(torch.cos(wrapped), torch.cos(phi))
    torch.testing.assert_close(torch.sin(wrapped), torch.sin(phi))


def test_a_column_of_the_feature_s_name_comes_first():
    assert default_features(NAMED) == (
        "delta_eta", "delta_phi", "delta_r", "log_pt", "log_energy", "log_pt_rel",
        "log_energy_rel", "particle_class",
    )  # fmt: skip
    values = np.array([[0.3, 0.4, 10, 20, -1, -2, 3]], np.float32)
    batch = StreamBatch.of(PackedStream(values, np.array([1]), np.zeros((1, 0), np.float32)))
    numbers, classes = FeatureExtractor.for_stream(NAMED).raw(batch)
    expected = [0.3, 0.4, 0.5, math.log(10), math.log(20), -1, -2]
    assert numbers[0].tolist() == pytest.approx(expected, abs=1e-6)
    assert classes.tolist() == [[3]]


def test_unnamed_columns_are_plain_numbers():
    assert default_features(StreamSchema(name="x", columns=("f0", "f1"))) == ("f0", "f1")


def test_standardised_on_what_it_was_fitted_on():
    extractor = FeatureExtractor.for_stream(JET)
    batches = [StreamBatch.of(toy_events(seed).streams["jet1"]) for seed in (1, 2)]
    standardise([{"jet1": extractor}], [{"jet1": batch} for batch in batches])
    numbers = torch.cat([extractor(batch)[0] for batch in batches])
    inside = (numbers.abs() < 10).all(1)
    assert inside.float().mean() > 0.99
    torch.testing.assert_close(numbers.mean(0), torch.zeros(8), atol=1e-3, rtol=0)
    torch.testing.assert_close(numbers.std(0), torch.ones(8), atol=2e-2, rtol=0)


def test_constant_feature_becomes_zero():
    extractor = FeatureExtractor.for_stream(StreamSchema(name="x", columns=("f0",)))
    stream = PackedStream(
        np.full((5, 1), 7, np.float32), np.array([5]), np.zeros((1, 0), np.float32)
    )
    standardise([{"x": extractor}], [{"x": StreamBatch.of(stream)}])
    assert extractor(StreamBatch.of(stream))[0].tolist() == [[0.0]] * 5


def test_classes_out_of_range_share_the_last_row():
    extractor = FeatureExtractor.for_stream(StreamSchema(name="x", columns=("particle_class",)))
    values = np.array([[0], [15], [16], [99], [-3]], np.float32)
    stream = PackedStream(values, np.array([5]), np.zeros((1, 0), np.float32))
    assert extractor(StreamBatch.of(stream))[1].flatten().tolist() == [0, 15, 16, 16, 16]


def test_infinite_feature_is_named_with_its_event():
    extractor = FeatureExtractor.for_stream(StreamSchema(name="x", columns=("f0",)))
    values = np.array([[1], [2], [np.inf]], np.float32)
    stream = PackedStream(values, np.array([2, 0, 1]), np.zeros((3, 0), np.float32))
    before = PackedStream(values[:2], np.array([1, 1]), np.zeros((2, 0), np.float32))
    with pytest.raises(DataError, match="'f0' of stream 'x' is inf in event 4"):
        standardise([{"x": extractor}], [{"x": StreamBatch.of(some)} for some in (before, stream)])


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("pt", "colour"), "no feature 'colour'"),
        (("deta",), r"no feature 'deta', did you mean delta_eta"),
        (("log_mass",), r"needs the columns \(mass\)"),
        (("pt", "pt"), "names pt twice"),
        ((), "is empty"),
    ],
)
def test_wrong_features_are_named(names, said):
    with pytest.raises(CardError, match=said):
        FeatureExtractor.for_stream(JET, names)


def test_every_known_name_is_described_once_with_a_doc():
    rows = list(describe())
    assert len({name for _, name, *_ in rows}) == len(rows)
    assert all(doc for *_, doc, _ in rows)
    assert all(made_of for kind, *_, made_of in rows if kind == "feature")
    assert {"column", "axis column", "feature"} == {kind for kind, *_ in rows}


def test_streams_of_other_column_orders_share_a_standardisation():
    turned = StreamSchema(name="jet2", columns=JET.columns[::-1], axis=JET.axis[::-1])
    stream = toy_events(2).streams["jet1"]
    other = PackedStream(stream.values[:, ::-1].copy(), stream.counts, stream.axis[:, ::-1].copy())
    names = default_features(JET)
    one, two = FeatureExtractor.for_stream(JET, names), FeatureExtractor.for_stream(turned, names)
    alone = FeatureExtractor.for_stream(JET, names)
    both = {"one": StreamBatch.of(stream), "two": StreamBatch.of(other)}
    standardise([{"one": one, "two": two}, {"one": alone}], [both])
    torch.testing.assert_close(one.mean, alone.mean)
    torch.testing.assert_close(two.deviation, alone.deviation)
