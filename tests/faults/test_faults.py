"""Each file operation of a command fails, or is its last: the same command ends in the same files.

Here a few of them; `make faults` goes through all.
"""

import os
import shutil
from pathlib import Path

import pytest

from helpers.commands import three_processes, toy_npz
from helpers.faults import Disk, KilledError, command, kept, strays

# Of this many operations one is tried.
SHORT = 97
EACH = int(os.environ.get("FAULTS_EACH", SHORT))


CARD = """
preset: kinematics-only
data: {{dataset: {}}}
training: {{epochs: 2}}
evaluation:
  luminosity: 300
  limits: {{bins: 4}}
  systematics: {{rate: {{normalisation: 0.1}}}}
"""
FEW = "generate: {events: 4, unit_events: 2, multiparton: false, processes: {hh4b: {}, qcd_bb: {}}}"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Cards, an npz file, and a run with results of an earlier time."""
    root = tmp_path_factory.mktemp("inputs")
    three_processes(root / "data", events=400)
    toy_npz(root / "s.npz", 60, signal=True)
    (root / "card.yaml").write_text(CARD.format(root / "data"), encoding="utf-8")
    (root / "few.yaml").write_text(FEW, encoding="utf-8")
    with Disk(root).watched():
        assert train(root, root / "trained")[0] == 0
        for name, *words in (("limits", "--luminosity", 100), ("explain", "--events", 50)):
            if name in NAMES:
                assert command(name, root / "trained", *words)[0] == 0
    return root


def train(inputs, target):
    return command("train", inputs / "card.yaml", "--out", target, "--resume", "--no-plots")


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
    "predict": on_a_run("predict", "{0}/data", "--out", "{1}/new.parquet"),
    "export": on_a_run("export", "--out", "{1}/model.onnx"),
    **{name: on_a_run(name) for name in ("evaluate", "limits", "explain", "report")},
}
NEW = {"train", "convert", "generate"}  # their folder is not there before
NAMES = WORK if EACH < SHORT else ("train", "convert", "predict", "limits")
# What comes whole: it stays as it was before, until the new one is there.
WHOLE = {"limits": "limits", "explain": "explanation"}


def results(name, run):
    """What the folder that comes whole holds; its plots are put in their place afterwards."""
    found = kept(run / WHOLE[name]) if name in WHOLE else {}
    return {path: of for path, of in found.items() if not path.startswith("plots")}


@pytest.mark.parametrize("kills", [False, True], ids=["full", "killed"])
@pytest.mark.parametrize("name", NAMES)
def test_each_operation_may_fail_or_be_the_last(inputs, tmp_path, name, kills):
    work = WORK[name]
    whole = Disk(tmp_path)
    if name not in NEW:
        shutil.copytree(inputs / "trained", tmp_path / "whole")
    with whole.watched():
        assert work(inputs, tmp_path / "whole")[0] == 0
    expected = kept(tmp_path / "whole")
    # A process may be killed between the two renamings that put a folder in the place of another.
    known = [*(results(name, run) for run in (inputs / "trained", tmp_path / "whole")), {}]
    known = known if kills else known[:2]
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
        if not kills and target.exists() and strays(target, operation):
            wrong.append((at, operation, strays(target, operation)))
        if results(name, target) not in known:
            wrong.append((at, operation, "lost", list(results(name, target))))
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
