"""The cuts on the two jets of highest pT, and the cutflow that they make."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from manyscale.events.bookkeeping import Cutflow, CutStep
from manyscale.events.detected import DetectedEvents
from manyscale.events.particles import Array
from manyscale.events.settings import CutSettings

__all__ = ["select"]


def select(
    events: DetectedEvents, cuts: CutSettings, first_step: str
) -> tuple[NDArray[np.bool_], Cutflow]:
    """Which pairs of jets pass all cuts, and how much passed each.

    Parameters
    ----------
    events
        With their own steps, which come before the cuts on the jets.
    cuts
        The cuts.
    first_step
        Name of the cutflow's first step, which counts all events.

    Returns
    -------
    passed : (pairs,)
    cutflow
    """
    kept = np.ones(len(events.weight), bool)
    cutflow = [CutStep(first_step, len(kept), float(events.weight.sum()))]
    for step, mask in events.steps.items():
        kept = kept & mask
        cutflow.append(CutStep(step, int(kept.sum()), float(events.weight[kept].sum())))
    passed = kept[events.pairs.event]
    weight = events.weight[events.pairs.event]
    for step, of_pairs in _cuts_on_jets(events, cuts):
        passed = passed & of_pairs
        cutflow.append(CutStep(step, int(passed.sum()), float(weight[passed].sum())))
    return passed, tuple(cutflow)


def _cuts_on_jets(events: DetectedEvents, cuts: CutSettings) -> Iterator[tuple[str, Array]]:
    pt, eta = events.pairs.momentum.pt, np.abs(events.pairs.momentum.eta)
    yield f"two jets, pT > {cuts.second_pt:g} GeV", pt[:, 1] > cuts.second_pt
    yield f"leading jet pT > {cuts.leading_pt:g} GeV", pt[:, 0] > cuts.leading_pt
    yield f"both abs(eta) < {cuts.max_eta:g}", np.all(eta < cuts.max_eta, axis=1)
    if cuts.min_btags:
        yield f"b-tags >= {cuts.min_btags}", events.n_btags.sum(axis=1) >= cuts.min_btags
