"""Each file operation of a command fails, or is its last: the same command ends in the same files.

Here a few of them; `make faults` goes through all.
"""

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from helpers.commands import toy_npz
from helpers.faults import Disk, KilledError, command
from manyscale.card import load_card
from manyscale.errors import RunError
from manyscale.evaluation.results import read_history
from manyscale.runs.train import train_run
from manyscale.writing import is_draft

# Of this many operations one is tried.
EACH = int(os.environ.get("FAULTS_EACH", "41"))

CARD = """
preset: model-1
data: {{signal: {{jet1: {0}/s.npz}}, background: {{jet1: {0}/b.npz}}}}
streams: {{jet1: {{width: 4, heads: 1, layers: 1}}}}
training: {{epochs: 2, batch_size: 32, accelerator: cpu}}
"""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    root = tmp_path_factory.mktemp("inputs")
    for name, signal in (("s", True), ("b", False)):
        toy_npz(root / f"{name}.npz", 60, signal, seed=3 + signal)
    (root / "card.yaml").write_text(CARD.format(root), encoding="utf-8")
    train_run(load_card(root / "card.yaml"), root / "trained")
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


def kept(folder):
    """What the files of a folder hold, by their names, without times."""
    found = {}
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        if path.is_dir() or name in {"log.txt", "provenance.json", "report.html"}:
            found[name] = None
        elif path.name == "history.csv":
            rows = read_history(path)
            found[name] = [[row[key] for key in list(row)[:5]] for row in rows]
        elif path.parent.name == "checkpoints":
            found[str(name).rpartition("-")[0]] = None
        elif path.suffix == ".json" and "plots" not in name:
            text = json.dumps(json.loads(path.read_text(encoding="utf-8")), indent=0)
            # Times, and names of parts that are drawn at random.
            found[name] = re.sub(r'"[a-z_]*(second|deviation)[^\n]*|[0-9a-f]{32}', "", text)
        elif "seconds" not in name and path.suffix != ".parquet":
            found[re.sub(r"[0-9a-f]{32}", "", name)] = path.read_bytes()
    return found


def strays(folder):
    return [path for path in folder.rglob("*") if is_draft(path) or path.name == ".lock"]


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
