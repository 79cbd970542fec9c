import numpy as np
import vector

from manyscale.events.kinematics import Momentum


def _random(shape):
    rng = np.random.default_rng(3)
    px, py, pz = rng.normal(0, 50, (3, *shape))
    return Momentum(px, py, pz, np.sqrt(px**2 + py**2 + pz**2 + rng.exponential(20, shape) ** 2))


def test_agrees_with_vector():
    ours = _random((200, 2))
    theirs = vector.array({"px": ours.px, "py": ours.py, "pz": ours.pz, "E": ours.energy})
    for name in ("pt", "eta", "phi", "mass"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-9)


def test_invariant_mass_of_pairs_agrees_with_vector():
    ours = _random((200, 2))
    theirs = vector.array({"px": ours.px, "py": ours.py, "pz": ours.pz, "E": ours.energy})
    pairs = theirs[:, 0] + theirs[:, 1]
    np.testing.assert_allclose(ours.sum(axis=1).mass, pairs.mass, rtol=1e-9)


def test_edges():
    px, py, pz = np.array([[-1.0, -0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 3.0]])
    # The last component of each: at rest; along the beam; and -0.0, where arctan2 says -pi.
    none = Momentum(px * 0, py * 0, pz * 0, np.ones(3))
    assert (none.eta == 0).all()
    assert (none.mass == 1).all()
    backwards = Momentum(np.array([-1.0]), np.array([-0.0]), np.array([0.0]), np.array([1.0]))
    assert backwards.phi == np.pi
    rounded = Momentum(np.array([1.0]), np.array([0.0]), np.array([0.0]), np.array([1 - 1e-12]))
    assert rounded.mass == 0
