"""CMS NanoAOD of any version, plain or with particle-flow candidates (PFNano), as TTree or RNTuple.

The two fat jets are those of highest pT of the file (`FatJet`: anti-kT of radius 0.8, energies
corrected). Their constituents are the candidates linked to them, weighted with their PUPPI weight
as the jets are: they add up to the jet before its correction, `FatJet_pt * (1 -
FatJet_rawFactor)`. NanoAOD rounds each number to about ten bits, the factor and the weights to
fewer: directions agree to 3e-4, pT to 2e-3, masses to 3e-3 (unweighted, masses are up to a fifth
off).

The b-tags of a fat jet are those of its two subjets, which tell b quarks apart that are closer
than two small jets can be; where no known tagger of subjets is there, the tagged small jets within
it. Varied weights are ratios in NanoAOD; here they are weights, the event's times the ratio.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from manyscale.errors import DataError
from manyscale.events.clustering import JetPairs, hardest_two
from manyscale.events.detected import DetectedEvents
from manyscale.events.files.card_expressions import CardExpressions
from manyscale.events.files.checks import check_finite
from manyscale.events.files.collisions import select_batch
from manyscale.events.files.convert_settings import ConvertSettings
from manyscale.events.files.reader import (
    THE_PROCESS,
    Contents,
    FileEvents,
    NoEventsError,
    Piece,
    divide_streams,
    nothing,
)
from manyscale.events.files.root_files import open_root, reading
from manyscale.events.kinematics import Momentum
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
)
from manyscale.events.settings import GenerateSettings, ObjectSettings
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

__all__ = ["NanoAODReader"]

_BATCH_BYTES = 64 << 20  # of what is read at a time
_SMALLEST_BATCH = 100
_LOOK = 200  # entries that tell how large collections are

# ---- what is read -----------------------------------------------------------------------------

_MOMENTUM = ("pt", "eta", "phi", "mass")

# Taggers, the best first, each with its medium working point: 1% of light jets pass. Those of other
# years are within a third of it. Source: btv-wiki.docs.cern.ch, working points of 2024 (UParT),
# 2022 (ParticleNet) and 2018 (DeepJet, DeepCSV); CSVv2 of 2017.
_TAGGERS = {
    "btagUParTAK4B": 0.1272,
    "btagPNetB": 0.245,
    "btagDeepFlavB": 0.2783,
    "btagDeepB": 0.4168,
    "btagCSVV2": 0.8838,
}


class _Collection(NamedTuple):
    """What it is used for, columns without which it counts as absent, and those read where there.

    The branch of a column is named `<collection>_<column>`.
    """

    use: str
    needed: tuple[str, ...]
    optional: tuple[str, ...] = ()


_CANDIDATE = ((*_MOMENTUM, "pdgId"), ("charge", "puppiWeight", "d0", "dz"))
_LINKS = "links of constituents to fat jets"
_COLLECTIONS = {
    "FatJet": _Collection("fat jets", _MOMENTUM, ("subJetIdx1", "subJetIdx2", "nConstituents")),
    "PFCands": _Collection("constituents", *_CANDIDATE),
    "FatJetPFCands": _Collection(_LINKS, ("jetIdx", "pFCandsIdx")),
    "PFCand": _Collection("constituents", *_CANDIDATE),
    "FatJetPFCand": _Collection(_LINKS, ("jetIdx", "pfCandIdx")),
    "Jet": _Collection("small_jets", _MOMENTUM, ("nConstituents", *_TAGGERS)),
    "SubJet": _Collection("n_btags", (), tuple(_TAGGERS)),
    "Electron": _Collection(
        "leptons", ("pt", "eta", "phi", "charge"), ("pfRelIso03_all", "cutBased")
    ),
    "Muon": _Collection("leptons", ("pt", "eta", "phi", "charge"), ("pfRelIso03_all", "mediumId")),
    "GenPart": _Collection("h_bb", ("pdgId", "genPartIdxMother", *_MOMENTUM)),
    "PuppiMET": _Collection("missing momentum", ("pt", "phi")),
    "MET": _Collection("missing momentum", ("pt", "phi")),
    "PFMET": _Collection("missing momentum", ("pt", "phi")),
}
_MISSING_MOMENTUM = ("PuppiMET", "MET", "PFMET")  # the best first

# Candidates, their links to the fat jets, and a link's index of its candidate: of PFNano, and of
# NanoAOD itself from version 15 on.
_NAMINGS = (("PFCands", "FatJetPFCands", "pFCandsIdx"), ("PFCand", "FatJetPFCand", "pfCandIdx"))

# Leptons: particle class, and the identification with its least value; both are of medium quality.
_LEPTONS = {"Electron": (ELECTRON, "cutBased", 3), "Muon": (MUON, "mediumId", 1)}

_WEIGHT = "genWeight"
#: Varied weights, as ratios to the generated one, that NanoAOD usually has.
_VARIATIONS = ("PSWeight", "LHEScaleWeight")

_NO_CANDIDATES = (
    "the file has no particle-flow candidates with links to its fat jets; PFNano has them, and "
    "NanoAOD may from version 15 on"
)

# CMS numbers hadronic and electromagnetic energy in the forward calorimeter 1 and 2.
_CLASS_OF = np.full(256, CHARGED_HADRON, np.int8)
_CLASS_OF[[11, 13, 22, 2]] = ELECTRON, MUON, PHOTON, PHOTON
_CLASS_OF[[130, 1]] = NEUTRAL_HADRON

_RADIUS = 0.8  # of the fat jets, anti-kT
_CM = 10.0  # in mm


@dataclass(frozen=True)
class _Plan:
    """What is read of a file, by its own branches.

    Attributes
    ----------
    columns
        Of each collection that is read.
    missing_momentum
        Its collection, which has one a event.
    candidates
        One of `_NAMINGS`; None: not there or not needed.
    subjet_tagger, jet_tagger
        Columns of `SubJet`, of which a fat jet has two, and of `Jet`.
    weight
        Whether there are generated weights.
    variations
        Branches of varied weights, each with the number that an event has; None: one number, no
        list.
    card
        Its expressions.
    """

    columns: Mapping[str, tuple[str, ...]]
    missing_momentum: str
    candidates: tuple[str, str, str] | None
    subjet_tagger: str | None
    jet_tagger: str | None
    weight: bool
    variations: Mapping[str, int | None]
    card: CardExpressions

    @property
    def names(self) -> tuple[str, ...]:
        """All branches to read, each once."""
        names = [f"{of}_{column}" for of, columns in self.columns.items() for column in columns]
        names += [_WEIGHT] * self.weight
        return tuple(dict.fromkeys((*names, *self.variations, *self.card.names)))

    @classmethod
    def make(
        cls,
        table: "_Table",
        streams: Mapping[str, StreamSchema],
        card: CardExpressions,
        variations: tuple[str, ...] | None,
    ) -> "_Plan":
        """Settle what is read for some streams; refuse a file that lacks what none can do without."""
        for expression in card.all:
            expression.check_names(table.branches, table.where)
        table.need(variations or (), "convert.variations")
        read: dict[str, tuple[str, ...]] = {}

        def there(collection: str, columns: Sequence[str]) -> list[str]:
            return [column for column in columns if f"{collection}_{column}" in table.branches]

        def whole(collection: str) -> bool:
            needed = _COLLECTIONS[collection].needed
            return len(there(collection, needed)) == len(needed)

        def take(collection: str, wanted: Collection[str | None] | None = None) -> None:
            _, needed, optional = _COLLECTIONS[collection]
            also = [of for of in there(collection, optional) if wanted is None or of in wanted]
            read[collection] = (*needed, *also)

        table.need([f"FatJet_{name}" for name in _MOMENTUM], "the fat jets")
        met = next(filter(whole, _MISSING_MOMENTUM), _MISSING_MOMENTUM[0])
        table.need([f"{met}_pt", f"{met}_phi"], "the missing momentum")
        take(met)

        # Candidates, where a stream is made of them, and to count them where the file does not.
        kinematics = streams["kinematics"].columns if "kinematics" in streams else ()
        counted = bool(there("FatJet", ["nConstituents"]))
        candidates = None
        if (
            {*CONSTITUENTS, *SUBJETS} & set(streams)
            or "width" in kinematics
            or ("multiplicity" in kinematics and not counted)
        ):
            candidates = next((of for of in _NAMINGS if whole(of[0]) and whole(of[1])), None)
        if candidates:
            columns = {column for stream in streams.values() for column in stream.columns}
            take(candidates[0], {"charge", "puppiWeight"} | ({"d0", "dz"} & columns))
            take(candidates[1])

        # The best tagger of the subjets; that of small jets for themselves, or in its place.
        indices = ["subJetIdx1", "subJetIdx2"]
        subjet_tagger = jet_tagger = None
        if there("FatJet", indices) == indices:
            subjet_tagger = next(iter(there("SubJet", list(_TAGGERS))), None)
        if subjet_tagger:
            take("SubJet", {subjet_tagger})
        size = set() if candidates else {"nConstituents"}
        take("FatJet", size.union(indices if subjet_tagger else ()))
        small_jets = "small_jets" in streams
        if whole("Jet") and (small_jets or not subjet_tagger):
            jet_tagger = next(iter(there("Jet", list(_TAGGERS))), None)
            if small_jets or jet_tagger:
                take("Jet", {jet_tagger, "nConstituents" if small_jets else None})

        for collection in ("GenPart", *(_LEPTONS if "leptons" in streams else ())):
            if whole(collection):
                take(collection)

        plan = cls(
            columns=read,
            missing_momentum=met,
            candidates=candidates,
            subjet_tagger=subjet_tagger,
            jet_tagger=jet_tagger,
            weight=_WEIGHT in table.branches,
            variations=_lengths(table, variations),
            card=card,
        )
        table.check_single(plan.names)
        return plan

    def lacking(self, stream: str) -> dict[str, str]:
        """Columns of a stream that the file cannot give, and why; see `divide_streams`."""
        branches = {}  # of columns that not every file has
        if stream in {*CONSTITUENTS, *SUBJETS}:
            if not self.candidates:
                return {"pt": _NO_CANDIDATES}
            branches = {column: f"{self.candidates[0]}_{column}" for column in ("d0", "dz")}
        elif stream == "kinematics" and not self.candidates:
            branches = {"multiplicity": "FatJet_nConstituents"}
        elif stream == "small_jets":
            if "Jet" not in self.columns:
                names = ", ".join(f"Jet_{name}" for name in _MOMENTUM)
                return {"pt": f"the file does not have all of {names}"}
            branches = {"multiplicity": "Jet_nConstituents"}
        elif stream == "leptons" and not _LEPTONS.keys() & self.columns.keys():
            return {"pt": "the file has no electrons and no muons"}
        absent = {
            column: f"the file has no branch {branch}"
            for column, branch in branches.items()
            if branch not in self.names
        }
        if stream == "kinematics" and not self.candidates:
            absent["width"] = _NO_CANDIDATES
        return absent


def _lengths(table: "_Table", variations: tuple[str, ...] | None) -> dict[str, int | None]:
    """Branches of varied weights, by default the usual ones, with the number that an event has."""
    usual = [name for name in _VARIATIONS if name in table.branches]
    first = table.read(usual if variations is None else variations, 0, 1)
    lengths = {name: len(of[0]) if of.ndim > 1 else None for name, of in first.items()}
    if variations is None:
        # A lone one is a placeholder where none were computed.
        return {name: length for name, length in lengths.items() if length != 1}
    for name, number in Counter(_variation_names(lengths)).items():
        if number > 1:
            raise DataError(
                f"{table.where}: convert.variations gives two weights named '{name}': leave one of "
                "its branches out"
            )
    return lengths


def _variation_names(lengths: Mapping[str, int | None]) -> Iterator[str]:
    """Name the varied weights after branch and index: PSWeight_0, PSWeight_1, ..."""
    for branch, length in lengths.items():
        if length is None:
            yield branch
        else:
            yield from (f"{branch}_{index}" for index in range(length))


# ---- files ------------------------------------------------------------------------------------


class _Table:
    """A TTree or RNTuple of an open file: its branches by name, and their arrays.

    A field of the records of an RNTuple, `FatJet.pt`, is named as the branch that it stands for.
    """

    def __init__(self, path: str, table: Any) -> None:  # noqa: ANN401 - uproot has no types
        self.path = path
        self.where = f"{path}, tree '{table.name}'"
        self.entries = int(table.num_entries)
        self._table = table
        self.is_rntuple = not hasattr(table, "branches")
        self.doubled: set[str] = set()
        self.branches: dict[str, Any] = {}
        if self.is_rntuple:
            # Records, and lists of them, have no name of a type. Some writers repeat their fields
            # beside them, under the names of branches: these are taken.
            for outer in table.fields:
                inside = [] if outer.typename else outer.fields
                self.branches |= {f"{outer.name}_{inner.name}": inner for inner in inside}
            self.branches |= {field.name: field for field in table.fields if field.typename}
        else:
            for branch in table.branches:
                if branch.name in self.branches:
                    self.doubled.add(branch.name)
                self.branches[branch.name] = branch

    def need(self, names: Sequence[str], use: str) -> None:
        """Refuse a file without some branches; name what there is."""
        for name in names:
            if name not in self.branches:
                close = get_close_matches(name, self.branches, n=5, cutoff=0.6)
                there = close or sorted({known.partition("_")[0] for known in self.branches})[:30]
                kind = "branches" if close else "the collections and branches"
                raise DataError(
                    f"{self.where}: there is no branch '{name}', needed for {use}; there are {kind} "
                    f"{', '.join(there)}"
                )

    def check_single(self, names: Sequence[str]) -> None:
        """Refuse branches to be read that share their name with another."""
        for name in names:
            if name in self.doubled:
                raise DataError(
                    f"{self.where}: there are two branches named '{name}', and nothing says which "
                    "is meant: write the file anew with one of them"
                )

    def read(self, names: Collection[str], first: int, last: int) -> dict[str, ak.Array]:
        """Read branches of entries `first` to `last - 1`."""
        arrays = {}
        for name in names:
            with reading(self.where, name, first, last):
                arrays[name] = self.branches[name].array(entry_start=first, entry_stop=last)
        return arrays

    def batches(
        self, names: Collection[str], first: int, last: int, most: int
    ) -> Iterator[tuple[int, dict[str, ak.Array]]]:
        """Read branches of at most so many entries at a time; each with its first entry."""

        def size(entry_bytes: float) -> int:
            return int(np.clip(_BATCH_BYTES / max(entry_bytes, 1), _SMALLEST_BATCH, most))

        if not self.is_rntuple:
            stored = sum(self.branches[name].uncompressed_bytes for name in names)
            step = size(stored / self.entries)
            for start in range(first, last, step):
                yield start, self.read(names, start, min(start + step, last))
            return
        # uproot decompresses a cluster whole, whatever is wanted of it: it is read once.
        starts = [cluster.num_first_entry for cluster in self._table.cluster_summaries]
        edges = [first, *(start for start in starts if first < start < last), last]
        for start, stop in pairwise(edges):
            arrays = self.read(names, start, stop)
            step = size(sum(array.nbytes for array in arrays.values()) / (stop - start))
            for at in range(0, stop - start, step):
                yield start + at, {name: array[at : at + step] for name, array in arrays.items()}


@contextmanager
def _open(path: str) -> Iterator[tuple[_Table, Generated]]:
    """Open a file: its events, and the sums of weights, where it says them."""
    with open_root(path) as file:
        kinds = {
            key.partition(";")[0]: kind for key, kind in file.classnames(recursive=False).items()
        }
        if kinds.get("Events") not in {"TTree", "ROOT::RNTuple"}:
            there = ", ".join(f"{name} ({kind})" for name, kind in kinds.items()) or "nothing"
            raise DataError(
                f"{path} has no tree (TTree or RNTuple) 'Events', as NanoAOD has; there is {there}"
            )
        try:
            table = _Table(path, file["Events"])
            runs = _Table(path, file["Runs"]) if "Runs" in kinds else None
        except Exception as error:  # uproot raises whatever a damaged header leads it to
            raise DataError(
                f"{path}, tree 'Events' cannot be read; the file may be cut short"
            ) from error
        generated = Generated()
        # Some older versions end the names with an underscore.
        for names in (("genEventSumw", "genEventSumw2"), ("genEventSumw_", "genEventSumw2_")):
            if runs is not None and runs.branches.keys() >= set(names):
                sums = [float(np.sum(of)) for of in runs.read(names, 0, runs.entries).values()]
                generated = Generated(sum_weights=sums[0], sum_weights2=sums[1])
                break
        yield table, generated


@dataclass(frozen=True)
class _Flat:
    """A collection of a batch: the values of all events, one after the other, and counts."""

    name: str
    counts: Integers
    columns: Mapping[str, Array]
    where: Callable[[int], str]  # names an event

    @cached_property
    def event(self) -> Integers:
        """(particles,): which event each belongs to."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    def __getitem__(self, column: str) -> Array:
        return self.columns[column]

    def finite(self, *columns: str) -> tuple[Array, ...]:
        """Take columns whose values must be numbers."""
        named = {f"{self.name}_{column}": self.columns[column] for column in columns}
        check_finite(named, self.event, self.where)
        return tuple(named.values())

    def follow(self, column: str, which: Integers, target: "_Flat") -> Integers:
        """Where among all of a collection those are to which the indices of some of this one point."""
        index, event = self[column][which], self.event[which]
        bad = np.flatnonzero((index < 0) | (index >= target.counts[event]))
        if len(bad):
            at = int(event[bad[0]])
            raise DataError(
                f"{self.where(at)}: branch '{self.name}_{column}' points to {target.name} "
                f"{index[bad[0]]}, but the event has {target.counts[at]} of them"
            )
        return (np.cumsum(target.counts) - target.counts)[event] + index


