"""Files of Delphes: which collections are there, which take which part, and their branches read.

A collection is the branches of one name, `Jet.PT`, `Jet.Eta`, ...: a list of objects an event. What
is read of which collection stands in `COLLECTIONS`; which ones take which part, in `Layout`.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import awkward as ak
import numpy as np

from manyscale.errors import DataError
from manyscale.events.files.delphes_references import read_references
from manyscale.events.files.root_files import open_tree, reading
from manyscale.events.ragged import Array, Floats, Integers
from manyscale.schema import CONSTITUENTS, ELECTRON, MUON, SUBJETS

__all__ = ["JET", "LEPTON", "LEPTONS", "SEEN", "DelphesTree", "Layout", "Objects"]

# Entries that tell the size of collections, and whether the cross section adds up.
SEEN = 10
# In pb. Where the generator said nothing Delphes writes whatever was in memory, 1e-23 say.
_SMALLEST = 1e-15


class _Columns(NamedTuple):
    """Columns of a collection: without those `needed` it cannot be used."""

    needed: tuple[str, ...]
    optional: tuple[str, ...] = ()


_TRACK = _Columns(("PT", "Eta", "Phi", "Charge"), ("PID", "Mass", "D0", "DZ", "fUniqueID"))
_CELL = _Columns(("ET", "Eta", "Phi", "E"), ("fUniqueID",))
JET = _Columns(("PT", "Eta", "Phi", "Mass"), ("BTag", "Constituents"))
LEPTON = _Columns(("PT", "Eta", "Phi", "Charge"))
_MET = _Columns(("MET", "Phi"))

COLLECTIONS = {
    "Event": _Columns((), ("Weight", "CrossSection", "CrossSectionError")),
    "Particle": _Columns(("PID", "D1", "D2", "Px", "Py", "Pz", "E")),
    "EFlowTrack": _TRACK,
    "EFlowPhoton": _CELL,
    "EFlowNeutralHadron": _CELL,
    "ParticleFlowCandidate": _Columns(
        ("PT", "Eta", "Phi", "E", "Charge"), ("PID", "D0", "DZ", "fUniqueID")
    ),
    "Tower": _Columns(_CELL.needed, ("Eem", "Ehad", "fUniqueID")),
    "Track": _TRACK,
    "FatJet": JET,
    "JetPUPPIAK8": JET,
    "JetAK8": JET,
    "Jet": JET,
    "JetPUPPI": JET,
    "Electron": LEPTON,
    "Muon": LEPTON,
    "MissingET": _MET,
    "PuppiMissingET": _MET,
}
# Of each the first that is there is taken.
_FAT_JETS = ("FatJet", "JetPUPPIAK8", "JetAK8", "Jet", "JetPUPPI")
_SMALL_JETS = ("Jet", "JetPUPPI")
_MISSING = ("MissingET", "PuppiMissingET")
# What together is all that the detector saw, each energy once. Tower is what the calorimeters saw
# before the energy of tracks is taken off: it is not to be added to the others.
_ALL_SEEN = (
    ("EFlowTrack", "EFlowPhoton", "EFlowNeutralHadron"),
    ("ParticleFlowCandidate",),
    ("Tower",),
    ("Track",),
)
# Jets may be made of towers although there is energy flow.
_LINKED = ("ParticleFlowCandidate", "Tower")
_TRACKS = ("EFlowTrack", "ParticleFlowCandidate", "Track")
LEPTONS = {"Electron": ELECTRON, "Muon": MUON}
_DISPLACEMENT = {"d0": "D0", "dz": "DZ"}


class Objects(NamedTuple):
    """Objects of one collection, one event after the other.

    Attributes
    ----------
    counts
        (events,): number of objects of each event.
    columns
        Name to (objects,), without the collection's name: "PT".
    n_references, references
        (objects,): how many constituents each refers to; (references,): the unique number of each.
    """

    counts: Integers
    columns: Mapping[str, Array]
    n_references: Integers | None = None
    references: Integers | None = None

    @property
    def event(self) -> Integers:
        """(objects,): which event each belongs to."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    def floats(self, *names: str) -> list[Floats]:
        """Return columns in double precision."""
        return [self.columns[name].astype(np.float64) for name in names]


