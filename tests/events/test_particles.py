import numpy as np
import pytest

from helpers.collisions import particles
from manyscale.events.particles import BOTTOM, CHARM, heaviest_flavour

EVENTS = [[(211, 1, 0, 0), (22, 2, 0, 0)], [], [(130, 3, 0, 0)], [(22, 4, 0, 0), (13, 5, 0, 0)]]


def test_take_keeps_the_events():
    taken = particles(EVENTS).take(np.array([1, 2, 4]))
    assert taken.counts.tolist() == [1, 0, 1, 1]
    assert taken.pdg_id.tolist() == [22, 130, 13]
    assert taken.event.tolist() == [0, 2, 3]


def test_take_events_drops_the_others():
    taken = particles(EVENTS).take_events(np.array([1, 3]))
    assert taken.counts.tolist() == [0, 2]
    assert taken.pdg_id.tolist() == [22, 13]


@pytest.mark.parametrize(
    ("code", "flavour"),
    [
        (511, BOTTOM),
        (-521, BOTTOM),
        (513, BOTTOM),
        (20523, BOTTOM),
        (5122, BOTTOM),
        (-5332, BOTTOM),
        (541, BOTTOM),
        (421, CHARM),
        (-4122, CHARM),
        (10431, CHARM),
        (443, 0),
        (553, 0),
        (200553, 0),
        (321, 3),
        (2212, 2),
        (22, 0),
        (5, 0),
        (1000010020, 0),
    ],
)
def test_flavour_of_hadrons(code, flavour):
    assert heaviest_flavour(np.array([code])).item() == flavour