class _Batch:
    """Entries of a file from `first` on, as they were read."""

    def __init__(self, path: str, first: int, plan: _Plan, arrays: Mapping[str, ak.Array]) -> None:
        self.plan, self.arrays = plan, arrays
        self._path, self._first = path, first
        self._flat: dict[str, _Flat] = {}

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    @property
    def entry(self) -> Integers:
        """(events,): the index of each in its file."""
        return np.arange(self._first, self._first + len(self))

    def where(self, event: int) -> str:
        """Name an event in messages."""
        return f"{self._path}, entry {self._first + event}"

    def __getitem__(self, collection: str) -> _Flat:
        """Take a collection with the columns that were read; refuse columns of different lengths."""
        if collection not in self._flat:
            columns = self.plan.columns[collection]
            lists = [self.list_of(f"{collection}_{column}") for column in columns]
            counts = lists[0][0]
            for column, (other, _) in zip(columns, lists, strict=True):
                if not np.array_equal(counts, other):
                    event = int(np.flatnonzero(counts != other)[0])
                    raise DataError(
                        f"{self.where(event)}: '{collection}_{columns[0]}' has {counts[event]} "
                        f"values and '{collection}_{column}' has {other[event]}; the file is damaged"
                    )
            values = dict(zip(columns, (values for _, values in lists), strict=True))
            self._flat[collection] = _Flat(collection, counts, values, self.where)
        return self._flat[collection]

    def list_of(self, branch: str) -> tuple[Integers, Array]:
        """Counts and values, straight from the buffers, as the calls of awkward add up."""
        layout = self.arrays[branch].layout.to_ListOffsetArray64(start_at_zero=True)
        counts, values = np.diff(layout.offsets.data), layout.content.data
        return counts, values[: layout.offsets[-1]]

    def each_event(self, branch: str) -> Array:
        """(events,): values of a branch with one number an event, which must be finite."""
        values: Array = ak.to_numpy(self.arrays[branch])
        check_finite({branch: values}, np.arange(len(self)), self.where)
        return values


