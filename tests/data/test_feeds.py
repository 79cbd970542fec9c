"""Feeds: from memory and from disk, each as good as a true shuffle and drawn again the same."""

import threading
from dataclasses import replace

import numpy as np
import pytest

from data.test_dataset import on_disk
from helpers.toys import SCHEMA, toy_events
from manyscale.data import folder_feed as folder_module
from manyscale.data.dataset import Dataset
from manyscale.data.event_filter import SplitSettings
from manyscale.data.feeds import MemoryFeed, batch_events, epoch_order
from manyscale.data.folder_feed import FolderFeed, hold, make_feed, memory_of
from manyscale.errors import DataError
from manyscale.schema import Process

PROCESSES = (
    Process(name="hh4b", label="signal"),
    Process(name="qcd", label="background"),
    Process(name="ttbar", label="background"),
)
STORED = SCHEMA.model_copy(update={"processes": PROCESSES, "streams": SCHEMA.streams[2:]})
ALMOST_ALL = SplitSettings(train=0.98, validation=0.01, test=0.01)
# Bytes of twice 500 events of four objects.
WINDOW = 200_000


def everything(streams):
    return dict(streams)


def numbered(shares, seed=1):
    """Events of three processes whose first column says which event each is, in order of process."""
    process = np.repeat(np.arange(3), shares)
    events = toy_events(seed, events=len(process)).only(["kinematics"])
    events.streams["kinematics"].values[::4, 0] = np.arange(len(process))
    return replace(events, process=process, label=(process == 0).astype(np.int64), observables={})


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A training part of about 4,900 events in 75 row groups."""
    folder = tmp_path_factory.mktemp("stored")
    on_disk(folder, numbered((2000, 2500, 500)), STORED, pieces=25)
    return folder


@pytest.fixture
def train(stored):
    return Dataset.open(stored, split=ALMOST_ALL).train


def ids(batch):
    return batch.streams["kinematics"].values[::4, 0].astype(int)


def epoch(feed, number=0, size=64):
    return [ids(batch) for batch in feed.batches(number, size)]


def folder_feed(train, seed=7, memory=WINDOW, **share):
    return FolderFeed(train, everything, memory, seed, **share)


def test_from_memory_the_batches_are_those_of_the_order_of_the_epoch():
    data = Dataset.from_events(STORED, numbered((200, 250, 50)))
    events = data.train.events()
    weights = data.train.balanced_weights(events)
    feed = make_feed(data.train, everything, 1, 3)
    assert isinstance(feed, MemoryFeed)
    assert feed.events == len(events)
    expected = batch_events(epoch_order(len(events), 3, 2), 32)
    for batch, chosen in zip(feed.batches(2, 32), expected, strict=True):
        stream = events.streams["kinematics"].take(chosen)
        np.testing.assert_array_equal(batch.streams["kinematics"].values, stream.values)
        np.testing.assert_array_equal(batch.streams["kinematics"].counts, stream.counts)
        np.testing.assert_array_equal(batch.label, events.label[chosen])
        expected_weight = (weights / weights.mean()).astype(np.float32)[chosen]
        np.testing.assert_array_equal(batch.weight, expected_weight)


def test_what_fits_is_held_in_memory(train):
    size = memory_of(train) / 1e6
    held = make_feed(train, everything, size * 1.01, 7)
    assert isinstance(held, MemoryFeed)
    assert isinstance(make_feed(train, everything, size * 0.99, 7), FolderFeed)
    events = train.events()
    expected = epoch_order(len(events), 7, 0)
    np.testing.assert_array_equal(np.concatenate(epoch(held)), ids(events.take(expected)))


def test_of_what_fits_only_the_streams_taken_are_held(tmp_path):
    data = on_disk(tmp_path, toy_events(1, events=300), pieces=5).train
    feed = make_feed(data, lambda streams: {"jet2": streams["jet2"].leading(3, 0)}, 1, 1)
    events = data.events()
    expected = events.streams["jet2"].leading(3, 0).take(epoch_order(len(events), 1, 0))
    (batch,) = feed.batches(0, 1000)
    assert list(batch.streams) == ["jet2"]
    np.testing.assert_array_equal(batch.streams["jet2"].values, expected.values)
    np.testing.assert_array_equal(batch.streams["jet2"].axis, expected.axis)


def test_events_that_fit_are_decoded_once(train, monkeypatch):
    read = []
    original = Dataset._keep

    def counting(self, events):
        read.append(len(events))
        return original(self, events)

    size = memory_of(train) / 1e6
    hold(train, size * 0.99)
    monkeypatch.setattr(Dataset, "_keep", counting)
    before = list(train.chunks(100))
    assert read
    hold(train, size * 1.01)
    read.clear()
    for held, first in zip(train.chunks(100), before, strict=True):
        np.testing.assert_array_equal(held.event_id, first.event_id)
        np.testing.assert_array_equal(
            held.streams["kinematics"].values, first.streams["kinematics"].values
        )
    assert not read


def test_the_estimate_of_memory_is_what_events_take(train):
    events = train.events()
    stream = events.streams["kinematics"]
    arrays = [stream.values, stream.counts, stream.offsets, events.label, events.process]
    found = sum(array.nbytes for array in [*arrays, events.weight, events.event_id])
    assert memory_of(train) == pytest.approx(found, rel=0.01)
    assert memory_of(Dataset.from_events(STORED, events)) == 0


def test_of_streams_that_the_network_does_not_take_nothing_is_read(tmp_path):
    data = on_disk(tmp_path, toy_events(1, events=300), pieces=5).train
    feed = FolderFeed(data, lambda streams: {"jet2": streams["jet2"]}, 1e5, 1)
    assert [list(batch.streams) for batch in feed.batches(0, 500)] == [["jet2"]]
    assert memory_of(data, ("jet2",)) < memory_of(data) / 2


@pytest.mark.parametrize("size", [1, 50, 256, 10_000])
def test_from_disk_every_event_comes_once_an_epoch(train, size):
    feed = folder_feed(train)
    batches = epoch(feed, size=size)
    assert feed.events == len(train)
    assert all(len(batch) == size for batch in batches[:-1])
    assert 0 < len(batches[-1]) <= size
    expected = np.sort(ids(train.events()))
    np.testing.assert_array_equal(np.sort(np.concatenate(batches)), expected)


def test_what_comes_from_disk_are_the_events_and_their_weights(train):
    events = train.events()
    weights = train.balanced_weights(events)
    place = np.argsort(ids(events))
    for batch in folder_feed(train).batches(0, 100):
        chosen = place[np.searchsorted(ids(events)[place], ids(batch))]
        stream = events.streams["kinematics"].take(chosen)
        np.testing.assert_array_equal(batch.streams["kinematics"].values, stream.values)
        np.testing.assert_array_equal(batch.label, events.label[chosen])
        np.testing.assert_allclose(batch.weight, weights[chosen] / weights.mean(), rtol=1e-6)
        assert batch.weight.dtype == np.float32


def test_the_order_is_a_function_of_seed_and_epoch(train):
    def order(seed, number):
        return np.concatenate(epoch(folder_feed(train, seed), number))

    first = order(7, 0)
    np.testing.assert_array_equal(first, order(7, 0))
    for other in (order(7, 1), order(8, 0)):
        # As many events stand where they stood as after a true shuffle: one, give or take.
        assert np.count_nonzero(other == first) < 10


@pytest.mark.parametrize("memory", [WINDOW, 1e9])
def test_an_epoch_begun_in_its_middle_goes_on_as_the_whole_one(train, memory):
    feed = make_feed(train, everything, memory / 1e6, 7)
    steps = [ids(batch) for batch in feed.batches(1, 64)]
    for first in (1, len(steps) // 2, len(steps) - 1, len(steps)):
        left = [ids(batch) for batch in feed.batches(1, 64, first)]
        assert len(left) == len(steps) - first
        assert all(map(np.array_equal, left, steps[first:]))


def process_of(train, order):
    events = train.events()
    place = np.argsort(ids(events))
    return events.process[place[np.searchsorted(ids(events)[place], order)]]


def runs(labels):
    return 1 + np.count_nonzero(np.diff(labels))


def test_classes_follow_each_other_as_in_a_true_shuffle(train):
    # Of a true shuffle of n and m events: mean and variance of the number of runs (Wald, Wolfowitz),
    # correlation of neighbours -1 / (n + m - 1) with a deviation of 1 / sqrt(n + m).
    feed = folder_feed(train)
    found, correlations = [], []
    for number in range(8):
        label = process_of(train, np.concatenate(epoch(feed, number))) == 0
        found.append(runs(label))
        correlations.append([np.corrcoef(label[lag:], label[:-lag])[0, 1] for lag in (1, 7, 64)])
    signal, total = int(label.sum()), len(label)
    mean = 1 + 2 * signal * (total - signal) / total
    variance = (mean - 1) * (mean - 2) / (total - 1)
    assert abs(np.mean(found) - mean) < 4 * np.sqrt(variance / len(found))
    deviation = 1 / np.sqrt(total * len(correlations))
    assert np.abs(np.mean(correlations, axis=0)).max() < 4 * deviation


def test_a_batch_has_as_many_events_of_a_process_as_a_random_one(train):
    feed = folder_feed(train)
    counts = np.concatenate(
        [
            [
                np.bincount(process_of(train, batch), minlength=3)
                for batch in epoch(feed, number)[:-1]
            ]
            for number in range(5)
        ]
    )
    share = np.array(list(train.process_counts.values())) / len(train)
    binomial = 64 * share * (1 - share) * (1 - 64 / len(train))
    np.testing.assert_allclose(counts.mean(0), 64 * share, atol=0.5)
    assert np.abs(counts.var(0) / binomial - 1).max() < 5 * np.sqrt(2 / len(counts))


def test_the_events_of_a_batch_come_from_many_row_groups(train):
    # A third of the events is mixed at a time: some 650 of the signal, of eight row groups of 80 or
    # more, of which a batch has 26 events.
    batches = epoch(folder_feed(train, memory=650_000))[:-1]
    groups = [len({event // 80 for event in batch if event < 2000}) for batch in batches]
    assert np.mean(groups) > 6


@pytest.mark.parametrize("world", [2, 3, 8])
@pytest.mark.parametrize("size", [24, 512])
@pytest.mark.parametrize("memory", [WINDOW / 1e6, 1000])
def test_shares_of_processes_are_together_the_step_of_one(train, world, size, memory):
    alone = epoch(make_feed(train, everything, memory, 7), 3, size)
    shares = [
        epoch(make_feed(train, everything, memory, 7, rank=rank, world=world), 3, size)
        for rank in range(world)
    ]
    assert {len(share) for share in shares} == {len(alone)}
    for step, together in enumerate(alone):
        found = np.concatenate([share[step] for share in shares])
        np.testing.assert_array_equal(np.sort(found), np.sort(together))
    if world != 3 and memory < 1:  # a power of two divides each step from disk evenly
        assert all(len(batch) == size // world for share in shares for batch in share[:-1])


def test_a_process_reads_its_share_only(train, monkeypatch):
    # With windows of whole row groups the overlap is small; what one process reads is about half.
    read = []
    original = Dataset.read_groups

    def counting(self, groups, streams):
        read.extend(groups)
        return original(self, groups, streams)

    feed = folder_feed(train, memory=400_000)
    shared = folder_feed(train, memory=400_000, rank=1, world=2)
    monkeypatch.setattr(Dataset, "read_groups", counting)
    epoch(feed)
    alone = len(read)
    read.clear()
    epoch(shared)
    assert len(read) < 0.65 * alone


def test_more_processes_than_can_share_the_reading(train):
    with pytest.raises(DataError, match="at most 64 can"):
        folder_feed(train, world=65)


def held_bytes(feed, monkeypatch):
    """The most bytes that buffers and what is being decoded take while an epoch is read."""
    buffers, decoded, most = [], [0], [0]

    class Watched(folder_module.EventBuffer):
        def __init__(self):
            super().__init__()
            buffers.append(self)

        def append(self, events):
            super().append(events)
            most[0] = max(most[0], sum(buffer.nbytes for buffer in buffers) + decoded[0])

    original = Dataset.read_groups

    def read(self, groups, streams):
        for events in original(self, groups, streams):
            decoded[0] = 2 * sum(stream.values.nbytes for stream in events.streams.values())
            yield events

    monkeypatch.setattr(folder_module, "EventBuffer", Watched)
    monkeypatch.setattr(Dataset, "read_groups", read)
    epoch(feed)
    return most[0]


def test_no_more_is_held_than_allowed(train, monkeypatch):
    most = held_bytes(folder_feed(train, memory=250_000), monkeypatch)
    assert 125_000 < most < 250_000


def test_the_shards_of_a_process_take_their_share_of_memory(train, monkeypatch):
    one = held_bytes(folder_feed(train, memory=250_000), monkeypatch)
    monkeypatch.undo()
    shared = folder_feed(train, memory=250_000, rank=0, world=2)
    assert held_bytes(shared, monkeypatch) < 0.65 * one


@pytest.mark.parametrize("stored_in", ["folder", "memory"])
def test_what_fits_is_held_once_by_all_processes_together(train, stored_in):
    data = train if stored_in == "folder" else Dataset.from_events(STORED, train.events())
    held = [make_feed(data, everything, 1000, 7, rank=rank, world=3)._held for rank in range(3)]
    found = [ids(share) for share in held]
    np.testing.assert_array_equal(np.sort(np.concatenate(found)), np.sort(ids(train.events())))
    weights = np.concatenate([share.weight for share in held])
    assert weights.mean() == pytest.approx(1, rel=1e-6)
    sizes = [len(share.label) for share in held]
    assert max(sizes) - min(sizes) <= 1


def threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("read-ahead")]


def test_the_thread_ends_with_the_epoch_and_with_one_that_is_left(train):
    feed = folder_feed(train)
    batches = feed.batches(0, 64)
    next(batches)
    assert threads()
    batches.close()
    assert not threads()
    epoch(feed)
    assert not threads()


def damage(path, kind):
    content = bytearray(path.read_bytes())
    if kind == "missing":
        path.unlink()
    elif kind == "truncated":
        path.write_bytes(content[: len(content) // 2])
    else:
        content[len(content) // 3] ^= 0xFF
        path.write_bytes(content)


@pytest.mark.parametrize("kind", ["missing", "truncated", "altered"])
def test_a_damaged_part_is_named_where_it_is_read(tmp_path, kind):
    on_disk(tmp_path, numbered((400, 400, 100)), STORED, pieces=4)
    feed = folder_feed(Dataset.open(tmp_path, split=ALMOST_ALL).train, memory=30_000)
    part = sorted((tmp_path / "parts").iterdir())[5]
    damage(part, kind)
    with pytest.raises(DataError, match=rf"the part .*{part.name} is (missing|damaged)"):
        epoch(feed)
    assert not threads()


def test_a_part_that_was_replaced_is_told(tmp_path):
    data = on_disk(tmp_path, numbered((400, 400, 100)), STORED, pieces=4)
    feed = folder_feed(data.train, memory=30_000)
    parts = sorted((tmp_path / "parts").iterdir())
    parts[0].write_bytes(parts[-1].read_bytes())
    with pytest.raises(DataError, match="have changed since training began"):
        epoch(feed)


def test_all_restrictions_hold_for_what_is_read(stored):
    data = Dataset.open(stored).restricted(
        classes={"signal": ["ttbar"], "background": ["hh4b"]}, max_events=300
    )
    feed = folder_feed(data.train, memory=20_000)
    found = np.sort(np.concatenate(epoch(feed)))
    np.testing.assert_array_equal(found, np.sort(ids(data.train.events())))
    assert feed.events < 600


def test_computed_columns_are_fed_from_disk_too(train):
    wider = train.with_columns({"kinematics": {"twice": lambda objects: 2 * objects["pt"]}})
    for batch in folder_feed(wider).batches(0, 512):
        values = batch.streams["kinematics"].values
        np.testing.assert_array_equal(values[:, -1], 2 * values[:, 0])


def test_streams_are_cut_to_what_the_network_takes(train):
    def two(streams):
        return {name: stream.leading(2, None) for name, stream in streams.items()}

    feed = FolderFeed(train, two, WINDOW, 7)
    for batch, whole in zip(feed.batches(0, 512), folder_feed(train).batches(0, 512), strict=True):
        assert (batch.streams["kinematics"].counts == 2).all()
        np.testing.assert_array_equal(
            batch.streams["kinematics"].values[::2], whole.streams["kinematics"].values[::4]
        )
