"""Systematics: what a card may say, what it means for given data, and what it changes in yields."""

import numpy as np
import pytest

from helpers.toys import SCHEMA
from manyscale.card import Card, card_text, parse_card
from manyscale.errors import CardError
from manyscale.evaluation.systematics import (
    Normalisation,
    Shape,
    Varied,
    check_systematics,
    effects,
    moved_processes,
    moved_streams,
)
from manyscale.evaluation.yields import ScaledEvents
from manyscale.schema import Process, Schema, StreamSchema

KINDS = {
    "normalisation": "normalisation: 0.1",
    "energy_scale": "energy_scale: 0.02",
    "energy_resolution": "energy_resolution: 0.05",
    "efficiency": "efficiency: 0.03",
    "weights": "weights: {up: PSWeight_0, down: PSWeight_1}",
}
VARIED = SCHEMA.model_copy(update={"weights": ("weight", "PSWeight_0", "PSWeight_1")})
BARE = Schema(streams=(StreamSchema(name="points", columns=("f0", "delta_eta")),))


def card_with(one):
    return parse_card(f"evaluation: {{systematics: {{one: {{{one}}}}}}}")


def one_of(text):
    return card_with(text).evaluation.systematics["one"]


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_read_written_and_read_again(kind):
    card = card_with(KINDS[kind])
    assert card.evaluation.systematics["one"].kind == kind
    assert parse_card(card_text(card, "again")) == card
    check_systematics(card.evaluation.systematics, VARIED)


def test_there_are_none_by_default():
    assert Card().evaluation.systematics == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "evaluation.systematics.one: give exactly one of normalisation, .*; none is"),
        ("processes: [qcd]", "give exactly one of .*; none is"),
        (
            "energy_scale: 0.1, efficiency: 0.1",
            "give exactly one of .*; energy_scale and efficiency are given",
        ),
        ("normalisation: 0.1, streams: [jet1]", "streams means nothing to the kind normalisation"),
        ("weights: {up: a}, streams: [jet1]", "streams means nothing to the kind weights"),
        ("energy_scal: 0.1", "unknown key 'evaluation.systematics.one.energy_scal'; did you mean"),
        ("weights: {down: a}", "'evaluation.systematics.one.weights.up' is missing"),
        ("weights: {up: a, upp: b}", "unknown key 'evaluation.systematics.one.weights.upp'"),
        ("energy_scale: 1", "one.energy_scale is 1; it must be less than 1"),
        ("energy_scale: 0", "one.energy_scale is 0; it must be greater than 0"),
        ("energy_scale: -0.1", "one.energy_scale is -0.1"),
        ("energy_resolution: 0.6", "one.energy_resolution is 0.6; it must be less than"),
        ("efficiency: 1.5", "one.efficiency is 1.5"),
        ("normalisation: 0", "one.normalisation is 0"),
        ("normalisation: .inf", "one.normalisation is Infinity"),
        ("normalisation: ten", 'one.normalisation is "ten"; it must be a valid number'),
        ("normalisation: 0.1, processes: []", "one.processes is"),
    ],
)
def test_faults_are_named(text, said):
    with pytest.raises(CardError, match=said):
        card_with(text)


@pytest.mark.parametrize("name", ["a b", "1up", "jes/up", "äh", "mu", "staterror_trees"])
def test_names_are_plain_and_free(name):
    with pytest.raises(CardError, match=f"'{name}' cannot be a name"):
        parse_card(f'evaluation: {{systematics: {{"{name}": {{efficiency: 0.1}}}}}}')


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "normalisation: 0.1, processes: [qcd, qdc]",
            r"one.processes: the data have no process 'qdc'; did you mean 'qcd'\? they have hh4b",
        ),
        ("energy_scale: 0.1, processes: [zz]", "no process 'zz'; they have hh4b, qcd"),
        ("energy_scale: 0.1, streams: [jet3]", "one.streams: the data have no stream 'jet3'; did"),
        ("efficiency: 0.1, streams: [tracks]", "no stream 'tracks'; they have jet1, jet2, kinem"),
        (
            "weights: {up: PSWeight_0, down: PSWeight_9}",
            "one.weights: the data have no named weight 'PSWeight_9'; did you mean 'PSWeight_",
        ),
        ("weights: {up: weight}", "the data have no named weight 'weight'"),
    ],
)
def test_what_the_data_do_not_have_is_refused(text, said):
    with pytest.raises(CardError, match=said):
        check_systematics({"one": one_of(text)}, VARIED)


