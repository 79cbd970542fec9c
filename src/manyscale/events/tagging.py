"""b-tags of jets, drawn from the heavy hadrons inside them."""

import numpy as np
from numpy.typing import NDArray

from manyscale.events.kinematics import Momentum
from manyscale.events.particles import BOTTOM, CHARM, Particles, heaviest_flavour
from manyscale.events.settings import TaggingSettings
from manyscale.events.truth import Axes, nearest_jet

__all__ = ["Tagger", "count_hadrons"]


class Tagger:
    """Draws b-tags; see `Detector` for what the outcome depends on.

    Parameters
    ----------
    settings
        Efficiency and mistag rates.
    seed
        Of its randomness.
    candidates
        Of each jet; a fat jet may be two b quarks.
    """

    def __init__(
        self, settings: TaggingSettings, seed: np.random.SeedSequence, candidates: int
    ) -> None:
        self.settings = settings
        self.candidates = candidates
        self._generator = np.random.default_rng(seed)

    def tag(self, n_bottom: NDArray[np.int64], n_charm: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the number of b-tags of each jet, at most one a candidate.

        The candidates are the jet's b hadrons first, then its charm hadrons, then light ones.

        Parameters
        ----------
        n_bottom, n_charm
            Hadrons in each jet; arrays of one shape, which is that of the outcome.
        """
        settings = self.settings
        candidate = np.arange(self.candidates)
        n_bottom, n_charm = n_bottom[..., None], n_charm[..., None]
        chance = np.where(
            candidate < n_bottom,
            settings.efficiency,
            np.where(candidate < n_bottom + n_charm, settings.charm, settings.light),
        )
        return (self._generator.random(chance.shape) < chance).sum(axis=-1)


def count_hadrons(
    heavy: Particles, jets: Axes, radius: float, min_pt: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Number of b hadrons and of charm hadrons of an event inside each of its jets, both (jets,).

    Parameters
    ----------
    heavy
        Hadrons of each event.
    jets
        Of the same events. A hadron within the radius of several counts for the nearest.
    radius
        In (eta, phi).
    min_pt
        Smallest pT in GeV of a hadron that counts.
    """
    hard = heavy.take(np.flatnonzero(np.hypot(heavy.px, heavy.py) > min_pt))
    momentum = Momentum(hard.px, hard.py, hard.pz, hard.energy)
    place = nearest_jet(hard.event, momentum.eta, momentum.phi, jets, radius)
    flavour = heaviest_flavour(hard.pdg_id)
    n_bottom, n_charm = (
        np.bincount(place[(place >= 0) & (flavour == quark)], minlength=len(jets.eta))
        for quark in (BOTTOM, CHARM)
    )
    return n_bottom, n_charm
