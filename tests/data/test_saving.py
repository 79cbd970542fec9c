"""A dataset written to a new folder."""

from dataclasses import replace

import numpy as np
import pytest

from helpers.toys import SCHEMA, toy_events
from manyscale.data.dataset import Dataset
from manyscale.data.manifest import merge, read_manifest, verify
from manyscale.data.parquet import group_sizes, write_events
from manyscale.errors import DataError
from manyscale.evaluation.yields import normalisation
from manyscale.schema import CutflowStep

PROCESSES = tuple(
    process.model_copy(
        update={
            "sum_weights": 500.0,
            "sum_weights2": 700.0,
            "generated": 400,
            "cutflow": (CutflowStep(step="generated", events=400, sum_weights=500.0),),
        }
    )
    for process in SCHEMA.processes
)


def _events(seed=7, events=300):
    packed = toy_events(seed, events=events)
    numbers = np.arange(events)
    return replace(
        packed,
        weight=np.linspace(-0.5, 2, events),
        weights={"up": np.linspace(0, 3, events)},
        observables={"run": numbers.astype(np.uint32), "tagged": numbers % 2 == 0},
    )


def _data(**further):
    schema = SCHEMA.model_copy(
        update={
            "processes": PROCESSES,
            "weights": ("weight", "up"),
            "observables": ("run", "tagged"),
        }
    )
    return Dataset.from_events(schema, _events(**further), source="toys")


def _same(found, expected):
    found, expected = (of.take(np.argsort(of.event_id)) for of in (found, expected))
    for what in ("event_id", "label", "process", "weight"):
        np.testing.assert_array_equal(getattr(found, what), getattr(expected, what))
    for what in ("observables", "weights"):
        for name, values in getattr(expected, what).items():
            assert getattr(found, what)[name].dtype == values.dtype
            np.testing.assert_array_equal(getattr(found, what)[name], values)
    assert found.streams.keys() == expected.streams.keys()
    for name, stream in expected.streams.items():
        for what in ("values", "counts", "axis"):
            np.testing.assert_array_equal(getattr(found.streams[name], what), getattr(stream, what))


def test_all_is_kept(tmp_path):
    data = _data()
    data.write(tmp_path / "new" / "data")
    found = Dataset.open(tmp_path / "new" / "data")
    _same(found.events(), data.events())
    assert found.schema == data.schema
    _same(found.train.events(), data.train.events())
    assert verify(tmp_path / "new" / "data") == ()
    assert read_manifest(tmp_path / "new" / "data").made == (
        {"command": "write", "source": "toys"},
    )


def test_new_columns_are_written(tmp_path):
    wider = _data().with_columns({"jet1": {"z": lambda jet: jet["pt"] / jet["jet_pt"]}})
    wider.write(tmp_path / "data")
    found = Dataset.open(tmp_path / "data")
    assert found.schema.stream("jet1").columns[-1] == "z"
    _same(found.events(), wider.events())


def test_restrictions_are_written(tmp_path):
    fewer = _data().restricted(
        streams=["kinematics", "jet2"], classes={"signal": ["qcd"], "background": []}
    )
    fewer.write(tmp_path / "data")
    found = Dataset.open(tmp_path / "data")
    assert [stream.name for stream in found.schema.streams] == ["kinematics", "jet2"]
    assert [(of.name, of.label) for of in found.schema.processes] == [("qcd", "signal")]
    assert found.schema.processes[0].sum_weights == 500
    _same(found.events(), fewer.events())


@pytest.mark.parametrize(
    "fewer", [lambda data: data.train, lambda data: data.restricted(max_events=60)]
)
def test_a_random_part_stands_for_the_same_yield(tmp_path, fewer):
    data = Dataset.from_events(
        _data().schema, replace(_events(events=2000), weight=np.ones(2000)), source="toys"
    )
    fewer(data).write(tmp_path / "data")
    found = Dataset.open(tmp_path / "data")
    assert len(found) < len(data)
    for place, process in enumerate(found.schema.processes):
        share = found.process_counts[process.name] / data.process_counts[process.name]
        assert process.sum_weights2 == pytest.approx(700 * share)
        assert process.cutflow[0].sum_weights == pytest.approx(500 * share)
        assert process.generated == round(400 * share)
        expected = [
            normalisation(of.schema.processes[place], 100) * of.process_weights[place]
            for of in (found, data)
        ]
        assert expected[0] == pytest.approx(expected[1])


def test_a_process_without_events_keeps_its_bookkeeping(tmp_path):
    events = _events()
    data = Dataset.from_events(_data().schema, events.take(np.flatnonzero(events.process == 0)))
    data.write(tmp_path / "data")
    found = Dataset.open(tmp_path / "data")
    assert found.schema.processes == PROCESSES
    assert found.process_counts == {"hh4b": len(data), "qcd": 0}


def test_observables_that_some_parts_lack_are_kept(tmp_path):
    schema = _data().schema
    for part, observables in enumerate([("run", "tagged"), ("tagged",)]):
        events = _events(seed=part)
        chosen = events.take(np.flatnonzero(events.process == 0))
        some = {name: chosen.observables[name] for name in observables}
        of_part = schema.model_copy(update={"observables": observables})
        write_events(
            tmp_path / "old",
            f"p{part}",
            replace(chosen, observables=some),
            of_part,
            PROCESSES[0],
            "x",
        )
    merge(tmp_path / "old")
    old = Dataset.open(tmp_path / "old")
    old.write(tmp_path / "new")
    _same(Dataset.open(tmp_path / "new").events(), old.events())
    assert np.isnan(Dataset.open(tmp_path / "new").events().observables["run"]).any()


@pytest.mark.parametrize("what", ["file", "data"])
def test_what_is_there_stays(tmp_path, what):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").write_text("mine")
    target = tmp_path / "data" if what == "data" else tmp_path / "data" / "file"
    with pytest.raises(DataError, match="is there already: name a new folder"):
        _data().write(target)
    assert (tmp_path / "data" / "file").read_text() == "mine"


def test_nothing_is_left_where_it_fails(tmp_path):
    wrong = _data().with_columns({"jet1": {"nan": lambda jet: jet["pt"] * np.nan}})
    with pytest.raises(DataError, match="'nan' of stream 'jet1'"):
        wrong.write(tmp_path / "new" / "data")
    assert list(tmp_path.iterdir()) == []


def test_events_of_an_unknown_process_are_refused(tmp_path):
    events = replace(_events(), process=np.full(300, -1))
    with pytest.raises(DataError, match="unknown process"):
        Dataset.from_events(_data().schema, events).write(tmp_path / "data")
    assert list(tmp_path.iterdir()) == []


def test_a_rare_process_has_no_row_groups_of_a_few_events(tmp_path, monkeypatch):
    """Its events come a few at a time among those of others."""
    monkeypatch.setattr("manyscale.data.dataset._BATCH", 10)
    _data().write(tmp_path / "out")
    for part in (tmp_path / "out" / "parts").iterdir():
        assert len(group_sizes(part, SCHEMA)[0]) == 1
    _same(Dataset.open(tmp_path / "out").events(), _events())
