"""Time of attention maps and Grad-CAM over that of a prediction of the same events.

    python benchmarks/explanation.py runs/demo

Takes events of all splits of the run's data, half of each class, read from the disk each time. To reach:
under 5 times, for 5,000 events. Medians of runs that alternate, of processor time; the ratio is taken
within each run. Printed beside it: the rise of the peak memory from a tenth of the events to all.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

from manyscale.data.dataset import Dataset
from manyscale.deployment.predict import predict
from manyscale.runs.evaluate import Trial
from manyscale.runs.explain import add_up
from manyscale.training.loop import peak_memory_mb


def compare_times(trial: Trial, sample: Dataset, repeats: int) -> None:
    """Print seconds and their ratio."""
    network, times = trial.bundle.network, []
    for _ in range(repeats + 1):
        begun = time.process_time()
        for _events, _probabilities in predict(network, sample):
            pass
        predicted = time.process_time()
        add_up(network, sample, trial.card.evaluation.images)
        times.append((predicted - begun, time.process_time() - predicted))
    print(f"{len(sample)} events, one core, medians of {repeats}")
    # The first round warms up.
    predictions, explanations = zip(*times[1:], strict=True)
    for name, of in (
        ("prediction", predictions),
        ("attention maps and Grad-CAM", explanations),
    ):
        print(f"{name:40}{statistics.median(of):8.2f} s")
    ratio = statistics.median(later / first for first, later in times[1:])
    print(f"{'ratio (goal: under 5)':40}{ratio:8.2f}")


def peak_of(run: Path, events: int) -> float:
    """Peak memory [MB] of a process that adds up so many events."""
    command = [sys.executable, __file__, str(run), "--events", str(events), "--child"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--events", type=int, default=5000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    trial = Trial.open(chosen.run)
    sample = Dataset.open(trial.own.source).restricted(max_events=max(1, chosen.events // 2))
    if chosen.child:
        add_up(trial.bundle.network, sample, trial.card.evaluation.images)
        print(json.dumps(peak_memory_mb(torch.device("cpu"))))
        return
    compare_times(trial, sample, chosen.repeats)
    few, all_of_them = (peak_of(chosen.run, chosen.events // part) for part in (10, 1))
    print(f"{'peak memory, a tenth of the events':40}{few:8.0f} MB")
    print(f"{'peak memory, all of them':40}{all_of_them:8.0f} MB")


if __name__ == "__main__":
    main()
