"""Rates on a GPU against rivals in the same process: one table.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --trial    # on the CPU, tiny: only whether it runs

Jets of 50 to 100 constituents, 1,024 events a batch; training steps begin at the arrays of the host.
The rivals: our own network padded, eager, in fp32; and a network like ParT (benchmarks/part.py) with
pair biases in all its layers, padded, in bf16.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from manyscale.card import Card, preset_card
from manyscale.console import print_table
from manyscale.data.dataset import Dataset
from manyscale.data.feeds import TrainingBatch
from manyscale.data.packing import PackedEvents
from manyscale.deployment.predict import CHUNK, class_probabilities
from manyscale.events.ragged import PackedStream
from manyscale.features.columns import StreamBatch, on_device
from manyscale.model.classifier import MultiScaleClassifier
from manyscale.model.layers import StreamSettings
from manyscale.model.padded import PaddedNetwork
from manyscale.reporting.tables import Table
from manyscale.runs.evaluate import evaluate_run
from manyscale.runs.fit import build_model
from manyscale.runs.predict import predict_run
from manyscale.runs.train import train_run
from manyscale.schema import Schema, StreamSchema
from manyscale.training.distributed import precision_of
from manyscale.training.graph import GraphedStep, can_graph
from manyscale.training.loop import parameter_groups
from memory import PROCESSES, STREAM, random_jets
from part import ParticleTransformer


class Scale(NamedTuple):
    """How much is measured, and where: rounds of steps, the first round not counted."""

    device: str
    batch: int
    slots: int
    width: int
    layers: int
    rounds: int
    steps: int


GPU = Scale("cuda", 1024, 100, 128, 8, 6, 20)
TRIAL = Scale("cpu", 16, 24, 16, 2, 2, 1)
OBJECTS = StreamSchema(name="kinematics", columns=("pt", "eta", "phi", "mass"))
JETS = {"jet1": STREAM, "jet2": STREAM.model_copy(update={"name": "jet2"})}
POOL = 4


def pool(jets: int, scale: Scale) -> dict[str, PackedStream]:
    """Events of so many jet streams, and of kinematics where there is more than one."""
    generator = np.random.default_rng(1)
    streams = {}
    for name in list(JETS)[:jets]:
        counts = generator.integers(scale.slots // 2, scale.slots + 1, POOL * scale.batch)
        source = random_jets(generator, int(counts.sum()) // 10 + 1, 0.2)
        streams[name] = PackedStream(
            source.values[: counts.sum()], counts, source.axis[: len(counts)]
        )
    if jets > 1:
        objects = generator.exponential(1, (4 * POOL * scale.batch, 4)).astype(np.float32)
        counts = np.full(POOL * scale.batch, 4)
        streams["kinematics"] = PackedStream(objects, counts, np.zeros((len(counts), 0), "f4"))
    return streams


def network(card: Card, jets: int, scale: Scale) -> MultiScaleClassifier:
    """The network of a card on the device."""
    streams = (*list(JETS.values())[:jets], *([OBJECTS] if jets > 1 else []))
    return build_model(card, Schema(streams=streams)).to(scale.device)


def batch_of(streams: dict[str, PackedStream], number: int, size: int) -> TrainingBatch:
    """Events drawn at random, another draw for each number."""
    events = len(streams["jet1"])
    chosen = np.random.default_rng(number).permutation(events)[:size]
    taken = {name: stream.take(chosen) for name, stream in streams.items()}
    return TrainingBatch(taken, chosen % 2, np.ones(size, np.float32), chosen.astype(np.uint64))


def rate(step: Callable[[int], object], events: int, scale: Scale) -> float:
    """Events per second: the median of the rounds but the first."""
    wait = torch.cuda.synchronize if scale.device == "cuda" else int
    times = []
    for _ in range(scale.rounds):
        wait()
        began = time.perf_counter()
        for number in range(scale.steps):
            step(number)
        wait()
        times.append((time.perf_counter() - began) / scale.steps)
    return events / statistics.median(times[1:])


def half(scale: Scale) -> torch.autocast:
    """The arithmetic of networks on a GPU."""
    return torch.autocast(scale.device, torch.bfloat16, enabled=scale.device == "cuda")


def ours(card: Card, streams: dict[str, PackedStream], scale: Scale, size: int = 0) -> float:
    """Training as the package does it: batches of the host, in bf16, where it can a step as one graph."""
    size, device = size or scale.batch, torch.device(scale.device)
    model = network(card, len(streams.keys() & JETS.keys()), scale).train()
    precision = precision_of(card.training, scale.device)
    graphed = can_graph(model, card.training, precision, device, 1)
    optimizer = torch.optim.AdamW(
        parameter_groups(model, 0.01),
        lr=torch.tensor(1e-3, device=device),
        fused=True,
        capturable=graphed,
    )
    step: Callable[[TrainingBatch], object]
    if graphed:
        longest = {name: of.max_tokens for name, of in model.settings.streams.items()}
        typical = batch_of(streams, 0, size)
        step = GraphedStep(model, optimizer, typical, longest=longest, clip=1.0)
    else:

        def step(batch: TrainingBatch) -> None:
            taken = {name: StreamBatch.of(of, device) for name, of in batch.streams.items()}
            with half(scale):
                logits = model(taken)
            label = on_device(batch.label, device)
            torch.autograd.backward(nn.functional.cross_entropy(logits.float(), label))
            nn.utils.clip_grad_norm_([p for g in optimizer.param_groups for p in g["params"]], 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=False)

    return rate(lambda number: step(batch_of(streams, number, size)), size, scale)


def eager(model: nn.Module, logits: Callable[[int], Tensor], scale: Scale) -> float:
    """Training step by step, kernel by kernel."""
    optimizer = torch.optim.AdamW(model.train().parameters(), fused=True)
    label = torch.arange(scale.batch, device=scale.device) % 2

    def step(number: int) -> None:
        optimizer.zero_grad()
        torch.autograd.backward(nn.functional.cross_entropy(logits(number).float(), label))
        optimizer.step()

    return rate(step, scale.batch, scale._replace(steps=-(-scale.steps // 2)))


def part_like(scale: Scale) -> float:
    """Jets per second of a network like ParT, its padded batch on the device already."""
    size, device = (scale.batch, scale.slots), scale.device
    model = ParticleTransformer(17, scale.width, layers=scale.layers).to(device)
    features = torch.randn(*size, 17, device=device)
    momenta = torch.rand(*size, 3, device=device)
    padding = torch.zeros(size, device=device)
    padding[:, scale.slots * 3 // 4 :] = -torch.inf

    def logits(_: int) -> Tensor:
        with half(scale):
            found: Tensor = model(features, momenta, padding)
        return found

    return eager(model, logits, scale)


def from_parquet(scale: Scale) -> tuple[float, float, list[str]]:
    """What of one dataset `predict` scores, trees beside, and what reading alone reads, per second.

    And the AUC of one card that was trained and evaluated on the CPU, and on the device.
    """
    streams = pool(2, scale._replace(batch=8 * scale.batch))
    events = len(streams["jet1"])
    number = np.arange(events)
    # Signal is a little wider, so that there is something to learn.
    jet = streams["jet1"]
    wider = np.repeat(1 + 0.04 * (number % 2), jet.counts).astype(np.float32)
    jet.values[:, 2] = np.clip(jet.values[:, 2] * wider, -3.1, 3.1)
    packed = PackedEvents(
        streams, number.astype(np.uint64), number % 2, number % 2, np.ones(events)
    )
    schema = Schema(streams=(*JETS.values(), OBJECTS), processes=tuple(reversed(PROCESSES[:2])))
    card = preset_card("model-2")
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        Dataset.from_events(schema, packed).write(root / "data")
        card = card.model_copy(
            update={"data": card.data.model_copy(update={"dataset": root / "data"})}
        )
        found = []
        for accelerator in dict.fromkeys(("cpu", "gpu" if scale.device == "cuda" else "cpu")):
            settings = {"accelerator": accelerator, "epochs": 2}
            training = card.training.model_copy(update=settings)
            run = root / accelerator
            train_run(card.model_copy(update={"training": training}), run)
            device = "cuda" if accelerator == "gpu" else "cpu"
            metrics = evaluate_run(run, device=device, plots=False)
            found.append(f"{accelerator} {metrics.auc:.4f} ± {metrics.auc_error:.4f}")
        once = scale._replace(rounds=3, steps=1)
        reading = rate(lambda _: list(Dataset.open(root / "data").chunks(CHUNK)), events, once)
        scores = root / "scores.parquet"
        scored = rate(lambda _: predict_run(run, root / "data", scores), events, once)
    return scored, reading, found


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trial", action="store_true", help="tiny, on the CPU")
    scale = TRIAL if parser.parse_args(arguments).trial else GPU
    if scale is GPU and not torch.cuda.is_available():
        print("make bench-gpu needs a GPU that torch can use; there is none here")
        return 1
    two, one = pool(2, scale), pool(1, scale)
    default = preset_card("model-2")
    rival = PaddedNetwork(network(default, 2, scale))
    lengths = {"jet1": scale.slots, "jet2": scale.slots, "kinematics": 4}

    def padded_logits(number: int) -> Tensor:
        streams = batch_of(two, number, scale.batch).streams
        found: Tensor = rival(rival.arrays(streams, lengths))
        return found

    naive = eager(rival, padded_logits, scale)
    rows = []

    def add(work: str, own: float, against: str, other: float | None) -> None:
        cells = ["", ""] if other is None else [f"{other:,.0f}", f"{own / other:.2f}"]
        rows.append([work, f"{own:,.0f}", against, *cells])
        print(*rows[-1], flush=True)

    trained = ours(default, two, scale)
    add("training, Model 2, default size", trained, "ours padded, eager, fp32", naive)
    for size in (scale.batch // 8, scale.batch // 4, scale.batch // 2):
        add(f"the same, batch {size}", ours(default, two, scale, size), "", None)
    half_deep = {"width": scale.width, "heads": 4, "layers": scale.layers // 2}
    wide = {name: of.model_copy(update=half_deep) for name, of in default.streams.items()}
    large = default.model_copy(update={"streams": wide})
    words = f"{scale.width} wide, {scale.layers // 2} layers"
    add(f"the same, {words}", ours(large, two, scale), "", None)
    like_part = part_like(scale)
    for bias, words in ((False, ""), (True, ", with pair biases")):
        deep = StreamSettings(width=scale.width, heads=4, layers=scale.layers, pair_bias=bias)
        model_1 = preset_card("model-1").model_copy(update={"streams": {"jet1": deep}})
        add(
            f"training, Model 1, {scale.width} wide, {scale.layers} layers{words}",
            ours(model_1, one, scale),
            f"ParT-like, {scale.layers} layers, with pair biases, bf16",
            like_part,
        )
    scored = network(default, 2, scale).eval()
    fewer = scale._replace(steps=-(-scale.steps // 7))
    predicted = rate(lambda _: class_probabilities(scored, two), POOL * scale.batch, fewer)
    add("prediction, Model 2, from memory", predicted, "its training", trained)
    predicted, reading, found = from_parquet(scale)
    add("the same from Parquet to scores, trees beside", predicted, "reading alone", reading)
    print("AUC of a card trained and evaluated on:", ", ".join(found))
    name = torch.cuda.get_device_name() if scale is GPU else "a trial on the CPU"
    print(f"{name}, torch {torch.__version__}, {scale.batch} events a batch")
    header = ["work", "events/s", "rival", "rival's events/s", "ratio"]
    print_table(Table("rates on a GPU" if scale is GPU else "trial: no rates", header, rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
