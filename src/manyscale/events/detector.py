"""A parametrised detector in numpy: tracks, electromagnetic cells and hadron cells.

Charged particles leave tracks; a charged hadron or electron whose track is lost is seen by the
calorimeters alone, a muon not at all. Photons, neutral hadrons and those without a track share
cells of fixed size in eta and phi. Tracks are given the mass of the pion, cells none.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from manyscale.events.kinematics import wrap_phi
from manyscale.events.objects import Hits
from manyscale.events.ragged import Array, Floats
from manyscale.events.settings import CalorimeterSettings, DetectorSettings
from manyscale.events.truth import Particles, charge_of, is_hadron
from manyscale.schema import CHARGED_HADRON, ELECTRON, MUON, NEUTRAL_HADRON, PHOTON

__all__ = ["Detector", "smear"]

_PION_MASS = 0.13957
_INVISIBLE = -1
# The settings allow no acceptance beyond.
_MAX_ETA = 6.0


def smear(values: Floats, relative: Floats | float, normal: Floats) -> Floats:
    """Smear positive values: log-normal with mean `values` and deviation `relative * values`.

    Parameters
    ----------
    values, normal
        (n,): what is smeared, and standard normal deviates.
    relative
        (n,) or one number: the relative resolution.
    """
    variance = np.log1p(np.square(relative))
    return values * np.exp(np.sqrt(variance) * normal - variance / 2)


class _Seen(NamedTuple):
    """What reaches the detector, or is measured there: columns (n,), in the order of events."""

    event: Array
    pt: Array
    eta: Array
    phi: Array
    energy: Array
    charge: Array
    particle_class: Array

    def take(self, which: NDArray[np.bool_]) -> "_Seen":
        return _Seen(*(column[which] for column in self))


class Detector:
    """What the detector makes of generated particles.

    The outcome for an event depends on the seed and the events before it, but not on those that
    follow, nor on how the events are divided into calls: each kind of chance has a generator of its
    own, which draws in the order of the events.

    Parameters
    ----------
    settings
        Resolutions, efficiencies, thresholds.
    seed
        Of all its randomness.
    """

    def __init__(self, settings: DetectorSettings, seed: np.random.SeedSequence) -> None:
        self.settings = settings
        self._finding, self._tracking, self._photons, self._hadrons = (
            np.random.default_rng(stream) for stream in seed.spawn(4)
        )

    def see(self, stable: Particles) -> Hits:
        """Return tracks and cells of each event, those of highest pT first."""
        settings = self.settings
        seen = _visible(stable)
        tracked = self._find_tracks(seen)
        rest = seen.take(~tracked)
        photons = np.isin(rest.particle_class, (PHOTON, ELECTRON))
        hadrons = np.isin(rest.particle_class, (NEUTRAL_HADRON, CHARGED_HADRON))
        parts = (
            self._measure_tracks(seen.take(tracked)),
            _measure_cells(rest.take(photons), settings.photons, PHOTON, self._photons),
            _measure_cells(rest.take(hadrons), settings.hadrons, NEUTRAL_HADRON, self._hadrons),
        )
        joined = _Seen(
            *(np.concatenate([part[column] for part in parts]) for column in range(len(parts[0])))
        )
        order = np.lexsort((-joined.pt, joined.event))
        counts = np.bincount(joined.event, minlength=len(stable.counts))
        unmeasured = np.zeros(len(order))
        measured = (column[order] for column in joined[1:])
        return Hits(counts, *(*measured, unmeasured, unmeasured))

    def _find_tracks(self, seen: _Seen) -> NDArray[np.bool_]:
        settings = self.settings.tracks
        efficiency = np.full(len(seen.pt), settings.efficiency)
        if settings.turn_on > 0:
            efficiency *= -np.expm1(-seen.pt / settings.turn_on)
        found = self._finding.random(len(seen.pt)) < efficiency
        inside = (np.abs(seen.eta) < settings.max_eta) & (seen.pt > settings.min_pt)
        return found & inside & (seen.charge != 0)

    def _measure_tracks(self, tracks: _Seen) -> _Seen:
        settings = self.settings.tracks
        normal = self._tracking.standard_normal((len(tracks.pt), 3))
        resolution = np.hypot(settings.resolution, settings.resolution_slope * tracks.pt)
        pt = smear(tracks.pt, resolution, normal[:, 0])
        eta = tracks.eta + settings.angle * normal[:, 1]
        phi = wrap_phi(tracks.phi + settings.angle * normal[:, 2])
        energy = np.hypot(pt * np.cosh(eta), _PION_MASS)
        return tracks._replace(pt=pt, eta=eta, phi=phi, energy=energy)


def _visible(stable: Particles) -> _Seen:
    """Particles that any part of the detector reacts to."""
    # A kind of particle once, of the hundreds that there are of it.
    kinds, kind = np.unique(stable.pdg_id, return_inverse=True)
    charge, size = charge_of(kinds).astype(np.int8), np.abs(kinds)
    known = [size == 11, size == 13, size == 22, is_hadron(kinds) & (charge != 0), is_hadron(kinds)]
    classes = (ELECTRON, MUON, PHOTON, CHARGED_HADRON, NEUTRAL_HADRON)
    particle_class = np.select(known, classes, _INVISIBLE).astype(np.int8)[kind]
    pt = np.hypot(stable.px, stable.py)
    inside = np.abs(stable.pz) < pt * np.sinh(_MAX_ETA)
    seen = np.flatnonzero((particle_class != _INVISIBLE) & inside)
    pt = pt[seen]
    return _Seen(
        stable.event[seen],
        pt,
        np.arcsinh(stable.pz[seen] / pt),
        np.arctan2(stable.py[seen], stable.px[seen]),
        stable.energy[seen],
        charge[kind[seen]],
        particle_class[seen],
    )


def _measure_cells(
    particles: _Seen,
    settings: CalorimeterSettings,
    particle_class: int,
    generator: np.random.Generator,
) -> _Seen:
    """Sum the energies in each cell, smear them, and keep the cells above the threshold."""
    inside = particles.take(np.abs(particles.eta) < settings.max_eta)
    event, eta, phi, energy = inside.event, inside.eta, inside.phi, inside.energy
    if settings.cell > 0:
        event, eta, phi, energy = _share_cells(event, eta, phi, energy, settings.cell)
    resolution = np.hypot(settings.stochastic / np.sqrt(energy), settings.constant)
    energy = smear(energy, resolution, generator.standard_normal(len(energy)))
    pt = energy / np.cosh(eta)
    charge = np.zeros(len(pt), np.int8)
    kind = np.full(len(pt), particle_class, np.int8)
    return _Seen(event, pt, eta, phi, energy, charge, kind).take(pt > settings.min_pt)


def _share_cells(
    event: Array, eta: Array, phi: Array, energy: Array, size: float
) -> tuple[Array, Array, Array, Array]:
    """Events, centres and energies of the cells that were hit, in the order of events."""
    n_phi = max(round(2 * np.pi / size), 1)
    n_eta = 2 * int(np.ceil(_MAX_ETA / size))
    step = 2 * np.pi / n_phi
    in_eta = np.floor(eta / size).astype(np.int64) + n_eta // 2
    in_phi = np.floor((phi + np.pi) / step).astype(np.int64) % n_phi
    cells, member = np.unique((event * n_eta + in_eta) * n_phi + in_phi, return_inverse=True)
    row, in_phi = np.divmod(cells, n_phi)
    event, in_eta = np.divmod(row, n_eta)
    centre_eta = (in_eta - n_eta // 2 + 0.5) * size
    centre_phi = (in_phi + 0.5) * step - np.pi
    return event, centre_eta, centre_phi, np.bincount(member, energy, len(cells))
