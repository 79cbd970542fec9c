"""Classifiers beside each other, and the error of a mean over trainings that share test events."""

import numpy as np
import pytest

from manyscale.evaluation.compare import ClassifierScores, average, compare
from manyscale.evaluation.results import ComparisonRow, Rejection
from manyscale.statistics.metrics import auc_difference, evaluate


def test_rows_hold_the_figures_of_each_and_the_paired_difference_to_the_first():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 500)
    good, bad = (1 / (1 + np.exp(-generator.normal(shift * labels))) for shift in (2, 1))
    classifiers = {"model": ClassifierScores(good, 10, 5.0), "trees": ClassifierScores(bad)}
    first, second = (row.plain() for row in compare(labels, np.ones(500), classifiers))
    assert "difference" not in first
    assert (first["parameters"], first["events_per_second"]) == (10, 5)
    assert second["background_rejection"] == evaluate(labels, bad)["background_rejection"]
    assert (second["parameters"], second["events_per_second"]) == (None, None)
    assert second["difference_to"] == "model"
    expected = auc_difference(labels, bad, good)
    assert (second["difference"], second["difference_error"]) == expected


def row(auc, error, difference=None, rejection=None):
    given = {} if difference is None else {"difference": difference, "difference_error": error}
    points = {} if rejection is None else {"0.50": rejection}
    return ComparisonRow(name="m", auc=auc, auc_error=error, background_rejection=points, **given)


APART = [np.arange(4, dtype=np.uint64), np.arange(4, 8, dtype=np.uint64)]
HALF = [np.arange(4, dtype=np.uint64), np.arange(2, 6, dtype=np.uint64)]


def test_error_adds_what_common_test_events_make_common():
    rows = [[row(0.8, 0.03, 0.1)], [row(0.9, 0.01, 0.3)]]
    (one,) = average(rows, APART)
    assert one.auc == pytest.approx(0.85)
    assert one.auc_error == pytest.approx(0.05)
    assert (one.difference, one.difference_error) == pytest.approx((0.2, 0.1))
    (other,) = average(rows, HALF)
    common = 0.5 * (0.03**2 + 0.01**2) / 2
    assert other.auc_error == pytest.approx(np.sqrt(0.05**2 + common))
    assert other.difference_error == pytest.approx(np.sqrt(0.1**2 + common))
    assert average([[row(0.8, None)], [row(0.9, 0.1)]], APART)[0].auc_error is None


def test_rejections_are_averaged_or_only_limits():
    known = [Rejection(value=value, low=value - 10, high=value + 20) for value in (100, 120)]
    (one,) = average([[row(0.8, 0.1, rejection=point)] for point in known], HALF)
    error = np.sqrt(10**2 + 0.5 * 15**2)
    found = one.background_rejection["0.50"]
    assert (found.value, found.low, found.high) == pytest.approx((110, 110 - error, 110 + error))
    limit = Rejection(value=None, low=70, high=None)
    (one,) = average([[row(0.8, 0.1, rejection=p)] for p in (known[0], limit)], APART)
    assert one.background_rejection["0.50"] == Rejection(value=None, low=70, high=None)


def test_error_covers_where_that_of_independent_trainings_would_not():
    """Mean over ten splits of 2000 events, 30% tested in each; the truth is known."""
    generator = np.random.default_rng(1)
    covered, too_small = 0, 0
    datasets = 400
    for _ in range(datasets):
        events = generator.normal(size=2000)
        trainings, tested = [], []
        for _ in range(10):
            chosen = generator.permutation(2000)[:600].astype(np.uint64)
            # The figure: the mean of the test events, and what the training does to it.
            value = events[chosen].mean() + generator.normal(0, 0.02)
            error = events[chosen].std(ddof=1) / np.sqrt(600)
            trainings.append([row(value, error)])
            tested.append(chosen)
        (one,) = average(trainings, tested)
        covered += abs(one.auc) < one.auc_error
        spread = np.std([rows[0].auc for rows in trainings], ddof=1)
        too_small += abs(one.auc) < spread / np.sqrt(10)
    # 68.3% within three standard deviations of 400 tries.
    assert covered / datasets == pytest.approx(0.683, abs=0.07)
    assert too_small / datasets < 0.5
