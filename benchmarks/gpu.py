"""Model 2 on a GPU: packed, in half precision, against our own model padded, eager, in fp32.

    python benchmarks/gpu.py

Three streams; the jets have 50 to 100 constituents, of 100 slots; batch 1024. Prints both rates,
their ratio (to reach: 4) and what share of the GPU's arithmetic peak and bandwidth ours achieves.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import padded
from manyscale.card import preset_card
from manyscale.data.packing import PackedStream
from manyscale.data.schema import Schema, StreamSchema
from manyscale.features.columns import StreamBatch, to_torch
from manyscale.model.classifier import MultiScaleClassifier
from manyscale.runs.train import build_model
from memory import STREAM, random_jets

BATCH = 1024
SLOTS = 100
STEPS = 20
OBJECTS = StreamSchema(name="kinematics", columns=("pt", "eta", "phi", "mass"))
SCHEMA = Schema(
    streams=(STREAM, STREAM.model_copy(update={"name": "jet2"}), OBJECTS),
)


def jets(generator: np.random.Generator) -> PackedStream:
    """One batch of jets of 50 to 100 constituents."""
    counts = generator.integers(SLOTS // 2, SLOTS + 1, BATCH)
    total = int(counts.sum())
    source = random_jets(generator, total // 10 + 1, 0.2)
    return PackedStream(source.values[:total], counts, source.axis[:BATCH])


def events() -> dict[str, PackedStream]:
    """One batch of three streams."""
    generator = np.random.default_rng(1)
    objects = generator.exponential(1, (4 * BATCH, 4)).astype(np.float32)
    kinematics = PackedStream(objects, np.full(BATCH, 4), np.zeros((BATCH, 0), np.float32))
    return {"jet1": jets(generator), "jet2": jets(generator), "kinematics": kinematics}


def network() -> MultiScaleClassifier:
    """Model 2 of the default size, on the GPU, without dropout."""
    card = preset_card("model-2")
    plain = {name: of.model_copy(update={"dropout": 0.0}) for name, of in card.streams.items()}
    return build_model(card.model_copy(update={"streams": plain}), SCHEMA).cuda().train()


def seconds_a_step(logits: Callable[[], Tensor], model: nn.Module) -> float:
    """Time of a training step, from the host's arrays to the new weights."""
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    label = torch.arange(BATCH, device="cuda") % 2

    def step() -> None:
        optimizer.zero_grad()
        torch.autograd.backward(nn.functional.cross_entropy(logits().float(), label))
        optimizer.step()

    times = []
    for _ in range(6):
        torch.cuda.synchronize()
        begun = time.perf_counter()
        for _ in range(STEPS):
            step()
        torch.cuda.synchronize()
        times.append((time.perf_counter() - begun) / STEPS)
    # The first round warms up.
    return statistics.median(times[1:])


def measured_peaks() -> tuple[float, float]:
    """What this GPU reaches: bf16 operations a second in a large product, bytes a second in a copy."""
    square = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    long = torch.empty(1 << 28, device="cuda")
    other = torch.empty_like(long)

    def fastest(work: Callable[[], object]) -> float:
        times = []
        for _ in range(5):
            torch.cuda.synchronize()
            begun = time.perf_counter()
            work()
            torch.cuda.synchronize()
            times.append(time.perf_counter() - begun)
        return min(times)

    product = fastest(lambda: square @ square)
    copied = fastest(lambda: other.copy_(long))
    return 2 * 8192**3 / product, 2 * 4 * len(long) / copied


def bytes_of_activations(model: nn.Module, forward: Callable[[], Tensor]) -> int:
    """Bytes that the modules of a forward pass read and write: a lower bound of the traffic."""
    moved = [0]

    def count(_: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        tensors = [part for part in (*inputs, output) if isinstance(part, Tensor)]
        moved[0] += sum(part.numel() * part.element_size() for part in tensors)

    hooks = [
        part.register_forward_hook(count) for part in model.modules() if not [*part.children()]
    ]
    forward()
    for hook in hooks:
        hook.remove()
    return moved[0]


def on_gpu(batch: padded.PaddedBatch) -> padded.PaddedBatch:
    """A padded batch on the GPU; its counts stay on the host too."""
    return {
        name: (
            StreamBatch(
                stream.values.cuda(), stream.counts.cuda(), stream.axis.cuda(), stream.host_counts
            ),
            hidden.cuda(),
        )
        for name, (stream, hidden) in batch.items()
    }


def main() -> int:
    """Measure and print."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    if not torch.cuda.is_available():
        print("make bench-gpu needs a GPU that torch can use; there is none here")
        return 1
    streams: Mapping[str, PackedStream] = events()
    lengths = {"jet1": SLOTS, "jet2": SLOTS, "kinematics": 4}
    model = network()
    rival = padded.PaddedNetwork(network())

    def ours() -> Tensor:
        with torch.autocast("cuda", torch.bfloat16):
            return model(to_torch(streams, np.arange(BATCH), "cuda"))

    packed = seconds_a_step(ours, model)
    naive = seconds_a_step(lambda: rival(on_gpu(padded.pad(streams, lengths))), rival)
    with FlopCounterMode(display=False) as counter:
        torch.autograd.backward(ours().float().sum())
    operations, bandwidth = measured_peaks()
    moved = 3 * bytes_of_activations(model, ours)
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    print(f"ours, packed, bf16      {BATCH / packed:12,.0f} events/s")
    print(f"padded, eager, fp32     {BATCH / naive:12,.0f} events/s")
    print(f"ratio (to reach: 4)     {naive / packed:12.2f}")
    print(
        f"arithmetic              {counter.get_total_flops() / packed / operations:12.1%} of peak"
    )
    print(f"bandwidth, at least     {moved / packed / bandwidth:12.1%} of a copy's")
    return 0


if __name__ == "__main__":
    sys.exit(main())
