"""What trust costs: a checkpoint, resuming, and the memory of `predict` for ten times the events.

    python benchmarks/reliability.py /tmp/reliability
    python benchmarks/reliability.py /tmp/reliability --data ../shared/data    # Delphes files, too

To reach: a checkpoint at most 1% of the time, resuming at most 2 s later at its first step than a
fresh training, memory within 10%. Each figure is of processes of their own; datasets stay in the folder.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from conversion import CARD, SAMPLES, Bench
from memory import make_dataset

EVENTS = 100_000
TURNS = 5

# Arguments: the command line; what ends it, "step" (its first), "epoch" (the first step of the second
# epoch, as by Ctrl-C) or "". Prints when the first step began, the seconds in checkpoints and in all,
# and the peak megabytes.
CHILD = """
import json, resource, sys, time
begun = time.perf_counter()
ending = sys.argv.pop(1)
from manyscale import cli
from manyscale.training import checkpoint, loop
first, spent = [], []
rate, save = loop.learning_rate, checkpoint.save
def watched(step, steps, settings):
    first.append(time.time())
    if ending == "step" or ending == "epoch" and spent:
        raise KeyboardInterrupt
    return rate(step, steps, settings)
def timed(*arguments):
    start = time.perf_counter()
    save(*arguments)
    spent.append(time.perf_counter() - start)
loop.learning_rate, checkpoint.save = watched, timed
try:
    cli.main()
except SystemExit:
    pass
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps([first[:1], sum(spent), len(spent), time.perf_counter() - begun, peak]))
"""


def command(*words: object, ending: str = "") -> list[float]:
    """Type a command of manyscale; see `CHILD`; the first step is given in seconds from here."""
    call = [sys.executable, "-c", CHILD, ending, *map(str, words)]
    begun = time.time()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(call, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    first, *found = json.loads(done.stdout.splitlines()[-1])
    return [first[0] - begun if first else 0.0, *found]


def memory(run: Path, small: Path | str, large: Path | str, out: Path, what: str) -> None:
    """Print the peak memory of a prediction of some events and of ten times as many."""
    few, many = (
        command("predict", run, data, "--out", out, "--workers", 1)[-1] for data in (small, large)
    )
    print(f"predict, {what}: {few:.0f} MB, of ten times the events {many:.0f} MB: {many / few:.3f}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, help="real files, for predictions of Delphes files")
    chosen = parser.parse_args()
    folder = chosen.folder
    small, large = folder / "small", folder / "large"
    for data, events in ((small, EVENTS // 10), (large, EVENTS)):
        make_dataset(data, events, part=EVENTS // 40)
    card = folder / "card.yaml"
    card.write_text(f"preset: model-1\ndata: {{dataset: {large}}}\ntraining: {{epochs: 2}}\n")

    run = folder / f"run-{os.getpid()}"
    _, saving, saves, seconds, _ = command("train", card, "--out", run, "--no-plots")
    print(f"{saves:.0f} checkpoints: {saving:.2f} s of a training of {seconds:.0f} s, evaluated")
    times: dict[str, list[float]] = {"fresh": [], "resumed": []}
    for turn in range(TURNS):
        part = folder / f"part-{os.getpid()}-{turn}"
        times["fresh"].append(command("train", card, "--out", part, ending="epoch")[0])
        resumed = command("train", card, "--out", part, "--resume", ending="step")
        times["resumed"].append(resumed[0])
    fresh, resumed_at = (statistics.median(of) for of in times.values())
    print(
        f"first step of a fresh training after {fresh:.1f} s, of a resumed one {resumed_at:.1f} s"
    )
    memory(run, small, large, folder / "scores.parquet", "Parquet, 10,000 events")

    if chosen.data:
        bench = Bench(chosen.data.resolve(), folder)
        sample, data = SAMPLES["Delphes"], folder / "delphes"
        bench.card.write_text(CARD)
        for label in ("signal", "background"):
            words = ("--label", label, "--process", label, "--card", bench.card, "--out", data)
            command("convert", f"{bench.files(sample, 1_000)}/*.root", *words)
        card.write_text(f"data: {{dataset: {data}}}\ntraining: {{epochs: 1}}\n")
        run = folder / f"delphes-{os.getpid()}"
        command("train", card, "--out", run, "--no-plots")
        few, many = (f"{bench.files(sample, entries)}/*.root" for entries in (1_000, 10_000))
        memory(run, few, many, folder / "scores.parquet", "Delphes, 1,000 entries")


if __name__ == "__main__":
    main()
