"""Explaining runs, from the command and from Python."""

import io
import json
import math
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from helpers.commands import toy_dataset, toy_npz
from helpers.networks import network_of
from helpers.toys import SCHEMA, toy_events
from manyscale import cli
from manyscale.card import Card, DataSettings, load_card, parse_card
from manyscale.data.dataset import Dataset
from manyscale.deployment.predict import Alignment
from manyscale.deployment.predict import class_probabilities
from manyscale.errors import DataError, RunError
from manyscale.explanation.summary import attention_numbers, importance_numbers
from manyscale.features.images import ImageSettings
from manyscale.reporting.display_file import Display
from manyscale.reporting.drawn import Drawn
from manyscale.runs import explanation
from manyscale.runs.event_display import Gallery, display_of
from manyscale.runs.explanation import EventSample, add_up, explain_run
from manyscale.runs.judging import Trial
from manyscale.runs.training import train_run
from manyscale.runs.whole import whole_run

QUICK = ("training.epochs=1", "training.batch_size=64")
MAPS = {
    "attention_maps_kinematics_jet1", "attention_maps_kinematics_jet2",
    "attention_heads_kinematics_jet1", "attention_heads_kinematics_jet2",
    "attention_shares_kinematics", "attention_kinds_kinematics", "attention_profiles_kinematics",
    "attention_self_jet1", "attention_self_jet2", "attention_pairs",
    "gradcam_maps", "gradcam_streams", "gradcam_particles", "gradcam_objects", "gradcam_profiles",
}  # fmt: skip


def read_json(path):
    return json.loads(Path(path).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return toy_dataset(tmp_path_factory.mktemp("data") / "toys")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, dataset):
    """A run of Model 2, without its plots: to write them takes most of the time."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    card = parse_card("preset: model-2", "test", [f"data.dataset={dataset}", *QUICK])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Drawn, "save", lambda _, folder, __: folder.mkdir(exist_ok=True))
        whole_run(card, folder)
    return folder


@pytest.fixture(scope="module")
def explained(trained):
    """The same, explained by the command, and what that printed."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["manyscale", "explain", str(trained), "--display", "6"])
        with pytest.raises(SystemExit) as end:
            cli.main()
    assert not end.value.code
    return Explained(trained, out.getvalue(), err.getvalue())


class Explained(NamedTuple):
    """A run that is explained, and what the command said."""

    run: Path
    out: str
    err: str


@pytest.fixture
def undrawn(monkeypatch):
    """Names of the plots, which are made but not written."""
    drawn = []
    monkeypatch.setattr(Drawn, "save", lambda _, folder, name: drawn.append(name))
    return drawn


def test_command_writes_numbers_plots_display_and_report(explained):
    files = {path.name for path in (explained.run / "explanation").iterdir()}
    assert files == {
        "attention.json", "gradcam.json", "display.json", "summary.json", "integrated_gradients.json",
        "similarity.json", "shuffling.json", "deletion.json", "randomisation.json",
    }  # fmt: skip
    plots = {path.stem for path in (explained.run / "plots").glob("*.svg")}
    assert plots >= MAPS | {"shuffling", "deletion"}
    for name in MAPS:
        svg = explained.run / "plots" / f"{name}.svg"
        assert svg.stat().st_size < 150_000
        rows = svg.with_suffix(".csv").read_text(encoding="utf-8").splitlines()
        assert len(rows) > 1
        assert svg.with_suffix(".pdf").stat().st_size > 0
    summary = read_json(explained.run / "explanation" / "summary.json")
    assert summary["weights"] == "class-balanced"
    assert summary["events"] == Trial.open(explained.run).test.class_counts
    assert [row["stream"] for row in summary["streams"]] == ["jet1", "jet2", "kinematics"]
    assert sum(row["importance"] for row in summary["streams"]) == pytest.approx(1, abs=0.2)
    assert {"attention maps and Grad-CAM", "shuffling", "deletion"} <= summary["seconds"].keys()
    report = (explained.run / "report.html").read_text(encoding="utf-8")
    assert len(report) < 3_000_000


def test_numbers_are_finite_and_named(explained):
    attention = read_json(explained.run / "explanation" / "attention.json")
    rows = attention["cross_attention"]
    assert {row["head"] for row in rows} == {1, 2, "mean", "even"}
    assert {row["asked_by"] for row in rows if row["head"] == 1} == {
        "class token", "leading jet", "second jet", "pair", "missing momentum",
    }  # fmt: skip
    for row in rows + attention["self_attention"] + attention["pt"]:
        assert all(math.isfinite(of["value"]) for of in row["share"].values())
    importance = read_json(explained.run / "explanation" / "gradcam.json")["importance"]
    assert {(row["stream"], row["class"]) for row in importance} == {
        (stream, of) for stream in ("jet1", "jet2", "kinematics") for of in ("signal", "background")
    }


def test_table_traces_to_the_files(explained):
    assert "weak evidence" in explained.err
    summary = read_json(explained.run / "explanation" / "summary.json")
    for row in summary["streams"]:
        lines = explained.out.splitlines()
        (line,) = (line for line in lines if line.startswith(f" {row['stream']} "))
        assert f"{row['importance']:.0%}" in line
        assert f"{row['auc_loss']:+.4f}" in line


