"""Files of the field's layouts as a user meets them: inspected, converted by a card, read back."""

import h5py
import numpy as np
import pytest
import uproot

from helpers.pandas_files import write_fixed, write_table
from manyscale.data.dataset import Dataset
from manyscale.errors import DataError
from manyscale.runs.convert import convert_files
from manyscale.runs.inspect import inspect_path


def listed(path):
    """Names with their types, of each table shown, and the lines."""
    found = inspect_path(path)
    return [{row[0]: row[1] for row in table.rows} for table in found.tables], found.lines


@pytest.fixture
def convert(tmp_path):
    """Convert a file by a branch map; the events of the dataset that it makes."""

    def converted(path, branches, process):
        card = tmp_path / "card.yaml"
        card.write_text(f"convert:\n  branches: {branches}\n  process: {process}\n")
        convert_files([str(path)], tmp_path / "d", card=card, workers=1)
        return Dataset.open(tmp_path / "d")

    return converted


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def test_lhc_olympics(rng, tmp_path, convert):
    values = np.zeros((100, 2101))
    values[:, :30] = rng.uniform(0.1, 3, (100, 30))
    values[:, 2100] = np.arange(100) % 2
    write_fixed(tmp_path / "a.h5", "df", [(list(range(2101)), values)])
    (names,), lines = listed(tmp_path / "a.h5")
    assert names == {"df": "2101 float64"}
    assert any("HDF5, group 'df', 100 events" in line for line in lines)
    dataset = convert(
        tmp_path / "a.h5",
        '{constituents: {pt: "df[0:2100:3]", eta: "df[1:2100:3]", phi: "df[2:2100:3]"}}',
        '{signal: "df[2100] == 1", background: "df[2100] == 0"}',
    )
    assert dataset.process_counts == {"signal": 50, "background": 50}
    tokens = dataset.events().streams["constituents"]
    assert len(tokens.values) == 1000
    np.testing.assert_allclose(tokens.values[:, 0].sum(), values[:, :30:3].sum(), rtol=1e-5)


def test_top_tagging(rng, tmp_path, convert):
    momenta = rng.normal(10, 5, (20, 2, 4))
    momenta[..., 0] = np.linalg.norm(momenta[..., 1:], axis=-1)
    names = [f"{name}_{i}" for i in range(2) for name in ("E", "PX", "PY", "PZ")]
    blocks = [
        (names, momenta.reshape(20, 8).astype(np.float32)),
        (["is_signal_new"], np.arange(20)[:, None] % 2),
    ]
    write_table(tmp_path / "train.h5", "table", blocks)
    (shown,), _ = listed(tmp_path / "train.h5")
    assert shown == {**dict.fromkeys(names, "float32"), "is_signal_new": "int64"}
    dataset = convert(
        tmp_path / "train.h5",
        '{constituents: {px: "PX_*", py: "PY_*", pz: "PZ_*", energy: "E_*"}}',
        '{signal: "is_signal_new == 1", background: "is_signal_new == 0"}',
    )
    assert dataset.process_counts == {"signal": 10, "background": 10}
    assert len(dataset.events().streams["constituents"].values) == 40


def test_energyflow(rng, tmp_path, convert):
    particles = rng.uniform(0.1, 2, (20, 3, 4))
    particles[:, 2] = 0  # padding
    particles[..., 3] = 211
    np.savez_compressed(tmp_path / "QG.npz", X=particles, y=np.arange(20.0) % 2)
    tables, lines = listed(tmp_path / "QG.npz")
    assert tables[-1] == {**{f"X.f{i}": "3 float64" for i in range(4)}, "y": "float64"}
    assert any("ntuple, npz, 20 events" in line for line in lines)
    dataset = convert(
        tmp_path / "QG.npz",
        "{constituents: {pt: X.f0, eta: X.f1, phi: X.f2}}",
        '{signal: "y == 1", background: "y == 0"}',
    )
    assert dataset.process_counts == {"signal": 10, "background": 10}
    assert len(dataset.events().streams["constituents"].values) == 40


def test_csv_with_a_label_of_text(tmp_path, convert):
    (tmp_path / "a.csv").write_text("pt,eta,label\n10,0.5,s\n20,1,b\n30,-1,s\n")
    (names,), lines = listed(tmp_path / "a.csv")
    assert names == {"pt": "int64", "eta": "double", "label": "string"}
    assert any("ntuple, CSV, 3 events" in line for line in lines)
    dataset = convert(
        tmp_path / "a.csv",
        "{jets: {pt: pt, eta: eta}}",
        """{signal: 'label == "s"', background: 'label == "b"'}""",
    )
    assert dataset.process_counts == {"signal": 2, "background": 1}


def test_every_tree_and_group_is_shown(tmp_path):
    with uproot.recreate(tmp_path / "a.root") as file:
        file.mktree("nominal", {"x": np.ones(2)})
        file.mktree("empty", {"x": np.ones(0)})
        file.mktree("up", {"y": np.ones(3), "label": np.array(["a", "b", "c"])})
    tables, lines = listed(tmp_path / "a.root")
    assert [list(names) for names in tables] == [["x"], ["y", "label"]]
    assert any("tree 'empty' holds no events" in line for line in lines)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["train/x"], file["test/x"], file["test/s"] = np.ones(5), np.ones(3), [b"a"] * 3
    tables, lines = listed(tmp_path / "a.h5")
    assert tables == [{"s": "string", "x": "float64"}, {"x": "float64"}]
    assert any("5 events" in line for line in lines)
    with uproot.recreate(tmp_path / "b.root") as file:
        file.mktree("empty", {"x": np.ones(0)})
    with pytest.raises(DataError, match="holds no events"):
        inspect_path(tmp_path / "b.root")
