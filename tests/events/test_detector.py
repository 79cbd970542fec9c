import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.collisions import PERFECT, particles, random_particles
from manyscale.events.detector import Detector, smear
from manyscale.events.settings import CalorimeterSettings, DetectorSettings
from manyscale.schema import CHARGED_HADRON, ELECTRON, MUON, NEUTRAL_HADRON, PHOTON

MANY = 20_000


def _see(settings, generated, seed=1):
    return Detector(settings, np.random.SeedSequence(seed)).see(generated)


def _changed(part, **changes):
    """The perfect detector with one fault."""
    faulty = getattr(PERFECT, part).model_copy(update=changes)
    return PERFECT.model_copy(update={part: faulty})


def test_perfect_detector_sees_every_particle_as_it_is():
    generated = particles(
        [[(211, 10, 0.5, 1), (-11, 8, -2, 3), (13, 6, 0, -3), (22, 5, 3, 0), (2112, 4, -1, 2)]]
    )
    seen = _see(PERFECT, generated)
    np.testing.assert_allclose(seen.pt[:4], [10, 8, 6, 5])
    np.testing.assert_allclose(seen.eta, [0.5, -2, 0, 3, -1], atol=1e-12)
    np.testing.assert_allclose(seen.phi, [1, 3, -3, 0, 2], atol=1e-12)
    assert seen.charge.tolist() == [1, 1, -1, 0, 0]
    assert seen.particle_class.tolist() == [CHARGED_HADRON, ELECTRON, MUON, PHOTON, NEUTRAL_HADRON]
    # A calorimeter measures the energy, from which the mass of a neutron cannot be told.
    np.testing.assert_allclose(seen.energy[[0, 3, 4]], generated.energy[[0, 3, 4]])


def test_perfect_detector_conserves_energy_and_momentum():
    generated = random_particles(1, [60, 0, 40])
    visible = ~np.isin(np.abs(generated.pdg_id), (12, 14)) & (
        np.abs(generated.pz) < np.hypot(generated.px, generated.py) * np.sinh(6)
    )
    seen = _see(PERFECT, generated)
    n_events = len(generated.counts)
    energy = np.bincount(generated.event[visible], generated.energy[visible], n_events)
    np.testing.assert_allclose(np.bincount(seen.event, seen.energy, n_events), energy, rtol=0.01)
    tracks = seen.charge != 0
    charged = np.isin(np.abs(generated.pdg_id), (11, 13, 211)) & visible
    for measured, true in ((np.cos, generated.px), (np.sin, generated.py)):
        np.testing.assert_allclose(
            np.bincount(seen.event[tracks], (seen.pt * measured(seen.phi))[tracks], n_events),
            np.bincount(generated.event[charged], true[charged], n_events),
            atol=1e-9,
        )


def test_every_stable_hadron_that_is_charged_leaves_a_track():
    """Files of generators hold undecayed D, B and Lambda_c, and nuclei."""
    charged = {411: 1, -431: -1, 521: 1, 4122: 1, -5132: 1, 1000020040: 2}
    seen = _see(PERFECT, particles([[(code, 10, 0.5, 1)] for code in (*charged, 421, 511)]))
    assert seen.charge.tolist() == [*charged.values(), 0, 0]
    assert seen.particle_class.tolist() == [CHARGED_HADRON] * 6 + [NEUTRAL_HADRON] * 2


def test_neutrinos_and_dark_matter_are_not_seen():
    seen = _see(PERFECT, particles([[(12, 50, 0, 0), (1000022, 50, 0, 0), (52, 50, 0, 0)]]))
    assert seen.counts.tolist() == [0]


def test_no_particles_at_all():
    seen = _see(DetectorSettings(), particles([[], []]))
    assert seen.counts.tolist() == [0, 0]
    assert len(seen.pt) == 0


def test_hits_stand_in_the_order_of_falling_pt_in_each_event():
    seen = _see(DetectorSettings(), random_particles(2, [200, 50, 0, 100]))
    same = np.diff(seen.event) == 0
    assert (np.diff(seen.pt)[same] <= 0).all()
    assert (np.diff(seen.event) >= 0).all()
    assert (np.abs(seen.phi) <= np.pi).all()


@pytest.mark.parametrize("pt", [2.0, 400.0])
def test_track_resolution_is_that_of_the_settings(pt):
    settings = _changed("tracks", resolution=0.02, resolution_slope=1e-4)
    seen = _see(settings, particles([[(211, pt, 0.3, 0)] * MANY]))
    relative = seen.pt / pt
    assert relative.mean() == pytest.approx(1, abs=1e-3)
    assert relative.std() == pytest.approx(np.hypot(0.02, 1e-4 * pt), rel=0.03)


def test_track_angle_is_that_of_the_settings():
    settings = _changed("tracks", angle=0.01)
    seen = _see(settings, particles([[(211, 10, 0.3, np.pi)] * MANY]))
    assert seen.eta.std() == pytest.approx(0.01, rel=0.03)
    # The particles fly at the seam of phi: both ends of its range are hit.
    assert (seen.phi > 3).any()
    assert (seen.phi < -3).any()
    assert np.minimum(np.abs(seen.phi - np.pi), np.abs(seen.phi + np.pi)).max() < 0.06


