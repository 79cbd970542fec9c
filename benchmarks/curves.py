"""How rates and memory go with the size of things: plots for docs/performance.md.

    python benchmarks/curves.py            all, some minutes
    python benchmarks/curves.py width      the curve named

Writes docs/pictures/curve_NAME.svg, .pdf and .csv, and prints the figures. Events are random jets.
"""

import argparse
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from manyscale.card import Card, DataSettings
from manyscale.data.dataset import Dataset
from manyscale.data.identity import event_ids
from manyscale.data.packing import PackedEvents
from manyscale.events.ragged import PackedStream
from manyscale.model.layers import StreamSettings
from manyscale.reporting.figure import Drawn, stacked, styled
from manyscale.runs.fit import build_model, fit_features, fit_network
from manyscale.runs.train import train_run
from manyscale.schema import Schema
from manyscale.training.schedule import TrainingSettings
from memory import PROCESSES, STREAM, in_a_process, make_dataset, random_jets

Points = Sequence[tuple[float, float]]
PICTURES = Path("docs/pictures")
TOKENS = (5, 10, 20, 40, 80, 160)
WIDTHS = (16, 32, 64, 128, 256)
SIZES = (50_000, 100_000, 200_000, 400_000)
STEPS = 20
WINDOW = 64


def events_of(tokens: int, events: int) -> Dataset:
    """Random jets of that mean number of constituents, from half of it to half as many again."""
    generator = np.random.default_rng(1)
    label = np.arange(events) % 2
    counts = generator.integers(tokens // 2, tokens + tokens // 2 + 1, events)
    total = int(counts.sum())
    # Jets of other lengths, whose constituents are dealt out anew.
    jets = random_jets(generator, max(events, total // 10 + 1), 0.2)
    packed = PackedEvents(
        {"jet1": PackedStream(jets.values[:total], counts, jets.axis[:events])},
        event_ids("curves", np.arange(events)),
        label,
        1 - label,
        np.ones(events),
    )
    return Dataset.from_events(Schema(streams=(STREAM,), processes=PROCESSES[:2]), packed)


def card(width: int = 32, **training: object) -> Card:
    """Model 1 of a width."""
    return Card(
        preset="model-1",
        streams={"jet1": StreamSettings(width=width, max_tokens=1000)},
        training=TrainingSettings.model_validate({"epochs": 1, **training}),
    )


def rate(chosen: Card, data: Dataset) -> float:
    """Training events a second; the first steps, which warm up, are not counted."""
    network = build_model(chosen, data.schema)
    fit_features(network, data)
    for _ in range(2):
        state = fit_network(network, chosen, train=data, validation=data.sample(100))
    return float(state.history[-1]["events_per_second"])


def tokens() -> Drawn:
    """Training rate against the mean number of tokens an event."""
    chosen = card(batch_size=256, max_steps=STEPS)
    points = [(count, rate(chosen, events_of(count, 256 * STEPS))) for count in TOKENS]
    return plot("tokens an event, mean", "training events/s", {"Model 1, one core": points})


def width() -> Drawn:
    """Training rate against the width of the network."""
    data = events_of(40, 256 * STEPS)
    points = [(w, rate(card(w, batch_size=256, max_steps=STEPS), data)) for w in WIDTHS]
    return plot("width", "training events/s", {"Model 1, 40 tokens, one core": points})


def datasets(folder: Path) -> list[Path]:
    """Datasets of all sizes in a folder, made where they are not there."""
    for events in SIZES:
        make_dataset(folder / str(events), events)
    return [folder / str(events) for events in SIZES]


def size(folder: Path) -> Drawn:
    """Training rate against the number of events, from disk and from memory."""
    lines: dict[str, Points] = {}
    for name, memory in ((f"data.memory {WINDOW}", WINDOW), ("all in memory", 8000)):
        lines[name] = [
            (events, in_a_process("rate", data, memory, None)["events_per_second"])
            for events, data in zip(SIZES, datasets(folder), strict=True)
        ]
    return plot("events of the dataset", "training events/s", lines)


def memory(folder: Path) -> Drawn:
    """Peak memory of a run against the number of events."""
    found = [in_a_process("memory", data, WINDOW, 200) for data in datasets(folder)]
    names = ("training", "evaluation", "prediction")
    lines = {
        name: [(events, peaks[name]) for events, peaks in zip(SIZES, found, strict=True)]
        for name in names
    }
    return plot("events of the dataset", "peak memory so far [MB]", lines)


def processes() -> Drawn:
    """Training rate against processes, each on a core of its own."""
    counts = range(1, (os.cpu_count() or 1) + 1)
    points: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "data"
        make_dataset(folder, SIZES[0])
        for count in counts:
            chosen = card(batch_size=512, devices=count).model_copy(
                update={"data": DataSettings(dataset=folder)}
            )
            run = train_run(chosen, Path(scratch) / f"run{count}")
            last = np.genfromtxt(run.history, delimiter=",", names=True)
            points.append((count, float(np.atleast_1d(last["events_per_second"])[-1])))
    return plot("processes", "training events/s", {"Model 1, 35 tokens, batch 512": points})


@styled
def plot(across: str, up: str, lines: Mapping[str, Points]) -> Drawn:
    """Draw lines with their points, and print the points."""
    figure = Figure()
    axes = figure.subplots()
    for name, points in lines.items():
        axes.plot(*zip(*points, strict=True), marker="o", label=name)
        print(f"{name}: " + ", ".join(f"{x:g}: {y:,.0f}" for x, y in points), flush=True)
    plain = FuncFormatter(lambda value, _: f"{value:,.0f}")
    if len(points) > 2:
        axes.set_xscale("log")
        axes.set_xticks([x for x, _ in points], minor=False)
        axes.minorticks_off()
    else:
        axes.set_xticks([x for x, _ in points])
    axes.xaxis.set_major_formatter(plain)
    axes.yaxis.set_major_formatter(plain)
    axes.set_ylim(bottom=0)
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.legend()
    table = [
        {"curve": name, across: [x for x, _ in points], up: [y for _, y in points]}
        for name, points in lines.items()
    ]
    return Drawn(figure, stacked(table))


def main() -> None:
    """Measure and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("data/curves"), help="of the datasets")
    names = ("tokens", "width", "size", "memory", "processes")
    parser.add_argument("curves", nargs="*", choices=[[], *names], help="default: all")
    chosen = parser.parse_args()
    draw: dict[str, Callable[[], Drawn]] = {
        "tokens": tokens,
        "width": width,
        "size": lambda: size(chosen.folder),
        "memory": lambda: memory(chosen.folder),
        "processes": processes,
    }
    todo: Sequence[str] = chosen.curves or names
    torch.set_num_threads(1)
    for name in todo:
        draw[name]().save(PICTURES, f"curve_{name}")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
