"""From scored events to limits: hypotheses, templates of systematics, errors of the simulation."""

import numpy as np
import pytest

from helpers.scored import HH, QCD, TTBAR, scored_events
from manyscale.card import parse_card
from manyscale.errors import CardError, ManyscaleError
from manyscale.evaluation.limits import (
    LimitSettings,
    fill_templates,
    hypotheses,
    hypothesis_limits,
)
from manyscale.evaluation.systematics import Normalisation, Shape, Varied

pytest.importorskip("pyhf")

HEAVY = HH.model_copy(update={"name": "hh_1500", "cross_section": 0.001})
SIGNAL = hypotheses([HH, QCD, TTBAR], None)


def filled(events, scores, variations=(), seed=1, **settings):
    return fill_templates(
        "network", scores, events, variations, SIGNAL, settings=LimitSettings(**settings), seed=seed
    )


def limits_of(events, scores, variations=(), seed=1, **settings):
    """What limits.json says of the one hypothesis."""
    return hypothesis_limits(filled(events, scores, variations, seed, **settings), SIGNAL[0])[0]


def test_all_signal_is_one_hypothesis_or_each_by_its_mass():
    (together,) = hypotheses([HH, QCD, HEAVY], None)
    assert together.name == "hh4b + hh_1500"
    assert together.cross_section == pytest.approx((0.002 + 0.001) * 1.5 * 1000)
    apart = hypotheses([HEAVY, HH, QCD], {"hh_1500": 1500.0, "hh4b": 1000.0})
    assert [(one.name, one.mass) for one in apart] == [("hh4b", 1000), ("hh_1500", 1500)]
    assert apart[1].cross_section == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("masses", "said"),
    [
        ({"hh4b": 1000.0, "hx": 1.0}, "no signal process 'hx'; they have hh4b, hh_1500"),
        ({"hh4b": 1000.0, "hh_1500": 1.0, "qcd": 1.0}, "no signal process 'qcd'"),
        ({"hh4b": 1000.0}, "no mass is given of the signal hh_1500"),
    ],
)
def test_masses_must_fit_to_the_data(masses, said):
    with pytest.raises(CardError, match=said):
        hypotheses([HH, QCD, HEAVY], masses)


def test_signal_without_cross_section_is_named():
    with pytest.raises(ManyscaleError, match="cross section is known of the signal 'hh4b'"):
        hypotheses([HH.model_copy(update={"cross_section": None})], None)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("edges=[0, 0.5, 0.4, 1]", "rise"),
        ("edges=[0, 1.5]", "between 0 and 1"),
        ("edges=[0.5]", "edges"),
        ("bins=0", "bins"),
        ("floor=0.5", "floor"),
    ],
)
def test_bad_settings_are_refused(setting, said):
    with pytest.raises(CardError, match=said):
        parse_card("", "card", [f"evaluation.limits.{setting}"])


def test_systematics_make_the_limit_worse_and_statistics_alone_stay():
    events, scores = scored_events()
    plain = limits_of(events, scores)
    higher = Varied({"network": scores + 0.02 * scores * (1 - scores)}, events.weight)
    moved = [Normalisation("rate", ("ttbar",), 1.3, 1 / 1.3), Shape("jes", ("qcd",), higher, None)]
    worse = limits_of(events, scores, moved)
    assert worse.mu["0"] > 1.02 * plain.mu["0"]
    assert worse.significance < plain.significance
    assert worse.mu_statistics_only == plain.mu_statistics_only
    assert worse.significance_statistics_only == plain.significance_statistics_only
    assert plain.mu["0"] == pytest.approx(plain.mu_statistics_only, rel=1e-3)
    assert plain.significance == pytest.approx(plain.significance_statistics_only, rel=1e-6)


