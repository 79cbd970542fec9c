import matplotlib as mpl
import pytest

from manyscale.reporting.style import classifier_styles, styled

NAMES = ["network", "trees", "model-2", "mine", "yours", "ours", "theirs"]


def test_a_classifier_keeps_its_colour_whatever_stands_beside_it():
    for known in ("trees", "model-2", "concatenation"):
        assert classifier_styles([known])[known] == classifier_styles([*NAMES, known])[known]


def test_no_two_classifiers_of_a_plot_look_the_same():
    styles = classifier_styles(NAMES)
    assert len(set(styles.values())) == len(styles)


def test_settings_of_matplotlib_are_left_as_they_were():
    before = dict(mpl.rcParams)

    @styled
    def fail():
        raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert dict(mpl.rcParams) == before
