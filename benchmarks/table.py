"""Rates against rivals in the same process, on one core: one table of ratios.

    python benchmarks/table.py                      all rows
    python benchmarks/table.py training prediction  the rows named

Ours and the rival's take turns; printed are the medians of the rates and of the ratios of each turn.
The hh4b events are made at the first use (without multiparton interactions, about a minute).
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import nn

import rivals
from gpu import GPU, pool
from manyscale.card import Card, card_text, preset_card
from manyscale.console import print_table
from manyscale.data.dataset import Dataset
from manyscale.data.feeds import epoch_order
from manyscale.data.npz import from_arrays
from manyscale.data.packing import PackedEvents
from manyscale.deployment.bundle import load_bundle
from manyscale.deployment.predict import predict
from manyscale.events.settings import GenerateSettings
from manyscale.model.classifier import MultiScaleClassifier
from manyscale.model.layers import StreamSettings
from manyscale.model.padded import PaddedNetwork
from manyscale.reporting.tables import Table
from manyscale.runs.demo import demo_card
from manyscale.runs.fit import build_model, fit_features, fit_network, open_data
from manyscale.runs.generate import generate_dataset
from manyscale.runs.predict import predict_run
from manyscale.runs.train import train_run
from manyscale.schema import Schema
from memory import PROCESSES, STREAM
from seed_demo import COLUMNS
from seed_demo import card as seed_card

SEED = "the seed's network, padded to 50"
PADDED_LENGTH = 128
# A child's argument list; it ends at its first optimizer step.
FIRST_STEP = """
import os, sys
from torch.optim.optimizer import register_optimizer_step_post_hook
register_optimizer_step_post_hook(lambda *_: os._exit(0))
from manyscale.cli import main
main()
"""


class Row(NamedTuple):
    """One line: the rates (or seconds) in turn, and what their ratio should be."""

    work: str
    rival: str
    unit: str
    goal: str
    ours: list[float]
    theirs: list[float]

    def cells(self) -> list[str]:
        """The line's text."""
        ratios = [own / other for own, other in zip(self.ours, self.theirs, strict=True)]
        rates = (statistics.median(self.ours), statistics.median(self.theirs))
        figures = [f"{rate:,.{0 if rate > 100 else 2}f} {self.unit}" for rate in rates]
        return [self.work, self.rival, *figures, f"{statistics.median(ratios):.3g}", self.goal]


