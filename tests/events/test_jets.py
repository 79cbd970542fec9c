import numpy as np
import pytest

from helpers.collisions import PERFECT, hits, particles
from manyscale.events.jets import Tagger, cluster, count_hadrons, find_small_jets
from manyscale.events.kinematics import Momentum, wrap_phi
from manyscale.events.objects import Hits
from manyscale.events.settings import (
    DetectorSettings,
    ObjectSettings,
    TaggingSettings,
    TrackSettings,
)
from manyscale.events.truth import Axes


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


RATES = TaggingSettings(efficiency=0.8, charm=0.3, light=0.05)
MANY = 20_000


def _jets(*events):
    """Axes of jets (eta, phi) of some events."""
    eta, phi = np.array([jet for event in events for jet in event], float).reshape(-1, 2).T
    return Axes(np.array([len(event) for event in events]), eta, phi)


@pytest.mark.parametrize(
    ("n_bottom", "n_charm", "expected"),
    [(0, 0, 0.1), (1, 0, 0.85), (2, 0, 1.6), (3, 1, 1.6), (0, 1, 0.35), (1, 1, 1.1), (0, 5, 0.6)],
)
def test_mean_number_of_tags(n_bottom, n_charm, expected):
    tagger = Tagger(RATES, np.random.SeedSequence(1), candidates=2)
    tags = tagger.tag(np.full((MANY, 1), n_bottom), np.full((MANY, 1), n_charm))
    assert tags.shape == (MANY, 1)
    assert set(np.unique(tags)) <= {0, 1, 2}
    assert tags.mean() == pytest.approx(expected, abs=4 * np.sqrt(0.5 / MANY))


def test_small_jets_have_one_candidate():
    tagger = Tagger(RATES, np.random.SeedSequence(1), candidates=1)
    n_bottom, n_charm = np.repeat([[0, 1, 2, 0], [0, 0, 1, 3]], MANY, axis=1)
    tags = tagger.tag(n_bottom, n_charm).reshape(4, MANY)
    assert set(np.unique(tags)) == {0, 1}
    expected = [RATES.light, RATES.efficiency, RATES.efficiency, RATES.charm]
    assert tags.mean(axis=1) == pytest.approx(expected, abs=4 * np.sqrt(0.25 / MANY))


def test_tagging_divided_into_calls_changes_nothing():
    hadrons = np.random.default_rng(1).integers(0, 3, (50, 2))
    whole = Tagger(RATES, np.random.SeedSequence(1), candidates=2).tag(hadrons, hadrons)
    tagger = Tagger(RATES, np.random.SeedSequence(1), candidates=2)
    parts = [tagger.tag(part, part) for part in (hadrons[:20], hadrons[20:])]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_hadrons_are_counted_in_the_nearest_jet():
    jets = _jets([(0, 3.1), (0, 1.9)], [], [(1, 0), (-1, 2), (0, 2)])
    heavy = particles(
        [
            # Beyond the seam of phi; between the two; too soft; too far.
            [(511, 20, 0, -3.1), (4122, 20, 0, 2.4), (521, 3, 0, 3.1), (531, 20, 2, 2)],
            [(511, 20, 0, 0)],
            [(-5122, 20, -1, 2), (421, 20, -1, 2), (-511, 20, -1, 2.1)],
        ]
    )
    n_bottom, n_charm = count_hadrons(heavy, jets, radius=1.0, min_pt=5.0)
    assert n_bottom.tolist() == [1, 0, 0, 2, 0]
    assert n_charm.tolist() == [0, 1, 0, 1, 0]


def test_no_hadrons():
    n_bottom, n_charm = count_hadrons(particles([[], []]), _jets([(0, 0), (0, 2)], []), 1.0, 5.0)
    assert n_bottom.tolist() == n_charm.tolist() == [0, 0]


def _small_jets(seen, heavy, detector=PERFECT):
    tagger = Tagger(detector.btags, np.random.SeedSequence(1), candidates=1)
    return find_small_jets(seen, heavy, tagger, ObjectSettings(jet_radius=0.4, jet_pt=25), detector)


def test_small_jets_of_known_events():
    seen = hits(
        [
            # Two near one another are two jets; a pair at 0.2 is one; the soft one is none.
            [(50, 0, 0), (40, 0.5, 0), (100, 0, 2), (60, 0, 2.2), (20, 0, -2)],
            [],
            [(30, 4, 1)],
        ]
    )
    heavy = particles([[(511, 30, 0.5, 0.1), (521, 20, 0.4, 0), (411, 30, 0, 0)], [], []])
    jets = _small_jets(seen, heavy)
    assert jets.counts.tolist() == [3, 0, 1]
    assert jets.pt == pytest.approx(
        [np.hypot(100 + 60 * np.cos(0.2), 60 * np.sin(0.2)), 50, 40, 30]
    )
    assert jets.mass == pytest.approx(
        [np.sqrt(2 * 100 * 60 * (1 - np.cos(0.2))), 0, 0, 0], abs=1e-4
    )
    assert jets.multiplicity.tolist() == [2, 1, 1, 1]
    assert jets.n_btags.tolist() == [0, 0, 1, 0]


def test_jets_beyond_the_tracker_are_not_tagged():
    seen = hits([[(50, 2.4, 0), (60, 2.6, 2)]])
    heavy = particles([[(511, 40, 2.4, 0), (511, 40, 2.6, 2)]])
    tracker = TrackSettings(max_eta=2.5)
    detector = DetectorSettings(tracks=tracker, btags=PERFECT.btags)
    assert _small_jets(seen, heavy, detector).n_btags.tolist() == [0, 1]
    assert _small_jets(seen, heavy).n_btags.tolist() == [1, 1]
