"""Small files in the layout of Delphes, whose contents are known."""

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

import awkward as ak
import numpy as np
import uproot

Lists = Sequence[Sequence[float]]
Collections = dict[str, dict[str, Sequence]]

# Delphes writes its process number here, in the objects and not in the references to them.
_PROCESS_NUMBER = 0x01 << 24
# Types other than float32.
_TYPES = {
    **dict.fromkeys(("PID", "Charge", "D1", "D2"), np.int32),
    **dict.fromkeys(("fUniqueID", "BTag"), np.uint32),
    "Number": np.int64,
}


def serialise(references: Sequence[int], name: bytes = b"") -> bytes:
    """A TRefArray as ROOT writes it."""
    body = b"\x00\x01" + b"\x00\x01" + bytes(4) + b"\x03\x00\x00\x00"
    body += bytes([len(name)]) + name + len(references).to_bytes(4, "big") + bytes(4) + bytes(2)
    body += b"".join(int(number).to_bytes(4, "big") for number in references)
    return (len(body) | 0x40000000).to_bytes(4, "big") + body


def write_delphes(path: Path, collections: Mapping, tree: str = "Delphes") -> Path:
    """Write collections: name to column to a list an event; of Constituents a list an object."""
    with uproot.recreate(path) as file:
        add_tree(file, collections, tree)
    return path


def add_tree(file, collections: Mapping, tree: str = "Delphes") -> None:
    arrays = {
        f"{name}.{column}": _array(column, values)
        for name, columns in collections.items()
        for column, values in columns.items()
    }
    types = {name: ak.type(array.layout).content for name, array in arrays.items()}
    out = file.mktree(tree, types, counter_name=lambda counted: counted.replace(".", "_") + "_size")
    if any(map(len, arrays.values())):
        out.extend(arrays)


def _array(column: str, values: Sequence) -> ak.Array:
    if column == "Constituents":
        events = [np.frombuffer(b"".join(map(serialise, event)), np.uint8) for event in values]
        return _lists(events, np.uint8)
    return _lists(values, _TYPES.get(column, np.float32))


def _lists(events: Sequence, kind: type) -> ak.Array:
    flat = np.concatenate([np.asarray(event, kind) for event in events] or [np.zeros(0, kind)])
    return ak.unflatten(flat, np.array([len(event) for event in events], np.int64))


def toy_collections(n_events: int, seed: int = 0) -> Collections:
    """Events of two fat jets that are the exact sums of 12 hits each, which Higgs bosons make.

    Event i has the weight 1 + i / 10. In each the first fat jet holds a tagged small jet, the second
    two; a track of no pT, and hits outside of the jets, are there too.
    """
    random = np.random.default_rng(seed)
    events = [_toy_event(random, number) for number in range(n_events)]
    return {
        name: {column: [event[name][column] for event in events] for column in columns}
        for name, columns in (events[0] if events else _toy_event(random, 0)).items()
    }


def jetclass2(collections: Collections) -> Collections:
    """The same events in the layout of JetClass-II: other jets, and candidates in one collection."""
    collections = dict(collections)
    collections["JetPUPPIAK8"] = collections.pop("FatJet")
    flow = [collections.pop(f"EFlow{name}") for name in ("Track", "Photon", "NeutralHadron")]
    for name in ("Jet", "Electron", "Muon"):
        del collections[name]
    tracks, *cells = flow
    tracks["E"] = [
        [pt * np.cosh(eta if pt else 0) for pt, eta in zip(pts, etas, strict=True)]
        for pts, etas in zip(tracks["PT"], tracks["Eta"], strict=True)
    ]
    for pid, cell in zip((22, 0), cells, strict=True):
        cell["PT"] = cell.pop("ET")
        cell["PID"] = [[pid] * len(event) for event in cell["E"]]
        cell |= {name: [[0] * len(event) for event in cell["E"]] for name in ("Charge", "D0", "DZ")}
    collections["ParticleFlowCandidate"] = {
        name: [list(chain(*event)) for event in zip(*(of[name] for of in flow), strict=True)]
        for name in tracks
    }
    return collections


