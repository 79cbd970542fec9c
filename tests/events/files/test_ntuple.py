"""Ntuples of every container to records, by the branch maps of cards."""

import pickle
from collections import Counter
from pathlib import Path
from typing import ClassVar

import awkward as ak
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uproot
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pydantic import ValidationError

from helpers import ntuple_files as files
from helpers import reading
from manyscale.card import load_card
from manyscale.errors import CardError, DataError
from manyscale.events.files import ntuple as ntuple_module
from manyscale.events.files.checks import range_notes
from manyscale.events.files.convert_settings import ConvertSettings
from manyscale.events.files.ntuple import NtupleReader
from manyscale.events.files.ntuple_tokens import make_tokens
from manyscale.events.files.reader import THE_PROCESS, NoEventsError, Piece
from manyscale.events.ragged import PackedStream
from manyscale.runs.fit import build_model
from manyscale.schema import Schema, StreamSchema

EXAMPLES = Path(__file__).parents[3] / "examples"


def reader(**convert):
    return NtupleReader(ConvertSettings.model_validate(convert))


def read(path, *, first=0, last=None, **convert):
    """All that there is of a file."""
    one = reader(**convert)
    streams = one.look(str(path)).streams
    return reading.read(one, [Piece(str(path), first, last)], streams)


def only(path, **convert):
    return read(path, **convert).processes[THE_PROCESS]


def example(name):
    return NtupleReader(load_card(EXAMPLES / f"{name}.yaml").convert)


def convert_example(name, path):
    one = example(name)
    contents = one.look(str(path))
    return contents, reading.read(one, [Piece(str(path), 0, None)], contents.streams)


@pytest.fixture
def rng():
    return np.random.default_rng(11)


class TestExamples:
    def test_jetclass(self, rng, tmp_path):
        branches = files.jetclass(rng, 300)
        files.write_tree(tmp_path / "JetClass.root", "tree", branches)
        contents, events = convert_example("ntuple_jetclass", tmp_path / "JetClass.root")
        assert contents.entries == 300
        assert contents.streams == {
            "jet": StreamSchema(
                name="jet",
                columns=("pt", "eta", "phi", "energy", "charge", "particle_class", "d0", "dz"),
                axis=("jet_pt", "jet_eta", "jet_phi", "jet_mass"),
            )
        }
        assert set(events.processes) == {"hbb", "qcd"}
        for process, label in (("hbb", "label_Hbb"), ("qcd", "label_QCD")):
            of_process = branches[label] == 1
            passed = of_process & (branches["jet_pt"] > 500) & (np.abs(branches["jet_eta"]) < 2)
            result = events.processes[process]
            assert result.records.entry.tolist() == np.flatnonzero(passed).tolist()
            assert result.bookkeeping.generated == of_process.sum()
            assert result.bookkeeping.sum_weights is None
            assert [step.events for step in result.bookkeeping.cutflow] == [
                300,
                of_process.sum(),
                (of_process & (branches["jet_pt"] > 500)).sum(),
                passed.sum(),
            ]
            sdmass = branches["jet_sdmass"][passed]
            np.testing.assert_array_equal(result.records.observables.sdmass, sdmass)
            _check_particles(branches, result.records)

    def test_top_tagging(self, rng, tmp_path):
        branches = files.top_tagging(rng, 60)
        files.write_tree(tmp_path / "x", "table", branches)
        contents, events = convert_example("ntuple_top_tagging", tmp_path / "x")
        assert contents.streams["constituents"].columns == ("pt", "eta", "phi", "energy")
        for process, label in (("top", 1), ("qcd", 0)):
            records = events.processes[process].records
            entry = np.flatnonzero(branches["is_signal_new"] == label)
            assert records.entry.tolist() == entry.tolist()
            energy = np.stack([branches[f"E_{i}"] for i in range(6)], axis=1)[entry]
            assert ak.num(records.constituents).tolist() == (energy > 0).sum(axis=1).tolist()
            np.testing.assert_allclose(
                ak.sum(records.constituents.energy, axis=1), energy.sum(axis=1), rtol=1e-5
            )
        assert not events.notes

    @pytest.mark.parametrize("path", sorted(EXAMPLES.glob("ntuple_*.yaml")), ids=lambda p: p.stem)
    def test_every_map_is_of_expressions(self, path, tmp_path):
        files.write_tree(tmp_path / "x", "t", {"x": np.ones(1)})
        convert = load_card(path).convert.model_copy(update={"tree": None})
        with pytest.raises(DataError, match=r"there (is no branch|are no branches)"):
            NtupleReader(convert).look(str(tmp_path / "x"))

    def test_cms_like(self, rng, tmp_path):
        branches = files.cms_like(rng, 200)
        files.write_tree(tmp_path / "cms.root", "Events", branches)
        contents, events = convert_example("ntuple_cms_like", tmp_path / "cms.root")
        assert contents.streams["missing"] == StreamSchema(name="missing", columns=("pt", "phi"))
        assert set(contents.streams) == {"jets", "leptons", "missing"}
        result = events.processes[THE_PROCESS]
        good = (branches["Jet_pt"] > 30) & (np.abs(branches["Jet_eta"]) < 2.4)
        hard = ak.any(branches["Lepton_pt"] > 25, axis=1)
        passed = ak.to_numpy((ak.sum(good, axis=1) >= 4) & hard)
        assert 0 < passed.sum() < 200
        assert result.records.entry.tolist() == np.flatnonzero(passed).tolist()
        weight = branches["genWeight"] * branches["puWeight"]
        np.testing.assert_array_equal(events.weight, weight)
        np.testing.assert_array_equal(result.records.weight, weight[passed])
        np.testing.assert_array_equal(result.records.PSWeight_3, branches["PSWeight"][passed][:, 3])
        order = ak.argsort(-branches["Jet_pt"][passed], axis=1)
        for column in ("pt", "eta", "mass"):
            expected = branches[f"Jet_{column}"][passed][order]
            assert ak.all(result.records.jets[column] == expected)
        tagged = branches["Jet_btagDeepFlavB"][passed][order] > 0.2783
        assert ak.all(result.records.jets.n_btags == tagged)
        assert ak.all(ak.num(result.records.missing) == 1)
        np.testing.assert_array_equal(result.records.missing.pt[:, 0], branches["MET_pt"][passed])
        assert result.records.observables.event.tolist() == branches["event"][passed].tolist()
        assert ak.to_numpy(result.records.observables.event).dtype == np.int64
        np.testing.assert_allclose(
            result.records.observables.ht, ak.sum(branches["Jet_pt"][passed], axis=1), rtol=1e-6
        )

    def test_atlas_like(self, rng, tmp_path):
        branches = files.atlas_like(rng, 200)
        files.write_tree(tmp_path / "atlas.root", "nominal", branches)
        contents, events = convert_example("ntuple_atlas_like", tmp_path / "atlas.root")
        assert tuple(contents.streams) == ("fat_jet1", "fat_jet2", "jets")
        records = events.processes[THE_PROCESS].records
        passed = (branches["fat_jet1_pt"] > 450e3) & (branches["fat_jet2_pt"] > 250e3)
        assert records.entry.tolist() == np.flatnonzero(passed).tolist()
        np.testing.assert_allclose(
            records.fat_jet2.mass[:, 0], branches["fat_jet2_m"][passed] / 1000, rtol=1e-6
        )
        np.testing.assert_allclose(
            ak.flatten(records.jets.pt),
            ak.flatten(ak.sort(branches["jet_pt"][passed], ascending=False)) / 1000,
            rtol=1e-6,
        )
        np.testing.assert_array_equal(records.weight, branches["mcEventWeight"][passed])

    @pytest.mark.parametrize(
        ("name", "make", "tree"),
        [
            ("jetclass", files.jetclass, "tree"),
            ("cms_like", files.cms_like, "Events"),
            ("atlas_like", files.atlas_like, "nominal"),
        ],
    )
    def test_the_cards_train_on_what_they_read(self, name, make, tree, rng, tmp_path):
        files.write_tree(tmp_path / "x.root", tree, make(rng, 5))
        contents, _ = convert_example(f"ntuple_{name}", tmp_path / "x.root")
        schema = Schema(streams=tuple(contents.streams.values()))
        assert build_model(load_card(EXAMPLES / f"ntuple_{name}.yaml"), schema)


