import numpy as np
import pytest

from helpers.collisions import hits, particles
from manyscale.events import pythia
from manyscale.events.jets import cluster
from manyscale.events.settings import GenerateSettings
from manyscale.events.truth import BOTTOM, CHARM, HIGGS, charge_of, heaviest_flavour, match_h_bb

SETTINGS = GenerateSettings(multiparton=False)


def test_a_higgs_is_the_nearest_jet_within_the_radius():
    jets = [(300, 0, 3.1), (250, 0, 1.9)]
    pairs = cluster(hits([[(9, 0, 0)], jets, jets, jets, jets]), 1.0, 200)
    higgs = particles(
        [
            [(25, 300, 0, 0)],  # of an event without a pair
            [(25, 300, 0, -3.1), (25, 300, 0, 2.4)],  # across the seam of phi; between the two
            [(25, 300, 0.7, 3.1), (25, 300, 0.6, 3.1)],  # both in one jet
            [(25, 300, 1.1, 3.1), (25, 300, 0, -1)],  # too far
            [],
        ]
    )
    assert match_h_bb(higgs, pairs, 1.0).tolist() == [[1, 1], [1, 0], [0, 0], [0, 0]]


def test_no_pair_of_jets():
    pairs = cluster(hits([[(9, 0, 0)]]), 1.0, 200)
    assert match_h_bb(particles([[(25, 300, 0, 0)]]), pairs, 1.0).shape == (0, 2)


def _higgs(process, lines=()):
    generator = pythia.start(process, [*SETTINGS.pythia_lines(process), *lines], 3)
    (truth,) = pythia.generate(generator, process, 20)
    return truth.higgs


def test_each_higgs_of_an_event_is_there_once_as_it_decays():
    higgs = _higgs("hh4b")
    assert (higgs.pdg_id == HIGGS).all()
    assert (higgs.counts == 2).all()
    mass = higgs.energy**2 - higgs.px**2 - higgs.py**2 - higgs.pz**2
    np.testing.assert_allclose(np.sqrt(mass), 125, atol=1)
    pair = [np.bincount(higgs.event, x) for x in (higgs.energy, higgs.px, higgs.py, higgs.pz)]
    assert np.median(np.sqrt(pair[0] ** 2 - sum(x**2 for x in pair[1:]))) == pytest.approx(
        1000, abs=10
    )


def test_a_higgs_that_decays_otherwise_does_not_count():
    assert len(_higgs("hh4b", ["25:onIfMatch=4 -4", "25:offIfMatch=5 -5"]).pdg_id) == 0
    assert len(_higgs("qcd_bb").pdg_id) == 0


def test_most_generated_jets_of_the_signal_are_a_higgs(signal):
    observables = signal.records.observables
    assert np.mean(observables.h_bb_j1) > 0.9
    assert np.mean(observables.h_bb_j2) > 0.75
    of_higgs = np.asarray(observables.m_j1)[np.asarray(observables.h_bb_j1) == 1]
    assert abs(np.median(of_higgs) - 125) < 15


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
