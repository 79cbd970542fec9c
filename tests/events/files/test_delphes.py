"""Delphes files: a toy layout whose contents are known, and a real file."""

from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot
from hypothesis import given
from hypothesis import strategies as st

from helpers import reading
from helpers.delphes_files import add_tree, jetclass2, toy_collections, write_delphes
from manyscale.errors import CardError, DataError
from manyscale.events.files.convert_settings import ConvertSettings
from manyscale.events.files.delphes import DelphesReader
from manyscale.events.files.delphes_branches import DelphesTree
from manyscale.events.files.delphes_references import NOWHERE, resolve
from manyscale.events.files.reader import THE_PROCESS, Piece
from manyscale.events.files.root_files import open_root
from manyscale.events.settings import GenerateSettings
from manyscale.events.truth import higgs_to_bottom
from manyscale.schema import ELECTRON, MUON, NEUTRAL_HADRON, PHOTON

REAL = Path(__file__).parents[3].parent / "shared/data/delphes/delphes_ttbar_10ev_issue513.root"
ALL = ("jet1", "jet2", "subjets1", "small_jets", "leptons", "missing", "kinematics")
ENERGY_FLOW = ("EFlowTrack", "EFlowPhoton", "EFlowNeutralHadron")


def reader(streams=ALL, columns=(), cuts=None, **convert) -> DelphesReader:
    cuts = cuts or {"leading_pt": 20, "second_pt": 20, "max_eta": 5}
    generate = GenerateSettings.model_validate(
        {"streams": streams, "columns": columns, "cuts": cuts}
    )
    return DelphesReader(generate, ConvertSettings.model_validate(convert))


def read(path: Path, *pieces: Piece, of: DelphesReader | None = None) -> reading.Found:
    of = of or reader()
    contents = of.look(str(path))
    return reading.read(of, pieces or [Piece(str(path), 0, None)], contents.streams)


def records(events: reading.Found) -> ak.Array:
    return events.processes[THE_PROCESS].records


def four_sum(tokens: ak.Array) -> np.ndarray:
    """Pt, eta, phi, energy and mass (5, events) of the sums of constituents."""
    pt, eta, phi, energy = (
        ak.values_astype(tokens[x], float) for x in ("pt", "eta", "phi", "energy")
    )
    px, py, pz, e = (
        ak.to_numpy(ak.sum(x, axis=1))
        for x in (pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), energy)
    )
    pt, mass = np.hypot(px, py), np.sqrt(np.maximum(e**2 - px**2 - py**2 - pz**2, 0))
    return np.stack([pt, np.arcsinh(pz / pt), np.arctan2(py, px), e, mass])


def axis_of(of: ak.Array) -> np.ndarray:
    pt, eta, phi, mass = (
        ak.to_numpy(of[f"jet_{name}"]).astype(float) for name in ("pt", "eta", "phi", "mass")
    )
    return np.stack([pt, eta, phi, np.hypot(pt * np.cosh(eta), mass), mass])


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> Path:
    return write_delphes(tmp_path_factory.mktemp("delphes") / "toy.root", toy_collections(5))


class TestReferences:
    @given(
        objects=st.lists(st.lists(st.integers(0, 9), max_size=6), min_size=1, max_size=4),
        references=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), max_size=8),
    )
    def test_resolving_is_a_search_in_the_event(self, objects, references):
        references = [(event % len(objects), target) for event, target in references]
        before = np.cumsum([0, *map(len, objects)])
        expected = [
            before[event] + objects[event].index(target) if target in objects[event] else NOWHERE
            for event, target in references
        ]
        pairs = np.array(references, np.int64).reshape(-1, 2)
        found = resolve(
            pairs[:, 1],
            pairs[:, 0],
            # The highest byte is no part of the number.
            np.array([x for event in objects for x in event], np.uint32) | (1 << 24),
            np.array([len(event) for event in objects]),
        )
        assert found.tolist() == expected


def test_higgs_that_decay_to_bottom_count_once():
    # A copy and the one that decays; to photons; to b and light; daughters that are not there.
    pid = np.array([25, 25, 5, -5, 25, 22, 22, 25, 5, -5, 25, 25, 5, 2])
    one = np.array([1, 2, -1, -1, 5, 0, 0, 2, 0, 0, -1, 90, -1, -1])
    two = np.array([1, 3, -1, -1, 6, 0, 0, 1, 0, 0, 2, 91, -1, -1])
    assert higgs_to_bottom(pid, one, two, np.array([7, 3, 4])).tolist() == [1, 7]


