"""What holds for every test."""

import os

import pytest
import torch

from helpers.commands import run

os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the commands that tests start
# Several test processes share the cores; more threads in each would only fight for them.
torch.set_num_threads(1)
# Those of LightGBM would spin while they wait, and take many times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@pytest.fixture
def type_(capsys, monkeypatch, tmp_path):
    """Type a command in an empty folder, as a line and further words; see what it printed."""
    monkeypatch.chdir(tmp_path)

    def typed(line, *words, code=0):
        done = run(capsys, monkeypatch, *line.split(), *words)
        assert done.code == code, done.err
        return done

    return typed
