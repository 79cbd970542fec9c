"""npz files into a dataset: added once, checked against what is there, nothing half-written."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from manyscale.data.dataset import Dataset
from manyscale.data.npz import read_npz
from manyscale.errors import DataError
from manyscale.runs.convert import convert_npz

COLUMNS = ["eta", "pt"]


@pytest.fixture
def files(tmp_path):
    paths = []
    for number, name in enumerate(("s", "b", "c")):
        values = np.random.default_rng(number).uniform(0.5, 2, (30 + number, 4, 2))
        np.savez(tmp_path / f"{name}.npz", values)
        paths.append(tmp_path / f"{name}.npz")
    return paths


def listing(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_converting_gives_the_events_of_reading(tmp_path, files):
    out = tmp_path / "deeper" / "out"
    done = convert_npz(out, files[0], "signal", columns=COLUMNS)
    assert done.said == f"30 events of signal added to {out}"
    convert_npz(out, files[1], "background")
    found = Dataset.open(out).events()
    expected = read_npz(files[0], files[1], COLUMNS).events()
    found, expected = (e.take(np.argsort(e.event_id)) for e in (found, expected))
    np.testing.assert_array_equal(found.event_id, expected.event_id)
    np.testing.assert_array_equal(found.label, expected.label)
    np.testing.assert_array_equal(
        found.streams["constituents"].values, expected.streams["constituents"].values
    )


def test_the_same_file_again_is_nothing_to_do(tmp_path, files):
    out = tmp_path / "out"
    convert_npz(out, files[0], "signal", "hh4b", cross_section=0.1)
    before = (out / "dataset.json").read_text()
    done = convert_npz(out, files[0], "signal", "hh4b")
    assert done.said == f"{out} has these 30 events of hh4b already"
    assert (out / "dataset.json").read_text() == before


def test_two_files_of_a_process_add_up(tmp_path, files):
    out = tmp_path / "out"
    convert_npz(out, files[0], "background", "qcd", cross_section=85.0, sum_weights=100.0)
    convert_npz(out, files[1], "background", "qcd", sum_weights=200.0)
    (process,) = Dataset.open(out).schema.processes
    assert (process.cross_section, process.sum_weights, process.generated) == (85.0, 300.0, 61)
    assert process.cutflow[0].events == 61


def test_several_streams(tmp_path, files):
    out = tmp_path / "out"
    with pytest.raises(DataError, match=r"has 30, .* has 31"):
        convert_npz(out, {"jet1": files[0], "jet2": files[1]}, "signal")
    done = convert_npz(out, {"jet1": files[0], "jet2": files[0]}, "signal")
    assert "added" in done.said
    assert list(Dataset.open(out).events().streams) == ["jet1", "jet2"]


def test_large_files_are_several_row_groups(tmp_path, files, monkeypatch):
    monkeypatch.setattr("manyscale.data.parquet._MOST_IN_GROUP", 10)
    convert_npz(tmp_path / "out", files[0], "signal")
    (part,) = (tmp_path / "out" / "parts").iterdir()
    assert pq.read_metadata(part).num_row_groups == 3
    assert len(Dataset.open(tmp_path / "out").events()) == 30


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"label": "background", "process": "qcd"}, "already, as signal of the process 'hh4b'"),
        ({"label": "background", "process": "hh4b"}, "cannot be background of 'hh4b' as well"),
    ],
)
def test_the_same_file_as_something_else(tmp_path, files, arguments, says):
    convert_npz(tmp_path / "out", files[0], "signal", "hh4b")
    before = listing(tmp_path / "out")
    with pytest.raises(DataError, match=says):
        convert_npz(tmp_path / "out", files[0], **arguments)
    assert listing(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("what", "columns", "says"),
    [
        ("jet1", None, "dataset has the streams constituents, the files are jet1"),
        ("constituents", ["pt", "eta"], "columns eta, pt, the file pt, eta"),
        ("constituents", ["pt"], "2 columns, but 1 are named"),
        ("constituents", {"jet": ["pt"]}, "a stream 'jet', but there is none"),
    ],
)
def test_files_that_do_not_fit_the_dataset(tmp_path, files, what, columns, says):
    convert_npz(tmp_path / "out", files[0], "signal", columns=COLUMNS)
    before = listing(tmp_path / "out")
    with pytest.raises(DataError, match=says):
        convert_npz(tmp_path / "out", {what: files[1]}, "background", columns=columns)
    assert listing(tmp_path / "out") == before


def test_a_failure_leaves_no_new_folder(tmp_path, files):
    values = np.ones((30, 4, 2))
    values[29, 3, 1] = np.nan
    np.savez(tmp_path / "nan.npz", values)
    with pytest.raises(DataError, match=r"event 29, token 3, column 1 .f1. is NaN"):
        convert_npz(tmp_path / "new" / "out", tmp_path / "nan.npz", "signal")
    assert not (tmp_path / "new").exists()
    convert_npz(tmp_path / "out", files[0], "signal")
    before = listing(tmp_path / "out")
    with pytest.raises(DataError):
        convert_npz(tmp_path / "out", tmp_path / "nan.npz", "background")
    assert listing(tmp_path / "out") == before


def test_an_output_folder_that_holds_something_else(tmp_path, files):
    with pytest.raises(DataError, match="holds something that is no dataset"):
        convert_npz(tmp_path, files[0], "signal")
    with pytest.raises(DataError, match="is a file"):
        convert_npz(files[1], files[0], "signal")


def test_how_it_was_made_stands_in_dataset_json(tmp_path, files):
    convert_npz(tmp_path / "out", files[0], "signal", "hh/4b")
    made = json.loads((tmp_path / "out" / "dataset.json").read_text())["made"]
    assert made == [
        {"command": "convert", "process": "hh/4b", "files": {"constituents": str(files[0])}}
    ]


def test_what_was_unknown_can_be_said_by_giving_the_files_again(tmp_path, files):
    out = tmp_path / "out"
    convert_npz(out, files[0], "signal")
    before = Dataset.open(out).event_ids
    done = convert_npz(out, files[0], "signal", cross_section=2.0, sum_weights=100.0)
    assert "added" in done.said
    data = Dataset.open(out)
    assert np.array_equal(data.event_ids, before)
    assert (data.schema.processes[0].cross_section, data.schema.processes[0].sum_weights) == (
        2,
        100,
    )
    assert "already" in convert_npz(out, files[0], "signal", cross_section=2.0).said
