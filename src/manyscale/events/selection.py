"""The cuts on the two jets of highest pT, and the cutflow that they make."""

import numpy as np
from numpy.typing import NDArray

from manyscale.events.bookkeeping import Cutflow, CutStep
from manyscale.events.clustering import JetPairs
from manyscale.events.particles import Floats
from manyscale.events.settings import CutSettings

__all__ = ["select"]


def select(
    pairs: JetPairs, n_btags: NDArray[np.int64], weight: Floats, cuts: CutSettings
) -> tuple[NDArray[np.bool_], Cutflow]:
    """Which pairs pass all cuts, and how much passed each.

    Parameters
    ----------
    pairs
        Jets above `cuts.second_pt`.
    n_btags
        (pairs, 2): b-tags of both jets.
    weight
        (events,): weights of all events, with jets or without.
    cuts
        The cuts.
    """
    pt, eta = pairs.momentum.pt, np.abs(pairs.momentum.eta)
    steps = {
        f"two jets, pT > {cuts.second_pt:g} GeV": np.ones(len(pairs.event), bool),
        f"leading jet pT > {cuts.leading_pt:g} GeV": pt[:, 0] > cuts.leading_pt,
        f"both abs(eta) < {cuts.max_eta:g}": (eta < cuts.max_eta).all(axis=1),
    }
    if cuts.min_btags:
        steps[f"b-tags >= {cuts.min_btags}"] = n_btags.sum(axis=1) >= cuts.min_btags
    passed = np.ones(len(pairs.event), bool)
    cutflow = [CutStep("generated", len(weight), float(weight.sum()))]
    for step, kept in steps.items():
        passed &= kept
        sum_weights = float(weight[pairs.event[passed]].sum())
        cutflow.append(CutStep(step, int(passed.sum()), sum_weights))
    return passed, tuple(cutflow)
