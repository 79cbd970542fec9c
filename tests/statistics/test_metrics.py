"""AUC, its errors and the other figures of merit, against definitions and known answers."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import roc_auc_score

from manyscale.errors import ManyscaleError
from manyscale.statistics.metrics import (
    accuracy,
    auc,
    auc_difference,
    auc_error,
    auc_loss,
    background_rejection,
    confusion_matrix,
    evaluate,
    log_loss,
    roc_curve,
    separation,
)
from manyscale.statistics.sample import Sample, effective_events


def toy(seed, events=400, shift=1.0, *, ties=False):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, events)
    scores = generator.normal(size=events) + shift * labels
    if ties:
        scores = np.round(scores * 2) / 2
    return labels, scores


def pairs(labels, scores):
    x, y = scores[labels == 1], scores[labels == 0]
    return (x[:, None] > y) + 0.5 * (x[:, None] == y)


def delong_by_pairs(labels, scores):
    """The textbook's O(m n) estimator."""
    psi = pairs(labels, scores)
    m, n = psi.shape
    return np.sqrt(psi.mean(1).var(ddof=1) / m + psi.mean(0).var(ddof=1) / n)


@pytest.mark.parametrize("ties", [False, True])
def test_auc_and_error_are_those_of_all_pairs(ties):
    labels, scores = toy(1, ties=ties)
    assert auc(labels, scores) == pytest.approx(pairs(labels, scores).mean(), rel=1e-14)
    assert auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), rel=1e-14)
    assert auc_error(labels, scores) == pytest.approx(delong_by_pairs(labels, scores), rel=1e-12)


@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.integers(0, 6), st.integers(0, 5)), min_size=2, max_size=40
    )
)
def test_integer_weights_are_repeated_events_exactly(events):
    labels, scores, weights = np.array([*events, (0, 3, 1), (1, 3, 2)]).T
    again = np.repeat(np.arange(len(labels)), weights)
    assert auc(labels, scores, weights) == auc(labels[again], scores[again])
    assert evaluate(labels, scores / 6, weights)["auc"] == auc(labels[again], scores[again])


@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.floats(0, 1, width=32), st.integers(0, 9)),
        min_size=2,
        max_size=60,
    )
)
def test_every_figure_of_integer_weights_is_that_of_repeated_events_to_the_bit(events):
    labels, scores, weights = map(np.array, zip(*events, (0, 0.3, 1), (1, 0.3, 2), strict=True))
    again = np.repeat(np.arange(len(labels)), weights)
    weighted = (labels, scores, weights)
    repeated = (labels[again], scores[again])
    for figure in (auc, accuracy):
        assert figure(*weighted) == figure(*repeated)
    assert (confusion_matrix(*weighted) == confusion_matrix(*repeated)).all()
    of_weights, of_events = evaluate(*weighted), evaluate(*repeated)
    for name in ("auc", "accuracy"):
        assert of_weights[name] == of_events[name]
    for efficiency, point in of_weights["background_rejection"].items():
        # Intervals differ, and should: one event of weight two knows less than two events.
        assert point["value"] == of_events["background_rejection"][efficiency]["value"]


def test_negative_weights_are_the_difference_of_samples():
    labels, scores = toy(2, 300)
    weights = np.where(np.arange(300) % 5 == 0, -0.5, 1.0)
    psi = pairs(labels, scores)
    w, v = weights[labels == 1], weights[labels == 0]
    assert auc(labels, scores, weights) == pytest.approx(w @ psi @ v / (w.sum() * v.sum()))
    assert 0 < auc_error(labels, scores, weights) < 0.2


def test_zero_weights_and_the_scale_of_weights_change_nothing():
    labels, scores = toy(3)
    weights = np.random.default_rng(0).uniform(0.5, 2, len(labels))
    padded = [np.append(a, b) for a, b in ((labels, [0, 1]), (scores, [9, -9]), (weights, [0, 0]))]
    for figure in (auc, auc_error):
        expected = figure(labels, scores, weights)
        assert figure(*padded) == pytest.approx(expected, rel=1e-12)
        scaled = weights * np.where(labels == 1, 7.0, 0.01)
        assert figure(labels, scores, scaled) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
def test_errors_cover_the_spread_of_toys(weighted):
    generator = np.random.default_rng(4)
    values, errors, differences, paired = [], [], [], []
    for _ in range(600):
        labels = np.repeat([0, 1], 150)
        common = generator.normal(size=300) + labels
        a, b = (common + 0.5 * generator.normal(size=300) for _ in range(2))
        # Weights that depend on what is measured are the hard case.
        weights = (
            np.exp(0.5 * common) * generator.choice([-0.3, 1, 1, 1], 300) if weighted else None
        )
        values.append(auc(labels, a, weights))
        errors.append(auc_error(labels, a, weights))
        difference, error = auc_difference(labels, a, b, weights)
        differences.append(difference)
        paired.append(error)
    # 600 toys know a standard deviation to 3%.
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(np.std(values), rel=0.12)
    assert np.sqrt(np.mean(np.square(paired))) == pytest.approx(np.std(differences), rel=0.12)
    assert np.mean(paired) < 0.8 * np.sqrt(2) * np.mean(errors)


