"""The relative change of yields above a cut, by hand."""

import numpy as np
import pytest

from manyscale.data.schema import Process
from manyscale.evaluation.effects import effects
from manyscale.evaluation.variations import Normalisation, Shape, Varied
from manyscale.evaluation.yields import ScaledEvents

PROCESSES = (
    Process(name="hh4b", label="signal"),
    Process(name="qcd", label="background"),
    Process(name="zz", label="background"),
)
EVENTS = ScaledEvents(
    PROCESSES, np.array([0, 0, 1, 1, 1, 2]), np.array([2.0, 2.0, 10.0, -2.0, 8.0, 1.0]), 100.0
)
SCORES = np.array([0.9, 0.3, 0.8, 0.7, 0.2, 0.1])
# Above 0.5 as they are: hh4b 2, qcd 8, zz nothing.
HIGHER = Varied({"network": SCORES + 0.35, "trees": SCORES}, EVENTS.weight)


def test_shape_is_counted_above_the_cut():
    lower = Varied({"network": SCORES - 0.25, "trees": SCORES}, EVENTS.weight)
    shape = Shape("jes", ("hh4b", "qcd", "zz"), HIGHER, lower)
    found = effects([shape], EVENTS, SCORES, 0.5)["jes"]
    assert found == {
        "hh4b": {"up": 1.0, "down": 0.0},
        "qcd": {"up": 1.0, "down": pytest.approx(10 / 8 - 1)},
        "zz": {"up": None, "down": None},
    }


def test_down_is_mirrored_where_it_is_not_given():
    shape = Shape("jes", ("qcd",), HIGHER, None)
    assert effects([shape], EVENTS, SCORES, 0.5)["jes"] == {"qcd": {"up": 1.0, "down": -1.0}}


def test_weights_count_as_scores_do():
    varied = Varied({"network": SCORES}, EVENTS.weight * np.array([1, 1, 1.5, 1, 1, 1]))
    found = effects([Shape("scale", ("qcd",), varied, None)], EVENTS, SCORES, 0.5)
    assert found["scale"]["qcd"]["up"] == pytest.approx(5 / 8)


def test_normalisation_is_what_it_says_where_there_is_a_yield():
    rate = Normalisation("rate", ("qcd", "zz"), 1.5, 1 / 1.5)
    assert effects([rate], EVENTS, SCORES, 0.5)["rate"] == {
        "qcd": {"up": 0.5, "down": pytest.approx(-1 / 3)},
        "zz": {"up": None, "down": None},
    }


def test_nothing_above_the_cut():
    found = effects([Shape("jes", ("qcd",), HIGHER, None)], EVENTS, SCORES, 2.0)
    assert found == {"jes": {"qcd": {"up": None, "down": None}}}