class DelphesTree:
    """The tree of an open file: its branches by name, read into flat arrays.

    Parameters
    ----------
    file
        As uproot opens it.
    path, name
        Of the file and the tree; of several cycles of the tree the newest is taken.

    Raises
    ------
    DataError
        Where there is no such tree, or it is damaged.
    """

    def __init__(self, file: Any, path: str, name: str) -> None:  # noqa: ANN401 - no types
        self.path, self.name = path, name
        self.where = f"{path}, tree '{name}'"
        there = file.keys(recursive=False, cycle=False)
        if name not in there:
            raise DataError(
                f"{path} has no tree '{name}'; it has {', '.join(sorted(set(there))) or 'nothing'}"
            )
        self.branches: dict[str, Any] = {}
        try:
            tree = open_tree(file, name)
            self.n_entries = int(tree.num_entries)
            for branch in tree.branches:
                for one in (branch, *branch.branches):
                    # Some files have two of one name: the first is meant.
                    self.branches.setdefault(one.name, one)
        except Exception as error:  # uproot raises whatever a damaged tree leads it to
            raise DataError(
                f"{self.where} cannot be read; the file may be cut short, or it is no tree "
                f"({type(error).__name__})"
            ) from error
        self.collections: dict[str, list[str]] = {}
        for collection, dot, column in (one.partition(".") for one in self.branches):
            if dot:
                self.collections.setdefault(collection, []).append(column)

    def array(self, name: str, first: int, last: int) -> ak.Array:
        """Read entries `first` to `last - 1` of a branch as it is."""
        with reading(self.where, name, first, last):
            return self.branches[name].array(entry_start=first, entry_stop=last)

    def flat(self, name: str, first: int, last: int) -> tuple[Integers, Array]:
        """Read a branch of lists: their lengths (events,), and all values."""
        lists = self.array(name, first, last)
        if lists.ndim == 1:
            return np.ones(len(lists), np.int64), ak.to_numpy(lists)
        offsets = lists.layout.offsets.data
        return np.diff(offsets), lists.layout.content.data[offsets[0] : offsets[-1]]

    def objects(self, collection: str, columns: Sequence[str], first: int, last: int) -> Objects:
        """Read columns of a collection.

        Raises
        ------
        DataError
            Where they cannot be read, or have different numbers of objects.
        """
        read, lengths, references = {}, {}, None
        for column in columns:
            name = f"{collection}.{column}"
            if column != "Constituents":
                lengths[column], read[column] = self.flat(name, first, last)
                continue
            with reading(self.where, name, first, last):
                found = read_references(self.branches[name], first, last)
                lengths[column], references = found[0], found[1:]
        counts = lengths[columns[0]]
        for other in lengths.values():
            odd = np.flatnonzero(other != counts)
            if len(odd):
                raise DataError(
                    f"{self.where}, entry {first + int(odd[0])}: the branches of '{collection}' "
                    "hold different numbers of objects; the file is damaged"
                )
        return Objects(counts, read, *(references or (None, None)))

    def cross_section(self) -> tuple[float | None, float | None]:
        """Cross section in pb as the last event knows it, with its error; None where not known.

        Generators refine their estimate from event to event, or add it up: the last is the best.
        """
        last = self.n_entries - 1
        known = {"CrossSection": 0.0, "CrossSectionError": 0.0}
        for column in known.keys() & {*self.collections.get("Event", ())}:
            _, values = self.flat(f"Event.{column}", last, last + 1)
            known[column] = float(values[-1]) if len(values) else 0.0
        value, error = known.values()
        if not _SMALLEST < value < np.inf:
            return None, None
        return value, error if 0 < error < np.inf else None

    def adds_up(self) -> bool:
        """Whether the cross section grows from event to event with the sum of the weights."""
        last = min(self.n_entries, SEEN)
        if last < 2 or "Event.CrossSection" not in self.branches:
            return False
        values = self.flat("Event.CrossSection", 0, last)[1].astype(np.float64)
        weights = np.ones(len(values))
        if "Event.Weight" in self.branches:
            weights = self.flat("Event.Weight", 0, last)[1].astype(np.float64)
        sums = np.cumsum(weights)
        if len(sums) != len(values) or not len(sums) or not (values[-1] > 0 and sums[-1] > 0):
            return False
        # To the single precision of the file, where weights of both signs leave small sums too.
        return bool(np.allclose(values / values[-1], sums / sums[-1], rtol=1e-3, atol=1e-4))


