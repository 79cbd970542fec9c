"""Small files like NanoAOD, made up of known fat jets and candidates."""

from pathlib import Path

import awkward as ak
import numpy as np
import uproot
import vector

from helpers import reading
from manyscale.events.files.convert_settings import ConvertSettings
from manyscale.events.files.nanoaod import NanoAODReader
from manyscale.events.files.reader import THE_PROCESS, Piece
from manyscale.events.settings import GenerateSettings

#: Names of the candidates, of their links, and of a link's candidate.
PFNANO = ("PFCands", "FatJetPFCands", "pFCandsIdx")
NANOAOD_15 = ("PFCand", "FatJetPFCand", "pfCandIdx")

#: Smallest pT of the two jets.
MIN_PT = 30

PARTICLES = {211: 0.13957, -211: 0.13957, 22: 0.0, 130: 0.0, 11: 0.000511, -13: 0.10566, 1: 0, 2: 0}


def reader(streams=("jet1", "jet2", "kinematics"), columns=(), **convert) -> NanoAODReader:
    cuts = {"leading_pt": MIN_PT, "second_pt": MIN_PT, "max_eta": 6}
    generate = {"streams": streams, "columns": columns, "cuts": cuts}
    return NanoAODReader(
        GenerateSettings.model_validate(generate), ConvertSettings.model_validate(convert)
    )


def read(path, of: NanoAODReader | None = None, *pieces: Piece) -> reading.Found:
    of = of or reader()
    streams = of.look(str(path)).streams
    return reading.read(of, pieces or [Piece(str(path), 0, None)], streams)


def records(events: reading.Found) -> ak.Array:
    return events.processes[THE_PROCESS].records


def made_up(naming=PFNANO, n_events: int = 30, seed: int = 1) -> dict[str, ak.Array]:
    """Branches of events with 0 to 4 fat jets, in no order, exact sums of weighted candidates."""
    rng = np.random.default_rng(seed)
    events = [_event(rng, naming, number % 5) for number in range(n_events)]
    branches = {name: ak.Array([event[name] for event in events]) for name in events[0]}
    scalars = {
        "run": np.ones(n_events, np.uint32),
        "event": np.arange(n_events, dtype=np.uint64) + 1000,
        "genWeight": rng.normal(2, 1, n_events).astype(np.float32),
        "PuppiMET_pt": rng.exponential(30, n_events).astype(np.float32),
        "PuppiMET_phi": rng.uniform(-3, 3, n_events).astype(np.float32),
    }
    ratios = ak.Array(rng.uniform(0.5, 2, (n_events, 4)).tolist())
    return branches | scalars | {"PSWeight": ratios}


def without(branches: dict[str, ak.Array], *starts: str) -> dict[str, ak.Array]:
    """All branches but those whose names start so."""
    return {name: array for name, array in branches.items() if not name.startswith(starts)}


def with_generated(branches: dict[str, ak.Array]) -> dict[str, ak.Array]:
    """Add the generator's particles: in even events, the first fat jet of the file is a h -> bb."""
    names = ("pdgId", "genPartIdxMother", "pt", "eta", "phi", "mass")
    rows = []
    for event, etas in enumerate(branches["FatJet_eta"].to_list()):
        eta, phi = (etas[0], branches["FatJet_phi"][event, 0]) if etas else (0.0, 0.0)
        boson = 25 if event % 2 == 0 else 23
        rows.append(
            [
                (21, -1, 0.0, 20.0, 0.0, 0.0),
                (boson, 0, 90.0, eta + 1.5, phi, 125.0),  # before it radiates
                (boson, 1, 100.0, eta + 0.05, phi, 125.0),
                (5, 2, 60.0, eta, phi, 4.8),
                (-5, 2, 50.0, eta, phi, 4.8),
                (25, 0, 100.0, eta, phi, 125.0),  # decays otherwise
                (21, 5, 60.0, eta, phi, 0.0),
                (5, 5, 60.0, eta, phi, 4.8),
            ]
        )
    columns = {
        name: ak.Array([[r[at] for r in row] for row in rows]) for at, name in enumerate(names)
    }
    return branches | {f"GenPart_{name}": column for name, column in columns.items()}


def changed(array: ak.Array, event: int, place: int, value: float) -> ak.Array:
    """A jagged array with one value replaced."""
    lists = array.to_list()
    lists[event][place] = value
    return ak.Array(lists)


