"""Shifts of energies and losses of tokens: closed forms, and independence of how events come."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.toys import SCHEMA, toy_events
from manyscale.data.packing import PackedEvents
from manyscale.evaluation.systematics import (
    LEAST_FACTOR,
    can_scale,
    can_smear,
    lose_tokens,
    scale_energies,
    smear_energies,
)
from manyscale.events.ragged import PackedStream
from manyscale.features.columns import StreamBatch
from manyscale.features.extractor import FeatureExtractor
from manyscale.schema import COLUMNS, StreamSchema

STREAMS = SCHEMA.streams
JET = SCHEMA.stream("jet1")
SHIFTS = {
    "scale": lambda x: scale_energies(STREAMS, 1 + x),
    "smear": lambda x: smear_energies(STREAMS, x),
    "lose": lambda x: lose_tokens(STREAMS, x),
}
shifts = pytest.mark.parametrize("kind", SHIFTS)
factors = st.floats(0.5, 2)
seeds = st.integers(0, 1000)
few = settings(max_examples=20, deadline=None)


def columns_of(events, stream=JET):
    """Columns of the tokens and of the axis by name, float64."""
    packed = events.streams[stream.name]
    named = dict(zip(stream.columns, packed.values.T.astype(float), strict=True))
    return named | dict(zip(stream.axis, packed.axis.T.astype(float), strict=True))


def many_tokens(stream, tokens, value=100.0, events=50):
    """Events of one stream whose columns all have the same value."""
    counts = np.full(events, tokens // events)
    packed = PackedStream(
        np.full((tokens, len(stream.columns)), value, np.float32),
        counts,
        np.full((events, len(stream.axis)), value, np.float32),
    )
    number = np.arange(events)
    return PackedEvents(
        {stream.name: packed}, number.astype(np.uint64), number, number, np.ones(events)
    )


def log_columns(events):
    """The events of `jet1` with what is usually derived of its columns as columns of their own."""
    stream = events.streams["jet1"]
    named = columns_of(events)
    jet_pt = np.repeat(named["jet_pt"], stream.counts)
    values = [np.log(named["pt"]), np.log(named["energy"]), np.log(named["pt"] / jet_pt)]
    schema = StreamSchema(name="jet1", columns=("log_pt", "log_energy", "log_pt_rel"))
    packed = PackedStream(
        np.stack(values, 1).astype(np.float32),
        stream.counts,
        np.zeros((len(stream), 0), np.float32),
    )
    return replace(events, streams={"jet1": packed}), schema


@given(factor=factors, seed=seeds)
@few
def test_scale_multiplies_energies_and_nothing_else(factor, seed):
    events = toy_events(seed)
    moved = scale_energies(STREAMS, factor)(events)
    for stream in STREAMS:
        before, after = columns_of(events, stream), columns_of(moved, stream)
        for name, values in before.items():
            expected = values * factor if COLUMNS[name].unit == "GeV" else values
            np.testing.assert_allclose(after[name], expected, rtol=1e-6, err_msg=name)


@given(factor=factors, seed=seeds)
@few
def test_scaling_back_is_the_identity(factor, seed):
    events = toy_events(seed)
    back = scale_energies(STREAMS, 1 / factor)(scale_energies(STREAMS, factor)(events))
    for stream in STREAMS:
        for name, values in columns_of(events, stream).items():
            np.testing.assert_allclose(columns_of(back, stream)[name], values, rtol=1e-6)


def test_twice_the_shift_moves_twice_as_far():
    events = toy_events(3)
    pt = columns_of(events)["pt"]
    for kind in ("scale", "smear"):
        one, two = (columns_of(SHIFTS[kind](x)(events))["pt"] - pt for x in (0.05, 0.1))
        np.testing.assert_allclose(two, 2 * one, atol=1e-4)


@given(factor=factors, seed=seeds)
@few
def test_what_is_relative_to_the_jet_stays_under_a_scale(factor, seed):
    events = toy_events(seed)
    relative = ("delta_eta", "delta_phi", "delta_r", "log_pt_rel", "log_energy_rel")
    extractor = FeatureExtractor(JET, relative)
    moved = scale_energies(STREAMS, factor)(events)
    before, after = (
        extractor.raw(StreamBatch.of(of.streams["jet1"]))[0].numpy() for of in (events, moved)
    )
    np.testing.assert_allclose(after, before, atol=2e-6)


@pytest.mark.parametrize("kind", ["scale", "smear"])
def test_stored_logarithms_follow_as_those_computed_of_stored_energies(kind):
    events = toy_events(5)
    makers = {
        "scale": lambda streams: scale_energies(streams, 1.1),
        "smear": lambda streams: smear_energies(streams, 0.1),
    }
    stored, schema = log_columns(events)
    moved_then_derived, _ = log_columns(makers[kind](STREAMS)(events))
    derived_then_moved = makers[kind]([schema])(stored)
    np.testing.assert_allclose(
        derived_then_moved.streams["jet1"].values,
        moved_then_derived.streams["jet1"].values,
        atol=1e-5,
    )


def test_log_of_the_mass_is_that_of_one_and_the_mass():
    stream = StreamSchema(name="objects", columns=("log_mass",))
    for mass in (0.0, 0.01, 1.0, 125.0):
        events = many_tokens(stream, 50, value=np.log1p(mass))
        moved = scale_energies([stream], 1.2)(events).streams["objects"].values
        np.testing.assert_allclose(moved, np.log1p(1.2 * mass), rtol=1e-5)


def test_every_known_energy_is_moved():
    energies = {name for name, column in COLUMNS.items() if "GeV" in column.unit + column.doc}
    for name in COLUMNS:
        assert can_scale(StreamSchema(name="s", columns=(name,))) == (name in energies), name
    relative = {"log_pt_rel", "log_energy_rel"}
    of_jet = {"jet_pt", "jet_mass"}
    for name in COLUMNS:
        moves = name in (energies | relative) - of_jet
        assert can_smear(StreamSchema(name="s", columns=(name,))) == moves, name


@pytest.mark.parametrize("width", [0.05, 0.2])
def test_factors_of_a_resolution_have_its_mean_and_variance(width):
    stream = StreamSchema(name="jet1", columns=("pt", "energy"))
    tokens = 40_000
    moved = smear_energies([stream], width)(many_tokens(stream, tokens)).streams["jet1"].values
    factor = moved[:, 0] / 100
    np.testing.assert_array_equal(moved[:, 1], moved[:, 0])  # all energies of a token alike
    # Five standard deviations of the mean, and of the standard deviation.
    assert abs(factor.mean() - 1) < 5 * width / np.sqrt(tokens)
    assert abs(factor.std() / width - 1) < 5 / np.sqrt(2 * tokens)
    standard = (factor - 1) / width
    assert abs((np.abs(standard) < 1).mean() - 0.6827) < 5 * np.sqrt(0.2166 / tokens)


def test_no_energy_becomes_negative():
    stream = StreamSchema(name="jet1", columns=("pt",))
    moved = smear_energies([stream], 0.5)(many_tokens(stream, 5000)).streams["jet1"].values
    assert moved.min() == np.float32(100 * LEAST_FACTOR)


def test_jet_stays_as_measured_where_its_tokens_are_smeared_or_lost():
    events = toy_events(4)
    for kind in ("smear", "lose"):
        moved = SHIFTS[kind](0.3)(events).streams["jet1"]
        np.testing.assert_array_equal(moved.axis, events.streams["jet1"].axis)


@pytest.mark.parametrize("probability", [0.03, 0.4])
def test_the_right_share_is_lost(probability):
    tokens = 40_000
    events = many_tokens(JET, tokens)
    kept = lose_tokens([JET], probability)(events).streams["jet1"]
    assert kept.counts.sum() == len(kept.values)
    lost = 1 - len(kept.values) / tokens
    assert abs(lost - probability) < 5 * np.sqrt(probability * (1 - probability) / tokens)


def test_what_is_left_is_what_was_there():
    events = toy_events(6, longest=30)
    before, after = events.streams["jet1"], lose_tokens(STREAMS, 0.5)(events).streams["jet1"]
    for event in range(len(events)):
        of = slice(before.offsets[event], before.offsets[event + 1])
        rows = {tuple(row) for row in before.values[of]}
        left = after.values[after.offsets[event] : after.offsets[event + 1]]
        assert {tuple(row) for row in left} <= rows
        assert len(left) == after.counts[event]


def test_more_is_lost_of_the_same_tokens():
    events = toy_events(7)
    less, more = (lose_tokens(STREAMS, x)(events).streams["jet1"] for x in (0.1, 0.3))
    assert {tuple(row) for row in more.values} < {tuple(row) for row in less.values}


@shifts
@given(seed=seeds, cut=st.integers(0, 40))
@few
def test_chunks_do_not_matter(kind, seed, cut):
    events = toy_events(seed)
    shift = SHIFTS[kind](0.2)
    whole = shift(events)
    pieces = [shift(events.between(0, cut)), shift(events.between(cut, 40))]
    parted = PackedEvents.concatenate(pieces)
    for name, stream in whole.streams.items():
        np.testing.assert_array_equal(parted.streams[name].values, stream.values)
        np.testing.assert_array_equal(parted.streams[name].counts, stream.counts)
        np.testing.assert_array_equal(parted.streams[name].axis, stream.axis)


@shifts
def test_order_of_events_does_not_matter(kind):
    events = toy_events(8)
    order = np.random.default_rng(1).permutation(len(events))
    shift = SHIFTS[kind](0.2)
    one, other = shift(events.take(order)), shift(events).take(order)
    np.testing.assert_array_equal(one.streams["jet2"].values, other.streams["jet2"].values)


@shifts
def test_only_what_is_named_moves_and_nothing_in_place(kind):
    events = toy_events(9)
    kept = {name: stream.values.copy() for name, stream in events.streams.items()}
    shift = {
        "scale": scale_energies([JET], 1.2),
        "smear": smear_energies([JET], 0.2),
        "lose": lose_tokens([JET], 0.2),
    }[kind]
    moved = shift(events)
    assert moved.streams["jet2"] is events.streams["jet2"]
    assert moved.streams["jet1"].values.tobytes() != kept["jet1"].tobytes()
    np.testing.assert_array_equal(events.streams["jet1"].values, kept["jet1"])
    np.testing.assert_array_equal(moved.weight, events.weight)
    np.testing.assert_array_equal(moved.event_id, events.event_id)


def test_tokens_and_streams_are_moved_independently():
    stream = StreamSchema(name="jet1", columns=("pt",))
    other = StreamSchema(name="jet2", columns=("pt",))
    one, two = (
        smear_energies([s], 0.1)(many_tokens(s, 20_000)).streams[s.name].values[:, 0]
        for s in (stream, other)
    )
    limit = 5 / np.sqrt(20_000)
    assert abs(np.corrcoef(one, two)[0, 1]) < limit
    assert abs(np.corrcoef(one[1:], one[:-1])[0, 1]) < limit


@shifts
def test_streams_without_tokens_and_no_events_pass(kind):
    events = toy_events(2, longest=0)
    shift = SHIFTS[kind](0.1)
    assert shift(events).streams["jet1"].counts.sum() == 0
    assert len(shift(events.between(0, 0))) == 0
