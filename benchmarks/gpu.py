"""Rates on a GPU against rivals in the same process: one table.

    python benchmarks/gpu.py

Jets of 50 to 100 constituents, 1,024 events a batch; training steps begin at the arrays of the host.
The rivals: our own network padded, eager, in fp32; and a network like ParT (benchmarks/part.py) with
pair biases in all its layers, padded, in bf16.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from manyscale.card import Card, preset_card
from manyscale.console import print_table
from manyscale.data.feeds import TrainingBatch
from manyscale.deployment.predict import class_probabilities
from manyscale.events.ragged import PackedStream
from manyscale.model.classifier import MultiScaleClassifier
from manyscale.model.layers import StreamSettings
from manyscale.model.padded import PaddedNetwork
from manyscale.reporting.tables import Table
from manyscale.runs.train import build_model
from manyscale.schema import Schema, StreamSchema
from manyscale.training.graph import GraphedStep
from manyscale.training.loop import parameter_groups
from memory import STREAM, random_jets
from part import ParticleTransformer

BATCH = 1024
SLOTS = 100
OBJECTS = StreamSchema(name="kinematics", columns=("pt", "eta", "phi", "mass"))
JETS = {"jet1": STREAM, "jet2": STREAM.model_copy(update={"name": "jet2"})}
POOL = 4


def pool(jets: int) -> dict[str, PackedStream]:
    """Events of so many jet streams, and of kinematics where there is more than one."""
    generator = np.random.default_rng(1)
    streams = {}
    for name in list(JETS)[:jets]:
        counts = generator.integers(SLOTS // 2, SLOTS + 1, POOL * BATCH)
        source = random_jets(generator, int(counts.sum()) // 10 + 1, 0.2)
        streams[name] = PackedStream(
            source.values[: counts.sum()], counts, source.axis[: len(counts)]
        )
    if jets > 1:
        objects = generator.exponential(1, (4 * POOL * BATCH, 4)).astype(np.float32)
        counts = np.full(POOL * BATCH, 4)
        streams["kinematics"] = PackedStream(objects, counts, np.zeros((len(counts), 0), "f4"))
    return streams


def network(card: Card, jets: int) -> MultiScaleClassifier:
    """The network of a card on the GPU."""
    streams = (*list(JETS.values())[:jets], *([OBJECTS] if jets > 1 else []))
    return build_model(card, Schema(streams=streams)).cuda()


def batch_of(streams: dict[str, PackedStream], number: int, size: int) -> TrainingBatch:
    """Events drawn at random, another draw for each number."""
    chosen = np.random.default_rng(number).permutation(POOL * BATCH)[:size]
    taken = {name: stream.take(chosen) for name, stream in streams.items()}
    return TrainingBatch(taken, chosen % 2, np.ones(size, np.float32), chosen.astype(np.uint64))


def rate(step: Callable[[int], object], events: int, steps: int = 20) -> float:
    """Events per second: the median of five rounds, after one that is not counted."""
    times = []
    for _ in range(6):
        torch.cuda.synchronize()
        began = time.perf_counter()
        for number in range(steps):
            step(number)
        torch.cuda.synchronize()
        times.append((time.perf_counter() - began) / steps)
    return events / statistics.median(times[1:])


def ours(model: MultiScaleClassifier, streams: dict[str, PackedStream], size: int) -> float:
    """Training as the package does it: batches of the host, a step as one graph in bf16."""
    optimizer = torch.optim.AdamW(
        parameter_groups(model.train(), 0.01),
        lr=torch.tensor(1e-3, device="cuda"),
        fused=True,
        capturable=True,
    )
    longest = {name: of.max_tokens for name, of in model.settings.streams.items()}
    step = GraphedStep(model, optimizer, batch_of(streams, 0, size), longest=longest, clip=1.0)
    return rate(lambda number: step(batch_of(streams, number, size)), size)


def eager(model: nn.Module, logits: Callable[[int], Tensor], events: int) -> float:
    """Training step by step, kernel by kernel."""
    optimizer = torch.optim.AdamW(model.train().parameters(), fused=True)
    label = torch.arange(events, device="cuda") % 2

    def step(number: int) -> None:
        optimizer.zero_grad()
        torch.autograd.backward(nn.functional.cross_entropy(logits(number).float(), label))
        optimizer.step()

    return rate(step, events, 10)


def part_like(layers: int) -> float:
    """Jets per second of a network like ParT, its padded batch on the GPU already."""
    model = ParticleTransformer(17, layers=layers).cuda()
    features = torch.randn(BATCH, SLOTS, 17, device="cuda")
    momenta = torch.rand(BATCH, SLOTS, 3, device="cuda")
    padding = torch.zeros(BATCH, SLOTS, device="cuda")
    padding[:, SLOTS * 3 // 4 :] = -torch.inf

    def logits(_: int) -> Tensor:
        with torch.autocast("cuda", torch.bfloat16):
            found: Tensor = model(features, momenta, padding)
        return found

    return eager(model, logits, BATCH)


def main() -> int:
    """Measure and print."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    if not torch.cuda.is_available():
        print("make bench-gpu needs a GPU that torch can use; there is none here")
        return 1
    two, one = pool(2), pool(1)
    default = preset_card("model-2")
    rival = PaddedNetwork(network(default, 2))
    lengths = {"jet1": SLOTS, "jet2": SLOTS, "kinematics": 4}
    naive = eager(
        rival,
        lambda number: rival(rival.arrays(batch_of(two, number, BATCH).streams, lengths)),
        BATCH,
    )
    rows = []

    def add(work: str, own: float, against: str, other: float | None) -> None:
        cells = ["", ""] if other is None else [f"{other:,.0f}", f"{own / other:.2f}"]
        rows.append([work, f"{own:,.0f}", against, *cells])
        print(*rows[-1], flush=True)

    trained = ours(network(default, 2), two, BATCH)
    add("training, Model 2, default size", trained, "ours padded, eager, fp32", naive)
    for size in (128, 256, 512):
        add(f"the same, batch {size}", ours(network(default, 2), two, size), "", None)
    wide = {
        name: of.model_copy(update={"width": 128, "heads": 4, "layers": 4})
        for name, of in default.streams.items()
    }
    large = default.model_copy(update={"streams": wide})
    add("the same, 128 wide, 4 layers", ours(network(large, 2), two, BATCH), "", None)
    deep = StreamSettings(width=128, heads=4, layers=8)
    model_1 = preset_card("model-1").model_copy(update={"streams": {"jet1": deep}})
    jets = ours(network(model_1, 1), one, BATCH)
    add("training, Model 1, 128 wide, 8 layers", jets, "ParT-like, 8 layers, bf16", part_like(8))
    scored = network(default, 2).eval()
    predicted = rate(lambda _: class_probabilities(scored, two), POOL * BATCH, 3)
    add("prediction, Model 2, from memory", predicted, "its training", trained)
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {BATCH} events a batch")
    header = ["work", "events/s", "rival", "rival's events/s", "ratio"]
    print_table(Table("rates on a GPU", header, rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
