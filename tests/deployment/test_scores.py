"""Scores written batch by batch."""

from dataclasses import replace

import numpy as np
import pytest

from helpers.toys import toy_events
from manyscale.data.event_filter import SPLITS
from manyscale.deployment import scores as module
from manyscale.deployment.scores import Scores, check_target, read_scores, write_scores
from manyscale.errors import DataError


def some(seed, events=10, **observables):
    made = replace(toy_events(seed, events=events), observables=observables)
    score = np.linspace(0, 1, events)
    scores = {"network": score.astype(np.float32), "trees": score**2, "combined": score**3}
    # Names of other lengths, as batches of one file have them.
    split = np.resize(SPLITS[:2] if events == 1 else SPLITS, events)
    return Scores.of(made, scores, split, ["hh4b", f"qcd_{seed}"], labelled=True)


def read(path):
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as stored:
            return dict(stored)
    if path.suffix == ".parquet":
        return dict(read_scores(path).columns)
    uproot = pytest.importorskip("uproot", reason="ROOT files need uproot")
    with uproot.open(path) as file:
        return file["scores"].arrays(library="np")


@pytest.mark.parametrize("ending", [".npz", ".parquet", ".root"])
@pytest.mark.parametrize("piece", [7, 1000])
def test_batches_are_one_file_in_their_order(tmp_path, monkeypatch, ending, piece):
    monkeypatch.setattr(module, "_PIECE", piece)
    batches = [
        some(seed, events, run=np.arange(events)) for seed, events in ((1, 10), (2, 1), (3, 25))
    ]
    path = tmp_path / f"scores{ending}"
    path.write_text("old")
    check_target(path)
    write_scores(path, iter(batches))
    found = read(path)
    assert list(found) == list(batches[0].columns)
    for name, values in found.items():
        expected = np.concatenate([batch.columns[name] for batch in batches])
        np.testing.assert_array_equal(values, expected)
        assert values.dtype == expected.dtype or name in {"process", "split"}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("ending", [".npz", ".parquet", ".root"])
def test_a_column_gets_the_type_that_holds_all_its_values(tmp_path, ending):
    path = tmp_path / f"scores{ending}"
    whole = np.arange(10, dtype=np.uint32)
    write_scores(path, [some(1, run=whole), some(2, run=np.full(10, np.nan)), some(3, run=whole)])
    run = read(path)["run"]
    assert run.dtype == np.float64
    np.testing.assert_array_equal(run, [*range(10), *[np.nan] * 10, *range(10)])


def test_where_scoring_fails_nothing_is_changed_and_nothing_left(tmp_path):
    path = tmp_path / "scores.npz"
    path.write_text("old")

    def interrupted():
        yield some(1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_scores(path, interrupted())
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_columns_are_what_is_known_of_the_events():
    events = replace(toy_events(4, events=3), process=np.array([0, -1, 1]))
    # An observable does not take the place of a column.
    events = replace(events, observables={"score": np.zeros(3), "m_hh": np.ones(3)})
    network = np.array([0.2, 0.4, 0.6])
    columns = Scores.of(events, {"network": network}, "test", ["hh", "qcd"], labelled=False).columns
    assert list(columns) == ["event_id", "score", "selected", "split", "process", "m_hh"]
    np.testing.assert_array_equal(columns["score"], network)
    assert columns["process"].tolist() == ["hh", "", "qcd"]
    assert columns["split"].tolist() == ["test"] * 3
    unknown = Scores.of(events, {"network": network}, "test", labelled=False).columns
    assert "process" not in unknown


def test_wrong_targets_are_refused_before_any_work(tmp_path):
    with pytest.raises(DataError, match=r"written as \.npz"):
        check_target(tmp_path / "scores.csv")
    with pytest.raises(DataError, match="there is no folder"):
        check_target(tmp_path / "nowhere" / "scores.npz")
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(DataError, match="is a folder"):
        check_target(tmp_path / "folder.npz")
