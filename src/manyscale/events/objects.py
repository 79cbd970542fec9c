"""What a detector saw, as the generator's way and the readers of files have it: hits, jets, leptons."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from manyscale.events.kinematics import Momentum, wrap_phi
from manyscale.events.ragged import Array, Columns, Floats, Integers, pair_up
from manyscale.events.settings import ObjectSettings
from manyscale.schema import ELECTRON, MUON

__all__ = [
    "UNKNOWN",
    "DetectedEvents",
    "Hits",
    "JetPairs",
    "Leptons",
    "SmallJets",
    "find_leptons",
    "missing_momentum",
]

#: Value of `h_bb` where nothing is known of the generator's particles.
UNKNOWN = -1
_ISOLATION_CONE = 0.3


@dataclass(frozen=True)
class Hits(Columns):
    """What a detector saw: tracks and cells, in GeV and radians; `particle_class` a code of `PARTICLE_CLASSES`.

    d0 and dz in mm, 0 for what leaves no track and where they are not measured.
    """

    pt: Floats
    eta: Floats
    phi: Floats
    energy: Floats
    charge: NDArray[np.int8]
    particle_class: NDArray[np.int8]
    d0: Floats
    dz: Floats

    @property
    def momentum(self) -> Momentum:
        """Their four-momenta, (hits,)."""
        return Momentum.of_polar(self.pt, self.eta, self.phi, self.energy)


class _Objects(Columns):
    pt: Floats

    def by_pt(self) -> Self:
        """Return the same by falling pT in each event."""
        return self.take(np.lexsort((-self.pt, self.event)))


@dataclass(frozen=True)
class SmallJets(_Objects):
    """Small-R jets; `multiplicity` is the number of constituents."""

    pt: Floats
    eta: Floats
    phi: Floats
    mass: Floats
    multiplicity: Array
    n_btags: Array


@dataclass(frozen=True)
class Leptons(_Objects):
    """Isolated electrons and muons; `particle_class` a code of `PARTICLE_CLASSES`."""

    pt: Floats
    eta: Floats
    phi: Floats
    charge: Array
    particle_class: Array


@dataclass(frozen=True)
class JetPairs:
    """The two jets of highest pT of the events that have two.

    Attributes
    ----------
    event
        (pairs,): which event.
    momentum
        (pairs, 2): the jet of higher pT first.
    members, n_members
        (constituents,): places among all hits, jet by jet; (pairs, 2): how many each jet has. None
        where there are no hits.
    """

    event: Integers
    momentum: Momentum
    members: Integers | None = None
    n_members: Integers | None = None

    def take(self, which: NDArray[np.bool_]) -> "JetPairs":
        """Return some of the pairs."""
        members, n_members = self.members, self.n_members
        if members is not None and n_members is not None:
            members = members[np.repeat(which, n_members.sum(axis=1))]
            n_members = n_members[which]
        return JetPairs(self.event[which], self.momentum[which], members, n_members)

    def constituents(self, hits: Hits, jet: int) -> Hits:
        """Constituents of the first (0) or second (1) jet of each pair, by falling pT."""
        assert self.members is not None and self.n_members is not None  # noqa: S101, PT018
        jets = np.repeat(np.arange(self.n_members.size), self.n_members.ravel())
        counts = self.n_members[:, jet]
        # Hits of the same pT stay in their own order.
        places = np.sort(self.members[jets % 2 == jet])
        event = np.repeat(np.arange(len(counts)), counts)
        places = places[np.lexsort((-hits.pt[places], event))]
        return type(hits)(counts, *(column[places] for column in hits.columns))


@dataclass(frozen=True)
class DetectedEvents:
    """A batch of events.

    Attributes
    ----------
    entry, weight
        (events,): the index of each in its source, and its weight.
    hits
        All that can be a constituent, of all events; None where the source has no such thing.
    pairs
        The two fat jets of highest pT of the events that have two; their members are among `hits`.
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
    multiplicity: Integers | None = None
    h_bb: NDArray[np.int64] | None = None
    small_jets: SmallJets | None = None
    leptons: Leptons | None = None
    steps: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    weights: Mapping[str, Floats] = field(default_factory=dict)
    observables: Mapping[str, Array] = field(default_factory=dict)


def find_leptons(hits: Hits, settings: ObjectSettings) -> Leptons:
    """Electrons and muons of each event that little else is near, by falling pT.

    Parameters
    ----------
    hits
        What the detector saw.
    settings
        Smallest pT, and what isolated means: the pT of all other hits within 0.3 in (eta, phi),
        over the lepton's own.
    """
    lepton = np.isin(hits.particle_class, (ELECTRON, MUON)) & (hits.pt > settings.lepton_pt)
    candidate = hits.take(np.flatnonzero(lepton))
    one, other = pair_up(candidate.event, hits.counts)
    distance = np.hypot(
        candidate.eta[one] - hits.eta[other], wrap_phi(candidate.phi[one] - hits.phi[other])
    )
    near = (distance < _ISOLATION_CONE) & (np.flatnonzero(lepton)[one] != other)
    around = np.bincount(one[near], hits.pt[other[near]], len(candidate.pt))
    found = candidate.take(np.flatnonzero(around <= settings.isolation * candidate.pt))
    columns = (found.pt, found.eta, found.phi, found.charge, found.particle_class)
    return Leptons(found.counts, *columns).by_pt()


def missing_momentum(hits: Hits) -> tuple[Array, Array]:
    """Components (events,) of minus the sum of the transverse momenta of all hits."""
    n_events = len(hits.counts)
    return (
        -np.bincount(hits.event, hits.pt * np.cos(hits.phi), n_events),
        -np.bincount(hits.event, hits.pt * np.sin(hits.phi), n_events),
    )