# ---- objects ----------------------------------------------------------------------------------


def _detect(
    batch: _Batch, streams: Collection[str], settings: GenerateSettings
) -> tuple[DetectedEvents, Counter[str]]:
    """Make detected events of what was read; and what is odd, with how often."""
    plan, objects = batch.plan, settings.objects
    weight = plan.card.weights(batch.arrays, len(batch), batch.where)
    if weight is None and plan.weight:
        weight = batch.each_event(_WEIGHT).astype(np.float64)
    elif weight is None:
        weight = np.ones(len(batch))

    # The two fat jets of highest pT, in whatever order they are: their index among all.
    fat_jets = batch["FatJet"]
    momenta = fat_jets.finite(*_MOMENTUM)
    event, index = hardest_two(fat_jets.counts, momenta[0], settings.cuts.second_pt)
    pairs = JetPairs(event, _four_momenta(*(column[index] for column in momenta)), None)
    hits, multiplicity, empty = None, None, 0
    if plan.candidates:
        hits, pairs, empty = _constituents(batch, pairs, index)
    elif "nConstituents" in fat_jets.columns:
        multiplicity = fat_jets["nConstituents"][index].astype(np.int64)

    met = plan.missing_momentum
    pt, phi = (batch.each_event(f"{met}_{name}").astype(np.float64) for name in ("pt", "phi"))
    detected = DetectedEvents(
        entry=batch.entry,
        weight=weight,
        hits=hits,
        pairs=pairs,
        n_btags=_count_tags(batch, pairs, index),
        missing=(pt * np.cos(phi), pt * np.sin(phi)),
        multiplicity=multiplicity,
        h_bb=match_h_bb(_find_higgs(batch), pairs, _RADIUS) if "GenPart" in plan.columns else None,
        small_jets=_small_jets(batch, objects) if "small_jets" in streams else None,
        leptons=_leptons(batch, objects) if "leptons" in streams else None,
        steps=plan.card.steps(batch.arrays, len(batch)),
        weights=_varied(batch, weight),
        observables=plan.card.values(batch.arrays, len(batch)),
    )
    note = "fat jets have no candidates linked to them: their streams are empty"
    return detected, +Counter({note: empty})


