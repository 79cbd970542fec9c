import numpy as np
import pytest

from helpers.collisions import PERFECT, particles
from manyscale.events.detector import Detector
from manyscale.events.objects import find_leptons
from manyscale.events.settings import ObjectSettings
from manyscale.schema import ELECTRON, MUON

SETTINGS = ObjectSettings(jet_radius=0.4, jet_pt=25, lepton_pt=10, isolation=0.2)


def _seen(events):
    return Detector(PERFECT, np.random.SeedSequence(1)).see(particles(events))


def test_a_lepton_alone_is_isolated_and_one_in_a_jet_is_not():
    jet = [(211, 30, 0.1, 1.0), (130, 20, -0.1, 1.1), (22, 10, 0, 0.9)]
    leptons = find_leptons(
        _seen([[*jet, (13, 40, 0, 1), (-13, 50, 0, -2)], [(22, 60, 1, 1)], [(11, 30, 1, 3.1)]]),
        SETTINGS,
    )
    assert leptons.counts.tolist() == [1, 0, 1]
    assert leptons.pt == pytest.approx([50, 30])
    assert leptons.phi == pytest.approx([-2, 3.1])
    assert leptons.charge.tolist() == [1, -1]
    assert leptons.particle_class.tolist() == [MUON, ELECTRON]


@pytest.mark.parametrize(
    ("photon", "isolated"),
    [
        ((7.9, 0, 3.1), True),  # just below a fifth of the muon's pT
        ((8.1, 0, 3.1), False),
        ((8.1, 0.31, 3.1), True),  # outside the cone
        ((8.1, 0, -3.1), False),  # across the seam of phi
        ((8.1, 0.29, 3.1), False),
    ],
)
def test_what_isolated_means(photon, isolated):
    leptons = find_leptons(_seen([[(13, 40, 0, 3.1), (22, *photon)]]), SETTINGS)
    assert leptons.counts.tolist() == [int(isolated)]


def test_other_events_are_not_near():
    leptons = find_leptons(_seen([[(13, 40, 0, 1)], [(22, 40, 0, 1)], []]), SETTINGS)
    assert leptons.counts.tolist() == [1, 0, 0]


def test_leptons_stand_by_falling_pt_and_soft_ones_are_none():
    event = [(13, 20, 0, 1), (-11, 60, 0, -1), (13, 9.9, 1, 2), (11, 40, 0, 3)]
    leptons = find_leptons(_seen([event]), SETTINGS)
    assert leptons.pt == pytest.approx([60, 40, 20])