def _check_particles(branches, records):
    """Against a plain loop over the particles of each jet."""
    for record in records:
        columns = {
            name: branches[f"part_{name}"][record.entry]
            for name in ("px", "py", "pz", "energy", "charge", "isPhoton", "isMuon", "d0val")
        }
        particles = sorted(
            zip(*(x.tolist() for x in columns.values()), strict=True),
            key=lambda p: -np.hypot(p[0], p[1]),
        )
        assert len(particles) == len(record.jet)
        for (px, py, pz, energy, charge, photon, muon, d0), token in zip(
            particles, record.jet, strict=True
        ):
            assert token.pt == pytest.approx(np.hypot(px, py), rel=1e-6)
            assert token.eta == pytest.approx(np.arcsinh(pz / np.hypot(px, py)), rel=1e-5, abs=1e-6)
            assert token.phi == pytest.approx(np.arctan2(py, px), abs=1e-6)
            assert token.energy == pytest.approx(energy)
            assert token.charge == charge
            assert (token.particle_class == 3) == photon
            assert (token.particle_class == 2) == muon
            assert token.d0 == (d0 if charge else 0)
        pt, eta, energy = (
            float(branches[f"jet_{name}"][record.entry]) for name in ("pt", "eta", "energy")
        )
        mass = np.sqrt(max(energy**2 - (pt * np.cosh(eta)) ** 2, 0))
        assert record.jet_axis.jet_mass == pytest.approx(mass, rel=1e-5)


