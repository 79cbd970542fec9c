import numpy as np
import pytest

from manyscale.reporting.findings import caption_of, in_order
from manyscale.reporting.input_plots import InputColumn, class_images, input_distributions


@pytest.fixture
def images():
    """Background in the pixel of least eta and largest phi, signal in its opposite, both between."""
    means = np.array([[[0, 0, 8.0], [0, 1, 0], [0, 0, 0]], [[0, 0, 0], [0, 3, 0], [4.0, 0, 0]]])
    hits = np.array([[0, 0, 10], [0, 20, 0], [9, 0, 0]], float)
    return class_images(
        means, hits, half_width=1.5, unit="pT in a pixel [GeV]", frame=["centred"], turned=False
    )


def panel(images, title):
    (axes,) = (axes for axes in images.figure.axes if axes.get_title() == title)
    return axes, axes.images[0].get_array()


def test_eta_runs_right_and_phi_runs_up(images):
    axes, shown = panel(images, "background")
    # imshow with its origin below: rows are phi from below, columns are eta.
    assert axes.images[0].origin == "lower"
    assert shown[2, 0] == 8
    assert axes.images[0].get_extent() == [-1.5, 1.5, -1.5, 1.5]
    assert axes.get_ylabel() == "Δφ [rad]"
    assert panel(images, "signal")[1][0, 2] == 4


def test_classes_share_a_logarithmic_scale(images):
    norms = [panel(images, name)[0].images[0].norm for name in ("background", "signal")]
    assert norms[0] is norms[1]
    assert (norms[0].vmin, norms[0].vmax) == (pytest.approx(8e-4), 8)


def test_difference_is_over_the_sum_and_only_where_enough_tokens_are(images):
    _, shown = panel(images, "difference / sum")
    assert (shown[2, 0], shown[1, 1]) == (-1, 0.5)
    assert np.ma.getmaskarray(np.ma.masked_invalid(shown)).sum() == 7


def test_file_is_small_and_explained(images, tmp_path):
    images.save(tmp_path, "image_jet1")
    assert all(path.stat().st_size < 200_000 for path in tmp_path.iterdir())
    assert "stream jet1" in caption_of("image_jet1")[0]
    assert in_order(["other", "image_jet1", "inputs_jet1", "roc"]) == [
        "roc", "inputs_jet1", "image_jet1", "other",
    ]  # fmt: skip


def test_inputs_are_ranked_by_separation_and_drawn_in_that_order():
    generator = np.random.default_rng(6)
    labels = generator.integers(0, 2, 3000)
    columns = [
        InputColumn("noise", generator.normal(size=3000), "GeV"),
        InputColumn("perfect", labels.astype(float)),
        InputColumn("kind", generator.integers(0, 3, 3000) // (1 + labels), "", ("a", "b", "c")),
        InputColumn("constant", np.ones(3000)),
    ]
    inputs, ranking = input_distributions("jet1", columns, labels)
    assert [row.feature for row in ranking] == ["perfect", "kind", "noise", "constant"]
    assert ranking[0].separation == pytest.approx(1)
    assert ranking[-1].separation == pytest.approx(0)
    assert all(row.stream == "jet1" for row in ranking)
    drawn = [axes.get_xlabel() for axes in inputs.figure.axes]
    assert drawn == ["perfect", "kind", "noise [GeV]", "constant"]
    assert [text.get_text() for text in inputs.figure.axes[1].texts] == ["a", "b", "c"]


def test_each_class_of_an_input_has_unit_area():
    labels = np.array([0] * 10 + [1] * 1000)
    column = InputColumn("charge", np.tile([-1.0, 1.0], 505))
    inputs, _ = input_distributions("jet1", [column], labels)
    for patch in inputs.figure.axes[0].patches:
        values, edges, _ = patch.get_data()
        np.testing.assert_allclose(values, [0.5, 0, 0.5])
        np.testing.assert_allclose(edges, [-1.5, -0.5, 0.5, 1.5])
