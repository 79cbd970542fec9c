import numpy as np
import pytest

from helpers.scored import HH, QCD, TTBAR, scored_events
from manyscale.evaluation.limit_settings import LimitSettings
from manyscale.evaluation.limits import Hypothesis, fill_templates, hypotheses, hypothesis_limits
from manyscale.reporting.limit_plots import brazil, classifier_limits, score_templates

pytest.importorskip("pyhf")

(SIGNAL,) = hypotheses([HH, QCD, TTBAR], None)


@pytest.fixture(scope="module")
def found():
    events, scores = scored_events()
    templates = fill_templates(
        "network", scores, events, [], [SIGNAL], settings=LimitSettings(bins=5), seed=1
    )
    return templates, hypothesis_limits(templates, SIGNAL)


def column(drawn, name, **chosen):
    rows = np.all([np.asarray(drawn.table[key]) == value for key, value in chosen.items()], axis=0)
    return np.asarray(drawn.table[name])[rows]


def test_templates_are_stacked_with_the_signal_on_top(found):
    templates, limits = found
    drawn = score_templates(templates, [limits], 3000)
    (axes,) = drawn.figure.axes
    assert axes.get_yscale() == "log"
    values = [patch.get_data().values for patch in axes.patches]
    nominal = templates.nominal
    assert any(np.allclose(found, nominal.background) for found in values)
    signal = limits.complete.limits[0] * nominal.signal(["hh4b"])
    assert any(np.allclose(found, nominal.background + signal) for found in values)
    assert any(np.allclose(v, nominal.background + templates.background_error) for v in values)
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert len(set(labels)) == len(nominal.edges)
    written = [text.get_text() for text in axes.get_legend().get_texts()]
    assert {"qcd", "ttbar", f"hh4b × {limits.complete.limits[0]:.3g}"} <= set(written)
    assert column(drawn, "expected events", what="all background") == pytest.approx(
        nominal.background
    )
    assert column(drawn, "expected events", what="qcd") == pytest.approx(nominal.content[1])


def test_limits_against_mass_are_drawn_with_their_bands(found):
    _, limits = found
    three = [
        # Out of order, as a card may have them.
        type(limits)(**{**vars(limits), "hypothesis": Hypothesis(("hh4b",), mass, 3.0)})
        for mass in (1500.0, 500.0, 1000.0)
    ]
    drawn = brazil("network", three, 3000)
    (axes,) = drawn.figure.axes
    assert axes.get_yscale() == "log"
    assert drawn.table["mass [GeV]"] == [500, 1000, 1500]
    assert drawn.table["limit [fb], band +0"] == pytest.approx([3 * limits.complete.limits[0]] * 3)
    assert drawn.table["limit [fb], band -2"] == pytest.approx([3 * limits.complete.limits[-2]] * 3)
    assert drawn.table["cross section of the data [fb]"] == [3, 3, 3]
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
    limits = hypothesis_limits(templates, SIGNAL)
    drawn = classifier_limits({"network": limits, "trees": limits}, 3000)
    (axes,) = drawn.figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["network", "trees"]
    assert drawn.table["classifier"] == ["network", "trees"]
    assert drawn.table["limit on mu, band +1"] == [limits.complete.limits[1]] * 2
    # The strength of the data is marked where it is near.
    assert (axes.get_xlim()[0] < 1 < axes.get_xlim()[1]) == (scale == 1)


def test_same_figure_has_the_same_bytes(found, tmp_path):
    templates, limits = found
    for folder in ("a", "b"):
        score_templates(templates, [limits], 3000).save(tmp_path / folder, "limit_templates")
    for ending in ("svg", "pdf", "csv"):
        first, second = (tmp_path / f / f"limit_templates.{ending}" for f in ("a", "b"))
        assert first.read_bytes() == second.read_bytes()
