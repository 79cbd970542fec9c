"""NanoAOD: made-up files with known contents in both namings, and real files."""

from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot
import vector

from helpers import reading
from helpers.nanoaod_files import (
    MIN_PT,
    NANOAOD_15,
    PFNANO,
    made_up,
    read,
    reader,
    records,
    with_generated,
    without,
    write,
)
from manyscale.events.files.reader import THE_PROCESS, Contents, Piece
from manyscale.events.kinematics import wrap_phi
from manyscale.schema import CHARGED_HADRON, ELECTRON, MUON, NEUTRAL_HADRON, PHOTON

SHARED = Path(__file__).parents[3].parent / "shared" / "data"
REAL = {
    "PFNano": SHARED / "root" / "cms_pfnano.root",
    "NanoAOD 15": SHARED / "delphes" / "cms_nanoaod_v15_tt_200ev.root",
}
CLASSES = {211: CHARGED_HADRON, 11: ELECTRON, 13: MUON, 22: PHOTON, 130: NEUTRAL_HADRON}
CLASSES |= {1: NEUTRAL_HADRON, 2: PHOTON}  # in the forward calorimeter
ALL = ("jet1", "jet2", "subjets1", "small_jets", "leptons", "missing", "kinematics")
ENTRIES = 20


@pytest.fixture(scope="module", params=[PFNANO, NANOAOD_15], ids=["PFNano", "NanoAOD 15"])
def case(request, tmp_path_factory):
    """Naming, branches and path of a file with candidates."""
    branches = made_up(request.param, ENTRIES)
    path = write(tmp_path_factory.mktemp("nanoaod") / "file.root", branches)
    return request.param, branches, path


@pytest.fixture(scope="module")
def branches() -> dict[str, ak.Array]:
    return made_up(PFNANO, ENTRIES)


def pairs_of(branches) -> dict[int, list[int]]:
    """Places of the two hardest jets of the events that have two, in plain Python."""
    pairs = {}
    for event, pts in enumerate(branches["FatJet_pt"].to_list()):
        order = sorted(range(len(pts)), key=lambda jet: -pts[jet])[:2]
        if len(order) == 2 and pts[order[1]] > MIN_PT:
            pairs[event] = order
    return pairs


def constituents_of(naming, branches, event, jet):
    """Candidates (pt, eta, phi, mass, code) of a jet as it is made of them, in plain Python."""
    candidates, links, index = naming
    found = []
    for owner, place in zip(
        branches[f"{links}_jetIdx"][event], branches[f"{links}_{index}"][event], strict=True
    ):
        values = {
            name: float(branches[f"{candidates}_{name}"][event][place])
            for name in ("pt", "eta", "phi", "mass", "pdgId", "puppiWeight", "d0", "dz")
            if f"{candidates}_{name}" in branches
        }
        if owner == jet and values.get("puppiWeight", 1) > 0:
            found.append(values)
    return sorted(found, key=lambda one: -one["pt"] * one.get("puppiWeight", 1))


def test_the_two_hardest_jets_with_their_candidates_in_both_namings(case):
    naming, branches, path = case
    events = records(read(path))
    pairs = pairs_of(branches)
    assert events.entry.to_list() == list(pairs)
    assert any(order != [0, 1] for order in pairs.values())
    for row, (event, order) in zip(events, pairs.items(), strict=True):
        for stream, jet in zip(("jet1", "jet2"), order, strict=True):
            axis = [row[f"{stream}_axis", f"jet_{name}"] for name in ("pt", "eta", "phi", "mass")]
            stated = [
                branches[f"FatJet_{name}"][event, jet] for name in ("pt", "eta", "phi", "mass")
            ]
            assert axis == pytest.approx(stated, rel=1e-5, abs=1e-5)
            expected = constituents_of(naming, branches, event, jet)
            tokens = row[stream].to_list()
            assert len(tokens) == len(expected) > 0
            for token, one in zip(tokens, expected, strict=True):
                weight = one.get("puppiWeight", 1)
                four = vector.obj(pt=one["pt"], eta=one["eta"], phi=one["phi"], mass=one["mass"])
                code = int(one["pdgId"])
                charge = {211: 1, -211: -1, 11: -1, -11: 1, 13: -1, -13: 1}.get(code, 0)
                assert token == pytest.approx(
                    {
                        "pt": weight * four.pt,
                        "eta": four.eta,
                        "phi": four.phi,
                        "energy": weight * four.E,
                        "charge": charge,
                        "particle_class": CLASSES[abs(code)],
                    },
                    rel=1e-5,
                    abs=1e-6,
                )