def test_difference_is_antisymmetric_and_zero_with_itself():
    labels, a = toy(5)
    b = a + np.random.default_rng(1).normal(size=len(a))
    difference, error = auc_difference(labels, a, b)
    assert auc_difference(labels, b, a) == pytest.approx((-difference, error))
    assert difference == pytest.approx(auc(labels, a) - auc(labels, b), rel=1e-12)
    assert auc_difference(labels, a, np.exp(a)) == (0.0, 0.0)


def test_loss_against_several_is_that_against_their_mean_auc():
    labels, a = toy(5)
    rng = np.random.default_rng(1)
    others = [a + rng.normal(size=len(a)) for _ in range(4)]
    loss, error = auc_loss(labels, a, others)
    singles = [auc_difference(labels, a, other) for other in others]
    assert loss == pytest.approx(np.mean([difference for difference, _ in singles]))
    # Of four independent disturbances the mean is better known than each.
    assert error < min(single for _, single in singles)
    assert auc_loss(labels, a, others[:1]) == singles[0]


def test_error_of_a_lone_event_is_unknown():
    assert np.isnan(auc_error([0, 0, 1], [0.1, 0.2, 0.3]))
    assert evaluate([0, 0, 1], [0.1, 0.2, 0.3])["auc_error"] is None


def test_roc_curve_has_the_area():
    labels, scores = toy(6, ties=True)
    curve = roc_curve(labels, scores)
    area = np.trapezoid(curve.signal, curve.background)
    assert area == pytest.approx(auc(labels, scores))
    assert curve.threshold[0] == np.inf
    assert (np.diff(curve.threshold) < 0).all()
    for threshold, kept in zip(curve.threshold, curve.signal, strict=True):
        assert kept == pytest.approx((scores[labels == 1] >= threshold).mean())


def test_rejection_of_a_known_sample():
    # Signal at 0.01, 0.02, ..., 1; background likewise, each a quarter as high.
    signal = np.arange(1, 101) / 100
    background = signal / 4
    labels = np.repeat([1, 0], 100)
    rejection = background_rejection(labels, np.concatenate([signal, background]))
    # 90% of the signal lies at 0.11 and above, and so do 57 of the background.
    assert rejection["0.90"]["value"] == pytest.approx(100 / 57)
    assert rejection["0.90"]["low"] < 100 / 57 < rejection["0.90"]["high"]
    assert rejection["0.50"]["value"] is None
    assert rejection["0.50"]["high"] is None
    # Nothing of 100 left: the efficiency is below 1 - 0.1587^(1/100).
    assert rejection["0.50"]["low"] == pytest.approx(1 / (1 - 0.15865525**0.01), rel=1e-6)
    assert list(rejection) == ["0.30", "0.50", "0.70", "0.90", "0.95"]


def test_rejection_passes_equal_scores_together():
    rejection = background_rejection([1, 1, 0, 0], [0.5, 0.5, 0.5, 0.1], signal_efficiencies=(0.3,))
    assert rejection["0.30"]["value"] == 2


def test_rejection_is_sharp_at_the_efficiency_asked():
    # Ten signal events of weight 0.1: three of them are 30%, whatever the rounding.
    labels = np.repeat([1, 0], 10)
    scores = np.concatenate([np.arange(10.0), np.arange(10) - 0.5])
    rejection = background_rejection(labels, scores, np.full(20, 0.1), (0.3,))
    assert rejection["0.30"]["value"] == pytest.approx(10 / 2)


def test_rejection_interval_covers_toys():
    generator = np.random.default_rng(7)
    inside = 0
    for _ in range(400):
        scores = np.concatenate([np.linspace(0, 1, 200), generator.uniform(0, 1, 200)])
        entry = background_rejection(np.repeat([1, 0], 200), scores, None, (0.1,))["0.10"]
        inside += entry["low"] <= 10 <= (entry["high"] or np.inf)
    assert 0.66 < inside / 400 < 0.82


def test_rejection_with_weights_of_both_signs_that_leave_none():
    entry = background_rejection(
        [1, 1, 0, 0, 0, 0], [0.9, 0.1, 0.95, 0.94, 0.2, 0.1], [1, 1, 1, -1.5, 2, 2], (0.5,)
    )["0.50"]
    assert entry["value"] is None
    assert entry["low"] > 1


def test_accuracy_and_confusion_matrix():
    labels, scores = [0, 0, 0, 1], [0.2, 0.5, 0.8, 0.9]
    weights = [1.0, 2.0, 3.0, 4.0]
    assert confusion_matrix(labels, scores, weights).tolist() == [[3.0, 3.0], [0.0, 4.0]]
    assert accuracy(labels, scores, weights) == pytest.approx(0.7)


