"""The scan of cuts against its points one by one, and the pitfalls of few simulated events."""

import numpy as np
import pytest

from manyscale.errors import ManyscaleError
from manyscale.evaluation.cuts import SYSTEMATICS, scan_cuts, significance_figures
from manyscale.evaluation.yields import expected_yields, scale_events
from manyscale.schema import Process
from manyscale.statistics.significance import significance

HH = Process(
    name="hh4b", label="signal", cross_section=0.002, filter_efficiency=0.5, sum_weights=2000.0
)
QCD = Process(name="qcd", label="background", cross_section=85.0, k_factor=1.3, sum_weights=4e4)
TT = Process(name="ttbar", label="background", cross_section=0.08, sum_weights=4e4)


def sample(seed=0, n=4000):
    generator = np.random.default_rng(seed)
    process = generator.integers(0, 2, n)
    scores = generator.beta(np.where(process == 0, 4, 1), np.where(process == 0, 1, 4))
    return scale_events([HH, QCD], process, generator.choice([1, 1, 1, -0.3], n), 100), scores


def figures(events, scores):
    return significance_figures(scan_cuts(events, scores)).plain()


def kept(events, chosen):
    return events._replace(process=events.process[chosen], weight=events.weight[chosen])


def test_scan_agrees_with_yields_above_each_cut():
    events, scores = sample()
    found = figures(events, scores)
    assert 90 < len(found["scan"]) <= 100
    every = expected_yields(events).signal.expected
    one_event = np.sqrt(np.mean(events.weight[~events.signal] ** 2))
    for point in found["scan"][3::17]:
        above = expected_yields(kept(events, scores >= point["cut"])).plain()
        for name in ("signal", "background"):
            assert point[name] == pytest.approx(above[name]["expected"], rel=1e-9)
            error = above[name]["error"] if above[name]["n_events"] else one_event
            assert point[f"{name}_error"] == pytest.approx(error, rel=1e-9)
        assert point["signal_efficiency"] == pytest.approx(above["signal"]["expected"] / every)
        if point["value"] is not None:
            s, b, error = point["signal"], point["background"], point["background_error"]
            assert point["value"] == pytest.approx(significance(s, b))
            assert point["value_with_mc_error"] == pytest.approx(significance(s, b, error))
    cuts = [point["cut"] for point in found["scan"]]
    assert cuts == sorted(cuts, reverse=True)
    assert found["weights"] == "physical"


def test_best_cut_with_a_systematic_is_the_highest_of_all_cuts():
    events, scores = sample()
    found = figures(events, scores)
    assert [one["background"] for one in found["systematics"]] == list(SYSTEMATICS)
    considered = [point for point in found["scan"] if point["value"] is not None]
    for one in found["systematics"]:
        values = [
            significance(
                point["signal"],
                point["background"],
                np.hypot(point["background_error"], one["background"] * point["background"]),
            )
            for point in considered
        ]
        assert one["best"]["value"] == pytest.approx(max(values))
        assert one["best"]["cut"] == considered[int(np.argmax(values))]["cut"]
        assert one["best"]["value_error"] > 0
    first = found["systematics"][0]["best"]
    assert first["value"] == found["best"]["value_with_mc_error"]
    falling = [one["best"]["value"] for one in found["systematics"]]
    assert falling == sorted(falling, reverse=True)


def test_processes_above_the_best_cut_are_its_yields():
    events, scores = sample()
    best = figures(events, scores)["best"]
    above = expected_yields(kept(events, scores >= best["cut"])).plain()["processes"]
    for name, left in best["processes"].items():
        assert left == pytest.approx({key: above[name][key] for key in left})


def test_empty_bins_fake_no_discovery():
    events, scores = sample()
    found = figures(events, scores)
    assert found["scan"][0]["background_n_effective"] < 10
    assert found["scan"][0]["value"] is None
    assert found["best"]["background_n_effective"] >= 10
    values = [point["value_with_mc_error"] for point in found["scan"]]
    assert found["best"]["value_with_mc_error"] == max(v for v in values if v is not None)
    assert found["least_background_events"] == 10
    assert "fewer than 10 effective background events are not considered" in found["notice"]


def test_no_cut_is_best_where_there_is_too_little_background():
    found = figures(scale_events([HH, QCD], [0, 0, 1], [1, 1, 1], 100), [0.9, 0.8, 0.1])
    assert found["best"] is None
    assert [one["best"] for one in found["systematics"]] == [None] * 4
    assert found["scan"][-1]["value"] is None
    assert "No cut leaves 10 effective background events" in found["notice"]
    assert "above all of qcd" in found["notice"]


def two_backgrounds(qcd_above, qcd=QCD):
    """A thousand events of ttbar everywhere; `qcd_above` of a hundred of qcd above 0.5."""
    process = np.repeat([0, 1, 2], [100, 100, 1000])
    scores = np.concatenate(
        [
            np.linspace(0.9, 1, 100),
            np.where(np.arange(100) < qcd_above, 0.999, 0.001),
            np.linspace(0, 1, 1000),
        ]
    )
    return scale_events([HH, qcd, TT], process, np.ones(len(process)), 3000), scores


def test_process_of_large_weight_without_an_event_left_is_no_background_of_zero():
    # Of ttbar alone a hundred effective events would be left; one of qcd outweighs them all.
    found = figures(*two_backgrounds(0))
    one_event = 85 * 1.3 * 3e6 / 4e4
    assert found["best"] is None
    last = found["scan"][-1]
    assert last["background"] == pytest.approx(100 * 0.08 * 3e6 / 4e4)
    assert last["background_error"] == pytest.approx(
        np.hypot(one_event, 10 * 0.08 * 3e6 / 4e4), rel=1e-6
    )


def test_few_events_that_stand_for_many_are_pointed_out():
    light = QCD.model_copy(update={"cross_section": 1.0, "k_factor": 1.0})
    found = figures(*two_backgrounds(3, light))
    qcd = found["best"]["processes"]["qcd"]
    assert (qcd["n_events"], qcd["n_effective"]) == (3, 3)
    assert "3.0 effective simulated events of qcd stand for 225 expected ones" in found["notice"]
    # Of no event, that of one counts as the error.
    found = figures(*two_backgrounds(0, light))
    qcd = found["best"]["processes"]["qcd"]
    assert (qcd["n_events"], qcd["expected"]) == (0, 0)
    assert qcd["error"] == pytest.approx(75)
    assert "No simulated event of qcd is left above the best cut" in found["notice"]
    assert found["best"]["background_error"] == pytest.approx(
        np.hypot(75, found["best"]["processes"]["ttbar"]["error"])
    )
    # One that hardly counts is not worth a word.
    assert (
        "qcd" not in figures(*two_backgrounds(0, TT.model_copy(update={"name": "qcd"})))["notice"]
    )


@pytest.mark.parametrize(
    ("process", "scores", "weights", "said"),
    [
        ([0, 1], [0.5], [1, 1], "1 scores for 2 events"),
        ([0, 1], [0.5, np.nan], [1, 1], "event 1 has no score"),
        ([1, 1], [0.5, 0.5], [1, 1], "no signal events"),
        ([0, 0], [0.5, 0.5], [1, -2], "2 signal events sum to -"),
    ],
)
def test_scan_refuses_bad_input(process, scores, weights, said):
    with pytest.raises(ManyscaleError, match=said):
        scan_cuts(scale_events([HH, QCD], process, weights, 1), scores)
