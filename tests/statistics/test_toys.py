"""Toys against the exact Poisson sum where counts are few, and the Asimov formula where many."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import xlogy
from scipy.stats import norm, poisson

from manyscale.errors import ManyscaleError
from manyscale.statistics.significance import significance
from manyscale.statistics.toys import (
    discovery_statistic,
    poisson_significance,
    toy_significance,
)


def toys(s, b, error, number=100_000, seed=3):
    return toy_significance(s, b, error, np.random.default_rng(seed), number)


def summed(s, b, error):
    """Median significance by the sum over all pairs of counts, without a toy."""
    tau = b / error**2
    n = np.arange(int(s + b + 12 * np.sqrt(s + b)) + 40)[:, None]
    m = np.arange(int(tau * b + 10 * np.sqrt(tau * b)) + 30)[None, :]
    q0 = discovery_statistic(n + 0 * m, m + 0 * n, tau, b)
    of_m = poisson.pmf(m, tau * b)
    with_signal, without = poisson.pmf(n, s + b) * of_m, poisson.pmf(n, b) * of_m
    order = np.argsort(q0, axis=None)
    reached = np.cumsum(with_signal.ravel()[order])
    median = q0.ravel()[order][np.searchsorted(reached, 0.5)]
    return norm.isf(without[q0 >= median].sum())


@pytest.mark.parametrize(("s", "b"), [(3, 0.5), (5, 2), (8, 0.01), (40, 100), (500, 1000)])
def test_known_background_gives_the_exact_poisson_tail(s, b):
    found = toys(s, b, 0.0)
    assert found.value == pytest.approx(poisson_significance(s, b), abs=4 * found.error + 1e-6)
    assert found.error < 0.02
    tail = poisson.sf(poisson.median(s + b) - 1, b)
    assert found.p_value == pytest.approx(tail, rel=0.2)


@pytest.mark.parametrize(
    ("s", "b", "error"),
    [(3, 0.5, 0.15), (5, 0.5, 0.2), (20, 2, 1.5), (50, 100, 10), (700, 1e3, 30)],
)
def test_unknown_background_gives_the_sum_over_both_counts(s, b, error):
    found = toys(s, b, error)
    assert found.value == pytest.approx(summed(s, b, error), abs=4 * found.error + 0.01)


@pytest.mark.parametrize(("s", "b", "error"), [(300, 1e4, 100), (3000, 1e6, 500), (150, 400, 0)])
def test_many_events_give_the_asymptotic_formula(s, b, error):
    found = toys(s, b, error)
    assert found.value == pytest.approx(float(significance(s, b, error)), rel=0.01)
    assert found.asymptotic == significance(s, b, error)
    assert found.asymptotic_holds


def test_few_events_are_not_trusted_to_the_formula():
    found = toys(3, 0.5, 0.0)
    assert found.asymptotic > found.value + 0.5
    assert not found.asymptotic_holds


def test_statistic_agrees_with_a_numerical_profile():
    n, m, tau = 14.0, 9.0, 1.5

    def minus_two_log(signal, background):
        first, second = signal + background, tau * background
        return 2 * (first - xlogy(n, first) + second - xlogy(m, second))

    best = minimize_scalar(lambda b: minus_two_log(0, b), (1, 30), tol=1e-12).fun
    free = minus_two_log(n - m / tau, m / tau)
    assert discovery_statistic(n, m, tau, 0.0) == pytest.approx(best - free, rel=1e-6)
    assert discovery_statistic(5.0, m, tau, 0.0) == 0
    assert discovery_statistic([0, 0], [0, 4], tau, 0.0).tolist() == [0, 0]


def test_faint_signal_has_no_significance():
    found = toys(1e-3, 50.0, 5.0)
    assert found.value == pytest.approx(0, abs=0.05)
    assert found.asymptotic_holds


def test_same_generator_gives_the_same_toys():
    assert toys(5, 2, 1, 2000) == toys(5, 2, 1, 2000)
    assert toys(5, 2, 1, 2000) != toys(5, 2, 1, 2000, seed=4)
    assert toys(5, 2, 1, 2000).toys == 2000


@pytest.mark.parametrize(("s", "b"), [(0, 1), (1, 0), (-1, 1), (1, np.nan), (np.inf, 1)])
def test_yields_must_be_above_zero(s, b):
    with pytest.raises(ManyscaleError, match="above 0"):
        toys(s, b, 0.1)
    with pytest.raises(ManyscaleError, match="above 0"):
        poisson_significance(s, b)


def test_error_must_not_be_negative():
    with pytest.raises(ManyscaleError, match="background_error is -1"):
        toys(1, 1, -1)
