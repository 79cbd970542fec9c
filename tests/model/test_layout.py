import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from manyscale.model.layout import Buckets, Layout, Padding, Sequences

LENGTHS = st.lists(st.one_of(st.integers(1, 30), st.integers(1, 400)), min_size=1, max_size=200)


def layout_of(counts):
    counts = np.array(counts, np.int64)
    return Layout(torch.from_numpy(counts), counts)


def padding_of(lengths):
    lengths = np.array(lengths)
    buckets = Buckets.of(lengths)
    event = np.repeat(np.arange(len(lengths)), lengths)
    return buckets, Padding.of(event, buckets), event


@given(lengths=LENGTHS)
def test_every_row_has_one_slot_in_the_padded_row_of_its_event(lengths):
    buckets, padding, event = padding_of(lengths)
    slots = padding.unpad_index.numpy()
    assert len(set(slots.tolist())) == len(event)
    assert (padding.event_of_slot[slots] == event).all()
    assert (padding.pad_index[padding.unpad_index] == torch.arange(len(event))).all()
    assert len(padding.event_of_slot) == sum(rows * length for rows, length in padding.shapes)
    edges = np.cumsum([0, *(length for rows, length in padding.shapes for _ in range(rows))])
    padded_rows = np.searchsorted(edges, slots, side="right") - 1
    assert (padded_rows == buckets.row_of_event[event]).all()


@given(lengths=LENGTHS)
def test_buckets_hold_no_more_padding_than_padding_all_to_the_longest(lengths):
    _, padding, _ = padding_of(lengths)
    assert len(padding.event_of_slot) <= max(len(lengths) * max(lengths), 2 * sum(lengths))


def test_short_events_share_padded_rows():
    lengths = np.random.default_rng(1).geometric(1 / 6, 50) + 1
    buckets, padding, event = padding_of(lengths)
    assert buckets.alone == (False,)
    assert len(event) > 0.75 * len(padding.event_of_slot)


def test_one_giant_event_pads_none_of_its_neighbours():
    _, padding, event = padding_of([5000, *[20] * 255])
    assert padding.shapes[0] == (1, 5000)
    assert len(event) > 0.9 * len(padding.event_of_slot)


@pytest.mark.parametrize("counts", [[2, 0, 3], [0], [0, 60, 1], []])
def test_rows_are_padded_and_come_back_with_their_gradients(counts):
    layout = layout_of(counts)
    keys = layout.to_itself.padded.keys
    rows = torch.randn(layout.rows, 2, requires_grad=True)
    padded = keys.pad(rows)
    assert [tuple(bucket.shape) for bucket in padded] == [(*shape, 2) for shape in keys.shapes]
    back = keys.unpad([bucket * bucket for bucket in padded])
    torch.testing.assert_close(back, rows * rows)
    back.sum().backward()
    torch.testing.assert_close(rows.grad, 2 * rows.detach())


def test_a_class_token_stands_before_the_tokens_of_its_event():
    layout = layout_of([2, 0, 3])
    assert layout.event.tolist() == layout.event_of_row.tolist() == [0, 0, 0, 1, 2, 2, 2, 2]
    assert layout.starts.tolist() == [0, 3, 4, 8]
    assert layout.first_rows.tolist() == [0, 3, 4]
    assert layout.token_rows.tolist() == [1, 2, 5, 6, 7]
    assert layout.token_of_row.tolist() == [0, 1, 2, 0, 0, 3, 4, 5]
    assert layout.index.tolist() == [0, 1, 0, 1, 2]
    assert layout.class_rows(torch.arange(8.0)[:, None])[:, 0].tolist() == [0, 3, 4]


def test_rows_attend_to_those_of_their_own_event_alone():
    layout = layout_of([2, 0, 3])
    (mask,) = layout.to_itself.padded.masks
    event = layout.to_itself.padded.keys.event_of_slot
    assert event.tolist() == [0, 0, 0, 1, 2, 2, 2, 2]
    seen = (mask == 0)[0, 0].numpy()
    assert (seen == (event[:, None] == event)).all()
    assert (mask[0, 0].numpy()[~seen] == -30_000).all()
    (of_class,) = layout.class_to_all.padded.masks
    assert (of_class[0, 0] == mask[0, 0, [0, 3, 4]]).all()


def test_rows_attend_to_other_streams():
    one, other = layout_of([1, 40]), layout_of([0, 60])
    layout = one.to_contexts([other, one]).padded
    edges = np.cumsum([rows * length for rows, length in layout.keys.shapes])[:-1]
    real = sorted((event >= 0).sum() for event in np.split(layout.keys.event_of_slot, edges))
    assert real in ([3, 102], [105])
    for mask, (_, length) in zip(layout.masks, layout.keys.shapes, strict=True):
        assert mask.shape[-1] == length


@given(counts=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=20))
def test_sequences_bring_the_rows_of_several_streams_together(counts):
    layouts = [layout_of(of_stream) for of_stream in zip(*counts, strict=True)]
    sequences = Sequences.of(layouts)
    event = torch.cat([torch.from_numpy(layout.event) for layout in layouts])
    stream = torch.repeat_interleave(torch.arange(2), torch.tensor([x.rows for x in layouts]))
    row = torch.cat([torch.arange(layout.rows) for layout in layouts])
    key = (event * 2 + stream) * 1000 + row
    brought = sequences.bring(key.double())
    assert (brought.diff() > 0).all()
    lengths = np.array(counts).sum(1) + 2
    assert sequences.starts.tolist() == [0, *np.cumsum(lengths)]
    assert sequences.longest == lengths.max()
