"""The commands end to end, as a user types them."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
import typer

import manyscale as ms
from helpers.commands import toy_dataset, toy_npz, write_parts
from helpers.toys import SCHEMA, toy_events
from manyscale import cli
from manyscale.card import load_card, preset_card_text
from manyscale.console import print_metrics
from manyscale.evaluation.results import Metrics
from manyscale.events.ragged import PackedStream
from manyscale.events.work import open_executor
from manyscale.model.presets import PRESETS
from manyscale.reporting.tables import classifier_table, yields_table
from manyscale.training import checkpoint


def read_json(path):
    return json.loads(Path(path).read_text(encoding="utf-8"))


def metrics_of(folder):
    return read_json(Path(folder) / "metrics.json")


QUICK = ("--set", "training.epochs=2", "--set", "training.batch_size=64")


@pytest.fixture
def train(type_):
    """Train by a card of this text into the folder `run`, quickly, and so without plots."""

    def by_card(card, options="--no-plots", code=0):
        Path("card.yaml").write_text(card)
        return type_(f"train card.yaml --out run {options}", *QUICK, code=code)

    return by_card


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return toy_dataset(tmp_path_factory.mktemp("data") / "toys")


@pytest.fixture(scope="module")
def npz(tmp_path_factory):
    """Files of one class and stream each, for all three streams."""
    folder = tmp_path_factory.mktemp("npz")
    for label in ("signal", "background"):
        for place, stream in enumerate(("jet1", "jet2", "kinematics")):
            seed = 10 * place + (label == "signal")
            toy_npz(folder / f"{label}_{stream}.npz", 150, label == "signal", seed)
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory, dataset):
    """A finished run of Model 2, made by the command."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "card.yaml").write_text(preset_card_text("model-2"))
    command = [
        str(Path(sys.executable).with_name("manyscale")), "train", str(folder / "card.yaml"),
        "--out", str(folder / "run"), "--set", f"data.dataset={dataset}", *QUICK,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "report.html" in done.stdout
    return folder / "run"


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_trains_on_a_dataset_and_predicts(type_, train, dataset, preset):
    card = preset_card_text(preset)
    if preset == "model-1":
        card = "preset: model-1\n"
    train(card, f"--no-plots --set data.dataset={dataset}")
    assert not Path("run/plots").exists()
    metrics = metrics_of("run")
    assert metrics["auc"] > 0.5
    assert {"trees", "combined", "yields", "significance"} <= metrics.keys()
    type_(f"predict run {dataset} --out scores.parquet")
    scores = pq.read_table("scores.parquet")
    assert len(scores) == 240
    assert scores.column_names == [
        "event_id", "score", "score_trees", "score_combined", "selected", "split", "process",
        "label", "weight",
    ]  # fmt: skip


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_trains_on_npz_files_and_predicts(type_, train, npz, preset):
    streams = ["kinematics"] if preset == "kinematics-only" else ["jet1", "jet2", "kinematics"]
    files = {
        label: "{" + ", ".join(f"{s}: {npz / f'{label}_{s}.npz'}" for s in streams) + "}"
        for label in ("signal", "background")
    }
    fusion = "fusion: [{query: jet2, context: [jet1]}]" if preset == "custom" else ""
    train(
        f"preset: {preset}\n{fusion}\ndata: {{signal: {files['signal']}, "
        f"background: {files['background']}}}\n"
    )
    new = {s: np.load(npz / f"signal_{s}.npz")["arr_0"] for s in ["jet1", "jet2", "kinematics"]}
    wanted = [stream["name"] for stream in read_json("run/model/config.json")["streams"]]
    arrays = {name: new[name] for name in wanted}
    np.savez("new.npz", **(arrays if len(arrays) > 1 else {"arr_0": next(iter(arrays.values()))}))
    type_("predict run new.npz --out scores.npz")
    with np.load("scores.npz") as scores:
        assert scores["score"].shape == (150,)
        assert (scores["score"] > 0).all()
        # The trees see all streams of the data, the file has those of the network alone.
        assert ("score_trees" in scores) == (len(arrays) == len(streams))


def test_run_folder_holds_what_it_should(trained):
    names = {path.name for path in trained.iterdir()}
    assert names == {
        "card.yaml", "provenance.json", "log.txt", "model", "checkpoints", "metrics.json",
        "history.csv", "scores", "plots", "report.html", "data.json", "summary.json",
        "flow_chart.svg",
    }  # fmt: skip
    header = (trained / "history.csv").read_text(encoding="utf-8").splitlines()[0]
    assert header == (
        "epoch,train_loss,validation_loss,validation_auc,learning_rate,events_per_second,"
        "data_seconds,forward_seconds,backward_seconds,optimizer_seconds,validation_seconds,"
        "peak_memory_mb"
    )


def test_evaluating_again_gives_the_same_figures(type_, trained):
    before = metrics_of(trained)
    done = type_(f"evaluate {trained}")
    after = metrics_of(trained)
    assert after["stamp"].pop("made") >= before["stamp"].pop("made")
    assert after == before
    assert "network" in done.out
    assert "trees" in done.out


def test_luminosity_scales_the_yields(type_, trained, tmp_path):
    run_copy = shutil.copytree(trained, tmp_path / "copy")
    found = []
    for luminosity in (100, 300):
        type_(f"evaluate {run_copy} --luminosity {luminosity}")
        metrics = metrics_of(run_copy)
        found.append(metrics["yields"]["processes"]["qcd"]["expected"])
    # All 1000 generated weights of the toys stand for 100 pb; the cuts of the toys are none.
    assert found[0] == pytest.approx(100 * 1000 * 100.0)
    assert found[1] == pytest.approx(3 * found[0])


def test_resume_with_more_epochs_trains_longer_and_evaluates_anew(type_, trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    before = metrics_of(run)
    type_(f"train {run / 'card.yaml'} --out {run} --resume --set training.epochs=3")
    assert len((run / "history.csv").read_text(encoding="utf-8").splitlines()) == 4
    assert load_card(run / "card.yaml").training.restarts == (6,)
    assert metrics_of(run)["loss"] != before["loss"]


def test_a_moved_run_has_its_own_data_where_they_moved_along_or_as_said(type_, trained, tmp_path):
    before = metrics_of(trained)
    provenance = read_json(trained / "provenance.json")
    old, new = tmp_path / "old", tmp_path / "new"
    data = Path(provenance["data"]["source"])
    # As if both had been in one folder, and this had been moved.
    shutil.copytree(data, new / "data" / "toys")
    run = shutil.copytree(trained, new / "runs" / "first")
    card = (run / "card.yaml").read_text(encoding="utf-8")
    (run / "card.yaml").write_text(card.replace(str(data), str(old / "data" / "toys")), "utf-8")
    provenance["folder"] = str(old / "runs" / "first")
    (run / "provenance.json").write_text(json.dumps(provenance), "utf-8")
    type_(f"evaluate {run}")
    assert metrics_of(run)["auc"] == before["auc"]
    elsewhere = (new / "data").rename(tmp_path / "elsewhere") / "toys"
    said = type_(f"evaluate {run}", code=1).err
    assert "say where they are by --data" in said
    type_(f"evaluate {run} --data {elsewhere}")
    assert metrics_of(run)["auc"] == before["auc"]
    other = toy_dataset(tmp_path / "other", events=100)
    assert "holds other events" in type_(f"evaluate {run} --data {other}", code=1).err


def test_limits_of_npz_name_the_option_that_gives_cross_sections(type_, train, npz):
    train(
        f"preset: model-1\ndata: {{signal: {npz / 'signal_jet1.npz'}, "
        f"background: {npz / 'background_jet1.npz'}}}"
    )
    options = "--cross-section signal=PB --cross-section background=PB"
    assert options in type_("limits run", code=1).err
    given = options.replace("l=PB", "l=0.001").replace("d=PB", "d=0.1")
    assert "limit" in type_(f"limits run {given}").out
    type_(f"evaluate run {given}")
    # All 150 events of each file stand for the cross section at 3,000 fb^-1.
    assert metrics_of("run")["yields"]["signal"]["expected"] == pytest.approx(3000)
    assert "processes are signal" in type_("limits run --cross-section x=1", code=1).err
    assert type_("limits run --cross-section signal", code=2).err.endswith(
        "write it as ttbar=832\n"
    )


def test_events_of_the_training_are_no_test(type_, trained, dataset):
    done = type_(f"evaluate {trained} --data {dataset}", code=1)
    assert "were used to train the network" in done.err


def test_run_is_not_overwritten_and_a_finished_one_is_left_alone(type_, trained):
    card = trained / "card.yaml"
    before = (trained / "report.html").stat().st_mtime_ns
    assert "already holds a run" in type_(f"train {card} --out {trained}", code=1).err
    type_(f"train {card} --out {trained} --resume")
    done = type_(f"train {card} --out {trained} --resume --set training.batch_size=9", code=1)
    assert "differ in training.batch_size (there 64, here 9)" in done.err
    assert (trained / "report.html").stat().st_mtime_ns == before


def test_report_is_written_anew(type_, trained):
    (trained / "report.html").unlink()
    type_(f"report {trained}")
    assert (trained / "report.html").stat().st_size > 10_000


def test_inspect_looks_into_everything(type_, trained, dataset, npz):
    done = type_(f"inspect {dataset} --verify")
    assert "240 events" in done.out
    assert "checksum" in done.out
    done = type_(f"inspect {trained}")
    assert "cross-attention" in done.out
    assert "test AUC" in done.out
    assert "jet1 encoder" in type_("inspect", trained / "model").out
    shutil.copy(trained / "card.yaml", "card.yaml")
    assert "card.svg" in type_("inspect card.yaml").out
    assert "arr_0" in type_("inspect", npz / "signal_jet1.npz").out
    assert "log_pt_rel" in type_("inspect --features").out


def test_convert_makes_a_dataset_that_trains(type_, train, npz):
    for label in ("signal", "background"):
        files = [f"{s}={npz / f'{label}_{s}.npz'}" for s in ("jet1", "kinematics")]
        for said in ("added", "already"):
            assert said in type_("convert", *files, "--label", label, "--out", "mine").out
    assert "300 events" in type_("inspect mine").out
    train("preset: model-3\ndata: {dataset: mine}\n")
    type_("convert", files[0].split("=")[1], "--label", "signal", "--out", "mine", code=1)


def test_compare_of_sizes_and_seeds_prints_a_table_and_how_many_events_it_takes(
    type_, dataset, monkeypatch
):
    monkeypatch.setenv("COLUMNS", "200")  # a narrow table stands in pieces
    Path("a.yaml").write_text(f"preset: kinematics-only\ndata: {{dataset: {dataset}}}\n")
    sizes = "compare a.yaml --out both --seeds 2 --sizes"
    done = type_(sizes, "100,50", "--target", "3", "--workers", "1", *QUICK)
    rows = read_json("both/comparison.json")
    assert [(row["name"], row["size"]) for row in rows] == [
        (name, size) for size in (50, 100) for name in dict.fromkeys(r["name"] for r in rows)
    ]
    assert {"a", "trees"} <= {row["name"] for row in rows}
    aucs = [read_json(f"both/a/size-100/seed-{seed}/metrics.json")["auc"] for seed in (1, 2)]
    (row,) = (row for row in rows if (row["name"], row["size"]) == ("a", 100))
    assert row["auc"] == pytest.approx(np.mean(aucs))
    assert row["auc_error"] >= np.std(aucs, ddof=1) / np.sqrt(2) - 1e-12
    assert sum(read_json("both/a/size-50/seed-2/data.json")["splits"]["train"].values()) == 50
    curves = read_json("both/learning.json")
    assert curves[1]["target"] == pytest.approx(1 / 3)
    assert "events for a rejection of 3" in done.out
    assert Path("both/plots/comparison_learning.svg").is_file()
    page = Path("both/report.html").read_text(encoding="utf-8")
    assert page.count("data:image/svg+xml") == 2
    assert "learning curves" in page
    assert "seeds" in type_("compare a.yaml --out two --folds 2 --seeds 2", code=2).err
    assert "numbers of events" in type_("compare a.yaml --out two --sizes 5k", code=2).err


def test_card_with_a_jet_frame_trains_and_predicts_the_same_twice(type_, train, dataset):
    train(
        f"""preset: model-3
data: {{dataset: {dataset}}}
streams: {{jet1: {{frame: {{centre: pt, rotate: principal, flip: true}}}}}}
evaluation: {{images: {{bins: 10, weight: count}}}}
""",
        "--plots",
    )
    streams = read_json("run/model/config.json")["model"]["streams"]
    assert streams["jet1"]["frame"] == {"centre": "pt", "rotate": "principal", "flip": True}
    assert "principal axis up" in Path("run/flow_chart.svg").read_text(encoding="utf-8")
    assert "tokens in a pixel" in Path("run/plots/image_jet1.svg").read_text(encoding="utf-8")
    assert not Path("run/plots/image_kinematics.svg").exists()
    assert "Mean image of the stream jet1" in Path("run/report.html").read_text(encoding="utf-8")
    assert load_card("run/card.yaml").streams["jet1"].frame.rotate == "principal"
    type_(f"predict run {dataset} --out scores.parquet")
    predicted, tested = map(pq.read_table, ("scores.parquet", "run/scores/test.parquet"))
    assert len(tested) > 10
    # What predict calls the test part is what the evaluation has tested on.
    predicted = predicted.filter(pc.field("split") == "test")
    predicted, tested = (table.sort_by("event_id") for table in (predicted, tested))
    for name in ("event_id", "process", "split", "label", "weight"):
        assert predicted[name].to_pylist() == tested[name].to_pylist()
    for name in ("score", "score_trees", "score_combined"):
        np.testing.assert_allclose(predicted[name], tested[name], atol=1e-6)


def test_frame_that_the_columns_do_not_give_is_refused(train, npz):
    done = train(
        f"""preset: model-1
data:
  signal: {npz / "signal_jet1.npz"}
  background: {npz / "background_jet1.npz"}
  columns: {{constituents: [delta_eta, delta_phi, energy]}}
streams: {{constituents: {{frame: {{centre: pt}}}}}}
""",
        code=1,
    )
    assert "streams.constituents.frame: " in done.err
    assert "do not give pt" in " ".join(done.err.split())
    assert not Path("run").exists()


def test_card_of_the_seed_trains(type_, npz, tmp_path):
    shutil.copy(npz / "signal_jet1.npz", "sig.npz")
    shutil.copy(npz / "background_jet1.npz", "bkg.npz")
    (tmp_path / "input.py").write_text(
        "model = 1\nsig_file = 'sig.npz'\nbkg_file = 'bkg.npz'\nbatch_size = 50\nepoch = 1\n"
        "num_heads = 5\nhidden_dim = 5\nnum_transformers = 1\nn_constit = 4\nn_channels = 3\n"
        "compute_ROC = False\n"
    )
    done = type_("card --from-seed input.py")
    assert "compute_ROC" in done.err
    assert "compute_ROC" not in done.out
    (tmp_path / "card.yaml").write_text(done.out)
    type_("train card.yaml --out run")
    assert read_json("run/data.json")["dropped_tokens"]["constituents"] > 0


def test_a_narrow_terminal_breaks_no_number_and_a_legend_stands_once(trained, monkeypatch, capsys):
    metrics = Metrics.read(trained / "metrics.json")
    printed = {}
    for width in (300, 60):
        monkeypatch.setenv("COLUMNS", str(width))
        print_metrics(metrics)
        printed[width] = capsys.readouterr()
    for table in (classifier_table(metrics), yields_table(metrics)):
        for row in table.rows:
            for cell, figures in zip(row, table.figures, strict=True):
                assert not figures or all(cell in done.out for done in printed.values()), cell
    tables = printed[60].out.partition("Too good")[0].partition("Combined:")[0].splitlines()
    assert len(tables) > 40
    assert max(map(len, tables)) <= 60
    assert printed[60].err.count("Errors: from the number of simulated events.") == 1


def test_warnings_of_libraries_begin_as_ours(type_, monkeypatch):
    def text(*_, **__):
        warnings.warn("odd", stacklevel=1)
        return ""

    monkeypatch.setattr("manyscale.card.preset_card_text", text)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert type_("card model-2").err == "warning: odd\n"


def full_disk(*_, **__):
    """What pyarrow raises, say: without the name of the file."""
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_named_by_what_could_not_be_written(
    type_, trained, dataset, monkeypatch, tmp_path
):
    monkeypatch.setattr("manyscale.runs.predict.write_scores", full_disk)
    done = type_(f"predict {trained} {dataset} --out scores.npz", code=1)
    assert done.err.endswith(
        "error: cannot read or write scores.npz: No space left on device; what was complete before is "
        "as it was, and the same command can be given again\n"
    )
    monkeypatch.setattr("manyscale.runs.limits.limits_run", full_disk)
    assert f"cannot read or write {trained}: No" in type_(f"limits {trained}", code=1).err
    monkeypatch.setattr("manyscale.data.sources.write_whole", full_disk)
    done = type_("generate --out new/data --set generate.events=2", code=1)
    assert done.err.endswith(
        "error: cannot read or write new/data: No space left on device; what was complete before is "
        "as it was, and the same command can be given again\n"
    )
    assert not (tmp_path / "new" / "data").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a system without /dev/full")
def test_a_full_standard_output_is_named():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "manyscale", "card", "model-2"],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("error: cannot read or write standard output: No space left")


@pytest.mark.parametrize(
    ("shell", "settings"),
    [
        ("bash", {"COMP_WORDS": "manyscale ev", "COMP_CWORD": "1"}),
        ("zsh", {"_TYPER_COMPLETE_ARGS": "manyscale ev"}),
        (
            "fish",
            {"_TYPER_COMPLETE_ARGS": "manyscale ev", "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
        ),
    ],
)
def test_shells_complete_commands(type_, monkeypatch, shell, settings):
    monkeypatch.setenv("_MANYSCALE_COMPLETE", f"complete_{shell}")
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    done = type_("")
    assert "evaluate" in done.out
    assert "train" not in done.out


def test_printed_card_is_the_card_and_nothing_else(type_):
    done = type_("card model-3")
    assert (done.code, done.err) == (0, "")
    assert done.out == preset_card_text("model-3")
    assert type_("card model-3 --full").out == preset_card_text("model-3", full=True)


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("card model-9", 1, "there is no preset 'model-9'"),
        ("card", 2, "either a preset or --from-seed"),
        ("inspect", 2, "either a PATH or --features"),
        ("inspect nowhere", 1, "there is no nowhere"),
        ("inspect .", 1, "dataset"),
        ("train none.yaml --out run", 1, "there is no card none.yaml"),
        ("train empty.yaml --out run", 1, "the card names no data"),
        ("train wrong.yaml --out run", 1, "did you mean 'training'"),
        ("train gone.yaml --out run", 1, "nodata"),
        ("train empty.yaml", 2, "--out"),
        ("evaluate nowhere", 1, "there is no run nowhere"),
        ("predict nowhere x.npz --out s.npz", 1, "there is no run nowhere"),
        ("predict nowhere x.npz --out s.csv", 1, "scores are written as"),
        ("report nowhere", 1, "nowhere"),
        ("convert none.npz --label signal --out run", 1, "none.npz"),
        ("convert a.npz --label sig --out run", 2, "sig"),
        ("convert a.npz b.npz --label signal --out run", 1, "no file a.npz"),
        ("generate --out run --units 5", 1, "write A:B"),
        ("bake", 2, "bake"),
    ],
)
def test_mistakes_get_one_clear_message_and_leave_nothing(type_, tmp_path, line, code, said):
    (tmp_path / "empty.yaml").write_text("")
    (tmp_path / "wrong.yaml").write_text("trainig: {epochs: 3}")
    (tmp_path / "gone.yaml").write_text("data: {dataset: nodata}")
    done = type_(line, code=code)
    assert said in " ".join(done.err.split())
    assert "Traceback" not in done.err
    assert not (tmp_path / "run").exists()