def test_data_without_named_weights_say_so():
    with pytest.raises(CardError, match="no named weight 'up'; they have none"):
        check_systematics({"one": one_of("weights: {up: up}")}, SCHEMA)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("energy_scale: 0.1", "evaluation.systematics.one: no stream of the data has energies"),
        ("energy_resolution: 0.1", "no stream of the data has energies; they have points"),
        ("efficiency: 0.1", "no stream of the data has a jet's axis; they have points"),
        (
            "energy_scale: 0.1, streams: [points]",
            "one.streams: stream 'points' has no energies; its columns are f0, delta_eta",
        ),
    ],
)
def test_streams_without_energies_are_refused(text, said):
    with pytest.raises(CardError, match=said):
        check_systematics({"one": one_of(text)}, BARE)


def test_tokens_of_any_stream_that_is_named_can_be_lost():
    settings = one_of("efficiency: 0.1, streams: [points]")
    assert moved_streams("one", settings, BARE) == BARE.streams


def test_what_null_means():
    names = {
        kind: [stream.name for stream in moved_streams("one", one_of(KINDS[kind]), SCHEMA)]
        for kind in ("energy_scale", "energy_resolution", "efficiency")
    }
    assert names["energy_scale"] == names["energy_resolution"] == ["jet1", "jet2", "kinematics"]
    assert names["efficiency"] == ["jet1", "jet2"]
    assert moved_processes("one", one_of(KINDS["normalisation"]), SCHEMA) == ("qcd",)
    for kind in ("energy_scale", "energy_resolution", "efficiency", "weights"):
        assert moved_processes("one", one_of(KINDS[kind]), SCHEMA) == ("hh4b", "qcd")


# ---- changes of yields above a cut, by hand ----

PROCESSES = (
    Process(name="hh4b", label="signal"),
    Process(name="qcd", label="background"),
    Process(name="zz", label="background"),
)
EVENTS = ScaledEvents(
    PROCESSES, np.array([0, 0, 1, 1, 1, 2]), np.array([2.0, 2.0, 10.0, -2.0, 8.0, 1.0]), 100.0
)
SCORES = np.array([0.9, 0.3, 0.8, 0.7, 0.2, 0.1])
# Above 0.5 as they are: hh4b 2, qcd 8, zz nothing.
HIGHER = Varied({"network": SCORES + 0.35, "trees": SCORES}, EVENTS.weight)


def changes(variation, cut=0.5):
    """What the JSON says of one systematic."""
    found = effects([variation], EVENTS, SCORES, cut)[variation.name]
    return {process: change.plain() for process, change in found.items()}


def test_shape_is_counted_above_the_cut():
    lower = Varied({"network": SCORES - 0.25, "trees": SCORES}, EVENTS.weight)
    shape = Shape("jes", ("hh4b", "qcd", "zz"), HIGHER, lower)
    assert changes(shape) == {
        "hh4b": {"up": 1.0, "down": 0.0},
        "qcd": {"up": 1.0, "down": pytest.approx(10 / 8 - 1)},
        "zz": {"up": None, "down": None},
    }


def test_down_is_mirrored_where_it_is_not_given():
    shape = Shape("jes", ("qcd",), HIGHER, None)
    assert changes(shape) == {"qcd": {"up": 1.0, "down": -1.0}}


def test_weights_count_as_scores_do():
    varied = Varied({"network": SCORES}, EVENTS.weight * np.array([1, 1, 1.5, 1, 1, 1]))
    found = changes(Shape("scale", ("qcd",), varied, None))
    assert found["qcd"]["up"] == pytest.approx(5 / 8)


def test_normalisation_is_what_it_says_where_there_is_a_yield():
    rate = Normalisation("rate", ("qcd", "zz"), 1.5, 1 / 1.5)
    assert changes(rate) == {
        "qcd": {"up": 0.5, "down": pytest.approx(-1 / 3)},
        "zz": {"up": None, "down": None},
    }


def test_nothing_above_the_cut():
    found = changes(Shape("jes", ("qcd",), HIGHER, None), cut=2.0)
    assert found == {"qcd": {"up": None, "down": None}}
