import numpy as np
import pytest

from helpers.collisions import particles
from manyscale.events.jets import Tagger, count_hadrons
from manyscale.events.settings import TaggingSettings
from manyscale.events.truth import Axes

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


def test_division_into_calls_changes_nothing():
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
