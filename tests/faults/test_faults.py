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
EACH = int(os.environ.get("FAULTS_EACH", "41"))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    root = tmp_path_factory.mktemp("inputs")
    train_run(load_card(toy_card(root, epochs=2)), root / "trained")
    if EACH < 41:
        assert command("evaluate", root / "trained")[0] == 0
    return root


def train(inputs, target):
    """Train alone: evaluating is a command of its own, below."""
    try:
        train_run(load_card(inputs / "card.yaml"), target, resume=True)
    except RunError as error:
        return 1, f"error: {error}"
    return 0, ""


def on_a_run(name):
    def work(inputs, target):
        if not target.exists():
            shutil.copytree(inputs / "trained", target)
        return command(name, target)

    return work


def convert(inputs, target):
    words = ["--label", "signal", "--out", target, "--workers", 1]
    return command("convert", f"jet1={inputs / 's.npz'}", *words)


WORK = {
    "train": train,
    "convert": convert,
    **{name: on_a_run(name) for name in ("evaluate", "explain", "report")},
}


@pytest.mark.parametrize("kills", [False, True], ids=["full", "killed"])
@pytest.mark.parametrize("name", WORK if EACH < 41 else ["train"])
def test_each_operation_may_fail_or_be_the_last(inputs, tmp_path, name, kills):
    work = WORK[name]
    whole = Disk(tmp_path)
    if name not in {"train", "convert"}:
        shutil.copytree(inputs / "trained", tmp_path / "whole")
    with whole.watched():
        assert work(inputs, tmp_path / "whole")[0] == 0
    expected = kept(tmp_path / "whole")
    wrong = []
    for at in range(EACH // 2, len(whole.done), EACH):
        target = tmp_path / f"run-{at}"
        if name not in {"train", "convert"}:
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
        tried = len(range(EACH // 2, len(whole.done), EACH))
        with Path(counts).open("a", encoding="utf-8") as file:
            file.write(f"{name}, {'killed' if kills else 'full'}: {tried} of {len(whole.done)}\n")
    assert not wrong, "\n".join(map(str, wrong))
