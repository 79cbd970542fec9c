"""Explaining runs: what is written, and that it belongs to the run's events."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from helpers.commands import toy_dataset, toy_npz
from helpers.toys import toy_events
from manyscale.card import Card, DataSettings, load_card, parse_card
from manyscale.data.dataset import Dataset
from manyscale.deployment.predict import Alignment, class_probabilities
from manyscale.errors import DataError, RunError
from manyscale.evaluation.results import EventDisplay, Explanation
from manyscale.features.images import ImageSettings
from manyscale.reporting.figure import Drawn
from manyscale.runs import explain
from manyscale.runs.evaluate import Trial
from manyscale.runs.explain import add_up, chosen_events, explain_run
from manyscale.runs.train import train_run

QUICK = ("training.epochs=1", "training.batch_size=64")
PLOTS = {
    "attention_shares_kinematics", "attention_profiles_kinematics",
    "gradcam_maps", "gradcam_particles", "gradcam_objects", "gradcam_profiles",
}  # fmt: skip


def read_json(path):
    return json.loads(Path(path).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return toy_dataset(tmp_path_factory.mktemp("data") / "toys")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, dataset):
    """A run of Model 2."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    train_run(parse_card("preset: model-2", "test", [f"data.dataset={dataset}", *QUICK]), folder)
    return folder


@pytest.fixture(scope="module")
def explained(trained):
    """The same, explained."""
    explain_run(trained, display=6)
    return trained


@pytest.fixture
def undrawn(monkeypatch):
    """Names of the plots, which are made but not written."""
    drawn = []
    monkeypatch.setattr(Drawn, "save", lambda _, folder, name: drawn.append(name))
    return drawn


def test_numbers_plots_and_display_are_written(explained):
    files = {path.name for path in (explained / "explanation").iterdir()}
    assert files == {
        "attention.json", "gradcam.json", "display.json", "summary.json", "integrated_gradients.json",
        "similarity.json", "permutation.json", "deletion.json", "randomisation.json",
    }  # fmt: skip
    plots = {path.stem for path in (explained / "plots").glob("*.svg")}
    assert plots >= PLOTS | {"permutation", "deletion", "similarity", "randomisation"}
    for name in PLOTS:
        svg = explained / "plots" / f"{name}.svg"
        assert svg.stat().st_size < 150_000
        rows = svg.with_suffix(".csv").read_text(encoding="utf-8").splitlines()
        assert len(rows) > 1
    summary = Explanation.read(explained / "explanation" / "summary.json")
    assert summary.weights == "class-balanced"
    assert summary.events == Trial.open(explained).test.class_counts
    assert [row.stream for row in summary.streams] == ["jet1", "jet2", "kinematics"]
    assert sum(row.importance for row in summary.streams) == pytest.approx(1, abs=0.2)
    assert summary.seconds.keys() == {
        "attention maps and Grad-CAM", "integrated gradients", "similarity", "permutation",
        "deletion", "randomisation",
    }  # fmt: skip
    lost = read_json(explained / "explanation" / "permutation.json")["streams"]
    assert [row["auc_loss"] for row in lost] == [row.auc_loss for row in summary.streams]


def test_numbers_are_finite_and_named(explained):
    attention = read_json(explained / "explanation" / "attention.json")
    rows = attention["cross_attention"]
    assert {row["head"] for row in rows} == {1, 2, "mean", "even"}
    assert {row["query"] for row in rows if row["head"] == 1} == {
        "class token", "leading jet", "second jet", "pair", "missing momentum",
    }  # fmt: skip
    for row in rows + attention["self_attention"] + attention["pt"]:
        assert all(math.isfinite(of["value"]) for of in row["share"].values())
    importance = read_json(explained / "explanation" / "gradcam.json")["importance"]
    assert {(row["stream"], row["class"]) for row in importance} == {
        (stream, of) for stream in ("jet1", "jet2", "kinematics") for of in ("signal", "background")
    }


def test_display_shows_the_scores_and_tokens_that_the_run_has(explained):
    display = EventDisplay.read(explained / "explanation" / "display.json")
    trial = Trial.open(explained)
    events = trial.test.events()
    streams = Alignment(trial.test.schema, trial.bundle.streams)(events.streams)
    score = class_probabilities(trial.bundle.network, streams)[:, 1]
    index_of = {str(event): index for index, event in enumerate(events.event_id)}
    whys = [event.why for event in display.events]
    assert whys[:4] == ["most signal-like"] * 2 + ["most background-like"] * 2
    assert len({event.event_id for event in display.events}) == len(whys) <= 6
    for event in display.events:
        index = index_of[event.event_id]
        assert event.score == pytest.approx(score[index], abs=1e-4)
        assert event.process == ("hh4b" if event.label == "signal" else "qcd")
        total = 0
        for name, tokens in event.streams.items():
            values = events.streams[name].between(index, index + 1)
            np.testing.assert_allclose(tokens.pt, values.values[:, 0], atol=1e-4)
            assert len({len(column) for column in tokens.plain().values()}) == 1
            total += sum(tokens.importance)
            if name != "kinematics":
                jet = values.axis[0, 1]
                np.testing.assert_allclose(tokens.eta, values.values[:, 1] - jet, atol=1e-4)
        assert total == pytest.approx(1, abs=1e-2) or total == 0
    assert {stream.name: stream.frame for stream in display.streams} == {
        "jet1": "around the jet's axis", "jet2": "around the jet's axis", "kinematics": "detector",
    }  # fmt: skip