def test_debug_shows_the_traceback(type_):
    assert "Traceback" in type_("evaluate nowhere --debug", code=1).err


def test_dataset_of_one_class_is_refused_with_advice(type_, train, npz):
    type_("convert", npz / "signal_jet1.npz", "--label", "signal", "--out", "one")
    assert "no background events" in train("preset: model-1\ndata: {dataset: one}\n", code=1).err


COMMANDS = typer.main.get_command(cli.app).commands
WITH_DEVICE = {"train", "evaluate", "limits", "explain", "predict", "compare", "pretrain"}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_has_an_example(type_, command):
    texts = [type_(f"{command} {flag}") for flag in ("--help", "-h")]
    assert texts[0].code == 0
    assert texts[0].out == texts[1].out
    assert f"Example: manyscale {command}" in texts[0].out
    assert ("--device" in texts[0].out) == (command in WITH_DEVICE)


def test_version_and_module(type_):
    done = type_("--version")
    assert (done.code, done.out) == (0, f"manyscale {ms.__version__}\n")
    command = [sys.executable, "-m", "manyscale", "-h"]
    module = subprocess.run(command, capture_output=True, text=True, check=False)
    assert module.returncode == 0
    assert "Usage: manyscale" in module.stdout
    assert all(name in module.stdout for name in COMMANDS)


