"""Runs the command line as a user types it, in this process, and makes small inputs for it."""

import sys

import numpy as np

from helpers.toys import SCHEMA, toy_events
from manyscale import cli
from manyscale.data.manifest import merge
from manyscale.data.parts import write_events


class Done:
    """What a command left: exit code, stdout, stderr."""

    def __init__(self, code, out, err):
        self.code = code
        self.out = out
        self.err = err


def run(capsys, monkeypatch, *arguments):
    """Type `manyscale ARGUMENTS`."""
    monkeypatch.setattr(sys, "argv", ["manyscale", *map(str, arguments)])
    capsys.readouterr()
    try:
        cli.main()
        code = 0
    except SystemExit as end:
        code = end.code or 0
    captured = capsys.readouterr()
    return Done(code, captured.out, captured.err)


def toy_dataset(folder, events=240):
    """Write a dataset of toy events, both classes, as `generate` would."""
    packed = toy_events(11, events=events, learnable=True)
    for place, process in enumerate(SCHEMA.processes):
        chosen = packed.take(np.flatnonzero(packed.process == place))
        book = process.model_copy(
            update={"generated": len(chosen), "sum_weights": float(len(chosen))}
        )
        write_events(folder, f"{process.name}-000000", chosen, SCHEMA, book, f"toys {process.name}")
    merge(folder)
    return folder


def toy_npz(path, events, signal, seed=0, tokens=6, columns=3):
    """Write a padded npz as the seed's users have it."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, tokens + 1, events)
    values = rng.normal(1.0 if signal else 0.0, 1, (events, tokens, columns))
    values[np.arange(tokens)[None, :] >= counts[:, None]] = 0
    np.savez_compressed(path, values)
    return path
