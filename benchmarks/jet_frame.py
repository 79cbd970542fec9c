"""Jets a second that are centred, rotated, flipped and made images of, on one core.

Beside it the same by a loop over jets in numpy, and by how much the two differ in double precision.
Medians of runs that alternate; the ratio is taken within each run.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from manyscale.features.columns import Segments
from manyscale.features.images import pixel_sums
from manyscale.features.jet_frame import FrameSettings, in_frame

CONSTITUENTS = 50
# Jets at a time, as in jet_images; of these the loop, which is slow, gets a part.
JETS = 2048
LOOPED = 256
BINS = 41
HALF_WIDTH = 1.0

FRAMES = {
    "centre": FrameSettings(centre="pt"),
    "centre, principal axis, flip": FrameSettings(centre="pt", rotate="principal", flip=True),
    "centre, second subjet, flip": FrameSettings(centre="pt", rotate="second", flip=True),
}

Floats = NDArray[np.float64]


def make(jets: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Segments]:
    """Directions, pT and grouping of jets of 50 constituents in the mean, in two clumps each."""
    rng = np.random.default_rng(1)
    counts = rng.poisson(CONSTITUENTS, jets)
    tokens = int(counts.sum())
    owner = np.repeat(np.arange(jets), counts)
    clumps = rng.normal(0, 0.3, (jets, 2, 2))[owner, rng.integers(0, 2, tokens)]
    place = clumps + rng.normal(0, 0.15, (tokens, 2))
    columns = (place[:, 0], place[:, 1], rng.exponential(6.0, tokens) + 0.5)
    x, y, pt = (torch.from_numpy(column).to(dtype) for column in columns)
    return x, y, pt, Segments.of(torch.from_numpy(counts), tokens)


def pictures(frame: FrameSettings | None, jets: tuple[Tensor, Tensor, Tensor, Segments]) -> Tensor:
    """Images of jets, in a frame or as they are."""
    x, y, pt, segments = jets
    if frame is not None:
        x, y = in_frame(frame, x, y, pt, segments)
    return pixel_sums(
        x, y, pt, segments.event, len(segments.counts), bins=BINS, half_width=HALF_WIDTH
    )


def looped(jets: tuple[Tensor, Tensor, Tensor, Segments], most: int) -> tuple[Floats, Floats]:
    """The same, centred, principal axis up, flipped, by numpy jet after jet."""
    x, y, pt = (values.numpy().astype(np.float64) for values in jets[:3])
    ends = np.cumsum(jets[3].counts.numpy())[:most]
    edges = np.linspace(-HALF_WIDTH, HALF_WIDTH, BINS + 1)
    placed, images = [], []
    for first, last in zip([0, *ends[:-1]], ends, strict=True):
        weight = pt[first:last]
        points = np.stack([x[first:last], y[first:last]])
        around = np.angle(np.sum(weight * np.exp(1j * points[1])))
        points[1] = np.angle(np.exp(1j * (points[1] - around)))
        points -= np.average(points, axis=1, weights=weight)[:, None]
        _, axes = np.linalg.eigh(np.cov(points, aweights=weight, ddof=0))
        cos, sin = axes[:, 1]
        points = np.stack([points[0] * sin - points[1] * cos, points[0] * cos + points[1] * sin])
        points *= np.where((weight * np.sign(points)).sum(1) < 0, -1, 1)[:, None]
        placed.append(points)
        images.append(np.histogram2d(points[0], points[1], [edges, edges], weights=weight)[0])
    return np.concatenate(placed, axis=1), np.stack(images)


def seconds(task: Callable[[], object]) -> float:
    """CPU time of a task."""
    begun = time.process_time()
    task()
    return time.process_time() - begun


def print_rates(runs: int) -> None:
    """Print a line a frame, without and with images."""
    jets = make(JETS, torch.float32)
    tasks: dict[str, Callable[[], object]] = {"images alone": partial(pictures, None, jets)}
    for name, frame in FRAMES.items():
        tasks[name] = partial(in_frame, frame, *jets)
        tasks[f"{name}; images"] = partial(pictures, frame, jets)
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(runs + 1):
        for name, task in tasks.items():
            times[name].append(seconds(task))
    print(f"{CONSTITUENTS} constituents a jet, one core (goal 200,000 jets/s)")
    for name, spent in times.items():
        print(f"{name:40}{JETS / statistics.median(spent[1:]):12,.0f} jets/s")


def print_ratio(runs: int) -> None:
    """Print the rate of the loop, the ratio, and the largest difference in double precision."""
    frame = FRAMES["centre, principal axis, flip"]
    jets = make(JETS, torch.float32)
    ratios, rates = [], []
    for _ in range(runs + 1):
        ours = seconds(partial(pictures, frame, jets)) / JETS
        loop = seconds(partial(looped, jets, LOOPED)) / LOOPED
        rates.append(1 / loop)
        ratios.append(loop / ours)
    print(f"{'numpy, jet after jet':40}{statistics.median(rates[1:]):12,.0f} jets/s")
    print(f"{'ratio':40}{statistics.median(ratios[1:]):12,.0f}")
    exact = make(LOOPED, torch.float64)
    placed, images = looped(exact, LOOPED)
    found = torch.stack(in_frame(frame, *exact)).numpy()
    print(f"{'largest difference, directions':40}{np.abs(found - placed).max():12.1e}")
    difference = np.abs(pictures(frame, exact).numpy() - images).max()
    print(f"{'largest difference, pixels [GeV]':40}{difference:12.1e}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=30)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    with torch.inference_mode():
        print_rates(chosen.runs)
        print_ratio(chosen.runs)


if __name__ == "__main__":
    main()