def rebuilt(events: ak.Array, stream: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The sum of a stream's tokens, and the axis of its jet, of the events."""
    columns = {name: ak.values_astype(events[stream, name], float) for name in ("pt", "eta", "phi")}
    tokens = vector.zip({**columns, "E": ak.values_astype(events[stream, "energy"], float)})
    total = ak.sum(tokens, axis=1)
    names = ("pt", "eta", "phi", "mass")
    axis = {name: ak.to_numpy(events[f"{stream}_axis", f"jet_{name}"]) for name in names}
    return {name: ak.to_numpy(getattr(total, name)) for name in names}, axis


def uncorrected(pts: ak.Array, factors: ak.Array, events: ak.Array, stream: str) -> np.ndarray:
    """What pT and mass of the stream's jet were before its correction, over what they are."""
    distance = abs(pts[events.entry] - events[f"{stream}_axis", "jet_pt"])
    nearest = ak.argmin(distance, axis=1, keepdims=True)
    return 1 - np.asarray(ak.fill_none(ak.flatten(factors[events.entry][nearest]), np.nan))


def turn(total, axis) -> np.ndarray:
    return np.abs(wrap_phi(total["phi"] - axis["phi"]))


@pytest.mark.parametrize("stream", ["jet1", "jet2"])
def test_the_candidates_add_up_to_the_jet_before_its_correction(case, stream):
    _, branches, path = case
    events = records(read(path))
    total, axis = rebuilt(events, stream)
    factor = uncorrected(branches["FatJet_pt"], branches["FatJet_rawFactor"], events, stream)
    np.testing.assert_allclose(total["pt"], axis["pt"] * factor, rtol=1e-5)
    np.testing.assert_allclose(total["mass"], axis["mass"] * factor, rtol=1e-4)
    np.testing.assert_allclose(total["eta"], axis["eta"], atol=1e-5)
    assert np.all(turn(total, axis) < 1e-5)


@pytest.fixture(scope="module", params=REAL)
def real(request) -> tuple[ak.Array, Contents, reading.Found]:
    """Some branches of a real file, what is seen in it, and what is read of it."""
    path = REAL[request.param]
    if not path.is_file():
        pytest.skip("the real NanoAOD files are not beside the project")
    of = reader(ALL, ("d0", "dz"), observables={"run": "run", "event": "event"})
    contents = of.look(str(path))
    with uproot.open(path) as file:
        branches = file["Events"].arrays(["FatJet_pt", "FatJet_rawFactor", "event"])
    return branches, contents, reading.read(of, [Piece(str(path), 0, None)], contents.streams)


@pytest.mark.parametrize("stream", ["jet1", "jet2"])
def test_jets_of_real_files_rebuilt(real, stream):
    file, _, found = real
    events = records(found)
    total, axis = rebuilt(events, stream)
    factor = uncorrected(file.FatJet_pt, file.FatJet_rawFactor, events, stream)
    inside = np.abs(axis["eta"]) < 1.6  # candidates are stored up to abs(eta) = 2.5 alone
    assert np.count_nonzero(inside) >= 8
    assert np.all(np.abs(total["eta"] - axis["eta"])[inside] < 1e-3)
    assert np.all(turn(total, axis)[inside] < 1e-3)
    # The factor is rounded to 2^-7 of itself, PUPPI weights to eight bits, the others to ten.
    for of, least in (("pt", 2e-3), ("mass", 3e-3)):
        assert np.all(np.abs(total[of] / (axis[of] * factor) - 1)[inside] < least)


def test_real_files_have_what_they_are_known_to_have(real):
    file, contents, found = real
    events = records(found)
    is_15 = contents.entries == 200
    assert contents.entries == len(found.weight) == (200 if is_15 else 10)
    assert set(contents.streams) == set(ALL)
    assert ("jet1: d0" in contents.missing) == is_15
    assert any("--sum-weights" in remark for remark in contents.remarks) == is_15
    assert events.observables.event.to_list() == file.event[events.entry].to_list()
    varied = [name for name in events.fields if "Weight_" in name]
    assert len(varied) == (4 + 9 if is_15 else 0)  # PFNano has a placeholder alone
    if not is_15:
        assert found.processes[THE_PROCESS].bookkeeping.sum_weights == 10


def test_displacement_in_mm_of_charged_candidates(tmp_path, branches):
    of = reader(columns=("d0", "dz"))
    events = records(read(write(tmp_path / "a.root", branches), of))
    event, (leading, _) = next(iter(pairs_of(branches).items()))
    expected = constituents_of(PFNANO, branches, event, leading)
    for token, one in zip(events.jet1[0].to_list(), expected, strict=True):
        factor = 10 if token["charge"] else 0
        assert token["d0"] == pytest.approx(factor * one["d0"], rel=1e-5)
        assert token["dz"] == pytest.approx(factor * one["dz"], rel=1e-5)


@pytest.mark.parametrize("counted", [True, False])
def test_plain_nanoaod_gives_the_kinematics_and_says_what_is_missing(tmp_path, branches, counted):
    plain = without(branches, "PFCands", "FatJetPFCands", *(() if counted else ["FatJet_nCon"]))
    path = write(tmp_path / "a.root", plain)
    of = reader()
    contents = of.look(path)
    assert set(contents.streams) == {"kinematics"}
    columns = contents.streams["kinematics"].columns
    assert "width" not in columns
    assert ("multiplicity" in columns) == counted
    assert {"jet1", "jet2", "kinematics: width"} <= set(contents.missing)
    assert "PFNano" in contents.missing["jet1"]
    kinematics = records(read(path, of)).kinematics
    event, order = next(iter(pairs_of(branches).items()))
    assert kinematics.pt[0, :2].to_list() == pytest.approx(branches["FatJet_pt"][event][order])
    if counted:
        sizes = branches["FatJet_nConstituents"][event][order].to_list()
        assert kinematics.multiplicity[0].to_list() == [*sizes, sum(sizes), 0]


def test_a_jet_without_candidates_is_an_empty_stream_and_counted(tmp_path, branches):
    event, (leading, _) = next(iter(pairs_of(branches).items()))
    owners = branches["FatJetPFCands_jetIdx"].to_list()
    places = branches["FatJetPFCands_pFCandsIdx"].to_list()
    kept = [at for at, owner in enumerate(owners[event]) if owner != leading]
    for lists in (owners, places):
        lists[event] = [lists[event][at] for at in kept]
    fewer = {"FatJetPFCands_jetIdx": ak.Array(owners), "FatJetPFCands_pFCandsIdx": ak.Array(places)}
    found = read(write(tmp_path / "a.root", branches | fewer))
    first = records(found)[0]
    assert len(first.jet1) == 0
    assert len(first.jet2) > 0
    assert [(text, n) for text, n in found.notes.items() if "no candidates" in text and n == 1]


def test_btags_of_subjets(tmp_path, branches):
    events = records(read(write(tmp_path / "a.root", branches)))
    for row, (event, order) in zip(events, pairs_of(branches).items(), strict=True):
        for jet, name in zip(order, ("n_btags_j1", "n_btags_j2"), strict=True):
            places = [branches[f"FatJet_subJetIdx{n}"][event, jet] for n in (1, 2)]
            scores = [branches["SubJet_btagDeepB"][event, at] for at in places if at >= 0]
            assert row.observables[name] == sum(score > 0.4168 for score in scores)
    assert set(events.observables.n_btags_j2.to_list()) >= {0, 1}


def test_btags_of_small_jets_where_subjets_have_none(tmp_path, branches):
    event, (_, second) = next(iter(pairs_of(branches).items()))
    eta, phi = (float(branches[f"FatJet_{name}"][event, second]) for name in ("eta", "phi"))
    jets = {
        "Jet_eta": [eta, eta + 0.3, eta - 0.7, eta + 0.9],
        "Jet_phi": [phi, phi + 2 * np.pi, phi, phi],
        "Jet_btagDeepFlavB": [0.9, 0.1, 0.9, 0.9],  # the last lies outside
        "Jet_pt": [50.0] * 4,
        "Jet_mass": [5.0] * 4,
    }
    small = {name: ak.Array([values] * ENTRIES) for name, values in jets.items()}
    path = write(tmp_path / "a.root", without(branches, "SubJet", "Jet_") | small)
    assert records(read(path)).observables.n_btags_j2[0] == 2


def test_no_known_tagger_is_said(tmp_path, branches):
    path = write(tmp_path / "a.root", without(branches, "SubJet", "Jet_btag"))
    of = reader()
    assert any("n_btags is 0" in remark for remark in of.look(path).remarks)
    assert set(records(read(path, of)).observables.n_btags_j1.to_list()) == {0}


def test_small_jets_and_leptons(tmp_path, branches):
    of = reader(("small_jets", "leptons", "missing"))
    events = records(read(write(tmp_path / "a.root", branches), of))
    for row in events:
        event = int(row.entry)

        def values(kind, *names, event=event):
            columns = [branches[f"{kind}_{name}"][event].to_list() for name in names]
            return list(zip(*columns, strict=True))

        jets = values("Jet", "pt", "eta", "phi", "mass", "nConstituents", "btagDeepFlavB")
        expected = sorted((jet for jet in jets if jet[0] > 25), reverse=True)
        names = ("pt", "eta", "phi", "mass", "multiplicity", "n_btags")
        tokens = [[token[name] for name in names] for token in row.small_jets.to_list()]
        assert tokens == [pytest.approx([*jet[:5], int(jet[5] > 0.2783)]) for jet in expected]
        momentum = ("pt", "eta", "phi", "charge", "pfRelIso03_all")
        leptons = [
            (*lepton[:4], kind)
            for name, quality, least, kind in (
                ("Electron", "cutBased", 3, ELECTRON),
                ("Muon", "mediumId", 1, MUON),
            )
            for lepton in values(name, *momentum, quality)
            if lepton[0] > 10 and lepton[4] < 0.2 and lepton[5] >= least
        ]
        names = ("pt", "eta", "phi", "charge", "particle_class")
        tokens = [[token[name] for name in names] for token in row.leptons.to_list()]
        assert tokens == [pytest.approx(one) for one in sorted(leptons, reverse=True)]
        met = [branches[f"PuppiMET_{name}"][event] for name in ("pt", "phi")]
        assert [row.missing[0].pt, row.missing[0].phi] == pytest.approx(met)


def test_which_jets_are_higgs_bosons(tmp_path, branches):
    events = records(read(write(tmp_path / "a.root", with_generated(branches))))
    for row, (event, order) in zip(events, pairs_of(branches).items(), strict=True):
        found = [row.observables.h_bb_j1, row.observables.h_bb_j2]
        assert found == [int(event % 2 == 0 and jet == 0) for jet in order]
    assert {0, 1} <= set(events.observables.h_bb_j1.to_list())
    unknown = records(read(write(tmp_path / "b.root", branches)))
    assert set(unknown.observables.h_bb_j1.to_list()) == {-1}