def _toy_event(random: np.random.Generator, number: int) -> dict[str, dict[str, list]]:
    phi = random.uniform(-3, 3)
    axes = [(random.uniform(-1, 1), phi), (random.uniform(-1, 1), phi - np.pi)]
    hits = [_hit(random, *axis, kind) for axis in axes for kind in "TTTTTTPPPPNN"]
    hits += [_hit(random, 3.0, phi + 1.5, kind) for kind in "TPN"]
    hits.append({"kind": "T", "pt": 0.0, "eta": 999.9, "phi": 0.0})
    unique = {}
    for kind in "TPN":
        for place, hit in enumerate(hits):
            if hit["kind"] == kind:
                unique[place] = 100 + len(unique)
    inside = [range(12), range(12, 24)]
    jets = [np.sum([_four(hits[place]) for place in of], axis=0) for of in inside]
    fat = [_coordinates(jet) for jet in jets]
    order = sorted((0, 1), key=lambda jet: fat[jet]["PT"])  # the softer first: not sorted by pT
    small = [
        (fat[0], 0.1, 1),
        (fat[1], 0.1, 1),
        (fat[1], -0.3, 3),
        (fat[0], 0.2, 2),
        (fat[0], 2, 1),
    ]
    return {
        "Event": {
            "Number": [number],
            "Weight": [1 + number / 10],
            "CrossSection": [12.0 + number],
            "CrossSectionError": [0.5],
        },
        "Weight": {"Weight": [2.0 * number, 3.0 * number, 1.0]},
        "Particle": _particles(jets[0]),
        "EFlowTrack": _tracks(hits, unique),
        "EFlowPhoton": _cells(hits, unique, "P"),
        "EFlowNeutralHadron": _cells(hits, unique, "N"),
        "FatJet": {
            **{name: [fat[jet][name] for jet in order] for name in fat[0]},
            "BTag": [1, 0],
            "Constituents": [[unique[place] for place in inside[jet]] for jet in order],
        },
        "Jet": {
            "PT": [30.0 + 10 * place for place in range(5)],
            "Eta": [jet["Eta"] + shift for jet, shift, _ in small],
            "Phi": [_wrap(jet["Phi"]) for jet, _, _ in small],
            "Mass": [5.0] * 5,
            "BTag": [tag for _, _, tag in small],
            "Constituents": [[unique[place]] * place for place in range(5)],
        },
        "MissingET": {"MET": [20.0 + number], "Phi": [0.5]},
        "Electron": {"PT": [40.0, 5.0], "Eta": [0.5, 1], "Phi": [1.0, 1], "Charge": [-1, 1]},
        "Muon": {"PT": [50.0], "Eta": [-0.5], "Phi": [2.0], "Charge": [1]},
    }


def _hit(random: np.random.Generator, eta: float, phi: float, kind: str) -> dict:
    # In single precision, as in the file, so that sums of them are exact.
    single = np.float32(
        [random.uniform(20, 60), eta + random.normal(0, 0.1), _wrap(phi + random.normal(0, 0.1))]
    )
    return dict(zip(("pt", "eta", "phi"), map(float, single), strict=True)) | {"kind": kind}


def _wrap(phi: float) -> float:
    return float(np.angle(np.exp(1j * phi)))


def _four(hit: dict) -> np.ndarray:
    pt, eta, phi = hit["pt"], hit["eta"], hit["phi"]
    return pt * np.array([np.cos(phi), np.sin(phi), np.sinh(eta), np.cosh(eta)])


def _coordinates(four: np.ndarray) -> dict[str, float]:
    px, py, pz, energy = four
    pt = np.hypot(px, py)
    mass = np.sqrt(energy**2 - px**2 - py**2 - pz**2)
    return {"PT": pt, "Eta": np.arcsinh(pz / pt), "Phi": np.arctan2(py, px), "Mass": mass}


def _tracks(hits: list[dict], unique: dict[int, int]) -> dict[str, list]:
    places = [place for place in unique if hits[place]["kind"] == "T"]
    pids = [(211, -11, 13, -321)[place % 4] for place in places]
    return {
        "fUniqueID": [unique[place] | _PROCESS_NUMBER for place in places],
        **{name: [hits[p][name.lower()] for p in places] for name in ("PT", "Eta", "Phi")},
        "Charge": [1 if pid in {211, -11} else -1 for pid in pids],
        "PID": pids,
        "D0": [0.01 * place for place in places],
        "DZ": [-0.1 * place for place in places],
    }


def _cells(hits: list[dict], unique: dict[int, int], kind: str) -> dict[str, list]:
    places = [place for place in unique if hits[place]["kind"] == kind]
    return {
        "fUniqueID": [unique[place] | _PROCESS_NUMBER for place in places],
        "ET": [hits[place]["pt"] for place in places],
        **{name: [hits[p][name.lower()] for p in places] for name in ("Eta", "Phi")},
        "E": [_four(hits[place])[3] for place in places],
    }


def _particles(higgs: np.ndarray) -> dict[str, list]:
    """A Higgs boson, its copy, which decays to b bbar, and one that decays to photons elsewhere."""
    four = [higgs, higgs, higgs / 2, higgs / 2, -higgs, -higgs / 2, -higgs / 2]
    return {
        "PID": [25, 25, 5, -5, 25, 22, 22],
        "D1": [1, 2, -1, -1, 5, -1, -1],
        "D2": [1, 3, -1, -1, 6, -1, -1],
        **{name: [p[place] for p in four] for place, name in enumerate(("Px", "Py", "Pz", "E"))},
    }
