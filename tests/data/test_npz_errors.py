"""Bad npz files and arrays: each gets an error that says what, where, and what to do."""

import pickle
import re
import zipfile
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from manyscale.data.npz import describe_stream, from_arrays, read_npz, read_npz_events
from manyscale.errors import DataError

GOOD = np.ones((6, 3, 2))
STREAM = [describe_stream("constituents", None, 2, "")]


@pytest.fixture
def good(tmp_path):
    np.savez(tmp_path / "good.npz", GOOD)
    return tmp_path / "good.npz"


def refusal(path, background):
    with pytest.raises(DataError) as caught:
        read_npz(path, background)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_missing_file_and_folder(tmp_path, good):
    assert "there is no file" in refusal(tmp_path / "none.npz", good)
    assert "folder" in refusal(tmp_path, good)


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was opened",))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"pt,eta\n1,2\n", "no npz file"),
        (b"", "no npz file"),
        (pickle.dumps(Trap()), "pickle"),
        (b"PK\x03\x04 and nothing more", "cut short or damaged"),
    ],
)
def test_other_files_of_that_name(tmp_path, good, content, says):
    path = tmp_path / "bad.npz"
    path.write_bytes(content)
    assert says in refusal(path, good)


def test_an_npy_file_says_how_to_store_it(tmp_path, good):
    np.save(tmp_path / "a.npy", GOOD)
    assert "numpy.savez" in refusal(tmp_path / "a.npy", good)


def test_a_zip_without_arrays(tmp_path, good):
    with zipfile.ZipFile(tmp_path / "bad.npz", "w") as archive:
        archive.writestr("a.txt", "hello")
    assert "without arrays" in refusal(tmp_path / "bad.npz", good)


def test_objects_are_never_unpickled(tmp_path, good):
    array = np.empty((2, 1, 1), object)
    array[:] = Trap()
    np.savez(tmp_path / "bad.npz", array)
    assert "Python objects" in refusal(tmp_path / "bad.npz", good)


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.full((2, 3, 2), "pt"), "instead of numbers"),
        (np.ones((2, 3, 2), complex), "instead of numbers"),
        (np.ones((4, 3)), r"shape \(4, 3\); it should be \(events, tokens, columns\)"),
        (np.float64(1.0), "shape"),
        (np.ones((0, 3, 2)), "no events"),
        (np.ones((2, 3, 0)), "no columns"),
        (np.ones((2, 3, 5)), "different numbers of columns"),
    ],
)
def test_arrays_of_another_kind(tmp_path, good, array, says):
    np.savez(tmp_path / "bad.npz", array)
    assert re.search(says, refusal(tmp_path / "bad.npz", good))


@pytest.mark.parametrize(
    ("value", "says"),
    [(np.nan, "is NaN"), (np.inf, "is infinite"), (-np.inf, "is infinite"), (1e39, "is too large")],
)
def test_values_that_are_not_finite_are_placed(tmp_path, good, monkeypatch, value, says):
    monkeypatch.setattr("manyscale.data.npz._BLOCK_BYTES", 8 * 6 * 2)
    array = GOOD.copy()
    array[4, 2, 1] = value
    np.savez(tmp_path / "bad.npz", array)
    with pytest.raises(DataError, match=r"event 4, token 2, column 1 \(eta\) " + says):
        read_npz(tmp_path / "bad.npz", good, ["pt", "eta"])


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_is_refused_or_read_right(tmp_path, save, data):
    path = tmp_path / "a.npz"
    save(path, np.random.default_rng(1).uniform(1, 2, (6, 3, 2)))
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] ^= data.draw(st.integers(1, 255))
    whole = read_npz_events(path, STREAM).streams["constituents"].values
    path.write_bytes(content)
    with suppress(DataError):
        found = read_npz_events(path, STREAM).streams["constituents"].values
        np.testing.assert_array_equal(found, whole)


def test_several_arrays_without_a_hint(tmp_path, good):
    np.savez(tmp_path / "two.npz", a=GOOD, b=GOOD)
    assert "a, b" in refusal(tmp_path / "two.npz", good)
    np.savez(tmp_path / "three.npz", a=GOOD, constituents=2 * GOOD)
    assert len(read_npz(tmp_path / "three.npz", good)) == 12


def test_the_same_file_as_both_classes(good):
    assert "same" in refusal(good, good)


def test_streams_of_different_numbers_of_events(tmp_path, good):
    np.savez(tmp_path / "short.npz", GOOD[:5])
    files = {"jet1": good, "jet2": tmp_path / "short.npz"}
    with pytest.raises(DataError, match=r"different numbers of events.*has 6.*has 5"):
        read_npz(files, files)


def test_classes_of_different_streams(tmp_path, good):
    np.savez(tmp_path / "other.npz", 2 * GOOD)
    with pytest.raises(DataError, match=r"signal has the streams jet1, background jet2"):
        read_npz({"jet1": good}, {"jet2": tmp_path / "other.npz"})


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        (["pt"], "2 columns, but 1 are named"),
        (["pt", "pt"], "names of their own: pt"),
        (["pt", ""], "an empty name"),
        ({"jet9": ["pt", "eta"]}, "a stream 'jet9', but there is none; there are constituents"),
    ],
)
def test_columns_that_do_not_fit(tmp_path, good, columns, says):
    np.savez(tmp_path / "other.npz", 2 * GOOD)
    with pytest.raises(DataError, match=says):
        read_npz(good, tmp_path / "other.npz", columns)


def test_prediction_names_what_is_missing(tmp_path, good):
    streams = [describe_stream("jet1", None, 2, ""), describe_stream("jet2", None, 2, "")]
    np.savez(tmp_path / "one.npz", jet1=GOOD)
    with pytest.raises(DataError, match=r"lacks the arrays jet2.*there are jet1"):
        read_npz_events(tmp_path / "one.npz", streams)
    with pytest.raises(DataError, match="one array each"):
        read_npz_events(GOOD, streams)
    with pytest.raises(DataError, match=r"has 2 columns, but the network was trained on 3"):
        read_npz_events(good, [describe_stream("constituents", None, 3, "")])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"arrays": [[1, 2], [3]]}, "no array"),
        ({"arrays": {}}, "no stream"),
        (
            {"arrays": GOOD, "labels": [0, 1]},
            r"labels must be one number an event, of shape \(6,\)",
        ),
        ({"arrays": GOOD, "labels": [0, 1, 2, 0, 1, 0]}, "must be 1 .signal. or 0 .background."),
        ({"arrays": GOOD, "labels": ["a"] * 6}, "labels must be one number"),
        ({"arrays": GOOD, "weights": [1, 1, 1, np.nan, 1, 1]}, "weight of event 3 is nan"),
        ({"arrays": {"jet1": GOOD, "jet2": GOOD[:2]}}, "different numbers of events"),
        ({"arrays": {"jet1": GOOD, "jet2": GOOD}, "columns": ["pt", "eta"]}, "each stream"),
    ],
)
def test_arrays_in_memory_are_checked_as_well(arguments, says):
    with pytest.raises(DataError, match=says):
        from_arrays(**arguments)
