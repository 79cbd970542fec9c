import numpy as np
import pytest

from helpers.collisions import hits, particles
from manyscale.events import pythia
from manyscale.events.jets import cluster
from manyscale.events.settings import GenerateSettings
from manyscale.events.truth import HIGGS, match_h_bb

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
