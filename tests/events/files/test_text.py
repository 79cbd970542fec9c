import pickle
import re
from collections import deque
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.generator_files import compressed
from manyscale.errors import DataError
from manyscale.events.files import text
from manyscale.events.files.reader import Piece
from manyscale.events.files.text import EventTexts, split

MARKER = re.compile(rb"\nE ")
WAYS = ("plain", "gzip", "zstd")
texts = st.lists(st.text("E \nab", max_size=20).filter(lambda text: "\nE " not in f"{text}\n"))


def _texts(path):
    return [text for _, text in split(str(path), MARKER)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("texts")


@given(parts=texts.filter(bool), block=st.integers(1, 30), way=st.sampled_from(WAYS))
def test_any_text_is_divided_wherever_blocks_end(folder, parts, block, way):
    path = folder / "events.txt"
    # A part that ends in a marker's beginning would run into the next marker.
    whole = "\nE ".join(part + "." for part in parts).encode()
    path.write_bytes(compressed(whole, way))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "_BLOCK", block)
        found = _texts(path)
    assert found == [part.encode() + b"." for part in parts]


@pytest.mark.parametrize("way", WAYS)
def test_scan(tmp_path, way):
    path = tmp_path / "anything.dat"
    path.write_bytes(compressed(b"head\nx\nE 0\nP\nE 1\nE 2\nend\n", way))
    assert EventTexts(MARKER).scan(str(path)) == (b"head\nx", 3, b"0\nP", b"2\nend\n")
    path.write_bytes(compressed(b"head\nElse\n", way))
    assert EventTexts(MARKER).scan(str(path)) == (b"head\nElse\n", 0, b"", b"")


@pytest.mark.parametrize("way", ["gzip", "zstd"])
def test_several_compressed_files_joined_are_one(tmp_path, way):
    path = tmp_path / "joined"
    path.write_bytes(compressed(b"head\nE 0", way) + compressed(b"\nE 1", way))
    assert _texts(path) == [b"head", b"0", b"1"]


# Overwritten zstd is found by its checksum, which pyarrow does not write.
@pytest.mark.parametrize(
    ("way", "damage"), [("gzip", "cut"), ("gzip", "overwritten"), ("zstd", "cut")]
)
def test_damage_names_file_and_event(tmp_path, monkeypatch, way, damage):
    monkeypatch.setattr(text, "_BLOCK", 1000)
    events = b"".join(b"\nE %d " % n + str(n**99).encode() * 20 for n in range(200))
    whole = compressed(b"head" + events, way)
    middle = len(whole) // 2
    behind = b"" if damage == "cut" else bytes(40) + whole[middle + 40 :]
    path = tmp_path / "damaged"
    path.write_bytes(whole[:middle] + behind)
    with pytest.raises(DataError, match=r"damaged cannot be decompressed in or behind event \d"):
        _texts(path)


def test_no_such_file(tmp_path):
    with pytest.raises(DataError, match="nothing cannot be read: No such file"):
        _texts(tmp_path / "nothing")
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        _texts(tmp_path)


def test_no_more_is_held_than_a_block_and_an_event(tmp_path, monkeypatch):
    path = tmp_path / "long"
    path.write_bytes(b"head" + b"\nE " * 1000)
    held = []
    monkeypatch.setattr(text, "_BLOCK", 30)

    class Watch:
        def finditer(self, text):
            held.append(len(text))
            return MARKER.finditer(text)

    assert EventTexts(Watch()).scan(str(path)).entries == 1000
    assert max(held) <= 33


# ---- reading on -------------------------------------------------------------------------------


def _events(number, size=40):
    return b"head" + b"".join(b"\nE %d " % at + b"x" * size for at in range(number))


def _between(texts, path, first, last):
    batches = list(texts.batches(Piece(str(path), first, last), 7))
    assert all(len(batch) <= 7 for _, batch in batches)
    found = [(at + i, text) for at, batch in batches for i, text in enumerate(batch)]
    assert all(text.startswith(b"%d " % at) for at, text in found)
    return [at for at, _ in found]