def _four_momenta(pt: Array, eta: Array, phi: Array, mass: Array) -> Momentum:
    """Components in double precision; a negative mass stands for a negative square of it."""
    pt, eta, phi, mass = (x.astype(np.float64) for x in (pt, eta, phi, mass))
    return Momentum(pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), _energy(pt, eta, mass))


def _energy(pt: Array, eta: Array, mass: Array) -> Array:
    return np.sqrt(np.square(pt * np.cosh(eta)) + mass * np.abs(mass))


def _constituents(batch: _Batch, pairs: JetPairs, index: Integers) -> tuple[Hits, JetPairs, int]:
    """Take the candidates of the two jets, and no others; and count the jets that have none.

    The fat jets of CMS are clustered of candidates weighted with their PUPPI weight, so these are
    weighted, too, by the weight that stands beside them; NanoAOD itself stores them weighted. Their
    sum is the jet before its energy correction. What has no weight is no part of a jet.
    """
    assert batch.plan.candidates is not None  # noqa: S101  # called where there are some
    name, links_name, link = batch.plan.candidates
    candidates, links, fat_jets = batch[name], batch[links_name], batch["FatJet"]

    # The links to the two jets of each pair, in the order of the pairs: `slot` is which of all jets
    # of all pairs, `which` the candidate among all of the batch.
    every = np.arange(len(links.event))
    jet = links.follow("jetIdx", every, fat_jets)
    which = links.follow(link, every, candidates)
    slots = np.full(fat_jets.counts.sum(), -1)
    slots[index.ravel()] = np.arange(index.size)
    slot = slots[jet]
    inside = np.flatnonzero(slot >= 0)
    inside = inside[np.argsort(slot[inside], kind="stable")]
    slot, which = slot[inside], which[inside]

    pt, eta, phi, mass = (
        column[which].astype(np.float64) for column in candidates.finite(*_MOMENTUM)
    )
    energy = _energy(pt, eta, mass)
    if "puppiWeight" in candidates.columns:
        (weight,) = candidates.finite("puppiWeight")
        pt, energy = pt * weight[which], energy * weight[which]
    pdg_id = candidates["pdgId"][which]
    code = np.abs(pdg_id)
    if "charge" in candidates.columns:
        charge = candidates["charge"][which].astype(np.int8)
    else:
        # CMS writes electrons, muons, and pions for all charged hadrons.
        of_matter = np.where((code == 11) | (code == 13), -1, np.where(code == 211, 1, 0))
        charge = (of_matter * np.sign(pdg_id)).astype(np.int8)
    displacement = [np.zeros(len(which))] * 2
    for at, column in enumerate(("d0", "dz")):
        if column in candidates.columns:
            (values,) = candidates.finite(column)
            # What leaves no track has none.
            displacement[at] = np.where(charge == 0, 0.0, _CM * values[which].astype(np.float64))
    particle_class = _CLASS_OF[np.minimum(code, len(_CLASS_OF) - 1)]
    columns = (pt, eta, phi, energy, charge, particle_class, *displacement)

    kept = pt > 0
    slot = slot[kept]
    sizes = np.bincount(slot, minlength=index.size)
    of_pair = sizes.reshape(-1, 2).sum(axis=1)
    counts = np.zeros(len(batch), np.int64)
    counts[pairs.event] = of_pair
    place = np.arange(len(slot)) - np.repeat(np.cumsum(of_pair) - of_pair, of_pair)
    members = ak.unflatten(ak.unflatten(place, sizes), np.full(len(of_pair), 2))
    hits = Hits(counts, *(column[kept] for column in columns))
    empty = int(np.count_nonzero(sizes == 0))
    return hits, JetPairs(pairs.event, pairs.momentum, members), empty