class TestLook:
    def test_names_collections_and_their_use(self, toy):
        contents = reader(columns=("d0", "dz")).look(str(toy))
        assert (contents.title, contents.entries) == ("Delphes, tree 'Delphes'", 5)
        assert set(contents.streams) == set(ALL)
        assert contents.streams["jet1"].columns[-2:] == ("d0", "dz")
        assert not contents.missing
        assert not contents.remarks
        assert ("FatJet", "2.0 an event", "fat jets") in contents.rows
        assert ("EFlowTrack", "14.0 an event", "constituents") in contents.rows

    def test_says_what_is_missing_and_why(self, tmp_path):
        collections = toy_collections(2)
        for name in (*ENERGY_FLOW, "Electron", "Muon", "Jet", "Particle"):
            del collections[name]
        del collections["FatJet"]["BTag"]
        contents = reader().look(str(write_delphes(tmp_path / "a.root", collections)))
        assert set(contents.streams) == {"missing", "kinematics"}
        assert set(contents.streams["kinematics"].columns) == {
            *("pt", "eta", "phi", "mass", "multiplicity", "n_btags", "object_class")
        }
        assert set(contents.missing) == {*ALL} - {"missing", "kinematics"} | {"kinematics: width"}
        assert "EFlowTrack" in contents.missing["jet1"]
        assert any("BTag" in remark for remark in contents.remarks)
        assert any("h_bb" in remark for remark in contents.remarks)

    def test_displacement_that_is_not_there(self, tmp_path):
        collections = toy_collections(1)
        del collections["EFlowTrack"]["D0"]
        path = write_delphes(tmp_path / "a.root", collections)
        contents = reader(("jet1",), ("d0", "dz")).look(str(path))
        assert contents.streams["jet1"].columns[-1] == "dz"
        assert "D0" in contents.missing["jet1: d0"]

    def test_newest_cycle_of_the_tree(self, tmp_path):
        with uproot.recreate(tmp_path / "a.root") as file:
            add_tree(file, toy_collections(1))
            add_tree(file, toy_collections(3))
        assert reader().entries(str(tmp_path / "a.root")) == 3


class TestConstituents:
    def test_add_up_to_the_jets(self, toy):
        found = records(read(toy))
        assert len(found) == 5
        for name in ("jet1", "jet2"):
            assert np.all(ak.num(found[name]) == 12)
            np.testing.assert_allclose(
                four_sum(found[name]), axis_of(found[f"{name}_axis"]), rtol=1e-3, atol=1e-5
            )
        assert np.all(found.jet1_axis.jet_pt >= found.jet2_axis.jet_pt)

    def test_columns(self, toy):
        tracks = toy_collections(5)["EFlowTrack"]
        found = records(read(toy, of=reader(columns=("d0", "dz"))))
        known = {
            pt: of
            for event in range(5)
            for pt, *of in zip(
                *(tracks[x][event] for x in ("PT", "PID", "Charge", "D0", "DZ")), strict=True
            )
        }
        constituents = ak.flatten(ak.concatenate([found.jet1, found.jet2], axis=1)).tolist()
        charged = [token for token in constituents if token["charge"]]
        assert len(charged) == 5 * 12
        for token in charged:
            pid, charge, d0, dz = known[token["pt"]]
            assert token["particle_class"] == {11: ELECTRON, 13: MUON}.get(abs(pid), 0)
            assert token["charge"] == charge
            assert (token["d0"], token["dz"]) == pytest.approx((d0, dz), rel=1e-6)
        kinds = [token["particle_class"] for token in constituents if not token["charge"]]
        assert (kinds.count(PHOTON), kinds.count(NEUTRAL_HADRON)) == (5 * 8, 5 * 4)

    def test_object_without_pt_is_none(self, toy):
        collections = toy_collections(1)
        lost = collections["EFlowTrack"]["fUniqueID"][0][-1] & 0xFFFFFF
        collections["FatJet"]["Constituents"][0][0].append(lost)
        found = records(read(write_delphes(toy.parent / "lost.root", collections)))
        assert ak.num(found.jet1).tolist() == ak.num(found.jet2).tolist() == [12]

    def test_jets_of_towers(self, tmp_path):
        collections = toy_collections(2)
        with_flow = records(read(write_delphes(tmp_path / "a.root", collections)))
        photons = collections["EFlowPhoton"]
        collections["Tower"] = {
            **{name: photons[name] for name in ("ET", "Eta", "Phi", "E")},
            "fUniqueID": [[x + 1000 for x in event] for event in photons["fUniqueID"]],
            "Eem": [[1.0] * len(event) for event in photons["E"]],
            "Ehad": [[3.0] * len(event) for event in photons["E"]],
        }
        number = {x & 0xFFFFFF for event in photons["fUniqueID"] for x in event}
        collections["FatJet"]["Constituents"] = [
            [[x + 1000 if x in number else x for x in jet] for jet in event]
            for event in collections["FatJet"]["Constituents"]
        ]
        towers = records(read(write_delphes(tmp_path / "b.root", collections)))
        for name in ("pt", "eta", "phi", "energy", "charge"):
            assert towers.jet1[name].tolist() == with_flow.jet1[name].tolist()
        assert ak.all(towers.jet1.particle_class != PHOTON)  # more of it in the hadron calorimeter

    def test_none_makes_an_empty_stream_and_a_note(self, tmp_path):
        collections = toy_collections(3)
        collections["FatJet"]["Constituents"][1][0] = []
        events = read(write_delphes(tmp_path / "a.root", collections))
        found = records(events)
        assert sorted(ak.num(found.jet1).tolist() + ak.num(found.jet2).tolist()) == [0] + [12] * 5
        ((text, number),) = events.notes.items()
        assert number == 1
        assert "no constituents" in text


