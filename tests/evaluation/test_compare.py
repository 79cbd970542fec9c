"""Classifiers beside each other, and the error of a mean over trainings that share test events."""

import numpy as np
import pytest
from scipy.special import ndtr
from sklearn.metrics import roc_auc_score

from manyscale.evaluation.compare import ClassifierScores, Training, compare
from manyscale.statistics.metrics import auc, auc_difference, auc_error, evaluate


def training(generator, shifts=(2.0, 1.0), events=500, ids=None, scores=None):
    """One training of classifiers whose signal stands by so many deviations above background."""
    labels = generator.integers(0, 2, events)
    if scores is None:
        shared = generator.normal(size=events)
        scores = {
            f"shift {shift:g}": ndtr((shift * labels + shared + generator.normal(size=events)) / 2)
            for shift in shifts
        }
    else:
        scores = {name: values(labels) for name, values in scores.items()}
    ids = np.arange(events, dtype=np.uint64) if ids is None else ids
    classifiers = {name: ClassifierScores(values) for name, values in scores.items()}
    return Training(ids, labels, np.ones(events), classifiers)


def in_folds(generator, folds, **given):
    """Trainings that share no test event."""
    return [
        training(generator, ids=np.arange(500 * k, 500 * (k + 1), dtype=np.uint64), **given)
        for k in range(folds)
    ]


def test_rows_hold_the_figures_of_each_and_the_paired_difference_to_the_first():
    one = training(np.random.default_rng(0))
    good, bad = one.classifiers["shift 2"].scores, one.classifiers["shift 1"].scores
    classifiers = {"model": ClassifierScores(good, 10, 5.0, 3.0), "trees": ClassifierScores(bad)}
    rows = compare([Training(one.event_ids, one.labels, one.weights, classifiers)])
    first, second = (row.plain() for row in rows)
    assert "difference" not in first
    assert (first["parameters"], first["events_per_second"], first["seconds"]) == (10, 5, 3)
    figures = evaluate(one.labels, bad)
    assert (second["auc"], second["auc_error"]) == pytest.approx(
        (figures["auc"], figures["auc_error"])
    )
    for key, point in figures["background_rejection"].items():
        assert second["background_rejection"][key] == pytest.approx(point)
    assert (second["parameters"], second.get("seconds")) == (None, None)
    assert second["difference_to"] == "model"
    expected = auc_difference(one.labels, bad, good)
    assert (second["difference"], second["difference_error"]) == pytest.approx(expected)
    ratio = second["rejection_ratio"]["0.70"]
    rejections = [row["background_rejection"]["0.70"]["value"] for row in (second, first)]
    assert ratio["value"] == pytest.approx(rejections[0] / rejections[1])
    assert ratio["low"] < ratio["value"] < ratio["high"] < 1


def test_folds_are_averaged_and_never_ranked_against_each_other():
    """The scores of each fold stand on a scale of their own, which means nothing."""
    generator = np.random.default_rng(3)
    folds = in_folds(generator, 4)
    (plain, other) = compare(folds)
    moved = [
        Training(
            fold.event_ids,
            fold.labels,
            fold.weights,
            {
                name: ClassifierScores((one.scores + k) / 9)
                for name, one in fold.classifiers.items()
            },
        )
        for k, fold in enumerate(folds)
    ]
    assert compare(moved) == [plain, other]
    joined = [np.concatenate([m.classifiers["shift 2"].scores for m in moved])]
    labels = np.concatenate([m.labels for m in moved])
    assert roc_auc_score(labels, joined[0]) < plain.auc - 0.1
    areas = [auc(f.labels, f.classifiers["shift 2"].scores) for f in folds]
    assert plain.auc == pytest.approx(np.mean(areas))
    assert plain.auc_spread == pytest.approx(np.std(areas, ddof=1))
    # In closed form: signal and background are normal, 2 apart, each of variance 2.
    assert plain.auc == pytest.approx(ndtr(2 / 2), abs=3 * plain.auc_error)
    passing = np.mean(
        [
            1
            / evaluate(f.labels, f.classifiers["shift 2"].scores)["background_rejection"]["0.50"][
                "value"
            ]
            for f in folds
        ]
    )
    assert plain.background_rejection["0.50"].value == pytest.approx(1 / passing)


