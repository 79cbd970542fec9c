"""Summaries of streams against numbers worked out by hand, and what must not change them."""

import numpy as np
import pytest
import torch

from manyscale.data.packing import PackedEvents
from manyscale.events.ragged import PackedStream
from manyscale.features import summaries as module
from manyscale.features.extractor import FeatureExtractor
from manyscale.features.summaries import jet_shapes, summaries
from manyscale.schema import StreamSchema

JET = ("delta_eta", "delta_phi", "pt", "particle_class")


def events_of(**streams):
    packed = {
        name: PackedStream(
            np.concatenate([np.reshape(np.float32(event), (-1, width)) for event in tokens]),
            np.array([len(event) for event in tokens]),
            np.zeros((len(tokens), 0), np.float32),
        )
        for name, (width, tokens) in streams.items()
    }
    n = len(next(iter(packed.values())))
    zeros = np.zeros(n, np.int64)
    return PackedEvents(packed, np.arange(n, dtype=np.uint64), zeros, zeros, np.ones(n))


def extractors(**columns):
    return {
        name: FeatureExtractor.for_stream(StreamSchema(name=name, columns=tuple(names)))
        for name, names in columns.items()
    }


def named(events, **columns):
    matrix, names = summaries(events.streams, extractors(**columns))
    assert matrix.dtype == np.float32
    assert len(set(names)) == len(names) == matrix.shape[1]
    return dict(zip(names, matrix.T, strict=True))


def random_jets(seed, events, longest):
    generator = np.random.default_rng(seed)
    counts = generator.integers(0, longest, events)
    tokens = [
        np.stack([*generator.normal(0, 0.3, (2, n)), generator.exponential(10, n) + 0.1,
                  generator.integers(0, 5, n)], 1) for n in counts
    ]  # fmt: skip
    return [event[np.argsort(-event[:, 2])] for event in tokens]


def test_summaries_of_a_jet():
    jet = [(0.3, 0.1, 60, 0), (-0.3, 0.1, 30, 3), (0.0, -0.2, 10, 9)]
    found = named(events_of(jet=(4, [jet, []])), jet=JET)
    assert found["jet.tokens"].tolist() == [3, 0]
    eta = np.array([0.3, -0.3, 0])
    share = np.array([0.6, 0.3, 0.1])
    assert found["jet.delta_eta.mean"][0] == pytest.approx(0, abs=1e-7)
    assert found["jet.delta_eta.width"][0] == pytest.approx(eta.std())
    mean = share @ eta
    assert found["jet.delta_eta.mean_by_pt"][0] == pytest.approx(mean)
    assert found["jet.delta_eta.width_by_pt"][0] == pytest.approx(
        np.sqrt(share @ (eta - mean) ** 2)
    )
    assert found["jet.log_pt.largest"][0] == pytest.approx(np.log(60))
    assert found["jet.log_pt.least"][0] == pytest.approx(np.log(10))
    assert found["jet.particle_class.share_3"][0] == pytest.approx(1 / 3)
    assert found["jet.particle_class.share_3_by_pt"][0] == pytest.approx(0.3)
    assert found["jet.particle_class.share_other_by_pt"][0] == pytest.approx(0.1)
    assert found["jet.pt"][0] == pytest.approx(100)
    assert found["jet.share_of_1"][0] == pytest.approx(0.6)
    assert found["jet.delta_eta.1"][0] == pytest.approx(-0.3)
    assert found["jet.particle_class.2"][0] == 9
    missing = [name for name, values in found.items() if name != "jet.tokens" and values[1] == 0]
    assert missing == []
    assert np.isnan(found["jet.delta_eta.3"]).all()


def test_leading_tokens_are_the_hardest_whatever_the_order():
    jets = random_jets(1, 40, 30)
    shuffled = [np.random.default_rng(2).permutation(jet) for jet in jets]
    first, second = (named(events_of(jet=(4, tokens)), jet=JET) for tokens in (jets, shuffled))
    for name, values in first.items():
        np.testing.assert_allclose(values, second[name], rtol=1e-4, atol=1e-5, err_msg=name)