class TestObjects:
    def test_kinematics_and_truth(self, toy):
        found = records(read(toy))
        observables = found.observables
        first = observables.h_bb_j1.tolist()
        # The first fat jet of the toy is the Higgs boson, and holds one tagged jet; the other two.
        assert set(first) == {0, 1}
        assert observables.h_bb_j2.tolist() == [1 - x for x in first]
        assert observables.n_btags_j1.tolist() == [1 if x else 2 for x in first]
        assert observables.n_btags_j2.tolist() == [2 if x else 1 for x in first]
        assert observables.met.tolist() == pytest.approx([20, 21, 22, 23, 24])
        assert ak.ravel(found.missing.phi).tolist() == pytest.approx([0.5] * 5)
        assert found.kinematics.multiplicity.tolist() == [[12, 12, 24, 0]] * 5

    def test_small_jets_and_leptons(self, toy):
        found = records(read(toy))
        # The smallest pT of small jets is 25 GeV, of leptons 10 GeV.
        assert found.small_jets.pt.tolist() == [[70, 60, 50, 40, 30]] * 5
        assert found.small_jets.multiplicity.tolist() == [[4, 3, 2, 1, 0]] * 5
        assert found.small_jets.n_btags.tolist() == [[1, 0, 1, 1, 1]] * 5
        assert found.leptons.pt.tolist() == [[50, 40]] * 5
        assert found.leptons.charge.tolist() == [[1, -1]] * 5
        assert found.leptons.particle_class.tolist() == [[MUON, ELECTRON]] * 5

    def test_without_own_tags_of_small_jets_the_fat_jet_has_its_own(self, tmp_path):
        collections = toy_collections(2)
        del collections["Jet"]
        found = records(read(write_delphes(tmp_path / "a.root", collections)))
        fat = collections["FatJet"]
        for event, number in enumerate(found.observables.n_btags_j1.tolist()):
            assert number == fat["BTag"][event][int(np.argmax(fat["PT"][event]))]

    def test_jets_stand_in_for_fat_ones(self, tmp_path):
        collections = toy_collections(2)
        collections["Jet"] = collections.pop("FatJet")
        path = write_delphes(tmp_path / "a.root", collections)
        assert any("'Jet'" in remark for remark in reader().look(str(path)).remarks)
        found = records(read(path))
        assert ak.num(found.jet1).tolist() == [12, 12]
        assert ak.num(found.small_jets).tolist() == [2, 2]

    def test_without_jets_they_are_clustered(self, tmp_path):
        collections = toy_collections(4)
        with_jets = records(read(write_delphes(tmp_path / "a.root", collections)))
        for name in ("FatJet", "Jet", "MissingET", "Electron", "Muon"):
            del collections[name]
        path = write_delphes(tmp_path / "b.root", collections)
        contents = reader().look(str(path))
        assert any("clustered" in remark for remark in contents.remarks)
        assert "no b-tags" in contents.missing["small_jets: n_btags"]
        found = records(read(path))
        # Wide hits may fall out of a jet, no more than a few.
        close = np.abs(found.jet1_axis.jet_pt / with_jets.jet1_axis.jet_pt - 1)
        assert ak.all(close < 0.3)
        np.testing.assert_allclose(
            four_sum(found.jet1), axis_of(found.jet1_axis), rtol=1e-3, atol=1e-4
        )
        hits = [collections[name] for name in ENERGY_FLOW]
        px, py = (
            sum(
                np.dot(of["PT" if "PT" in of else "ET"][0], turn(np.array(of["Phi"][0])))
                for of in hits
            )
            for turn in (np.cos, np.sin)
        )
        assert found.observables.met[0] == pytest.approx(np.hypot(px, py), rel=1e-5)
        assert ak.all(found.observables.n_btags_j1 == 0)

    def test_muons_and_electrons_from_tracks(self, tmp_path):
        collections = toy_collections(1)
        del collections["Electron"], collections["Muon"]
        tracks = collections["EFlowTrack"]
        lone = {"PT": 33.0, "Eta": -2.4, "Phi": 0.0, "Charge": -1, "PID": 13, "D0": 0, "DZ": 0}
        for name, value in (lone | {"fUniqueID": 9999}).items():
            tracks[name][0].append(value)
        found = records(read(write_delphes(tmp_path / "a.root", collections)))
        assert 33.0 in found.leptons.pt[0].tolist()


