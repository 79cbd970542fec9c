"""Asimov significance against its closed forms, its limits and a numerical profile likelihood."""

from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import xlogy
from scipy.stats import norm, poisson

from manyscale.errors import ManyscaleError
from manyscale.statistics.significance import (
    asymptotic_holds,
    exact_significance,
    significance,
    simulated_significance,
)


def textbook(s, b, error):
    """The published formula in 80 digits."""
    with localcontext() as context:
        context.prec = 80
        s, b, error = Decimal(s), Decimal(b), Decimal(error)
        if error == 0:
            square = (s + b) * (1 + s / b).ln() - s
        else:
            v = error**2
            square = (s + b) * ((s + b) * (b + v) / (b**2 + (s + b) * v)).ln() - b**2 / v * (
                1 + v * s / (b * (b + v))
            ).ln()
        return float((2 * square).sqrt())


@given(st.floats(1e-8, 1e6), st.floats(1e-8, 1e6), st.one_of(st.just(0.0), st.floats(1e-6, 1e5)))
def test_agrees_with_the_formula_in_high_precision(s, b, error):
    assert significance(s, b, error) == pytest.approx(textbook(s, b, error), rel=1e-13)


@pytest.mark.parametrize(("s", "b", "error"), [(10, 100, 20), (5, 3, 1), (50, 2, 2), (1, 400, 5)])
def test_agrees_with_the_profile_likelihood(s, b, error):
    tau = b / error**2
    n, m = s + b, tau * b

    def minus_two_log(signal, background):
        first, second = signal + background, tau * background
        return 2 * (first - xlogy(n, first) + second - xlogy(m, second))

    fit = minimize_scalar(
        lambda log_b: minus_two_log(0, np.exp(log_b)), (np.log(b), np.log(n)), tol=1e-12
    )
    q0 = fit.fun - minus_two_log(s, b)
    assert significance(s, b, error) == pytest.approx(np.sqrt(q0), rel=1e-6)


@pytest.mark.filterwarnings("ignore:jsonschema.RefResolver:DeprecationWarning")
@pytest.mark.parametrize(("s", "b", "error"), [(10, 100, 20), (30, 60, 5), (15, 40, 12)])
def test_agrees_with_pyhf_in_one_bin(s, b, error):
    pyhf = pytest.importorskip("pyhf")
    # The background's error as an auxiliary Poisson count: pyhf's shapesys.
    model = pyhf.simplemodels.uncorrelated_background([s], [b], [error])
    data = [s + b, *model.config.auxdata]
    p_value = float(pyhf.infer.hypotest(0.0, data, model, test_stat="q0"))
    assert significance(s, b, error) == pytest.approx(norm.isf(p_value), rel=1e-4)


def test_agrees_with_the_exact_tail_probability():
    # The median count of a mean of 140 is 140; half a count is the continuity correction.
    exact = norm.isf((poisson.sf(139, 100) + poisson.sf(140, 100)) / 2)
    assert significance(40, 100) == pytest.approx(exact, rel=0.005)


def test_limits():
    assert significance(1e-3, 1e4) == pytest.approx(1e-3 / 1e2, rel=1e-7)
    assert significance(1e-3, 1e4, 300) == pytest.approx(1e-3 / np.sqrt(1e4 + 9e4), rel=1e-7)
    assert significance(3, 10, 1e-9) == pytest.approx(significance(3, 10), rel=1e-12)
    # b -> 0: it grows as the root of the logarithm, the tail probability of a Poisson count.
    assert significance(3, 1e-30) == pytest.approx(np.sqrt(2 * (3 * np.log(3e30) - 3)), rel=1e-12)
    # A background of which nothing is known hides any signal.
    assert significance(3, 10, 1e8) < 1e-6


@pytest.mark.parametrize("relative", [0.05, 0.2])
def test_background_that_vanishes_with_its_relative_error(relative):
    # b -> 0 at sigma_b = f b: Z^2 -> 2 [s ln(s / (b (1 + f^2 s))) - ln(1 + f^2 s) / f^2].
    s, b = 3.0, np.array([1e-9, 1e-12, 1e-30])
    known = 1 + relative**2 * s
    square = 2 * (s * np.log(s / (b * known)) - np.log(known) / relative**2)
    assert significance(s, b, relative * b) == pytest.approx(np.sqrt(square), rel=1e-8)


