"""Templates against numpy's histograms; chosen bins: enough background, as good as the best."""

from itertools import combinations

import numpy as np
import pytest

from helpers.scored import HH, QCD, scored_events
from manyscale.errors import ManyscaleError
from manyscale.evaluation.templates import Templates, best_edges, check_background
from manyscale.evaluation.yields import ScaledEvents
from manyscale.statistics.exclusion import statistics_only
from manyscale.statistics.sample import effective_events

EDGES = np.array([0.0, 0.2, 0.5, 0.9, 1.0])


def test_templates_agree_with_histograms():
    events, scores = scored_events(negative=0.2)
    scores[:3] = (0.0, 0.5, 1.0)
    templates = Templates.of(scores, events, EDGES)
    for place in range(3):
        some = events.process == place
        for power, found in ((1, templates.content), (2, templates.squares), (0, templates.counts)):
            expected, _ = np.histogram(scores[some], EDGES, weights=events.weight[some] ** power)
            assert found[place] == pytest.approx(expected)
    assert templates.background == pytest.approx(templates.content[1:].sum(axis=0))
    assert templates.content.sum() == pytest.approx(events.weight.sum())
    assert templates.signal(["hh4b"]) == pytest.approx(templates.content[0])
    last = events.weight[(events.process == 1) & (scores < 0.2)]
    assert templates.n_effective[1, 0] == pytest.approx(effective_events(last))


def test_events_outside_are_left_out():
    events, scores = scored_events()
    templates = Templates.of(scores, events, [0.4, 0.6])
    inside = (scores >= 0.4) & (scores <= 0.6)
    assert templates.content.sum() == pytest.approx(events.weight[inside].sum())


def test_background_that_nothing_is_seen_of_counts_with_the_error_of_one_event():
    events = ScaledEvents((HH, QCD), np.array([0, 1, 1, 1]), np.array([1.0, 2, 4, 2]), 1.0)
    templates = Templates.of([0.9, 0.1, 0.1, 0.1], events, [0, 0.5, 1])
    assert templates.background.tolist() == [8, 0]
    assert templates.background_variance.tolist() == [24, 8]
    assert templates.n_effective[1].tolist() == [64 / 24, 0]


def test_merging_is_filling_wider_bins():
    events, scores = scored_events(negative=0.2)
    merged = Templates.of(scores, events, EDGES).merged([0, 2])
    wide = Templates.of(scores, events, EDGES[[0, 2, 4]])
    assert merged.edges.tolist() == wide.edges.tolist()
    for name in ("content", "squares", "counts", "variance", "one_event"):
        assert getattr(merged, name) == pytest.approx(getattr(wide, name))


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ([1.0, 1.0, 1.0], r"bin 2 of 2, scores from 0.5 to 1, holds no background"),
        ([1.0, 1.0, -2.0], r"bin 1 of 2, scores from 0 to 0.5, holds -1 background events"),
    ],
)
def test_bin_without_background_is_named(weights, said):
    events = ScaledEvents((HH, QCD), np.array([0, 1, 1]), np.array(weights), 1.0)
    with pytest.raises(ManyscaleError, match=said):
        check_background(Templates.of([0.9, 0.1, 0.2], events, [0, 0.5, 1]))


def test_background_everywhere_is_let_pass():
    check_background(Templates.of(*scored_events()[::-1], EDGES))


@pytest.mark.parametrize(
    ("scores", "said"), [([0.5], "1 scores for 2 events"), ([0.5, np.nan], "event 1 has no score")]
)
def test_bad_scores_are_refused(scores, said):
    events = ScaledEvents((HH, QCD), np.array([0, 1]), np.ones(2), 1.0)
    with pytest.raises(ManyscaleError, match=said):
        Templates.of(scores, events, [0, 1])


# ---- the choice of the bins ----

SIGNAL = [["hh4b"]]


def limit(scores, events, edges):
    templates = Templates.of(scores, events, edges)
    error = np.sqrt(templates.background_variance)
    return statistics_only(templates.signal(["hh4b"]), templates.background, error).limits[0]


