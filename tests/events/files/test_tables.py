"""Tables of every format, read branch by branch, in the layouts that the field's files have."""

import gzip
import pickle
from types import SimpleNamespace

import awkward as ak
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uproot

from helpers import ntuple_files as files
from helpers.pandas_files import write_fixed, write_table
from manyscale.errors import DataError
from manyscale.events.files import tables
from manyscale.events.files.formats import recognise
from manyscale.events.files.tables import open_ntuple, table_names


def types(path, tree=None):
    """Branches with their types."""
    with open_ntuple(str(path), tree) as table:
        return {name: table.type_of(name) for name in table.names}


def read(path, *names, tree=None, first=0, last=None, size=2):
    """Branches as lists, put together from batches of two entries."""
    with open_ntuple(str(path), tree) as table:
        last = table.entries if last is None else last
        batches = list(table.read(names, first, last, size))
    assert all(len(values) <= size for batch in batches for values in batch.values())
    return {name: [x for batch in batches for x in batch[name].tolist()] for name in names}


def entries(path, tree=None):
    with open_ntuple(str(path), tree) as table:
        return table.entries


@pytest.fixture
def rng():
    return np.random.default_rng(3)


class TestPandas:
    def test_lhc_olympics(self, rng, tmp_path):
        values = rng.normal(size=(1000, 2101))
        write_fixed(tmp_path / "a.h5", "df", [(list(range(2101)), values)])
        assert entries(tmp_path / "a.h5") == 1000
        assert types(tmp_path / "a.h5") == {"df": "2101 float64"}
        got = read(tmp_path / "a.h5", "df", first=3, last=8, size=3)["df"]
        np.testing.assert_array_equal(got, values[3:8])

    def test_named_columns_of_several_types(self, rng, tmp_path):
        blocks = [
            (["pxj1", "mj1"], rng.normal(size=(5, 2))),
            (["label"], np.array([[0], [1], [0], [1], [1]])),
        ]
        write_fixed(tmp_path / "a.h5", "df", blocks, pickled=[["name"]])
        found = types(tmp_path / "a.h5")
        assert list(found) == ["pxj1", "mj1", "label", "name"]
        assert found["label"] == "int64"
        got = read(tmp_path / "a.h5", "mj1", "label")
        assert got == {"mj1": blocks[0][1][:, 1].tolist(), "label": [0, 1, 0, 1, 1]}
        with pytest.raises(DataError, match=r"'name' \(pickled Python objects.*never opened"):
            read(tmp_path / "a.h5", "name")

    def test_top_tagging(self, rng, tmp_path):
        momenta = rng.normal(size=(5, 4)).astype(np.float32)
        blocks = [
            (["E_0", "PX_0", "E_1", "PX_1"], momenta),
            (["ttv", "is_signal_new"], np.array([[0, 1]] * 5)),
        ]
        write_table(tmp_path / "a.h5", "table", blocks, weight=np.arange(5.0))
        found = types(tmp_path / "a.h5")
        assert found == {
            "weight": "float64",
            **dict.fromkeys(blocks[0][0], "float32"),
            **dict.fromkeys(blocks[1][0], "int64"),
        }
        got = read(tmp_path / "a.h5", "PX_1", "is_signal_new", "weight", first=1, last=4)
        assert got["PX_1"] == momenta[1:4, 3].tolist()
        assert got["is_signal_new"] == [1, 1, 1]
        assert got["weight"] == [1, 2, 3]
        assert entries(tmp_path / "a.h5") == 5

    def test_a_table_without_names_is_one_list(self, tmp_path):
        write_table(tmp_path / "a.h5", "df", [([0, 1, 2], np.ones((4, 3)))])
        assert types(tmp_path / "a.h5") == {"df": "3 float64"}
        assert read(tmp_path / "a.h5", "df")["df"] == [[1, 1, 1]] * 4

    def test_nothing_is_unpickled(self, tmp_path):
        class Trap:
            def __reduce__(self):
                return (pytest.fail, ("unpickled",))

        trap = pickle.dumps([Trap()], 0)
        write_table(tmp_path / "a.h5", "df", [(["x"], np.ones((4, 1)))], pickler=trap)
        with pytest.raises(DataError, match=r"'values_block_0' .*names are pickled"):
            read(tmp_path / "a.h5", "values_block_0")

    def test_an_empty_frame(self, tmp_path):
        write_fixed(tmp_path / "a.h5", "df", [(["x"], np.ones((1, 1)))])
        with h5py.File(tmp_path / "a.h5", "a") as file:  # one row stands for none
            file["df/axis1"].attrs["shape"] = np.bytes_(b"(I0\ntp0\n.")
        assert entries(tmp_path / "a.h5") == 0

    def test_frames_of_as_many_rows_are_one_table(self, tmp_path):
        for key in ("X", "y"):
            write_fixed(tmp_path / "a.h5", key, [([f"of_{key}"], np.ones((3, 1)))])
        assert list(types(tmp_path / "a.h5")) == ["X.of_X", "y.of_y"]


