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
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from manyscale.data.dataset import Dataset
from manyscale.runs.explanation import EventSample, add_up
from manyscale.runs.judging import Trial
from manyscale.runs.scoring import signal_scores
from manyscale.training.memory import peak_memory_mb


def open_sample(run: Path, events: int) -> tuple[Trial, EventSample]:
    """A trained run, and some events of all of its data, decoded whenever they are asked for."""
    trial = replace(Trial.open(run), test=Dataset.open(Trial.open(run).own.source))
    return trial, EventSample.of(trial, events)


def seconds(task: Callable[[], object]) -> float:
    """Processor time of a task."""
    begun = time.process_time()
    task()
    return time.process_time() - begun


def compare_times(run: Path, events: int, repeats: int) -> None:
    """Print seconds and their ratio."""
    trial, sample = open_sample(run, events)
    images = trial.card.evaluation.images
    predict = partial(signal_scores, sample.network, sample.dataset)
    explain = partial(add_up, sample, images, 30)
    times = [(seconds(predict), seconds(explain)) for _ in range(repeats + 1)][1:]
    print(f"{len(sample.dataset)} events, one core, medians of {repeats}")
    for place, name in enumerate(("prediction", "attention maps and Grad-CAM")):
        print(f"{name:40}{statistics.median(pair[place] for pair in times):8.2f} s")
    ratio = statistics.median(later / first for first, later in times)
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
    if chosen.child:
        trial, sample = open_sample(chosen.run, chosen.events)
        add_up(sample, trial.card.evaluation.images, 30)
        print(json.dumps(peak_memory_mb(torch.device("cpu"))))
        return
    compare_times(chosen.run, chosen.events, chosen.repeats)
    few, all_of_them = (peak_of(chosen.run, chosen.events // part) for part in (10, 1))
    print(f"{'peak memory, a tenth of the events':40}{few:8.0f} MB")
    print(f"{'peak memory, all of them':40}{all_of_them:8.0f} MB")


if __name__ == "__main__":
    main()