def write(
    path: Path,
    branches: dict[str, ak.Array],
    runs: dict[str, list[float]] | None = None,
    compression: int = 1,
    form: str = "tree",
):
    """Write Events and, where its sums are given, Runs.

    The form is "tree", or RNTuples of the "fields" of that tree, or of "records" of them.
    """
    collections: dict[str, dict[str, ak.Array]] = {}
    single = {}
    for name, array in branches.items():
        of, _, column = name.partition("_")
        if column and (array.ndim > 1 or form == "records"):
            collections.setdefault(of, {})[column] = _typed(name, array)
        else:
            single[name] = _typed(name, array)
    zipped = {name: ak.zip(columns) for name, columns in collections.items()}
    arrays = {**single, **zipped}
    with uproot.recreate(path, compression=uproot.ZLIB(compression)) as file:
        sums = {name: np.array(values) for name, values in (runs or {}).items()}
        if form == "tree":
            file.mktree("Events", {name: _type(array) for name, array in arrays.items()})
            file["Events"].extend(arrays)
        else:
            whole = {name: _typed(name, array) for name, array in branches.items()}
            records = ak.zip(arrays if form == "records" else whole, depth_limit=1)
            file.mkrntuple("Events", records[: len(records) // 2])
            file["Events"].extend(records[len(records) // 2 :])
        if runs is not None and form == "tree":
            file.mktree("Runs", dict.fromkeys(runs, "float64"))
            file["Runs"].extend(sums)
        elif runs is not None:
            file.mkrntuple("Runs", sums)
    return str(path)


def _event(rng, naming, n_jets: int) -> dict[str, list]:
    candidates, links, index = naming
    weighted = naming is PFNANO
    event: dict[str, list] = {}
    particles, owners, jets = [], [], []
    for jet in range(n_jets):
        eta, phi, scale = rng.uniform(-2, 2), rng.uniform(-3.1, 3.1), rng.uniform(10, 60)
        inside = [_candidate(rng, eta, phi, scale) for _ in range(rng.integers(3, 12))]
        particles += inside
        owners += [jet] * len(inside)
        jets.append(_jet(rng, inside, weighted))
    particles += [_candidate(rng, rng.uniform(-4, 4), rng.uniform(-3, 3), 1) for _ in range(5)]
    owners += [-1] * 5
    order = rng.permutation(len(particles))
    particles, owners = [particles[k] for k in order], [owners[k] for k in order]
    linked = rng.permutation([k for k, owner in enumerate(owners) if owner >= 0]).tolist()
    for name in ("pt", "eta", "phi", "mass", "pdgId", *(("charge", "puppiWeight") * weighted)):
        event[f"{candidates}_{name}"] = [particle[name] for particle in particles]
    if weighted:
        event |= {f"{candidates}_{d}": [p[d] for p in particles] for d in ("d0", "dz")}
    event[f"{links}_jetIdx"] = [owners[int(k)] for k in linked]
    event[f"{links}_{index}"] = [int(k) for k in linked]
    names = ("pt", "eta", "phi", "mass", "rawFactor", "nConstituents")
    event |= {f"FatJet_{name}": [jet[name] for jet in jets] for name in names}
    for subjet in (0, 1):
        event[f"FatJet_subJetIdx{subjet + 1}"] = [
            2 * jet + subjet if jet % 3 else -1 for jet in range(n_jets)
        ]
    event["SubJet_btagDeepB"] = rng.uniform(0, 1, 2 * n_jets).tolist()
    return event | _others(rng)


def _candidate(rng, eta: float, phi: float, scale: float) -> dict[str, float]:
    pdg_id = int(rng.choice(list(PARTICLES)))
    charge = {211: 1, -211: -1, 11: -1, -13: 1}.get(pdg_id, 0)
    return {
        "pt": float(np.float32(rng.exponential(scale) + 0.5)),
        "eta": float(np.float32(eta + rng.normal(0, 0.2))),
        "phi": _phi(rng, phi),
        "mass": float(np.float32(PARTICLES[pdg_id])),
        "pdgId": pdg_id,
        "charge": charge,
        "puppiWeight": float(rng.choice([0.0, 0.25, 1.0], p=[0.1, 0.3, 0.6])),
        "d0": float(np.float32(rng.normal(0, 0.1))),
        "dz": float(np.float32(rng.normal(0, 0.1))),
    }


def _phi(rng, phi: float) -> float:
    near = phi + rng.normal(0, 0.2)
    return float(np.float32(np.arctan2(np.sin(near), np.cos(near))))


def _jet(rng, inside: list[dict[str, float]], weighted: bool) -> dict[str, float]:
    total = vector.obj(px=0, py=0, pz=0, E=0)
    for of in inside:
        one = vector.obj(pt=of["pt"], eta=of["eta"], phi=of["phi"], mass=of["mass"])
        total = total + one * (of["puppiWeight"] if weighted else 1.0)
    raw = float(rng.uniform(0.02, 0.15))
    return {
        "pt": total.pt / (1 - raw),
        "eta": total.eta,
        "phi": total.phi,
        "mass": total.mass / (1 - raw),
        "rawFactor": raw,
        "nConstituents": len(inside),
    }


def _others(rng) -> dict[str, list]:
    """Small jets, electrons and muons."""
    event: dict[str, list] = {}
    for kind, number in (("Jet", 6), ("Electron", 3), ("Muon", 3)):
        event[f"{kind}_pt"] = rng.uniform(5, 80, number).tolist()
        event[f"{kind}_eta"] = rng.uniform(-2, 2, number).tolist()
        event[f"{kind}_phi"] = rng.uniform(-3, 3, number).tolist()
        event[f"{kind}_mass"] = rng.uniform(0, 5, number).tolist()
    event["Jet_nConstituents"] = rng.integers(1, 60, 6).tolist()
    event["Jet_btagDeepFlavB"] = rng.uniform(0, 0.6, 6).tolist()
    for kind in ("Electron", "Muon"):
        event[f"{kind}_charge"] = rng.choice([-1, 1], 3).tolist()
        event[f"{kind}_pfRelIso03_all"] = rng.uniform(0, 0.4, 3).tolist()
    event["Electron_cutBased"] = rng.integers(0, 5, 3).tolist()
    event["Muon_mediumId"] = rng.choice([True, False], 3).tolist()
    return event


def _typed(name: str, array: ak.Array) -> ak.Array:
    """In the types that NanoAOD has; empty lists say nothing of theirs."""
    if not isinstance(array, ak.Array):
        return array
    whole = ("Idx", "Idx1", "Idx2", "IdxMother", "Id", "charge", "cutBased", "nConstituents")
    return ak.values_astype(array, np.int32 if name.endswith(whole) else np.float32)


def _type(array):
    return array.type.content if isinstance(array, ak.Array) else array.dtype