class TestHdf5:
    def test_jetnet(self, rng, tmp_path):
        particles = rng.normal(size=(5, 3, 4)).astype(np.float32)
        with h5py.File(tmp_path / "g.hdf5", "w") as file:
            file["particle_features"], file["jet_features"] = particles, np.ones((5, 4))
        assert types(tmp_path / "g.hdf5") == {
            "jet_features": "4 float64",
            **{f"particle_features.f{i}": "3 float32" for i in range(4)},
        }
        got = read(tmp_path / "g.hdf5", "particle_features.f2", first=1)
        assert got["particle_features.f2"] == particles[1:, :, 2].tolist()

    def test_an_attribute_names_the_columns(self, tmp_path):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["jets"] = np.arange(12).reshape(2, 3, 2)
            file["jets"].attrs["columns"] = ["pt", "eta"]
            file["event"] = np.ones((2, 2))
            file["event"].attrs["names"] = np.array([b"met", b"ht"])
        assert list(types(tmp_path / "a.h5")) == ["event.met", "event.ht", "jets.pt", "jets.eta"]
        assert read(tmp_path / "a.h5", "jets.eta")["jets.eta"] == [[1, 3, 5], [7, 9, 11]]

    def test_spanet(self, tmp_path):
        pt, mask = np.arange(6.0).reshape(2, 3), np.array([[True, True, False]] * 2)
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["INPUTS/Source/pt"], file["INPUTS/Source/MASK"] = pt, mask
            file["INPUTS/Event/met"] = np.ones(2)
            file["TARGETS/t1/b"] = np.array([0, -1])
            file["CLASSIFICATIONS/EVENT/signal"] = np.array([1, 0])
        names = ["CLASSIFICATIONS.EVENT.signal", "INPUTS.Event.met", "INPUTS.Source.MASK"]
        assert list(types(tmp_path / "a.h5")) == [*names, "INPUTS.Source.pt", "TARGETS.t1.b"]
        got = read(tmp_path / "a.h5", "INPUTS.Source.pt", "CLASSIFICATIONS.EVENT.signal")
        assert got["INPUTS.Source.pt"] == pt.tolist()
        assert got["CLASSIFICATIONS.EVENT.signal"] == [1, 0]
        assert list(types(tmp_path / "a.h5", "INPUTS")) == [
            "Event.met", "Source.MASK", "Source.pt",
        ]  # fmt: skip

    def test_groups_of_other_lengths(self, tmp_path):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["train/x"], file["test/x"], file["version"] = np.ones(5), np.ones(3), 3
        with pytest.raises(DataError, match=r"convert.tree, of test \(3 entries\), train \(5"):
            types(tmp_path / "a.h5")
        assert table_names(str(tmp_path / "a.h5")) == ["test", "train"]
        assert read(tmp_path / "a.h5", "x", tree="/train")["x"] == [1] * 5
        with pytest.raises(DataError, match="has no group of datasets 'trian'; it has test"):
            types(tmp_path / "a.h5", "trian")

    def test_strings_and_what_cannot_be_read(self, tmp_path):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["any"] = np.array(["s", "b", "ä"], h5py.string_dtype())
            file["fixed"] = np.array([b"sig", b"b", b"b"])
            file["image"] = np.ones((3, 2, 2, 1))
            file["rows"] = np.array([(1, b"s"), (2, b"b"), (3, b"")], [("n", "i4"), ("s", "S3")])
        got = read(tmp_path / "a.h5", "any", "fixed", "rows.s")
        assert got == {"any": ["s", "b", "ä"], "fixed": ["sig", "b", "b"], "rows.s": ["s", "b", ""]}
        with open_ntuple(str(tmp_path / "a.h5"), None) as table:
            (batch,) = table.read(["any", "fixed"], 0, 3, 3)
        assert (batch["any"] == "s").tolist() == [True, False, False]
        assert (batch["fixed"] == "b").tolist() == [False, True, True]
        assert types(tmp_path / "a.h5")["any"] == "string"
        with pytest.raises(
            DataError, match=r"a.h5, group '/': the branch 'image' \(2 x 2 x 1 float"
        ):
            read(tmp_path / "a.h5", "image")

    def test_batches_keep_to_the_memory(self, tmp_path, monkeypatch):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["x"] = np.arange(80.0).reshape(20, 2, 2)
        monkeypatch.setattr(tables, "_BLOCK", 100)
        with open_ntuple(str(tmp_path / "a.h5"), None) as table:
            sizes = [len(batch["x.f0"]) for batch in table.read(["x.f0"], 0, 20, 20)]
        assert sizes == [3] * 6 + [2]