def smallest_background(scores, events, edges):
    """Effective background events of the bin that has fewest."""
    templates = Templates.of(scores, events, edges)
    variance = np.maximum(templates.background_variance, 1e-300)
    return (templates.background**2 / variance).min()


@pytest.mark.parametrize("negative", [0.0, 0.3])
@pytest.mark.parametrize("bins", [1, 4, 10])
def test_bins_hold_the_floor_and_are_as_few_as_asked_for(bins, negative):
    events, scores = scored_events(negative=negative)
    edges = best_edges(scores, events, SIGNAL, bins=bins, floor=20)
    assert len(edges) <= bins + 1
    assert (edges[0], edges[-1]) == (0, 1)
    assert (np.diff(edges) > 0).all()
    assert (Templates.of(scores, events, edges).background > 0).all()
    assert smallest_background(scores, events, edges) >= 20


def test_more_bins_are_better_and_the_signal_rich_end_is_split():
    events, scores = scored_events()
    limits = [
        limit(scores, events, best_edges(scores, events, SIGNAL, bins=bins, floor=10))
        for bins in (1, 2, 4, 8)
    ]
    assert limits == sorted(limits, reverse=True)
    assert limits[-1] < 0.5 * limits[0]
    edges = best_edges(scores, events, SIGNAL, bins=8, floor=10)
    rare = np.quantile(scores[~events.signal], 0.95)
    assert (edges > rare).sum() >= 5


def test_greedy_choice_is_near_the_best_of_all():
    events, scores = scored_events()
    found = limit(scores, events, best_edges(scores, events, SIGNAL, bins=3, floor=10))
    grid = np.linspace(0.05, 0.95, 37)
    every = [np.array([0, *pair, 1]) for pair in combinations(grid, 2)]
    sound = [edges for edges in every if smallest_background(scores, events, edges) >= 10]
    assert len(sound) > 300
    assert found < 1.05 * min(limit(scores, events, edges) for edges in sound)


def test_ratio_of_signal_to_background_rises_with_the_score():
    for seed in range(5):
        events, scores = scored_events(seed)
        edges = best_edges(scores, events, SIGNAL, bins=10, floor=10)
        templates = Templates.of(scores, events, edges)
        assert (np.diff(templates.signal(["hh4b"]) / templates.background) > 0).all()


def test_cross_section_of_the_signal_does_not_matter():
    events, scores = scored_events()
    faint, strong = (
        events._replace(weight=events.weight * np.where(events.signal, factor, 1))
        for factor in (1e-7, 1e7)
    )
    edges = best_edges(scores, faint, SIGNAL, bins=6, floor=10)
    assert best_edges(scores, strong, SIGNAL, bins=6, floor=10).tolist() == edges.tolist()


def test_process_that_one_event_of_would_outweigh_the_bin_closes_none():
    # Of the heavy background nothing is seen at high scores, but one event of it would matter.
    events, scores = scored_events()
    heavy = events.weight * np.where(events.process == 1, 500.0, 1.0)
    edges = best_edges(scores, events._replace(weight=heavy), SIGNAL, bins=10, floor=10)
    last = Templates.of(scores, events._replace(weight=heavy), edges)
    assert last.counts[1, -1] >= 5


def test_saturated_scores_give_one_bin():
    events, scores = scored_events()
    edges = best_edges(np.ones_like(scores), events, SIGNAL, bins=10, floor=10)
    assert edges.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ([1, 1, 1], r"has 2 effective events, and a bin of the templates needs 10"),
        ([1, 1, -1], r"has 0 effective events"),
        ([1, 0, 0], r"has 0 effective events"),
    ],
)
def test_too_little_background_is_said(weights, said):
    events = ScaledEvents((HH, QCD), np.array([0, 1, 1]), np.array(weights, float), 1.0)
    with pytest.raises(ManyscaleError, match=said):
        best_edges([0.9, 0.4, 0.5], events, SIGNAL, bins=10, floor=10)


def test_signal_without_events_is_named():
    events, scores = scored_events()
    with pytest.raises(ManyscaleError, match="no expected events of the signal other"):
        best_edges(scores, events, [["other"]], bins=10, floor=10)