@pytest.mark.parametrize(("part", "code"), [("photons", 22), ("hadrons", 130)])
@pytest.mark.parametrize("energy", [4.0, 100.0])
def test_calorimeter_resolution_is_that_of_the_settings(part, code, energy):
    settings = _changed(part, stochastic=0.5, constant=0.05)
    pt = np.sqrt(energy**2 - (0.49761**2 if code == 130 else 0))
    seen = _see(settings, particles([[(code, pt, 0, 0)] * MANY]))
    assert seen.energy.mean() == pytest.approx(energy, rel=0.01)
    expected = np.hypot(0.5 / np.sqrt(energy), 0.05)
    assert (seen.energy / energy).std() == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("pt", [0.6, 20.0])
def test_efficiency_is_that_of_the_settings(pt):
    settings = _changed("tracks", efficiency=0.9, turn_on=0.4)
    seen = _see(settings, particles([[(13, pt, 0, 0)] * MANY]))
    expected = 0.9 * (1 - np.exp(-pt / 0.4))
    error = np.sqrt(expected * (1 - expected) / MANY)
    assert seen.counts[0] / MANY == pytest.approx(expected, abs=4 * error)


def test_lost_tracks_are_seen_by_the_calorimeters():
    settings = _changed("tracks", efficiency=0)
    seen = _see(settings, particles([[(211, 10, 0.5, 1), (11, 8, 0, 0), (13, 6, 0, 0)]]))
    assert seen.particle_class.tolist() == [NEUTRAL_HADRON, PHOTON]
    assert seen.charge.tolist() == [0, 0]


def test_acceptance_and_thresholds():
    settings = PERFECT.model_copy(
        update={
            "tracks": PERFECT.tracks.model_copy(update={"max_eta": 2.5, "min_pt": 1.0}),
            "photons": PERFECT.photons.model_copy(update={"max_eta": 3.0, "min_pt": 2.0}),
            "hadrons": PERFECT.hadrons.model_copy(update={"max_eta": 3.0, "min_pt": 2.0}),
        }
    )
    inside = [(13, 1.1, 2.4, 0), (22, 2.1, 2.9, 0), (211, 3, 2.7, 0)]
    outside = [(13, 0.9, 0, 0), (13, 9, 2.6, 0), (22, 1.9, 0, 0), (22, 9, 3.1, 0), (211, 9, 3.1, 0)]
    seen = _see(settings, particles([inside + outside]))
    assert sorted(seen.particle_class.tolist()) == [MUON, PHOTON, NEUTRAL_HADRON]


def test_particles_of_one_cell_are_one_hit():
    settings = _changed("hadrons", cell=0.1)
    one_cell = [(130, 3, 0.51, 1.01), (2112, 4, 0.59, 1.03)]
    other_cells = [(130, 5, 0.61, 1.01), (22, 6, 0.51, 1.01), (22, 1, 0.51, 1.01)]
    generated = particles([[*one_cell, *other_cells], one_cell])
    seen = _see(settings, generated)
    assert seen.counts.tolist() == [4, 1]
    np.testing.assert_allclose(seen.energy[-1], generated.energy[-2:].sum())
    np.testing.assert_allclose(seen.eta[-1], 0.55)
    step = 2 * np.pi / 63
    assert abs(seen.phi[-1] - 1.02) < step / 2


def test_cells_close_the_circle():
    settings = _changed("hadrons", cell=0.5)
    seen = _see(settings, particles([[(130, 3, 0.1, np.pi), (130, 3, 0.1, -np.pi + 1e-9)]]))
    assert seen.counts.tolist() == [1]


@settings(max_examples=25, deadline=None)
@given(
    counts=st.lists(st.integers(0, 30), min_size=2, max_size=6),
    cut=st.integers(1, 5),
    seed=st.integers(0, 1000),
)
def test_division_into_calls_changes_nothing(counts, cut, seed):
    cut = min(cut, len(counts) - 1)
    generated = random_particles(seed, counts)
    whole = _see(DetectorSettings(), generated)
    detector = Detector(DetectorSettings(), np.random.SeedSequence(1))
    first = detector.see(generated.take_events(np.arange(cut)))
    second = detector.see(generated.take_events(np.arange(cut, len(counts))))
    for name in ("counts", "pt", "eta", "phi", "energy", "charge", "particle_class"):
        joined = np.concatenate([getattr(first, name), getattr(second, name)])
        np.testing.assert_array_equal(joined, getattr(whole, name))


def test_same_seed_same_bits_and_another_seed_others():
    generated = random_particles(4, [100])
    once, again, other = (_see(DetectorSettings(), generated, seed) for seed in (1, 1, 2))
    assert once.pt.tobytes() == again.pt.tobytes()
    assert once.pt.tobytes() != other.pt.tobytes()


@settings(max_examples=30, deadline=None)
@given(relative=st.floats(0, 1))
def test_smearing_has_the_stated_moments(relative):
    normal = np.random.default_rng(1).standard_normal(200_000)
    smeared = smear(np.full(len(normal), 7.0), relative, normal)
    assert (smeared > 0).all()
    assert smeared.mean() == pytest.approx(7, rel=0.01)
    assert smeared.std() == pytest.approx(7 * relative, rel=0.04, abs=1e-9)


def test_cells_of_any_size_are_allowed():
    settings = _changed("photons", **CalorimeterSettings(cell=1.0, min_pt=0).model_dump())
    assert _see(settings, particles([[(22, 5, 4.9, -3.1)]])).counts.tolist() == [1]
