"""Plots of explanations: what is drawn is what the table says, in all corners."""

import numpy as np
import pytest
from matplotlib import rcParams

from manyscale.evaluation.results import (
    Correlation,
    DeletionCurvePoint,
    FeatureAttribution,
    LayerPair,
    PermutationImportance,
    PermutationLoss,
)
from manyscale.features.images import ImageSettings
from manyscale.reporting import explanation_plots as plots
from manyscale.reporting.explanation_plots import (
    Curve,
    Share,
    class_maps,
    profiles,
    shares,
)


def attribution(stream, feature, label, error=0.1):
    value = 1.0 if label == "signal" else -0.5
    return FeatureAttribution(
        stream=stream,
        feature=feature,
        label=label,
        signed=value,
        signed_error=error,
        absolute=abs(value) + 0.2,
        absolute_error=error,
    )


ROWS = [
    attribution(stream, feature, label)
    for stream in ("jet1", "kinematics")
    for feature in ("log_pt", "delta_r")
    for label in ("signal", "background")
]


def lost(stream, group, told=True):
    factor, low, high = (2.0, 1.5, 3.0) if told else (None, None, None)
    return PermutationLoss(
        stream=stream,
        group=group,
        features=("log_pt", "pt"),
        auc_loss=0.1,
        auc_loss_error=0.02,
        rejection_factor=factor,
        rejection_low=low,
        rejection_high=high,
    )


def permuted(efficiency=0.7, told=True):
    return PermutationImportance(
        auc=0.9,
        auc_error=0.01,
        signal_efficiency=efficiency,
        rejection=30.0,
        repeats=5,
        streams=(lost("jet1", None, told), lost("jet2", None)),
        groups=(lost("jet1", "momentum"),),
    )


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
        assert f"<!-- {word} -->" in svg
    left, right = drawn.figure.axes[:2]
    assert sorted(bar.get_width() for bar in left.patches) == pytest.approx([0.7, 0.7, 1.2, 1.2])
    assert sorted(bar.get_width() for bar in right.patches) == [-0.5, -0.5, 1.0, 1.0]
    assert drawn.table["mean towards signal [logits]"] == [row.signed for row in ROWS]


def test_an_error_that_is_not_known_is_left_out(tmp_path):
    saved(plots.attributions([attribution("jet1", "pt", "signal", None)]), tmp_path)


def test_permutation_of_streams_and_groups(tmp_path):
    drawn = plots.permutation(permuted())
    svg = saved(drawn, tmp_path)
    for word in ("whole streams", "momentum", "factor on background, 70% signal"):
        assert f"<!-- {word} -->" in svg
    assert drawn.table["permuted"] == ["whole stream", "whole stream", "momentum"]
    factors = [bar.get_x() + bar.get_width() for bar in drawn.figure.axes[1].patches]
    assert factors == pytest.approx([2.0, 2.0])


def test_permutation_where_the_rejection_cannot_be_told(tmp_path):
    some = plots.permutation(permuted(told=False))
    saved(some, tmp_path)
    assert some.table["background grows by a factor"] == [None, 2.0, 2.0]
    none = plots.permutation(permuted(efficiency=None))
    assert len(none.figure.axes) == 2
    assert "factor on" not in saved(none, tmp_path)


@pytest.mark.parametrize("layers", [1, 4, 20])
def test_similarity_with_and_without_numbers(tmp_path, layers):
    matrix = np.linspace(0, 1, layers**2).reshape(layers, layers)
    matrix[0, 0] = np.nan
    names = [f"jet1, layer {number}" for number in range(layers)]
    drawn = plots.similarity(
        [
            LayerPair(first=names[i], second=names[j], cka=matrix[i, j], chance=0.1)
            for i, j in np.ndindex(matrix.shape)
        ]
    )
    svg = saved(drawn, tmp_path)
    assert f"<!-- jet1, layer {layers - 1} -->" in svg
    assert ("<!-- 1.00 -->" in svg) == (layers == 4)
    assert drawn.table["CKA"][0] is None
    assert drawn.table["CKA"][1:] == matrix.ravel()[1:].tolist()