class Layout:
    """Which collections of a file take which part, and what is read of them.

    Parameters
    ----------
    tree
        Of the file.
    wanted
        Names of the streams wanted.
    columns
        Further columns of the constituents that are wanted.

    Attributes
    ----------
    read
        Columns to read, by collection.
    uses
        What each collection read is used for, in words.
    unusable
        Collections that lack what is needed, and why: "there is no branch 'FatJet.Mass'".
    fat_jets, small_jets, missing
        Collections of jets and of missing momentum; None: made of what was seen.
    seen
        Collections that together are all that the detector saw.
    inside
        Those that the constituents of fat jets come from; empty where they are not known.
    leptons
        Collections of isolated leptons; empty: found among what was seen.

    Raises
    ------
    DataError
        Where there are no jets, or no missing momentum, and nothing to make them of.
    """

    def __init__(
        self, tree: DelphesTree, wanted: Collection[str], columns: Collection[str]
    ) -> None:
        self.unusable: dict[str, str] = {}
        usable: dict[str, tuple[str, ...]] = {}
        for name, (needed, optional) in COLLECTIONS.items():
            there = tree.collections.get(name, ())
            absent = [column for column in needed if column not in there]
            if there and absent:
                self.unusable[name] = f"there is no branch '{name}.{absent[0]}'"
            elif there:
                usable[name] = tuple(c for c in (*needed, *optional) if c in there)
        self.fat_jets, self.small_jets, self.missing = (
            next((name for name in names if name in usable), None)
            for names in (_FAT_JETS, _SMALL_JETS, _MISSING)
        )
        parts = [tuple(c for c in names if c in tree.collections) for names in _ALL_SEEN]
        self.seen = next((names for names in parts if names and usable.keys() >= set(names)), ())
        if not self.seen and not (self.fat_jets and self.missing):
            lacks = f"are no jets ({', '.join(_FAT_JETS)}) and nothing to make them of"
            if self.fat_jets:
                lacks = f"is no missing momentum ({', '.join(_MISSING)}) and nothing to make it of"
            raise DataError(
                f"{tree.where}: there {lacks} ({', '.join(c for names in _ALL_SEEN for c in names)})"
                f"; there are {', '.join(tree.collections) or 'no collections'}{self._reasons}"
            )
        self.leptons: tuple[str, ...] = ()
        if "leptons" in wanted and not self.unusable.keys() & LEPTONS.keys():
            self.leptons = tuple(name for name in LEPTONS if name in usable)
        self.inside = () if self.fat_jets else self.seen
        linked = (*self.seen, *(name for name in _LINKED if name not in self.seen))
        if (
            "Constituents" in usable.get(self.fat_jets or "", ())
            and {*CONSTITUENTS, *SUBJETS, "kinematics"} & set(wanted)
            # A jet may refer to what cannot be used.
            and not self.unusable.keys() & {*_ALL_SEEN[0], *linked}
        ):
            self.inside = tuple(name for name in linked if "fUniqueID" in usable.get(name, ()))
        self._choose(usable, wanted, columns)

    def _choose(
        self,
        usable: Mapping[str, tuple[str, ...]],
        wanted: Collection[str],
        columns: Collection[str],
    ) -> None:
        """Choose what to read, and say what for: what is said last of a collection stays."""
        self.read: dict[str, tuple[str, ...]] = {}
        self.uses: dict[str, str] = {}

        def use(names: Sequence[str | None], what: str, without: Collection[str] = ()) -> None:
            for name in names:
                if name is not None and usable.get(name):
                    self.read[name] = tuple(c for c in usable[name] if c not in without)
                    self.uses[name] = what

        seen_is_needed = (
            not (self.fat_jets and self.missing)
            or ("small_jets" in wanted and not self.small_jets)
            or ("leptons" in wanted and not self.leptons)
        )
        without = {branch for column, branch in _DISPLACEMENT.items() if column not in columns}
        use(["Event"], "weights, cross section")
        use(["Particle"], "h -> b bbar")
        use(
            (*self.inside, *(self.seen if seen_is_needed else ())),
            "constituents" if self.fat_jets else "fat jets are clustered from it",
            without if self.fat_jets else {*without, "fUniqueID"},
        )
        use(self.leptons, "leptons")
        use([self.missing], "missing momentum")
        if "small_jets" in wanted:
            use([self.small_jets], "small jets, b-tags")
        elif "BTag" in usable.get(self.small_jets or "", ()):
            use([self.small_jets], "small jets, b-tags", {"Constituents"})
        use([self.fat_jets], "fat jets")

    def has(self, collection: str | None, column: str) -> bool:
        """Whether a column is read."""
        return column in self.read.get(collection or "", ())

    @property
    def _reasons(self) -> str:
        return "".join(f"; {why}" for why in self.unusable.values())

    def lacking(self, stream: str) -> dict[str, str]:
        """Columns of a stream that cannot be given, and why; see `divide_streams`."""
        tracks = [name for name in self.inside or self.seen if name in _TRACKS]
        no_codes = [f"there is no branch '{c}.PID'" for c in tracks if not self.has(c, "PID")]
        no_inside = (
            f"'{self.fat_jets}' has no constituents that the file holds: they are in "
            f"{', '.join((*_ALL_SEEN[0], *_LINKED))}{self._reasons}"
        )
        lacking: dict[str, str] = {}
        if stream in {*CONSTITUENTS, *SUBJETS} and not self.inside:
            lacking = {"pt": no_inside}
        elif stream in CONSTITUENTS:
            lacking = {
                column: f"no tracks with a branch {branch}"
                for column, branch in _DISPLACEMENT.items()
                if not any(self.has(name, branch) for name in tracks)
            } | dict.fromkeys(["particle_class"] if no_codes else [], "; ".join(no_codes))
        elif stream == "kinematics" and not self.inside:
            counted = self.has(self.fat_jets, "Constituents")
            lacking = dict.fromkeys(["width"] if counted else ["width", "multiplicity"], no_inside)
        elif stream == "small_jets" and self.small_jets:
            lacking = {
                column: f"there is no branch '{self.small_jets}.{branch}'"
                for column, branch in {"n_btags": "BTag", "multiplicity": "Constituents"}.items()
                if not self.has(self.small_jets, branch)
            }
        elif stream == "small_jets" and self.seen:
            lacking = {"n_btags": "there is no 'Jet'; those made here have no b-tags"}
        elif stream == "small_jets":
            lacking = {"pt": f"there is no 'Jet', and nothing to make them of{self._reasons}"}
        elif stream == "leptons" and not self.leptons:
            # Tracks are no stand-in for electrons that are there and cannot be used.
            unusable = [why for name, why in self.unusable.items() if name in LEPTONS]
            none = [f"there is none of {', '.join((*LEPTONS, *_TRACKS))}"]
            reasons = [*unusable, *no_codes] or ([] if tracks else none)
            lacking = dict.fromkeys(["pt"] if reasons else [], "; ".join(reasons))
        return lacking

    def remarks(self) -> list[str]:
        """What a user should know of what stands in for what."""
        remarks = [f"{why}: '{name}' is not read" for name, why in self.unusable.items()]
        fat, of_seen = self.fat_jets, ", ".join(self.seen)
        if fat is None:
            remarks.append(
                f"there is neither FatJet nor Jet: fat jets are clustered from {of_seen}, and have "
                "no b-tags"
            )
        elif fat != "FatJet":
            remarks.append(
                f"there is no FatJet: the fat jets are those of '{fat}', of whatever radius"
            )
        if fat and not self.has(fat, "BTag") and not self.has(self.small_jets, "BTag"):
            remarks.append("the jets have no branch BTag: no b-tags")
        if self.missing != "MissingET":
            of = f"that of '{self.missing}'" if self.missing else "minus the sum of all seen"
            remarks.append(f"there is no MissingET: the missing momentum is {of}")
        if "Particle" not in self.read:
            remarks.append("there are no generated particles: h_bb_j1 and h_bb_j2 are not known")
        return remarks
