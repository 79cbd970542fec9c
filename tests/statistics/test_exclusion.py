"""Expected limits against their closed form, and the profile of a bin against a minimiser."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import xlogy
from scipy.stats import norm

from manyscale.errors import ManyscaleError
from manyscale.statistics.exclusion import (
    BANDS,
    expected_limits,
    limit_roots,
    profiled_deviance,
    statistics_only,
)
from manyscale.statistics.significance import significance


def closed_form(band):
    return norm.ppf(1 - 0.05 * norm.cdf(band)) + band


@pytest.mark.parametrize("band", BANDS)
def test_limit_of_a_large_counting_experiment(band):
    found = statistics_only([300.0], [1e6], [0.0]).limits[band]
    assert found == pytest.approx(np.sqrt(1e6) / 300 * closed_form(band), rel=0.02)


@pytest.mark.parametrize("band", BANDS)
def test_error_of_the_background_adds_to_its_fluctuation(band):
    found = statistics_only([300.0], [1e6], [2000.0]).limits[band]
    assert found == pytest.approx(np.sqrt(1e6 + 2000**2) / 300 * closed_form(band), rel=0.02)


def test_bins_add_up():
    # Bins with the same s / b are one bin.
    one = statistics_only([30.0], [1e4], [0.0])
    three = statistics_only([5.0, 10.0, 15.0], [1e4 / 6, 1e4 / 3, 1e4 / 2], np.zeros(3))
    assert three.limits == pytest.approx(one.limits, rel=1e-4)
    assert three.significance == pytest.approx(significance(30, 1e4), rel=1e-9)


def test_limits_rise_with_the_band_and_scale_with_the_signal():
    s, b, error = np.array([3.0, 5.0, 1.0]), np.array([200.0, 20.0, 0.5]), np.array([5.0, 3.0, 0.2])
    limits = statistics_only(s, b, error).limits
    assert sorted(limits.values()) == list(limits.values())
    for scale in (1e-8, 1e6):
        scaled = statistics_only(s * scale, b, error).limits
        assert {n: mu * scale for n, mu in scaled.items()} == pytest.approx(limits, rel=3e-4)


def test_few_expected_events_leave_the_closed_form():
    # Without background, q_A = 2 mu s: exactly root^2 / 2 events are excluded.
    assert statistics_only([1.0], [0.0], [0.0]).limits[0] == pytest.approx(1.96**2 / 2, rel=1e-3)


@pytest.mark.parametrize(
    ("n", "s", "b", "error"),
    [(100, 20, 100, 10), (100, 0, 80, 10), (5, 9, 3, 2), (1e8, 3e4, 1e8, 1e5), (7, 0, 4, 4)],
)
def test_profile_agrees_with_a_minimiser(n, s, b, error):
    def minus_two_log(x):
        mean = x + s
        return 2 * (mean - n - xlogy(n, mean / n)) + ((x - b) / error) ** 2

    low, high = max(0.0, b - 6 * error), b + 6 * error + 5
    fit = minimize_scalar(minus_two_log, bounds=(low, high), options={"xatol": 1e-9 * b})
    assert profiled_deviance(n, s, b, error) == pytest.approx(fit.fun, rel=1e-5)


def test_profile_at_the_edges():
    assert profiled_deviance(100, 0, 100, 10) == 0
    assert profiled_deviance(0, 3, 0, 0) == 6
    assert profiled_deviance(0, 0, 0, 0) == 0
    assert profiled_deviance(2, 0, 0, 0) == np.inf
    # The background cannot be less than nothing, however little is known of it.
    assert profiled_deviance(10, 30, 10, 10) == pytest.approx(2 * (20 + 10 * np.log(1 / 3)) + 1)


def test_roots_are_those_of_cls():
    for band, root in limit_roots(0.9).items():
        # CLs = (1 - Phi(root - N)) / Phi(N), the expected p-values of the band.
        assert norm.sf(root - band) / norm.cdf(band) == pytest.approx(0.1)


def test_signal_that_cannot_be_excluded_is_said():
    with pytest.raises(ManyscaleError, match="no signal, however strong"):
        expected_limits(lambda mu: 1 - np.exp(-mu), 1.0)


def test_limits_of_a_deviance_that_jumps_are_one():
    """As where the background can be fitted away, up to the signal that is more than was counted."""
    limits = expected_limits(lambda mu: mu / 20 + 1e6 * max(0, mu - 2.2), 1.0)
    assert list(limits.values()) == pytest.approx([2.2] * 5, rel=1e-3)