class TestContainers:
    MAP: ClassVar = {
        "jets": {"pt": "1e-3 * jet_pt", "eta": "jet_eta", "phi": "jet_phi", "energy": "jet_e"},
        "fat": {"pt": "fat_jet1_pt", "mass": "fat_jet1_m"},
    }

    def test_all_give_the_same_records(self, rng, tmp_path):
        branches = files.atlas_like(rng, 40)
        results = {}
        for name, write in files.WRITERS.items():
            write(tmp_path / name, "events", branches)
            events = read(
                tmp_path / name,
                first=3,
                last=33,
                branches=self.MAP,
                weight="mcEventWeight",
                selection="fat_jet1_pt > 300e3",
                observables={"event": "eventNumber"},
            )
            results[name] = events.processes[THE_PROCESS].records
            np.testing.assert_array_equal(events.weight, branches["mcEventWeight"][3:33])
        first, *others = results.values()
        assert (
            first.entry.tolist()
            == (3 + np.flatnonzero(branches["fat_jet1_pt"][3:33] > 300e3)).tolist()
        )
        assert all(ak.array_equal(other, first) for other in others)

    @pytest.mark.parametrize("name", files.WRITERS)
    def test_batches_of_any_size_give_the_same(self, name, rng, tmp_path, monkeypatch):
        path = tmp_path / name
        files.WRITERS[name](path, "events", files.atlas_like(rng, 40))
        whole = only(path, branches=self.MAP)
        monkeypatch.setattr(ntuple_module, "_PROBE", 1)
        monkeypatch.setattr(ntuple_module, "_MAX_BATCH", 3)
        parts = only(path, branches=self.MAP)
        assert ak.array_equal(parts.records, whole.records)
        assert parts.bookkeeping == whole.bookkeeping

    def test_pieces_of_several_files_keep_their_entries(self, rng, tmp_path):
        for name in ("a.root", "b.root"):
            files.write_tree(tmp_path / name, "events", files.atlas_like(rng, 10))
        one = reader(branches=self.MAP)
        streams = one.look(str(tmp_path / "a.root")).streams
        pieces = [Piece(str(tmp_path / "a.root"), 8, None), Piece(str(tmp_path / "b.root"), 1, 3)]
        records = reading.read(one, pieces, streams).processes[THE_PROCESS].records
        assert records.entry.tolist() == [8, 9, 1, 2]
        assert one.entries(str(tmp_path / "a.root")) == 10

    def test_a_piece_without_events_gives_records_of_the_same_type(self, rng, tmp_path):
        for name, write in files.WRITERS.items():
            write(tmp_path / name, "events", files.atlas_like(rng, 10))
            whole = only(tmp_path / name, branches=self.MAP)
            none = read(tmp_path / name, first=4, last=4, branches=self.MAP)
            assert len(none.weight) == 0
            records = none.processes[THE_PROCESS].records
            assert ak.array_equal(ak.concatenate([records, whole.records]), whole.records)

    def test_parquet_lists_of_structs(self, tmp_path):
        jets = ak.zip({"pt": [[5.0, 9.0], [], [4.0]], "eta": [[1.0, 2.0], [], [3.0]]})
        table = {"jets": jets, "met": ak.zip({"pt": [1.0, 2.0, 3.0]}), "name": ["a", "b", "c"]}
        ak.to_parquet(ak.zip(table, depth_limit=1), tmp_path / "x.parquet")
        result = only(
            tmp_path / "x.parquet",
            branches={"jets": {"pt": "jets.pt", "eta": "jets.eta", "met": "met.pt"}},
        )
        assert result.records.jets.tolist() == [
            [{"pt": 9, "eta": 2, "met": 1}, {"pt": 5, "eta": 1, "met": 1}],
            [],
            [{"pt": 4, "eta": 3, "met": 3}],
        ]
        assert {name for name, _, _ in reader().look(str(tmp_path / "x.parquet")).rows} == {
            "jets.pt",
            "jets.eta",
            "met.pt",
            "name",
        }

    def test_parquet_nulls_are_named(self, tmp_path):
        ak.to_parquet(ak.Array({"x": [[1.0, 2.0], [3.0, None]]}), tmp_path / "x.parquet")
        with pytest.raises(DataError, match="branch 'x', entry 1: null"):
            only(tmp_path / "x.parquet", branches={"jet": {"pt": "x"}})

    def test_compound_datasets_with_a_mask(self, tmp_path):
        tracks = np.zeros((2, 3), dtype=[("pt", "f4"), ("d0", "f4"), ("valid", "?")])
        tracks["pt"] = [[1, 2, np.nan], [np.nan, np.nan, np.nan]]
        tracks["valid"] = [[True, True, False], [False] * 3]
        jets = np.array([(100.0, 5), (200.0, 0)], dtype=[("pt", "f8"), ("flavour", "i4")])
        with h5py.File(tmp_path / "x.h5", "w") as file:
            file["tracks"], file["jets"] = tracks, jets
        events = read(
            tmp_path / "x.h5",
            branches={"jet": {"pt": "tracks.pt", "d0": "tracks.d0", "jet_pt": "jets.pt"}},
            process={"signal": "jets.flavour == 5"},
        )
        (record,) = events.processes["signal"].records
        assert record.jet.pt.tolist() == [2, 1]
        assert record.jet_axis.jet_pt == 100

    def test_datasets_of_variable_length(self, tmp_path):
        with h5py.File(tmp_path / "x.h5", "w") as file:
            data = file.create_dataset("events/pt", (3,), h5py.vlen_dtype(np.float32))
            data[0], data[2] = [1, 2], [3]
            file["events/names"] = np.array([b"a", b"b", b"c"])
            file["meta/x"] = np.zeros(0)
        result = only(tmp_path / "x.h5", branches={"jet": {"pt": "pt"}})
        assert result.records.jet.pt.tolist() == [[2, 1], [], [3]]

    def test_a_dataset_of_another_length_is_named(self, tmp_path):
        with h5py.File(tmp_path / "x.h5", "w") as file:
            file["a"], file["b"], file["c"] = np.ones(5), np.ones(5), np.ones(3)
        with pytest.raises(DataError, match="dataset 'c' has 3 entries, where others have 5"):
            only(tmp_path / "x.h5", branches={"jet": {"pt": "a", "eta": "c"}})


#: Four-momenta of massive particles, in three events.
momenta = arrays.arrays(np.float64, (4, 6), elements=st.floats(0.5, 99, width=32))


class TestTokens:
    @given(momenta)
    @settings(max_examples=40)
    def test_cartesian_and_polar_momenta_give_the_same(self, values):
        px, py, pz, mass = values[0] - 50.1, values[1], values[2] - 49.9, values[3]
        energy = np.sqrt(px**2 + py**2 + pz**2 + mass**2)
        pt = np.hypot(px, py)
        eta, phi = np.arctanh(pz / np.hypot(pt, pz)), np.arctan2(py, px)
        cartesian = {"px": px, "py": py, "pz": pz, "energy": energy}
        polar = {"pt": pt, "eta": eta, "phi": phi, "energy": energy}
        streams = []
        for columns in (cartesian, polar):
            lists = {name: ak.unflatten(x, [2, 0, 4]) for name, x in columns.items()}
            axis = {f"jet_{name}": x[[0, 2, 5]] for name, x in columns.items()}
            streams.append(make_tokens({**lists, **axis}, 3))
        one, other = streams
        assert one.counts.tolist() == other.counts.tolist() == [2, 0, 4]
        assert set(one.columns) == {"pt", "eta", "phi", "energy"}
        assert set(one.axis) == {"jet_pt", "jet_eta", "jet_phi", "jet_mass"}
        for mine, theirs in ((one.columns, other.columns), (one.axis, other.axis)):
            for name in mine:
                np.testing.assert_allclose(mine[name], theirs[name], rtol=1e-7, atol=1e-6)
        np.testing.assert_allclose(one.axis["jet_mass"], mass[[0, 2, 5]], rtol=1e-7)

    @given(arrays.arrays(np.float32, 8, elements=st.floats(0, 50, width=16)))
    def test_tokens_fall_in_pt_and_those_of_no_pt_are_dropped(self, pt):
        counts = [3, 0, 5]
        number = np.arange(8.0)
        columns = {"pt": ak.unflatten(pt, counts), "number": ak.unflatten(number, counts)}
        stream = make_tokens(columns, 3)
        expected = [
            sorted((n for n in range(low, high) if pt[n] != 0), key=lambda n: -pt[n])
            for low, high in ((0, 3), (3, 3), (3, 8))
        ]
        assert ak.unflatten(stream.columns["number"], stream.counts).tolist() == expected

    def test_azimuths_are_wrapped(self, rng, tmp_path):
        phi = rng.uniform(0, 2 * np.pi, 20)
        files.write_parquet(tmp_path / "x", "t", {"phi": phi})
        events = read(tmp_path / "x", branches={"s": {"phi": "phi", "n": "phi", "jet_phi": "phi"}})
        records = events.processes[THE_PROCESS].records
        for wrapped in (records.s.phi[:, 0], records.s_axis.jet_phi):
            assert ak.all((wrapped > -np.pi) & (wrapped <= 3.1415928))
            np.testing.assert_allclose(np.cos(wrapped), np.cos(phi), atol=1e-6)
        np.testing.assert_allclose(records.s.n[:, 0], phi, rtol=1e-6)
        assert not events.notes

    def test_padding_without_a_pt_is_where_all_columns_are_zero(self, tmp_path):
        branches = {"a": np.array([[1.0, 0.0, 0.0]]), "b": np.array([[0.0, 2.0, 0.0]])}
        files.write_tree(tmp_path / "x.root", "t", branches)
        records = only(tmp_path / "x.root", branches={"s": {"a": "a", "b": "2 * b"}}).records
        assert records.s.tolist() == [[{"a": 1, "b": 0}, {"a": 0, "b": 4}]]
        lists = {"a": ak.Array([[1.0, 0.0, 0.0]])}
        files.write_tree(tmp_path / "y.root", "t", lists)
        records = only(tmp_path / "y.root", branches={"s": {"a": "a"}}).records
        assert records.s.a.tolist() == [[1, 0, 0]]

    def test_constants_and_numbers_are_repeated_on_each_token(self, tmp_path):
        branches = {"x": ak.Array([[1.0, 2.0], [3.0]]), "n": np.array([7.0, 8.0])}
        files.write_tree(tmp_path / "x.root", "t", branches)
        records = only(
            tmp_path / "x.root",
            branches={"s": {"x": "x", "n": "n", "c": "4"}, "one": {"n": "n"}, "c": {"c": "4"}},
        ).records
        assert records.s.n.tolist() == [[7, 7], [8]]
        assert records.s.c.tolist() == [[4, 4], [4]]
        assert records.one.n.tolist() == [[7], [8]]
        assert records.c.c.tolist() == [[4], [4]]

    def test_a_column_may_use_the_sum_of_other_lists(self, tmp_path):
        branches = {"x": ak.Array([[1.0, 2.0], [3.0]]), "y": ak.Array([[5.0], [1.0, 3.0]])}
        files.write_tree(tmp_path / "x.root", "t", branches)
        records = only(tmp_path / "x.root", branches={"s": {"z": "x * sum(y)"}}).records
        assert records.s.z.tolist() == [[5, 10], [12]]

    def test_events_with_an_empty_stream_are_counted(self, tmp_path):
        files.write_tree(tmp_path / "x.root", "t", {"x": ak.Array([[1.0], [], []])})
        events = read(tmp_path / "x.root", branches={"s": {"pt": "x"}})
        assert events.notes == {"events whose stream 's' is empty": 2}


