"""A dataset: what it holds, how it is split, restricted and weighted."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.toys import SCHEMA, toy_events
from manyscale.data.dataset import Dataset
from manyscale.data.event_filter import SplitSettings
from manyscale.data.manifest import merge
from manyscale.data.packing import PackedEvents
from manyscale.data.parquet import write_events
from manyscale.errors import DataError
from manyscale.schema import Process

MIX = (
    Process(name="hh4b", label="signal"),
    Process(name="qcd", label="background", share=0.8, sum_weights=400),
    Process(name="ttbar", label="background", share=0.2, sum_weights=100),
)


def on_disk(folder, events, schema=SCHEMA, pieces=3):
    """Write events as parts, `pieces` of each process, and open the dataset."""
    observed = schema.model_copy(update={"observables": tuple(events.observables)})
    for place, process in enumerate(schema.processes):
        chosen = np.flatnonzero(events.process == place)
        for piece, some in enumerate(np.array_split(chosen, pieces)):
            name = f"{process.name}-{piece}"
            write_events(folder, name, events.take(some), observed, process, name)
    merge(folder)
    return Dataset.open(folder)


def sorted_by_id(events):
    return events.take(np.argsort(events.event_id))


def assert_same_events(found, expected):
    found, expected = sorted_by_id(found), sorted_by_id(expected)
    for what in ("event_id", "label", "process", "weight"):
        np.testing.assert_array_equal(getattr(found, what), getattr(expected, what))
    assert found.streams.keys() == expected.streams.keys()
    for name, stream in expected.streams.items():
        np.testing.assert_array_equal(found.streams[name].values, stream.values)
        np.testing.assert_array_equal(found.streams[name].counts, stream.counts)
        np.testing.assert_array_equal(found.streams[name].axis, stream.axis)
    for name, values in expected.observables.items():
        np.testing.assert_array_equal(found.observables[name], values)


def mixed_events(counts=(50, 30, 20), weight=1.0):
    process = np.repeat(np.arange(3), counts)
    events = toy_events(5, events=len(process))
    return replace(
        events,
        process=process,
        label=(process == 0).astype(np.int64),
        weight=np.full(len(process), weight),
    )


def mixed(events, processes=MIX):
    return Dataset.from_events(SCHEMA.model_copy(update={"processes": processes}), events)


@given(seed=st.integers(0, 1000), number=st.integers(0, 30))
@settings(max_examples=15, deadline=None)
def test_what_is_written_is_read(tmp_path_factory, seed, number):
    events = toy_events(seed, events=number)
    dataset = on_disk(tmp_path_factory.mktemp("data"), events)
    assert len(dataset) == number
    assert_same_events(dataset.events(), events)
    assert dataset.events() is dataset.events()


def test_further_weights_and_observables_of_any_type_are_kept(tmp_path):
    events = toy_events(1, events=10)
    events = replace(
        events,
        process=np.zeros(10, np.int64),
        label=np.ones(10, np.int64),
        weights={"scale_up": np.linspace(-1, 2, 10)},
        observables={
            "run": np.arange(10, dtype=np.uint32),
            "signal_region": np.arange(10) % 2 == 0,
        },
    )
    schema = SCHEMA.model_copy(
        update={"processes": SCHEMA.processes[:1], "weights": ("weight", "scale_up")}
    )
    found = sorted_by_id(on_disk(tmp_path, events, schema).events())
    expected = sorted_by_id(events)
    np.testing.assert_array_equal(found.weights["scale_up"], expected.weights["scale_up"])
    for name, values in expected.observables.items():
        assert found.observables[name].dtype == values.dtype
        np.testing.assert_array_equal(found.observables[name], values)


@pytest.mark.parametrize("size", [1, 7, 100])
def test_chunks_are_the_events_in_order(tmp_path, size):
    stored = on_disk(tmp_path, toy_events(2, events=45))
    for dataset in (stored, Dataset.from_events(stored.schema, stored.events()), stored.train):
        chunks = list(dataset.chunks(size))
        assert [len(chunk) for chunk in chunks[:-1]] == [size] * (len(chunks) - 1)
        whole = dataset.events()
        np.testing.assert_array_equal(
            np.concatenate([chunk.event_id for chunk in chunks]), whole.event_id
        )
        assert_same_events(PackedEvents.concatenate(chunks), whole)


def test_the_parts_of_the_split_are_the_whole(tmp_path):
    dataset = on_disk(tmp_path, toy_events(2, events=200))
    parts = [dataset.train, dataset.validation, dataset.test]
    assert all(len(part) == len(part.events()) > 0 for part in parts)
    assert_same_events(
        PackedEvents.concatenate([part.events() for part in parts]), dataset.events()
    )


def test_the_split_is_that_of_events_in_memory_and_of_the_seed(tmp_path):
    events = toy_events(2, events=200)
    stored = on_disk(tmp_path, events)
    held = Dataset.from_events(SCHEMA, events, seed=1)
    assert_same_events(stored.train.events(), held.train.events())
    other = Dataset.open(tmp_path, seed=2, split=SplitSettings(train=0.1, validation=0.1, test=0.8))
    assert len(other.test) > len(other.train)


def test_fewer_training_events_are_nested_and_leave_the_test_as_it_is(tmp_path):
    events = toy_events(2, events=400)
    whole = on_disk(tmp_path, events)
    known = set()
    for most in (20, 100):
        few = Dataset.from_events(SCHEMA, events, split=SplitSettings(train_events=most), seed=1)
        assert len(few.train) == most
        assert len(few.validation) == round(most * 0.15 / 0.7)
        assert_same_events(few.test.events(), whole.test.events())
        chosen = {*few.train.event_ids.tolist(), *few.validation.event_ids.tolist()}
        assert known < chosen < {*whole.event_ids.tolist()} - {*whole.test.event_ids.tolist()}
        known = chosen


def test_a_part_of_the_split_is_not_split_again():
    with pytest.raises(DataError, match="train part already"):
        _ = Dataset.from_events(SCHEMA, toy_events(1)).train.test


def test_streams_are_restricted_in_the_order_named(tmp_path):
    dataset = on_disk(tmp_path, toy_events(2)).restricted(streams=["kinematics", "jet1"])
    assert [stream.name for stream in dataset.schema.streams] == ["kinematics", "jet1"]
    assert list(dataset.events().streams) == ["kinematics", "jet1"]
    with pytest.raises(DataError, match="no stream 'jet3'; they have kinematics, jet1"):
        dataset.restricted(streams=["jet3"])
    for names in ([], ["jet1", "jet1"]):
        with pytest.raises(DataError, match="at least one stream, each once"):
            dataset.restricted(streams=names)


def test_classes_relabel_and_drop_processes():
    whole = mixed(mixed_events())
    turned = whole.restricted(classes={"signal": ["ttbar"], "background": ["hh4b"]})
    assert turned.class_counts == {"signal": 20, "background": 50}
    assert turned.process_counts == {"ttbar": 20, "hh4b": 50}
    names = [turned.schema.processes[place].name for place in turned.events().process]
    assert names == ["hh4b"] * 50 + ["ttbar"] * 20
    assert [(p.name, p.label) for p in turned.schema.processes] == [
        ("ttbar", "signal"),
        ("hh4b", "background"),
    ]
    again = turned.restricted(classes={"background": ["ttbar"]})
    assert again.class_counts == {"signal": 0, "background": 20}
    assert whole.restricted(classes={"signal": ["hh4b"]}).class_counts == whole.class_counts


def test_classes_that_the_data_do_not_have():
    whole = mixed(mixed_events())
    with pytest.raises(
        DataError, match=r"'zz' that the data do not have; they have hh4b, qcd, ttb"
    ):
        whole.restricted(classes={"signal": ["zz"]})
    with pytest.raises(DataError, match="'qcd' twice"):
        whole.restricted(classes={"signal": ["qcd"], "background": ["qcd"]})


def test_max_events_is_of_each_class_and_blind_to_order():
    events = mixed_events()
    chosen = mixed(events).restricted(max_events=25)
    assert chosen.class_counts == {"signal": 25, "background": 25}
    turned = mixed(events.take(np.arange(len(events))[::-1])).restricted(max_events=25)
    assert_same_events(turned.events(), chosen.events())
    smaller = mixed(events).restricted(max_events=10).events().event_id
    assert set(smaller) < set(chosen.events().event_id)
    assert len(mixed(events).restricted(max_events=1000)) == 100
    with pytest.raises(DataError, match="at least 1"):
        mixed(events).restricted(max_events=0)


@pytest.mark.parametrize("size", [3, 1 << 17])
def test_a_sample_is_of_so_many_events_and_blind_to_order(monkeypatch, size):
    monkeypatch.setattr("manyscale.data.dataset._BARE_BATCH", size)
    events = mixed_events()
    sample = mixed(events).sample(30)
    assert len(sample) == len(sample.events()) == 30
    assert sample.class_counts["signal"] == pytest.approx(15, abs=9)
    turned = mixed(events.take(np.arange(len(events))[::-1])).sample(30)
    assert_same_events(turned.events(), sample.events())
    assert set(mixed(events).sample(10).event_ids) < set(sample.event_ids)
    assert len(mixed(events).sample(100)) == len(mixed(events).sample(1000)) == 100


def test_a_sample_of_few_events_of_each_class():
    fewer = mixed(mixed_events()).restricted(max_events=25).sample(30)
    assert len(fewer) == 30
    assert max(fewer.class_counts.values()) <= 25
    assert set(fewer.event_ids) < set(mixed(mixed_events()).restricted(max_events=25).event_ids)


@pytest.mark.parametrize("size", [3, 1 << 17])
def test_counts_and_weights_do_not_depend_on_how_events_are_read(monkeypatch, size):
    monkeypatch.setattr("manyscale.data.dataset._BARE_BATCH", size)
    events = mixed_events()
    events = replace(events, weight=np.random.default_rng(1).uniform(0.1, 1e3, len(events)))
    data = mixed(events)
    assert data.class_counts == {"signal": 50, "background": 50}
    assert data.process_counts == {"hh4b": 50, "qcd": 30, "ttbar": 20}
    sums = np.bincount(events.process, events.weight)
    np.testing.assert_allclose(data.process_weights, sums, rtol=1e-14)
    np.testing.assert_allclose(data.process_weights2, np.bincount(events.process, events.weight**2))
    np.testing.assert_array_equal(data.event_ids, events.event_id)
    bare = data.bookkeeping()
    assert not bare.streams
    np.testing.assert_array_equal(bare.weight, events.weight)
    # Of some events they are those that these have among all, to the bit.
    some = np.arange(10, 70)
    whole = data.balanced_weights(events)
    np.testing.assert_array_equal(data.balance.weights(events), whole)
    np.testing.assert_array_equal(data.balance.weights(events.take(some)), whole[some])


def test_max_events_is_found_in_one_pass(monkeypatch):
    events = mixed_events()
    whole = mixed(events).restricted(max_events=25).event_ids
    monkeypatch.setattr("manyscale.data.dataset._BARE_BATCH", 3)
    np.testing.assert_array_equal(mixed(events).restricted(max_events=25).event_ids, whole)


def test_row_groups_are_the_events_in_order(tmp_path):
    data = on_disk(tmp_path, toy_events(4, events=100))
    groups = data.groups
    assert groups.events.sum() == 100
    assert groups.tokens["kinematics"].sum() == 400
    found = list(data.train.read_groups(range(len(groups)), ["jet2"]))
    assert [list(events.streams) for events in found] == [["jet2"]] * 6
    together = PackedEvents.concatenate(found)
    expected = data.train.events()
    np.testing.assert_array_equal(together.event_id, expected.event_id)
    np.testing.assert_array_equal(together.streams["jet2"].values, expected.streams["jet2"].values)
    (last,) = data.train.read_groups([5], [])
    np.testing.assert_array_equal(last.event_id, found[5].event_id)
    assert Dataset.from_events(SCHEMA, toy_events(4)).groups is None


def test_restrictions_and_split_work_together(tmp_path):
    dataset = on_disk(tmp_path, toy_events(4, events=300))
    small = dataset.restricted(
        streams=["jet2"], classes={"signal": ["qcd"], "background": ["hh4b"]}
    )
    small = small.restricted(max_events=60)
    assert small.class_counts == {"signal": 60, "background": 60}
    assert len(small.train) + len(small.validation) + len(small.test) == 120
    assert set(small.train.events().event_id) <= set(dataset.train.events().event_id)
    assert list(small.test.events().streams) == ["jet2"]


def test_without_a_class_it_says_what_to_do():
    dataset = mixed(mixed_events())
    dataset.require_classes()
    lone = dataset.restricted(classes={"signal": [], "background": ["qcd"]})
    with pytest.raises(DataError, match=r"no signal events.* qcd \(background\).*convert --label"):
        lone.require_classes()
    with pytest.raises(DataError, match="the validation part of the data"):
        lone.validation.require_classes()


def test_each_class_sums_to_one_with_processes_as_generated_and_stated():
    # Of qcd 30 of 400 passed, of ttbar 20 of 100: 0.8 x 30 / 400 against 0.2 x 20 / 100 = 0.06 : 0.04
    events = mixed_events()
    weights = mixed(events).balanced_weights(events)
    sums = [weights[events.process == place].sum() for place in range(3)]
    assert sums == pytest.approx([1.0, 0.6, 0.4], rel=1e-12)


def test_a_share_unlike_that_generated_counts():
    processes = (MIX[0], MIX[1].model_copy(update={"share": 0.2}), MIX[2])
    events = mixed_events()
    weights = mixed(events, processes).balanced_weights(events)
    sums = [weights[events.process == place].sum() for place in range(3)]
    # 0.2 x 30 / 400 : 0.2 x 20 / 100
    assert sums == pytest.approx([1.0, 15 / 55, 40 / 55], rel=1e-12)


def test_without_share_events_stand_for_themselves():
    processes = (MIX[0], MIX[1].model_copy(update={"share": None}), MIX[2])
    events = mixed_events()
    weights = mixed(events, processes).balanced_weights(events)
    assert weights[events.label == 0] == pytest.approx(np.full(50, 1 / 50), rel=1e-12)


def test_a_process_without_share_stands_beside_a_mix_that_was_generated_as_stated():
    # qcd and ttbar were generated in their shares, so that no event of the class counts more.
    extra = Process(name="zz", label="background")
    events = mixed_events()
    process = events.process.copy()
    process[-10:] = 3
    events = replace(events, process=process)
    weights = mixed(events, (*MIX, extra)).balanced_weights(events)
    assert weights[events.label == 0] == pytest.approx(np.full(50, 1 / 50), rel=1e-12)


@given(st.floats(1e-3, 1e3))
def test_a_common_factor_of_the_weights_changes_nothing(factor):
    events = mixed_events(weight=factor)
    assert mixed(events).balanced_weights(events) == pytest.approx(
        mixed(events).balanced_weights(mixed_events()), rel=1e-12
    )


def test_unknown_events_weigh_nothing_and_no_class_may_cancel():
    events = mixed_events()
    unknown = replace(events, label=np.where(events.label == 1, -1, 0))
    weights = mixed(events).balanced_weights(unknown)
    assert not weights[:50].any()
    assert weights.sum() == pytest.approx(1.0)
    with pytest.raises(DataError, match="signal events sum to -50"):
        mixed(events).balanced_weights(mixed_events(weight=-1.0))


def test_weights_on_disk_count_in_the_sums_of_processes(tmp_path):
    rng = np.random.default_rng(4)
    events = toy_events(3, events=50)
    weighted = replace(events, weight=rng.normal(1, 1, 50))
    for place, process in enumerate(SCHEMA.processes):
        chosen = weighted.take(np.flatnonzero(weighted.process == place))
        write_events(tmp_path, process.name, chosen, SCHEMA, process, process.name)
    merge(tmp_path)
    data = Dataset.open(tmp_path)
    for place in range(2):
        weight = weighted.weight[weighted.process == place]
        assert data.process_weights[place] == pytest.approx(weight.sum(), rel=1e-12)
        assert data.process_weights2[place] == pytest.approx((weight**2).sum(), rel=1e-12)
