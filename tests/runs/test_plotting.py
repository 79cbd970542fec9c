import numpy as np

from manyscale.features.images import ImageSettings
from manyscale.runs.folder import RunFolder
from manyscale.runs.plotting import plot_images


def test_images_of_an_earlier_evaluation_go(tmp_path):
    folder = RunFolder(tmp_path)
    folder.plots.mkdir()
    for name in ("image_jet1.svg", "image_jet1.csv", "roc.svg"):
        (folder.plots / name).touch()
    label, weights = np.array([0, 1]), np.ones(2)
    plot_images(folder, {}, label, weights, schemas=(), settings=ImageSettings())
    assert [path.name for path in folder.plots.iterdir()] == ["roc.svg"]
