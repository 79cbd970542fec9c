"""Packed events against plain lists of tokens."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from helpers.toys import toy_events
from manyscale.data.packing import PackedEvents
from manyscale.events.ragged import PackedStream, ragged_rows

COUNTS = st.lists(st.integers(0, 6), max_size=12)


def packed(counts):
    """Token t of event i has the values (100 i + t, t, (7 i + 5 t) mod 11)."""
    tokens = [
        (100 * i + t, t, (7 * i + 5 * t) % 11) for i, n in enumerate(counts) for t in range(n)
    ]
    return PackedStream(
        np.array(tokens, np.float32).reshape(-1, 3),
        np.array(counts, np.int64),
        np.arange(2 * len(counts), dtype=np.float32).reshape(-1, 2),
    )


def tokens_of(stream):
    """The tokens of each event, as lists."""
    pieces = np.split(stream.values, stream.offsets[1:-1]) if len(stream) else []
    return [piece.tolist() for piece in pieces]


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 5)), max_size=10))
def test_ragged_rows_joins_ranges(pairs):
    starts = np.array([start for start, _ in pairs], np.int64)
    counts = np.array([count for _, count in pairs], np.int64)
    expected = [row for start, count in pairs for row in range(start, start + count)]
    assert ragged_rows(starts, counts).tolist() == expected


@given(COUNTS, st.data())
def test_take_gives_the_tokens_of_the_events_named(counts, data):
    stream = packed(counts)
    places = st.lists(st.integers(0, len(counts) - 1), max_size=8) if counts else st.just([])
    chosen = np.array(data.draw(places), np.int64)
    taken = stream.take(chosen)
    everything = tokens_of(stream)
    assert tokens_of(taken) == [everything[event] for event in chosen]
    np.testing.assert_array_equal(taken.axis, stream.axis[chosen])


@given(COUNTS, st.integers(0, 12), st.integers(0, 12))
def test_between_is_take_of_a_range(counts, first, length):
    stream = packed(counts)
    first = min(first, len(counts))
    last = first + length
    expected = stream.take(np.arange(first, min(last, len(counts))))
    found = stream.between(first, last)
    assert tokens_of(found) == tokens_of(expected)
    np.testing.assert_array_equal(found.axis, expected.axis)


@given(COUNTS, st.integers(1, 4))
def test_leading_keeps_the_highest_in_their_order(counts, most):
    stream = packed(counts)
    kept = tokens_of(stream.leading(most, by=2))
    for tokens, found in zip(tokens_of(stream), kept, strict=True):
        highest = sorted(tokens, key=lambda token: -token[2])[:most]
        assert found == [token for token in tokens if token in highest]
    first = tokens_of(stream.leading(most, by=None))
    assert first == [tokens[:most] for tokens in tokens_of(stream)]


@given(COUNTS)
def test_padded_holds_the_tokens_and_then_zeros(counts):
    stream = packed(counts)
    padded = stream.padded(7)
    assert padded.shape == (len(counts), 7, 3)
    for event, tokens in enumerate(tokens_of(stream)):
        assert padded[event, : len(tokens)].tolist() == tokens
        assert not padded[event, len(tokens) :].any()


@given(COUNTS, COUNTS)
def test_concatenate_puts_one_behind_the_other(first, second):
    both = PackedStream.concatenate([packed(first), packed(second)])
    assert tokens_of(both) == tokens_of(packed(first)) + tokens_of(packed(second))


def test_events_are_taken_and_joined_with_all_that_is_known_of_them():
    events = toy_events(3)
    again = PackedEvents.concatenate([events.between(0, 7), events.take(np.arange(7, len(events)))])
    for name, stream in events.streams.items():
        np.testing.assert_array_equal(again.streams[name].values, stream.values)
    for what in ("event_id", "label", "process", "weight"):
        np.testing.assert_array_equal(getattr(again, what), getattr(events, what))
    np.testing.assert_array_equal(again.observables["m_hh"], events.observables["m_hh"])
    assert list(events.only(["jet2"]).streams) == ["jet2"]
