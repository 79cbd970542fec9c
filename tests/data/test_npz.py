"""npz files as users have them: what is read is what was stored."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from manyscale.data.identity import event_ids
from manyscale.data.npz import (
    StreamPacker,
    describe_stream,
    from_arrays,
    read_npz,
    read_npz_events,
)
from manyscale.errors import DataError
from manyscale.schema import LONE_STREAM

SEED_DEMO = Path(__file__).parents[3] / "shared" / "data" / "seed_demo"
PADDED = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 5), st.integers(0, 6), st.just(3)),
    elements=st.sampled_from([0.0, 1.0, -2.5, 3.0]),
)


def store(path, array, **more):
    np.savez_compressed(path, array, **more)
    return path


def random_padded(events, tokens, columns, seed=0, dtype=np.float64):
    """Padded events with 0 to `tokens` tokens; no value is zero but in the padding."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, tokens + 1, events)
    values = rng.uniform(1, 3, (events, tokens, columns))
    values[np.arange(tokens)[None, :] >= counts[:, None]] = 0
    return values.astype(dtype), counts


@given(PADDED, st.booleans())
def test_packing_drops_padding_and_nothing_else(array, named):
    names = ("eta", "pt", "charge") if named else ()
    stream = describe_stream("jet", names, 3, "here")
    packed = StreamPacker(stream, "here").pack(array)
    for event, padded in enumerate(array):
        real = padded[padded[:, 1] != 0] if named else padded[(padded != 0).any(axis=1)]
        found = packed.take(np.array([event]))
        assert found.values.tolist() == real.tolist()
        assert found.counts.tolist() == [len(real)]


def test_padding_between_real_tokens_is_dropped_and_the_order_kept():
    array = np.zeros((1, 5, 2))
    array[0, [0, 2, 4], 1] = [3, 1, 2]
    packed = StreamPacker(describe_stream("jet", ("eta", "pt"), 2, ""), "").pack(array)
    assert packed.values[:, 1].tolist() == [3, 1, 2]


def test_axis_columns_stand_once_an_event():
    array = np.zeros((3, 4, 3))
    array[0, :2] = [[400, 5, 0.1], [400, 6, 0.2]]
    array[2, :1] = [[300, 7, 0.3]]
    stream = describe_stream("jet", ("jet_pt", "pt", "eta"), 3, "here")
    assert (stream.columns, stream.axis) == (("pt", "eta"), ("jet_pt",))
    assert stream.all_columns == ("jet_pt", "pt", "eta")
    packed = StreamPacker(stream, "here").pack(array)
    np.testing.assert_allclose(packed.values, [[5, 0.1], [6, 0.2], [7, 0.3]], rtol=1e-6)
    assert packed.axis.tolist() == [[400], [0], [300]]


def test_an_axis_that_differs_between_tokens_is_refused():
    array = np.array([[[400, 5.0]], [[300, 5.0]]]).reshape(1, 2, 2)
    packer = StreamPacker(describe_stream("jet", ("jet_pt", "pt"), 2, "a.npz"), "a.npz")
    with pytest.raises(DataError, match=r"a.npz: event 0: jet_pt .* 300 beside 400"):
        packer.pack(array)


def test_a_stream_of_axis_columns_alone_keeps_them_as_its_own():
    stream = describe_stream("jets", ("jet_pt", "jet_eta"), 2, "")
    assert (stream.columns, stream.axis) == (("jet_pt", "jet_eta"), ())


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, ">f8", np.int32])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("compressed", [True, False])
def test_any_plain_numbers_are_read(tmp_path, dtype, order, compressed):
    array, counts = random_padded(40, 6, 3, dtype=dtype)
    save = np.savez_compressed if compressed else np.savez
    save(tmp_path / "a.npz", np.asarray(array, order=order))
    stream = describe_stream(LONE_STREAM, None, 3, "")
    events = read_npz_events(tmp_path / "a.npz", [stream])
    assert events.streams[LONE_STREAM].counts.tolist() == counts.tolist()
    np.testing.assert_array_equal(events.streams[LONE_STREAM].padded(6), array.astype(np.float32))
    assert set(events.label.tolist()) == {-1}


def test_blocks_make_no_difference(tmp_path, monkeypatch):
    array, _ = random_padded(50, 6, 3)
    path = store(tmp_path / "a.npz", array)
    stream = describe_stream(LONE_STREAM, None, 3, "")
    whole = read_npz_events(path, [stream])
    monkeypatch.setattr("manyscale.data.npz._BLOCK_BYTES", 8 * 18 * 7)
    pieces = read_npz_events(path, [stream])
    np.testing.assert_array_equal(
        whole.streams[LONE_STREAM].values, pieces.streams[LONE_STREAM].values
    )
    np.testing.assert_array_equal(whole.event_id, pieces.event_id)


def test_signal_and_background_become_a_dataset(tmp_path):
    signal, counts = random_padded(30, 5, 2, seed=1)
    background, _ = random_padded(20, 8, 2, seed=2)
    data = read_npz(store(tmp_path / "s.npz", signal), store(tmp_path / "b.npz", background), {})
    events = data.events()
    assert len(data) == 50
    assert data.class_counts == {"signal": 30, "background": 20}
    assert events.label.tolist() == [1] * 30 + [0] * 20
    assert data.schema.stream(LONE_STREAM).columns == ("f0", "f1")
    assert events.streams[LONE_STREAM].counts[:30].tolist() == counts.tolist()
    assert sum(map(len, (data.train, data.validation, data.test))) == 50


