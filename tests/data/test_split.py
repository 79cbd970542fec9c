"""Events fall to the parts of the split by what they are, not by where they stand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from manyscale.data.event_filter import SplitSettings, split_places
from manyscale.data.identity import _GOLDEN, _mix, event_ids, file_identity, uniform

IDS = event_ids("a source", np.arange(20_000))


def test_numbers_of_one_source_never_meet_and_of_two_do_not_either():
    other = event_ids("another source", np.arange(20_000))
    assert len(np.unique(np.concatenate([IDS, other]))) == 40_000
    np.testing.assert_array_equal(event_ids("a source", [17, 3]), IDS[[17, 3]])


def test_event_ids_stay_as_they_are():
    # Scores and splits of earlier releases refer to them.
    assert event_ids("a source", [0, 1]).tolist() == [8561536507187766726, 424560029374224519]


def test_mixing_is_that_of_splitmix64():
    # The first three numbers of the published generator, begun at 0.
    found = _mix(np.arange(1, 4, dtype=np.uint64) * _GOLDEN)
    assert [f"{number:016x}" for number in found.tolist()] == [
        "e220a8397b1dcdaf",
        "6e789e6aa1b965f4",
        "06c45d188009454f",
    ]


def test_a_file_is_known_by_name_size_and_its_first_mebibyte(tmp_path):
    path = tmp_path / "a.npz"
    path.write_bytes(bytes(1 << 20) + b"tail")
    whole = file_identity([path])
    path.write_bytes(bytes(1 << 20) + b"tale")
    assert file_identity([path]) == whole
    path.write_bytes(b"1" + bytes((1 << 20) - 1) + b"tail")
    assert file_identity([path]) != whole
    path.write_bytes(bytes(1 << 20) + b"tails")
    assert file_identity([path]) != whole


def test_draws_are_uniform_and_those_of_two_purposes_independent():
    first, second = uniform(IDS, "split 1"), uniform(IDS, "split 2")
    for draw in (first, second):
        counts = np.histogram(draw, bins=20, range=(0, 1))[0]
        assert ((counts - 1000) ** 2 / 1000).sum() < 45  # chi2 of 19 degrees: p = 0.0007
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.03
    assert abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < 0.03


@given(st.integers(0, 2**31 - 1), st.floats(0.1, 0.8))
def test_shares_are_met_within_their_error(seed, train):
    settings = SplitSettings(train=train, validation=0.1, test=1 - train - 0.1)
    found = np.bincount(split_places(IDS, seed, settings), minlength=3) / len(IDS)
    expected = [settings.train, settings.validation, settings.test]
    np.testing.assert_allclose(found, expected, atol=5 * 0.5 / np.sqrt(len(IDS)))


@given(st.permutations(range(50)), st.integers(0, 100))
def test_order_and_further_events_move_no_event(order, more):
    settings = SplitSettings()
    places = split_places(IDS[:50], 7, settings)
    np.testing.assert_array_equal(split_places(IDS[: 50 + more], 7, settings)[:50], places)
    np.testing.assert_array_equal(
        split_places(IDS[:50][list(order)], 7, settings), places[list(order)]
    )


def test_another_seed_is_another_split():
    settings = SplitSettings()
    same = split_places(IDS, 1, settings) == split_places(IDS, 2, settings)
    expected = settings.train**2 + settings.validation**2 + settings.test**2
    assert same.mean() == pytest.approx(expected, abs=0.02)


@given(st.integers(0, 2**31 - 1), st.integers(2, 12), st.permutations(range(300)))
def test_each_event_is_tested_in_exactly_one_fold_whatever_the_order(seed, folds, order):
    ids = IDS[:300]
    places = np.array(
        [split_places(ids, seed, SplitSettings(folds=folds, fold=fold)) for fold in range(folds)]
    )
    np.testing.assert_array_equal((places == 2).sum(axis=0), 1)
    last = SplitSettings(folds=folds, fold=folds - 1)
    np.testing.assert_array_equal(
        split_places(ids[list(order)], seed, last), places[-1][list(order)]
    )


def test_the_rest_of_a_fold_keeps_the_ratio_of_training_and_validation():
    settings = SplitSettings(train=0.6, validation=0.2, test=0.2, folds=4, fold=3)
    found = np.bincount(split_places(IDS, 5, settings), minlength=3) / len(IDS)
    np.testing.assert_allclose(found, [0.75 * 0.75, 0.25 * 0.75, 0.25], atol=0.015)


@pytest.mark.parametrize(
    "shares",
    [
        {"train": 0.8},
        {"train": 0.0, "validation": 0.5, "test": 0.5},
        {"test": -0.15},
        {"fold": 1},
        {"folds": 3, "fold": 3},
        {"folds": 1},
    ],
)
def test_shares_that_make_no_whole_are_refused(shares):
    with pytest.raises(ValidationError):
        SplitSettings(**shares)


def test_shares_may_differ_from_one_by_rounding():
    assert SplitSettings(train=1 - 0.2 - 0.3, validation=0.2, test=0.3).train == pytest.approx(0.5)
