"""Features of pairs of tokens against the library `vector`, their symmetries and their edges."""

import math

import numpy as np
import pytest
import torch
import vector

from helpers.toys import JET_COLUMNS, SCHEMA, toy_events
from manyscale.errors import CardError
from manyscale.features import pairs
from manyscale.features.columns import StreamBatch, TokenColumns
from manyscale.features.pairs import momenta_of, pair_features
from manyscale.schema import StreamSchema


def momenta(stream, values, axis=None):
    """(4, tokens) of one event, whose values are (tokens, columns)."""
    values = torch.as_tensor(values, dtype=torch.float32)
    counts = np.array([len(values)])
    axis = torch.zeros(1, len(stream.axis)) if axis is None else axis
    batch = StreamBatch(values, torch.from_numpy(counts), axis, counts)
    return momenta_of(stream)(TokenColumns(stream, batch)).T


def of_all(found):
    """(4, n, n) of (4, n)."""
    return pair_features(found[:, :, None], found[:, None])


def plain(features):
    """ln delta R, ln kT, ln z, ln m2 as they are."""
    scale, centre = (np.reshape(of, (4, 1, 1)) for of in (pairs._SCALE, pairs._CENTRE))
    return features.detach().double().numpy() * scale + centre


@pytest.mark.parametrize("given", ["mass", "energy", "nothing", "delta"])
def test_they_are_those_of_four_momenta(given):
    rng = np.random.default_rng(2)
    pt, eta = rng.exponential(20, 12) + 1, rng.normal(0, 1.5, 12)
    phi, mass = rng.uniform(-np.pi, np.pi, 12), rng.exponential(3, 12) + 0.1
    mass = mass * (given in {"mass", "energy"})
    tokens = vector.array({"pt": pt, "eta": eta, "phi": phi, "mass": mass})
    columns = {"pt": pt, "eta": eta, "phi": phi, "mass": mass, "energy": tokens.energy}
    names = ("pt", "eta", "phi", *({given} & {"mass", "energy"}))
    if given == "delta":
        columns = {"delta_eta": eta - 0.3, "delta_phi": phi - 9, "log_pt": np.log(pt)}
        names = tuple(columns)
    found = momenta(
        StreamSchema(name="jet", columns=names), np.stack([columns[n] for n in names], 1)
    )
    one, other = np.triu_indices(12, 1)
    a, b = tokens[one], tokens[other]
    distance = np.hypot(a.rapidity - b.rapidity, a.deltaphi(b))
    softer = np.minimum(a.pt, b.pt)
    expected = np.log([distance, softer * distance, softer / (a.pt + b.pt), (a + b).mass2])
    np.testing.assert_allclose(plain(of_all(found))[:, one, other], expected, atol=2e-3)


def test_they_do_not_depend_on_direction_side_and_order():
    schema, stream = SCHEMA.stream("jet1"), toy_events(3).streams["jet1"]
    first = of_all(momenta(schema, stream.values[:40]))
    assert torch.equal(first, first.transpose(1, 2))
    turned = stream.values[:40].copy()
    turned[:, 1] *= -1
    turned[:, 2] = (1.5 - turned[:, 2] + np.pi) % (2 * np.pi) - np.pi
    order = np.random.default_rng(0).permutation(40)
    other = of_all(momenta(schema, turned[order]))
    torch.testing.assert_close(other, first[:, order][:, :, order], atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tokens_at_one_place_and_of_no_momentum_have_finite_features_and_gradients(dtype):
    rows = [[20, 1, 3, 40], [20, 1, 3, 40], [0, 0, 0, 0], [1e4, 9, -3, 1e8], [-1, 99, 3, -1]]
    values = torch.tensor(rows, dtype=torch.float32, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
        features = of_all(momenta(StreamSchema(name="jet", columns=JET_COLUMNS[:4]), values))
    assert features.dtype == torch.float32
    assert features.abs().max() <= pairs._CLIP
    assert plain(features)[0, 0, 1] == pytest.approx(math.log(1e-3), abs=1e-4)
    features.square().sum().backward()
    assert torch.isfinite(values.grad).all()


def test_rounding_of_an_energy_makes_no_mass():
    """E - |p| of a light token is nothing but rounding."""
    eta = np.linspace(-2, 2, 50)
    pt = np.full(50, 300.0)
    schema = StreamSchema(name="jet", columns=("pt", "eta", "phi", "energy"))
    values = np.stack([pt, eta, np.zeros(50), pt * np.cosh(eta)], 1)
    assert (momenta(schema, values)[3] == 0).all()


def test_a_light_token_has_the_mass_that_its_energy_says():
    rng = np.random.default_rng(4)
    pt, eta, phi = rng.uniform(1, 300, 1000), rng.uniform(-3, 3, 1000), rng.uniform(-3, 3, 1000)
    energy = np.hypot(pt * np.cosh(eta), 0.14)  # pions
    values = np.stack([pt, eta, phi, energy], 1).astype(np.float32)
    schema = StreamSchema(name="jet", columns=("pt", "eta", "phi", "energy"))
    pt, eta, _, energy = values.astype(np.float64).T
    mass2 = (1 - pairs._RESOLUTION**2) * energy**2 - (pt * np.cosh(eta)) ** 2
    found = momenta(schema, values)[3]
    np.testing.assert_allclose(found, np.maximum(mass2, 0) / pt**2, rtol=1e-5, atol=1e-12)
    # Nor does it depend on the tokens beside it, by which vectorised code rounds otherwise.
    assert torch.equal(momenta(schema, values[7:20])[3], found[7:20])


@pytest.mark.parametrize("columns", [("pt", "phi"), ("eta", "phi"), ("f0", "f1")])
def test_columns_that_are_missing_are_named(columns):
    with pytest.raises(CardError, match=rf"streams\.missing\.pair_bias.*has {', '.join(columns)}"):
        momenta_of(StreamSchema(name="missing", columns=columns))
