"""What NanoAOD has beside the fat jets: small jets, leptons, missing momentum, Higgs bosons."""

import numpy as np

from manyscale.events.files.nanoaod_branches import (
    GENERATED,
    LEPTONS,
    SMALL_JETS,
    Branches,
    LeptonKind,
)
from manyscale.events.files.nanoaod_collections import Collections
from manyscale.events.files.nanoaod_jets import four_momenta
from manyscale.events.particles import BOTTOM, HIGGS, Array, Integers, Leptons, Particles, SmallJets
from manyscale.events.settings import ObjectSettings

__all__ = ["find_higgs", "find_leptons", "find_small_jets", "missing_momentum"]


def missing_momentum(events: Collections, branches: Branches) -> tuple[Array, Array]:
    """Components (events,) px and py."""
    pt, phi = (events.each_event(b).astype(np.float64) for b in branches.missing_momentum)
    return pt * np.cos(phi), pt * np.sin(phi)


def find_small_jets(events: Collections, branches: Branches, settings: ObjectSettings) -> SmallJets:
    """Small jets above the card's pT, by falling pT; `n_btags` is 1 where tagged."""
    jets = events.finite(SMALL_JETS)
    multiplicity = n_btags = np.zeros(len(jets.columns[0]), np.int64)
    if branches.small_jet_size:
        (multiplicity,) = events.flat([branches.small_jet_size]).columns
    if branches.jet_tagger:
        (score,) = events.flat([branches.jet_tagger.branch]).columns
        n_btags = (score > branches.jet_tagger.threshold).astype(np.int64)
    chosen = jets.columns[0] > settings.jet_pt
    columns = tuple(column[chosen] for column in (*jets.columns, multiplicity, n_btags))
    return SmallJets(*_by_falling_pt(jets.event[chosen], columns, len(events)))


def find_leptons(events: Collections, branches: Branches, settings: ObjectSettings) -> Leptons:
    """Electrons and muons of medium quality, isolated, above the card's pT, by falling pT."""
    kinds = [
        _of_kind(events, kind, branches, settings)
        for kind in LEPTONS
        if kind.charge in branches.leptons
    ]
    event, *columns = (np.concatenate(column) for column in zip(*kinds, strict=True))
    return Leptons(*_by_falling_pt(event, tuple(columns), len(events)))


def _of_kind(
    events: Collections, kind: LeptonKind, branches: Branches, settings: ObjectSettings
) -> tuple[Array, ...]:
    """Event, pT, eta, phi, charge and code of the leptons of a kind that are taken."""
    found = events.finite(kind.momentum)
    columns = (*found.columns, *events.flat([kind.charge]).columns)
    chosen = columns[0] > settings.lepton_pt
    if kind.isolation in branches.leptons:
        chosen &= events.flat([kind.isolation]).columns[0] < settings.isolation
    if kind.quality in branches.leptons:
        chosen &= events.flat([kind.quality]).columns[0] >= kind.least
    code = np.full(np.count_nonzero(chosen), kind.code, np.int8)
    return (found.event[chosen], *(column[chosen] for column in columns), code)


def _by_falling_pt(event: Integers, columns: tuple[Array, ...], n_events: int) -> tuple[Array, ...]:
    """Put the number in each event, and the columns, of which pT is the first, in order."""
    order = np.lexsort((-columns[0], event))
    return (np.bincount(event, minlength=n_events), *(column[order] for column in columns))


def find_higgs(events: Collections) -> Particles:
    """Higgs bosons with a b and a b bar among their daughters, so each once, as it decays."""
    pdg_name, mother_name = GENERATED[:2]
    found = events.flat([pdg_name, mother_name])
    pdg_id, mother = found.columns
    event = found.event
    parents = [
        events.places(mother_name, mother[quark], event[quark], pdg_name)
        for quark in (np.flatnonzero((pdg_id == b) & (mother >= 0)) for b in (BOTTOM, -BOTTOM))
    ]
    both = np.intersect1d(parents[0], parents[1])
    higgs = both[pdg_id[both] == HIGGS]
    momentum = four_momenta(*(events.flat([name]).columns[0][higgs] for name in GENERATED[2:]))
    return Particles(
        np.bincount(event[higgs], minlength=len(events)),
        pdg_id[higgs].astype(np.int64),
        *(momentum.px, momentum.py, momentum.pz, momentum.energy),
    )
