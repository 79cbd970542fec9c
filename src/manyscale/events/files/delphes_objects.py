"""What the tables of a Delphes file hold, as objects of many events."""

from collections.abc import Callable, Mapping, Sequence

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from manyscale.errors import DataError
from manyscale.events.clustering import JetPairs, cluster, find_jets, hardest_two
from manyscale.events.files.checks import check_finite
from manyscale.events.files.delphes_branches import LEPTONS, Branches
from manyscale.events.files.delphes_hits import by_event, merge
from manyscale.events.files.delphes_tree import Table
from manyscale.events.kinematics import Momentum
from manyscale.events.objects import find_leptons
from manyscale.events.particles import (
    Array,
    Floats,
    Hits,
    Integers,
    Leptons,
    Particles,
    SmallJets,
)
from manyscale.events.reconstruction import missing_momentum
from manyscale.events.settings import GenerateSettings
from manyscale.events.truth import count_inside
from manyscale.schema import ELECTRON, MUON

__all__ = ["DelphesObjects"]

# Bit 0 of BTag is the first working point of the Delphes card.
_TAGGED = 1
_LEPTON = ("PT", "Eta", "Phi", "Charge")


class DelphesObjects:
    """Objects of a batch of events.

    Parameters
    ----------
    tables
        As read, by collection.
    branches
        What is read.
    settings
        Radii and smallest pTs.
    where
        Names an event of the batch: file, tree and entry.
    """

    def __init__(
        self,
        tables: Mapping[str, Table],
        branches: Branches,
        settings: GenerateSettings,
        where: Callable[[int], str],
    ) -> None:
        self._tables = tables
        self._branches = branches
        self._settings = settings
        self._where = where
        for name, table in tables.items():
            check_finite(
                {
                    f"{name}.{column}": values
                    for column, values in table.columns.items()
                    if values.dtype.kind == "f"
                },
                table.event,
                where,
            )

    def fat_jets(self) -> tuple[Hits | None, JetPairs, NDArray[np.int64] | None]:
        """Find the two fat jets of highest pT, both above the cut on the second.

        Returns
        -------
        hits
            What they are made of; None where that is not read.
        pairs
        multiplicity
            (pairs, 2): number of constituents where there are no hits; None where not known.

        Raises
        ------
        DataError
            Where a jet refers to what is not there.
        """
        min_pt = self._settings.cuts.second_pt
        if self._branches.fat_jets is None:
            hits = self._seen()
            return hits, cluster(hits, self._settings.jets.radius, min_pt), None
        table = self._tables[self._branches.fat_jets]
        event, place = hardest_two(table.counts, table.columns["PT"], min_pt)
        momentum = _momentum(table, place)
        if not self._branches.hits:
            counts = table.references["Constituents"].counts if table.references else None
            return None, JetPairs(event, momentum, None), None if counts is None else counts[place]
        merged = merge(self._of(self._branches.hits))
        constituents = table.references["Constituents"]
        members, lost = merged.members(constituents, np.repeat(event, 2), place.ravel())
        if len(lost):
            raise DataError(
                f"{self._where(int(lost[0]))}: branch '{self._branches.fat_jets}.Constituents' "
                f"refers to an object that is in none of {', '.join(self._branches.hits)}; without "
                "the streams of what is inside the jets, and without kinematics, the file can be "
                "read"
            )
        pairs = ak.unflatten(members, np.full(len(event), 2))
        return merged.hits, JetPairs(event, momentum, pairs), None

    def n_btags(self, pairs: JetPairs) -> NDArray[np.int64]:
        """(pairs, 2): tagged small jets within the radius of each fat jet, at most 2.

        Without small jets it is the fat jet's own tag; 0 without that.
        """
        if self._branches.fat_jets == "FatJet" and self._branches.has("Jet", "BTag"):
            return self._tagged_inside(pairs)
        name = self._branches.fat_jets
        if name is None or not self._branches.has(name, "BTag"):
            return np.zeros(pairs.momentum.px.shape, np.int64)
        table = self._tables[name]
        min_pt = self._settings.cuts.second_pt
        _, place = hardest_two(table.counts, table.columns["PT"], min_pt)
        return _tags(table)[place]

    def _tagged_inside(self, pairs: JetPairs) -> NDArray[np.int64]:
        small = self._tables["Jet"]
        tagged = np.flatnonzero(_tags(small))
        number = count_inside(
            small.event[tagged],
            small.columns["Eta"][tagged],
            small.columns["Phi"][tagged],
            pairs,
            self._settings.jets.radius,
        )
        return np.minimum(number, 2)

    def missing(self) -> tuple[Array, Array]:
        """Components (events,) of the missing momentum, else of minus the sum of all seen."""
        if not self._branches.has("MissingET"):
            return missing_momentum(self._seen())
        table = self.single("MissingET")
        met, phi = (table[name].astype(np.float64) for name in ("MET", "Phi"))
        return met * np.cos(phi), met * np.sin(phi)

    def weight(self, n_events: int) -> Floats:
        """(events,): weights of the events, 1 where the file has none."""
        if not self._branches.has("Event", "Weight"):
            return np.ones(n_events)
        weight: Floats = self.single("Event")["Weight"].astype(np.float64)
        return weight

    def single(self, collection: str) -> dict[str, Array]:
        """Columns (events,) of a collection of one object an event.

        Raises
        ------
        DataError
            Where an event has none of it, or several.
        """
        table = self._tables[collection]
        odd = np.flatnonzero(table.counts != 1)
        if len(odd):
            raise DataError(
                f"{self._where(int(odd[0]))}: '{collection}' holds {table.counts[odd[0]]} objects, "
                "where there is one an event"
            )
        return dict(table.columns)

    def small_jets(self) -> SmallJets:
        """Jets of the file above the smallest pT; without any, those of all that was seen."""
        settings = self._settings.objects
        if not self._branches.has("Jet"):
            return find_jets(self._seen(), settings.jet_radius, settings.jet_pt)
        table = self._tables["Jet"]
        pt, eta, phi, mass = (table.columns[name] for name in ("PT", "Eta", "Phi", "Mass"))
        zero = np.zeros(len(pt), np.int64)
        multiplicity = table.references["Constituents"].counts if table.references else zero
        tags = _tags(table) if self._branches.has("Jet", "BTag") else zero
        jets = SmallJets(table.counts, pt, eta, phi, mass, multiplicity, tags)
        return jets.take(np.flatnonzero(pt > settings.jet_pt))

    def leptons(self) -> Leptons:
        """Electrons and muons as the Delphes card isolated them; without any, isolated tracks."""
        names = [name for name in LEPTONS if self._branches.has(name)]
        settings = self._settings.objects
        if not names:
            return find_leptons(self._seen(), settings)
        tables = self._of(names)
        order = by_event(tables)
        kinds = [
            np.full(len(table.event), ELECTRON if name == "Electron" else MUON)
            for name, table in tables.items()
        ]
        leptons = Leptons(
            np.sum([table.counts for table in tables.values()], axis=0),
            *(
                np.concatenate(column)[order]
                for column in (
                    *([table.columns[name] for table in tables.values()] for name in _LEPTON),
                    kinds,
                )
            ),
        )
        return leptons.take(np.flatnonzero(leptons.pt > settings.lepton_pt))

    def higgs(self) -> Particles | None:
        """Higgs bosons that decay to b bbar; None where there are no generated particles."""
        if not self._branches.has("Particle"):
            return None
        table = self._tables["Particle"]
        return Particles(
            table.counts,
            table.columns["PID"].astype(np.int64),
            *(table.columns[name].astype(np.float64) for name in ("Px", "Py", "Pz", "E")),
        )

    def _seen(self) -> Hits:
        return merge(self._of(self._branches.seen)).hits

    def _of(self, names: Sequence[str]) -> dict[str, Table]:
        return {name: self._tables[name] for name in names}


def _momentum(table: Table, place: Integers) -> Momentum:
    pt, eta, phi, mass = (
        table.columns[name][place].astype(np.float64) for name in ("PT", "Eta", "Phi", "Mass")
    )
    pz = pt * np.sinh(eta)
    energy = np.sqrt(pt**2 + pz**2 + mass**2)
    return Momentum(pt * np.cos(phi), pt * np.sin(phi), pz, energy)


def _tags(table: Table) -> Integers:
    return (table.columns["BTag"] & _TAGGED).astype(np.int64)
