"""Sculpting against known answers: none, all, and what chance alone gives."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from manyscale.errors import ManyscaleError
from manyscale.evaluation.sculpting import KEPT, MassSample, jensen_shannon, sculpt


def masses(n, seed=0):
    return np.random.default_rng(seed).exponential(50, n) + 20


def test_mass_itself_as_score_bends_all_and_a_random_one_nothing():
    mass = masses(3000)
    sample = MassSample.of("m_j1", mass, np.ones(3000))
    noise = np.random.default_rng(1).random(3000)
    found = sculpt(sample, {"network": mass, "trees": noise}, seed=3).plain()
    assert (found["weights"], found["observable"], found["n_events"]) == (
        "class-balanced", "m_j1", 3000,
    )  # fmt: skip
    for kept, shaped, flat in zip(KEPT, found["network"], found["trees"], strict=True):
        assert shaped["background_efficiency"] == kept
        assert shaped["kept"] == pytest.approx(kept, abs=1e-3)
        assert shaped["n_effective"] == pytest.approx(kept * 3000, abs=1)
        # What passes and what does not share one bin at most.
        assert shaped["divergence"] > 0.5
        assert shaped["divergence"] - shaped["by_chance"] > 10 * shaped["error"]
        assert abs(flat["divergence"] - flat["by_chance"]) < 3 * flat["by_chance_spread"]
    assert found["network"][0]["cut"] == np.sort(mass)[1500]


def test_chance_and_error_are_those_of_toys():
    values, found = [], []
    for toy in range(40):
        generator = np.random.default_rng(toy)
        # All bins equally filled: the closed form holds where they hold several events each.
        mass = np.linspace(0, 1, 2000) * 100
        weights = generator.choice([1.0, 1, 1, -0.5], 2000)
        sample = MassSample.of("m", mass, weights)
        one = sculpt(sample, {"network": generator.random(2000)}, seed=toy).network[0]
        values.append(one.divergence)
        found.append([one.by_chance, one.by_chance_spread])
    mean, spread = np.mean(found, axis=0)
    assert np.mean(values) == pytest.approx(mean, abs=4 * spread / np.sqrt(40))
    assert np.std(values) == pytest.approx(spread, rel=0.4)
    # (B - 1) / (8 ln 2) (1 / n + 1 / m) of effective numbers.
    effective = (0.625 * 1000) ** 2 / (0.8125 * 1000)
    assert mean == pytest.approx(19 / (8 * np.log(2)) * 2 / effective, rel=0.1)


def test_error_is_the_spread_of_samples():
    values, errors = [], []
    for toy in range(60):
        mass = masses(800, toy)
        scores = mass + np.random.default_rng(toy + 1000).normal(0, 60, 800)
        sample = MassSample(
            "m", np.linspace(20, 200, 21), np.searchsorted(np.linspace(20, 200, 21)[1:-1], mass),
            np.ones(800),
        )  # fmt: skip
        one = sculpt(sample, {"network": scores}, seed=toy).network[0]
        values.append(one.divergence)
        errors.append(one.error)
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.35)


def test_same_seed_same_numbers_and_weights_may_be_repeated_events():
    mass, scores = masses(300), np.random.default_rng(2).random(300)
    weights = np.random.default_rng(3).integers(1, 4, 300)
    sample = MassSample.of("m", mass, weights)
    first, second = (sculpt(sample, {"network": scores}, seed=5).network for _ in range(2))
    assert first == second
    again = np.repeat(np.arange(300), weights)
    repeated = MassSample("m", sample.edges, sample.index[again], np.ones(len(again)))
    others = sculpt(repeated, {"network": scores[again]}, seed=5).network
    for one, other in zip(first, others, strict=True):
        assert one.cut == other.cut
        assert one.divergence == pytest.approx(other.divergence, rel=1e-12)


def test_equal_scores_pass_together_and_then_nothing_is_known():
    sample = MassSample.of("m", masses(100), np.ones(100))
    found = sculpt(sample, {"network": np.full(100, 0.5)}, seed=1)
    one = found.network[0]
    assert (one.kept, one.cut) == (1, 0.5)
    assert (one.divergence, one.error) == (None, None)


@pytest.mark.parametrize(
    ("mass", "weights", "said"),
    [
        ([], [], "not every background event has a value of 'm'"),
        ([1, np.nan], [1, 1], "not every background event"),
        ([1, 2], [1, -1], "sum to 0"),
        ([3, 3], [1, 1], "the same value"),
    ],
)
def test_bad_masses_are_refused(mass, weights, said):
    with pytest.raises(ManyscaleError, match=said):
        MassSample.of("m", mass, weights)


def test_outermost_bins_hold_the_rest():
    mass = np.concatenate([np.linspace(0, 100, 1000), [1e6, -1e6]])
    sample = MassSample.of("m", mass, np.ones(1002))
    assert sample.contents().sum() == 1002
    assert (sample.index[-2], sample.index[-1]) == (19, 0)
    assert jensen_shannon(sample.contents(), sample.contents()) == 0


CONTENTS = st.lists(st.integers(0, 50), min_size=5, max_size=5).filter(any)


@given(CONTENTS, CONTENTS)
def test_divergence_is_the_square_of_scipys_distance(first, second):
    found = jensen_shannon(first, second)
    with np.errstate(invalid="ignore"):  # a root of rounding below 0
        reference = np.nan_to_num(jensenshannon(first, second, base=2) ** 2)
    assert found == pytest.approx(reference, abs=1e-12)
    assert found == pytest.approx(jensen_shannon(second, first), abs=1e-15)
    assert found == pytest.approx(jensen_shannon(np.multiply(first, 7.0), second), abs=1e-12)
    assert 0 <= found <= 1 + 1e-12


def test_divergence_without_content():
    assert np.isnan(jensen_shannon([0, 0], [1, 1]))
    assert np.isnan(jensen_shannon([1, 1], [-1, 0]))
    assert jensen_shannon([1, -0.5, 1], [1, 0, 1]) == 0