def test_device_goes_to_the_card_and_to_the_network(type_, train, trained, dataset):
    train(f"preset: kinematics-only\ndata: {{dataset: {dataset}}}\n", "--device cpu")
    assert load_card("run/card.yaml").training.accelerator == "cpu"
    for command in ("evaluate", "limits", "explain"):
        assert "tpu" in type_(f"{command} {trained} --device tpu", code=2).err
    if not torch.cuda.is_available():
        done = type_(f"predict {trained} {dataset} --out scores.npz --device cuda", code=1)
        assert "torch finds no GPU here" in done.err
        assert "finds none here" in type_("train card.yaml --out other --device cuda", code=1).err


def turned(schema, events):
    """The same events with the columns of each stream in the other order."""
    streams = tuple(
        of.model_copy(update={"columns": of.columns[::-1], "axis": of.axis[::-1]})
        for of in schema.streams
    )
    packed = {
        name: PackedStream(of.values[:, ::-1].copy(), of.counts, of.axis[:, ::-1].copy())
        for name, of in events.streams.items()
    }
    return schema.model_copy(update={"streams": streams}), replace(events, streams=packed)


def test_column_order_of_the_data_does_not_matter(type_, trained, tmp_path):
    """A dataset whose columns stand in another order is scored and evaluated the same."""
    events = toy_events(77, events=80, learnable=True)
    figures, scores = [], []
    for name, (schema, packed) in {
        "as_trained": (SCHEMA, events),
        "turned": turned(SCHEMA, events),
    }.items():
        # A stream more does not matter either.
        more = schema.stream("kinematics").model_copy(update={"name": name[:2]})
        wider = schema.model_copy(update={"streams": (*schema.streams, more)})
        streams = {**packed.streams, more.name: packed.streams["kinematics"]}
        folder = write_parts(tmp_path / name / "data", wider, replace(packed, streams=streams))
        type_(f"predict {trained} {folder} --out {name}.npz")
        with np.load(f"{name}.npz") as found:
            order = np.argsort(found["event_id"])
            scores.append([found[f"score{of}"][order] for of in ("", "_trees", "_combined")])
        run_copy = shutil.copytree(trained, tmp_path / name / "run")
        type_(f"evaluate {run_copy} --data {folder}")
        figures.append(metrics_of(run_copy))
    np.testing.assert_array_equal(*scores)
    assert figures[0]["auc"] == pytest.approx(figures[1]["auc"], abs=1e-6)
    assert figures[0]["trees"]["auc"] == figures[1]["trees"]["auc"]
    assert figures[0]["combined"]["auc"] == pytest.approx(figures[1]["combined"]["auc"], abs=1e-6)
    assert figures[0]["n_events"] == 80


