"""b-tags of jets, drawn from the heavy hadrons inside them."""

import numpy as np
from numpy.typing import NDArray

from manyscale.events.momentum import Momentum
from manyscale.events.particles import BOTTOM, CHARM, Particles, heaviest_flavour
from manyscale.events.record import wrap_phi
from manyscale.events.settings import TaggingSettings

__all__ = ["Tagger", "count_hadrons"]

_CANDIDATES = 2


class Tagger:
    """Draws b-tags; see `Detector` for what the outcome depends on.

    Parameters
    ----------
    settings
        Efficiency and mistag rates.
    seed
        Of its randomness.
    """

    def __init__(self, settings: TaggingSettings, seed: np.random.SeedSequence) -> None:
        self.settings = settings
        self._generator = np.random.default_rng(seed)

    def tag(self, n_bottom: NDArray[np.int64], n_charm: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the number of b-tags of each jet, 0 to 2.

        A jet has two candidates: its b hadrons first, then its charm hadrons, then light ones.

        Parameters
        ----------
        n_bottom, n_charm
            (events, jets): hadrons in each jet.
        """
        settings = self.settings
        candidate = np.arange(_CANDIDATES)
        n_bottom, n_charm = n_bottom[..., None], n_charm[..., None]
        chance = np.where(
            candidate < n_bottom,
            settings.efficiency,
            np.where(candidate < n_bottom + n_charm, settings.charm, settings.light),
        )
        return (self._generator.random(chance.shape) < chance).sum(axis=-1)


def count_hadrons(
    heavy: Particles, jets: Momentum, radius: float, min_pt: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Number of b hadrons and of charm hadrons of an event inside each of its jets.

    Parameters
    ----------
    heavy
        Hadrons of each event.
    jets
        (events, jets). A hadron within the radius of several counts for the nearest.
    radius
        In (eta, phi).
    min_pt
        Smallest pT in GeV of a hadron that counts.
    """
    n_events, n_jets = jets.px.shape
    hard = heavy.take(np.flatnonzero(np.hypot(heavy.px, heavy.py) > min_pt))
    hadron = Momentum(hard.px, hard.py, hard.pz, hard.energy)
    delta_eta = hadron.eta[:, None] - jets.eta[hard.event]
    delta_phi = wrap_phi(hadron.phi[:, None] - jets.phi[hard.event])
    distance = np.hypot(delta_eta, delta_phi)
    nearest = distance.argmin(axis=1)
    place = hard.event * n_jets + nearest
    inside = distance.min(axis=1, initial=np.inf) < radius
    flavour = heaviest_flavour(hard.pdg_id)
    n_bottom, n_charm = (
        np.bincount(place[inside & (flavour == quark)], minlength=n_events * n_jets)
        for quark in (BOTTOM, CHARM)
    )
    return n_bottom.reshape(n_events, n_jets), n_charm.reshape(n_events, n_jets)
