import matplotlib as mpl
import pytest
from matplotlib.figure import Figure

from manyscale.reporting.style import classifier_styles, save, styled

NAMES = ["network", "trees", "model-2", "mine", "yours", "ours", "theirs"]


@styled
def _figure():
    figure = Figure()
    axes = figure.subplots()
    axes.plot([0, 1], [1, 2])
    axes.fill_between([0, 1], [1, 2])
    axes.set_xlabel("mass [GeV]")
    return figure


def test_a_classifier_keeps_its_colour_whatever_stands_beside_it():
    for known in ("trees", "model-2", "concatenation"):
        assert classifier_styles([known])[known] == classifier_styles([*NAMES, known])[known]


def test_no_two_classifiers_of_a_plot_look_the_same():
    styles = classifier_styles(NAMES)
    assert len(set(styles.values())) == len(styles)


def test_the_same_figure_gives_the_same_bytes_and_no_date(tmp_path):
    one, two = (save(_figure(), tmp_path / part, "plot").read_bytes() for part in "ab")
    assert one == two
    assert b"<dc:date>" not in one


def test_text_stays_text(tmp_path):
    assert "mass [GeV]</text>" in save(_figure(), tmp_path, "plot").read_text()


def test_settings_of_matplotlib_are_left_as_they_were():
    before = dict(mpl.rcParams)

    @styled
    def fail():
        raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert dict(mpl.rcParams) == before