def test_display_has_the_extremes_and_the_worst_mistakes():
    events = toy_events(8, events=200)
    score = np.random.default_rng(1).random(200, np.float32)
    chosen = chosen_events(events, score, 12)
    whys = ["most signal-like"] * 4 + ["most background-like"] * 4 + ["worst mistake"] * 4
    assert [why for why, _ in chosen] == whys
    signal, background = np.sort(score[events.label == 1]), np.sort(score[events.label == 0])
    wanted = [*signal[:-5:-1], *background[:4], *signal[:2], *background[:-3:-1]]
    assert score[[index for _, index in chosen]].tolist() == wanted


@pytest.mark.parametrize("most", [0, 1, 2, 3, 4, 5, 30, 500])
def test_display_has_no_more_than_asked_and_no_event_twice(most):
    chosen = chosen_events(toy_events(8, events=40), np.linspace(0, 1, 40, dtype=np.float32), most)
    indices = [index for _, index in chosen]
    assert len(set(indices)) == len(indices) <= most


def test_a_right_event_is_no_mistake():
    events = toy_events(8, events=40)
    chosen = chosen_events(events, events.label.astype(np.float32), 30)
    assert {why for why, _ in chosen} == {"most signal-like", "most background-like"}


def test_too_large_a_display_is_refused_with_its_size(trained):
    with pytest.raises(DataError, match=r"100,000 events to display .* MB.*200 are the most"):
        explain_run(trained, display=100_000)


def test_run_that_is_none_is_refused(tmp_path):
    with pytest.raises(RunError):
        explain_run(tmp_path)


def test_events_of_the_training_are_refused(trained, dataset):
    with pytest.raises(DataError, match="were used to train"):
        explain_run(trained, data=dataset)


def test_other_data_are_explained_in_the_columns_of_the_network(trained, tmp_path, undrawn):
    Dataset.open(load_card(trained / "card.yaml").data.dataset).test.write(tmp_path / "other")
    summary = explain_run(trained, data=tmp_path / "other", events=20, deep=10, display=3)
    assert summary.events == {"signal": 10, "background": 10}
    assert summary.displayed <= 3


@pytest.mark.parametrize("preset", ["concatenation", "kinematics-only"])
def test_without_cross_attention_the_rest_is_done(preset, dataset, tmp_path, undrawn):
    card = parse_card(f"preset: {preset}", "test", [f"data.dataset={dataset}", *QUICK])
    train_run(card, tmp_path / "run")
    summary = explain_run(tmp_path / "run", deep=10, display=3)
    assert any("no cross-attention" in notice for notice in summary.notices)
    assert not any(name.startswith(("attention_maps_", "attention_shares_")) for name in undrawn)
    assert all(row.attention is None for row in summary.streams)
    assert {"permutation", "deletion"} <= set(undrawn)
    assert ("gradcam_maps" in undrawn) == (preset == "concatenation")


def test_one_stream_of_unnamed_columns_does_what_applies(tmp_path, undrawn):
    for label in ("signal", "background"):
        toy_npz(tmp_path / f"{label}.npz", 150, label == "signal", len(label))
    files = {
        label: {"constituents": tmp_path / f"{label}.npz"} for label in ("signal", "background")
    }
    card = Card(preset="model-1", data=DataSettings.model_validate(files))
    card = card.model_copy(update={"training": card.training.model_copy(update={"epochs": 1})})
    train_run(card, tmp_path / "run")
    summary = explain_run(tmp_path / "run", deep=10, display=3)
    assert [len(notice) > 0 for notice in summary.notices] == [True] * 3
    assert summary.displayed == 3
    display = read_json(tmp_path / "run" / "explanation" / "display.json")
    assert display["streams"] == []
    assert "permutation" in undrawn


def test_sums_do_not_depend_on_the_chunks(trained, monkeypatch):
    images, trial = ImageSettings(bins=5), Trial.open(trained)
    network, sample = trial.bundle.network, trial.test.restricted(max_events=20)
    found = []
    for chunk in (2048, 7):
        monkeypatch.setattr(explain, "_CHUNK", chunk)
        attention, importance, events, score = add_up(network, sample, images)
        rows = attention.numbers()
        of_importance = [row for means in importance.means.values() for row in means.numbers()]
        found.append(
            (rows["cross_attention"] + rows["self_attention"] + of_importance, events, score)
        )
    (first_rows, events, score), (second_rows, same_events, same_score) = found
    assert events.event_id.tolist() == same_events.event_id.tolist()
    np.testing.assert_allclose(same_score, score, atol=1e-5)
    for first, second in zip(first_rows, second_rows, strict=True):
        for kind, share in first["share"].items():
            assert share["value"] == pytest.approx(second["share"][kind]["value"], abs=1e-5)
            assert share["error"] == pytest.approx(second["share"][kind]["error"], abs=1e-5)
