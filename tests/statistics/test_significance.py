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
from manyscale.statistics.significance import significance, simulated_significance


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