class TestBookkeeping:
    def test_weights_and_cross_section(self, toy):
        events = read(toy)
        book = events.processes[THE_PROCESS].bookkeeping
        weight = np.float32(1 + np.arange(5) / 10).astype(float)
        assert events.weight.tolist() == weight.tolist()
        assert records(events).weight.tolist() == weight.tolist()
        assert (book.generated, book.sum_weights) == (5, pytest.approx(weight.sum()))
        assert book.sum_weights2 == pytest.approx((weight**2).sum())
        assert (book.cross_section, book.cross_section_error) == (16.0, 0.5)

    def test_what_the_file_does_not_say(self, tmp_path):
        collections = toy_collections(2)
        collections["Event"] = {"Number": [[0], [1]], "CrossSection": [[-1e-23], [1e-23]]}
        events = read(write_delphes(tmp_path / "a.root", collections))
        book = events.processes[THE_PROCESS].bookkeeping
        assert (book.cross_section, book.sum_weights) == (None, 2.0)

    @pytest.mark.parametrize("error", [0.0, None])
    def test_cross_section_without_an_error_is_known(self, tmp_path, error):
        collections = toy_collections(3)
        collections["Event"]["CrossSectionError"] = [[error]] * 3
        if error is None:
            del collections["Event"]["CrossSectionError"]
        path = write_delphes(tmp_path / "a.root", collections)
        book = read(path).processes[THE_PROCESS].bookkeeping
        assert (book.cross_section, book.cross_section_error) == (14.0, None)

    def test_cross_section_that_adds_up(self, tmp_path, monkeypatch):
        monkeypatch.setattr("manyscale.events.files.delphes._BATCH", 4)
        collections = toy_collections(12)
        weight = np.array([1.5, 0.5, -0.5] * 4)
        collections["Event"]["Weight"] = weight[:, None].tolist()
        collections["Event"]["CrossSection"] = (np.cumsum(weight)[:, None] / 2).tolist()
        path = write_delphes(tmp_path / "a.root", collections)
        (remark,) = reader().look(str(path)).remarks
        assert "adds up from event to event" in remark
        assert " 3 pb" in remark
        streams = reader().look(str(path)).streams
        batches = list(reader().read(Piece(str(path), 0, 9), streams, 1))
        assert len(batches) == 3
        known = {batch.processes[THE_PROCESS][1].cross_section for batch in batches}
        assert known == {3.0}

    def test_event_that_lacks_its_cross_section(self, tmp_path):
        collections = toy_collections(2)
        for column in collections["Event"]:
            collections["Event"][column][1] = []
        path = write_delphes(tmp_path / "a.root", collections)
        book = read(path, of=reader(weight="1")).processes[THE_PROCESS].bookkeeping
        assert book.cross_section is None

    def test_cross_section_that_is_refined_does_not_add_up(self, tmp_path):
        collections = toy_collections(4)
        collections["Event"]["CrossSection"] = [[2.0], [2.5], [2.2], [2.3]]
        path = write_delphes(tmp_path / "a.root", collections)
        assert not reader().look(str(path)).remarks
        book = read(path, Piece(str(path), 0, 1)).processes[THE_PROCESS].bookkeeping
        assert book.cross_section == pytest.approx(2.3)

    def test_card(self, toy):
        of = reader(
            weight="2 * Event.Weight",
            variations=["Weight.Weight"],
            observables={"number": "Event.Number", "hardest": "max(Jet.PT)"},
            selection=["Event.Number > 1"],
        )
        events = read(toy, of=of)
        found = records(events)
        assert found.entry.tolist() == found.observables.number.tolist() == [2, 3, 4]
        assert found.observables.hardest.tolist() == [70] * 3
        assert events.weight.tolist() == pytest.approx([2, 2.2, 2.4, 2.6, 2.8])
        assert found["Weight_Weight_0"].tolist() == [4, 6, 8]
        assert found["Weight_Weight_2"].tolist() == [1, 1, 1]
        steps = events.processes[THE_PROCESS].bookkeeping.cutflow
        assert [(step.step, step.events) for step in steps][:2] == [
            ("in the file", 5),
            ("Event.Number > 1", 3),
        ]

    def test_varying_numbers_of_weights_are_refused(self, tmp_path):
        collections = toy_collections(2)
        collections["Weight"]["Weight"][1].pop()
        path = write_delphes(tmp_path / "a.root", collections)
        with pytest.raises(
            DataError, match=r"entry 1 of tree 'Delphes': branch 'Weight\.Weight' holds 2"
        ):
            read(path, of=reader(variations=["Weight.Weight"]))