def test_killed_training_is_resumed_to_the_same_bits(type_, dataset, tmp_path):
    command = [
        str(Path(sys.executable).with_name("manyscale")), "train", "card.yaml",
        "--set", f"data.dataset={dataset}", "--set", "training.batch_size=4", "--out",
    ]  # fmt: skip
    Path("card.yaml").write_text("preset: kinematics-only\ntraining: {epochs: 6}\n")
    checkpoints = tmp_path / "run" / "checkpoints"
    with subprocess.Popen([*command, "run"], stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not [*checkpoints.glob("epoch-*")]:
            time.sleep(0.01)
        process.kill()
    assert not (tmp_path / "run" / "model").exists()
    for folder in ("run", "whole"):
        done = subprocess.run([*command, folder, "--resume"], capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
    weights = [Path(f) / "model" / "weights.safetensors" for f in ("run", "whole")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_generated_events_do_not_depend_on_the_number_of_workers(type_):
    Path("card.yaml").write_text(
        "generate: {events: 24, unit_events: 8, multiparton: false, "
        "processes: {hh4b: {pythia: ['35:m0=1500']}, zz: {}}}\n"
    )
    assert "cutflow" in type_("generate card.yaml --out two --workers 2").out
    type_("generate card.yaml --out one --workers 1 --units 0:4")
    done = type_("generate card.yaml --out one --workers 1")
    assert "are done already" in done.err
    parts = [sorted((Path(name) / "parts").glob("*.parquet")) for name in ("one", "two")]
    assert [p.name for p in parts[0]] == [p.name for p in parts[1]]
    assert len(parts[0]) == 6
    for one, two in zip(*parts, strict=True):
        assert pq.read_table(one).equals(pq.read_table(two))
    done = type_("generate card.yaml --out one --set generate.jets.radius=0.8", code=1)
    assert "other settings" in done.err
    assert "only the units 0:6" in type_("generate card.yaml --out three --units 9:12", code=1).err
    done = type_(
        "generate --out bad --set", "generate.processes={hh4b: {pythia: ['X:y=1']}}", code=1
    )
    assert "X:y=1" in done.err
    assert not Path("bad").exists()


def test_pythia_without_its_data_files_says_so(tmp_path):
    pytest.importorskip("pythia8mc")
    environment = {**os.environ, "PYTHIA8DATA": str(tmp_path)}
    command = [sys.executable, "-m", "manyscale", "generate", "--out", str(tmp_path / "new")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 1
    assert f"does not find its data files (Index.xml): PYTHIA8DATA is {tmp_path}" in done.stderr
    assert "refuses" not in done.stderr
    assert not (tmp_path / "new").exists()


def test_workers_are_no_more_than_the_cores_that_may_be_used(type_, monkeypatch):
    pytest.importorskip("manyscale.events.generate")
    asked = []

    def one_here(workers, cluster):
        asked.append(workers)
        return open_executor(1, cluster)

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr("manyscale.events.work.open_executor", one_here)
    few = "generate={events: 8, unit_events: 2, multiparton: false, processes: {zz: {}}}"
    type_("generate --out data --set", few)
    assert asked == [3]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("training.accelerator=gpu", "finds none here"),
        ("training.precision=16-mixed", "needs a GPU"),
        ("training.devices=100000", "this machine has"),
        ("training.nodes=2", "start it on all of them with torchrun or srun"),
    ],
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_devices_that_are_not_there_are_refused_before_anything_is_written(
    train, dataset, change, said
):
    assert said in train(f"data: {{dataset: {dataset}}}\n", f"--set {change}", code=1).err
    assert not Path("run").exists()


def test_mixed_precision_trains(train, dataset):
    change = "--set training.precision=bf16-mixed --set training.max_steps=3"
    train(f"data: {{dataset: {dataset}}}\n", change)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_a_signal_ends_a_run_that_can_be_resumed(type_, dataset, tmp_path, number, code):
    """Its exit code says so; while it lives, no other process may write it."""
    (tmp_path / "card.yaml").write_text(
        f"preset: kinematics-only\ndata: {{dataset: {dataset}}}\ntraining: {{epochs: 10000}}\n"
    )
    command = [
        str(Path(sys.executable).with_name("manyscale")),
        "train",
        "card.yaml",
        "--out",
        "run",
    ]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        checkpoints = tmp_path / "run" / "checkpoints"
        while process.poll() is None and not [*checkpoints.glob("epoch-*")]:
            time.sleep(0.01)
        refused = type_("train card.yaml --out run --resume", code=1)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert f"written by another process (process {process.pid} on " in refused.err
    assert process.returncode == code
    assert checkpoint.saved(checkpoints)
    assert not (tmp_path / "run" / ".lock").exists()
    assert "with --resume" in err
    assert "interrupted" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_ends_a_command_by_its_code_wherever_it_comes(number):
    """Also before typer looks out for it, and in code that a library makes by `exec`."""
    typed = [
        "from manyscale import cli",
        f"end = 'import signal; signal.raise_signal({number:d})'",
        "cli.app = lambda *_, **__: exec(end)",
        "cli.main()",
    ]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(typed)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 75, done.stderr
    assert done.stderr.strip() == "interrupted"


def test_fault_of_ours_is_still_one_line(type_, monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("manyscale.runs.inspect.known_features", broken)
    err = type_("inspect --features", code=1).err
    assert err == "error: ZeroDivisionError: by zero (--debug shows where)\n"


def test_yields_stand_for_all_events_also_with_fewer_trained_on(train, dataset):
    train(f"preset: kinematics-only\ndata: {{dataset: {dataset}, max_events: 60}}\n")
    assert metrics_of("run")["n_events"] < 40
    expected = metrics_of("run")["yields"]["processes"]["hh4b"]["expected"]
    # 0.01 pb at 3000 fb^-1, all generated toys are in the dataset.
    assert expected == pytest.approx(0.01 * 1000 * 3000)


def test_predicted_labels_are_those_of_the_run_s_classes(type_, train, dataset):
    train(
        f"preset: kinematics-only\ndata: {{dataset: {dataset}}}\n"
        "classes: {signal: [qcd], background: [hh4b]}\n"
    )
    type_(f"predict run {dataset} --out scores.npz")
    with np.load("scores.npz") as scores:
        assert ms.evaluate(scores["label"], scores["score"])["auc"] > 0.5


def test_stream_that_is_empty_for_one_class_still_gives_a_report(train, tmp_path):
    for label in ("signal", "background"):
        toy_npz(tmp_path / f"{label}_a.npz", 120, label == "signal", 1 + (label == "signal"))
        values = np.zeros((120, 2, 2))
        if label == "signal":
            values[:, 0] = 1.5
        np.savez(tmp_path / f"{label}_b.npz", values)
    train(
        "data:\n"
        "  signal: {a: signal_a.npz, b: signal_b.npz}\n"
        "  background: {a: background_a.npz, b: background_b.npz}\n",
        "--plots",
    )
    assert Path("run/plots/inputs_a.svg").is_file()
    assert not Path("run/plots/inputs_b.svg").exists()


def test_class_codes_of_any_size_are_accepted(train, tmp_path):
    rng = np.random.default_rng(3)
    for label in ("signal", "background"):
        values = np.ones((120, 3, 2))
        values[..., 1] = rng.choice([-211, 22, 2112, 3], (120, 3))
        values[..., 0] += rng.random((120, 3)) + (label == "signal")
        np.savez(tmp_path / f"{label}.npz", values)
    train(
        "preset: model-1\ndata: {signal: signal.npz, background: background.npz, "
        "columns: {constituents: [pt, particle_class]}}\n",
        "--plots",
    )


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("convert a.npz --process mine --out new", "say what the events are"),
        ("convert a.npz --label signal --cross-section -3 --out new", "cross section is -3"),
        ("generate --out other", "other streams or columns"),
        ("compare one.yaml two.yaml --out both", "other events"),
        ("predict RUN a.npz --out a.npz", "overwrite their input"),
        ("evaluate RUN --luminosity -5", "must be above 0"),
    ],
)
def test_what_would_damage_or_mislead_is_refused(type_, trained, dataset, tmp_path, line, said):
    toy_npz(tmp_path / "a.npz", 20, True)
    type_("convert a.npz --process hh4b --out other")
    for name, seed in (("one", 1), ("two", 2)):
        Path(f"{name}.yaml").write_text(f"seed: {seed}\ndata: {{dataset: {dataset}}}\n")
    before = sorted(path.name for path in tmp_path.rglob("*"))
    assert said in type_(line.replace("RUN", str(trained)), code=1).err
    assert sorted(path.name for path in tmp_path.rglob("*")) == before
