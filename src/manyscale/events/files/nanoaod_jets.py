"""Fat jets of NanoAOD: the two hardest, what they are made of, and their b-tags."""

from typing import NamedTuple

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from manyscale.events.clustering import JetPairs, hardest_two
from manyscale.events.files.nanoaod_branches import (
    FAT_JETS,
    SMALL_JETS,
    SUBJET_INDICES,
    Candidates,
    Tagger,
)
from manyscale.events.files.nanoaod_collections import Collections
from manyscale.events.kinematics import Momentum
from manyscale.events.particles import Array, Floats, Hits, Integers
from manyscale.events.truth import count_inside
from manyscale.schema import CHARGED_HADRON, ELECTRON, MUON, NEUTRAL_HADRON, PHOTON

__all__ = [
    "RADIUS",
    "LeadingJets",
    "constituents",
    "count_subjet_tags",
    "count_tags_inside",
    "four_momenta",
    "leading_jets",
]

#: Of the fat jets, anti-kT.
RADIUS = 0.8

_CM = 10.0  # in mm

# CMS numbers hadronic and electromagnetic energy in the forward calorimeter 1 and 2.
_CLASSES = {11: ELECTRON, 13: MUON, 22: PHOTON, 2: PHOTON, 130: NEUTRAL_HADRON, 1: NEUTRAL_HADRON}
_LARGEST = 255


def _table() -> NDArray[np.int8]:
    table = np.full(_LARGEST + 1, CHARGED_HADRON, np.int8)
    table[list(_CLASSES)] = list(_CLASSES.values())
    return table


_CLASS_OF = _table()


class LeadingJets(NamedTuple):
    """The two fat jets of highest pT of the events that have two.

    Attributes
    ----------
    event
        (pairs,): which event.
    place
        (pairs, 2): which of all fat jets of the batch.
    momentum
        (pairs, 2)
    """

    event: Integers
    place: Integers
    momentum: Momentum


def leading_jets(events: Collections, min_pt: float) -> LeadingJets:
    """Find the two fat jets of highest pT, both above `min_pt` in GeV, in whatever order they are."""
    jets = events.finite(FAT_JETS)
    event, place = hardest_two(jets.counts, jets.columns[0], min_pt)
    return LeadingJets(event, place, four_momenta(*(column[place] for column in jets.columns)))


def four_momenta(pt: Array, eta: Array, phi: Array, mass: Array) -> Momentum:
    """Components in double precision; a negative mass stands for a negative square of it."""
    pt, eta, phi, mass = (x.astype(np.float64) for x in (pt, eta, phi, mass))
    return Momentum(pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), _energy(pt, eta, mass))


def _energy(pt: Array, eta: Array, mass: Array) -> Array:
    return np.sqrt(np.square(pt * np.cosh(eta)) + mass * np.abs(mass))


def constituents(
    events: Collections, names: Candidates, jets: LeadingJets
) -> tuple[Hits, JetPairs, int]:
    """Take the candidates of the two jets, and no others, as hits.

    The fat jets of CMS are clustered of candidates weighted with their PUPPI weight, so these are
    weighted, too, by the weight that stands beside them; NanoAOD itself stores them weighted. Their
    sum is the jet before its energy correction. What has no weight is no part of a jet.

    Returns
    -------
    hits
    pairs
    empty
        How many of the jets have no candidates.
    """
    slot, place = _linked(events, names, jets)
    pt, eta, phi, mass = (
        c[place].astype(np.float64) for c in events.finite(names.momentum).columns
    )
    energy = _energy(pt, eta, mass)
    if names.puppi:
        (weight,) = events.finite([names.puppi]).columns
        pt, energy = pt * weight[place], energy * weight[place]
    pdg_id = events.flat([names.pdg_id]).columns[0][place]
    if names.charge:
        charge = events.flat([names.charge]).columns[0][place].astype(np.int8)
    else:
        charge = _charge(pdg_id)
    columns = (
        *(pt, eta, phi, energy, charge, _CLASS_OF[np.minimum(np.abs(pdg_id), _LARGEST)]),
        *(_displacement(events, name, place, charge) for name in (names.d0, names.dz)),
    )
    kept = pt > 0
    return _as_hits(jets, slot[kept], tuple(column[kept] for column in columns), len(events))


