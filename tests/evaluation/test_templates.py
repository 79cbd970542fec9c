"""Templates against numpy's histograms, and what is refused."""

import numpy as np
import pytest

from helpers.scored import HH, QCD, scored_events
from manyscale.errors import ManyscaleError
from manyscale.evaluation.templates import Templates, check_background
from manyscale.evaluation.yields import ScaledEvents
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