class TestNpz:
    @pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
    @pytest.mark.parametrize("order", ["C", "F"])
    def test_energyflow(self, save, order, rng, tmp_path):
        particles = np.asarray(rng.normal(size=(7, 3, 4)), order=order)
        save(tmp_path / "qg.npz", X=particles, y=np.arange(7.0), version=3)
        assert types(tmp_path / "qg.npz") == {
            **{f"X.f{i}": "3 float64" for i in range(4)},
            "y": "float64",
        }
        got = read(tmp_path / "qg.npz", "X.f3", "y", first=2, last=7)
        assert got == {"X.f3": particles[2:, :, 3].tolist(), "y": [2, 3, 4, 5, 6]}

    def test_objects_are_not_opened(self, tmp_path):
        np.savez(tmp_path / "a.npz", x=np.ones(2), o=np.array([{}, {}], object))
        assert read(tmp_path / "a.npz", "x") == {"x": [1, 1]}
        with pytest.raises(DataError, match=r"'o' .*pickled Python objects"):
            read(tmp_path / "a.npz", "o")

    def test_cut_short(self, tmp_path):
        np.savez(tmp_path / "a.npz", x=np.ones(200))
        content = (tmp_path / "a.npz").read_bytes()
        (tmp_path / "a.npz").write_bytes(content[:900])
        with pytest.raises(DataError, match=r"a\.npz cannot be read as a npz file; it may be cut"):
            types(tmp_path / "a.npz")


class TestCsv:
    def test_a_header_names_the_columns(self, tmp_path):
        text = "pt,eta,label\n" + "".join(f"{x},{x / 2},s{x}\n" for x in range(5))
        (tmp_path / "a.csv").write_text(text)
        assert types(tmp_path / "a.csv") == {"pt": "int64", "eta": "double", "label": "string"}
        got = read(tmp_path / "a.csv", "eta", "label", first=1, last=4)
        assert got == {"eta": [0.5, 1, 1.5], "label": ["s1", "s2", "s3"]}

    @pytest.mark.parametrize("delimiter", [",", ";", "\t"])
    def test_without_a_header_they_are_numbered(self, delimiter, tmp_path):
        (tmp_path / "a.txt").write_text("1,0.5\n0,nan\n".replace(",", delimiter))
        found = read(tmp_path / "a.txt", "f0", "f1")
        assert found["f0"] == [1, 0]
        assert found["f1"][0] == 0.5
        assert np.isnan(found["f1"][1])

    def test_packed_and_with_comment_signs_before_the_names(self, tmp_path):
        (tmp_path / "a.csv").write_bytes(gzip.compress(b"# pt, eta\n1,2\n3,4\n"))
        assert recognise(str(tmp_path / "a.csv")) == "CSV"
        assert read(tmp_path / "a.csv", "eta") == {"eta": [2, 4]}

    def test_what_is_missing_or_no_row_is_named(self, tmp_path):
        (tmp_path / "a.csv").write_text("a,b\n1,2\n3,\n")
        with pytest.raises(DataError, match=r"a\.csv, branch 'b', entry 1: null"):
            read(tmp_path / "a.csv", "b")
        (tmp_path / "b.csv").write_text("a,b\n1,2\n3\n")
        with pytest.raises(DataError, match=r"b\.csv .*Expected 2 columns"):
            types(tmp_path / "b.csv")

    def test_other_text_is_none(self, tmp_path):
        (tmp_path / "a.txt").write_text("Dear all,\nhere they are\n")
        with pytest.raises(DataError, match=r"no format that is known here: .*CSV"):
            recognise(str(tmp_path / "a.txt"))


