"""Stacks, rejections and efficiencies by process, against sums by hand."""

import numpy as np
import pytest

from helpers.scored import scored_events
from manyscale.reporting import process_plots as plots
from manyscale.reporting.process_plots import ProcessSample
from manyscale.statistics.intervals import efficiency


@pytest.fixture(scope="module")
def scored():
    return scored_events(signal=1000, background=3000)


@pytest.fixture(scope="module")
def sample(scored):
    events, _ = scored
    return ProcessSample(events.processes, events.process, events.weight, 300.0)


def contents(drawn):
    table = {name: np.array(of) for name, of in drawn.table.items()}
    return {name: table["content"][table["process"] == name] for name in ("hh4b", "qcd", "ttbar")}


def test_backgrounds_are_stacked_to_their_yields_with_the_signal_scaled_on_top(scored, sample):
    _, scores = scored
    drawn = plots.stacked_score(sample, scores, "network")
    found = {name: of.sum() for name, of in contents(drawn).items()}
    assert found == pytest.approx({"hh4b": 30, "qcd": 2e4, "ttbar": 5e3})
    (axes,) = drawn.figure.axes
    # The smaller background below.
    below, above = axes.patches[:2]
    np.testing.assert_allclose(above.get_data().baseline, below.get_data().values)
    words = [text.get_text() for text in axes.get_legend().get_texts()]
    assert words[-1] == r"$hh \to b\bar{b}b\bar{b}$ × 800"
    assert axes.get_title(loc="right") == "300 fb⁻¹"


def test_without_a_luminosity_each_process_has_unit_area(scored, sample):
    events, scores = scored
    shapes = ProcessSample(events.processes, events.process, events.weight, None)
    drawn = plots.stacked_score(shapes, scores, "network")
    assert {name: of.sum() for name, of in contents(drawn).items()} == pytest.approx(
        {"hh4b": 1, "qcd": 1, "ttbar": 1}
    )


def test_a_mass_is_drawn_before_and_after_the_cut(scored, sample):
    _, scores = scored
    masses = np.where(np.arange(len(scores)) % 10, 100 + 50 * scores, np.nan)
    drawn = plots.masses(sample, "m_j1", masses, scores >= 0.7, "score of at least 0.7")
    above, below = drawn.figure.axes
    assert below.get_xlabel() == "$m_{j1}$ [GeV]"
    table = {name: np.array(of) for name, of in drawn.table.items()}
    cut = table["events"] == "score of at least 0.7"
    assert table["content"][cut & (table["to"] < 135)].sum() == 0
    low, high = np.nanquantile(masses, [0.005, 0.995])
    within = (masses >= low) & (masses <= high) & (scores >= 0.7)
    assert table["content"][cut].sum() == pytest.approx(sample.weight[within].sum())
    assert above.get_title(loc="left") == "all test events"


def test_each_background_has_its_rejection_and_each_process_its_row(scored, sample):
    events, scores = scored
    drawn = plots.rejection_by_process(sample, scores)
    assert set(drawn.table["classifier"]) == {"qcd", "ttbar"}
    drawn = plots.confusion(sample, scores)
    assert drawn.table["process"] == ["hh4b", "qcd", "ttbar"]
    qcd = events.process == 1
    expected = efficiency(events.weight[qcd], scores[qcd] > 0.5).value
    assert drawn.table["predicted signal"][1] == pytest.approx(expected)


def test_efficiency_against_an_observable_averages_to_that_of_the_cut():
    generator = np.random.default_rng(3)
    scores, weights = generator.uniform(size=4000), np.ones(4000)
    pt = np.where(scores > 0.3, 400.0, 200.0) + generator.uniform(size=4000)
    drawn = plots.signal_efficiency({"jet_pt": pt}, {"network": scores}, weights)
    found = np.array(drawn.table["signal efficiency"])
    # All above the cut have a high pT, none below it.
    assert found.mean() == pytest.approx(0.7, abs=0.01)
    assert found[0] < 0.1
    assert found[-1] == 1
    assert drawn.figure.axes[0].get_xlabel() == "$p_T$ of the jet [GeV]"