def test_error_of_the_background_vanishes_smoothly():
    b = 50.0
    loss = significance(10, b) - significance(10, b, np.array([4.0, 2.0, 1.0]) * 0.01)
    # To first order Z falls with the square of the error.
    assert loss[:-1] / loss[1:] == pytest.approx([4, 4], rel=1e-3)


@pytest.mark.parametrize("error", [0.0, 3.0, 100.0, 1e4])
def test_small_signals_count_as_over_the_root_of_all_variance(error):
    b = 100.0
    ratios = [
        float(significance(s, b, error)) / (s / np.sqrt(b + error**2)) for s in (1, 1e-2, 1e-4)
    ]
    away = np.abs(np.array(ratios) - 1)
    assert (away[1:] <= 0.011 * away[:-1] + 1e-12).all()


def sums(weights, powers=4):
    return [(weights**power).sum() for power in range(1, powers + 1)]


@pytest.mark.parametrize(
    ("simulated", "scale", "systematic"), [(400, 1.0, 0.0), (200, 30.0, 0.1), (100, 1e3, 0.2)]
)
def test_error_of_simulated_significance_is_the_spread_of_toys(simulated, scale, systematic):
    generator = np.random.default_rng(1)
    s, b = np.full(300, 0.1), scale * generator.choice([0.5, 1, 2, -0.3], simulated)
    found = simulated_significance(sums(s, 2), sums(b), systematic)
    assert found.value == pytest.approx(
        significance(s.sum(), b.sum(), np.hypot(np.sqrt((b**2).sum()), systematic * b.sum()))
    )
    times = [generator.poisson(1, (1500, len(w))) for w in (s, b)]
    toys = simulated_significance(
        [times[0] @ s**power for power in (1, 2)],
        [times[1] @ b**power for power in (1, 2, 3, 4)],
        systematic,
    )
    assert found.error == pytest.approx(toys.value.std(), rel=0.12)


def test_unseen_background_is_an_error_and_no_signal_is_no_trouble():
    background = sums(np.ones(100))
    found = simulated_significance([10, 1], background, 0.1, unseen=44)
    assert found.value == pytest.approx(significance(10, 100, np.sqrt(100 + 44 + 100)))
    nothing = simulated_significance([0, 0], background)
    assert (nothing.value, nothing.error) == (0, 0)
    assert simulated_significance([0, 1], background).error == pytest.approx(
        significance(1e-3, 100, 10) / 1e-3, rel=1e-3
    )


def test_edges():
    assert significance(0, 5) == 0
    assert significance(0, 0) == 0
    assert significance(0, 0, 2) == 0
    assert significance(1, 0) == np.inf
    assert significance(1, 0, 2) == 0
    assert significance(1, 1e-300, 2) == pytest.approx(0, abs=1e-100)
    assert np.isfinite(significance(1e-300, 1e-300, 1e-200))
    assert np.isfinite(significance(1e9, 1e-12))


def test_grows_with_signal_and_falls_with_background_and_error():
    s, b, error = np.ogrid[1:50:8j, 1:200:9j, 0:30:7j]
    z = significance(s, b, error)
    assert z.shape == (8, 9, 7)
    assert (np.diff(z, axis=0) > 0).all()
    assert (np.diff(z, axis=2) < 0).all()
    assert (np.diff(significance(s[..., 0], b[..., 0]), axis=1) < 0).all()


def test_scalars_give_a_scalar():
    assert isinstance(significance(1, 2), float)
    assert significance([1, 2], 3).shape == (2,)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((-1, 1), "s is -1;"),
        ((1, [2, -3]), "b is -3 at 1"),
        ((1, 1, np.nan), "background_error is nan"),
        ((np.inf, 1), "s is inf"),
        (([1, 2], [1, 2, 3]), "do not broadcast"),
    ],
)
def test_bad_yields_are_refused(arguments, said):
    with pytest.raises(ManyscaleError, match=said):
        significance(*arguments)


# ---- exact Poisson counts ----


