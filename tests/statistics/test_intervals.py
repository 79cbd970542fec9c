"""Binomial intervals against the binomial distribution and toys."""

import numpy as np
import pytest
from scipy.stats import binom

from manyscale.errors import ManyscaleError
from manyscale.statistics.intervals import ONE_SIGMA, binomial_interval, efficiency


def test_one_sigma():
    assert pytest.approx(0.6826894921370859, rel=1e-15) == ONE_SIGMA


def test_ends_have_the_tails_of_the_binomial_distribution():
    k, n = np.meshgrid(np.arange(1, 20), [20, 57], indexing="ij")
    low, high = binomial_interval(k, n, 0.9)
    assert binom.sf(k - 1, n, low) == pytest.approx(np.full(k.shape, 0.05), rel=1e-9)
    assert binom.cdf(k, n, high) == pytest.approx(np.full(k.shape, 0.05), rel=1e-9)


def test_ends_at_none_and_all():
    low, high = binomial_interval([0, 10, 0], [10, 10, 0])
    assert low[[0, 2]].tolist() == [0, 0]
    assert low[1] == pytest.approx(1 - high[0])
    assert high.tolist()[1:] == [1, 1]
    assert high[0] == pytest.approx(1 - ((1 - ONE_SIGMA) / 2) ** 0.1)


@pytest.mark.parametrize(("k", "n"), [(3, 2), (-1, 2), (np.nan, 2), (1, np.inf)])
def test_impossible_counts_are_refused(k, n):
    with pytest.raises(ManyscaleError):
        binomial_interval(k, n)


def test_impossible_level_is_refused():
    with pytest.raises(ManyscaleError, match=r"level .* 68"):
        binomial_interval(1, 2, 68)


def test_equal_weights_are_counts():
    passed = np.arange(50) < 7
    found = efficiency(np.full(50, 0.3), passed)
    low, high = binomial_interval(7, 50)
    assert found == pytest.approx((7 / 50, float(low), float(high)))
    assert efficiency(np.ones(50), np.zeros(50, bool)).value == 0
    assert efficiency(np.ones(50), np.ones(50, bool)).high == 1


def test_half_width_follows_the_spread_of_weighted_toys():
    generator = np.random.default_rng(0)
    values, widths = [], []
    for _ in range(1000):
        passed = generator.random(400) < 0.2
        # Those that pass weigh more, some weigh less than nothing.
        weights = np.where(passed, 3.0, 1.0) * generator.choice([1, 1, 1, -0.2], 400)
        found = efficiency(weights, passed)
        values.append(found.value)
        widths.append((found.high - found.low) / 2)
    assert np.mean(widths) == pytest.approx(np.std(values), rel=0.1)


def test_weights_that_cancel_are_refused():
    with pytest.raises(ManyscaleError, match="above 0"):
        efficiency([1.0, -1.0], np.array([True, False]))


def test_events_of_weight_zero_do_not_count():
    weights = np.append(np.full(999, 0.1), np.zeros(7))
    assert efficiency(weights, weights > 0) == pytest.approx(
        efficiency(np.ones(999), np.ones(999, bool)), rel=1e-9
    )
    assert efficiency(weights, weights == 0) == pytest.approx(
        efficiency(np.ones(999), np.zeros(999, bool)), rel=1e-9
    )


def test_weights_of_both_signs_that_cancel_among_those_that_pass_know_less():
    weights = np.append(np.ones(1000), [5.0, -5.5, 5.0, -5.5])
    passed = np.arange(1004) >= 1000
    found = efficiency(weights, passed)
    assert (found.value, found.low) == (0, 0)
    assert found.high == pytest.approx(np.sqrt(2 * (25 + 30.25)) / weights.sum())
    turned = efficiency(weights, ~passed)
    assert (turned.value, turned.high) == (1, 1)
    assert turned.low == pytest.approx(1 - found.high)
