import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from manyscale.model.bins import Bins
from manyscale.model.tokens import Layout, Slots

LENGTHS = st.lists(st.one_of(st.integers(1, 30), st.integers(1, 400)), min_size=1, max_size=200)


def slots_of(lengths):
    lengths = np.array(lengths)
    bins = Bins.of(lengths)
    event = np.repeat(np.arange(len(lengths)), lengths)
    return bins, Slots.of(event, bins), event


@given(lengths=LENGTHS)
def test_bins_hold_every_row_once_and_events_stay_whole(lengths):
    bins, slots, event = slots_of(lengths)
    taken = slots.row_slot.numpy()
    assert len(set(taken.tolist())) == len(event)
    assert (slots.owner[taken] == event).all()
    assert (slots.slot_row[slots.row_slot] == torch.arange(len(event))).all()
    assert len(slots.owner) == sum(many * size for many, size in slots.shapes)
    edges = np.cumsum([0, *(size for many, size in slots.shapes for _ in range(many))])
    places = np.searchsorted(edges, taken, side="right") - 1
    assert (places == bins.of_event[event]).all()


@given(lengths=LENGTHS)
def test_bins_cost_no_more_pairs_than_padding_all_to_the_longest(lengths):
    _, slots, _ = slots_of(lengths)
    assert len(slots.owner) <= max(len(lengths) * max(lengths), 2 * sum(lengths))


def test_short_events_share_bins():
    lengths = np.random.default_rng(1).geometric(1 / 6, 50) + 1
    bins, slots, event = slots_of(lengths)
    assert bins.alone == (False,)
    assert len(event) > 0.75 * len(slots.owner)


def test_one_giant_event_pads_none_of_its_neighbours():
    _, slots, event = slots_of([5000, *[20] * 255])
    assert slots.shapes[0] == (1, 5000)
    assert len(event) > 0.9 * len(slots.owner)


@pytest.mark.parametrize("counts", [[2, 0, 3], [0], [0, 60, 1], []])
def test_rows_come_to_slots_and_back(counts):
    layout = Layout(np.array(counts, np.int64))
    rows = torch.randn(len(layout.event), 2, requires_grad=True)
    slots = layout.tokens.keys.pad(rows)
    assert [tuple(group.shape) for group in slots] == [
        (*shape, 2) for shape in layout.tokens.keys.shapes
    ]
    back = layout.tokens.keys.pack([group * group for group in slots])
    torch.testing.assert_close(back, rows * rows)
    back.sum().backward()
    torch.testing.assert_close(rows.grad, 2 * rows.detach())


def test_rows_see_those_of_their_own_event_alone():
    layout = Layout(np.array([2, 0, 3]))
    (hidden,) = layout.tokens.hidden
    (owner,) = layout.tokens.keys.owner.reshape(hidden.shape[0], -1)
    assert owner.tolist() == [0, 1, 2, 0, 0, 2, 2, 2]
    seen = (hidden == 0)[0, 0].numpy()
    assert (seen == (owner[:, None] == owner)).all()
    assert (hidden[0, 0].numpy()[~seen] == -30_000).all()
    (of_class,) = layout.class_tokens.hidden
    assert (of_class[0, 0] == hidden[0, 0, :3]).all()


def test_rows_look_towards_other_streams():
    one, other = Layout(np.array([1, 40])), Layout(np.array([0, 60]))
    pattern = one.towards([other, one])
    owners = np.split(pattern.keys.owner, np.cumsum([b * s for b, s in pattern.keys.shapes])[:-1])
    assert sorted((owner >= 0).sum() for owner in owners) in ([3, 102], [105])
    for hidden, (_, size) in zip(pattern.hidden, pattern.keys.shapes, strict=True):
        assert hidden.shape[-1] == size