def _count_tags(batch: _Batch, pairs: JetPairs, index: Integers) -> NDArray[np.int64]:
    """(pairs, 2): how many subjets of each jet are tagged, or small jets within it, at most two."""
    plan = batch.plan
    if plan.subjet_tagger:
        fat_jets, subjets = batch["FatJet"], batch["SubJet"]
        tagged = subjets[plan.subjet_tagger] > _TAGGERS[plan.subjet_tagger]
        tags = np.zeros(len(fat_jets.event), np.int64)
        for column in ("subJetIdx1", "subJetIdx2"):
            has = np.flatnonzero(fat_jets[column] >= 0)  # -1: there is none
            tags[has] += tagged[fat_jets.follow(column, has, subjets)]
        return tags[index]
    if plan.jet_tagger:
        jets = batch["Jet"]
        _, eta, phi, _ = jets.finite(*_MOMENTUM)
        at = np.flatnonzero(jets[plan.jet_tagger] > _TAGGERS[plan.jet_tagger])
        return np.minimum(count_inside(jets.event[at], eta[at], phi[at], pairs, _RADIUS), 2)
    return np.zeros(index.shape, np.int64)


def _small_jets(batch: _Batch, settings: ObjectSettings) -> SmallJets:
    """Small jets above the card's pT; `n_btags` is 1 where tagged."""
    jets, tagger = batch["Jet"], batch.plan.jet_tagger
    momenta = jets.finite(*_MOMENTUM)
    none = np.zeros(len(momenta[0]), np.int64)
    multiplicity = jets.columns.get("nConstituents", none)
    n_btags = (jets[tagger] > _TAGGERS[tagger]).astype(np.int64) if tagger else none
    found = SmallJets(jets.counts, *momenta, multiplicity, n_btags)
    return found.take(np.flatnonzero(momenta[0] > settings.jet_pt))


