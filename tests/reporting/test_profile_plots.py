import numpy as np
import pytest

from manyscale.reporting.profile_plots import Axis, Curve, Share, profiles, shares

PAIR = np.array([0.2, 0.4])
EDGES = np.linspace(0, 1, 3)


def share(panel, row, factor=1.0):
    return Share(panel, row, factor * PAIR, PAIR / 10, np.array([0.3, np.nan]))


def panels(drawn):
    return {axes.get_title(): axes for axes in drawn.figure.axes if axes.get_title()}


def test_each_row_of_a_panel_has_both_classes_and_what_is_expected():
    drawn = shares([share("jet1", "pair"), share("jet2", "pair"), share("jet1", "lepton", 2)], label="part", expected="even")  # fmt: skip
    axes = panels(drawn)["jet1"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["pair", "lepton"]
    background, signal = (bars.lines[0].get_xdata().tolist() for bars in axes.containers)
    assert (background, signal) == ([0.2, 0.4], [0.4, 0.8])
    (legend,) = drawn.figure.legends
    assert {text.get_text() for text in legend.get_texts()} == {"background", "signal", "even"}


def test_table_of_shares_has_a_row_a_class():
    table = shares([share("jet1", "pair")], label="part", expected="even").table
    assert table["class"] == ["background", "signal"]
    assert table["value"] == PAIR.tolist()
    assert table["error"] == pytest.approx(PAIR / 10)
    assert table["even"][0] == 0.3


def test_curves_of_the_same_panel_and_axis_stand_together(tmp_path):
    rank, distance = Axis("rank", np.arange(3.0)), Axis("distance", EDGES)
    values = np.array([[1.0, 2.0], [3.0, np.nan]])
    curves = [
        Curve("jet1", name, axis, values)
        for axis in (rank, distance)
        for name in ("attention", "pT")
    ]
    drawn = profiles(curves, label="part")
    drawn.save(tmp_path, "profiles")
    shown = [axes for axes in drawn.figure.axes if axes.get_title()]
    assert [axes.get_xlabel() for axes in shown] == ["rank", "distance"]
    assert [len(axes.patches) for axes in shown] == [4, 4]
    assert len(drawn.table["value"]) == 2 * 2 * 4
    assert set(drawn.table["against"]) == {"rank", "distance"}


def test_axis_may_begin_elsewhere_than_at_zero():
    curve = [Curve("jet1", "head 1", Axis("distance", EDGES), np.full((2, 2), 5.0))]
    bottoms = [
        panels(profiles(curve, label="part", from_zero=from_zero))["jet1"].get_ylim()[0]
        for from_zero in (True, False)
    ]
    assert bottoms[0] == 0
    assert bottoms[1] > 1
