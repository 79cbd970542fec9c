"""Small ntuples of the layouts that physicists have, and the containers to write them to."""

import awkward as ak
import h5py
import numpy as np
import uproot

LABELS = ("QCD", "Hbb", "Hcc", "Hgg", "H4q", "Hqql", "Zqq", "Wqq", "Tbqq", "Tbl")


def lists(rng, counts, low=0.0, high=1.0):
    """A list of uniform float32 an event."""
    return ak.unflatten(rng.uniform(low, high, counts.sum()).astype(np.float32), counts)


def jetclass(rng, n):
    """Branches of JetClass: jets of four particles on average, one label each."""
    counts = rng.poisson(4, n) + 1
    px, py, pz = (lists(rng, counts, -50, 50) for _ in range(3))
    label = rng.integers(0, len(LABELS), n)
    kind = ak.unflatten(rng.integers(0, 5, counts.sum()), counts)
    return {
        "part_px": px,
        "part_py": py,
        "part_pz": pz,
        "part_energy": ak.values_astype(np.sqrt(px**2 + py**2 + pz**2), np.float32),
        "part_charge": ak.values_astype(ak.where(kind < 3, 1, 0), np.float32),
        "part_isChargedHadron": kind == 0,
        "part_isElectron": kind == 1,
        "part_isMuon": kind == 2,
        "part_isPhoton": kind == 3,
        "part_isNeutralHadron": kind == 4,
        "part_d0val": lists(rng, counts, -1, 1),
        "part_dzval": lists(rng, counts, -1, 1),
        "jet_pt": rng.uniform(450, 1000, n).astype(np.float32),
        "jet_eta": rng.uniform(-2.2, 2.2, n).astype(np.float32),
        "jet_phi": rng.uniform(-np.pi, np.pi, n).astype(np.float32),
        "jet_energy": rng.uniform(6000, 7000, n).astype(np.float32),
        "jet_sdmass": rng.uniform(0, 200, n).astype(np.float32),
        **{f"label_{name}": (label == i).astype(np.float32) for i, name in enumerate(LABELS)},
    }


def cms_like(rng, n):
    """Jagged jets and leptons, weights with variations."""
    jets, leptons = rng.poisson(5, n), rng.poisson(1, n)
    return {
        "Jet_pt": lists(rng, jets, 20, 300),
        "Jet_eta": lists(rng, jets, -3, 3),
        "Jet_phi": lists(rng, jets, -np.pi, np.pi),
        "Jet_mass": lists(rng, jets, 1, 30),
        "Jet_btagDeepFlavB": lists(rng, jets),
        "Lepton_pt": lists(rng, leptons, 10, 100),
        "Lepton_eta": lists(rng, leptons, -2, 2),
        "Lepton_phi": lists(rng, leptons, -np.pi, np.pi),
        "Lepton_charge": ak.unflatten(rng.choice([-1, 1], leptons.sum()), leptons),
        "MET_pt": rng.uniform(1, 200, n).astype(np.float32),
        "MET_phi": rng.uniform(-np.pi, np.pi, n).astype(np.float32),
        "genWeight": rng.normal(1, 0.5, n),
        "puWeight": rng.uniform(0.5, 1.5, n),
        "PSWeight": ak.unflatten(rng.uniform(0.5, 1.5, 4 * n), np.full(n, 4)),
        "run": np.full(n, 362760, np.int32),
        "event": 10**10 + np.arange(n, dtype=np.int64),
    }


def atlas_like(rng, n):
    """Momenta in MeV; two large jets as numbers, small jets as lists."""
    jets = rng.poisson(5, n)
    return {
        "jet_pt": lists(rng, jets, 20e3, 300e3),
        "jet_eta": lists(rng, jets, -3, 3),
        "jet_phi": lists(rng, jets, -np.pi, np.pi),
        "jet_e": lists(rng, jets, 300e3, 900e3),
        "jet_isbtagged": ak.unflatten(rng.integers(0, 2, jets.sum()), jets),
        **{
            f"fat_jet{jet}_{name}": rng.uniform(low, high, n).astype(np.float32)
            for jet in (1, 2)
            for name, low, high in (
                ("pt", 200e3, 900e3),
                ("eta", -2, 2),
                ("phi", -3, 3),
                ("m", 50e3, 200e3),
            )
        },
        "mcEventWeight": rng.normal(1, 0.5, n).astype(np.float32),
        "runNumber": np.full(n, 310000, np.uint32),
        "eventNumber": np.arange(n, dtype=np.uint64),
    }


def wide(px, py, pz, first=0, digits=1):
    """Columns PX_0, PY_0, ... of massless particles: momenta (events, particles), zeros at the end."""
    energy = np.sqrt(px**2 + py**2 + pz**2)
    return {
        f"{name}_{first + i:0{digits}d}": values[:, i].copy()
        for i in reversed(range(px.shape[1]))  # not in the order of their number
        for name, values in {"E": energy, "PX": px, "PY": py, "PZ": pz}.items()
    }


def top_tagging(rng, n):
    """The columns of the top-tagging reference data set, of up to six particles."""
    momenta = rng.normal(0, 50, (3, n, 6)) * (np.arange(6) < rng.integers(1, 7, n)[:, None])
    return {**wide(*momenta), "is_signal_new": rng.integers(0, 2, n)}


def write_tree(path, name, branches):
    with uproot.recreate(path) as file:
        file.mktree(name, branches)


def write_rntuple(path, name, branches):
    with uproot.recreate(path) as file:
        file.mkrntuple(name, branches)


def write_parquet(path, name, branches):  # a Parquet file has no trees
    table = ak.zip({key: ak.Array(values) for key, values in branches.items()}, depth_limit=1)
    ak.to_parquet(table, path, row_group_size=7)


def write_hdf5(path, name, branches):
    """Lists padded with zeros, a dataset a branch."""
    with h5py.File(path, "w") as file:
        for key, values in branches.items():
            array = ak.Array(values)
            if array.ndim > 1:
                longest = int(ak.max(ak.num(array), initial=0))
                array = ak.fill_none(ak.pad_none(array, longest, axis=1), 0)
            file.create_dataset(f"{name}/{key}", data=ak.to_numpy(array))


WRITERS = {
    "tree.root": write_tree,
    "rntuple.root": write_rntuple,
    "events.parquet": write_parquet,
    "events.h5": write_hdf5,
}
