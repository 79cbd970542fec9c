import numpy as np
import pytest
from scipy.stats import ks_2samp

from manyscale.errors import DataError
from manyscale.statistics.ks_test import ks_test


def test_equals_scipy_for_equal_weights():
    generator = np.random.default_rng(1)
    first, second = generator.normal(size=300), generator.normal(0.1, size=500)
    ours = ks_test(first, second, np.ones(300), np.ones(500))
    reference = ks_2samp(first, second)
    assert ours.distance == pytest.approx(reference.statistic, abs=1e-12)
    assert ours.p_value == pytest.approx(reference.pvalue, rel=0.1)


def test_an_event_of_weight_two_counts_as_two_in_the_distance():
    doubled = ks_test([1, 2, 2], [1.5, 3], np.ones(3), np.ones(2))
    weighted = ks_test([1, 2], [1.5, 3], [1, 2], np.ones(2))
    assert weighted.distance == pytest.approx(doubled.distance)


def test_p_values_of_weighted_samples_of_one_distribution_are_uniform():
    generator = np.random.default_rng(2)
    p_values = []
    for _ in range(400):
        values = generator.normal(size=300), generator.normal(size=400)
        weights = generator.exponential(size=300), generator.exponential(size=400)
        p_values.append(ks_test(*values, *weights).p_value)
    counts, _ = np.histogram(p_values, 4, (0, 1))
    assert np.all(np.abs(counts - 100) < 5 * np.sqrt(75))


def test_a_scale_of_the_weights_changes_nothing():
    generator = np.random.default_rng(3)
    first, second, weights = generator.normal(size=(3, 50))
    plain = ks_test(first, second, weights**2, np.ones(50))
    scaled = ks_test(first, second, 7 * weights**2, np.full(50, 1e-9))
    assert scaled == pytest.approx(plain)


@pytest.mark.parametrize("weights", [[], [1.0, -1.0]])
def test_refuses_samples_without_weight(weights):
    with pytest.raises(DataError, match="a sum above 0"):
        ks_test(np.zeros(len(weights)), [1.0], weights, [1.0])