class TestPieces:
    def test_do_not_change_the_events(self, toy):
        path = str(toy)
        whole = read(toy)
        parts = read(toy, Piece(path, 0, 1), Piece(path, 1, 4), Piece(path, 4, 5))
        assert parts.weight.tolist() == whole.weight.tolist()
        for name in records(whole).fields:
            assert records(parts)[name].tolist() == records(whole)[name].tolist()

    def test_many_small_files_are_one_large_one(self, tmp_path):
        collections = toy_collections(30)
        pieces = []
        for first in range(0, 30, 10):
            some = {
                name: {column: values[first : first + 10] for column, values in of.items()}
                for name, of in collections.items()
            }
            path = write_delphes(tmp_path / f"{first}.root", some)
            pieces.append(Piece(str(path), 0, None))
        whole = records(read(write_delphes(tmp_path / "whole.root", collections)))
        parts = records(read(tmp_path / "0.root", *pieces))
        assert parts.entry.tolist() == list(range(10)) * 3
        for name in (*ALL, "jet1_axis", "observables"):
            assert parts[name].tolist() == whole[name].tolist()

    def test_of_which_no_event_passes(self, toy):
        of = reader(cuts={"leading_pt": 9000, "second_pt": 9000})
        events = read(toy, of=of)
        assert len(records(events)) == 0
        assert len(events.weight) == 5
        assert events.processes[THE_PROCESS].bookkeeping.cutflow[1].events == 0


