"""Weighted means and their errors."""

import math

import numpy as np
import pytest

from manyscale.statistics.sample import weighted_mean


def test_equal_weights_are_the_textbook():
    values = np.random.default_rng(0).normal(size=20)
    mean = weighted_mean(values, np.full(20, 0.3))
    assert mean.value == pytest.approx(values.mean())
    assert mean.error == pytest.approx(values.std(ddof=1) / math.sqrt(20))


@pytest.mark.parametrize("signs", [False, True])
def test_the_error_is_the_spread_of_samples(signs):
    rng = np.random.default_rng(1)
    weights = rng.uniform(0.2, 3, 50)
    weights[::7] *= -1 if signs else 1
    found = [weighted_mean(rng.normal(size=50), weights) for _ in range(2000)]
    spread = np.std([mean.value for mean in found])
    assert np.sqrt(np.mean([mean.error**2 for mean in found])) == pytest.approx(spread, rel=0.06)


def test_too_few_events_have_no_error():
    assert weighted_mean([2.0], [1.0]).value == 2.0
    assert math.isnan(weighted_mean([2.0], [1.0]).error)
    assert all(math.isnan(number) for number in weighted_mean([], []))
    assert all(math.isnan(number) for number in weighted_mean([1.0, 2.0], [1.0, -1.0]))