def test_log_loss():
    labels, scores = toy(8)
    probability = 1 / (1 + np.exp(-scores))
    weights = np.random.default_rng(0).uniform(size=len(labels))
    expected = sklearn_log_loss(labels, probability, sample_weight=weights)
    assert log_loss(labels, probability, weights) == pytest.approx(expected, rel=1e-12)
    assert log_loss([0, 1], np.float32([1, 0])) == pytest.approx(-np.log(2**-23), rel=1e-6)


def test_effective_events():
    assert effective_events(np.full(7, 0.3)) == pytest.approx(7)
    assert effective_events([3, -1]) == pytest.approx(0.4)
    assert effective_events([]) == 0


def test_separation_of_known_distributions():
    generator = np.random.default_rng(9)
    labels = np.repeat([1, 0], 50_000)
    same = generator.exponential(size=100_000)
    assert separation(labels, same) < 3 * 40 / 2 / 50_000
    # Uniform on [0, 1] against uniform on [1/2, 3/2]: half of each is apart.
    values = generator.uniform(size=100_000) + 0.5 * labels
    assert separation(labels, values) == pytest.approx(0.5, abs=0.01)
    assert separation(labels, np.exp(values)) == pytest.approx(separation(labels, values), abs=1e-9)


def test_separation_of_shared_values_and_of_missing_ones():
    labels = np.repeat([1, 0], 1000)
    rare = np.zeros(2000)
    rare[:10] = 1.0  # 1% of signal only
    expected = 0.5 * (0.01 + 0.01**2 / 1.99)
    for values in (rare, -rare, np.where(rare == 1, np.nan, 0.0)):
        assert separation(labels, values) == pytest.approx(expected)
    assert separation(labels, np.full(2000, np.nan)) == 0


@given(st.integers(0, 2**32 - 1))
def test_separation_lies_between_zero_and_one_whatever_the_weights(seed):
    generator = np.random.default_rng(seed)
    labels = np.arange(60) % 2
    weights = generator.choice([1.0, 1, -1.3], 60) + np.where(np.arange(60) < 2, 60, 0)
    assert 0 <= separation(labels, generator.integers(0, 6, 60), weights) <= 1 + 1e-12


def test_evaluate_balances_the_classes():
    generator = np.random.default_rng(10)
    labels = np.repeat([1, 0], [100, 900])
    scores = np.clip(generator.normal(0.4, 0.2, 1000) + 0.2 * labels, 0, 1)
    figures = evaluate(labels, scores)
    assert figures == evaluate(labels, np.stack([1 - scores, scores], 1))
    right = (scores > 0.5) == labels
    assert figures["accuracy"] == pytest.approx((right[:100].mean() + right[100:].mean()) / 2)
    assert figures["n_events"] == 1000
    assert figures["n_effective"] == pytest.approx(4 / (1 / 100 + 1 / 900))
    reweighted = evaluate(labels, scores, np.where(labels == 1, 50.0, 0.2))
    for name in ("auc", "auc_error", "accuracy", "loss", "n_effective"):
        assert reweighted[name] == pytest.approx(figures[name], rel=1e-10)
    assert json.loads(json.dumps(figures)) == figures
    assert set(figures) == {
        "auc", "auc_error", "accuracy", "loss", "n_events", "n_effective", "background_rejection",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("labels", "scores", "weights", "said"),
    [
        ([], [], None, "no events"),
        ([0, 1], [0.5], None, "2 labels, 1 scores"),
        ([0, 1], [0.5, 0.5], [1.0], "1 weights"),
        ([0, 1, 1], [0.5, 0.5, np.nan], None, "event 2 has the score nan"),
        ([0, 1], [0.5, 0.5], [np.inf, 1], "event 0 has the weight inf"),
        ([0, 0], [0.5, 0.5], None, "no signal events"),
        ([1, 1], [0.5, 0.5], None, "no background events"),
        ([0, 1, -1], [0.5, 0.5, 0.5], None, "event 2 has the label -1"),
        ([0, 1, 1], [0.5, 0.5, 0.1], [1, 1, -2], "2 signal events sum to -1"),
        ([0, 1], [0.5, 1.5], None, "event 1 has the score 1.5"),
        ([0, 1], np.zeros((2, 3)), None, r"shape \(2, 3\)"),
        ([[0, 1]], [0.5, 0.5], None, r"shapes \(1, 2\)"),
        ([0, 1], ["a", "b"], None, "not numbers"),
    ],
)
def test_bad_input_is_refused(labels, scores, weights, said):
    with pytest.raises(ManyscaleError, match=said):
        evaluate(labels, scores, weights)


def test_a_million_events_take_seconds():
    labels, scores = toy(11, 1_000_000)
    sample = Sample.of(labels, scores)
    assert 0 < auc_error(sample.signal, sample.scores) < 0.001