class Bench:
    """What the rows need, made when first asked for."""

    def __init__(self, seed_demo: Path, hh4b: Path, runs: int) -> None:
        self.folder = seed_demo
        self.hh4b_folder = hh4b
        self.runs = runs
        arrays = [self._array("signal"), self._array("background")]
        order = epoch_order(sum(map(len, arrays)), 1, 0)
        self.events = np.concatenate(arrays)[order]
        self.label = np.repeat([1, 0], [len(array) for array in arrays])[order]

    def _array(self, name: str) -> NDArray[np.float64]:
        with np.load(self.folder / f"{name}.npz") as file:
            found: NDArray[np.float64] = file["arr_0"]
        return found

    def hh4b(self) -> Dataset:
        """Events of the default mix, 3,000 of each class."""
        card = preset_card("model-2")
        made = GenerateSettings(events=3000, multiparton=False)
        card = card.model_copy(update={"generate": made})
        return generate_dataset(card, self.hh4b_folder)

    def row(
        self,
        work: str,
        rival: str,
        goal: str,
        *,
        ours: Callable[[], float],
        theirs: Callable[[], float],
        unit: str = "/s",
    ) -> Row:
        """Measure both in turn, after one turn that is not counted."""
        pairs = [(ours(), theirs()) for _ in range(self.runs + 1)][1:]
        return Row(
            work, rival, unit, goal, [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        )


def rate(events: int, work: Callable[[], object]) -> float:
    """Events a second."""
    begun = time.perf_counter()
    work()
    return events / (time.perf_counter() - begun)


def trained(card: Card, data: Dataset) -> tuple[MultiScaleClassifier, float]:
    """Train a card's network; return it and the events a second that its history tells."""
    network = build_model(card, data.schema)
    fit_features(network, data.train)
    state = fit_network(network, card, train=data.train, validation=data.validation)
    return network, float(state.history[-1]["events_per_second"])


def with_training(card: Card, **settings: object) -> Card:
    """The card with other settings of its section `training`."""
    return card.model_copy(update={"training": card.training.model_copy(update=settings)})


def training(bench: Bench) -> Row:
    """Train Model 1 of the default size, batch 50."""
    card = with_training(seed_card(bench.folder, 1, named=True), max_steps=200)
    data = open_data(card)
    events = torch.from_numpy(bench.events.astype(np.float32))
    label = torch.from_numpy(bench.label)
    network = rivals.SeedNetwork()
    optimizer = torch.optim.Adam(network.parameters())

    def theirs() -> float:
        work = lambda: rivals.train_steps(network, optimizer, events, label, 60)  # noqa: E731
        return rate(60 * rivals.BATCH, work)

    return bench.row(
        "training, Model 1, batch 50",
        SEED,
        "12 (20)",
        ours=lambda: trained(card, data)[1],
        theirs=theirs,
    )


def _rival_prediction(bench: Bench) -> Callable[[], float]:
    events = torch.from_numpy(bench.events[:3000].astype(np.float32))
    network = rivals.SeedNetwork()
    return lambda: rate(len(events), lambda: rivals.predict(network, events))


def prediction(bench: Bench) -> Row:
    """Score padded arrays in memory."""
    from manyscale.data.npz import read_npz_events  # noqa: PLC0415
    from manyscale.deployment.predict import class_probabilities  # noqa: PLC0415

    card = with_training(seed_card(bench.folder, 1, named=True), max_steps=20)
    network, _ = trained(card, open_data(card))
    stream = network.extractor("constituents").stream
    events = bench.events.astype(np.float32)

    def ours() -> object:
        return class_probabilities(network, read_npz_events(events, [stream]).streams)

    return bench.row(
        "prediction, arrays in memory",
        SEED,
        "15 (20)",
        ours=lambda: rate(len(events), ours),
        theirs=_rival_prediction(bench),
    )


def files(bench: Bench) -> Row:
    """Score an npz file into an npz file; the program has started."""
    card = with_training(seed_card(bench.folder, 1, named=True), max_steps=20)
    with tempfile.TemporaryDirectory() as scratch:
        source, target = Path(scratch) / "events.npz", Path(scratch) / "scores.npz"
        np.savez_compressed(source, bench.events)
        run = train_run(card, Path(scratch) / "run").root
        return bench.row(
            "prediction, npz file to npz file",
            f"{SEED}, in memory",
            "7",
            ours=lambda: rate(len(bench.events), lambda: predict_run(run, source, target)),
            theirs=_rival_prediction(bench),
        )


def padding(bench: Bench) -> Row:
    """Prepare 8,000 padded arrays for training."""
    events, label = bench.events[:8000], bench.label[:8000]

    def ours() -> None:
        for _ in range(20):
            from_arrays(events, label, columns=COLUMNS)

    return bench.row(
        "preparing 8,000 events, arrays in memory",
        "the seed's append, event by event",
        "1000",
        ours=lambda: rate(20 * 8000, ours),
        theirs=lambda: rate(8000, lambda: rivals.pad_by_append(events, rivals.LENGTH)),
    )


def linear(bench: Bench) -> Row:
    """The same for ten times as many."""
    events, label = np.tile(bench.events[:8000], (10, 1, 1)), np.tile(bench.label[:8000], 10)
    return bench.row(
        "preparing 80,000 events",
        "preparing 8,000",
        "linear: 1",
        ours=lambda: rate(80_000, lambda: from_arrays(events, label, columns=COLUMNS)),
        theirs=lambda: rate(
            8000, lambda: from_arrays(events[:8000], label[:8000], columns=COLUMNS)
        ),
    )


def model_2(bench: Bench) -> Row:
    """Train Model 2 on hh4b, batch 256, against the same padded to 128 constituents a jet."""
    data = bench.hh4b()
    card = with_training(preset_card("model-2"), batch_size=256, max_steps=12)
    network, _ = trained(card, data)
    events = data.train.events()
    streams = network.trim(events.streams)
    lengths = dict.fromkeys(streams, PADDED_LENGTH)
    lengths["kinematics"] = int(streams["kinematics"].counts.max())
    occupied = sum(int(stream.counts.sum()) for stream in streams.values())
    occupancy = occupied / (len(events) * sum(lengths.values()))
    rival = PaddedNetwork(network)
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    label = torch.from_numpy(events.label)

    def steps() -> None:
        network.train()
        for chosen in np.split(np.arange(3 * 256), 3):
            batch = rival.arrays({name: of.take(chosen) for name, of in streams.items()}, lengths)
            torch.autograd.backward(nn.functional.cross_entropy(rival(batch), label[chosen]))
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

    return bench.row(
        f"training, Model 2, hh4b, batch 256 (occupancy {occupancy:.2f})",
        f"our own, padded to {PADDED_LENGTH}",
        "1.5",
        ours=lambda: trained(card, data)[1],
        theirs=lambda: rate(3 * 256, steps),
    )


def pairs(bench: Bench) -> Row:
    """Train Model 1 on random jets of 50 to 100 constituents, with pair biases."""
    jets = pool(1, GPU._replace(batch=512))
    events = np.arange(len(jets["jet1"]))
    packed = PackedEvents(
        jets, events.astype(np.uint64), events % 2, events % 2, np.ones(len(events))
    )
    processes = tuple(reversed(PROCESSES[:2]))
    data = Dataset.from_events(Schema(streams=(STREAM,), processes=processes), packed)
    plain, biased = (
        with_training(
            Card(preset="model-1", streams={"jet1": StreamSettings(pair_bias=bias)}),
            batch_size=256,
            max_steps=4,
        )
        for bias in (False, True)
    )
    return bench.row(
        "training, Model 1, 50 to 100 constituents, pair biases",
        "without them",
        "",
        ours=lambda: trained(biased, data)[1],
        theirs=lambda: trained(plain, data)[1],
    )


def reading(bench: Bench) -> Row:
    """Read a dataset into packed arrays."""
    folder = bench.hh4b_folder
    events = len(bench.hh4b())
    parts = sorted((folder / "parts").glob("*.parquet"))
    return bench.row(
        "reading a dataset, decoded and checked",
        "bare Parquet reading",
        "",
        ours=lambda: rate(events, lambda: list(Dataset.open(folder).chunks(10_000))),
        theirs=lambda: rate(
            events, lambda: [pq.read_table(part, use_threads=False) for part in parts]
        ),
    )


def beside(bench: Bench) -> Row:
    """Score a dataset, trees and combination beside the network."""
    data = bench.hh4b()
    card = preset_card("model-2")
    of = card.data.model_copy(update={"dataset": bench.hh4b_folder})
    card = with_training(card.model_copy(update={"data": of}), max_steps=3)
    with tempfile.TemporaryDirectory() as scratch:
        run = train_run(card, Path(scratch) / "run").root
        network = load_bundle(run / "model").network
        scores = Path(scratch) / "scores.parquet"
        return bench.row(
            "prediction, Model 2, hh4b, trees and combination beside",
            "the network alone",
            "",
            ours=lambda: rate(len(data), lambda: predict_run(run, bench.hh4b_folder, scores)),
            theirs=lambda: rate(len(data), lambda: list(predict(network, data))),
        )


def processes(bench: Bench) -> Row:
    """Train Model 2 on hh4b with two processes; needs two cores that nothing else uses."""
    bench.hh4b()
    chosen = preset_card("model-2")
    data = chosen.data.model_copy(update={"dataset": bench.hh4b_folder})
    chosen = with_training(chosen.model_copy(update={"data": data}), batch_size=512, max_steps=8)

    def trained_by(devices: int) -> float:
        with tempfile.TemporaryDirectory() as scratch:
            run = train_run(with_training(chosen, devices=devices), Path(scratch) / "run")
            history = np.genfromtxt(run.history, delimiter=",", names=True)
            return float(np.atleast_1d(history["events_per_second"])[-1])

    return bench.row(
        "training, Model 2, hh4b, batch 512, two processes on two cores",
        "one process on one core",
        "1.7",
        ours=lambda: trained_by(2),
        theirs=lambda: trained_by(1),
    )


def first_step(bench: Bench) -> Row:
    """From the command to the first step of training, on the demo's model and data."""
    bench.hh4b()
    with tempfile.TemporaryDirectory() as scratch:
        card = Path(scratch) / "card.yaml"
        card.write_text(card_text(demo_card("model-2", bench.hh4b_folder.resolve()), "first step"))
        number = iter(range(1000))

        def seconds(*command: str) -> float:
            begun = time.perf_counter()
            subprocess.run([sys.executable, "-c", *command], check=True, capture_output=True)
            return time.perf_counter() - begun

        return bench.row(
            "from the command to the first step",
            "import torch",
            "at most 4",
            ours=lambda: seconds(
                FIRST_STEP, "train", str(card), "--out", f"{scratch}/run{next(number)}"
            ),
            theirs=lambda: seconds("import torch"),
            unit="s",
        )


ROWS: dict[str, Callable[[Bench], Row]] = {
    "training": training,
    "prediction": prediction,
    "files": files,
    "padding": padding,
    "linear": linear,
    "model-2": model_2,
    "pairs": pairs,
    "reading": reading,
    "beside": beside,
    "processes": processes,
    "first-step": first_step,
}


def main() -> None:
    """Measure the rows and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", choices=[[], *ROWS], help="default: all")
    parser.add_argument("--seed-demo", type=Path, default=Path("../shared/data/seed_demo"))
    parser.add_argument("--hh4b", type=Path, default=Path("data/bench"))
    parser.add_argument("--runs", type=int, default=5)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    bench = Bench(chosen.seed_demo, chosen.hh4b, chosen.runs)
    cells = [ROWS[name](bench).cells() for name in chosen.rows or ROWS]
    print_table(Table("", ["work", "rival", "ours", "theirs", "ratio", "at least"], cells))


if __name__ == "__main__":
    # Before any thread starts: one core for both.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