def test_error_is_never_less_than_the_statistical_one_and_grows_with_the_spread():
    generator = np.random.default_rng(4)
    fold = training(generator)
    errors = auc_error(fold.labels, fold.classifiers["shift 2"].scores)
    # The same figures twice, of other events: no spread.
    again = Training(fold.event_ids + np.uint64(500), fold.labels, fold.weights, fold.classifiers)
    assert compare([fold, again])[0].auc_error == pytest.approx(errors / np.sqrt(2))
    # Of the same events: the second says nothing new.
    assert compare([fold, fold])[0].auc_error == pytest.approx(errors)
    worse = training(generator, shifts=(0.0, 1.0), ids=again.event_ids)
    worse = Training(
        worse.event_ids,
        worse.labels,
        worse.weights,
        dict(zip(fold.classifiers, worse.classifiers.values(), strict=True)),
    )
    (row, _) = compare([fold, worse])
    assert row.auc_error == pytest.approx(row.auc_spread / np.sqrt(2))


def test_a_fold_without_background_left_is_one_of_zero_passing():
    def apart(labels):
        return labels * 0.5 + 0.25

    def mixed(labels):
        return np.where(np.arange(len(labels)) < 50, 0.75, labels * 0.5 + 0.25)

    generator = np.random.default_rng(5)
    clean, dirty = (
        in_folds(generator, 2, scores={"a": apart}),
        in_folds(generator, 2, scores={"a": mixed}),
    )
    (none,) = compare(clean)
    point = none.background_rejection["0.70"]
    assert (point.value, point.high) == (None, None)
    background = sum((fold.labels == 0).sum() for fold in clean)
    assert point.low == pytest.approx(1 / (1 - 0.15865 ** (1 / background)), rel=1e-3)
    (some,) = compare([clean[0], dirty[1]])
    share = ((dirty[1].labels == 0)[:50]).sum() / (dirty[1].labels == 0).sum()
    assert some.background_rejection["0.70"].value == pytest.approx(2 / share)


def test_constant_scores_know_nothing_and_break_nothing():
    generator = np.random.default_rng(6)
    scores = {
        "network": lambda labels: np.full(len(labels), 0.5),
        "trees": lambda labels: ndtr(labels + generator.normal(size=len(labels))),
    }
    first, second = compare(in_folds(generator, 3, scores=scores))
    assert (first.auc, first.auc_error, first.auc_spread) == pytest.approx((0.5, 0, 0))
    point = first.background_rejection["0.70"]
    assert (point.value, point.low, point.spread) == pytest.approx((1, 1, 0))
    assert point.high == pytest.approx(1, abs=0.01)
    assert second.difference > 5 * second.difference_error > 0
    assert second.rejection_ratio["0.70"].low > 1


@pytest.mark.parametrize("share", [None, 0.3])
def test_errors_cover_what_they_say(share):
    """Means over five trainings of varying quality; the test samples are folds, or overlap."""
    generator = np.random.default_rng(1)
    n, events, shifts, noise, width = 5, 1200, {"good": 1.5, "bad": 1.2}, 0.5, np.sqrt(1.25)
    areas = {name: ndtr(shift / width / np.sqrt(2)) for name, shift in shifts.items()}
    # Of the background as much lies above the median of the signal, which stands at the shift.
    passing = {name: ndtr(-shift / width) for name, shift in shifts.items()}
    covered = []
    for _ in range(120):
        labels = generator.integers(0, 2, events)
        common = generator.normal(size=events)
        own = {name: common + noise * generator.normal(size=events) for name in shifts}
        places = generator.permutation(events)
        trainings = []
        for k in range(n):
            chosen = places[k::n]
            if share is not None:
                chosen = generator.permutation(events)[: int(share * events)]
            move = generator.normal(0, 0.05)
            scores = {
                name: ClassifierScores((shift + move) * labels[chosen] + own[name][chosen])
                for name, shift in shifts.items()
            }
            ids = chosen.astype(np.uint64)
            trainings.append(Training(ids, labels[chosen], np.ones(len(chosen)), scores))
        good, bad = compare(trainings, (0.5,))
        point = bad.rejection_ratio["0.50"]
        covered.append(
            (
                abs(good.auc - areas["good"]) < good.auc_error,
                abs(bad.difference - areas["bad"] + areas["good"]) < bad.difference_error,
                point.low < passing["good"] / passing["bad"] < point.high,
            )
        )
    area, difference, ratio = np.mean(covered, axis=0)
    # 68.3% within three standard deviations of so many tries; more where the maximum was taken.
    deviation = np.sqrt(0.683 * 0.317 / len(covered))
    for found in (area, difference):
        assert 0.683 - 3 * deviation < found < 0.683 + 4 * deviation
    # The cuts are taken as given: what the signal fluctuates is not in it.
    assert 0.5 < ratio < 0.683 + 4 * deviation