class TestSentinels:
    JETS: ClassVar = {"pt": "pt", "eta": "eta"}

    def write(self, path, nothing=-999.0, **more):
        given = {
            "pt": ak.Array([[50.0, nothing, 20.0], [nothing], [30.0]]),
            "eta": ak.Array([[1.0, nothing, nothing], [nothing], [-2.0]]),
        }
        files.write_parquet(path / "x", "t", {**given, **more})
        return path / "x"

    def test_what_no_measurement_gives_is_noted(self, tmp_path):
        events = read(self.write(tmp_path), branches={"jets": self.JETS})
        what = "such as -999: what stands where there is nothing? A card names it under convert.missing"
        usual = "in the stream 'jets' are outside the usual"
        assert events.notes == {
            f"values of 'pt' {usual} 0 to 14000 GeV, {what}": 2,
            f"values of 'eta' {usual} -10 to 10, {what}": 3,
        }

    @pytest.mark.parametrize("nothing", [-999.0, -25.0, -99.9, np.nan])
    def test_a_missing_token_is_none_and_a_missing_value_0(self, nothing, tmp_path):
        missing = "nan" if np.isnan(nothing) else nothing
        path = self.write(tmp_path, nothing)
        events = read(path, branches={"jets": self.JETS}, missing=[-1, missing])
        records = events.processes[THE_PROCESS].records
        assert records.jets.pt.tolist() == [[50, 20], [], [30]]
        assert records.jets.eta.tolist() == [[1, 0], [], [-2]]
        assert events.notes == {"events whose stream 'jets' is empty": 1}

    def test_yaml_writes_not_a_number_in_two_ways(self):
        for nan in (float("nan"), "nan"):
            assert ConvertSettings.model_validate({"missing": nan}).missing == ("nan",)
        assert ConvertSettings.model_validate({"missing": -999}).missing == (-999,)

    def test_not_a_number_is_refused_with_what_to_do(self, tmp_path):
        path = self.write(tmp_path, np.nan)
        with pytest.raises(
            DataError, match=r"entry 0: branch 'pt' holds nan.*convert\.missing: nan"
        ):
            only(path, branches={"jets": self.JETS})

    def test_expressions_see_nothing_as_nothing(self, tmp_path):
        path = self.write(tmp_path, n=np.array([-999, 2, 3]))
        columns = {"pt": "1e-3 * pt", "share": "pt / sum(pt)", "n": "n + 1", "jet_pt": "n"}
        records = only(path, branches={"jets": columns}, missing=-999).records
        np.testing.assert_allclose(records.jets.pt[0], [0.05, 0.02])
        np.testing.assert_allclose(records.jets.share[0], [5 / 7, 2 / 7])
        assert records.jets.n.tolist() == [[0, 0], [], [4]]
        assert records.jets_axis.jet_pt.tolist() == [0, 2, 3]

    def test_without_pt_the_first_column_decides(self, tmp_path):
        path = self.write(tmp_path)
        records = only(path, branches={"s": {"eta": "eta", "x": "pt"}}, missing=-999).records
        assert records.s.tolist() == [[{"eta": 1, "x": 50}], [], [{"eta": -2, "x": 30}]]

    def test_jets_that_are_one_number_an_event(self, tmp_path):
        branches = {"j3_pt": np.array([40.0, -999.0]), "j3_phi": np.array([1.0, -999.0])}
        files.write_parquet(tmp_path / "x", "t", branches)
        given = {"branches": {"jet3": {"pt": "j3_pt", "phi": "j3_phi"}}}
        assert only(tmp_path / "x", **given, missing=-999).records.jet3.pt.tolist() == [[40], []]
        notes = " ".join(read(tmp_path / "x", **given).notes)
        assert (
            "'pt' in the stream 'jet3' are outside the usual 0 to 14000 GeV, such as -999" in notes
        )
        assert "'phi' in the stream 'jet3' are outside the usual -6.2832 to 6.2832 rad" in notes

    def test_batches_and_varied_values_give_one_note(self):
        schema = StreamSchema(name="s", columns=("energy",), axis=("jet_eta",))
        counts = np.array([2, 1])
        notes = sum(
            (
                range_notes(
                    schema,
                    PackedStream.of_columns(
                        schema, counts, {"energy": energy}, {"jet_eta": np.array([1, 2])}
                    ),
                )
                for energy in (np.array([1, -31.5123, -30.2456]), np.array([-29.1789, 1, -25.3123]))
            ),
            Counter(),
        )
        ((text, times),) = notes.items()
        assert (
            "'energy' in the stream 's' are outside the usual 0 to 14000 GeV, of about -30" in text
        )
        assert times == 4