def _leptons(batch: _Batch, settings: ObjectSettings) -> Leptons:
    """Electrons and muons of medium quality, isolated, above the card's pT."""
    events, columns = [], []
    for name, (particle_class, quality, least) in _LEPTONS.items():
        if name not in batch.plan.columns:
            continue
        found = batch[name]
        pt, eta, phi = found.finite("pt", "eta", "phi")
        chosen = pt > settings.lepton_pt
        if "pfRelIso03_all" in found.columns:  # pT of others within 0.3, over the lepton's
            chosen &= found["pfRelIso03_all"] < settings.isolation
        if quality in found.columns:
            chosen &= found[quality] >= least
        classes = np.full(len(pt), particle_class, np.int8)
        events.append(found.event[chosen])
        columns.append([of[chosen] for of in (pt, eta, phi, found["charge"], classes)])
    event = np.concatenate(events)
    joined = [np.concatenate(column) for column in zip(*columns, strict=True)]
    order = np.argsort(event, kind="stable")
    counts = np.bincount(event, minlength=len(batch))
    return Leptons(counts, *(column[order] for column in joined))


def _find_higgs(batch: _Batch) -> Particles:
    """Higgs bosons with a b and a b bar among their daughters, so each once, as it decays."""
    generated = batch["GenPart"]
    pdg_id, mother = generated["pdgId"], generated["genPartIdxMother"]
    of_b, of_anti_b = (
        generated.follow(
            "genPartIdxMother", np.flatnonzero((pdg_id == quark) & (mother >= 0)), generated
        )
        for quark in (BOTTOM, -BOTTOM)
    )
    both = np.intersect1d(of_b, of_anti_b)
    higgs = both[pdg_id[both] == HIGGS]
    momentum = _four_momenta(*(generated[name][higgs] for name in _MOMENTUM))
    return Particles(
        np.bincount(generated.event[higgs], minlength=len(batch)),
        pdg_id[higgs].astype(np.int64),
        *(momentum.px, momentum.py, momentum.pz, momentum.energy),
    )


