"""Files of NanoAOD: which branches are there and are read, whatever their version and container."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import pairwise
from typing import Any, NamedTuple

import awkward as ak
import numpy as np

from manyscale.errors import DataError
from manyscale.events.files.expressions import CardExpressions
from manyscale.events.files.root_files import open_root, open_tree, reading
from manyscale.schema import CONSTITUENTS, ELECTRON, MUON, SUBJETS, Generated, StreamSchema

__all__ = [
    "LEPTONS",
    "MOMENTUM",
    "TAGGERS",
    "WEIGHT",
    "Plan",
    "Table",
    "collections_found",
    "open_events",
    "variation_names",
]

_BATCH_BYTES = 64 << 20  # of what is read at a time
_SMALLEST_BATCH = 100
_LOOK = 200  # entries that tell how large collections are

# ---- what is read -----------------------------------------------------------------------------

MOMENTUM = ("pt", "eta", "phi", "mass")

# Taggers, the best first, each with its medium working point: 1% of light jets pass. Those of other
# years are within a third of it. Source: btv-wiki.docs.cern.ch, working points of 2024 (UParT),
# 2022 (ParticleNet) and 2018 (DeepJet, DeepCSV); CSVv2 of 2017.
TAGGERS = {
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


_CANDIDATE = ((*MOMENTUM, "pdgId"), ("charge", "puppiWeight", "d0", "dz"))
_LINKS = "links of constituents to fat jets"
_COLLECTIONS = {
    "FatJet": _Collection("fat jets", MOMENTUM, ("subJetIdx1", "subJetIdx2", "nConstituents")),
    "PFCands": _Collection("constituents", *_CANDIDATE),
    "FatJetPFCands": _Collection(_LINKS, ("jetIdx", "pFCandsIdx")),
    "PFCand": _Collection("constituents", *_CANDIDATE),
    "FatJetPFCand": _Collection(_LINKS, ("jetIdx", "pfCandIdx")),
    "Jet": _Collection("small_jets", MOMENTUM, ("nConstituents", *TAGGERS)),
    "SubJet": _Collection("n_btags", (), tuple(TAGGERS)),
    "Electron": _Collection(
        "leptons", ("pt", "eta", "phi", "charge"), ("pfRelIso03_all", "cutBased")
    ),
    "Muon": _Collection("leptons", ("pt", "eta", "phi", "charge"), ("pfRelIso03_all", "mediumId")),
    "GenPart": _Collection("h_bb", ("pdgId", "genPartIdxMother", *MOMENTUM)),
    "PuppiMET": _Collection("missing momentum", ("pt", "phi")),
    "MET": _Collection("missing momentum", ("pt", "phi")),
    "PFMET": _Collection("missing momentum", ("pt", "phi")),
}
_MISSING_MOMENTUM = ("PuppiMET", "MET", "PFMET")  # the best first

# Candidates, their links to the fat jets, and a link's index of its candidate: of PFNano, and of
# NanoAOD itself from version 15 on.
_NAMINGS = (("PFCands", "FatJetPFCands", "pFCandsIdx"), ("PFCand", "FatJetPFCand", "pfCandIdx"))

# Leptons: particle class, and the identification with its least value; both are of medium quality.
LEPTONS = {"Electron": (ELECTRON, "cutBased", 3), "Muon": (MUON, "mediumId", 1)}

WEIGHT = "genWeight"
#: Varied weights, as ratios to the generated one, that NanoAOD usually has.
_VARIATIONS = ("PSWeight", "LHEScaleWeight")

_NO_CANDIDATES = (
    "the file has no particle-flow candidates with links to its fat jets; PFNano has them, and "
    "NanoAOD may from version 15 on"
)


@dataclass(frozen=True)
class Plan:
    """What is read of a file, by its own branches.

    Attributes
    ----------
    columns
        Of each collection that is read.
    missing_momentum
        Its collection, which has one an event.
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
        names += [WEIGHT] * self.weight
        return tuple(dict.fromkeys((*names, *self.variations, *self.card.names)))

    @classmethod
    def make(
        cls,
        table: "Table",
        streams: Mapping[str, StreamSchema],
        card: CardExpressions,
        variations: tuple[str, ...] | None,
    ) -> "Plan":
        """Settle what is read for some streams; refuse a file that lacks what none can do without."""
        for expression in card.all:
            expression.check_names(table.branches, table.where)
        table.need(variations or (), "convert.variations")
        read: dict[str, tuple[str, ...]] = {}

        def take(collection: str, wanted: Collection[str | None] | None = None) -> None:
            _, needed, optional = _COLLECTIONS[collection]
            also = table.columns(collection, optional)
            read[collection] = (*needed, *(of for of in also if wanted is None or of in wanted))

        table.need([f"FatJet_{name}" for name in MOMENTUM], "the fat jets")
        met = next(filter(table.has, _MISSING_MOMENTUM), _MISSING_MOMENTUM[0])
        table.need([f"{met}_pt", f"{met}_phi"], "the missing momentum")
        take(met)

        # Candidates, where a stream is made of them, and to count them where the file does not.
        kinematics = streams["kinematics"].columns if "kinematics" in streams else ()
        counted = bool(table.columns("FatJet", ["nConstituents"]))
        candidates = None
        if (
            {*CONSTITUENTS, *SUBJETS} & set(streams)
            or "width" in kinematics
            or ("multiplicity" in kinematics and not counted)
        ):
            candidates = next((of for of in _NAMINGS if all(map(table.has, of[:2]))), None)
        if candidates:
            columns = {column for stream in streams.values() for column in stream.columns}
            take(candidates[0], {"charge", "puppiWeight"} | ({"d0", "dz"} & columns))
            take(candidates[1])

        # The best tagger of the subjets; that of small jets for themselves, or in its place.
        indices = ["subJetIdx1", "subJetIdx2"]
        subjet_tagger = jet_tagger = None
        if table.columns("FatJet", indices) == indices:
            subjet_tagger = next(iter(table.columns("SubJet", list(TAGGERS))), None)
        if subjet_tagger:
            take("SubJet", {subjet_tagger})
        size = set() if candidates else {"nConstituents"}
        take("FatJet", size.union(indices if subjet_tagger else ()))
        small_jets = "small_jets" in streams
        if table.has("Jet") and (small_jets or not subjet_tagger):
            jet_tagger = next(iter(table.columns("Jet", list(TAGGERS))), None)
            if small_jets or jet_tagger:
                take("Jet", {jet_tagger, "nConstituents" if small_jets else None})

        for collection in ("GenPart", *(LEPTONS if "leptons" in streams else ())):
            if table.has(collection):
                take(collection)

        plan = cls(
            columns=read,
            missing_momentum=met,
            candidates=candidates,
            subjet_tagger=subjet_tagger,
            jet_tagger=jet_tagger,
            weight=WEIGHT in table.branches,
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
                names = ", ".join(f"Jet_{name}" for name in MOMENTUM)
                return {"pt": f"the file does not have all of {names}"}
            branches = {"multiplicity": "Jet_nConstituents"}
        elif stream == "leptons" and not LEPTONS.keys() & self.columns.keys():
            return {"pt": "the file has no electrons and no muons"}
        absent = {
            column: f"the file has no branch {branch}"
            for column, branch in branches.items()
            if branch not in self.names
        }
        if stream == "kinematics" and not self.candidates:
            absent["width"] = _NO_CANDIDATES
        return absent


def _lengths(table: "Table", variations: tuple[str, ...] | None) -> dict[str, int | None]:
    """Branches of varied weights, by default the usual ones, with the number that an event has."""
    usual = [name for name in _VARIATIONS if name in table.branches]
    first = table.read(usual if variations is None else variations, 0, 1)
    lengths = {name: len(of[0]) if of.ndim > 1 else None for name, of in first.items()}
    if variations is None:
        # A lone one is a placeholder where none were computed.
        return {name: length for name, length in lengths.items() if length != 1}
    for name, number in Counter(variation_names(lengths)).items():
        if number > 1:
            raise DataError(
                f"{table.where}: convert.variations gives two weights named '{name}': leave one of "
                "its branches out"
            )
    return lengths


def variation_names(lengths: Mapping[str, int | None]) -> Iterator[str]:
    """Name the varied weights after branch and index: PSWeight_0, PSWeight_1, ..."""
    for branch, length in lengths.items():
        if length is None:
            yield branch
        else:
            yield from (f"{branch}_{index}" for index in range(length))


# ---- files ------------------------------------------------------------------------------------


class Table:
    """A TTree or RNTuple of an open file: its branches by name, and their arrays.

    A field of the records of an RNTuple, `FatJet.pt`, is named as the branch that it stands for.
    """

    def __init__(self, path: str, table: Any) -> None:  # noqa: ANN401 - uproot has no types
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

    def columns(self, collection: str, names: Sequence[str]) -> list[str]:
        """Those columns of a collection that are there."""
        return [name for name in names if f"{collection}_{name}" in self.branches]

    def has(self, collection: str) -> bool:
        """Whether a collection is there, with all that it needs."""
        needed = _COLLECTIONS[collection].needed
        return len(self.columns(collection, needed)) == len(needed)

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
def open_events(path: str) -> Iterator[tuple[Table, Generated]]:
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
            table = Table(path, open_tree(file, "Events"))
            runs = Table(path, open_tree(file, "Runs")) if "Runs" in kinds else None
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


def collections_found(table: Table, plan: Plan) -> Iterator[tuple[str, str, str]]:
    """Collections found, with their mean number in the first events, and their use."""
    tagger = ("SubJet", plan.subjet_tagger) if plan.subjet_tagger else ("Jet", plan.jet_tagger)
    # Of several that stand for the same, the one that is read.
    alternatives = {*_MISSING_MOMENTUM, *(of for naming in _NAMINGS for of in naming[:2])}
    uses = {}
    for name, (use, needed, _) in _COLLECTIONS.items():
        if name == "SubJet":
            if tagger[1]:
                branch = f"{tagger[0]}_{tagger[1]}"
                uses[branch] = f"n_btags: {branch} > {TAGGERS[tagger[1]]}"
        elif name in plan.columns or name not in alternatives:
            uses[f"{name}_{needed[0]}"] = use
    uses = {branch: use for branch, use in uses.items() if branch in table.branches}
    read = table.read(uses, 0, min(_LOOK, table.entries))
    for branch, use in uses.items():
        values = read[branch]
        number = f"{ak.mean(ak.num(values)):.1f}" if values.ndim > 1 else "1"
        yield branch.rpartition("_")[0], f"{number} an event", use
    if plan.weight:
        yield WEIGHT, "1 an event", "weight"