def test_randomisation_from_nothing_to_all(tmp_path):
    points = [
        Correlation(redrawn="nothing", correlation=1.0, error=0.0),
        Correlation(redrawn="head", correlation=-0.1, error=0.05),
    ]
    drawn = plots.randomisation(points)
    assert "<!-- head -->" in saved(drawn, tmp_path)
    assert drawn.table["rank correlation"] == [1.0, -0.1]


def test_deletion_has_a_curve_a_ranking(tmp_path):
    points = tuple(
        DeletionCurvePoint(
            by=by,
            fraction=fraction,
            drop=fraction,
            drop_error=0.1,
            over_random=0.0,
            over_random_error=None,
            auc_loss=0.01,
            auc_loss_error=0.001,
        )
        for by in ("Grad-CAM", "mine", "pT", "random")
        for fraction in (0.1, 0.5)
    )
    drawn = plots.deletion(points)
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
    assert "<!-- mine -->" in svg
    assert drawn.table["share deleted"] == [0.1, 0.5] * 4


def test_matplotlibs_settings_stay():
    before = dict(rcParams)
    plots.attributions(ROWS)
    assert dict(rcParams) == before


PLANE = ImageSettings(half_width=1.5)
UNIT = "attention in a pixel"


@pytest.fixture
def images():
    """Background in the pixel of least eta and largest phi, signal in its opposite."""
    background, signal = np.zeros((2, 3, 3))
    background[0, 2], signal[2, 0], signal[1, 1] = 0.8, 0.4, 0.1
    return {"class token": np.stack([background, signal]), "pair": np.zeros((2, 3, 3))}


def pictures(drawn):
    return [axes.images[0] for axes in drawn.figure.axes if axes.images]


def test_rows_hold_background_signal_and_their_difference(images):
    shown = pictures(class_maps(images, PLANE, UNIT))
    assert len(shown) == 6
    # Rows of an image with its origin below are phi from below, columns eta.
    assert all(picture.origin == "lower" for picture in shown)
    assert shown[0].get_array()[2, 0] == 0.8
    assert shown[1].get_array()[0, 2] == 0.4
    difference = shown[2].get_array()
    assert (difference[2, 0], difference[0, 2], difference[1, 1]) == (-0.8, 0.4, 0.1)
    assert shown[0].norm is shown[1].norm is shown[4].norm
    assert (shown[2].norm.vmin, shown[2].norm.vmax) == (-0.8, 0.8)


def test_table_has_each_pixel_that_is_hit_once(images):
    table = class_maps(images, PLANE, UNIT).table
    assert table["delta eta"] == [-1, 0, 1]
    assert table["delta phi [rad]"] == [1, 0, -1]
    assert table["class token, background"] == [0.8, 0, 0]
    assert table["class token, signal"] == [0, 0.1, 0.4]
    assert table["pair, signal"] == [0, 0, 0]


def test_many_panels_make_a_small_file(tmp_path):
    rows = {f"query {row}": np.random.default_rng(row).random((2, 21, 21)) for row in range(7)}
    class_maps(rows, PLANE, UNIT).save(tmp_path, "maps")
    assert (tmp_path / "maps.svg").stat().st_size < 150_000
    assert (tmp_path / "maps.csv").stat().st_size < 150_000


def test_maps_of_nothing_are_drawn(tmp_path):
    class_maps({"pair": np.zeros((2, 3, 3))}, PLANE, UNIT).save(tmp_path, "empty")
    assert (tmp_path / "empty.csv").read_text(encoding="utf-8").count("\n") == 1


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
    axes = {"rank": np.arange(3.0), "distance": EDGES}
    values = np.array([[1.0, 2.0], [3.0, np.nan]])
    curves = [
        Curve("jet1", axis, name, edges, values)
        for axis, edges in axes.items()
        for name in ("attention", "pT")
    ]
    drawn = profiles(curves, label="part")
    drawn.save(tmp_path, "profiles")
    shown = [axes for axes in drawn.figure.axes if axes.get_title()]
    assert [axes.get_xlabel() for axes in shown] == ["rank", "distance"]
    assert [len(axes.patches) for axes in shown] == [4, 4]
    assert len(drawn.table["value"]) == 2 * 2 * 4
    assert set(drawn.table["against"]) == {"rank", "distance"}
