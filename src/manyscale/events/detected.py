"""Events as a detector saw them: what the generator's way and the readers of files have in common."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from manyscale.events.clustering import JetPairs
from manyscale.events.particles import Array, Floats, Hits, Integers, Leptons, SmallJets

__all__ = ["UNKNOWN", "DetectedEvents"]

#: Value of `h_bb` where nothing is known of the generator's particles.
UNKNOWN = -1


@dataclass(frozen=True)
class DetectedEvents:
    """A batch of events, flat: see particles.py.

    Attributes
    ----------
    entry, weight
        (events,): the index of each in its source, and its weight.
    hits
        All that can be a constituent, of all events; None where the source has no such thing.
    pairs
        The two fat jets of highest pT of the events that have two; their members are places among
        the event's `hits` (None where there are none).
    n_btags
        (pairs, 2): b-tags of the two jets.
    missing
        Components px, py (events,) of the missing transverse momentum in GeV.
    multiplicity
        (pairs, 2): number of constituents where `hits` is None and the source counts them.
    h_bb
        (pairs, 2): 1 where the jet is a h -> b bbar, 0 where not, `UNKNOWN`; None: all unknown.
    small_jets, leptons
        Where they were asked for.
    steps
        Name to (events,): selections of the card, applied before the cuts on the jets.
    weights, observables
        Further weights, and what the network never sees: name to (events,).
    """

    entry: Integers
    weight: Floats
    hits: Hits | None
    pairs: JetPairs
    n_btags: NDArray[np.int64]
    missing: tuple[Array, Array]
    multiplicity: NDArray[np.int64] | None = None
    h_bb: NDArray[np.int64] | None = None
    small_jets: SmallJets | None = None
    leptons: Leptons | None = None
    steps: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    weights: Mapping[str, Floats] = field(default_factory=dict)
    observables: Mapping[str, Array] = field(default_factory=dict)
