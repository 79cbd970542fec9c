"""Delphes files: reconstructed objects in a ROOT tree, read without ROOT or Delphes.

A collection is the branches of one name, `Jet.PT`, `Jet.Eta`, ...: a list of objects an event. What
is read of which collection stands in `COLLECTIONS`; which ones take which part, in `Layout.find`.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, ClassVar, NamedTuple

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from manyscale.errors import DataError
from manyscale.events.files.checks import check_finite
from manyscale.events.files.collisions import select_batch
from manyscale.events.files.convert_settings import ConvertSettings
from manyscale.events.files.delphes_references import NOWHERE, read_references, resolve
from manyscale.events.files.expressions import CardExpressions
from manyscale.events.files.reader import (
    Contents,
    FileEvents,
    NoEventsError,
    Piece,
    divide_streams,
    nothing,
)
from manyscale.events.files.root_files import open_root, open_tree, reading
from manyscale.events.jets import cluster, find_jets, hardest_two
from manyscale.events.kinematics import Momentum
from manyscale.events.objects import (
    DetectedEvents,
    Hits,
    JetPairs,
    Leptons,
    SmallJets,
    find_leptons,
    missing_momentum,
)
from manyscale.events.ragged import Array, Floats, Integers, pair_up
from manyscale.events.settings import GenerateSettings
from manyscale.events.truth import HIGGS, Particles, count_inside, higgs_to_bottom, match_h_bb
from manyscale.schema import (
    CHARGED_HADRON,
    CONSTITUENTS,
    ELECTRON,
    MUON,
    NEUTRAL_HADRON,
    PHOTON,
    SUBJETS,
    StreamSchema,
    collision_streams,
)

__all__ = ["DelphesReader", "DelphesTree"]

TREE = "Delphes"
# Some 30 MB of tracks, cells and jets without pile-up.
_BATCH = 400
# Entries from which `look` tells the size of collections, and whether the cross section adds up.
_SEEN = 10
# In pb. Where the generator said nothing Delphes writes whatever was in memory, 1e-23 say.
_SMALLEST = 1e-15
_NO_CONSTITUENTS = "of the two leading jets have no constituents: their streams are empty"


# ---- what is read -----------------------------------------------------------------------------


class _Columns(NamedTuple):
    """Columns of a collection: without those `needed` it cannot be used."""

    needed: tuple[str, ...]
    optional: tuple[str, ...] = ()


_TRACK = _Columns(("PT", "Eta", "Phi", "Charge"), ("PID", "Mass", "D0", "DZ", "fUniqueID"))
_CELL = _Columns(("ET", "Eta", "Phi", "E"), ("fUniqueID",))
_JET = _Columns(("PT", "Eta", "Phi", "Mass"), ("BTag", "Constituents"))
_LEPTON = _Columns(("PT", "Eta", "Phi", "Charge"))
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
    "FatJet": _JET,
    "JetPUPPIAK8": _JET,
    "JetAK8": _JET,
    "Jet": _JET,
    "JetPUPPI": _JET,
    "Electron": _LEPTON,
    "Muon": _LEPTON,
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
_LEPTON_CODES = {"Electron": ELECTRON, "Muon": MUON}
_CODES = {"EFlowTrack": CHARGED_HADRON, "Track": CHARGED_HADRON, "EFlowPhoton": PHOTON}
_DISPLACEMENT = {"d0": "D0", "dz": "DZ"}
# Collections of one object an event: expressions see one number of each.
_SINGLE = {"Event", "MissingET", "GenMissingET", "PuppiMissingET", "ScalarHT"}
# Bit 0 of BTag is the first working point of the Delphes card.
_TAGGED = 1


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
        last = min(self.n_entries, _SEEN)
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
        if "leptons" in wanted and not self.unusable.keys() & _LEPTON_CODES.keys():
            self.leptons = tuple(name for name in _LEPTON_CODES if name in usable)
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
            unusable = [why for name, why in self.unusable.items() if name in _LEPTON_CODES]
            none = [f"there is none of {', '.join((*_LEPTON_CODES, *_TRACKS))}"]
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


# ---- the reader -------------------------------------------------------------------------------


@dataclass(frozen=True)
class DelphesReader:
    """Reads trees of Delphes 3.

    Fat jets are `FatJet` where there is one, else `JetPUPPIAK8`, `JetAK8`, `Jet` or `JetPUPPI`, else
    clustered from the energy flow. b-tags are bit 0 of `BTag`: a fat jet's are the tagged small
    jets (`Jet`, `JetPUPPI`) within `generate.jets.radius` of it, at most 2, or without these its
    own. Leptons are those of `Electron` and `Muon`. The cross section is that of the file's last
    `Event`, and all events that were generated are in the file.

    Attributes
    ----------
    generate
        Streams, cuts and objects.
    convert
        Tree, weight, variations, observables and selection: branches are named as in the file
        (`Event.Number`, `Jet_size`). A branch of several varied weights, `Weight.Weight`, gives
        one named weight each: `Weight_Weight_0`, `Weight_Weight_1`, ...
    """

    # An event of a large file takes 0.2 ms, and opening it, once a unit, 0.1 s.
    step: ClassVar[int] = 5000
    generate: GenerateSettings
    convert: ConvertSettings

    def entries(self, path: str) -> int:
        """Return the number of events of a file; raises as `look` does."""
        with self._open(path) as tree:
            return tree.n_entries

    def look(self, path: str) -> Contents:
        """See what is in a file without reading its events; see `Reader.look`."""
        wanted = collision_streams(self.generate.streams, self.generate.columns)
        with self._open(path) as tree:
            if not tree.n_entries:
                raise NoEventsError(f"{tree.where} holds no event")
            layout = self._layout(tree, wanted)
            streams, missing = divide_streams(wanted, layout.lacking)
            rows, last = [], min(tree.n_entries, _SEEN)
            for name, columns in tree.collections.items():
                counts, _ = tree.flat(f"{name}.{columns[0]}", 0, last)
                rows.append((name, f"{counts.mean():.1f} an event", layout.uses.get(name, "")))
            remarks = layout.remarks()
            section, _ = tree.cross_section()
            if section is not None and tree.adds_up():
                remarks.append(
                    "Event.CrossSection adds up from event to event: that of the last event, "
                    f"{section:.4g} pb, is taken for all"
                )
            title = f"Delphes, tree '{tree.name}'"
            return Contents(title, tree.n_entries, streams, missing, rows, remarks)

    def read(
        self,
        piece: Piece,
        streams: Mapping[str, StreamSchema],
        seed: int,  # noqa: ARG002 - nothing is random
    ) -> Iterator[FileEvents]:
        """Read some entries of a file; see `Reader.read`."""
        with self._open(piece.path) as tree:
            end = tree.n_entries if piece.last is None else piece.last
            if end <= piece.first:
                yield nothing(streams)
                return
            expressions = CardExpressions.parse(self.convert)
            layout = self._layout(tree, streams)
            section, error = tree.cross_section()
            n_varied: dict[str, int] = {}
            for first in range(piece.first, end, _BATCH):
                last = min(first + _BATCH, end)
                batch = _Batch(tree, layout, self.generate, first, last)
                columns = {name: batch.column(name) for name in expressions.names}
                weight = expressions.weights(columns, last - first, batch.where)
                hits, pairs, multiplicity = batch.fat_jets()
                detected = DetectedEvents(
                    entry=np.arange(first, last),
                    weight=batch.weight() if weight is None else weight,
                    hits=hits,
                    pairs=pairs,
                    n_btags=batch.n_btags(pairs),
                    missing=batch.missing(),
                    multiplicity=multiplicity,
                    h_bb=batch.h_bb(pairs),
                    small_jets=batch.small_jets() if "small_jets" in streams else None,
                    leptons=batch.leptons() if "leptons" in streams else None,
                    steps=expressions.steps(columns, last - first),
                    weights=batch.varied(self.convert.variations or (), n_varied),
                    observables=expressions.values(columns, last - first),
                )
                empty = 0 if pairs.n_members is None else int((pairs.n_members == 0).sum())
                yield select_batch(
                    detected,
                    streams,
                    self.generate,
                    +Counter({_NO_CONSTITUENTS: empty}),
                    cross_section=section,
                    cross_section_error=error,
                )

    @contextmanager
    def _open(self, path: str) -> Iterator[DelphesTree]:
        with open_root(path) as file:
            yield DelphesTree(file, path, self.convert.tree or TREE)

    def _layout(self, tree: DelphesTree, wanted: Collection[str]) -> Layout:
        """Find what is read of a file; the branches that the card names must be there."""
        for expression in CardExpressions.parse(self.convert).all:
            expression.check_names(tree.branches.keys(), tree.where)
        for name in self.convert.variations or ():
            if name not in tree.branches:
                close = get_close_matches(name, tree.branches, n=5, cutoff=0.5)
                raise DataError(
                    f"{tree.where}: there is no branch '{name}', which convert.variations needs; "
                    f"there are {', '.join(close or tree.collections) or 'none'}"
                )
        return Layout(tree, wanted, self.generate.columns)


# ---- a batch of events ------------------------------------------------------------------------


@dataclass(frozen=True)
class _NumberedHits(Hits):
    """With the unique numbers by which jets refer to them."""

    unique: Integers


class _Batch:
    """Entries `first` to `last - 1` of a tree, read, and the objects in them."""

    def __init__(
        self, tree: DelphesTree, layout: Layout, settings: GenerateSettings, first: int, last: int
    ) -> None:
        self._tree, self._layout, self._settings = tree, layout, settings
        self._first, self._last = first, last
        self._objects = {
            name: tree.objects(name, columns, first, last)
            for name, columns in layout.read.items()
            if name != "Particle"
        }
        for name, objects in self._objects.items():
            self._check_finite(name, objects)

    def _check_finite(self, name: str, objects: Objects) -> None:
        measured = {
            f"{name}.{column}": values
            for column, values in objects.columns.items()
            if values.dtype.kind == "f"
        }
        check_finite(measured, objects.event, self.where)

    def where(self, event: int) -> str:
        """Name an event of the batch in messages."""
        return f"{self._tree.path}, entry {self._first + event} of tree '{self._tree.name}'"

    def fat_jets(self) -> tuple[Hits | None, JetPairs, Integers | None]:
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
        if self._layout.fat_jets is None:
            hits = self._seen()
            return hits, cluster(hits, self._settings.jets.radius, min_pt), None
        jets = self._objects[self._layout.fat_jets]
        event, place = hardest_two(jets.counts, jets.columns["PT"], min_pt)
        pt, eta, phi, mass = (of[place] for of in jets.floats("PT", "Eta", "Phi", "Mass"))
        energy = np.sqrt(pt**2 + (pt * np.sinh(eta)) ** 2 + mass**2)
        momentum = Momentum.of_polar(pt, eta, phi, energy)
        counts, references = jets.n_references, jets.references
        if not self._layout.inside or counts is None or references is None:
            return None, JetPairs(event, momentum), None if counts is None else counts[place]
        everything = self._merge(self._layout.inside)
        # Which jet each reference is of, the event of that, and what it points to.
        jet, reference = pair_up(place.ravel(), counts)
        at = np.repeat(event, 2)[jet]
        found = resolve(references[reference], at, everything.unique, everything.counts)
        lost = at[found == NOWHERE]
        if len(lost):
            raise DataError(
                f"{self.where(int(lost[0]))}: branch '{self._layout.fat_jets}.Constituents' "
                f"refers to an object that is in none of {', '.join(self._layout.inside)}; without "
                "the streams of what is inside the jets, and without kinematics, the file can be "
                "read"
            )
        kept = everything.pt > 0
        hits = everything.take(np.flatnonzero(kept))
        there = kept[found]
        members = (np.cumsum(kept) - 1)[found[there]]  # places among those that are kept
        n_members = np.bincount(jet[there], minlength=place.size).reshape(-1, 2)
        return hits, JetPairs(event, momentum, members, n_members), None

    def n_btags(self, pairs: JetPairs) -> NDArray[np.int64]:
        """(pairs, 2): tagged small jets within the radius of each fat jet, at most 2.

        Without small jets it is the fat jet's own tag; 0 without that.
        """
        fat, small = self._layout.fat_jets, self._layout.small_jets
        if fat and small and small != fat and self._layout.has(small, "BTag"):
            jets = self._objects[small]
            tagged = np.flatnonzero(jets.columns["BTag"] & _TAGGED)
            eta, phi = (jets.columns[name][tagged] for name in ("Eta", "Phi"))
            radius = self._settings.jets.radius
            return np.minimum(count_inside(jets.event[tagged], eta, phi, pairs, radius), 2)
        if not fat or not self._layout.has(fat, "BTag"):
            return np.zeros(pairs.momentum.px.shape, np.int64)
        jets = self._objects[fat]
        _, place = hardest_two(jets.counts, jets.columns["PT"], self._settings.cuts.second_pt)
        return (jets.columns["BTag"] & _TAGGED).astype(np.int64)[place]

    def h_bb(self, pairs: JetPairs) -> NDArray[np.int64] | None:
        """(pairs, 2): which jets are a h -> b bbar; None where there are no generated particles.

        Particles are most of a Delphes file; all but their codes are read only where there is a
        Higgs boson.
        """
        if "Particle" not in self._layout.read:
            return None
        counts, pid = self._tree.flat("Particle.PID", self._first, self._last)
        if not (pid == HIGGS).any():
            return np.zeros(pairs.momentum.px.shape, np.int64)
        columns = self._layout.read["Particle"]
        of = self._tree.objects("Particle", columns, self._first, self._last)
        chosen = higgs_to_bottom(pid, of.columns["D1"], of.columns["D2"], counts)
        number = np.bincount(of.event[chosen], minlength=len(counts))
        higgs = Objects(number, {name: values[chosen] for name, values in of.columns.items()})
        self._check_finite("Particle", higgs)
        momenta = higgs.floats("Px", "Py", "Pz", "E")
        particles = Particles(number, higgs.columns["PID"].astype(np.int64), *momenta)
        return match_h_bb(particles, pairs, self._settings.jets.radius)

    def small_jets(self) -> SmallJets:
        """Jets of the file above the smallest pT; without any, those of all that was seen."""
        settings = self._settings.objects
        if self._layout.small_jets is None:
            return find_jets(self._seen(), settings.jet_radius, settings.jet_pt)
        of = self._objects[self._layout.small_jets]
        pt, eta, phi, mass = (of.columns[name] for name in _JET.needed)
        zero = np.zeros(len(pt), np.int64)
        tags = of.columns.get("BTag", zero) & _TAGGED
        number = zero if of.n_references is None else of.n_references
        jets = SmallJets(of.counts, pt, eta, phi, mass, number, tags)
        return jets.take(np.flatnonzero(pt > settings.jet_pt))

    def leptons(self) -> Leptons:
        """Electrons and muons as the Delphes card isolated them; without any, isolated tracks."""
        settings, names = self._settings.objects, self._layout.leptons
        if not names:
            return find_leptons(self._seen(), settings)
        each = []
        for name in names:
            of = self._objects[name]
            pt, eta, phi, charge = (of.columns[column] for column in _LEPTON.needed)
            codes = np.full(len(pt), _LEPTON_CODES[name])
            each.append(Leptons(of.counts, pt, eta, phi, charge, codes))
        leptons = Leptons.merge(each)
        return leptons.take(np.flatnonzero(leptons.pt > settings.lepton_pt))

    def missing(self) -> tuple[Array, Array]:
        """Components (events,) of the missing momentum, else of minus the sum of all seen."""
        if self._layout.missing is None:
            return missing_momentum(self._seen())
        objects = self._objects[self._layout.missing]
        self._check_one_each(f"'{self._layout.missing}'", objects.counts)
        met, phi = objects.floats("MET", "Phi")
        return met * np.cos(phi), met * np.sin(phi)

    def _seen(self) -> Hits:
        """All that the detector saw."""
        # Delphes leaves tracks with no pT whose energy it gives to cells.
        everything = self._merge(self._layout.seen)
        return everything.take(np.flatnonzero(everything.pt > 0))

    def _merge(self, names: Sequence[str]) -> "_NumberedHits":
        """Join tracks and cells of several collections."""
        each = []
        for name in names:
            of = self._objects[name]
            pt, eta, phi = of.floats("PT" if "PT" in of.columns else "ET", "Eta", "Phi")
            zero = np.zeros(len(pt))
            charge = of.columns.get("Charge", zero).astype(np.int8)
            if "E" in of.columns:
                (energy,) = of.floats("E")
            else:
                # Without pT the direction is a number that no hyperbolic cosine can take: 999.9.
                # Older versions of Delphes say no mass, and make jets of tracks without one.
                momentum = pt * np.cosh(np.where(pt > 0, eta, 0))
                energy = np.hypot(momentum, of.columns.get("Mass", zero))
            code = np.full(len(pt), _CODES.get(name, NEUTRAL_HADRON), np.int8)
            code[charge != 0] = CHARGED_HADRON
            if "Eem" in of.columns and "Ehad" in of.columns:
                code[of.columns["Eem"] > of.columns["Ehad"]] = PHOTON
            for pid, known in {11: ELECTRON, 13: MUON, 22: PHOTON}.items():
                code[np.abs(of.columns.get("PID", zero)) == pid] = known
            d0, dz = (of.columns.get(c, zero).astype(np.float64) for c in ("D0", "DZ"))
            unique = of.columns.get("fUniqueID", zero)
            each.append(
                _NumberedHits(of.counts, pt, eta, phi, energy, charge, code, d0, dz, unique)
            )
        return _NumberedHits.merge(each)

    def _check_one_each(self, what: str, counts: Integers) -> None:
        odd = np.flatnonzero(counts != 1)
        if len(odd):
            raise DataError(
                f"{self.where(int(odd[0]))}: {what} holds {counts[odd[0]]} values, where there is "
                "one an event"
            )

    def weight(self) -> Floats:
        """(events,): weights of the file, 1 where it has none."""
        if not self._layout.has("Event", "Weight"):
            return np.ones(self._last - self._first)
        self._check_one_each("'Event'", self._objects["Event"].counts)
        return self._objects["Event"].floats("Weight")[0]

    def column(self, name: str) -> ak.Array | Array:
        """Read a branch for an expression; of collections of one object, one value an event."""
        values = self._tree.array(name, self._first, self._last)
        if values.ndim == 1 or name.partition(".")[0] not in _SINGLE:
            return values
        self._check_one_each(f"branch '{name}'", ak.to_numpy(ak.num(values)))
        return ak.to_numpy(ak.flatten(values))

    def varied(self, names: Sequence[str], numbers: dict[str, int]) -> dict[str, Floats]:
        """Varied weights (events,): "Weight.Weight" gives Weight_Weight_0, Weight_Weight_1, ...

        `numbers` of weights, by branch, are those of the batches before; the first batch sets them.
        """
        varied: dict[str, Floats] = {}
        for name in names:
            counts, flat = self._tree.flat(name, self._first, self._last)
            values, number = flat.astype(np.float64), numbers.setdefault(name, int(counts[0]))
            odd = np.flatnonzero(counts != number)
            if len(odd):
                raise DataError(
                    f"{self.where(int(odd[0]))}: branch '{name}' holds {counts[odd[0]]} weights, "
                    f"and {number} in the events before"
                )
            check_finite({name: values}, np.repeat(np.arange(len(counts)), counts), self.where)
            plain = name.replace(".", "_")
            for index, column in enumerate(values.reshape(len(counts), number).T):
                varied[plain if number == 1 else f"{plain}_{index}"] = column
        return varied
