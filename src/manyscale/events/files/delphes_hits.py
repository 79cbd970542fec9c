"""Tracks and cells of several collections of a Delphes file, joined event by event."""

from collections.abc import Mapping
from dataclasses import dataclass

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from manyscale.events.files.delphes_branches import TRACKS
from manyscale.events.files.delphes_references import NOWHERE, References, resolve
from manyscale.events.files.delphes_tree import Table
from manyscale.events.particles import Array, Hits, Integers, pair_up
from manyscale.schema import CHARGED_HADRON, ELECTRON, MUON, NEUTRAL_HADRON, PHOTON

__all__ = ["MergedHits", "by_event", "merge"]

_CELL_CLASS = {"EFlowPhoton": PHOTON, "EFlowNeutralHadron": NEUTRAL_HADRON}
_LEPTON_CLASS = {11: ELECTRON, 13: MUON}


@dataclass(frozen=True)
class MergedHits:
    """Hits of a batch, and how references find them.

    Attributes
    ----------
    hits
        Those with a pT: Delphes leaves tracks with none whose energy it gives to cells.
    kept
        (objects,): which of all objects these are.
    counts, unique
        (events,): number of all objects; (objects,): their unique numbers.
    """

    hits: Hits
    kept: NDArray[np.bool_]
    counts: Integers
    unique: Integers

    def members(
        self, references: References, event: Integers, jets: Integers
    ) -> tuple[ak.Array, Integers]:
        """Find the constituents of jets.

        Parameters
        ----------
        references
            Of all jets.
        event, jets
            (n,): the event of each of some jets, and its place among all.

        Returns
        -------
        members
            (n, constituents): places among the hits of the event.
        lost
            Events with a reference to nothing.
        """
        jet, reference = pair_up(jets, references.counts)
        at = event[jet]
        found = resolve(references.targets[reference], at, self.unique, self.counts)
        lost = at[found == NOWHERE]
        there = found != NOWHERE
        there[there] = self.kept[found[there]]
        # Places among the hits that are kept, counted from the event's first.
        place = (np.cumsum(self.kept) - 1)[found[there]]
        first = np.cumsum(self.hits.counts) - self.hits.counts
        number = np.bincount(jet[there], minlength=len(jets))
        return ak.unflatten(place - first[at[there]], number), lost


def merge(tables: Mapping[str, Table]) -> MergedHits:
    """Join collections, given by name: those of each event one behind the other."""
    order = by_event(tables)
    each = [_columns(name, table) for name, table in tables.items()]
    columns = [np.concatenate(column)[order] for column in zip(*each, strict=True)]
    counts = np.sum([table.counts for table in tables.values()], axis=0)
    kept = columns[0] > 0
    event = np.repeat(np.arange(len(counts)), counts)[kept]
    of_event = np.bincount(event, minlength=len(counts))
    numbers = [
        table.columns.get("fUniqueID", np.zeros(len(table.event), np.uint32))
        for table in tables.values()
    ]
    return MergedHits(
        Hits(of_event, *(column[kept] for column in columns)),
        kept,
        counts,
        np.concatenate(numbers)[order],
    )


def by_event(tables: Mapping[str, Table]) -> Integers:
    """Order that brings the objects of several tables, one table behind the other, by event."""
    return np.argsort(np.concatenate([table.event for table in tables.values()]), kind="stable")


def _columns(name: str, table: Table) -> tuple[Array, ...]:
    """Columns of `Hits`."""
    return _of_tracks(table.columns) if name in TRACKS else _of_cells(name, table.columns)


def _of_tracks(of: Mapping[str, Array]) -> tuple[Array, ...]:
    pt, eta, phi = (of[name].astype(np.float64) for name in ("PT", "Eta", "Phi"))
    zero = np.zeros(len(pt))
    # Without pT the direction is a number that no hyperbolic cosine can take: 999.9.
    momentum = pt * np.cosh(np.where(pt > 0, eta, 0))
    # Older versions of Delphes say no mass, and make jets of tracks without one.
    energy = np.hypot(momentum, of.get("Mass", zero))
    kind = np.full(len(pt), CHARGED_HADRON, np.int8)
    for pid, lepton in _LEPTON_CLASS.items():
        kind[np.abs(of["PID"]) == pid] = lepton
    d0, dz = (of.get(name, zero).astype(np.float64) for name in ("D0", "DZ"))
    return pt, eta, phi, energy, of["Charge"].astype(np.int8), kind, d0, dz


def _of_cells(name: str, of: Mapping[str, Array]) -> tuple[Array, ...]:
    pt, eta, phi, energy = (of[column].astype(np.float64) for column in ("ET", "Eta", "Phi", "E"))
    zero = np.zeros(len(pt))
    kind = np.full(len(pt), _CELL_CLASS.get(name, NEUTRAL_HADRON), np.int8)
    if name == "Tower" and {"Eem", "Ehad"} <= of.keys():
        kind[of["Eem"] > of["Ehad"]] = PHOTON
    return pt, eta, phi, energy, zero.astype(np.int8), kind, zero, zero