class TestWideTables:
    MAP: ClassVar = {"px": "PX_*", "py": "PY_*", "pz": "PZ_*", "energy": "E_*"}

    @pytest.mark.parametrize(("first", "pad", "missing"), [(0, 1, 0), (1, 3, -1), (7, 1, -1)])
    @pytest.mark.parametrize("write", [files.write_parquet, files.write_tree])
    def test_numbered_branches_are_the_tokens(self, write, first, pad, missing, rng, tmp_path):
        counts = [3, 12, 0, 1]
        px, py, pz = rng.normal(0, 50, (3, 4, 12)) * (np.arange(12) < np.array(counts)[:, None])
        branches = files.wide(px, py, pz, first, pad)
        branches = {name: np.where(x == 0, missing, x) for name, x in branches.items()} | {
            "PX_other": np.ones(4)
        }
        write(tmp_path / "x", "t", branches)
        given = {"branches": {"jet": self.MAP}, "missing": missing}
        contents = reader(**given).look(str(tmp_path / "x"))
        assert contents.streams["jet"].columns == ("pt", "eta", "phi", "energy")
        last = f"{first + 11:0{pad}d}"
        assert contents.rows[0] == (
            "PX_*",
            f"12 branches, PX_{first:0{pad}d} to PX_{last}, double",
            "jet.px",
        )
        records = only(tmp_path / "x", **given).records
        assert ak.num(records.jet).tolist() == counts
        for event, n in enumerate(counts):
            pt = np.hypot(px, py)[event, :n]
            order = np.argsort(-pt)
            np.testing.assert_allclose(records.jet.pt[event], pt[order], rtol=1e-6)
            eta = np.arcsinh(pz[event, :n] / pt)[order]
            np.testing.assert_allclose(records.jet.eta[event], eta, rtol=1e-5)

    def test_columns_of_different_numbers_are_named(self, rng, tmp_path):
        branches = files.wide(*rng.normal(0, 50, (3, 2, 2)))
        del branches["PY_1"]
        files.write_parquet(tmp_path / "x", "t", branches)
        with pytest.raises(DataError, match=r"jet.px and convert.branches.jet.py .* 1 is of one"):
            only(tmp_path / "x", branches={"jet": self.MAP})
        with pytest.raises(
            DataError, match=r"no branches Q_0, Q_1, \.\.\., which .*jet.px: 'Q_\*'"
        ):
            only(tmp_path / "x", branches={"jet": {"px": "Q_*"}})

    def test_numbers_of_a_list_of_fixed_length(self, rng, tmp_path):
        """The layout of the LHC Olympics: pt, eta, phi of each particle in turn, and the label."""
        frame = rng.uniform(0, 3, (5, 13)) * ([1] * 9 + [0] * 4)
        frame[:, 12] = [1, 0, 0, 1, 0]
        with h5py.File(tmp_path / "x", "w") as file:
            file["df"] = frame
        given = {
            "branches": {"s": {"pt": "2 * df[0:12:3]", "eta": "df[1:12:3]", "phi": "df[2:12:3]"}},
            "process": {"signal": "df[12] == 1", "background": "df[12] == 0"},
            "observables": {"first": "df[0]"},
        }
        records = read(tmp_path / "x", **given).processes["signal"].records
        assert records.entry.tolist() == [0, 3]
        assert ak.num(records.s).tolist() == [3, 3]
        pt = -np.sort(-2 * frame[[0, 3], 0:9:3], axis=1)
        np.testing.assert_allclose(ak.to_numpy(records.s.pt), pt, rtol=1e-6)
        np.testing.assert_array_equal(records.observables["first"], frame[[0, 3], 0])
        with pytest.raises(DataError, match=r"'df\[13\]' is of lists of one fixed length"):
            only(tmp_path / "x", branches={"s": {"pt": "df[13]"}})
        files.write_parquet(tmp_path / "y", "t", {"df": ak.Array([[1.0], [2.0, 3.0]])})
        with pytest.raises(DataError, match=r"but 'df' is list of double; max\(\.\.\.\), min"):
            only(tmp_path / "y", branches={"s": {"pt": "df[0]"}})