def test_unnamed_columns_keep_their_order():
    found = named(events_of(data=(2, [[(1, 5), (3, 4)], [(2, 2)]])), data=("f0", "f1"))
    assert found["data.f0.0"].tolist() == [1, 2]
    assert found["data.f0.1"][0] == 3
    assert np.isnan(found["data.f0.1"][1])
    assert found["data.f1.mean"].tolist() == [4.5, 2]
    assert not any("by_pt" in name or "tau" in name for name in found)


def test_objects_keep_their_order_and_are_compared_in_pairs():
    columns = ("pt", "eta", "phi", "mass", "n_btags", "object_class")
    tokens = [[(500, 0.5, 0, 125, 2, 0), (400, -0.5, 3, 120, 1, 1), (450, 0, 1, 1000, 3, 2)]]
    found = named(events_of(kinematics=(6, tokens)), kinematics=columns)
    # The pair comes last, though its pT is above that of the second jet.
    assert found["kinematics.log_mass.2"][0] == pytest.approx(np.log(1001))
    assert found["kinematics.object_class.2"][0] == 2
    assert found["kinematics.n_btags.0"][0] == 2
    assert found["kinematics.log_pt.0-1"][0] == pytest.approx(np.log(500 / 400))
    assert found["kinematics.eta.0-1"][0] == 1


def test_no_summary_depends_on_the_events_beside_it(monkeypatch):
    """But for single precision: rounding, of a mass that is none say, counts as zero."""
    jets = random_jets(3, 60, 25) + random_jets(5, 200, 5)
    events = events_of(jet=(4, jets), other=(4, jets[::-1]))
    whole, names = summaries(events.streams, extractors(jet=JET, other=JET))
    assert names[0] == "jet.tokens"
    monkeypatch.setattr(module, "_SLOTS", {"cpu": 40})
    parts, _ = summaries(events.streams, extractors(jet=JET, other=JET))
    np.testing.assert_allclose(parts, whole, rtol=3e-7, atol=0)


def test_all_is_worked_out_on_the_device():
    """On torch's device that has no data, and mixes with no other: only reading the result fails."""
    events = events_of(jet=(4, random_jets(3, 20, 25)), data=(2, [[(1, 5)]] * 20))
    with pytest.raises(NotImplementedError, match="no data") as asked:
        summaries(events.streams, extractors(jet=JET, data=("f0", "f1")), "meta")
    assert asked.traceback[-1].name == "summaries"


def test_one_event_of_very_many_tokens_is_cut_to_the_hardest():
    generator = np.random.default_rng(4)
    many = np.stack(
        [*generator.normal(0, 0.3, (2, 5000)), generator.exponential(1, 5000), np.zeros(5000)], 1
    )
    found = named(events_of(jet=(4, [many, many[:3]])), jet=JET)
    assert found["jet.tokens"].tolist() == [5000, 3]
    assert found["jet.log_pt.0"][0] == pytest.approx(np.log(many[:, 2].max()))
    assert found["jet.pt"][0] == pytest.approx(np.sort(many[:, 2])[-200:].sum(), rel=1e-5)
    hardest = np.argsort(-many[:, 2])[:200]
    assert found["jet.delta_eta.mean"][0] == pytest.approx(many[hardest, 0].mean(), rel=1e-5)


def test_no_events_give_no_rows():
    matrix, names = summaries(
        events_of(jet=(4, [[]])).take(np.arange(0)).streams, extractors(jet=JET)
    )
    assert matrix.shape == (0, len(names))


# ---- jet shapes by known answers, and symmetries of any jet ----


def jets(seed=0, events=50, tokens=40):
    generator = np.random.default_rng(seed)
    pt = -np.sort(-generator.exponential(10, (events, tokens)), axis=1)
    pt[np.arange(tokens) >= generator.integers(5, tokens, events)[:, None]] = 0
    real = pt > 0
    return pt, generator.normal(0, 0.3, pt.shape) * real, generator.normal(0, 0.3, pt.shape) * real


def shapes(*jets):
    """The shapes of jets, pt, eta and phi (events, constituents) each."""
    found = jet_shapes(*(torch.from_numpy(np.ascontiguousarray(part)) for part in jets))
    return {name: value.numpy() for name, value in found.items()}


def shapes_of(*constituents):
    found = shapes(*np.array(constituents, float).T[:, None])
    return {name: float(value[0]) for name, value in found.items()}