class TestOtherLayouts:
    """What lacks a usual collection or branch gives what it can, and says what is missing."""

    @staticmethod
    def without(path: Path, branch: str) -> Path:
        collections = toy_collections(3)
        name, column = branch.split(".")
        del collections[name][column]
        return write_delphes(path / "a.root", collections)

    def test_jetclass2(self, toy, tmp_path):
        path = write_delphes(tmp_path / "a.root", jetclass2(toy_collections(5)))
        contents = reader().look(str(path))
        assert set(contents.streams) == set(ALL)
        assert set(contents.missing) == {"small_jets: n_btags"}
        assert ("JetPUPPIAK8", "2.0 an event", "fat jets") in contents.rows
        assert ("ParticleFlowCandidate", "28.0 an event", "constituents") in contents.rows
        assert any("'JetPUPPIAK8'" in remark for remark in contents.remarks)
        found, usual = records(read(path)), records(read(toy))
        for name in ("jet1", "jet2", "missing"):
            for column in found[name].fields:
                np.testing.assert_allclose(
                    ak.flatten(found[name][column]), ak.flatten(usual[name][column]), rtol=1e-6
                )
        assert found.observables.h_bb_j1.tolist() == usual.observables.h_bb_j1.tolist()
        tags = ak.to_numpy(found.observables.n_btags_j1 + found.observables.n_btags_j2)
        assert tags.tolist() == [1] * 5

    def test_fat_jets_without_mass(self, tmp_path):
        path = self.without(tmp_path, "FatJet.Mass")
        contents = reader().look(str(path))
        assert any("no branch 'FatJet.Mass'" in remark for remark in contents.remarks)
        assert ("Jet", "5.0 an event", "fat jets") in contents.rows
        assert records(read(path)).jet1_axis.jet_pt.tolist() == [70] * 3

    def test_tracks_without_codes(self, tmp_path):
        path = self.without(tmp_path, "EFlowTrack.PID")
        contents = reader().look(str(path))
        assert set(contents.missing) == {"jet1: particle_class", "jet2: particle_class"}
        assert "no branch 'EFlowTrack.PID'" in contents.missing["jet1: particle_class"]
        assert ak.num(records(read(path)).jet1).tolist() == [12] * 3

    def test_cells_without_energy(self, tmp_path):
        path = self.without(tmp_path, "EFlowPhoton.ET")
        contents = reader().look(str(path))
        assert set(contents.streams) == {"small_jets", "leptons", "missing", "kinematics"}
        assert "no branch 'EFlowPhoton.ET'" in contents.missing["jet1"]
        assert records(read(path)).kinematics.multiplicity.tolist() == [[12, 12, 24, 0]] * 3

    def test_electrons_without_charge(self, tmp_path):
        contents = reader().look(str(self.without(tmp_path, "Electron.Charge")))
        assert "no branch 'Electron.Charge'" in contents.missing["leptons"]

    def test_other_missing_momentum(self, tmp_path):
        collections = toy_collections(2)
        collections["PuppiMissingET"] = collections.pop("MissingET")
        path = write_delphes(tmp_path / "a.root", collections)
        assert any("'PuppiMissingET'" in remark for remark in reader().look(str(path)).remarks)
        assert records(read(path)).observables.met.tolist() == pytest.approx([20, 21])


class TestBadFiles:
    def test_reference_to_nothing(self, tmp_path):
        collections = toy_collections(3)
        collections["FatJet"]["Constituents"][2][1][4] = 77
        path = write_delphes(tmp_path / "a.root", collections)
        with pytest.raises(
            DataError, match=r"a\.root, entry 2 of tree 'Delphes': branch 'FatJet\.Constituents'"
        ):
            read(path)

    def test_reference_where_there_is_nothing_at_all(self, tmp_path):
        collections = toy_collections(1)
        for name in ENERGY_FLOW:
            collections[name] = {column: [[]] for column in collections[name]}
        with pytest.raises(
            DataError, match=r"entry 0 of tree 'Delphes': branch 'FatJet\.Constituents'"
        ):
            read(write_delphes(tmp_path / "a.root", collections))

    @pytest.mark.parametrize(
        "branch", ["FatJet.Eta", "EFlowTrack.PT", "EFlowPhoton.E", "MissingET.MET", "Event.Weight"]
    )
    def test_not_a_number(self, tmp_path, branch):
        collections = toy_collections(2)
        name, column = branch.split(".")
        collections[name][column][1][0] = np.nan
        path = write_delphes(tmp_path / "a.root", collections)
        with pytest.raises(
            DataError, match=rf"a\.root, entry 1 of tree 'Delphes': branch '{branch}' holds nan"
        ):
            read(path)

    def test_no_jets_and_nothing_to_make_them_of(self, tmp_path):
        collections = {name: toy_collections(1)[name] for name in ("Event", "MissingET")}
        with pytest.raises(DataError, match=r"no jets.*there are Event, MissingET"):
            reader().look(str(write_delphes(tmp_path / "a.root", collections)))

    def test_several_of_what_is_one_an_event(self, tmp_path):
        collections = toy_collections(2)
        collections["MissingET"] = {"MET": [[1.0], [1.0, 2.0]], "Phi": [[1.0], [1.0, 2.0]]}
        with pytest.raises(DataError, match="entry 1 of tree 'Delphes': 'MissingET' holds 2"):
            read(write_delphes(tmp_path / "a.root", collections))

    def test_columns_of_different_lengths(self, tmp_path):
        collections = toy_collections(2)
        collections["FatJet"]["Eta"][1].pop()
        with pytest.raises(DataError, match="entry 1: the branches of 'FatJet'"):
            read(write_delphes(tmp_path / "a.root", collections))

    def test_no_tree(self, tmp_path):
        path = write_delphes(tmp_path / "a.root", toy_collections(1), tree="Events")
        with pytest.raises(DataError, match=r"a\.root has no tree 'Delphes'; it has Events"):
            reader().look(str(path))
        assert reader(tree="Events").entries(str(path)) == 1

    def test_no_event(self, tmp_path):
        path = write_delphes(tmp_path / "a.root", toy_collections(0))
        with pytest.raises(DataError, match="holds no event"):
            reader().look(str(path))
        (batch,) = reader().read(Piece(str(path), 0, None), {}, 1)
        assert len(batch.weight) == 0

    @pytest.mark.parametrize("part", [0.02, 0.5, 0.95])
    def test_cut_short(self, toy, tmp_path, part):
        path = tmp_path / "a.root"
        path.write_bytes(toy.read_bytes()[: int(part * toy.stat().st_size)])
        with pytest.raises(DataError, match=r"a\.root.*cut short"):
            read(path)

    def test_damaged_in_the_middle(self, toy, tmp_path):
        data = bytearray(toy.read_bytes())
        with uproot.open(toy) as file:
            branch = file["Delphes"]["FatJet.Constituents"]
            start, size = (branch.member(name)[0] for name in ("fBasketSeek", "fBasketBytes"))
        data[start : start + size] = bytes(size)
        (tmp_path / "a.root").write_bytes(data)
        with pytest.raises(DataError, match=r"branch 'FatJet\.Constituents': entries 0 to 4"):
            read(tmp_path / "a.root")

    def test_expressions(self, toy):
        with pytest.raises(DataError, match=r"no branch 'Jet\.Pt'.*convert\.selection.*Jet\.PT"):
            reader(selection=["max(Jet.Pt) > 3"]).look(str(toy))
        with pytest.raises(CardError, match=r"convert\.weight"):
            reader(weight="Event.Weight *").look(str(toy))
        with pytest.raises(DataError, match=r"no branch 'Weight\.Wait', which convert\.variations"):
            reader(variations=["Weight.Wait"]).look(str(toy))


