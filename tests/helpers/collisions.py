"""Generated particles made up for tests of the detector and what follows it."""

import numpy as np

from manyscale.events.objects import Hits
from manyscale.events.settings import (
    CalorimeterSettings,
    DetectorSettings,
    TaggingSettings,
    TrackSettings,
)
from manyscale.events.truth import Particles

MASSES = {11: 0.000511, 13: 0.10566, 22: 0.0, 130: 0.49761, 211: 0.13957, 2112: 0.93957}

_PERFECT = CalorimeterSettings(max_eta=6, cell=0, stochastic=0, constant=0, min_pt=0)
#: Sees everything as it is.
PERFECT = DetectorSettings(
    tracks=TrackSettings(
        max_eta=6, min_pt=0, efficiency=1, turn_on=0, resolution=0, resolution_slope=0, angle=0
    ),
    photons=_PERFECT,
    hadrons=_PERFECT,
    btags=TaggingSettings(efficiency=1, charm=0, light=0, min_pt=0),
)


def particles(events: list[list[tuple[int, float, float, float]]]) -> Particles:
    """Particles (PDG code, pT, eta, phi) of some events, with their masses."""
    flat = np.array([p for event in events for p in event], float).reshape(-1, 4)
    code, pt, eta, phi = flat[:, 0].astype(np.int64), *flat[:, 1:].T
    mass = np.array([MASSES.get(abs(c), 0.0) for c in code])
    counts = np.array([len(event) for event in events], np.int64)
    energy = np.hypot(pt * np.cosh(eta), mass)
    return Particles(counts, code, pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), energy)


def random_particles(seed: int, counts: list[int]) -> Particles:
    """Particles of any kind in any direction."""
    rng = np.random.default_rng(seed)
    kinds = np.array([11, -11, 13, 22, 130, 211, -211, 2112, 12, -14])
    return particles(
        [
            [
                (rng.choice(kinds), rng.exponential(5) + 0.01, rng.normal(0, 2), rng.uniform(-3, 3))
                for _ in range(count)
            ]
            for count in counts
        ]
    )


def hits(events: list[list[tuple[float, float, float]]]) -> Hits:
    """Massless hits (pT, eta, phi) of some events, those of highest pT first."""
    ordered = [sorted(event, reverse=True) for event in events]
    pt, eta, phi = np.array([h for event in ordered for h in event], float).reshape(-1, 3).T
    zero = np.zeros(len(pt), np.int8)
    counts = np.array([len(event) for event in events], np.int64)
    return Hits(counts, pt, eta, phi, pt * np.cosh(eta), zero, zero, 0.0 * pt, 0.0 * pt)
