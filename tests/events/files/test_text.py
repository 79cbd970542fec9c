import re

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