@pytest.mark.skipif(not REAL.is_file(), reason="the real Delphes file is not here")
class TestRealFile:
    def test_look(self):
        contents = reader(columns=("d0", "dz")).look(str(REAL))
        assert contents.entries == 10
        assert set(contents.streams) == set(ALL)
        assert ("Jet", "6.0 an event", "fat jets") in contents.rows

    def test_jets_are_their_constituents_but_for_the_energy_scale(self):
        found = records(read(REAL))
        assert len(found) == 10
        for name in ("jet1", "jet2"):
            sums, jets = four_sum(found[name]), axis_of(found[f"{name}_axis"])
            scale = jets[0] / sums[0]
            assert np.all((scale > 1.0) & (scale < 1.12))
            assert 1.02 < np.mean(scale) < 1.08
            np.testing.assert_allclose(jets[1:3], sums[1:3], atol=1e-3)
            np.testing.assert_allclose(jets[3], scale * sums[3], rtol=1e-3)

    def test_generator_jets_are_exactly_their_particles(self):
        with open_root(str(REAL)) as file:
            tree = DelphesTree(file, str(REAL), "Delphes")
            jets = tree.objects("GenJet", ("PT", "Eta", "Phi", "Mass", "Constituents"), 0, 10)
            particles = tree.objects("Particle", ("fUniqueID", "Px", "Py", "Pz", "E"), 0, 10)
        counts, targets = jets.n_references, jets.references
        event = np.repeat(jets.event, counts)
        found = resolve(targets, event, particles.columns["fUniqueID"], particles.counts)
        assert np.all(found != NOWHERE)
        jet = np.repeat(np.arange(len(counts)), counts)
        px, py, pz, energy = (
            np.bincount(jet, particles.columns[name][found]) for name in ("Px", "Py", "Pz", "E")
        )
        pt = np.hypot(px, py)
        np.testing.assert_allclose(pt, jets.columns["PT"], rtol=1e-3)
        np.testing.assert_allclose(np.arcsinh(pz / pt), jets.columns["Eta"], atol=1e-3)
        mass = np.sqrt(energy**2 - px**2 - py**2 - pz**2)
        np.testing.assert_allclose(mass, jets.columns["Mass"], rtol=1e-3)