class TestLayouts:
    """The ready cards on files of the layouts that they are for."""

    def test_energyflow(self, rng, tmp_path):
        particles = rng.uniform(0.1, 3, (4, 5, 4))
        particles[..., 2] *= 2
        particles[..., 3] = [22, 211, -211, 130, 11]
        particles[1, 3:] = 0
        np.savez(tmp_path / "x.npz", X=particles, y=np.array([0.0, 1.0, 0.0, 1.0]))
        contents, events = convert_example("ntuple_energyflow", tmp_path / "x.npz")
        assert contents.streams["constituents"].columns == (
            *("pt", "eta", "phi"),
            *("particle_class", "charge"),
        )
        quark, gluon = (events.processes[name].records for name in ("quark", "gluon"))
        assert (quark.entry.tolist(), gluon.entry.tolist()) == ([1, 3], [0, 2])
        assert ak.num(quark.constituents).tolist() == [3, 5]
        order = np.argsort(-particles[0, :, 0])
        first = gluon.constituents[0]
        np.testing.assert_allclose(first.eta, particles[0, order, 1], rtol=1e-6)
        assert first.charge.tolist() == np.array([0, 1, -1, 0, -1])[order].tolist()
        assert ak.all(abs(first.phi) < 3.1416)

    def test_jetnet(self, rng, tmp_path):
        features = rng.uniform(0.01, 0.2, (3, 30, 4))
        features[..., 3] = np.arange(30) < 20
        jets = np.array([[1000.0, 0.5, 90.0, 20.0]] * 3)
        with h5py.File(tmp_path / "x.hdf5", "w") as file:
            file["particle_features"], file["jet_features"] = features, jets
        _, events = convert_example("ntuple_jetnet", tmp_path / "x.hdf5")
        records = events.processes[THE_PROCESS].records
        assert ak.num(records.constituents).tolist() == [20] * 3
        hardest = features[:, :20, 2].argmax(axis=1)
        for column, index, scale in (("pt", 2, 1000), ("delta_eta", 0, 1), ("delta_phi", 1, 1)):
            expected = scale * features[range(3), hardest, index]
            np.testing.assert_allclose(records.constituents[column][:, 0], expected, rtol=1e-6)
        assert records.constituents_axis.jet_mass.tolist() == [90] * 3

    def test_spanet(self, rng, tmp_path):
        mask = np.array([[True, True, False], [True, False, False]])
        with h5py.File(tmp_path / "x.h5", "w") as file:
            file["INPUTS/Source/MASK"] = mask
            for name in ("pt", "eta", "phi", "mass", "btag"):
                file[f"INPUTS/Source/{name}"] = rng.uniform(0.1, 3, (2, 3))
            file["INPUTS/Met/met"], file["INPUTS/Met/phi"] = np.array([[50.0, 60.0], [1.0, 2.0]])
            file["TARGETS/t1/q1"] = np.zeros(2, int)
            file["CLASSIFICATIONS/EVENT/signal"] = np.array([0, 1])
        _, events = convert_example("ntuple_spanet", tmp_path / "x.h5")
        for process, jets, met in (("background", 2, 50), ("signal", 1, 60)):
            (record,) = events.processes[process].records
            assert (len(record.jets), record.missing.pt.tolist()) == (jets, [met])

    def test_lhc_olympics(self, rng, tmp_path):
        frame = rng.uniform(0.1, 3, (3, 2101))
        frame[:, 300:] = 0
        frame[1, 2100] = 1
        with h5py.File(tmp_path / "x.h5", "w") as file:
            for name, values in (
                ("axis0", np.arange(2101)),
                ("axis1", np.arange(3)),
                ("block0_items", np.arange(2101)),
                ("block0_values", frame),
            ):
                file[f"df/{name}"] = values
        contents, events = convert_example("ntuple_lhc_olympics", tmp_path / "x.h5")
        assert contents.entries == 3
        (record,) = events.processes["resonance"].records
        assert (record.entry, len(record.constituents)) == (1, 100)
        order = np.argsort(-frame[1, 0:300:3])
        for offset, column in enumerate(("pt", "eta", "phi")):
            expected = frame[1, offset:300:3][order]
            np.testing.assert_allclose(record.constituents[column], expected, rtol=1e-6)


class TestConventions:
    def write(self, path, **branches):
        files.write_parquet(path / "x", "t", branches)
        return path / "x"

    def test_mev(self, tmp_path):
        path = self.write(tmp_path, pt=np.array([5e4, 2e3]), eta=np.array([1.0, 2.0]))
        columns = {"pt": "pt", "eta": "eta", "mass": "pt / 5", "jet_energy": "4 * pt"}
        columns |= {"jet_pt": "pt", "jet_eta": "eta"}
        mev = only(path, branches={"s": columns}, units="MeV", selection="pt > 3e3").records
        ((token,),) = mev.s.tolist()
        assert token == {"pt": 50, "eta": 1, "mass": 10}
        assert mev.s_axis.jet_pt.tolist() == [50]
        mass = np.sqrt(200**2 - (50 * np.cosh(1)) ** 2)
        np.testing.assert_allclose(mev.s_axis.jet_mass, mass, rtol=1e-6)

    def test_rapidity(self, tmp_path):
        pt, eta, mass = np.array([3.0, 40.0]), np.array([-1.2, 2.5]), np.array([0.5, 91.0])
        pz = pt * np.sinh(eta)
        energy = np.sqrt(pt**2 + pz**2 + mass**2)
        path = self.write(tmp_path, pt=pt, y=np.arctanh(pz / energy), m=mass, e=energy)
        for column, branch in (("mass", "m"), ("energy", "e")):
            given = {"s": {"pt": "pt", "rapidity": "y", column: branch}}
            records = only(path, branches=given).records
            assert records.s.fields == ["pt", "eta", column]
            np.testing.assert_allclose(records.s.eta[:, 0], eta, rtol=1e-6)
        # Without a mass it is none, and beside an eta a number like any other.
        records = only(path, branches={"s": {"pt": "pt", "y": "y"}}).records
        np.testing.assert_allclose(records.s.eta[:, 0], np.arctanh(pz / energy), rtol=1e-6)
        records = only(path, branches={"s": {"pt": "pt", "eta": "y", "rapidity": "y"}}).records
        assert records.s.fields == ["pt", "eta", "rapidity"]

    def test_particle_codes(self, tmp_path):
        codes = [211.0, -211.0, 11.0, -13.0, 22.0, 130.0, 2112.0, -2212.0]
        path = self.write(tmp_path, pt=ak.Array([np.arange(9.0, 1, -1)]), id=ak.Array([codes]))
        (tokens,) = only(path, branches={"s": {"pt": "pt", "pdg_id": "id"}}).records.s
        assert tokens.fields == ["pt", "particle_class", "charge"]
        assert tokens.particle_class.tolist() == [0, 0, 1, 2, 3, 4, 4, 0]
        assert tokens.charge.tolist() == [1, -1, -1, 1, 0, 0, 0, -1]


class TestText:
    def write(self, path):
        branches = {"label": np.array(["s", "b", "b"]), "x": np.array([1.0, 2.0, 3.0])}
        files.write_tree(path / "x", "t", branches)
        return path / "x"

    def test_labels_may_be_text(self, tmp_path):
        path = self.write(tmp_path)
        given = {"branches": {"s": {"x": "x"}}}
        process = {"signal": 'label == "s"', "background": "x > 2 & label != 's'"}
        events = read(path, **given, process=process)
        entries = {name: one.records.entry.tolist() for name, one in events.processes.items()}
        assert entries == {"signal": [0], "background": [2]}
        with pytest.raises(DataError, match="'x == \"s\"': a branch of numbers is compared"):
            only(path, **given, selection='x == "s"')
        column = {"s": {"x": "x", "is_s": 'label == "s"'}}
        records = only(path, branches=column, missing=3).records
        assert records.s.is_s.tolist() == [[1], [0], []]
        with pytest.raises(DataError, match=r"observables\.l: 'label': a branch of text is only"):
            read(path, **given, process=process, observables={"l": "label"})
        with pytest.raises(DataError, match=r"'label' .* holds .* compared in quotes"):
            only(path, **given, selection="label == 1")