def _linked(events: Collections, names: Candidates, jets: LeadingJets) -> tuple[Integers, Integers]:
    """For each link to one of the two jets, in their order: which jet of all pairs, which candidate."""
    links = events.flat([names.jet, names.candidate])
    jet, candidate = links.columns
    event = links.event
    jet = events.places(names.jet, jet, event, FAT_JETS[0])
    candidate = events.places(names.candidate, candidate, event, names.momentum[0])
    slots = np.full(events.counts(FAT_JETS[0]).sum(), -1)
    slots[jets.place.ravel()] = np.arange(jets.place.size)
    slot = slots[jet]
    inside = np.flatnonzero(slot >= 0)
    inside = inside[np.argsort(slot[inside], kind="stable")]
    return slot[inside], candidate[inside]


def _charge(pdg_id: Array) -> NDArray[np.int8]:
    """Of what CMS writes for charged particles: electrons, muons, and pions for all hadrons."""
    code = np.abs(pdg_id)
    of_matter = np.where((code == 11) | (code == 13), -1, np.where(code == 211, 1, 0))
    return (of_matter * np.sign(pdg_id)).astype(np.int8)


def _displacement(events: Collections, name: str | None, place: Integers, charge: Array) -> Floats:
    """In mm; 0 for what leaves no track."""
    if name is None:
        return np.zeros(len(place))
    values = events.finite([name]).columns[0][place]
    return np.where(charge == 0, 0.0, _CM * values.astype(np.float64))


def _as_hits(
    jets: LeadingJets, slot: Integers, columns: tuple[Array, ...], n_events: int
) -> tuple[Hits, JetPairs, int]:
    sizes = np.bincount(slot, minlength=jets.place.size)
    of_pair = sizes.reshape(-1, 2).sum(axis=1)
    counts = np.zeros(n_events, np.int64)
    counts[jets.event] = of_pair
    place = np.arange(len(slot)) - np.repeat(np.cumsum(of_pair) - of_pair, of_pair)
    members = ak.unflatten(ak.unflatten(place, sizes), np.full(len(of_pair), 2))
    pairs = JetPairs(jets.event, jets.momentum, members)
    return Hits(counts, *columns), pairs, int(np.count_nonzero(sizes == 0))


def count_subjet_tags(events: Collections, tagger: Tagger, jets: LeadingJets) -> Integers:
    """(pairs, 2): how many of the two subjets of each jet are tagged."""
    (score,) = events.flat([tagger.branch]).columns
    indices = events.flat(SUBJET_INDICES)
    tags = np.zeros(len(indices.event), np.int64)
    for branch, index in zip(SUBJET_INDICES, indices.columns, strict=True):
        has = np.flatnonzero(index >= 0)  # -1: there is none
        place = events.places(branch, index[has], indices.event[has], tagger.branch)
        tags[has] += score[place] > tagger.threshold
    return tags[jets.place]


def count_tags_inside(events: Collections, tagger: Tagger, jets: LeadingJets) -> Integers:
    """(pairs, 2): how many tagged small jets lie within each jet, at most two."""
    small = events.finite(SMALL_JETS)
    (score,) = events.flat([tagger.branch]).columns
    tagged = np.flatnonzero(score > tagger.threshold)
    eta, phi = (small.columns[place][tagged] for place in (1, 2))
    pairs = JetPairs(jets.event, jets.momentum, None)
    return np.minimum(count_inside(small.event[tagged], eta, phi, pairs, RADIUS), 2)
