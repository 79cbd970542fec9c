"""The combination of two scores against known answers."""

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import norm

from manyscale.errors import ManyscaleError
from manyscale.evaluation.combination import Combination
from manyscale.statistics.metrics import auc

SEPARATIONS = (1.5, 1.0)


def two_scores(seed, events=20_000, separations=SEPARATIONS):
    """Labels, and probabilities by two independent Gaussians that the classes shift."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, events)
    shift = np.array(separations)[:, None] * (labels - 0.5)
    # The logarithm of the ratio of the two densities of each, which is its best logit.
    logits = np.array(separations)[:, None] * generator.normal(shift)
    return labels, *expit(logits)


def test_independent_gaussians_reach_the_closed_form():
    fitted = Combination.fit(*two_scores(0))
    assert (fitted.network, fitted.trees) == pytest.approx((1, 1), abs=0.1)
    assert fitted.intercept == pytest.approx(0, abs=0.05)
    assert (fitted.n_events, fitted.notice) == (20_000, "")
    labels, *scores = two_scores(1)
    # AUC of Gaussians of width one that lie d apart: Phi(d / sqrt 2); independent ones add in quadrature.
    for found, apart in ((scores[0], SEPARATIONS[0]), (fitted(*scores), np.hypot(*SEPARATIONS))):
        assert auc(labels, found) == pytest.approx(norm.cdf(apart / np.sqrt(2)), abs=0.007)


def test_a_logit_that_is_twice_too_sure_counts_half():
    labels, network, trees = two_scores(0)
    sure = expit(2 * np.log(network / (1 - network)))
    fitted, other = Combination.fit(labels, network, trees), Combination.fit(labels, sure, trees)
    assert other.network == pytest.approx(fitted.network / 2, rel=1e-3)
    assert other.trees == pytest.approx(fitted.trees, rel=1e-3)


def test_weights_count_as_events_and_classes_alike():
    labels, network, trees = two_scores(2, 3000)
    times = np.random.default_rng(3).integers(0, 4, 3000)
    weighted = Combination.fit(labels, network, trees, times * np.where(labels == 1, 7.0, 0.1))
    repeated = Combination.fit(*(np.repeat(of, times) for of in (labels, network, trees)))
    assert weighted.network == pytest.approx(repeated.network, rel=2e-3)
    assert weighted.trees == pytest.approx(repeated.trees, rel=2e-3)
    assert weighted.intercept == pytest.approx(repeated.intercept, abs=2e-3)
    assert abs(weighted.network / Combination.fit(labels, network, trees).network - 1) > 0.005


def test_negative_weights_take_away_what_is_too_much():
    labels, network, trees = two_scores(4)
    extra = np.random.default_rng(5).uniform(0.9, 0.99, (2, 4000))
    signs = np.resize([1.0, -1.0], 4000)
    fitted = Combination.fit(
        np.append(labels, np.zeros(4000)),
        np.append(network, extra[0]),
        np.append(trees, extra[1]),
        np.append(np.ones(len(labels)), signs),
    )
    assert (fitted.network, fitted.trees) == pytest.approx((1, 1), abs=0.1)


def test_what_says_nothing_changes_nothing():
    labels, network, _ = two_scores(6, 4000)
    noise = np.random.default_rng(7).random(4000)
    assert Combination.fit(labels, network, noise).trees == pytest.approx(0, abs=0.05)
    flat = np.full(4000, 0.3)
    for trees, said in ((flat, "score of the trees is the same"), (1 - network**2, "below 0")):
        # Reversed, the trees say what the network says: beside it there is nothing in them.
        fitted = Combination.fit(labels, network, trees)
        assert fitted.trees == 0
        assert said in fitted.notice
        found = fitted(network, trees)
        assert (np.argsort(found) == np.argsort(network)).all()
    assert Combination.fit(labels, flat, network).network == 0


def test_probabilities_of_0_and_1_are_finite_and_none_below_1_equals_it():
    labels, network, trees = (of.astype(np.float32) for of in two_scores(8, 2000))
    network[:2], trees[:2], labels[:2] = [0, 1], [0, 1], [0, 1]
    fitted = Combination.fit(labels, network, trees)
    below = np.nextafter(np.float32(1), np.float32(0))
    low, high, highest = fitted(np.float32([0, below, 1]), np.float32([0, below, 1]))
    assert 0 < low < high < highest < 1


def test_classes_that_a_cut_separates_keep_finite_coefficients():
    labels = np.arange(100) % 2
    fitted = Combination.fit(labels, labels * 0.8 + 0.1, labels * 0.6 + 0.2)
    assert 0 < fitted.trees < fitted.network < 10


@pytest.mark.parametrize(
    ("labels", "said"),
    [(np.ones(50), "no background events"), (np.arange(50) % 2, "neither tells")],
)
def test_what_allows_no_combination_is_said(labels, said):
    with pytest.raises(ManyscaleError, match=said):
        Combination.fit(labels, np.full(50, 0.5), np.full(50, 0.5))
