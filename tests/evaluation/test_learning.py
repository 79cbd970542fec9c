"""Learning curves: laws that are known, the events that they need, and how well that is said."""

import numpy as np
import pytest

from manyscale.evaluation.learning import fit_power_law, learning_curves
from manyscale.evaluation.results import ComparisonRow

SIZES = (1000, 3000, 10_000, 30_000, 100_000)


def rows(law, sizes=SIZES, error=0.02, name="network", random=None):
    """Rows whose 1 - AUC and background efficiency are a law of the size."""
    found = []
    for size in sizes:
        value = law(size)
        if random is not None:
            value *= 1 + error * random.normal()
        point = {
            "value": 1 / value,
            "low": 1 / value / (1 + error),
            "high": 1 / value / (1 - error),
        }
        found.append(
            ComparisonRow(
                name=name,
                size=size,
                auc=1 - value,
                auc_error=error * value,
                background_rejection={"0.70": point},
            )
        )
    return found


def test_a_law_is_found_again_with_what_it_needs():
    def law(n):
        return 0.004 + 2.0 * n**-0.5

    area, share = learning_curves(rows(law, error=1e-3), target=100)
    assert (area.figure, share.figure) == ("1 - AUC", "background efficiency at 0.70")
    for curve in (area, share):
        assert (curve.law.a, curve.law.b, curve.law.c) == pytest.approx((0.004, 2, 0.5), rel=0.02)
        assert curve.law.a_error > 0
    assert share.needed == pytest.approx((2.0 / 0.006) ** 2, rel=0.05)
    assert share.needed_low < share.needed < share.needed_high
    beyond = learning_curves(rows(law, error=1e-3), target=500)[1]
    assert (beyond.needed, beyond.needed_low, beyond.needed_high) == (None, None, None)


def test_three_sizes_have_a_line_without_a_floor_and_one_has_none():
    line = learning_curves(rows(lambda n: 3 * n**-0.4, sizes=SIZES[:3]))[1]
    assert (line.law.a, line.law.a_error) == (0, None)
    assert (line.law.b, line.law.c) == pytest.approx((3, 0.4), rel=0.02)
    # Without a target: the best rejection at the largest size.
    assert line.needed == pytest.approx(10_000, rel=0.02)
    alone = learning_curves(rows(lambda n: 3 * n**-0.4, sizes=SIZES[:1]))[1]
    assert alone.law is None
    assert "one size" in alone.notice


def test_classifiers_that_learn_nothing_or_know_no_error_have_no_law_to_trust():
    never = learning_curves(rows(lambda n: 0.5, name="constant"), target=10)[1]
    assert never.needed is None
    exact = rows(lambda n: 0.5, name="exact")
    exact = [row.model_copy(update={"auc_error": 0.0}) for row in exact]
    assert learning_curves(exact)[0].law is None


def test_a_size_with_no_background_left_counts_as_none_with_an_error():
    found = rows(lambda n: 2 * n**-0.5)
    last = {"0.70": {"value": None, "low": 500, "high": None}}
    found[-1] = ComparisonRow.model_validate(found[-1].plain() | {"background_rejection": last})
    share = learning_curves(found)[1]
    assert share.points[-1].value == 0
    assert share.points[-1].error == pytest.approx(1 / 500)
    assert share.law.c == pytest.approx(0.5, abs=0.1)
    assert share.target == pytest.approx(1 / 500)


def test_intervals_of_needed_events_cover_what_they_say():
    random = np.random.default_rng(0)
    inside = []
    for _ in range(100):
        curve = learning_curves(
            rows(lambda n: 3 * n**-0.4, sizes=SIZES[:3], error=0.05, random=random), target=30
        )[1]
        inside.append(curve.needed_low < (3 * 30) ** 2.5 < curve.needed_high)
    assert np.mean(inside) == pytest.approx(0.683, abs=3 * 0.047)


def test_replicas_are_fitted_each_by_itself():
    sizes, errors = np.array([10.0, 100.0, 1000.0, 1e4]), np.full(4, 0.01)
    values = np.array([[0.1 + 2 * n**-0.6 for n in sizes], [5 * n**-1.2 for n in sizes]])
    together = np.array(fit_power_law(sizes, values, errors))
    alone = [np.array(fit_power_law(sizes, values[[k]], errors))[:, 0] for k in (0, 1)]
    np.testing.assert_allclose(together, np.transpose(alone))
    np.testing.assert_allclose(together, [[0.1, 0], [2, 5], [0.6, 1.2]], atol=1e-6)