class TestWeights:
    def write(self, tmp_path, **branches):
        files.write_tree(tmp_path / "x.root", "t", {"x": np.ones(2), **branches})
        return tmp_path / "x.root"

    def test_default_is_one_with_a_remark(self, tmp_path):
        path = self.write(tmp_path)
        assert read(path, branches={"s": {"x": "x"}}).weight.tolist() == [1, 1]
        (remark,) = reader(branches={"s": {"x": "x"}}).look(str(path)).remarks
        assert "convert.weight" in remark

    def test_single_variations(self, tmp_path):
        path = self.write(tmp_path, up=np.array([2.0, 3.0]))
        records = only(path, branches={"s": {"x": "x"}}, variations=["up"]).records
        assert records.up.tolist() == [2, 3]

    def test_variations_are_there_where_the_first_events_all_fail(self, tmp_path, monkeypatch):
        path = self.write(tmp_path, up=np.array([[1.0, 3.0], [2.0, 4.0]]), pick=np.array([0, 1]))
        monkeypatch.setattr(ntuple_module, "_PROBE", 1)
        monkeypatch.setattr(ntuple_module, "_MAX_BATCH", 1)
        given = {"branches": {"s": {"x": "x"}}, "variations": ["up"]}
        (record,) = only(path, selection="pick", **given).records
        assert (record.up_0, record.up_1) == (2, 4)
        nothing = only(path, selection="pick > 1", **given)
        assert {"up_0", "up_1", "s"} < set(ak.fields(nothing.records))
        assert [step.events for step in nothing.bookkeeping.cutflow] == [2, 0]

    def test_variations_that_are_not_finite_are_named(self, tmp_path):
        path = self.write(tmp_path, up=np.array([[1.0, 3.0], [2.0, np.inf]]))
        with pytest.raises(DataError, match="entry 1: branch 'up_1' holds inf"):
            only(path, branches={"s": {"x": "x"}}, variations=["up"])

    def test_variations_of_changing_number_are_refused(self, tmp_path):
        path = self.write(tmp_path, up=ak.Array([[2.0, 3.0], [1.0]]))
        with pytest.raises(
            DataError, match="entry 1: 'up' has 1 weights, where other events have 2"
        ):
            only(path, branches={"s": {"x": "x"}}, variations=["up"])

    def test_two_variations_of_one_name_are_refused(self, tmp_path):
        path = self.write(tmp_path, up=np.array([[2.0, 3.0]] * 2), up_1=np.ones(2))
        with pytest.raises(DataError, match=r"two of convert\.variations make a .* 'up_1'"):
            only(path, branches={"s": {"x": "x"}}, variations=["up", "up_1"])
        for names in (["up", "up"], ["w.up", "w_up"]):
            with pytest.raises(
                ValidationError, match=r"two of them make a weight of the name '(w_)?u"
            ):
                reader(variations=names)

    def test_a_variation_with_a_line_break_is_refused(self):
        with pytest.raises(ValidationError, match=r"'up\\n' has a line break"):
            reader(variations=["up\n"])

    def test_a_variation_is_a_branch(self, tmp_path):
        path = self.write(tmp_path)
        with pytest.raises(CardError, match=r"convert.variations: '2 \* x' is no name"):
            only(path, branches={"s": {"x": "x"}}, variations=["2 * x"])

    def test_weights_that_are_not_finite_are_named(self, tmp_path):
        path = self.write(tmp_path, w=np.array([1.0, np.nan]))
        with pytest.raises(DataError, match=r"x\.root, tree 't', entry 1: branch 'w' holds nan"):
            read(path, branches={"s": {"x": "x"}}, weight="w")