class TestParquet:
    def write(self, path, **columns):
        pq.write_table(pa.table(columns), path, row_group_size=2)
        return path

    def test_half_precision(self, tmp_path):
        half = pa.array(np.array([1, 2, 3], np.float16))
        lists = pa.array([[np.float16(1)], [], [np.float16(2.5)]], pa.list_(pa.float16()))
        path = self.write(tmp_path / "a.parquet", x=half, pt=lists)
        assert read(path, "x", "pt") == {"x": [1, 2, 3], "pt": [[1], [], [2.5]]}

    def test_extension_arrays_of_awkward(self, tmp_path):
        events = [{"w": 1.0, "s": "x", "jets": [{"pt": 1.5}]}, {"w": 2.0, "s": "yy", "jets": []}]
        table = ak.to_arrow_table(ak.Array(events), extensionarray=True)
        pq.write_table(table, tmp_path / "a.parquet")
        got = read(tmp_path / "a.parquet", "w", "s", "jets.pt")
        assert got == {"w": [1, 2], "s": ["x", "yy"], "jets.pt": [[1.5], []]}

    def test_strings_plain_and_as_a_dictionary(self, tmp_path):
        plain = pa.array(["s", "b", "s", "b", ""])
        path = self.write(tmp_path / "a.parquet", plain=plain, coded=plain.dictionary_encode())
        assert types(path) == {"plain": "string", "coded": "string"}
        got = read(path, "plain", "coded", first=1)
        assert got == {"plain": ["b", "s", "b", ""], "coded": ["b", "s", "b", ""]}

    @pytest.mark.parametrize(
        ("values", "entry"), [([[1], None, [2]], 1), ([[], [1], [2, None]], 2)]
    )
    def test_nulls_are_named(self, values, entry, tmp_path):
        path = self.write(tmp_path / "a.parquet", x=values)
        with pytest.raises(DataError, match=f"branch 'x', entry {entry}: null"):
            read(path, "x")

    def test_names_with_dots_line_breaks_or_twice(self, tmp_path):
        arrays = [pa.array([x]) for x in range(4)]
        table = pa.Table.from_arrays(arrays, ["a.b", "c\nd", "e", "e"])
        pq.write_table(table, tmp_path / "a.parquet")
        assert list(types(tmp_path / "a.parquet")) == ["a.b", "c d", "e"]
        assert read(tmp_path / "a.parquet", "a.b", "c d") == {"a.b": [0], "c d": [1]}
        with pytest.raises(DataError, match=r"'e' \(several branches have this name\)"):
            read(tmp_path / "a.parquet", "e")

    def test_what_holds_neither_numbers_nor_strings(self, tmp_path):
        path = self.write(
            tmp_path / "a.parquet", m=pa.array([[("a", 1)]], pa.map_("string", "int8"))
        )
        with pytest.raises(DataError, match=r"a.parquet: the branch 'm.key' \(map\)"):
            read(path, "m.key")


class TestRoot:
    def test_strings_and_line_breaks(self, tmp_path):
        for write, name in ((files.write_tree, "t.root"), (files.write_rntuple, "r.root")):
            write(tmp_path / name, "t", {"label": np.array(["s", "b"]), "w\nup": np.ones(2)})
            assert read(tmp_path / name, "label", "w up") == {"label": ["s", "b"], "w up": [1, 1]}

    def test_branches_of_one_name(self, tmp_path, monkeypatch):
        files.write_tree(
            tmp_path / "a.root", "t", {"x": np.ones(2), "y": np.zeros(2), "z": np.ones(2)}
        )
        with uproot.open(tmp_path / "a.root") as file:
            x, y, z = file["t"].branches
            paths = [("a/pt", x), ("b/pt", y), ("twice", x), ("twice", y), ("z", z)]
            tree = SimpleNamespace(num_entries=2, iteritems=lambda: iter(paths))
            monkeypatch.setattr(tables, "trees", lambda _: {"t": tree})
            assert list(types(tmp_path / "a.root")) == ["a.pt", "b.pt", "twice", "z"]
            got = read(tmp_path / "a.root", "a.pt", "b.pt", "z")
            assert got == {"a.pt": [1, 1], "b.pt": [0, 0], "z": [1, 1]}
            with pytest.raises(DataError, match=r"'t': the branch 'twice' \(several branches"):
                read(tmp_path / "a.root", "twice")


@pytest.mark.parametrize("name", files.WRITERS)
@pytest.mark.parametrize("first", [0, 3, 9])
def test_every_format_gives_the_same(name, first, rng, tmp_path):
    branches = files.atlas_like(rng, 20)
    files.WRITERS[name](tmp_path / name, "events", branches)
    got = read(tmp_path / name, "fat_jet1_pt", "jet_pt", "eventNumber", first=first, last=9, size=4)
    assert got["fat_jet1_pt"] == branches["fat_jet1_pt"][first:9].tolist()
    assert got["eventNumber"] == list(range(first, 9))
    assert [[x for x in one if x] for one in got["jet_pt"]] == branches["jet_pt"][first:9].tolist()


@pytest.mark.parametrize("name", files.WRITERS)
def test_files_cut_short(name, rng, tmp_path):
    path = tmp_path / name
    files.WRITERS[name](path, "events", files.atlas_like(rng, 500))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    with pytest.raises(DataError, match=f"{name}.* (cut short|damaged)"):
        read(path, "jet_pt", size=500)
