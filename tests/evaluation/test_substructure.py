"""Jet shapes by known answers: jets made of few constituents, and symmetries of any jet."""

import numpy as np
import pytest

from manyscale.evaluation.substructure import jet_shapes


def jets(seed=0, events=50, tokens=40):
    generator = np.random.default_rng(seed)
    pt = -np.sort(-generator.exponential(10, (events, tokens)), axis=1)
    pt[np.arange(tokens) >= generator.integers(5, tokens, events)[:, None]] = 0
    real = pt > 0
    return pt, generator.normal(0, 0.3, pt.shape) * real, generator.normal(0, 0.3, pt.shape) * real


def shapes_of(*constituents):
    pt, eta, phi = np.array(constituents, float).T[:, None]
    return {name: float(value[0]) for name, value in jet_shapes(pt, eta, phi).items()}


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
    for name, value in jet_shapes(pt, eta, phi).items():
        assert jet_shapes(*wide)[name] == pytest.approx(value, abs=1e-9), name


def test_rotated_jets_have_the_same_shapes():
    pt, eta, phi = jets(2)
    turned = (np.cos(1) * eta - np.sin(1) * phi, np.sin(1) * eta + np.cos(1) * phi)
    after = jet_shapes(pt, *turned)
    for name, value in jet_shapes(pt, eta, phi).items():
        if "mass" not in name:
            assert after[name] == pytest.approx(value, abs=1e-9), name


def test_shapes_are_relative_to_the_centre_and_to_pt():
    pt, eta, phi = jets(3)
    after = jet_shapes(7 * pt, eta + 0.1 * (pt > 0), phi - 0.2 * (pt > 0))
    for name, value in jet_shapes(pt, eta, phi).items():
        if name not in ("pt", "mass") and "subjet_mass" not in name:
            assert after[name] == pytest.approx(value, abs=1e-9), name


@pytest.mark.parametrize("tokens", [0, 1, 3])
def test_jets_without_and_with_one_constituent(tokens):
    pt = np.zeros((2, tokens))
    pt[1, :1] = 5
    for name, value in jet_shapes(pt, 0 * pt, 0 * pt).items():
        assert np.isfinite(value).all(), name
        assert value[0] == 0, name
