"""Significance and sculpting as drawn, against the numbers beside them."""

import numpy as np
import pytest

from helpers.scored import HH, QCD, TTBAR, scored_events
from manyscale.evaluation.cuts import SYSTEMATICS, scan_cuts
from manyscale.evaluation.limits import (
    LimitSettings,
    fill_templates,
    hypotheses,
    hypothesis_limits,
)
from manyscale.evaluation.sculpting import MassSample, sculpt
from manyscale.evaluation.yields import scale_events
from manyscale.reporting import physics_plots
from manyscale.schema import Process

PROCESSES = (
    Process(name="hh4b", label="signal", cross_section=0.01, sum_weights=1000.0),
    Process(name="qcd", label="background", cross_section=1.0, sum_weights=1000.0),
)


def scan(shift, background=900):
    generator = np.random.default_rng(0)
    process = np.repeat([0, 1], [600, background])
    scores = generator.normal(np.where(process == 0, shift, 0))
    weights = generator.choice([1.0, 1, 1, -0.3], len(process))
    return scan_cuts(scale_events(PROCESSES, process, weights, 3000), scores)


def column(drawn, name, **where):
    keep = np.all([np.array(drawn.table[key]) == value for key, value in where.items()], axis=0)
    return np.array(drawn.table[name])[keep]


def test_significance_has_a_curve_a_systematic_and_a_marker_at_the_best_cut(tmp_path):
    scans = {"network": scan(2.0), "trees": scan(1.5)}
    drawn = physics_plots.significance(scans, 3000)
    drawn.save(tmp_path, "significance")
    panels = drawn.figure.axes
    assert panels[0].get_title("right") == "3,000 fb⁻¹"
    assert len(panels) == 2
    for axes, (name, one) in zip(panels, scans.items(), strict=True):
        for place, systematic in enumerate(SYSTEMATICS):
            values = column(drawn, "significance", classifier=name, systematic=systematic)
            best = column(drawn, "best", classifier=name, systematic=systematic)
            assert best.sum() == 1
            assert values[best] == np.nanmax(values)
            marker = axes.containers[place].lines[0]
            assert marker.get_ydata() == values[best]
            assert marker.get_xdata() == one.signal_efficiency[best]
        # Grey reaches over all cuts that are not considered, and over no other.
        spans = [
            patch.get_extents().transformed(axes.transData.inverted()) for patch in axes.patches
        ]
        grey = np.array([[span.x0, span.x1] for span in spans])
        inside = [
            bool(((grey[:, 0] <= x) & (x <= grey[:, 1])).any()) for x in one.signal_efficiency
        ]
        assert 0 < sum(inside) < len(inside)
        assert inside == (~one.considered).tolist()


def test_significance_of_too_few_events_is_all_grey():
    drawn = physics_plots.significance({"network": scan(2.0, background=5)}, 300)
    assert np.isnan(drawn.table["significance"]).all()
    assert not any(drawn.table["best"])
    (axes,) = drawn.figure.axes
    assert not axes.containers
    assert axes.texts[0].get_text().startswith("grey: under 10 effective")


def test_sculpting_shows_shares_that_add_up_and_their_ratio(tmp_path):
    generator = np.random.default_rng(1)
    mass = generator.exponential(50, 800)
    sample = MassSample.of("m_j1", mass, generator.choice([1.0, 1, 1, -0.3], 800))
    scores = {"network": mass + generator.normal(0, 30, 800), "trees": generator.random(800)}
    found = sculpt(sample, scores, seed=1)
    passing = {
        name: [score >= one.cut for one in getattr(found, name)] for name, score in scores.items()
    }
    drawn = physics_plots.sculpting(sample, passing)
    drawn.save(tmp_path, "sculpting")
    assert "$m_{j1}$ [GeV]" in (tmp_path / "sculpting.svg").read_text(encoding="utf-8")
    for name in scores:
        for kept in (0.5, 0.1, 0.05):
            every, passed, ratio = (
                column(drawn, key, **{"classifier": name, "background kept": kept})
                for key in ("share of all", "share of those that pass", "ratio")
            )
            assert every.sum() == pytest.approx(1)
            assert passed.sum() == pytest.approx(1)
            full = every > 0
            assert ratio[full] == pytest.approx(passed[full] / every[full])


