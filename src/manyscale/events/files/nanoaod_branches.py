"""Which branches of a NanoAOD file are read, and what they give, whatever its version."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from typing import NamedTuple

from manyscale.errors import DataError
from manyscale.events.files.reader import divide_streams
from manyscale.schema import CONSTITUENTS, ELECTRON, MUON, SUBJETS, StreamSchema

__all__ = [
    "FAT_JETS",
    "GENERATED",
    "LEPTONS",
    "SMALL_JETS",
    "SUBJET_INDICES",
    "VARIATIONS",
    "Branches",
    "Candidates",
    "LeptonKind",
    "Tagger",
    "find_branches",
    "give_streams",
    "need",
]

_MOMENTUM = ("pt", "eta", "phi", "mass")
FAT_JETS = tuple(f"FatJet_{name}" for name in _MOMENTUM)
SMALL_JETS = tuple(f"Jet_{name}" for name in _MOMENTUM)
SUBJET_INDICES = ("FatJet_subJetIdx1", "FatJet_subJetIdx2")
GENERATED = (
    *("GenPart_pdgId", "GenPart_genPartIdxMother"),
    *(f"GenPart_{name}" for name in _MOMENTUM),
)
#: Varied weights, as ratios to the generated one, that NanoAOD usually has.
VARIATIONS = ("PSWeight", "LHEScaleWeight")

_MISSING_MOMENTUM = ("PuppiMET", "MET", "PFMET")
_FAT_JET_SIZE, _SMALL_JET_SIZE = "FatJet_nConstituents", "Jet_nConstituents"

# Taggers, the best first, each with its medium working point: 1% of light jets pass. Those of other
# years are within a third of it. Source: btv-wiki.docs.cern.ch, working points of 2024 (UParT),
# 2022 (ParticleNet) and 2018 (DeepJet, DeepCSV); CSVv2 of 2017.
_TAGGERS = (
    ("btagUParTAK4B", 0.1272),
    ("btagPNetB", 0.245),
    ("btagDeepFlavB", 0.2783),
    ("btagDeepB", 0.4168),
    ("btagCSVV2", 0.8838),
)


class LeptonKind(NamedTuple):
    """A collection of leptons, its code, and a branch of identification with its least value."""

    name: str
    code: int
    quality: str
    least: int

    @property
    def momentum(self) -> tuple[str, str, str]:
        """pT, eta and phi."""
        return f"{self.name}_pt", f"{self.name}_eta", f"{self.name}_phi"

    @property
    def charge(self) -> str:
        """Branch of the charge."""
        return f"{self.name}_charge"

    @property
    def isolation(self) -> str:
        """Branch of the pT of others within 0.3, over the lepton's."""
        return f"{self.name}_pfRelIso03_all"


#: Both of medium quality.
LEPTONS = (
    LeptonKind("Electron", ELECTRON, "Electron_cutBased", 3),
    LeptonKind("Muon", MUON, "Muon_mediumId", 1),
)


class _Naming(NamedTuple):
    """Names of the candidates, of their links to the fat jets, and of a link's candidate."""

    candidates: str
    links: str
    link: str


# Of PFNano, and of NanoAOD itself from version 15 on.
_NAMINGS = (
    _Naming("PFCands", "FatJetPFCands", "pFCandsIdx"),
    _Naming("PFCand", "FatJetPFCand", "pfCandIdx"),
)


class Tagger(NamedTuple):
    """Branch of a b-tagger's score, and the score above which a jet is tagged."""

    branch: str
    threshold: float


@dataclass(frozen=True)
class Candidates:
    """Branches of particle-flow candidates and of their links to the fat jets; None: not read."""

    momentum: tuple[str, ...]
    pdg_id: str
    jet: str
    candidate: str
    charge: str | None
    puppi: str | None
    d0: str | None
    dz: str | None

    @property
    def names(self) -> tuple[str, ...]:
        """All of them."""
        optional = (self.charge, self.puppi, self.d0, self.dz)
        needed = (*self.momentum, self.pdg_id, self.jet, self.candidate)
        return (*needed, *(name for name in optional if name))


@dataclass(frozen=True)
class Branches:
    """What is read of a file; None or empty: it is not there or not wanted.

    Attributes
    ----------
    missing_momentum
        pT and azimuth.
    candidates
        With their links to the fat jets.
    fat_jet_size, small_jet_size
        Counts what a jet is made of.
    subjet_tagger, jet_tagger
        b-taggers of the fat jets' subjets, and of the small jets.
    small_jets
        Four-momenta.
    leptons
        All of both kinds.
    generated
        The generator's particles.
    weight
        Generated weight.
    """

    missing_momentum: tuple[str, str]
    candidates: Candidates | None
    fat_jet_size: str | None
    subjet_tagger: Tagger | None
    jet_tagger: Tagger | None
    small_jets: tuple[str, ...]
    small_jet_size: str | None
    leptons: tuple[str, ...]
    generated: tuple[str, ...]
    weight: str | None

    @property
    def names(self) -> tuple[str, ...]:
        """All branches to read, each once."""
        return tuple(dict.fromkeys(self._names()))

    def _names(self) -> Iterator[str]:
        yield from (*FAT_JETS, *self.missing_momentum)
        yield from self.candidates.names if self.candidates else ()
        yield from (*self.small_jets, *self.leptons, *self.generated)
        if self.subjet_tagger:
            yield from (*SUBJET_INDICES, self.subjet_tagger.branch)
        if self.jet_tagger:
            yield self.jet_tagger.branch
        single = (self.fat_jet_size, self.small_jet_size, self.weight)
        yield from (name for name in single if name)


