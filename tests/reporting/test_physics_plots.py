"""Significance and sculpting as drawn, against the numbers beside them."""

import numpy as np
import pytest

from manyscale.data.schema import Process
from manyscale.evaluation.cuts import SYSTEMATICS, scan_cuts
from manyscale.evaluation.sculpting import MassSample, sculpt
from manyscale.evaluation.yields import scale_events
from manyscale.reporting import physics_plots

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
    assert panels[0].get_title("right") == "3000 fb$^{-1}$"
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
    drawn = physics_plots.sculpting(sample, sculpt(sample, scores, seed=1))
    drawn.save(tmp_path, "sculpting")
    assert "m_j1 [GeV]" in (tmp_path / "sculpting.svg").read_text(encoding="utf-8")
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
        one = sculpt_only(sample, scores)
        ratios.append(one[2][3])
        errors.append(one[3][3])
    assert np.mean(errors) == pytest.approx(np.std(ratios), rel=0.15)


def sculpt_only(sample, passed):
    """The numbers of a curve, without replicas."""
    sculpted = physics_plots.Sculpted(0.5, passed > 0, {})
    return physics_plots._bent(sample, sculpted)
