import numpy as np
import pytest

from manyscale.reporting.map_plots import Plane, class_maps, head_maps

PLANE = Plane(1.5, turned=False, unit="attention in a pixel")


@pytest.fixture
def images():
    """Background in the pixel of least eta and largest phi, signal in its opposite."""
    background, signal = np.zeros((2, 3, 3))
    background[0, 2], signal[2, 0], signal[1, 1] = 0.8, 0.4, 0.1
    return {"class token": np.stack([background, signal]), "pair": np.zeros((2, 3, 3))}


def pictures(drawn):
    return [axes.images[0] for axes in drawn.figure.axes if axes.images]


def test_rows_hold_background_signal_and_their_difference(images):
    shown = pictures(class_maps(images, PLANE))
    assert len(shown) == 6
    # Rows of an image with its origin below are phi from below, columns eta.
    assert all(picture.origin == "lower" for picture in shown)
    assert shown[0].get_array()[2, 0] == 0.8
    assert shown[1].get_array()[0, 2] == 0.4
    difference = shown[2].get_array()
    assert (difference[2, 0], difference[0, 2], difference[1, 1]) == (-0.8, 0.4, 0.1)
    assert shown[0].norm is shown[1].norm is shown[4].norm
    assert (shown[2].norm.vmin, shown[2].norm.vmax) == (-0.8, 0.8)


def test_heads_stand_side_by_side(images):
    drawn = head_maps(images, ["head 1", "head 2"], PLANE)
    titles = [axes.get_title() for axes in drawn.figure.axes]
    assert {"head 1", "head 2", PLANE.unit} <= set(titles)
    assert [axes.get_ylabel() for axes in drawn.figure.axes if axes.get_ylabel()] == list(images)


def test_table_has_each_pixel_that_is_hit_once(images):
    table = class_maps(images, PLANE).table
    assert table["delta eta"] == [-1, 0, 1]
    assert table["delta phi [rad]"] == [1, 0, -1]
    assert table["class token, background"] == [0.8, 0, 0]
    assert table["class token, signal"] == [0, 0.1, 0.4]
    assert table["pair, signal"] == [0, 0, 0]


def test_many_panels_make_a_small_file(tmp_path):
    rows = {f"query {row}": np.random.default_rng(row).random((2, 21, 21)) for row in range(7)}
    class_maps(rows, PLANE).save(tmp_path, "maps")
    assert (tmp_path / "maps.svg").stat().st_size < 150_000
    assert (tmp_path / "maps.csv").stat().st_size < 150_000


def test_maps_of_nothing_are_drawn(tmp_path):
    class_maps({"pair": np.zeros((2, 3, 3))}, PLANE).save(tmp_path, "empty")
    assert (tmp_path / "empty.csv").read_text(encoding="utf-8").count("\n") == 1