def find_branches(
    available: Collection[str], streams: Collection[str], columns: Collection[str], where: str
) -> Branches:
    """Find what is to be read among the branches of a file.

    Parameters
    ----------
    available
        Names of the file's branches.
    streams, columns
        Streams wanted, and further columns of the constituents.
    where
        Names the file and tree.

    Raises
    ------
    DataError
        Names a branch that is needed and not there.
    """
    need(FAT_JETS, available, "the fat jets", where)
    made_of = {*CONSTITUENTS, *SUBJETS, "kinematics"} & set(streams)
    candidates = _candidates(available, columns) if made_of else None
    tagged = _tagger("SubJet", available, SUBJET_INDICES)
    small_jets = "small_jets" in streams
    jet_tagger = None
    if small_jets or not tagged:
        jet_tagger = _tagger("Jet", available, SMALL_JETS)
    return Branches(
        missing_momentum=_missing_momentum(available, where),
        candidates=candidates,
        fat_jet_size=None if candidates else _if_there(_FAT_JET_SIZE, available),
        subjet_tagger=tagged,
        jet_tagger=jet_tagger,
        small_jets=_all_there(SMALL_JETS, available) if small_jets or jet_tagger else (),
        small_jet_size=_if_there(_SMALL_JET_SIZE, available) if small_jets else None,
        leptons=_leptons(available) if "leptons" in streams else (),
        generated=_all_there(GENERATED, available),
        weight=_if_there("genWeight", available),
    )


def need(names: Sequence[str], available: Collection[str], use: str, where: str) -> None:
    """Refuse a file without some branches.

    Raises
    ------
    DataError
        Names the branch, and what there is.
    """
    for name in names:
        if name not in available:
            close = get_close_matches(name, available, n=5, cutoff=0.6)
            there = close or sorted({known.partition("_")[0] for known in available})[:30]
            kind = "branches" if close else "the collections and branches"
            raise DataError(
                f"{where}: there is no branch '{name}', needed for {use}; there are {kind} "
                f"{', '.join(there)}"
            )


def give_streams(
    branches: Branches, wanted: Mapping[str, StreamSchema]
) -> tuple[dict[str, StreamSchema], dict[str, str]]:
    """Divide the streams wanted into what the branches give and what not; see `divide_streams`."""
    return divide_streams(wanted, partial(_lacking, branches=branches))


_NO_CANDIDATES = (
    "the file has no particle-flow candidates with links to its fat jets; PFNano has them, and "
    "NanoAOD may from version 15 on"
)


def _why_missing(stream: str, branches: Branches) -> str:
    if stream in {*CONSTITUENTS, *SUBJETS} and not branches.candidates:
        return _NO_CANDIDATES
    if stream == "small_jets" and not branches.small_jets:
        return f"the file does not have all of {', '.join(SMALL_JETS)}"
    if stream == "leptons" and not branches.leptons:
        return "the file has no electrons and no muons"
    return ""


def _lacking(stream: str, branches: Branches) -> dict[str, str]:
    """Columns of a stream that cannot be given, and why; pt stands for the whole stream."""

    def absent(branch: str) -> str:
        return f"the file has no branch {branch}"

    if why := _why_missing(stream, branches):
        return {"pt": why}
    if stream == "small_jets" and not branches.small_jet_size:
        return {"multiplicity": absent(_SMALL_JET_SIZE)}
    if stream == "kinematics" and not branches.candidates:
        counted = {} if branches.fat_jet_size else {"multiplicity": absent(_FAT_JET_SIZE)}
        return {"width": _NO_CANDIDATES, **counted}
    if stream in CONSTITUENTS and branches.candidates:
        measured = {"d0": branches.candidates.d0, "dz": branches.candidates.dz}
        of = branches.candidates.pdg_id.partition("_")[0]
        return {name: absent(f"{of}_{name}") for name, branch in measured.items() if not branch}
    return {}


def _candidates(available: Collection[str], columns: Collection[str]) -> Candidates | None:
    for naming in _NAMINGS:
        column = {
            name: _if_there(f"{naming.candidates}_{name}", available)
            for name in ("charge", "puppiWeight", "d0", "dz")
        }
        found = Candidates(
            momentum=tuple(f"{naming.candidates}_{name}" for name in _MOMENTUM),
            pdg_id=f"{naming.candidates}_pdgId",
            jet=f"{naming.links}_jetIdx",
            candidate=f"{naming.links}_{naming.link}",
            charge=column["charge"],
            puppi=column["puppiWeight"],
            d0=column["d0"] if "d0" in columns else None,
            dz=column["dz"] if "dz" in columns else None,
        )
        if _all_there(found.names, available):
            return found
    return None


def _leptons(available: Collection[str]) -> tuple[str, ...]:
    found: list[str] = []
    for kind in LEPTONS:
        there = _all_there((*kind.momentum, kind.charge), available)
        quality = (_if_there(name, available) for name in (kind.isolation, kind.quality))
        found += [*there, *(name for name in quality if name and there)]
    return tuple(found)


def _tagger(of: str, available: Collection[str], beside: tuple[str, ...]) -> Tagger | None:
    for name, threshold in _TAGGERS:
        if _all_there((*beside, f"{of}_{name}"), available):
            return Tagger(f"{of}_{name}", threshold)
    return None


def _missing_momentum(available: Collection[str], where: str) -> tuple[str, str]:
    kinds = [(f"{name}_pt", f"{name}_phi") for name in _MISSING_MOMENTUM]
    found = next((names for names in kinds if _all_there(names, available)), kinds[0])
    need(found, available, "the missing momentum", where)
    return found


def _all_there(names: tuple[str, ...], available: Collection[str]) -> tuple[str, ...]:
    return names if all(name in available for name in names) else ()


def _if_there(name: str, available: Collection[str]) -> str | None:
    return name if name in available else None