def _varied(batch: _Batch, weight: Floats) -> dict[str, Floats]:
    """Weights of each variation."""
    ratios: list[Array] = []
    for branch, length in batch.plan.variations.items():
        if length is None:
            ratios.append(batch.each_event(branch))
            continue
        counts, values = batch.list_of(branch)
        other = np.flatnonzero(counts != length)
        if len(other):
            raise DataError(
                f"{batch.where(int(other[0]))}: branch '{branch}' has {counts[other[0]]} weights, "
                f"where the first entry has {length}; leave it out of convert.variations ([] for "
                "none)"
            )
        check_finite({branch: values}, np.repeat(np.arange(len(batch)), counts), batch.where)
        ratios += list(values.reshape(len(batch), length).T)
    names = _variation_names(batch.plan.variations)
    return {name: weight * ratio for name, ratio in zip(names, ratios, strict=True)}


# ---- the reader -------------------------------------------------------------------------------


@dataclass(frozen=True)
class NanoAODReader:
    """Reads CMS NanoAOD; the module says what it takes.

    Attributes
    ----------
    generate
        Section of the card: cuts, objects and streams.
    convert
        Section of the card: weights, observables and selection.
    """

    generate: GenerateSettings
    convert: ConvertSettings

    @property
    def step(self) -> int:
        """Entries of a unit of work."""
        return 10_000

    def entries(self, path: str) -> int:
        """Return the number of events of a file.

        Raises
        ------
        DataError
            Where it cannot be opened or has no tree of events.
        """
        with _open(path) as (table, _):
            return table.entries

    def look(self, path: str) -> Contents:
        """See what is in a file.

        Raises
        ------
        CardError
            Names the key of the card's section `convert` that holds no expression.
        DataError
            Where the file cannot be opened, holds no events, or lacks a branch.
        """
        card = CardExpressions.parse(self.convert)
        with _open(path) as (table, generated):
            if not table.entries:
                raise NoEventsError(f"{table.where} holds no events")
            wanted = collision_streams(self.generate.streams, self.generate.columns)
            plan = _Plan.make(table, wanted, card, self.convert.variations)
            streams, missing = divide_streams(wanted, plan.lacking)
            return Contents(
                title=f"CMS NanoAOD, {'RNTuple' if table.is_rntuple else 'tree'} 'Events'",
                entries=table.entries,
                streams=streams,
                missing=missing,
                rows=list(_rows(table, plan)),
                remarks=list(self._remarks(table, plan, generated)),
            )

    def read(
        self,
        piece: Piece,
        streams: Mapping[str, StreamSchema],
        seed: int,  # noqa: ARG002 - nothing is random
    ) -> Iterator[FileEvents]:
        """See `Reader.read`; the sums of weights of a file come with its first entry.

        Raises
        ------
        DataError
            Names file, branch and entry; or the stream, or column of it, that the file does not give.
        """
        card = CardExpressions.parse(self.convert)
        with _open(piece.path) as (table, of_file):
            last = table.entries if piece.last is None else piece.last
            generated = none = Generated()
            if self._is_summed(table) and of_file.sum_weights is not None:
                none = Generated(sum_weights=0.0, sum_weights2=0.0)
                generated = none if piece.first else of_file
            if piece.first >= last:  # such a file may have no branches
                events, _ = nothing(streams).processes[THE_PROCESS]
                yield FileEvents(np.zeros(0), {THE_PROCESS: (events, generated)})
                return
            plan = _Plan.make(table, streams, card, self.convert.variations)
            for what, why in divide_streams(streams, plan.lacking)[1].items():
                stream, _, column = what.partition(": ")
                of = f"column '{column}' of {stream}" if column else stream
                raise DataError(
                    f"{table.where} does not give {of}: {why}; other files of the call give it: "
                    "convert this one into another dataset"
                )
            for first, arrays in table.batches(plan.names, piece.first, last, self.step):
                batch = _Batch(piece.path, first, plan, arrays)
                detected, notes = _detect(batch, streams, self.generate)
                yield select_batch(detected, streams, self.generate, generated, notes)
                generated = none

    def _is_summed(self, table: _Table) -> bool:
        """Whether the weight is the one that `Runs` has the sums of."""
        own = self.convert.weight is None or self.convert.weight.strip() == _WEIGHT
        return own and (_WEIGHT in table.branches or not table.entries)

    def _remarks(self, table: _Table, plan: _Plan, generated: Generated) -> Iterator[str]:
        if not plan.weight and plan.card.weight is None:
            yield "no branch genWeight: every event has weight 1, as data have"
        elif not self._is_summed(table):
            yield (
                "the sum of convert.weight over all generated events is not known: give it with "
                "--sum-weights"
            )
        elif generated.sum_weights is None:
            yield (
                "no sums of weights (tree 'Runs', genEventSumw): give the sum over all generated "
                "events with --sum-weights"
            )
        if not (plan.subjet_tagger or plan.jet_tagger):
            yield "no b-tagger that is known here: n_btags is 0 throughout"
        if "GenPart" not in plan.columns:
            yield "no generator's particles: whether a jet is h -> bb is not known"