@pytest.fixture
def kept(monkeypatch):
    """What a process keeps: nothing at first."""
    monkeypatch.setattr(text, "_PLACES", deque(maxlen=4))
    return text._PLACES


@pytest.fixture
def taken(monkeypatch):
    """Number of bytes that each opening of a file has given, decompressed."""
    numbers = []
    opened = text._open

    class Counting:
        def __init__(self, stream):
            self.stream = stream
            self.at = len(numbers)
            numbers.append(0)

        def __enter__(self):
            self.stream.__enter__()
            return self

        def __exit__(self, *error):
            self.stream.__exit__(*error)

        def read(self, size):
            block = self.stream.read(size)
            numbers[self.at] += len(block)
            return block

    monkeypatch.setattr(text, "_open", lambda *of: Counting(opened(*of)))
    monkeypatch.setattr(text, "_BLOCK", 1000)
    return numbers


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("way", WAYS)
def test_units_one_after_the_other_read_a_file_once(tmp_path, taken, way):
    path = tmp_path / "events"
    whole = _events(1000)
    path.write_bytes(compressed(whole, way))
    for first in range(0, 1000, 100):
        # Each unit brings a reader of its own.
        texts = pickle.loads(pickle.dumps(EventTexts(MARKER)))  # noqa: S301
        assert _between(texts, path, first, first + 100) == list(range(first, first + 100))
    assert sum(taken) == len(whole)


def test_units_in_other_processes_begin_at_a_mark(tmp_path, taken, kept, monkeypatch):
    monkeypatch.setattr(text, "_MARK", 2000)
    path = tmp_path / "events"
    path.write_bytes(_events(1000))
    texts = EventTexts(MARKER)
    assert texts.scan(str(path)).entries == 1000
    for first in (900, 500, 0):
        kept.clear()
        taken.clear()
        sent = pickle.loads(pickle.dumps(texts))  # noqa: S301
        assert _between(sent, path, first, first + 10) == list(range(first, first + 10))
        assert sum(taken) <= 4000  # up to the mark, the events, and the end of a block
    taken.clear()
    assert texts.last(str(path)).startswith(b"999 ")
    assert sum(taken) <= 4000


@given(
    pieces=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)).map(sorted), max_size=6),
    way=st.sampled_from(WAYS),
    scanned=st.booleans(),
)
def test_any_ranges_in_any_order(folder, pieces, way, scanned):
    path = folder / "ranges.txt"
    path.write_bytes(compressed(_events(50), way))
    texts = EventTexts(MARKER)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "_BLOCK", 100)
        patch.setattr(text, "_MARK", 150)
        if scanned:
            texts.scan(str(path))
        for first, last in pieces:
            found = _between(texts, path, first, last)
            assert found == list(range(first, min(last, 50)))
        assert _between(texts, path, 40, None) == list(range(40, 50))
        assert texts.last(str(path)).startswith(b"49 ")
        assert texts.head(str(path)) == b"head"


def test_two_ranges_read_in_turns(tmp_path):
    path = str(tmp_path / "events")
    Path(path).write_bytes(_events(40))
    texts = EventTexts(MARKER)
    assert _between(texts, path, 0, 10)[-1] == 9  # leaves a place, which one of them takes
    both = [texts.batches(Piece(path, first, first + 6), 2) for first in (10, 12)]
    for one, other in zip(*both, strict=True):
        assert one[0] + 2 == other[0]
        assert [batch[0][:3] for _, batch in (one, other)] == [
            b"%d " % of[0] for of in (one, other)
        ]


def test_file_that_is_written_anew_is_another(tmp_path):
    path = tmp_path / "events"
    texts = EventTexts(MARKER)
    for size in (40, 50):
        path.write_bytes(_events(40, size))
        texts.scan(str(path))
        assert _between(texts, path, 10, 20) == list(range(10, 20))
        (_, batch), *_ = texts.batches(Piece(str(path), 20, 21), 1)
        assert len(batch[0]) == size + 3
