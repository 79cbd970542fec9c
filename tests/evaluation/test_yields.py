"""Yields against a calculation by hand."""

import numpy as np
import pytest

from manyscale.errors import ManyscaleError
from manyscale.evaluation.yields import expected_yields, normalisation, scale_events
from manyscale.schema import Process

HH = Process(
    name="hh4b", label="signal", cross_section=0.002, filter_efficiency=0.5, sum_weights=2000.0
)
QCD = Process(name="qcd", label="background", cross_section=85.0, k_factor=1.3, sum_weights=4e4)
ZZ = Process(name="zz", label="background", cross_section=1.9e-3, sum_weights=1000.0)
UNKNOWN = Process(name="data", label="background")


def test_yields_agree_with_a_hand_calculation():
    # 3 fb^-1; a process has so many pb x 3000 /pb x k x filter; the split holds a quarter of qcd.
    events = scale_events(
        [HH, QCD, ZZ], [0, 0, 1, 1, 1, 2], [1.0, 2.0, 1.0, 1.0, -0.5, 4.0], 3.0, [2.0, 4.0, 1.0]
    )
    hh = 0.002 * 3000 * 0.5 / 2000 * 2
    qcd = 85 * 3000 * 1.3 / 40000 * 4
    zz = 1.9e-3 * 3000 / 1000
    found = expected_yields(events).plain()
    by_process = {name: entry["expected"] for name, entry in found["processes"].items()}
    assert by_process == pytest.approx({"hh4b": 3 * hh, "qcd": 1.5 * qcd, "zz": 4 * zz}, rel=1e-12)
    assert found["processes"]["qcd"]["error"] == pytest.approx(np.sqrt(2.25) * qcd, rel=1e-12)
    assert found["processes"]["qcd"]["n_effective"] == pytest.approx(1.5**2 / 2.25, rel=1e-12)
    assert found["background"]["expected"] == pytest.approx(1.5 * qcd + 4 * zz, rel=1e-12)
    assert found["background"]["n_events"] == 4
    assert found["signal"]["expected"] == pytest.approx(3 * hh, rel=1e-12)
    assert found["luminosity"] == 3.0
    assert found["weights"] == "physical"
    first = events._replace(process=events.process[:1], weight=events.weight[:1])
    above = expected_yields(first).plain()
    assert above["signal"]["expected"] == pytest.approx(hh, rel=1e-12)
    assert above["background"] == {"expected": 0, "error": 0, "n_events": 0, "n_effective": 0}


def test_all_events_of_a_process_give_luminosity_times_cross_section():
    weights = np.random.default_rng(0).uniform(0, 2, 500)
    process = Process(
        name="tt", label="background", cross_section=81, sum_weights=float(weights.sum())
    )
    events = scale_events([process], np.zeros(500, int), weights, 140)
    assert events.weight.sum() == pytest.approx(81 * 140_000, rel=1e-12)


def test_process_without_cross_section_is_named_only_where_it_has_events():
    with pytest.raises(ManyscaleError, match="cross section is known of 'data'"):
        scale_events([HH, UNKNOWN], [0, 1], [1, 1], 100)
    assert scale_events([HH, UNKNOWN], [0, 0], [1, 1], 100).weight[0] > 0


@pytest.mark.parametrize("luminosity", [0, -1, np.nan, np.inf])
def test_luminosity_must_be_above_zero(luminosity):
    with pytest.raises(ManyscaleError, match="luminosity"):
        normalisation(HH, luminosity)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (([QCD.model_copy(update={"sum_weights": None})], [0], [1], 1), "sum of generated weights"),
        (([QCD.model_copy(update={"sum_weights": 0.0})], [0], [1], 1), "'qcd'"),
    ],
)
def test_bad_input_is_refused(arguments, said):
    with pytest.raises(ManyscaleError, match=said):
        scale_events(*arguments)
