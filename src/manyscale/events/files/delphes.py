"""Delphes files: reconstructed objects in a ROOT tree, read without ROOT or Delphes.

A collection is the branches of one name, `Jet.PT`, `Jet.Eta`, ...: a list of objects an event. What
is read of which collection stands in `COLLECTIONS`; which ones take which part, in `Layout.find`.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, NamedTuple

import awkward as ak
import numpy as np
import uproot
from numpy.typing import NDArray
from uproot.models.TRef import Model_TRefArray

from manyscale.errors import DataError
from manyscale.events.clustering import JetPairs, cluster, find_jets, hardest_two
from manyscale.events.detected import DetectedEvents
from manyscale.events.files.card_expressions import CardExpressions
from manyscale.events.files.checks import check_finite
from manyscale.events.files.collisions import select_batch
from manyscale.events.files.convert_settings import ConvertSettings
from manyscale.events.files.reader import (
    Contents,
    FileEvents,
    NoEventsError,
    Piece,
    divide_streams,
    nothing,
)
from manyscale.events.files.root_files import open_root, reading
from manyscale.events.kinematics import Momentum
from manyscale.events.objects import find_leptons
from manyscale.events.particles import (
    BOTTOM,
    HIGGS,
    Array,
    Floats,
    Hits,
    Integers,
    Leptons,
    Particles,
    SmallJets,
    pair_up,
)
from manyscale.events.reconstruction import missing_momentum
from manyscale.events.settings import GenerateSettings
from manyscale.events.truth import count_inside, match_h_bb
from manyscale.schema import (
    CHARGED_HADRON,
    CONSTITUENTS,
    ELECTRON,
    MUON,
    NEUTRAL_HADRON,
    PHOTON,
    SUBJETS,
    Generated,
    StreamSchema,
    collision_streams,
)

__all__ = ["NOWHERE", "DelphesReader", "DelphesTree", "higgs_to_bottom", "resolve"]

TREE = "Delphes"
# An event of a large file takes 0.2 ms, and opening it, once a unit, 0.1 s.
_STEP = 5000
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
            tree = file[name]
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

    def need(self, names: Collection[str], use: str) -> None:
        """Raise DataError where a branch that something uses is not there."""
        for name in names:
            if name not in self.branches:
                close = get_close_matches(name, self.branches, n=5, cutoff=0.5)
                raise DataError(
                    f"{self.where}: there is no branch '{name}', which {use} needs; there are "
                    f"{', '.join(close or self.collections) or 'none'}"
                )

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
                branch = self.branches[name]
                one_each = uproot.containers.AsArray(False, False, Model_TRefArray, ())
                lists = branch.array(
                    uproot.AsObjects(one_each, branch), entry_start=first, entry_stop=last
                )
                lengths[column] = ak.to_numpy(ak.num(lists))
                references = (
                    ak.to_numpy(ak.flatten(lists.fSize)).astype(np.int64),
                    ak.to_numpy(ak.flatten(lists.refs, axis=None)),
                )
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
        value, error = (
            float(self.flat(name, last, last + 1)[1][-1]) if name in self.branches else 0.0
            for name in ("Event.CrossSection", "Event.CrossSectionError")
        )
        if not value > _SMALLEST:
            return None, None
        return value, error if error > 0 else None

    def adds_up(self) -> bool:
        """Whether the cross section grows from event to event with the sum of the weights."""
        last = min(self.n_entries, _SEEN)
        if "Event.CrossSection" not in self.branches or last < 2:
            return False
        value = self.flat("Event.CrossSection", 0, last)[1].astype(np.float64)
        weight = np.ones(len(value))
        if "Event.Weight" in self.branches:
            weight = self.flat("Event.Weight", 0, last)[1].astype(np.float64)
        total = np.cumsum(weight)
        if len(total) != len(value) or not value[-1] > _SMALLEST or not total[-1]:
            return False
        return np.allclose(value / value[-1], total / total[-1], rtol=1e-3, atol=1e-3 / len(value))


@dataclass(frozen=True)
class Layout:
    """Which collections of a file take which part, and what is read of them.

    Attributes
    ----------
    read
        Columns to read, by collection.
    unusable
        Collections that lack what is needed, and why: "there is no branch 'FatJet.Mass'".
    fat_jets, small_jets, missing
        Collections of jets and of missing momentum; None: made of what was seen.
    inside
        Collections that the constituents of fat jets come from; empty where that is not known.
    seen
        Collections that together are all that the detector saw.
    leptons
        Collections of isolated leptons.
    uses
        What a collection is used for, in words.
    """

    read: Mapping[str, tuple[str, ...]]
    unusable: Mapping[str, str]
    fat_jets: str | None
    small_jets: str | None
    missing: str | None
    inside: tuple[str, ...]
    seen: tuple[str, ...]
    leptons: tuple[str, ...]
    uses: Mapping[str, str]

    def has(self, collection: str | None, column: str) -> bool:
        """Whether a column is read."""
        return collection is not None and column in self.read.get(collection, ())

    @staticmethod
    def find(tree: DelphesTree, wanted: Collection[str], columns: Collection[str]) -> "Layout":
        """Find what is to be read of a file.

        Parameters
        ----------
        tree
            Of the file.
        wanted
            Names of the streams wanted.
        columns
            Further columns of the constituents that are wanted.

        Raises
        ------
        DataError
            Where there is no jet, or no missing momentum, and nothing to make it of.
        """
        usable: dict[str, tuple[str, ...]] = {}
        unusable: dict[str, str] = {}
        for name, (needed, optional) in COLLECTIONS.items():
            there = tree.collections.get(name, ())
            absent = [column for column in needed if column not in there]
            if there and absent:
                unusable[name] = f"there is no branch '{name}.{absent[0]}'"
            elif there:
                usable[name] = tuple(c for c in (*needed, *optional) if c in there)
        fat, small, missing = (
            next((name for name in names if name in usable), None)
            for names in (_FAT_JETS, _SMALL_JETS, _MISSING)
        )
        seen: tuple[str, ...] = ()
        for names in _ALL_SEEN:
            present = tuple(name for name in names if name in tree.collections)
            if not seen and usable.keys() >= set(present):
                seen = present
        for what, found, names in (
            ("are no jets", fat, _FAT_JETS),
            ("is no missing momentum", missing, _MISSING),
        ):
            if not found and not seen:
                others = [name for together in _ALL_SEEN for name in together]
                reasons = "".join(f"; {why}" for why in unusable.values())
                raise DataError(
                    f"{tree.where}: there {what} ({', '.join(names)}) and nothing to make "
                    f"{'them' if names is _FAT_JETS else 'it'} of ({', '.join(others)}); there are "
                    f"{', '.join(tree.collections) or 'no collections'}{reasons}"
                )
        # In the order of rising importance: what is said last of a collection stays.
        uses = {"Event": "weights, cross section", "Particle": "h -> b bbar"}
        read = {name: usable[name] for name in uses if usable.get(name)}
        leptons: tuple[str, ...] = ()
        if "leptons" in wanted and not unusable.keys() & _LEPTON_CODES.keys():
            leptons = tuple(name for name in _LEPTON_CODES if name in usable)
        inside = seen if fat is None else ()
        if (
            fat
            and "Constituents" in usable[fat]
            and {*CONSTITUENTS, *SUBJETS, "kinematics"} & set(wanted)
        ):
            linked = dict.fromkeys((*seen, *_LINKED))
            if not unusable.keys() & {*linked, *_ALL_SEEN[0]}:
                inside = tuple(c for c in linked if "fUniqueID" in usable.get(c, ()))
        make = (
            fat is None
            or missing is None
            or ("small_jets" in wanted and small is None)
            or ("leptons" in wanted and not leptons)
        )
        unused = {of for name, of in _DISPLACEMENT.items() if name not in columns}
        unused |= set() if fat else {"fUniqueID"}
        for name in {*inside, *(seen if make else ())}:
            read[name] = tuple(c for c in usable[name] if c not in unused)
            uses[name] = "constituents" if fat else "fat jets are clustered from it"
        for name in leptons:
            read[name], uses[name] = usable[name], "leptons"
        if missing:
            read[missing], uses[missing] = usable[missing], "missing momentum"
        if small and ("small_jets" in wanted or "BTag" in usable[small]):
            least = () if "small_jets" in wanted else ("Constituents",)
            read[small] = tuple(c for c in usable[small] if c not in least)
            uses[small] = "small jets, b-tags"
        if fat:
            read[fat], uses[fat] = usable[fat], "fat jets"
        uses = {name: use for name, use in uses.items() if name in read}
        return Layout(read, unusable, fat, small, missing, inside, seen, leptons, uses)

    def lacking(self, stream: str) -> dict[str, str]:
        """Columns of a stream that cannot be given, and why; see `divide_streams`."""
        reasons = "".join(f"; {why}" for why in self.unusable.values())
        no_inside = (
            f"'{self.fat_jets}' has no constituents that the file holds: they are in "
            f"{', '.join((*_ALL_SEEN[0], *_LINKED))}{reasons}"
        )
        tracks = [name for name in self.inside or self.seen if "Charge" in COLLECTIONS[name].needed]
        no_class = [name for name in tracks if not self.has(name, "PID")]
        if stream in {*CONSTITUENTS, *SUBJETS} and not self.inside:
            return {"pt": no_inside}
        if stream in CONSTITUENTS:
            lacking = {
                column: f"no tracks with a branch {branch}"
                for column, branch in _DISPLACEMENT.items()
                if not any(self.has(name, branch) for name in tracks)
            }
            if no_class:
                lacking["particle_class"] = f"there is no branch '{no_class[0]}.PID'"
            return lacking
        if stream == "kinematics" and not self.inside:
            counted = self.has(self.fat_jets, "Constituents")
            return dict.fromkeys(["width"] if counted else ["width", "multiplicity"], no_inside)
        if stream == "small_jets" and not self.small_jets:
            if not self.seen:
                return {"pt": f"there is no 'Jet', and nothing to make them of{reasons}"}
            return {"n_btags": "there is no 'Jet'; those made here have no b-tags"}
        if stream == "small_jets":
            return {
                column: f"there is no branch '{self.small_jets}.{branch}'"
                for branch, column in {"BTag": "n_btags", "Constituents": "multiplicity"}.items()
                if not self.has(self.small_jets, branch)
            }
        if stream == "leptons" and not self.leptons:
            for name in _LEPTON_CODES:
                if name in self.unusable:
                    return {"pt": self.unusable[name]}
            if not tracks or no_class:
                names = (
                    *_LEPTON_CODES,
                    *(name for name, of in COLLECTIONS.items() if of is _TRACK),
                )
                return {"pt": f"there is none of {', '.join(names)} with a branch PID"}
        return {}

    def remarks(self) -> list[str]:
        """What a user should know of what stands in for what."""
        remarks = [f"{why}: '{name}' is not read" for name, why in self.unusable.items()]
        if self.fat_jets is None:
            remarks.append(
                "there is neither FatJet nor Jet: fat jets are clustered from "
                f"{', '.join(self.seen)}, and have no b-tags"
            )
        elif self.fat_jets != "FatJet":
            remarks.append(
                f"there is no FatJet: the fat jets are those of '{self.fat_jets}', of whatever radius"
            )
        if self.fat_jets and not any(
            self.has(name, "BTag") for name in (self.fat_jets, self.small_jets)
        ):
            remarks.append("the jets have no branch BTag: no b-tags")
        if self.missing is None:
            remarks.append(
                "there is no MissingET: the missing momentum is minus the sum of all seen"
            )
        elif self.missing != "MissingET":
            remarks.append(
                f"there is no MissingET: the missing momentum is that of '{self.missing}'"
            )
        if "Particle" not in self.read:
            remarks.append("there are no generated particles: h_bb_j1 and h_bb_j2 are not known")
        return remarks


# ---- the reader -------------------------------------------------------------------------------


@dataclass(frozen=True)
class DelphesReader:
    """Reads trees of Delphes 3.

    Fat jets are `FatJet` where there is one, else those of `_FAT_JETS`, else clustered from the
    energy flow. b-tags are bit 0 of `BTag`: a fat jet's are the tagged small jets within
    `generate.jets.radius` of it, at most 2, or without these its own. Leptons are those of
    `Electron` and `Muon`. The cross section is that of the last `Event`, and all events that were
    generated are in the file.

    Attributes
    ----------
    generate
        Streams, cuts and objects.
    convert
        Tree, weight, variations, observables and selection: branches are named as in the file
        (`Event.Number`, `Jet_size`). A branch of several varied weights, `Weight.Weight`, gives
        one named weight each: `Weight_Weight_0`, `Weight_Weight_1`, ...
    """

    generate: GenerateSettings
    convert: ConvertSettings

    @property
    def step(self) -> int:
        """Entries of a unit of work that keep a core busy for some seconds."""
        return _STEP

    def entries(self, path: str) -> int:
        """Return the number of events of a file; raises as `look` does."""
        with self._open(path) as tree:
            if not tree.n_entries:
                raise NoEventsError(f"{tree.where} holds no event")
            return tree.n_entries

    def look(self, path: str) -> Contents:
        """See what is in a file without reading its events; see `Reader.look`."""
        wanted = collision_streams(self.generate.streams, self.generate.columns)
        with self._open(path) as tree:
            if not tree.n_entries:
                raise NoEventsError(f"{tree.where} holds no event")
            for expression in CardExpressions.parse(self.convert).all:
                expression.check_names(tree.branches.keys(), tree.where)
            tree.need(self.convert.variations or (), "convert.variations")
            layout = Layout.find(tree, wanted.keys(), self.generate.columns)
            streams, missing = divide_streams(wanted, layout.lacking)
            rows, last = [], min(tree.n_entries, _SEEN)
            for name, columns in tree.collections.items():
                counts, _ = tree.flat(f"{name}.{columns[0]}", 0, last)
                rows.append((name, f"{counts.mean():.1f} an event", layout.uses.get(name, "")))
            remarks = layout.remarks()
            if tree.adds_up():
                value, _ = tree.cross_section()
                remarks.append(
                    "Event.CrossSection adds up from event to event: that of the last event, "
                    f"{value:.4g} pb, is taken for all"
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
            for expression in expressions.all:
                expression.check_names(tree.branches.keys(), tree.where)
            tree.need(self.convert.variations or (), "convert.variations")
            layout = Layout.find(tree, streams.keys(), self.generate.columns)
            section, error = tree.cross_section()
            n_varied: dict[str, int] = {}
            for first in range(piece.first, end, _BATCH):
                last = min(first + _BATCH, end)
                batch = _Batch(tree, layout, self.generate, first, last)
                columns = {name: batch.one_each(name) for name in expressions.names}
                weight = expressions.weights(columns, last - first, batch.where)
                detected, notes = batch.detect(
                    streams,
                    batch.weight() if weight is None else weight,
                    steps=expressions.steps(columns, last - first),
                    weights=batch.varied(self.convert.variations or (), n_varied),
                    observables=expressions.values(columns, last - first),
                )
                generated = Generated(
                    cross_section=section,
                    cross_section_error=error,
                    sum_weights=float(detected.weight.sum()),
                    sum_weights2=float(np.square(detected.weight).sum()),
                )
                yield select_batch(detected, streams, self.generate, generated, notes)

    @contextmanager
    def _open(self, path: str) -> Iterator[DelphesTree]:
        with open_root(path) as file:
            yield DelphesTree(file, path, self.convert.tree or TREE)


# ---- a batch of events ------------------------------------------------------------------------


class _Batch:
    """Entries `first` to `last - 1` of a tree, read."""

    def __init__(
        self, tree: DelphesTree, layout: Layout, settings: GenerateSettings, first: int, last: int
    ) -> None:
        self._tree, self._layout, self._settings = tree, layout, settings
        self._first, self._last = first, last
        self._higgs = self._read_higgs() if "Particle" in layout.read else None
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

    def _read_higgs(self) -> Particles:
        """Higgs bosons that decay to b bbar.

        Particles are most of a Delphes file; all but their codes are read only where there is a
        Higgs boson.
        """
        counts, pid = self._tree.flat("Particle.PID", self._first, self._last)
        if not (pid == HIGGS).any():
            none = np.zeros(0)
            return Particles(np.zeros(len(counts), np.int64), none.astype(int), *[none] * 4)
        names = self._layout.read["Particle"]
        all_of = self._tree.objects("Particle", names, self._first, self._last)
        higgs = higgs_to_bottom(pid, all_of.columns["D1"], all_of.columns["D2"], counts)
        of_event = np.bincount(all_of.event[higgs], minlength=len(counts))
        chosen = Objects(of_event, {name: of[higgs] for name, of in all_of.columns.items()})
        self._check_finite("Particle", chosen)
        return Particles(
            of_event, pid[higgs].astype(np.int64), *chosen.floats("Px", "Py", "Pz", "E")
        )

    def detect(
        self, streams: Collection[str], weight: Floats, **of_card: Mapping[str, Array]
    ) -> tuple[DetectedEvents, Counter[str]]:
        """Make detected events, with what the card says of them, and count what is odd."""
        layout, settings = self._layout, self._settings
        hits, pairs, multiplicity = self._fat_jets()
        notes = Counter[str]()
        if hits is not None:
            empty = int(ak.sum(ak.num(pairs.members, axis=2) == 0))
            notes = Counter({_NO_CONSTITUENTS: empty} if empty else {})
        if layout.missing is None:
            missing = missing_momentum(self._seen())
        else:
            met, phi = self._single(layout.missing).floats("MET", "Phi")
            missing = met * np.cos(phi), met * np.sin(phi)
        h_bb = self._higgs and match_h_bb(self._higgs, pairs, settings.jets.radius)
        detected = DetectedEvents(
            entry=np.arange(self._first, self._last),
            weight=weight,
            hits=hits,
            pairs=pairs,
            n_btags=self._n_btags(pairs),
            missing=missing,
            multiplicity=multiplicity,
            h_bb=h_bb,
            small_jets=self._small_jets() if "small_jets" in streams else None,
            leptons=self._leptons() if "leptons" in streams else None,
            **of_card,
        )
        return detected, notes

    def _fat_jets(self) -> tuple[Hits | None, JetPairs, NDArray[np.int64] | None]:
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
        pz = pt * np.sinh(eta)
        energy = np.sqrt(pt**2 + pz**2 + mass**2)
        momentum = Momentum(pt * np.cos(phi), pt * np.sin(phi), pz, energy)
        counts, references = jets.n_references, jets.references
        if not self._layout.inside or counts is None or references is None:
            return None, JetPairs(event, momentum, None), None if counts is None else counts[place]
        everything, unique = self._merge(self._layout.inside)
        # Of all references those of the two jets, the event of each, and what it points to.
        jet, reference = pair_up(place.ravel(), counts)
        at = np.repeat(event, 2)[jet]
        found = resolve(references[reference], at, unique, everything.counts)
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
        # Indices among the hits that are kept, counted from the event's first.
        first = np.cumsum(hits.counts) - hits.counts
        index = (np.cumsum(kept) - 1)[found[there]] - first[at[there]]
        members = ak.unflatten(index, np.bincount(jet[there], minlength=place.size))
        pairs = ak.unflatten(members, np.full(len(event), 2))
        return hits, JetPairs(event, momentum, pairs), None

    def _n_btags(self, pairs: JetPairs) -> NDArray[np.int64]:
        """(pairs, 2): tagged small jets within the radius of each fat jet, at most 2.

        Without small jets it is the fat jet's own tag; 0 without that.
        """
        fat, small = self._layout.fat_jets, self._layout.small_jets
        if fat is not None and small != fat and self._layout.has(small, "BTag"):
            jets = self._objects[small or ""]
            tagged = np.flatnonzero(jets.columns["BTag"] & _TAGGED)
            eta, phi = (jets.columns[name][tagged] for name in ("Eta", "Phi"))
            radius = self._settings.jets.radius
            return np.minimum(count_inside(jets.event[tagged], eta, phi, pairs, radius), 2)
        if not self._layout.has(fat, "BTag"):
            return np.zeros(pairs.momentum.px.shape, np.int64)
        jets = self._objects[fat or ""]
        _, place = hardest_two(jets.counts, jets.columns["PT"], self._settings.cuts.second_pt)
        return (jets.columns["BTag"] & _TAGGED).astype(np.int64)[place]

    def _small_jets(self) -> SmallJets:
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

    def _leptons(self) -> Leptons:
        """Electrons and muons as the Delphes card isolated them; without any, isolated tracks."""
        settings, names = self._settings.objects, self._layout.leptons
        if not names:
            return find_leptons(self._seen(), settings)
        each = [self._objects[name] for name in names]
        columns = [[of.columns[column] for of in each] for column in _LEPTON.needed]
        columns.append(
            [
                np.full(len(of.event), _LEPTON_CODES[name])
                for name, of in zip(names, each, strict=True)
            ]
        )
        leptons = Leptons(*_by_event(each, columns))
        return leptons.take(np.flatnonzero(leptons.pt > settings.lepton_pt))

    def _seen(self) -> Hits:
        """All that the detector saw."""
        # Delphes leaves tracks with no pT whose energy it gives to cells.
        everything, _ = self._merge(self._layout.seen)
        return everything.take(np.flatnonzero(everything.pt > 0))

    def _merge(self, names: Sequence[str]) -> tuple[Hits, Integers]:
        """Join tracks and cells of several collections, and the unique numbers of each."""
        each = [self._objects[name] for name in names]
        columns = [[] for _ in range(9)]
        for name, of in zip(names, each, strict=True):
            momentum = "PT" if "PT" in of.columns else "ET"
            pt, eta, phi = of.floats(momentum, "Eta", "Phi")
            zero = np.zeros(len(pt))
            charge = of.columns.get("Charge", zero).astype(np.int8)
            if "E" in of.columns:
                (energy,) = of.floats("E")
            else:
                # Without pT the direction is a number that no hyperbolic cosine can take: 999.9.
                # Older versions of Delphes say no mass, and make jets of tracks without one.
                p = pt * np.cosh(np.where(pt > 0, eta, 0))
                energy = np.hypot(p, of.columns.get("Mass", zero))
            code = np.full(len(pt), _CODES.get(name, NEUTRAL_HADRON), np.int8)
            code[charge != 0] = CHARGED_HADRON
            if "Eem" in of.columns and "Ehad" in of.columns:
                code[of.columns["Eem"] > of.columns["Ehad"]] = PHOTON
            if "PID" in of.columns:
                pid = np.abs(of.columns["PID"])
                for number, known in {11: ELECTRON, 13: MUON, 22: PHOTON}.items():
                    code[pid == number] = known
            d0, dz = (of.columns.get(c, zero).astype(np.float64) for c in ("D0", "DZ"))
            unique = of.columns.get("fUniqueID", np.zeros(len(pt), np.uint32))
            values = (pt, eta, phi, energy, charge, code, d0, dz, unique)
            for column, value in zip(columns, values, strict=True):
                column.append(value)
        counts, *joined, numbers = _by_event(each, columns)
        return Hits(counts, *joined), numbers

    def _single(self, collection: str) -> Objects:
        """Return a collection of one object an event; DataError where that is not so."""
        objects = self._objects[collection]
        odd = np.flatnonzero(objects.counts != 1)
        if len(odd):
            raise DataError(
                f"{self.where(int(odd[0]))}: '{collection}' holds {objects.counts[odd[0]]} "
                "objects, where there is one an event"
            )
        return objects

    def weight(self) -> Floats:
        """(events,): weights of the file, 1 where it has none."""
        if not self._layout.has("Event", "Weight"):
            return np.ones(self._last - self._first)
        (weight,) = self._single("Event").floats("Weight")
        return weight

    def one_each(self, name: str) -> ak.Array | Array:
        """Read a branch that an expression uses; of collections of one object, one value an event."""
        values = self._tree.array(name, self._first, self._last)
        if values.ndim == 1 or name.partition(".")[0] not in _SINGLE:
            return values
        odd = np.flatnonzero(ak.num(values) != 1)
        if len(odd):
            raise DataError(
                f"{self.where(int(odd[0]))}: branch '{name}' does not hold one value an event"
            )
        return ak.to_numpy(ak.flatten(values))

    def varied(self, names: Sequence[str], numbers: dict[str, int]) -> dict[str, Floats]:
        """Varied weights (events,): "Weight.Weight" gives Weight_Weight_0, Weight_Weight_1, ...

        `numbers` are those of the batches before, by branch, and are set by the first.
        """
        varied = {}
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


def _by_event(each: Sequence[Objects], columns: Sequence[Sequence[Array]]) -> list[Array]:
    """Join objects of several collections event by event: their counts, then their columns."""
    order = np.argsort(np.concatenate([of.event for of in each]), kind="stable")
    counts = np.sum([of.counts for of in each], axis=0)
    return [counts, *(np.concatenate(column)[order] for column in columns)]


# ---- references and truth ---------------------------------------------------------------------

#: Index of what a reference to nothing points to.
NOWHERE = -1
# The highest byte is the number of the process that wrote the object, and may stand in the object
# and not in the reference.
_NUMBER = 0xFFFFFF


def resolve(targets: Integers, event: Integers, unique: Integers, counts: Integers) -> Integers:
    """Find what references point to.

    Parameters
    ----------
    targets, event
        (references,): the unique number that each points to, and its event.
    unique
        (objects,): unique numbers of all objects, one event after the other. Of two objects of
        one number the first counts.
    counts
        (events,): number of objects of each event.

    Returns
    -------
    (references,)
        Indices of the objects; `NOWHERE` where there is no such object in the event.

    Examples
    --------
    >>> resolve(np.array([7, 9, 7]), np.array([0, 0, 1]), np.array([8, 7, 7]), np.array([2, 1]))
    array([ 1, -1,  2])
    """

    def key(event: Integers, number: Integers) -> Integers:
        return (event << 24) | (number.astype(np.int64) & _NUMBER)

    own = key(np.repeat(np.arange(len(counts)), counts), unique)
    wanted = key(event, targets)
    if not len(own):
        return np.full(len(wanted), NOWHERE)
    order = np.argsort(own, kind="stable")
    index = order[np.minimum(np.searchsorted(own, wanted, sorter=order), len(own) - 1)]
    return np.where(own[index] == wanted, index, NOWHERE)


def higgs_to_bottom(pid: Array, one: Array, other: Array, counts: Integers) -> Integers:
    """Indices of the Higgs bosons that decay to b bbar; copies of them decay to a copy.

    Parameters
    ----------
    pid
        (particles,) of all events, one event after the other.
    one, other
        (particles,): first and last daughter, counted within the event.
    counts
        (events,): number of particles of each event.

    Examples
    --------
    >>> higgs_to_bottom(
    ...     np.array([25, 25, 5, -5]), np.array([1, 2, -1, -1]), np.array([1, 3, -1, -1]), [4]
    ... )
    array([1])
    """
    higgs = np.flatnonzero(pid == HIGGS)
    ends = np.cumsum(counts)
    event = np.searchsorted(ends, higgs, side="right")
    number = np.asarray(counts)[event]
    daughters = np.stack([one[higgs], other[higgs]])
    known = ((daughters >= 0) & (daughters < number)).all(axis=0)
    b, bbar = pid[np.where(known, (ends[event] - number) + daughters, 0)]
    return higgs[known & (np.abs(b) == BOTTOM) & (bbar == -b)]
