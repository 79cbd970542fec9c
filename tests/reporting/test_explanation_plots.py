"""Plots of explanations: what is drawn is what the table says, in all corners."""

import math

import numpy as np
import pytest
from matplotlib import rcParams

from manyscale.explanation.deletion import Deletion, DeletionPoint
from manyscale.explanation.integrated_gradients import FeatureAttribution
from manyscale.explanation.randomisation import RandomisationPoint
from manyscale.explanation.shuffling import Shuffled, Worth
from manyscale.explanation.similarity import Similarity
from manyscale.reporting import explanation_plots as plots
from manyscale.statistics.means import Mean


def attribution(stream, feature, label, error=0.1):
    value = 1.0 if label == "signal" else -0.5
    return FeatureAttribution(stream, feature, label, value, error, abs(value) + 0.2, error)


ROWS = [
    attribution(stream, feature, label)
    for stream in ("jet1", "kinematics")
    for feature in ("log_pt", "delta_r")
    for label in ("signal", "background")
]


def worth(stream, group, told=True):
    factor = (2.0, 1.5, 3.0) if told else (None, None, None)
    return Worth(stream, group, ("log_pt", "pt"), 0.1, 0.02, *factor)


def shuffled(efficiency=0.7, told=True):
    streams = (worth("jet1", None, told), worth("jet2", None))
    return Shuffled(0.9, 0.01, efficiency, 30.0, 5, streams, (worth("jet1", "momentum"),))


def saved(drawn, folder):
    drawn.save(folder, "plot")
    svg = (folder / "plot.svg").read_text(encoding="utf-8")
    assert len(svg) < 100_000
    assert drawn.figure.get_size_inches()[0] <= 5.6
    assert len({len(column) for column in drawn.table.values()}) == 1
    return svg


def test_attributions_by_stream_feature_and_class(tmp_path):
    drawn = plots.attributions(ROWS)
    svg = saved(drawn, tmp_path)
    for word in ("jet1", "kinematics", "log_pt", "delta_r", "signal", "background"):
        assert f">{word}<" in svg
    left, right = drawn.figure.axes[:2]
    assert sorted(bar.get_width() for bar in left.patches) == pytest.approx([0.7, 0.7, 1.2, 1.2])
    assert sorted(bar.get_width() for bar in right.patches) == [-0.5, -0.5, 1.0, 1.0]
    assert drawn.table["mean towards signal [logits]"] == [row.signed for row in ROWS]


def test_an_error_that_is_not_known_is_left_out(tmp_path):
    saved(plots.attributions([attribution("jet1", "pt", "signal", math.nan)]), tmp_path)


def test_worth_of_streams_and_groups(tmp_path):
    drawn = plots.worth(shuffled())
    svg = saved(drawn, tmp_path)
    for word in ("whole streams", "momentum", "factor on background, 70% signal"):
        assert f">{word}<" in svg
    assert drawn.table["shuffled"] == ["whole stream", "whole stream", "momentum"]
    factors = [bar.get_x() + bar.get_width() for bar in drawn.figure.axes[1].patches]
    assert factors == pytest.approx([2.0, 2.0])


def test_worth_where_the_rejection_cannot_be_told(tmp_path):
    some = plots.worth(shuffled(told=False))
    saved(some, tmp_path)
    assert some.table["background grows by a factor"] == ["", 2.0, 2.0]
    none = plots.worth(shuffled(efficiency=None))
    assert len(none.figure.axes) == 2
    assert "factor on" not in saved(none, tmp_path)


@pytest.mark.parametrize("layers", [1, 4, 20])
def test_similarity_with_and_without_numbers(tmp_path, layers):
    matrix = np.linspace(0, 1, layers**2).reshape(layers, layers)
    matrix[0, 0] = np.nan
    names = tuple(f"jet1, layer {number}" for number in range(layers))
    drawn = plots.similarity(Similarity(names, matrix, matrix))
    svg = saved(drawn, tmp_path)
    assert f">jet1, layer {layers - 1}<" in svg
    assert (">1.00<" in svg) == (layers == 4)
    assert drawn.table["CKA"][0] == ""
    assert drawn.table["CKA"][1:] == matrix.ravel()[1:].tolist()


def test_randomisation_from_nothing_to_all(tmp_path):
    points = [RandomisationPoint("nothing", 1.0, 0.0), RandomisationPoint("head", -0.1, 0.05)]
    drawn = plots.randomisation(points)
    assert ">head<" in saved(drawn, tmp_path)
    assert drawn.table["rank correlation"] == [1.0, -0.1]


def test_deletion_has_a_curve_a_ranking(tmp_path):
    points = tuple(
        DeletionPoint(by, fraction, fraction, 0.1, 0.0, 0.0, 0.01, 0.001)
        for by in ("Grad-CAM", "mine", "pT", "random")
        for fraction in (0.1, 0.5)
    )
    drawn = plots.deletion(Deletion(100, ("jet1",), points, {"Grad-CAM": Mean(1.0, 0.1)}))
    svg = saved(drawn, tmp_path)
    axes = drawn.figure.axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "Grad-CAM",
        "mine",
        "pT",
        "random",
    ]
    colours = {line.get_color() for bars in axes.containers for line in bars[:1]}
    assert len(colours) == 4
    assert ">mine<" in svg
    assert drawn.table["share deleted"] == [0.1, 0.5] * 4


def test_matplotlibs_settings_stay():
    before = dict(rcParams)
    plots.attributions(ROWS)
    assert dict(rcParams) == before