def q0(n, m, tau):
    """The test statistic of the two counts, term by term."""
    b = (n + m) / (1 + tau)
    value = 2 * (xlogy(n, n / b) + xlogy(m, m / (tau * b)))
    return np.where(n * tau > m, value, 0.0)


def all_pairs(s, b, error):
    """Median significance by the sum over all pairs of counts."""
    tau = b / error**2
    n = np.arange(1, int(s + b + 12 * np.sqrt(s + b)) + 40)[:, None].astype(float)
    m = np.arange(int(tau * b + 10 * np.sqrt(tau * b)) + 30)[None, :].astype(float)
    value = q0(n, m, tau)
    of_m = poisson.pmf(m, tau * b)
    with_signal, without = poisson.pmf(n, s + b) * of_m, poisson.pmf(n, b) * of_m
    order = np.argsort(value, axis=None)
    reached = poisson.pmf(0, s + b) + np.cumsum(with_signal.ravel()[order])
    median = value.ravel()[order][np.searchsorted(reached, 0.5)]
    return norm.isf(without[value >= median * (1 - 1e-12)].sum())


@pytest.mark.parametrize(("s", "b"), [(3, 0.5), (5, 2), (8, 0.01), (40, 100), (500, 1000)])
def test_known_background_gives_the_exact_poisson_tail(s, b):
    median = poisson.median(s + b)
    least, most = norm.isf(poisson.sf(median - 1, b)), norm.isf(poisson.sf(median, b))
    assert exact_significance(s, b) == pytest.approx(least, rel=1e-9)
    # A background known nearly as well orders outcomes of the same count.
    assert least < exact_significance(s, b, 1e-4 * b) < most


@pytest.mark.parametrize(
    ("s", "b", "error"),
    [(3, 0.5, 0.15), (5, 0.5, 0.2), (20, 2, 1.5), (50, 100, 10), (700, 1e3, 30)],
)
def test_unknown_background_gives_the_sum_over_both_counts(s, b, error):
    assert exact_significance(s, b, error) == pytest.approx(all_pairs(s, b, error), rel=1e-6)


def test_exact_significance_is_that_of_toys():
    s, b, error = 6.0, 4.0, 1.5
    tau, size = b / error**2, 2_000_000
    generator = np.random.default_rng(3)
    # One more than no event, so that no logarithm of 0 / 0 is taken; q0 is 0 for both.
    with_signal, without = (
        q0(np.maximum(generator.poisson(mean, size), 1), generator.poisson(tau * b, size), tau)
        for mean in (s + b, b)
    )
    p = (without >= np.median(with_signal) * (1 - 1e-12)).mean()
    spread = np.sqrt(p / size) / norm.pdf(norm.isf(p))
    assert exact_significance(s, b, error) == pytest.approx(norm.isf(p), abs=4 * spread)


@pytest.mark.parametrize(("s", "b", "error"), [(300, 1e4, 100), (3000, 1e6, 500), (150, 400, 0)])
def test_many_events_give_the_asymptotic_formula(s, b, error):
    exact, asymptotic = exact_significance(s, b, error), float(significance(s, b, error))
    assert exact == pytest.approx(asymptotic, rel=0.01)
    assert asymptotic_holds(asymptotic, exact)


def test_few_events_are_not_trusted_to_the_formula():
    exact, asymptotic = exact_significance(3, 0.5), float(significance(3, 0.5))
    assert asymptotic > exact + 0.5
    assert not asymptotic_holds(asymptotic, exact)


@pytest.mark.parametrize(("s", "b", "error"), [(1e-3, 50, 5), (1e-6, 3, 1.5), (1e-3, 1, 2)])
def test_faint_signal_has_no_significance(s, b, error):
    # Warnings are errors in tests: none of division by zero where no auxiliary event is counted.
    assert exact_significance(s, b, error) == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize(("s", "b"), [(0, 1), (1, 0), (-1, 1), (1, np.nan), (np.inf, 1)])
def test_exact_counts_need_yields_above_zero(s, b):
    with pytest.raises(ManyscaleError, match="above 0"):
        exact_significance(s, b, 0.1)


def test_error_of_exact_counts_must_not_be_negative():
    with pytest.raises(ManyscaleError, match="background_error is -1"):
        exact_significance(1, 1, -1)