def _rows(table: _Table, plan: _Plan) -> Iterator[tuple[str, str, str]]:
    """Collections found, with their mean number in the first events, and their use."""
    tagger = ("SubJet", plan.subjet_tagger) if plan.subjet_tagger else ("Jet", plan.jet_tagger)
    # Of several that stand for the same, the one that is read.
    alternatives = {*_MISSING_MOMENTUM, *(of for naming in _NAMINGS for of in naming[:2])}
    uses = {}
    for name, (use, needed, _) in _COLLECTIONS.items():
        if name == "SubJet":
            if tagger[1]:
                branch = f"{tagger[0]}_{tagger[1]}"
                uses[branch] = f"n_btags: {branch} > {_TAGGERS[tagger[1]]}"
        elif name in plan.columns or name not in alternatives:
            uses[f"{name}_{needed[0]}"] = use
    uses = {branch: use for branch, use in uses.items() if branch in table.branches}
    read = table.read(uses, 0, min(_LOOK, table.entries))
    for branch, use in uses.items():
        values = read[branch]
        number = f"{ak.mean(ak.num(values)):.1f}" if values.ndim > 1 else "1"
        yield branch.rpartition("_")[0], f"{number} an event", use
    if plan.weight:
        yield _WEIGHT, "1 an event", "weight"
