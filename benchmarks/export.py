"""ONNX against the network: largest difference of a probability, and rates on one core.

    manyscale generate --set generate.events=10000 --out data/hh4b    # of each class
    python benchmarks/export.py data/hh4b                             # some ten minutes

To reach: at most 1e-5 on 10,000 events of each preset, and not slower than torch. Networks of 1,500 events a class
and three epochs; rates of CPU time, the fastest of five turns, on 2,000 events at once.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import onnxruntime
import torch

from manyscale.card import parse_card
from manyscale.console import print_table
from manyscale.data.dataset import Dataset
from manyscale.data.event_filter import SplitSettings
from manyscale.deployment.bundle import Bundle
from manyscale.deployment.onnx import write_onnx
from manyscale.deployment.predict import Alignment, class_probabilities
from manyscale.model.padded import padded_array
from manyscale.reporting.tables import Table
from manyscale.runs.fit import build_model, fit_features, fit_members, start

EVENTS = 10_000
AT_ONCE = 2_000
TURNS = 5
CARDS = {
    "model-2": "preset: model-2",
    "model-2, pair biases": (
        "preset: model-2\nstreams: {jet1: {pair_bias: true}, jet2: {pair_bias: true}}"
    ),
    "model-1": "preset: model-1",
    "model-1, pair biases": "preset: model-1\nstreams: {jet1: {pair_bias: true}}",
    "model-3": "preset: model-3",
    "concatenation": "preset: concatenation",
    "kinematics-only": "preset: kinematics-only",
    "model-3, ensemble of two": "preset: model-3\ntraining: {ensemble: 2}",
}


def fastest(work: Callable[[], object]) -> float:
    """Events per second of CPU time."""
    times = []
    for _ in range(TURNS):
        begun = time.process_time()
        work()
        times.append(time.process_time() - begun)
    return AT_ONCE / min(times)


def row(name: str, text: str, data: Dataset, path: Path) -> list[str]:
    """Train a network, write it as ONNX and compare both."""
    train = data.train.restricted(max_events=1_500)
    card = parse_card(text, name, ["training.epochs=3", "training.batch_size=128"])
    network = build_model(card, data.schema)
    fit_features(network, train)
    taken = start(network, card.training)
    held_out = data.validation.restricted(max_events=300)
    fit_members(network, card, train=train, validation=held_out, taken=taken)
    streams = tuple(network.extractor(name).stream for name in network.settings.streams)
    align = Alignment(data.schema, streams)
    test = data.test.restricted(max_events=EVENTS // 2)  # of each class
    events = [align(chunk.streams) for chunk in test.chunks(AT_ONCE)]
    largest = write_onnx(path, Bundle(network.eval(), streams), events)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options)
    arrays = {stream.name: padded_array(stream, events[0][stream.name]) for stream in streams}
    rates = (
        fastest(lambda: session.run(None, arrays)),
        fastest(lambda: class_probabilities(network, events[0])),
    )
    return [
        name,
        f"{len(test):,}",
        f"{largest:.1e}",
        *(f"{rate:,.0f} /s" for rate in rates),
        f"{rates[0] / rates[1]:.2f}",
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path)
    split = SplitSettings(train=0.3, validation=0.05, test=0.65)
    data = Dataset.open(parser.parse_args().dataset, split=split, seed=1)
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for name, text in CARDS.items():
            rows.append(row(name, text, data, Path(scratch) / "model.onnx"))
            print(*rows[-1], flush=True)
    header = ["network", "events", "largest difference", "ONNX", "the network", "ratio"]
    print_table(Table("", header, rows))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
