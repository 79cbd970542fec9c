"""Systematics of a small run: what network and trees make of changed events, and of other weights."""

from dataclasses import replace

import numpy as np
import pytest

from helpers.toys import SCHEMA, toy_events
from manyscale.card import parse_card
from manyscale.data.manifest import merge
from manyscale.data.packing import PackedStream
from manyscale.data.parts import write_events
from manyscale.data.schema import COLUMNS
from manyscale.errors import CardError
from manyscale.evaluation.variations import Normalisation, Shape
from manyscale.progress import Silent
from manyscale.runs.judging import Trial, judge, scale
from manyscale.runs.training import train_run
from manyscale.runs.variations import variations

WEIGHTS = ("weight", "scale_up", "scale_down")
VARIED = SCHEMA.model_copy(update={"weights": WEIGHTS})
SYSTEMATICS = """
evaluation:
  luminosity: 100
  systematics:
    qcd_rate: {normalisation: 0.25}
    jes: {energy_scale: 0.1}
    jes_of_jet1: {energy_scale: 0.1, streams: [jet1], processes: [qcd]}
    jer: {energy_resolution: 0.2}
    tracking: {efficiency: 0.2}
    scale: {weights: {up: scale_up, down: scale_down}, processes: [qcd]}
    shower: {weights: {up: scale_up}}
"""


class Listener(Silent):
    """Keeps what was said."""

    def __init__(self):
        self.lines = []

    def say(self, line):
        self.lines.append(line)


def write(folder, events):
    """Write events as a dataset, a part for each process."""
    for place, process in enumerate(VARIED.processes):
        chosen = events.take(np.flatnonzero(events.process == place))
        book = process.model_copy(update={"generated": 1000, "sum_weights": 1000.0})
        write_events(folder, process.name, chosen, VARIED, book, process.name)
    merge(folder)
    return folder


def varied_events(events):
    """Weights of both signs and of zero, and two variations of them."""
    weight = np.resize([1.0, 2.0, -0.5, 0.0, 1.5], len(events))
    draws = np.random.default_rng(5).uniform(0.5, 1.5, (2, len(events)))
    varied = {"scale_up": weight * draws[0] + 0.1, "scale_down": weight * draws[1]}
    return replace(events, weight=weight, weights=varied)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("variations")
    data = write(folder / "data", varied_events(toy_events(17, events=300, learnable=True)))
    changes = [f"data.dataset={data}", "training.epochs=2", "training.batch_size=32"]
    return train_run(parse_card(SYSTEMATICS, changes=changes), folder / "run").root


@pytest.fixture(scope="module")
def trial(run):
    return Trial.open(run)


@pytest.fixture(scope="module")
def judged(trial):
    return judge(trial)


@pytest.fixture(scope="module")
def scaled(trial, judged):
    return scale(trial, judged.events, 100.0, Silent())


@pytest.fixture(scope="module")
def listener():
    return Listener()


@pytest.fixture(scope="module")
def found(trial, judged, scaled, listener):
    return {one.name: one for one in variations(trial, judged, scaled, listener)}


def test_each_is_what_the_card_says(found, trial):
    assert list(found) == list(trial.card.evaluation.systematics)
    assert found["qcd_rate"] == Normalisation("qcd_rate", ("qcd",), 1.25, 0.8)
    shapes = {name: one for name, one in found.items() if isinstance(one, Shape)}
    assert len(shapes) == 6
    mirrored = {name for name, one in shapes.items() if one.down is None}
    assert mirrored == {"jer", "tracking", "shower"}


def test_each_says_how_long_it_took(found, listener):
    assert len(listener.lines) == len(found)
    assert listener.lines[1].startswith("systematic jes (energy scale): ")
    assert listener.lines[1].endswith(" s")


def test_test_events_keep_their_named_weights(judged, trial):
    expected = trial.test.events()
    assert set(judged.events.weights) == {"scale_up", "scale_down"}
    for name, values in expected.weights.items():
        np.testing.assert_array_equal(judged.events.weights[name], values)
    assert any((values != expected.weight).any() for values in expected.weights.values())


