"""The examples do what they say, on toy data."""

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer

from helpers.commands import run, toy_dataset, toy_npz
from helpers.networks import network_of
from helpers.toys import SCHEMA, toy_events
from manyscale import cli
from manyscale.card import card_text, load_card
from manyscale.data.dataset import Dataset
from manyscale.deployment.bundle import Bundle
from manyscale.deployment.onnx import write_onnx
from manyscale.evaluation.systematics import check_systematics
from manyscale.events.settings import NAMED_PROCESSES
from manyscale.model.padded import padded_array
from manyscale.reporting.figure import Drawn
from manyscale.training.schedule import TrainingSettings

FOLDER = Path(__file__).parents[1] / "examples"
QUICK = ("--set", "training.epochs=1")


@pytest.fixture
def type_(capsys, monkeypatch, tmp_path):
    """Type a command in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: run(capsys, monkeypatch, *arguments)


def toy_files(card, folder):
    """Write the npz files that a card names."""
    for place, label in enumerate(("background", "signal")):
        for stream, path in getattr(card.data, label).items():
            columns = len(card.data.columns[stream])
            toy_npz(folder / path, 120, label == "signal", seed=place, columns=columns)


# The cards whose events are made in tests of their own.
NTUPLES = {
    "ntuple_jetclass": "tree",
    "ntuple_cms_like": "Events",
    "ntuple_atlas_like": "nominal",
    "ntuple_top_tagging": "table",
}
OWN_EVENTS = {"five_streams", "hh4b_discovery", "systematics"}
CARDS = sorted(
    path
    for path in FOLDER.glob("*.yaml")
    if not path.stem.startswith("ntuple_") and path.stem not in OWN_EVENTS
)


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_card_trains(path, type_, tmp_path):
    card = load_card(path)
    if card.data.dataset is None:
        toy_files(card, tmp_path)
    else:
        toy_dataset(tmp_path / card.data.dataset, events=120)
    done = type_("train", path, "--out", "run", *QUICK)
    assert done.code == 0, done.err
    assert (tmp_path / "run" / "report.html").is_file()


def test_five_streams_are_generated_and_trained_on(type_, tmp_path):
    pytest.importorskip("manyscale.events.generate")
    path = FOLDER / "five_streams.yaml"
    folder = tmp_path / load_card(path).data.dataset
    small = ("--set", "generate.events=120", "--set", "generate.multiparton=false")
    done = type_("generate", path, "--out", folder, "--workers", "1", *small)
    assert done.code == 0, done.err
    streams = Dataset.open(folder).events().streams
    assert list(streams) == ["jet1", "jet2", "small_jets", "leptons", "kinematics"]
    assert all(stream.counts.any() for stream in streams.values())
    done = type_("train", path, "--out", "run", *QUICK)
    assert done.code == 0, done.err
    assert (tmp_path / "run" / "report.html").is_file()


def test_systematics_fit_the_events_that_their_card_generates(type_):
    pytest.importorskip("manyscale.events.generate")
    path = FOLDER / "systematics.yaml"
    card = load_card(path)
    small = ("--set", "generate.events=40", "--set", "generate.multiparton=false")
    done = type_("generate", path, "--out", card.data.dataset, "--workers", "1", *small)
    assert done.code == 0, done.err
    schema = Dataset.open(card.data.dataset).schema
    assert len(schema.weights) > 1
    check_systematics(card.evaluation.systematics, schema)


@pytest.mark.parametrize("name", NTUPLES)
def test_ntuples_are_converted_trained_on_and_scored(name, type_, tmp_path):
    ntuple_files = pytest.importorskip("helpers.ntuple_files")
    path = FOLDER / f"{name}.yaml"
    card = load_card(path)
    make = getattr(ntuple_files, name.removeprefix("ntuple_"))
    convert = ("convert", "--card", path, "--out", card.data.dataset, "--workers", "1")
    labels = [()] if card.convert.process else [("--label", "signal"), ("--label", "background")]
    for seed, label in enumerate(labels):
        branches = make(np.random.default_rng(seed), 1200 if card.convert.process else 150)
        ntuple_files.write_tree(f"{seed}.root", NTUPLES[name], branches)
        done = type_(*convert, f"{seed}.root", *label)
        assert done.code == 0, done.err
    assert min(Dataset.open(card.data.dataset).class_counts.values()) > 30
    done = type_("train", path, "--out", "run", *QUICK)
    assert done.code == 0, done.err
    done = type_("predict", "run", "0.root", "--out", "scores.npz")
    assert done.code == 0, done.err
    scores = np.load(tmp_path / "scores.npz")
    assert 0 < np.isfinite(scores["score"]).sum() <= len(scores["score"])


def test_pythia_takes_the_heavy_higgs():
    generation = pytest.importorskip("manyscale.events.generate")
    settings = load_card(FOLDER / "heavy_higgs_1500.yaml").generate
    generation.check_processes(settings)
    lines = settings.pythia_lines("hh4b")
    assert lines.index("35:m0=1500") > lines.index("35:m0=1000")
    assert "zh" not in NAMED_PROCESSES
    assert settings.event_class("zh") == "background"


def test_custom_fusion_attends_in_the_order_written(type_, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")  # a narrow table stands in pieces
    toy_dataset(tmp_path / "data" / "hh4b", events=60)
    (tmp_path / "card.yaml").write_bytes((FOLDER / "custom_fusion.yaml").read_bytes())
    done = type_("inspect", "card.yaml")
    assert done.code == 0, done.err
    pairs = (("jet1", "jet2"), ("jet2", "jet1"))
    blocks = [done.out.index(f"{query} attends to {context}") for query, context in pairs]
    assert blocks == sorted(blocks)


TRAINING = sorted(FOLDER.glob("train_*.sh"))
CONVERTING = sorted(set(FOLDER.glob("*.sh")) - set(TRAINING))


@pytest.mark.parametrize("path", CONVERTING, ids=lambda path: path.name)
def test_shell_script_is_well_formed_and_its_options_exist(path):
    subprocess.run(["bash", "-n", str(path)], check=True, timeout=20)
    commands = typer.main.get_command(cli.app).commands
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    typed = re.findall(r"^manyscale (\w+) (.*)$", text, re.MULTILINE)
    assert typed
    for name, rest in typed:
        known = {flag for parameter in commands[name].params for flag in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", rest)) <= known


@pytest.mark.parametrize("path", TRAINING, ids=lambda path: path.stem)
def test_batch_system_files_are_sound(path):
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash here")
    done = subprocess.run([bash, "-n", path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    # The files set keys of the card that must be there.
    keys = re.findall(r"training\.(\w+)=", path.read_text(encoding="utf-8"))
    assert keys
    assert set(keys) <= TrainingSettings.model_fields.keys()


def test_discovery_script_draws_one_table(capsys, monkeypatch, tmp_path):
    pytest.importorskip("manyscale.events.generate")
    pytest.importorskip("pyhf")
    # Drawing and writing the plots would take most of the time.
    monkeypatch.setattr(Drawn, "save", lambda _, folder, __: folder.mkdir(exist_ok=True))
    card = load_card(FOLDER / "hh4b_discovery.yaml")
    small = card.generate.model_copy(
        update={"unit_events": 500, "cuts": card.generate.cuts.model_copy(update={"min_btags": 0})}
    )
    training = card.training.model_copy(update={"epochs": 1})
    card = card.model_copy(update={"generate": small, "training": training})
    (tmp_path / "card.yaml").write_text(card_text(card, "small"), encoding="utf-8")
    script = runpy.run_path(str(FOLDER / "hh4b_discovery.py"))
    monkeypatch.setitem(script["main"].__globals__, "RIVALS", ("kinematics-only",))
    arguments = [tmp_path / "out", "--events", 300, "--card", tmp_path / "card.yaml"]
    monkeypatch.setattr(sys, "argv", ["hh4b_discovery.py", *map(str, arguments)])
    script["main"]()

    data = Dataset.open(tmp_path / "out" / "data").schema.processes
    generated = {process.name: process.generated for process in data}
    assert generated == {"hh4b": 30, "qcd": 240, "qcd_bb": 30, "ttbar": 24, "zz": 6}
    found = json.loads((tmp_path / "out" / "discovery.json").read_text(encoding="utf-8"))
    names = ["cross-attention", "kinematics-only", "trees", "combined"]
    assert [one["classifier"] for one in found] == names
    assert all(one["limit"]["cross_section_fb"] == pytest.approx(3.39) for one in found)
    assert all(one["auc_error"] > 0 and one["limit"]["mu"]["0"] > 0 for one in found)
    markdown = (tmp_path / "out" / "discovery.md").read_text(encoding="utf-8")
    printed = capsys.readouterr().out
    behind = markdown.splitlines()[-1]
    assert "effective simulated background events" in behind
    assert behind in printed
    assert all(f"| {name} | " in markdown for name in names)


def test_significance_script(tmp_path):
    toy_dataset(tmp_path / "toys")
    script = [sys.executable, str(FOLDER / "significance.py"), str(tmp_path / "toys")]
    done = subprocess.run(
        [*script, "--epochs", "1"], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "240 events" in done.stdout
    assert "sigma" in done.stdout


def test_onnx_script_prints_the_scores_of_predict(type_, tmp_path):
    pytest.importorskip("onnxruntime", reason="ONNX needs the extra deploy")
    pytest.importorskip("onnxscript", reason="ONNX needs the extra deploy")
    toy_dataset(tmp_path / "toys", events=120)
    (tmp_path / "card.yaml").write_text(
        "preset: kinematics-only\ndata: {dataset: toys}\nstreams: {kinematics: {width: 4, layers: 1}}\n",
        encoding="utf-8",
    )
    events = toy_events(5, events=9).streams["kinematics"]
    np.savez(tmp_path / "new.npz", kinematics=events.padded())
    for command in (
        ("train", "card.yaml", "--out", "run", *QUICK),
        ("inspect", "run"),
        ("export", "run", "--out", "model.onnx"),
        ("predict", "run", "new.npz", "--out", "scores.npz"),
    ):
        done = type_(*command)
        assert done.code == 0, done.err
        if command[0] == "inspect":
            assert "has the checksum" in done.out
        if command[0] == "export":
            assert re.search(
                r"difference to the network \d\.\de-0[6-9], on \d+ test events", done.out
            )
    card = (tmp_path / "run" / "model" / "README.md").read_text(encoding="utf-8")
    assert "- hh4b (signal)" in card
    assert re.search(r"- network: AUC 0\.\d{4}", card)
    script = [sys.executable, str(FOLDER / "score_onnx.py"), "model.onnx", "new.npz"]
    done = subprocess.run(script, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    streams, *lines = done.stdout.splitlines()
    assert streams.startswith("kinematics: pt [GeV], eta, phi [rad], mass [GeV]")
    printed = [float(line.split()[1]) for line in lines]
    np.testing.assert_allclose(printed, np.load(tmp_path / "scores.npz")["score"], atol=1e-5)
    (tmp_path / "run" / "model" / "trees.txt").write_text("tree", encoding="utf-8")
    done = type_("inspect", "run")
    assert done.code == 1
    assert "trees.txt was damaged or changed" in done.err


def test_onnx_scores_from_cpp(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX needs the extra deploy")
    pytest.importorskip("onnxscript", reason="ONNX needs the extra deploy")
    library = Path(os.environ.get("ONNXRUNTIME", ""))
    if not (library / "include" / "onnxruntime_cxx_api.h").is_file() or not shutil.which("g++"):
        pytest.skip(
            "no g++, or ONNXRUNTIME does not name a folder with onnxruntime's include and lib"
        )
    bundle = Bundle(network_of("model-2").eval(), SCHEMA.streams)
    streams = toy_events(5, events=9).streams
    write_onnx(tmp_path / "model.onnx", bundle, [streams])
    command = f"g++ -std=c++17 -Wall -Werror {FOLDER}/score_onnx.cpp -isystem {library}/include -L{library}/lib "
    command += f"-Wl,-rpath,{library}/lib -lonnxruntime -o {tmp_path}/score"
    subprocess.run(command.split(), check=True)
    arrays = {of.name: padded_array(of, streams[of.name]) for of in bundle.streams}
    (expected,) = onnxruntime.InferenceSession(tmp_path / "model.onnx").run(None, arrays)
    events = "\n".join(
        f"{streams[of.name].counts[event]} "
        + " ".join(map(str, arrays[of.name][event, : streams[of.name].counts[event]].ravel()))
        for event in range(9)
        for of in bundle.streams
    )
    done = subprocess.run([tmp_path / "score", tmp_path / "model.onnx"],
                          input=events, capture_output=True, text=True, check=True)  # fmt: skip
    np.testing.assert_allclose([*map(float, done.stdout.split())], expected[:, 1], atol=1e-5)