def test_error_of_the_ratio_is_that_of_toys():
    generator = np.random.default_rng(2)
    ratios, errors = [], []
    for _ in range(300):
        mass = generator.random(600) * 100
        scores = (generator.random(600) < 0.3 + 0.4 * (mass > 50)) * 1.0
        sample = MassSample("m", np.linspace(0, 100, 21), (mass // 5).astype(int), np.ones(600))
        one = physics_plots.mass_ratio(sample, scores > 0)
        ratios.append(one[2][3])
        errors.append(one[3][3])
    assert np.mean(errors) == pytest.approx(np.std(ratios), rel=0.15)


(SIGNAL,) = hypotheses([HH, QCD, TTBAR], None)


@pytest.fixture(scope="module")
def found():
    pytest.importorskip("pyhf")
    events, scores = scored_events()
    templates = fill_templates(
        "network", scores, events, [], [SIGNAL], settings=LimitSettings(bins=5), seed=1
    )
    return templates, hypothesis_limits(templates, SIGNAL)[0]


def test_templates_are_stacked_with_the_signal_on_top(found):
    templates, limits = found
    drawn = physics_plots.score_templates(templates, [limits], 3000)
    (axes,) = drawn.figure.axes
    assert axes.get_yscale() == "log"
    values = [patch.get_data().values for patch in axes.patches]
    nominal = templates.nominal
    assert any(np.allclose(found, nominal.background) for found in values)
    signal = limits.mu["0"] * nominal.signal(["hh4b"])
    assert any(np.allclose(found, nominal.background + signal) for found in values)
    assert any(np.allclose(v, nominal.background + templates.background_error) for v in values)
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert len(set(labels)) == len(nominal.edges)
    written = [text.get_text() for text in axes.get_legend().get_texts()]
    signal = rf"$hh \to b\bar{{b}}b\bar{{b}}$ × {limits.mu['0']:.3g}"
    assert {"QCD", r"$t\bar{t}$", signal} <= set(written)
    assert column(drawn, "expected events", what="all background") == pytest.approx(
        nominal.background
    )
    assert column(drawn, "expected events", what="qcd") == pytest.approx(nominal.content[1])


def test_limits_against_mass_are_drawn_with_their_bands(found):
    _, limits = found
    three = [
        # Out of order, as a card may have them.
        limits.model_copy(update={"mass": mass})
        for mass in (1500.0, 500.0, 1000.0)
    ]
    drawn = physics_plots.brazil("network", three, 3000)
    (axes,) = drawn.figure.axes
    assert axes.get_yscale() == "log"
    assert drawn.table["mass [GeV]"] == [500, 1000, 1500]
    assert drawn.table["limit [fb], band +0"] == [limits.limit_fb["0"]] * 3
    assert drawn.table["limit [fb], band -2"] == [limits.limit_fb["-2"]] * 3
    assert drawn.table["cross section of the data [fb]"] == [3, 3, 3]  # of HH, 2 fb x 1.5
    assert len(axes.collections) == 2
    texts = {text.get_text() for text in axes.get_legend().get_texts()}
    assert {"68% expected", "95% expected", "median expected"} <= texts


@pytest.mark.parametrize("scale", [1.0, 1e9])
def test_limits_of_classifiers_are_side_by_side(found, scale):
    templates, _ = found
    nominal = templates.nominal
    events, scores = scored_events()
    faint = events._replace(weight=events.weight / np.where(events.signal, scale, 1))
    templates = fill_templates(
        "network", scores, faint, [], [SIGNAL], settings=LimitSettings(edges=nominal.edges), seed=1
    )
    limits, _ = hypothesis_limits(templates, SIGNAL)
    drawn = physics_plots.classifier_limits({"network": limits, "trees": limits}, 3000)
    (axes,) = drawn.figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["network", "trees"]
    assert drawn.table["classifier"] == ["network", "trees"]
    assert drawn.table["limit on mu, band +1"] == [limits.mu["1"]] * 2
    # The strength of the data is marked where it is near.
    assert (axes.get_xlim()[0] < 1 < axes.get_xlim()[1]) == (scale == 1)


def test_same_figure_has_the_same_bytes(found, tmp_path):
    templates, limits = found
    for folder in ("a", "b"):
        physics_plots.score_templates(templates, [limits], 3000).save(
            tmp_path / folder, "limit_templates"
        )
    for ending in ("svg", "csv"):
        first, second = (tmp_path / f / f"limit_templates.{ending}" for f in ("a", "b"))
        assert first.read_bytes() == second.read_bytes()