def scaled_by_hand(events, factor):
    """The events with every column in GeV multiplied."""

    def multiplied(stream):
        packed = events.streams[stream.name]
        of_token, of_jet = (
            np.array([factor if COLUMNS[name].unit == "GeV" else 1 for name in names], np.float32)
            for names in (stream.columns, stream.axis)
        )
        return PackedStream(packed.values * of_token, packed.counts, packed.axis * of_jet)

    return replace(events, streams={stream.name: multiplied(stream) for stream in SCHEMA.streams})


@pytest.mark.parametrize(("side", "factor"), [("up", 1.1), ("down", 0.9)])
def test_response_is_the_score_of_data_that_were_written_shifted(
    found, trial, judged, run, tmp_path, side, factor
):
    data = write(tmp_path / "shifted", scaled_by_hand(trial.test.events(), factor))
    other = judge(Trial.open(run, data))
    place = {number: i for i, number in enumerate(other.events.event_id.tolist())}
    order = [place[number] for number in judged.events.event_id.tolist()]
    scores = getattr(found["jes"], side).scores
    np.testing.assert_allclose(scores["network"], other.signal[order], atol=1e-6)
    np.testing.assert_allclose(scores["trees"], other.trees[order], atol=1e-6)
    assert np.abs(scores["network"] - judged.signal).max() > 1e-3


def test_weights_stay_where_energies_move(found, scaled):
    for name in ("jes", "jes_of_jet1", "jer", "tracking"):
        np.testing.assert_array_equal(found[name].up.weight, scaled.weight)


def test_all_detector_shifts_move_scores(found, judged):
    for name in ("jes", "jes_of_jet1", "jer", "tracking"):
        scores = found[name].up.scores
        assert np.abs(scores["network"] - judged.signal).max() > 1e-4, name


def test_processes_that_are_not_named_stay_nominal(found, judged, scaled):
    named = scaled.process == [process.name for process in scaled.processes].index("qcd")
    scores = found["jes_of_jet1"].up.scores["network"]
    np.testing.assert_array_equal(scores[~named], judged.signal[~named])
    assert (scores[named] != judged.signal[named]).any()
    weight = found["scale"].up.weight
    np.testing.assert_array_equal(weight[~named], scaled.weight[~named])
    assert (weight[named] != scaled.weight[named]).any()


def test_named_weights_are_scaled_as_the_nominal(found, judged, scaled, trial):
    """By hand: luminosity x cross section / sum of generated weights, times test to whole."""
    varied = found["shower"].up
    for place, process in enumerate(scaled.processes):
        chosen = judged.events.process == place
        whole = trial.whole.process_weights[place]
        factor = 100.0 * 1000 * process.cross_section / process.sum_weights
        factor *= whole / judged.events.weight[chosen].sum()
        expected = judged.events.weights["scale_up"][chosen] * factor
        np.testing.assert_allclose(varied.weight[chosen], expected, rtol=1e-12)
    assert (scaled.weight == 0).any()  # also where the nominal weight is zero
    np.testing.assert_array_equal(varied.scores["network"], judged.signal)


def test_other_data_are_asked_for_their_own_weights(run, tmp_path, judged, scaled):
    plain = write_plain(tmp_path / "plain")
    trial = Trial.open(run, plain)
    with pytest.raises(CardError, match=r"scale.weights: the data have no named weight 'scale_up'"):
        variations(trial, judged, scaled, Silent())


def write_plain(folder):
    events = replace(toy_events(99, events=40), weights={})
    for place, process in enumerate(SCHEMA.processes):
        chosen = events.take(np.flatnonzero(events.process == place))
        write_events(folder, process.name, chosen, SCHEMA, process, process.name)
    merge(folder)
    return folder


def test_training_refuses_systematics_that_do_not_fit_the_data(tmp_path):
    data = write_plain(tmp_path / "data")
    changes = [
        f"data.dataset={data}",
        "evaluation.systematics.jes={energy_scale: 0.1, streams: [jet]}",
    ]
    with pytest.raises(CardError, match=r"jes\.streams: the data have no stream 'jet'; did"):
        train_run(parse_card("", changes=changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_no_systematics_no_variations(run, tmp_path, judged, scaled):
    trial = Trial.open(run)
    card = trial.card
    bare = card.model_copy(
        update={"evaluation": card.evaluation.model_copy(update={"systematics": {}})}
    )
    assert variations(replace(trial, card=bare), judged, scaled, Silent()) == []
