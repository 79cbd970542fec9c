import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from manyscale.model.layout import Buckets, Layout, Padding

LENGTHS = st.lists(st.one_of(st.integers(1, 30), st.integers(1, 400)), min_size=1, max_size=200)


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
    layout = Layout(np.array(counts, np.int64))
    keys = layout.to_itself.keys
    rows = torch.randn(len(layout.event), 2, requires_grad=True)
    other = torch.randn(len(layout.event), 3, requires_grad=True)
    padded = keys.pad(rows, other)
    assert [tuple(bucket.shape) for bucket, _ in padded] == [(*shape, 2) for shape in keys.shapes]
    back = keys.unpad([bucket * bucket for bucket, _ in padded])
    torch.testing.assert_close(back, rows * rows)
    (back.sum() + 5 * keys.unpad([bucket for _, bucket in padded]).sum()).backward()
    torch.testing.assert_close(rows.grad, 2 * rows.detach())
    torch.testing.assert_close(other.grad, torch.full_like(other, 5))


def test_rows_attend_to_those_of_their_own_event_alone():
    layout = Layout(np.array([2, 0, 3]))
    (mask,) = layout.to_itself.masks
    (event,) = layout.to_itself.keys.event_of_slot.reshape(mask.shape[0], -1)
    assert event.tolist() == [0, 1, 2, 0, 0, 2, 2, 2]
    seen = (mask == 0)[0, 0].numpy()
    assert (seen == (event[:, None] == event)).all()
    assert (mask[0, 0].numpy()[~seen] == -30_000).all()
    (of_class,) = layout.class_to_all.masks
    assert (of_class[0, 0] == mask[0, 0, :3]).all()


def test_rows_attend_to_other_streams():
    one, other = Layout(np.array([1, 40])), Layout(np.array([0, 60]))
    layout = one.to_contexts([other, one])
    edges = np.cumsum([rows * length for rows, length in layout.keys.shapes])[:-1]
    real = sorted((event >= 0).sum() for event in np.split(layout.keys.event_of_slot, edges))
    assert real in ([3, 102], [105])
    for mask, (_, length) in zip(layout.masks, layout.keys.shapes, strict=True):
        assert mask.shape[-1] == length
