"""Runs the command line as a user types it, in this process, and makes small inputs for it."""

import sys

import numpy as np

from helpers.toys import SCHEMA, toy_events
from manyscale import cli
from manyscale.data.manifest import merge
from manyscale.data.parquet import write_events
from manyscale.schema import Process


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


def write_parts(folder, schema, events):
    """Write a dataset of events, a part a process."""
    for number, process in enumerate(schema.processes):
        chosen = events.take(np.flatnonzero(events.process == number))
        name = f"{process.name}-000000"
        write_events(folder, name, chosen, schema, process, f"{folder.name} {process.name}")
    merge(folder)
    return folder


def toy_dataset(folder, events=240):
    """Write a dataset of toy events, both classes, as `generate` would."""
    packed = toy_events(11, events=events, learnable=True)
    counts = np.bincount(packed.process).tolist()
    processes = tuple(
        process.model_copy(update={"generated": count, "sum_weights": float(count)})
        for process, count in zip(SCHEMA.processes, counts, strict=True)
    )
    return write_parts(folder, SCHEMA.model_copy(update={"processes": processes}), packed)


# The cross sections give some hundred background events.
PROCESSES = (
    Process(name="hh_1000", label="signal", cross_section=1e-4, k_factor=2.0),
    Process(name="hh_1500", label="signal", cross_section=5e-5),
    Process(name="qcd", label="background", cross_section=1e-3),
)


def three_processes(folder, seed=11, events=1000):
    """Write a dataset of two signals and a background."""
    packed = toy_events(seed, events=events, learnable=True)
    rng = np.random.default_rng(1000 + seed)  # not that of the labels
    process = np.where(packed.label == 1, rng.integers(0, 2, events), 2)
    schema = SCHEMA.model_copy(update={"processes": PROCESSES})
    for place, of in enumerate(PROCESSES):
        chosen = packed.take(np.flatnonzero(process == place))
        chosen.process[:] = place
        book = of.model_copy(update={"generated": len(chosen), "sum_weights": float(len(chosen))})
        write_events(folder, f"{of.name}-000000", chosen, schema, book, f"toys {of.name}")
    merge(folder)
    return folder


CARD = """
preset: model-1
data: {{signal: {{jet1: {0}/s.npz}}, background: {{jet1: {0}/b.npz}}}}
streams: {{jet1: {{width: 4, heads: 1, layers: 1}}}}
training: {{epochs: {1}, batch_size: 32, accelerator: cpu}}
"""


def toy_card(root, epochs=1):
    """Write npz files of both classes, and a card that trains a small network on them."""
    for name, signal in (("s", True), ("b", False)):
        toy_npz(root / f"{name}.npz", 60, signal, seed=3 + signal)
    (root / "card.yaml").write_text(CARD.format(root, epochs), encoding="utf-8")
    return root / "card.yaml"


def toy_npz(path, events, signal, seed=0, tokens=6, columns=3):
    """Write a padded npz as the seed's users have it."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, tokens + 1, events)
    values = rng.normal(1.0 if signal else 0.0, 1, (events, tokens, columns))
    values[np.arange(tokens)[None, :] >= counts[:, None]] = 0
    np.savez_compressed(path, values)
    return path
