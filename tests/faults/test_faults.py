"""Each file operation of a command fails, or is its last: the same command ends in the same files.

Here a few of them; `make faults` goes through all.
"""

import os
import shutil
from pathlib import Path

import pytest

from helpers.commands import toy_card
from helpers.faults import Disk, KilledError, command, kept, strays
from manyscale.card import load_card
from manyscale.errors import RunError
from manyscale.runs.train import train_run

# Of this many operations one is tried.
EACH = int(os.environ.get("FAULTS_EACH", "61"))


FEW = "generate: {events: 4, unit_events: 2, multiparton: false, processes: {hh4b: {}, qcd_bb: {}}}"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    root = tmp_path_factory.mktemp("inputs")
    train_run(load_card(toy_card(root, epochs=2)), root / "trained")
    (root / "few.yaml").write_text(FEW, encoding="utf-8")
    if EACH < 61:
        assert command("evaluate", root / "trained")[0] == 0
    return root


def train(inputs, target):
    """Train alone: evaluating is a command of its own, below."""
    try:
        train_run(load_card(inputs / "card.yaml"), target, resume=True)
    except RunError as error:
        return 1, f"error: {error}"
    return 0, ""


def convert(inputs, target):
    words = ["--label", "signal", "--out", target, "--workers", 1]
    return command("convert", f"jet1={inputs / 's.npz'}", *words)


def generate(inputs, target):
    return command("generate", inputs / "few.yaml", "--out", target, "--workers", 1)


def on_a_run(name, *words):
    """A command on a copy of a trained run."""

    def work(inputs, target):
        if not target.exists():
            shutil.copytree(inputs / "trained", target)
        return command(name, target, *(str(word).format(inputs, target) for word in words))

    return work


WORK = {
    "train": train,
    "convert": convert,
    "generate": generate,
    "predict": on_a_run("predict", "{0}/s.npz", "--out", "{1}/new.parquet"),
    "export": on_a_run("export", "--out", "{1}/model.onnx"),
    **{name: on_a_run(name) for name in ("evaluate", "explain", "report")},
}
NEW = {"train", "convert", "generate"}  # their folder is not there before
SHORT = ("train", "convert", "predict")


@pytest.mark.parametrize("kills", [False, True], ids=["full", "killed"])
@pytest.mark.parametrize("name", WORK if EACH < 61 else SHORT)
def test_each_operation_may_fail_or_be_the_last(inputs, tmp_path, name, kills):
    work = WORK[name]
    whole = Disk(tmp_path)
    if name not in NEW:
        shutil.copytree(inputs / "trained", tmp_path / "whole")
    with whole.watched():
        assert work(inputs, tmp_path / "whole")[0] == 0
    expected = kept(tmp_path / "whole")
    wrong = []
    chosen = range(min(EACH, len(whole.done)) // 2, len(whole.done), EACH)
    for at in chosen:
        target = tmp_path / f"run-{at}"
        if name not in NEW:
            shutil.copytree(inputs / "trained", target)
        disk = Disk(target, at, kills=kills)
        code, said = 1, "error: "
        with disk.watched():
            try:
                code, said = work(inputs, target)
            except KilledError:
                assert kills
        operation = disk.done[at] if at < len(disk.done) else "none"
        if not kills and (code, said.count("error: "), said.count("--debug")) != (1, 1, 0):
            wrong.append((at, operation, code, said))
        if not kills and target.exists() and strays(target):
            wrong.append((at, operation, strays(target)))
        with Disk(target).watched():
            code, said = work(inputs, target)
        if code:
            wrong.append((at, operation, "again", said))
        elif strays(target):
            wrong.append((at, operation, "again", strays(target)))
        elif kept(target) != expected:
            found = kept(target)
            differing = [
                n for n in expected.keys() | found if found.get(n, 0) != expected.get(n, 0)
            ]
            wrong.append((at, operation, "again", differing))
    if counts := os.environ.get("FAULTS_COUNTS"):
        with Path(counts).open("a", encoding="utf-8") as file:
            file.write(
                f"{name}, {'killed' if kills else 'full'}: {len(chosen)} of {len(whole.done)}\n"
            )
    assert not wrong, "\n".join(map(str, wrong))