def test_display_shows_the_scores_and_tokens_that_the_run_has(explained):
    display = read_json(explained.run / "explanation" / "display.json")
    assert Display.model_validate(display).events
    trial = Trial.open(explained.run)
    events = trial.test.events()
    streams = Alignment(trial.test.schema, trial.bundle.streams).streams(events)
    score = class_probabilities(trial.bundle.network, streams)[:, 1]
    place_of = {str(event): place for place, event in enumerate(events.event_id)}
    whys = [event["why"] for event in display["events"]]
    assert whys[:4] == ["most signal-like"] * 2 + ["most background-like"] * 2
    assert len({event["event_id"] for event in display["events"]}) == len(whys) <= 6
    for event in display["events"]:
        place = place_of[event["event_id"]]
        assert event["score"] == pytest.approx(score[place], abs=1e-4)
        assert event["process"] == ("hh4b" if event["label"] == "signal" else "qcd")
        total = 0
        for name, tokens in event["streams"].items():
            values = events.streams[name].between(place, place + 1)
            np.testing.assert_allclose(tokens["pt"], values.values[:, 0], atol=1e-4)
            assert len({len(column) for column in tokens.values()}) == 1
            total += sum(tokens["importance"])
            if name != "kinematics":
                jet = values.axis[0, 1]
                np.testing.assert_allclose(tokens["eta"], values.values[:, 1] - jet, atol=1e-4)
        assert total == pytest.approx(1, abs=1e-2) or total == 0
    frames = {stream["name"]: stream["frame"] for stream in display["streams"]}
    assert frames == {
        "jet1": "around the jet's axis", "jet2": "around the jet's axis", "kinematics": "detector",
    }  # fmt: skip


def test_gallery_keeps_the_best_of_all_chunks():
    events = toy_events(8, events=200)
    score = np.random.default_rng(1).random(200, np.float32)
    gallery = Gallery(12)
    for first in range(0, 200, 30):
        gallery.add(events.between(first, first + 30), score[first : first + 30])
    found = gallery.events()
    assert [(why, len(chosen)) for why, chosen, _ in found] == [
        ("most signal-like", 4), ("most background-like", 4), ("worst mistake", 2), ("worst mistake", 2),
    ]  # fmt: skip
    signal, background = np.sort(score[events.label == 1]), np.sort(score[events.label == 0])
    for (_, _, kept), wanted in zip(
        found, (signal[:-5:-1], background[:4], signal[:2], background[:-3:-1]), strict=True
    ):
        assert kept.tolist() == wanted.tolist()


@pytest.mark.parametrize("most", [0, 1, 2, 3, 4, 5, 30, 500])
def test_gallery_shows_no_more_than_asked_and_no_event_twice(most):
    events = toy_events(8, events=40)
    gallery = Gallery(most)
    gallery.add(events, np.linspace(0, 1, 40, dtype=np.float32))
    ids = np.concatenate([chosen.event_id for _, chosen, _ in gallery.events()])
    assert len(set(ids.tolist())) == len(ids) <= most


def test_a_right_event_is_no_mistake():
    events = toy_events(8, events=40)
    gallery = Gallery(30)
    gallery.add(events, events.label.astype(np.float32))
    assert sum(len(chosen) for why, chosen, _ in gallery.events() if why == "worst mistake") == 0
    shown = display_of(
        gallery, network_of("model-2"), Alignment(SCHEMA, SCHEMA.streams), SCHEMA.processes
    )
    assert {event["why"] for event in shown["events"]} == {
        "most signal-like", "most background-like",
    }  # fmt: skip


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
    assert summary["events"] == {"signal": 10, "background": 10}
    assert summary["displayed"] <= 3


@pytest.mark.parametrize("preset", ["concatenation", "kinematics-only"])
def test_without_cross_attention_the_rest_is_done(preset, dataset, tmp_path, undrawn):
    card = parse_card(f"preset: {preset}", "test", [f"data.dataset={dataset}", *QUICK])
    train_run(card, tmp_path / "run")
    summary = explain_run(tmp_path / "run", deep=10, display=3)
    assert any("no cross-attention" in notice for notice in summary["notices"])
    assert not any(name.startswith(("attention_maps_", "attention_shares_")) for name in undrawn)
    assert all(row["attention"] is None for row in summary["streams"])
    assert {"gradcam_streams", "shuffling", "deletion"} <= set(undrawn)
    assert ("gradcam_maps" in undrawn) == ("attention_self_jet1" in undrawn)
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
    assert [len(notice) > 0 for notice in summary["notices"]] == [True] * 3
    assert summary["displayed"] == 3
    display = read_json(tmp_path / "run" / "explanation" / "display.json")
    assert display["streams"] == []
    assert "gradcam_streams" in undrawn


def test_sums_do_not_depend_on_the_chunks(trained, monkeypatch):
    images = ImageSettings(bins=5)
    found = []
    for chunk in (2048, 7):
        monkeypatch.setattr(explanation, "_CHUNK", chunk)
        sums = add_up(EventSample.of(Trial.open(trained), 40), images, 6)
        found.append((attention_numbers(sums.attention), importance_numbers(sums.importance)))
        ids = [of.event_id.tolist() for _, of, _ in sums.gallery.events()]
        found[-1] += (ids,)
    together, apart = found
    assert together[2] == apart[2]
    rows = [of[0]["cross_attention"] + of[0]["self_attention"] + of[1] for of in found]
    for first, second in zip(*rows, strict=True):
        for kind, share in first["share"].items():
            assert share["value"] == pytest.approx(second["share"][kind]["value"], abs=1e-5)
            assert share["error"] == pytest.approx(second["share"][kind]["error"], abs=1e-5)


def test_sample_has_as_many_of_each_class_and_is_the_same_each_time(trained):
    trial = Trial.open(trained)
    sample = EventSample.of(trial, 20)
    assert sample.dataset.class_counts == {"signal": 10, "background": 10}
    again = EventSample.of(trial, 20).dataset.event_ids
    assert sample.dataset.event_ids.tolist() == again.tolist()
    assert set(again.tolist()) < set(EventSample.of(trial, 30).dataset.event_ids.tolist())
