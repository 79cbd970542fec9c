"""Batches are a random draw that can be drawn again."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from manyscale.data.feeds import batch, batch_events, epoch_order, steps_per_epoch


@given(st.integers(0, 300), st.integers(0, 2**31 - 1), st.integers(0, 50))
def test_an_epoch_visits_each_event_once(events, seed, epoch):
    order = epoch_order(events, seed, epoch)
    assert sorted(order.tolist()) == list(range(events))
    np.testing.assert_array_equal(order, epoch_order(events, seed, epoch))


def test_epochs_and_seeds_differ():
    orders = [tuple(epoch_order(100, seed, epoch)) for seed in range(3) for epoch in range(3)]
    assert len(set(orders)) == 9


@given(st.integers(1, 200), st.integers(1, 64))
def test_batches_together_are_the_epoch(events, size):
    order = epoch_order(events, 1, 0)
    batches = list(batch_events(order, size))
    assert len(batches) == steps_per_epoch(events, size)
    assert all(len(chosen) == size for chosen in batches[:-1])
    assert 1 <= len(batches[-1]) <= size
    np.testing.assert_array_equal(np.concatenate(batches), order)
    np.testing.assert_array_equal(batch(order, size, len(batches) - 1), batches[-1])


def test_classes_in_a_batch_are_those_of_a_random_draw():
    # Signal first, as files stand: 4,000 of 10,000; a batch of 100 has 40 +- 4.88 (hypergeometric).
    signal = np.arange(10_000) < 4000
    found = [
        int(signal[chosen].sum())
        for epoch in range(20)
        for chosen in batch_events(epoch_order(10_000, 3, epoch), 100)
    ]
    assert np.mean(found) == 40
    assert abs(np.std(found) - 4.876) < 5 * 4.876 / np.sqrt(2 * len(found))