def test_two_equal_prongs():
    found = shapes_of((50, 0.3, 0), (50, -0.3, 0))
    assert found["pt"] == 100
    # Two massless momenta: m^2 = 2 pt1 pt2 (cosh(delta eta) - cos(delta phi)).
    assert found["mass"] == pytest.approx(np.sqrt(2 * 2500 * (np.cosh(0.6) - 1)))
    assert found["angularity_1"] == pytest.approx(0.3)
    assert (found["major_axis"], found["minor_axis"]) == (pytest.approx(0.3), 0)
    assert found["planar_flow"] == 0
    assert found["correlator_1"] == pytest.approx(0.25 * 0.6)
    assert found["correlator_3"] == pytest.approx(0)
    assert found["tau_2"] == found["tau_21"] == 0
    assert found["subjet_distance"] == pytest.approx(0.6)
    assert (found["subjet_share_1"], found["subjet_share_2"]) == (0.5, 0.5)
    assert found["dispersion"] == pytest.approx(np.sqrt(0.5))
    assert found["entropy"] == pytest.approx(np.log(2))
    assert (found["share_within_0.2"], found["share_within_0.4"]) == (0, 1)
    assert (found["share_of_1"], found["share_of_3"]) == (0.5, 1)


def test_three_correlated_constituents():
    z, side = (0.5, 0.3, 0.2), 0.4
    corners = ((0, 0), (side, 0), (side / 2, side * np.sqrt(3) / 2))
    found = shapes_of(*((100 * share, *corner) for share, corner in zip(z, corners, strict=True)))
    two = side * (0.5 * 0.3 + 0.5 * 0.2 + 0.3 * 0.2)
    three = side**3 * 0.5 * 0.3 * 0.2
    assert found["correlator_1"] == pytest.approx(two)
    assert found["correlator_3"] == pytest.approx(three)
    assert found["c2"] == pytest.approx(three / two**2)
    assert found["d2"] == pytest.approx(three / two**3)
    assert found["tau_3"] == pytest.approx(0)


def test_subjets_are_the_two_clusters():
    generator = np.random.default_rng(1)
    pt = generator.uniform(1, 2, 40) * np.repeat([2, 1], 20)
    eta = np.repeat([0.4, -0.4], 20) + generator.normal(0, 0.02, 40)
    phi = generator.normal(0, 0.02, 40)
    order = np.argsort(-pt)
    found = shapes_of(*np.stack([pt, eta, phi], 1)[order])
    assert found["subjet_distance"] == pytest.approx(0.8, abs=0.03)
    assert found["subjet_share_1"] == pytest.approx(pt[:20].sum() / pt.sum())
    assert (found["subjet_number_1"], found["subjet_number_2"]) == (20, 20)
    assert found["tau_21"] < 0.1


def test_padding_changes_nothing():
    pt, eta, phi = jets()
    wide = [np.pad(part, ((0, 0), (0, 25))) for part in (pt, eta, phi)]
    for name, value in shapes(pt, eta, phi).items():
        assert shapes(*wide)[name] == pytest.approx(value, abs=1e-9), name


def test_rotated_jets_have_the_same_shapes():
    pt, eta, phi = jets(2)
    turned = (np.cos(1) * eta - np.sin(1) * phi, np.sin(1) * eta + np.cos(1) * phi)
    after = shapes(pt, *turned)
    for name, value in shapes(pt, eta, phi).items():
        if "mass" not in name:
            assert after[name] == pytest.approx(value, abs=1e-9), name


def test_shapes_are_relative_to_the_centre_and_to_pt():
    pt, eta, phi = jets(3)
    after = shapes(7 * pt, eta + 0.1 * (pt > 0), phi - 0.2 * (pt > 0))
    for name, value in shapes(pt, eta, phi).items():
        if name not in ("pt", "mass") and "subjet_mass" not in name:
            assert after[name] == pytest.approx(value, abs=1e-9), name


@pytest.mark.parametrize("tokens", [0, 1, 3])
def test_jets_without_and_with_one_constituent(tokens):
    pt = np.zeros((2, tokens))
    pt[1, :1] = 5
    for name, value in shapes(pt, 0 * pt, 0 * pt).items():
        assert np.isfinite(value).all(), name
        assert value[0] == 0, name
