import numpy as np
import pytest

from helpers.collisions import particles
from manyscale.events.truth import BOTTOM, CHARM, charge_of, heaviest_flavour

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


@pytest.mark.parametrize(
    ("code", "charge"),
    [
        (-11, 1),
        (12, 0),
        (-2, -2 / 3),
        (-24, -1),
        (211, 1),
        (-321, -1),
        (130, 0),
        (310, 0),
        (-411, -1),
        (421, 0),
        (521, 1),
        (511, 0),
        (541, 1),
        (10413, 1),
        (9000211, 1),
        (2224, 2),
        (-4122, -1),
        (4132, 0),
        (5332, -1),
        (2203, 4 / 3),
        (1103, -2 / 3),
        (1000010020, 1),
        (-1000020040, -2),
        (1010010030, 1),  # hypertriton
        (1000822080, 82),
        (1000022, 0),  # a neutralino, no deuteron
        (1000010, 0),
    ],
)
def test_charge_by_the_rules_of_the_codes(code, charge):
    assert charge_of(np.array([code])).item() == pytest.approx(charge)


def test_charges_are_those_of_pythias_table_of_particles():
    known = pytest.importorskip("pythia8mc").Pythia("", False).particleData
    codes = [1]
    while following := known.nextId(codes[-1]):
        codes.append(following)
    # Beyond are new physics and what is of Pythia alone; so are 41 to 99.
    codes = [c for c in codes if c < 41 or 100 < c < 1_000_000 or 9_000_000 < c < 9_100_000]
    assert len(codes) > 300
    expected = np.array([known.chargeType(code) for code in codes]) / 3
    assert np.abs(expected).max() == 2
    for sign in (1, -1):
        assert charge_of(sign * np.array(codes)).tolist() == pytest.approx(sign * expected)
