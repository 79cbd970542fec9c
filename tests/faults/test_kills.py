"""Commands are killed at random instants, and given again: they end in the same files, to the bit.

Takes long: `KILLS=50 pytest tests/faults/test_kills.py`. `KILLS_COUNTS` names a file for the counts.
"""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from helpers.commands import toy_card
from helpers.faults import kept, strays
from helpers.fuzzing import CARD
from helpers.ntuple_files import cms_like, write_tree
from manyscale.interrupts import RESUMABLE

KILLS = int(os.environ.get("KILLS", "0"))
pytestmark = pytest.mark.skipif(not KILLS, reason="KILLS says how often")

GENERATE = """
generate: {events: 40, unit_events: 10, multiparton: false, processes: {hh4b: {}, qcd_bb: {}}}
"""


def count(line):
    with Path(os.environ.get("KILLS_COUNTS", os.devnull)).open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")


def words_of(name, root):
    """What is typed, up to the folder of the output."""
    if name == "generate":
        (root / "card.yaml").write_text(GENERATE, encoding="utf-8")
        return ["generate", root / "card.yaml", "--workers", 2, "--out"]
    if name == "convert":
        write_tree(root / "events.root", "Events", cms_like(np.random.default_rng(1), 4000))
        (root / "card.yaml").write_text(f"{CARD}  unit_events: 200\n", encoding="utf-8")
        known = ["--label", "signal", "--card", root / "card.yaml", "--workers", 2]
        return ["convert", root / "events.root", *known, "--out"]
    toy_card(root, epochs=20)
    more = ["--set", "training.devices=2"] if name == "train by two processes" else []
    return ["train", root / "card.yaml", "--resume", *more, "--out"]


class Command:
    """A command in processes of its own, what it says in a file."""

    def __init__(self, words, said):
        self.said = said
        with said.open("w", encoding="utf-8") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "manyscale", *map(str, words)],
                stdout=subprocess.DEVNULL, stderr=file, start_new_session=True,
            )  # fmt: skip

    def end(self, number, after):
        """Send a signal after some seconds; return the exit code and the seconds that it took."""
        with suppress(subprocess.TimeoutExpired):
            return self.process.wait(after), 0.0
        begin = time.monotonic()
        self.process.send_signal(number)
        code = self.process.wait(60)
        took = time.monotonic() - begin
        while time.monotonic() < begin + 30:  # workers see it within some seconds
            try:
                os.killpg(self.process.pid, 0)
            except ProcessLookupError:
                return code, took
            time.sleep(0.1)
        raise AssertionError("a worker lives on")

    def finish(self):
        """Wait for its end."""
        assert self.process.wait(600) == 0, self.said.read_text(encoding="utf-8")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["kill", "term"])
@pytest.mark.parametrize("name", ["train", "generate", "convert", "train by two processes"])
def test_a_command_ends_in_the_same_files(tmp_path, name, number):
    words, said = words_of(name, tmp_path), tmp_path / "said.txt"
    begin = time.monotonic()
    Command([*words, tmp_path / "whole"], said).finish()
    seconds = time.monotonic() - begin
    expected = kept(tmp_path / "whole")
    rng = np.random.default_rng(1)
    ended, slowest = 0, 0.0
    for turn in range(KILLS):
        target = tmp_path / f"out-{turn}"
        code, took = Command([*words, target], said).end(number, rng.uniform(0, seconds))
        # Before Python has come to the command itself, a signal ends it as any program.
        assert code in {0, -number, RESUMABLE}, code
        ended += code != 0
        slowest = max(slowest, took)
        Command([*words, target], said).finish()
        assert kept(target) == expected, f"{name}, turn {turn}"
        assert not strays(target)
    count(
        f"{name}, {number.name}: {KILLS} alike, {ended} of them ended early, in {slowest:.1f} s at most"
    )
