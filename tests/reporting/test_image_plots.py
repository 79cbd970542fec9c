import numpy as np
import pytest

from manyscale.reporting.captions import caption_of, in_order
from manyscale.reporting.image_plots import class_images


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
    assert "stream jet1" in caption_of("image_jet1")
    assert in_order(["other", "image_jet1", "inputs_jet1", "roc"]) == [
        "roc", "inputs_jet1", "image_jet1", "other",
    ]  # fmt: skip