class TestErrors:
    MAP: ClassVar = {"s": {"pt": "pt", "eta": "eta"}}

    def write(self, path, **branches):
        given = {"pt": ak.Array([[1.0], [2.0, 3.0]]), "eta": ak.Array([[1.0], [2.0, 3.0]])}
        files.write_tree(path, "t", {**given, **branches})
        return path

    def test_a_missing_branch_names_key_and_what_is_close(self, tmp_path):
        path = self.write(tmp_path / "x.root")
        with pytest.raises(
            DataError, match=r"x\.root, tree 't'.*'etta'.*convert.branches.s.eta.*eta"
        ):
            reader(branches={"s": {"pt": "pt", "eta": "etta"}}).look(str(path))

    def test_lists_of_different_lengths_name_both_and_the_entry(self, tmp_path):
        path = self.write(tmp_path / "x.root", eta=ak.Array([[1.0], [2.0]]))
        for eta in ("eta", "eta + pt"):
            with pytest.raises(
                DataError,
                match=r"x\.root, tree 't', entry 1: .*stream 's'.*'(pt|eta)' \d, '(pt|eta)' \d",
            ):
                only(path, branches={"s": {"pt": "pt", "eta": eta}})

    def test_what_is_not_finite_names_the_expression_and_the_entry(self, tmp_path):
        path = self.write(tmp_path / "x.root")
        with pytest.raises(DataError, match=r"entry 1: branch 'log\(pt - 2\)' holds -inf"):
            read(path, first=1, branches={"s": {"pt": "pt", "eta": "log(pt - 2)"}})

    def test_events_that_do_not_pass_may_hold_anything(self, tmp_path):
        path = self.write(tmp_path / "x.root", eta=ak.Array([[np.nan], [2.0, 3.0]]))
        assert only(path, branches=self.MAP, selection="max(pt) > 1").records.entry.tolist() == [1]

    def test_too_large_for_single_precision(self, tmp_path):
        path = self.write(tmp_path / "x.root")
        with pytest.raises(DataError, match=r"branch '1e40 \* pt' holds inf"):
            only(path, branches={"s": {"pt": "1e40 * pt"}})

    def test_an_event_of_two_processes_is_named(self, tmp_path):
        path = self.write(tmp_path / "x.root")
        process = {"signal": "max(pt) > 2", "background": "max(pt) > 0"}
        with pytest.raises(
            DataError, match="entry 1: the event is of the processes signal and backgr"
        ):
            read(path, branches=self.MAP, process=process)

    def test_an_axis_is_no_list(self, tmp_path):
        path = self.write(tmp_path / "x.root")
        with pytest.raises(DataError, match=r"convert\.branches\.s: the column 'jet_pt' .* a list"):
            reader(branches={"s": {"pt": "pt", "jet_pt": "pt"}}).look(str(path))

    def test_a_stream_needs_tokens(self, tmp_path):
        path = self.write(tmp_path / "x.root")
        with pytest.raises(DataError, match="only the jet's axis"):
            reader(branches={"s": {"jet_pt": "max(pt)"}}).look(str(path))

    def test_what_holds_no_numbers(self, tmp_path):
        with uproot.recreate(tmp_path / "x.root") as file:
            file.mktree("t", {"pt": np.ones(2), "name": np.array(["a", "b"])})
        with pytest.raises(DataError, match=r"'name' .* holds neither a number nor a list"):
            reader(branches={"s": {"pt": "name"}}).look(str(tmp_path / "x.root"))

    def test_selection_by_a_list(self, tmp_path):
        path = self.write(tmp_path / "x.root")
        with pytest.raises(DataError, match=r"tree 't': convert.selection: 'pt > 1' gives a"):
            only(path, branches=self.MAP, selection="pt > 1")

    def test_trees(self, tmp_path):
        with uproot.recreate(tmp_path / "x.root") as file:
            file.mktree("nominal", {"x": np.ones(2)})
            file.mktree("empty", {"x": np.ones(0)})
            file.mktree("dir/up", {"x": np.ones(3)})
            file["other"] = np.histogram([1.0])
        path = tmp_path / "x.root"
        with pytest.raises(DataError, match=r"convert\.tree, of nominal \(2 entries\)"):
            reader().look(str(path))
        with pytest.raises(DataError, match="has no tree 'nominl'; it has nominal"):
            reader(tree="nominl").look(str(path))
        assert reader(tree="dir/up").look(str(path)).entries == 3
        self.write(tmp_path / "one.root")
        assert reader().look(str(tmp_path / "one.root")).title == "ntuple, tree 't'"
        with uproot.recreate(tmp_path / "none.root") as file:
            file["other"] = np.histogram([1.0])
        with pytest.raises(DataError, match="has no tree"):
            reader().look(str(tmp_path / "none.root"))

    def test_the_only_tree_with_entries_is_taken(self, tmp_path):
        with uproot.recreate(tmp_path / "x.root") as file:
            file.mktree("empty", {"x": np.ones(0)})
            file.mktree("full", {"x": np.ones(4)})
        assert reader().look(str(tmp_path / "x.root")).entries == 4

    @pytest.mark.parametrize("name", files.WRITERS)
    def test_files_cut_short(self, name, rng, tmp_path):
        path = tmp_path / name
        files.WRITERS[name](path, "events", files.atlas_like(rng, 500))
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
        with pytest.raises(DataError, match=f"{name}.* (cut short|damaged)"):
            only(path, branches={"jets": {"pt": "jet_pt"}})

    @pytest.mark.parametrize("name", ["missing.root", "empty.root", "text.txt"])
    def test_what_is_no_ntuple(self, name, tmp_path):
        (tmp_path / "empty.root").write_bytes(b"")
        (tmp_path / "text.txt").write_text("pt eta phi\n")
        with pytest.raises(DataError, match=name):
            reader().look(str(tmp_path / name))

    def test_without_a_map_there_is_nothing_to_read(self, tmp_path):
        path = self.write(tmp_path / "x.root")
        with pytest.raises(CardError, match=r"convert\.branches"):
            next(reader().read(Piece(str(path), 0, None), {}, 1))


class TestLook:
    def test_branches_are_listed_with_types_and_uses(self, tmp_path):
        branches = {f"b{n}": np.ones(2) for n in range(100)}
        files.write_tree(tmp_path / "x.root", "t", branches)
        contents = reader().look(str(tmp_path / "x.root"))
        assert contents.streams == {}
        assert len(contents.rows) == 61
        assert contents.rows[0] == ("b0", "double", "")
        assert contents.rows[-1] == ("...", "40 more branches", "")
        assert "convert.branches" in contents.remarks[0]
        contents = reader(branches={"s": {"pt": "b98 + b99"}}, weight="b98").look(
            str(tmp_path / "x.root")
        )
        assert contents.rows[0] == ("b98", "double", "s.pt, weight")

    def test_a_reader_goes_to_workers(self):
        one = reader(branches={"s": {"pt": "x"}}, selection="x > 1")
        assert pickle.loads(pickle.dumps(one)) == one  # noqa: S301 - made here
        assert one.step > 0


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.float32()), pa.large_list(pa.float32()), pa.list_(pa.float32(), 2)]
)
@pytest.mark.parametrize("rows", [0, 3])
def test_parquet_as_arrow_writes_it(tmp_path, kind, rows):
    pt = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]][:rows]
    table = pa.table(
        {"pt": pa.array(pt, kind), "w": pa.array([0.5, 1.0, 1.5][:rows], pa.float64())}
    )
    path = tmp_path / "a.parquet"
    pq.write_table(table, path)
    one = NtupleReader(
        ConvertSettings.model_validate({"branches": {"s": {"pt": "pt"}}, "weight": "w"})
    )
    if not rows:
        with pytest.raises(NoEventsError):
            one.look(str(path))
        return
    found = reading.read(one, [Piece(str(path), 0, None)], one.look(str(path)).streams)
    records = found.processes[THE_PROCESS].records
    assert records["s"]["pt"].tolist() == [pt[::-1] for pt in pt]
    assert found.weight.tolist() == [0.5, 1.0, 1.5]


def test_hdf5_of_the_other_byte_order(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["pt"] = np.array([[2.0, 1.0], [3.0, 0.0]], ">f4")
        file["jets"] = np.array([(1,), (2,)], [("n", ">i8")])
    found = read(path, branches={"s": {"pt": "pt"}}, observables={"n": "jets.n"})
    records = found.processes[THE_PROCESS].records
    assert records["s"]["pt"].tolist() == [[2.0, 1.0], [3.0]]
    assert records["observables"]["n"].tolist() == [1, 2]