def test_several_streams_may_be_shuffled_in_the_card(tmp_path):
    files = {
        name: {
            stream: store(tmp_path / f"{name}_{stream}.npz", random_padded(9, 4, width, seed=3)[0])
            for stream, width in (("jet1", 2), ("kinematics", 3))
        }
        for name in ("signal", "background")
    }
    columns = {"kinematics": ["pt", "mass", "eta"], "jet1": ["delta_eta", "pt"]}
    data = read_npz(files["signal"], files["background"], columns)
    turned = {key: dict(reversed(value.items())) for key, value in files.items()}
    again = read_npz(turned["signal"], turned["background"], columns)
    np.testing.assert_array_equal(data.events().event_id, again.events().event_id)
    assert [stream.name for stream in data.schema.streams] == ["jet1", "kinematics"]
    assert [stream.name for stream in again.schema.streams] == ["kinematics", "jet1"]


def test_event_ids_follow_from_the_file_wherever_it_stands(tmp_path):
    array, _ = random_padded(6, 3, 2)
    (tmp_path / "elsewhere").mkdir()
    first = store(tmp_path / "a.npz", array)
    second = tmp_path / "elsewhere" / "a.npz"
    second.write_bytes(first.read_bytes())
    stream = describe_stream(LONE_STREAM, None, 2, "")
    ids = [read_npz_events(path, [stream]).event_id.tolist() for path in (first, second)]
    assert ids[0] == ids[1]
    renamed = first.rename(tmp_path / "b.npz")
    assert not set(read_npz_events(renamed, [stream]).event_id.tolist()) & set(ids[0])


def test_prediction_takes_an_array_a_stream_and_leaves_others_alone(tmp_path):
    arrays = {"jet1": random_padded(5, 3, 2, seed=1)[0], "jet2": random_padded(5, 4, 3, seed=2)[0]}
    np.savez(tmp_path / "new.npz", **arrays, truth=np.array(["a"] * 5))
    streams = [describe_stream("jet2", None, 3, ""), describe_stream("jet1", None, 2, "")]
    events = read_npz_events(tmp_path / "new.npz", streams)
    np.testing.assert_array_equal(events.streams["jet2"].padded(4), arrays["jet2"].astype("f4"))
    held = read_npz_events(arrays, streams)
    np.testing.assert_array_equal(held.streams["jet1"].padded(3), arrays["jet1"].astype("f4"))


def test_prediction_from_an_array_puts_columns_as_training_did():
    stream = describe_stream("jet", ("jet_pt", "pt"), 2, "")
    array = np.array([[[400.0, 3.0], [400.0, 2.0]]])
    events = read_npz_events(array, [stream])
    assert events.streams["jet"].values.tolist() == [[3], [2]]
    assert events.streams["jet"].axis.tolist() == [[400]]


def test_arrays_in_memory_carry_labels_and_weights():
    array, _ = random_padded(4, 3, 2)
    data = from_arrays(array, [1, 0, 0, 1], [1.0, 2.0, -0.5, 1.0], ["pt", "eta"])
    events = data.events()
    assert events.label.tolist() == [1, 0, 0, 1]
    assert [data.schema.processes[p].name for p in events.process[:2]] == ["signal", "background"]
    assert events.weight.tolist() == [1, 2, -0.5, 1]
    assert len(np.unique(events.event_id)) == 4
    unlabelled = from_arrays({"jet1": array}).events()
    assert unlabelled.label.tolist() == [-1] * 4
    np.testing.assert_array_equal(unlabelled.event_id, event_ids("arrays in memory", np.arange(4)))


def test_unusual_values_are_told_and_kept():
    array = np.array([[[5.0, 4.0]], [[5.0, -3.5]], [[5.0, 1.0]]])
    data = from_arrays(array, [0, 1, 1], columns=["pt", "phi"])
    (notice,) = data.notices
    assert (
        "2 values of 'phi' in the stream 'constituents' are outside the usual -3.1416 to" in notice
    )
    assert notice.endswith("of about 4: not in (-pi, pi]?")
    assert data.events().streams[LONE_STREAM].values[:, 1].tolist() == [4, -3.5, 1]
    (notice,) = from_arrays(np.zeros((2, 2, 1)), [0, 1]).notices
    assert "no event has a token" in notice


@pytest.mark.skipif(not SEED_DEMO.is_dir(), reason="the seed's demo events are not here")
def test_the_seed_demo_is_read_as_it_is():
    columns = [
        "delta_eta", "delta_phi", "pt", "energy", "log_pt_rel", "log_energy_rel", "particle_class",
    ]  # fmt: skip
    data = read_npz(SEED_DEMO / "signal.npz", SEED_DEMO / "background.npz", columns)
    assert data.class_counts == {"signal": 12_045, "background": 11_955}
    with np.load(SEED_DEMO / "signal.npz", allow_pickle=False) as stored:
        array = stored["arr_0"]
    constituents = data.events().streams[LONE_STREAM]
    assert constituents.counts[:12_045].tolist() == (array[..., 2] != 0).sum(1).tolist()
    np.testing.assert_array_equal(
        constituents.values[: constituents.offsets[12_045]],
        array[array[..., 2] != 0].astype(np.float32),
    )
    assert any("delta_phi" in notice for notice in data.notices)
