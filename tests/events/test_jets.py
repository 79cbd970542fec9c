import numpy as np
import pytest

from helpers.collisions import hits
from manyscale.events.jets import cluster
from manyscale.events.kinematics import Momentum, wrap_phi
from manyscale.events.objects import Hits


def _from_momenta(events):
    """Hits of four-momenta (px, py, pz, E), given in the order of falling pT."""
    flat = Momentum(*np.array([p for event in events for p in event], float).T)
    zero = np.zeros(len(flat.px), np.int8)
    counts = np.array([len(event) for event in events])
    return Hits(
        counts, flat.pt, flat.eta, flat.phi, flat.energy, zero, zero, 0.0 * flat.pt, 0.0 * flat.pt
    )


def test_example_of_the_fastjet_manual():
    # Section 3.1 of arXiv:1111.6097: anti-kT with R = 0.7 of three particles gives a jet of 103 GeV
    # at phi = 0 with two constituents, and one of 99 GeV at phi = pi with one.
    event = [(99, 0.1, 0, 100), (-99, 0, 0, 99), (4, -0.1, 0, 5)]
    seen = _from_momenta([event])
    pairs = cluster(seen, radius=0.7, min_pt=0)
    np.testing.assert_allclose(pairs.momentum.pt, [[103, 99]], rtol=1e-12)
    np.testing.assert_allclose(pairs.momentum.eta, 0, atol=1e-12)
    np.testing.assert_allclose(pairs.momentum.phi, [[0, np.pi]], atol=1e-12)
    np.testing.assert_allclose(pairs.constituents(seen, 0).pt, [99.0001, 4.00125], rtol=1e-5)
    np.testing.assert_allclose(pairs.constituents(seen, 1).pt, [99])


def _plain_antikt(event, radius):
    """Anti-kT by its definition, O(n^3): lists of the places of each jet's constituents."""
    px, py, pz, e = (list(x) for x in event)
    members = [[i] for i in range(len(px))]
    jets = []
    while members:
        rapidity = np.arctanh(np.array(pz) / np.array(e))
        phi, kt = np.arctan2(py, px), np.hypot(px, py)
        n = len(members)
        distances = [(kt[i] ** -2, i, i) for i in range(n)]
        for i in range(n):
            for j in range(i):
                apart = (rapidity[i] - rapidity[j]) ** 2 + wrap_phi(phi[i] - phi[j]) ** 2
                least = min(kt[i] ** -2, kt[j] ** -2)
                distances.append((least * apart / radius**2, j, i))
        _, i, j = min(distances)
        if i == j:
            jets.append((kt[i], sorted(members[i])))
        else:
            for component in (px, py, pz, e):
                component[i] += component[j]
            members[i] = members[i] + members[j]
        for component in (px, py, pz, e, members):
            del component[j]
    return sorted(jets, reverse=True)


def test_agrees_with_the_definition_on_random_events():
    rng = np.random.default_rng(11)
    events = [
        [(rng.exponential(10) + 1, rng.uniform(-2, 2), rng.uniform(-3, 3)) for _ in range(n)]
        for n in (25, 12, 2, 18)
    ]
    seen = hits(events)
    pairs = cluster(seen, radius=1.0, min_pt=0)
    assert pairs.event.tolist() == [0, 1, 2, 3]
    ends = np.cumsum(seen.counts)
    components = (
        seen.pt * np.cos(seen.phi),
        seen.pt * np.sin(seen.phi),
        seen.pt * np.sinh(seen.eta),
        seen.energy,
    )
    for event, (end, count) in enumerate(zip(ends, seen.counts, strict=True)):
        here = slice(end - count, end)
        reference = _plain_antikt([x[here] for x in components], radius=1.0)
        for jet in (0, 1):
            pt, members = reference[jet]
            assert pairs.momentum.pt[event, jet] == pytest.approx(pt)
            inside = pairs.constituents(seen, jet)
            assert inside.pt[inside.event == event].tolist() == seen.pt[here][members].tolist()


def test_events_without_two_jets_are_left_out():
    seen = hits(
        [[(300, 0, 0)], [], [(300, 0, 0), (250, 0, 3), (5, 1, 1)], [(300, 0, 0), (9, 0, 3)]]
    )
    pairs = cluster(seen, radius=1.0, min_pt=200)
    assert pairs.event.tolist() == [2]
    np.testing.assert_allclose(pairs.momentum.pt, [[300, 250]])
    assert pairs.constituents(seen, 0).counts.tolist() == [1]


@pytest.mark.parametrize("events", [[[], []], [[(1.0, 0.0, 0.0)]], [[]]])
def test_no_event_with_two_jets(events):
    seen = hits(events)
    pairs = cluster(seen, radius=1.0, min_pt=200)
    assert pairs.event.tolist() == []
    assert pairs.momentum.pt.shape == (0, 2)
    assert len(pairs.constituents(seen, 1).pt) == 0


def test_jet_across_the_seam_of_phi():
    seen = hits([[(300, 0, 3.1), (300, 0, -3.1), (250, 0, 0)]])
    pairs = cluster(seen, radius=1.0, min_pt=200)
    assert abs(pairs.momentum.phi[0, 0]) > 3.1
    assert pairs.constituents(seen, 0).counts.tolist() == [2]
