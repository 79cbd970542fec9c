"""Peak memory against the size of the dataset, and the rate of training from disk against from memory.

    python benchmarks/memory.py /tmp/memory

Writes datasets of random events (150,000, and ten times as many: 1.5 GB) into the folder, unless they
are there, and trains, judges and predicts with each at data.memory 64, each in a process of its own.
To reach: at most 1.1 times the memory for the larger one, and 0.9 times the rate from disk at ten
times the window.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch

from manyscale.card import Card, DataSettings
from manyscale.data.dataset import Dataset
from manyscale.data.folder_feed import memory_of
from manyscale.data.identity import event_ids
from manyscale.data.manifest import merge
from manyscale.data.packing import PackedEvents
from manyscale.data.parquet import write_events
from manyscale.events.ragged import PackedStream
from manyscale.model.layers import StreamSettings
from manyscale.runs.evaluate import evaluate_run
from manyscale.runs.fit import build_model, fit_features, fit_network, open_data
from manyscale.runs.predict import predict_run
from manyscale.runs.train import train_run
from manyscale.schema import Process, Schema, StreamSchema
from manyscale.training.loop import peak_memory_mb
from manyscale.training.schedule import TrainingSettings, learning_rate

SMALL = 150_000
PART = 25_000
WINDOW = 64
STREAM = StreamSchema(
    name="jet1",
    columns=("pt", "eta", "phi", "energy", "charge", "particle_class"),
    axis=("jet_pt", "jet_eta", "jet_phi", "jet_mass"),
)
PROCESSES = (
    Process(name="hh4b", label="signal"),
    Process(name="qcd", label="background"),
    Process(name="ttbar", label="background"),
)


def random_jets(generator: np.random.Generator, events: int, spread: float) -> PackedStream:
    """Jets of 10 to 60 constituents."""
    counts = generator.integers(10, 61, events)
    tokens = int(counts.sum())
    axis = generator.uniform([250, -2, -3, 20], [800, 2, 3, 200], (events, 4))
    owner = np.repeat(np.arange(events), counts)
    eta = axis[owner, 1] + generator.normal(0, spread, tokens)
    phi = np.clip(axis[owner, 2] + generator.normal(0, spread, tokens) / 10, -3.1, 3.1)
    pt = generator.exponential(10, tokens) + 0.5
    kind = generator.integers(0, 5, tokens)
    values = np.stack([pt, eta, phi, pt * np.cosh(eta), (kind < 3) * 1.0, kind], axis=1)
    return PackedStream(values.astype(np.float32), counts, axis.astype(np.float32))


def make_dataset(folder: Path, events: int, part: int = PART) -> None:
    """Write random events, half of them signal, as parts."""
    if (folder / "dataset.json").is_file():
        return
    schema = Schema(streams=(STREAM,))
    for number in range(events // part):
        place = (0, 1, 0, 2)[number % 4]
        name = f"{PROCESSES[place].name}-{number:04d}"
        generator = np.random.default_rng(number)
        packed = PackedEvents(
            {"jet1": random_jets(generator, part, 0.2 + 0.05 * (place == 0))},
            event_ids(name, np.arange(part)),
            np.full(part, int(place == 0), np.int64),
            np.full(part, place, np.int64),
            np.ones(part),
        )
        write_events(folder, name, packed, schema, PROCESSES[place], name)
    merge(folder)


def card(
    folder: Path, memory: int, steps: int | None, stream: StreamSettings | None = None
) -> Card:
    """Model 1 for an epoch."""
    return Card(
        preset="model-1",
        data=DataSettings(dataset=folder, memory=memory),
        streams={"jet1": stream or StreamSettings()},
        training=TrainingSettings(epochs=1, batch_size=256, max_steps=steps),
    )


def measure_memory(folder: Path, memory: int, steps: int | None) -> dict[str, float]:
    """Train an epoch, evaluate, predict; the peak memory after each of them, and the seconds."""
    found = {"start": peak_memory_mb(torch.device("cpu"))}
    with tempfile.TemporaryDirectory() as scratch:
        run = Path(scratch) / "run"
        begun = time.perf_counter()
        # Narrow: the network does not matter here.
        train_run(card(folder, memory, steps, StreamSettings(width=16, layers=1)), run)
        found["training"] = peak_memory_mb(torch.device("cpu"))
        evaluate_run(run)
        found["evaluation"] = peak_memory_mb(torch.device("cpu"))
        predict_run(run, folder, Path(scratch) / "scores.parquet")
        found["prediction"] = peak_memory_mb(torch.device("cpu"))
        found["seconds"] = time.perf_counter() - begun
    return found


def measure_rate(folder: Path, memory: int, steps: int | None) -> dict[str, float]:
    """Training events per second of the default network: of the clock on the wall, and of processor time."""
    chosen = card(folder, memory, steps)
    data = open_data(chosen)
    network = build_model(chosen, data.schema)
    fit_features(network, data.train.sample(1000))
    ticks: list[float] = []

    def watched(step: int, steps: int, settings: TrainingSettings) -> float:
        ticks.append(time.process_time())  # of all threads, at the beginning of each step
        return learning_rate(step, steps, settings)

    few = data.validation.sample(1000)
    with patch("manyscale.training.loop.learning_rate", watched):
        state = fit_network(network, chosen, train=data.train, validation=few)
    events = (len(ticks) - 1) * chosen.training.batch_size
    return {
        "events_per_second": float(state.history[0]["events_per_second"]),
        "events_per_processor_second": events / (ticks[-1] - ticks[0]),
    }


def in_a_process(what: str, folder: Path, memory: int, steps: int | None) -> dict[str, float]:
    """Measure in a fresh process."""
    command = [sys.executable, __file__, str(folder), "--child", what, "--memory", str(memory)]
    if steps is not None:
        command += ["--steps", str(steps)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(what, folder.name, f"memory {memory}:", found, flush=True)
    return found


def compare_memory(small: Path, large: Path, memory: int, steps: int | None) -> None:
    """Print the peak memory with the larger dataset over that with the smaller one."""
    peaks = [in_a_process("memory", data, memory, steps) for data in (small, large)]
    for what in ("training", "evaluation", "prediction"):
        print(f"peak memory behind {what}: {peaks[1][what] / peaks[0][what]:.3f} times")


def compare_rates(data: Path, steps: int | None, repeats: int) -> None:
    """Print the rate of training from disk, the data ten times the window, over that from memory.

    Of processor time: reading in the thread counts in full, as on a machine with one core.
    """
    size = memory_of(Dataset.open(data).train) / 1e6
    ratios = []
    for _ in range(repeats):
        rates = [
            in_a_process("rate", data, memory, steps)["events_per_processor_second"]
            for memory in (round(size / 10), round(size * 2))
        ]
        ratios.append(rates[0] / rates[1])
    print(f"training from disk, ten times the window: {statistics.median(ratios):.3f} of memory")


def main() -> None:
    """Make the datasets, measure, print the two ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", choices=["memory", "rate"])
    parser.add_argument("--memory", type=int, default=WINDOW)
    parser.add_argument("--steps", type=int, help="of training; default: one epoch")
    parser.add_argument("--repeats", type=int, default=3, help="of the rates")
    parser.add_argument("--child", choices=["memory", "rate"], help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        measure = measure_memory if chosen.child == "memory" else measure_rate
        print(json.dumps(measure(chosen.folder, chosen.memory, chosen.steps)))
        return
    small, large = chosen.folder / "small", chosen.folder / "large"
    make_dataset(small, SMALL)
    make_dataset(large, 10 * SMALL)
    if chosen.only != "rate":
        compare_memory(small, large, chosen.memory, chosen.steps)
    if chosen.only != "memory":
        compare_rates(large, chosen.steps, chosen.repeats)


if __name__ == "__main__":
    main()
