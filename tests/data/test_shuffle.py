"""The order of an epoch read from disk: what each block and each process has of it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manyscale.data import shuffle
from manyscale.data.shuffle import EpochPlan, SourceCounts


def counts_of(seed, groups, processes=3):
    rng = np.random.default_rng(seed)
    return SourceCounts(rng.integers(0, processes, groups), rng.integers(0, 40, groups))


def events_of(share):
    """(events, 2): group and event in it, in the order of training."""
    rows = [np.stack([np.full(len(p.events), p.group), p.events], 1) for p in share.pieces]
    return np.concatenate([np.zeros((0, 2), int), *rows])[share.order]


@given(
    seed=st.integers(0, 100),
    groups=st.integers(1, 40),
    block=st.integers(1, 700),
    world=st.sampled_from([1, 2, 3, 64]),
)
@settings(max_examples=30, deadline=None)
def test_all_blocks_of_all_processes_are_every_event_once(seed, groups, block, world):
    counts = counts_of(seed, groups)
    plan = EpochPlan(counts, block, seed, 1)
    found, places = [], []
    for number in range(plan.blocks):
        for rank in range(world):
            share = plan.share(number, rank, world)
            assert (np.diff(share.place) > 0).all()
            assert (share.place < plan.end(number)).all()
            found.append(events_of(share))
            places.append(share.place)
    expected = [(g, e) for g, events in enumerate(counts.events.tolist()) for e in range(events)]
    assert sorted(map(tuple, np.concatenate([np.zeros((0, 2), int), *found]).tolist())) == expected
    assert sorted(np.concatenate([np.zeros(0, int), *places]).tolist()) == list(range(plan.events))
    assert plan.events == len(expected)


@pytest.mark.parametrize("world", [2, 5, 8, 64])
def test_an_event_has_its_place_whatever_the_number_of_processes(world):
    plan = EpochPlan(counts_of(1, 60), 300, 7, 2)
    for number in range(plan.blocks):
        alone = events_of(plan.share(number))
        for rank in range(world):
            share = plan.share(number, rank, world)
            np.testing.assert_array_equal(
                events_of(share), alone[share.place - number * plan.end(0)]
            )


@pytest.mark.parametrize(("block", "sizes"), [(1100, [1024, 1024, 952]), (1023, [768] * 3 + [696])])
def test_blocks_are_alike_and_no_larger_than_allowed(block, sizes):
    plan = EpochPlan(SourceCounts(np.zeros(30, int), np.full(30, 100)), block, 1, 0)
    ends = [plan.end(number) for number in range(plan.blocks)]
    assert np.diff(ends, prepend=0).tolist() == sizes


def test_of_a_billion_events_as_many_of_a_process_are_drawn():
    left = np.array([10**9, 3 * 10**9, 1])
    drawn = shuffle._deal(np.random.default_rng(1), left, np.full(50, 40_000))
    assert (drawn.sum(1) == 40_000).all()
    assert (drawn.sum(0) <= left).all()
    # Binomial: 10,000 of 40,000, give or take 87.
    assert abs(drawn[:, 0] - 10_000).max() < 5 * 87


def test_of_a_rare_process_not_more_are_drawn_than_there_are():
    found = shuffle._nearest_below(np.array([5, 10, 25]), np.array([3, 40, 100]))
    assert found.tolist() == [3, 10, 27]
