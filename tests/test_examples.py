"""The examples do what they say, on toy data."""

import subprocess
import sys
from pathlib import Path

import pytest

from helpers.commands import run, toy_dataset, toy_npz
from manyscale.card import load_card
from manyscale.data.dataset import Dataset
from manyscale.events.processes import NAMED_PROCESSES

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


# The cards whose events are made in a test of their own.
GENERATED = {"five_streams"}
CARDS = sorted(path for path in FOLDER.glob("*.yaml") if path.stem not in GENERATED)


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
    pytest.importorskip("manyscale.events.generation")
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


def test_pythia_takes_the_heavy_higgs():
    generation = pytest.importorskip("manyscale.events.generation")
    settings = load_card(FOLDER / "heavy_higgs_1500.yaml").generate
    generation.check_processes(settings)
    lines = settings.pythia_lines("hh4b")
    assert lines.index("35:m0=1500") > lines.index("35:m0=1000")
    assert "zh" not in NAMED_PROCESSES
    assert settings.event_class("zh") == "background"


def test_custom_fusion_asks_in_the_order_written(type_, tmp_path):
    toy_dataset(tmp_path / "data" / "hh4b", events=60)
    (tmp_path / "card.yaml").write_bytes((FOLDER / "custom_fusion.yaml").read_bytes())
    done = type_("inspect", "card.yaml")
    assert done.code == 0, done.err
    asked = [done.out.index(f"{a} asks {b}") for a, b in (("jet1", "jet2"), ("jet2", "jet1"))]
    assert asked == sorted(asked)


def test_significance_script(tmp_path):
    toy_dataset(tmp_path / "toys")
    script = [sys.executable, str(FOLDER / "significance.py"), str(tmp_path / "toys")]
    done = subprocess.run(
        [*script, "--epochs", "1"], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "240 events" in done.stdout
    assert "sigma" in done.stdout