def test_error_of_the_background_is_of_simulation_and_systematics():
    events, scores = scored_events()
    heavier = events.weight * np.where(events.process == 1, 1.2, 1)
    moved = [
        Normalisation("rate", ("qcd", "ttbar"), 1.1, 0.9),
        Shape("up", ("qcd",), Varied({"network": scores}, heavier), None),
    ]
    templates = filled(events, scores, moved)
    nominal = templates.nominal
    squares = nominal.background_variance + (0.1 * nominal.background) ** 2
    squares += (0.2 * nominal.content[1]) ** 2
    assert templates.background_error == pytest.approx(np.sqrt(squares))


def test_error_from_the_simulation_is_the_spread_of_other_simulations():
    edges = (0.0, 0.4, 0.7, 1.0)
    found = []
    for seed in range(24):
        events, scores = scored_events(seed, signal=400, background=1500)
        found.append(limits_of(events, scores, edges=edges))
    for value, error in (
        ([one.mu["0"] for one in found], [one.mu_error for one in found]),
        ([one.significance for one in found], [one.significance_error for one in found]),
    ):
        assert np.mean(error) == pytest.approx(np.std(value, ddof=1), rel=0.4)


def test_more_events_make_the_error_smaller():
    errors = []
    for size in (500, 8000):
        events, scores = scored_events(signal=size, background=3 * size)
        one = limits_of(events, scores, edges=(0.0, 0.4, 0.7, 1.0))
        errors.append(one.mu_error / one.mu["0"])
    assert errors[1] < 0.5 * errors[0]


def test_the_same_seed_gives_the_same_figures():
    events, scores = scored_events(signal=500, background=2000)
    one, again, other = (limits_of(events, scores, seed=seed) for seed in (1, 1, 2))
    assert one == again
    assert one.mu_error != other.mu_error
    assert (one.mu, one.significance) == (other.mu, other.significance)


def test_what_may_not_be_trusted_is_said():
    events, scores = scored_events(yields=(3.0, 100.0, 10.0))
    (chosen, *few) = filled(events, scores).notices
    assert chosen.startswith("network: the bins are chosen on the same events")
    assert "fewer than 5 expected background events" in few[0]
    given = filled(events, scores, edges=(0.3, 0.6, 0.97, 1.0), floor=100).notices
    assert any("fewer than 100 effective simulated background events" in line for line in given)
    assert any("leave out" in line for line in given)
    assert not any("same events" in line for line in given)


def test_given_edges_without_background_are_refused():
    events, scores = scored_events(background=100)
    with pytest.raises(ManyscaleError, match=r"bin 2 of 2, scores from 0\.999 to 1, holds no back"):
        filled(events, scores, edges=(0.0, 0.999, 1.0))


def test_given_edges_without_signal_are_refused():
    events, scores = scored_events()
    events = events._replace(weight=events.weight * (~events.signal | (scores > 0.5)))
    with pytest.raises(ManyscaleError, match="no signal is expected in the templates"):
        limits_of(events, scores, edges=(0.0, 0.2, 0.4))


def test_strength_may_go_beyond_the_limit_that_systematics_make_worse():
    events, scores = scored_events(yields=(30.0, 2e7, 5e6))
    huge = [Normalisation("rate", ("qcd", "ttbar"), 2.0, 0.5)]
    templates = filled(events, scores, huge, edges=(0.0, 1.0))
    found, space = hypothesis_limits(templates, SIGNAL[0])
    assert found.mu["0"] > 10 * found.mu_statistics_only
    (parameter,) = space.content["measurements"][0]["config"]["parameters"]
    assert parameter["bounds"] == [[0.0, pytest.approx(10 * found.mu["2"])]]


@pytest.mark.parametrize(
    ("numbers", "what"),
    [({"signal": 1}, "signal hh4b"), ({"background": 2, "yields": (30, 9, 9)}, "background")],
)
def test_too_few_simulated_events_for_an_error_are_said(numbers, what):
    events, scores = scored_events(**numbers)
    with pytest.raises(ManyscaleError, match=f"so few simulated events of the {what}"):
        limits_of(events, scores, edges=(0.0, 1.0))
