"""The ratio of background rejections and its error."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manyscale.explanation.rejection import RejectionLoss, working_point
from manyscale.statistics.metrics import background_rejection
from manyscale.statistics.sample import Sample


def sample(seed, events=400, distance=1.5):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, events)
    return Sample.of(label, rng.normal(size=events) + distance * label, rng.uniform(0.5, 2, events))


def rejection(of, scores=None):
    scores = of.scores if scores is None else scores
    return background_rejection(of.signal, scores, of.weights)["0.70"]["value"]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), decimals=st.integers(0, 3))
def test_it_is_the_ratio_of_rejections_ties_included(seed, decimals):
    of = sample(seed)._replace(scores=sample(seed).scores.round(decimals))
    other = of.scores + np.random.default_rng(seed).normal(size=len(of.scores)).round(decimals)
    loss = RejectionLoss(of, 0.7, np.random.default_rng(0))
    found = loss.of([other])
    assert loss.rejection == pytest.approx(rejection(of))
    assert found.value == pytest.approx(rejection(of) / rejection(of, other))
    assert found.low < found.value < found.high


def test_nothing_lost_is_one_without_error():
    of = sample(1)
    assert RejectionLoss(of, 0.7, np.random.default_rng(0)).of([of.scores] * 3) == (1, 1, 1)


def test_the_error_is_the_spread_over_samples():
    logs, errors = [], []
    for seed in range(60):
        of = sample(seed)
        noise = np.random.default_rng(1000 + seed).normal(size=len(of.scores))
        found = RejectionLoss(of, 0.7, np.random.default_rng(seed)).of([of.scores + noise])
        logs.append(math.log(found.value))
        errors.append(math.log(found.high / found.low) / 2)
    assert np.mean(errors) == pytest.approx(np.std(logs), rel=0.35)


def test_a_pair_of_opposite_weights_changes_no_value():
    of = sample(2)
    pair = Sample(
        np.append(of.signal, [False, False]),
        np.append(of.scores, [9.0, 9.0]),
        np.append(of.weights, [1.0, -1.0]),
    )
    other = np.random.default_rng(0).normal(size=len(of.scores))
    plain = RejectionLoss(of, 0.7, np.random.default_rng(0)).of([other])
    paired = RejectionLoss(pair, 0.7, np.random.default_rng(0)).of([np.append(other, [9.0, 9.0])])
    assert paired.value == pytest.approx(plain.value)


def test_the_working_point_leaves_background():
    assert working_point(sample(1)) == 0.7
    good = sample(1, distance=2.5)
    assert working_point(good) in {0.9, 0.95}
    assert working_point(sample(1, distance=50.0)) is None


def test_no_background_left_is_no_ratio():
    of = sample(1, distance=50.0)
    assert math.isinf(RejectionLoss(of, 0.7, np.random.default_rng(0)).rejection)
    assert RejectionLoss(of, 0.7, np.random.default_rng(0)).of([-of.scores]) is None
