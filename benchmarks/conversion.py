"""Conversion of Delphes and NanoAOD files: rate against bare uproot, memory, two workers against one.

Links to the real files under other names stand for large samples, as the same call sees them. Each
measurement is a process of its own; start-up (imports) is not counted. Medians of runs that
alternate; the ratios are taken within each run. The last tables need two cores that nothing else
uses.
"""

import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

CARD = "generate: {cuts: {leading_pt: 20, second_pt: 10}}\n"


class Sample(NamedTuple):
    """A real file, its tree, its entries; entries for the rate and for the two memory figures."""

    path: str
    tree: str
    entries: int
    rate: int
    memory: tuple[int, int]


SAMPLES = {
    "NanoAOD": Sample(
        "delphes/cms_nanoaod_v15_tt_200ev.root", "Events", 200, 2_000, (10_000, 100_000)
    ),
    "Delphes": Sample(
        "delphes/delphes_ttbar_10ev_issue513.root", "Delphes", 10, 1_000, (500, 5_000)
    ),
}

# Arguments: folder of files, dataset, card, workers, address of a dask scheduler or "".
CONVERT = """
import json, resource, sys, time
from pathlib import Path
import manyscale.runs.plan_files, manyscale.events.files.delphes, manyscale.events.files.nanoaod
from manyscale.runs.convert import Request, convert_files
files, out, card, workers, cluster = sys.argv[1:]
begun = time.perf_counter()
convert_files([f"{files}/*.root"], out, Request(label="signal"), card=card,
              workers=int(workers), cluster=cluster or None)
seconds = time.perf_counter() - begun
megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps([seconds, megabytes]))
"""
# Arguments: folder of files, tree, branches as JSON.
BARE = """
import json, sys, time
from pathlib import Path
import awkward, uproot
folder, tree, branches = sys.argv[1:]
begun = time.perf_counter()
for path in sorted(Path(folder).glob("*.root")):
    with uproot.open(path) as file:
        events = file[tree]
        for name in json.loads(branches):
            events[name].array()
print(json.dumps([time.perf_counter() - begun, 0]))
"""
# Arguments: file, card. Prints the branches that a conversion reads.
BRANCHES = """
import json, sys
from uproot.behaviors.TBranch import TBranch
from manyscale.card import load_card
from manyscale.events.files.readers import choose_reader
from manyscale.events.files.reader import Piece
path, card = sys.argv[1], load_card(sys.argv[2])
reader = choose_reader(path, "ROOT", card.generate, card.convert)
streams = reader.look(path).streams
names, plain = {}, TBranch.array
def noted(branch, *args, **more):
    names[branch.name] = None
    return plain(branch, *args, **more)
TBranch.array = noted
for _ in reader.read(Piece(path, 0, None), streams, 1):
    pass
print(json.dumps(list(names)))
"""


def run(script: str, *arguments: str | Path | int) -> list[float]:
    """Run a script in a process of one thread; return what it prints."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    found: list[float] = json.loads(done.stdout.splitlines()[-1])
    return found


class Bench:
    """Measures conversions of links to the real files.

    Parameters
    ----------
    data
        Folder of the real files.
    scratch
        Where links and datasets go.
    """

    def __init__(self, data: Path, scratch: Path) -> None:
        self._data = data
        self._scratch = scratch
        self._made = 0
        self.card = scratch / "card.yaml"
        self.card.write_text(CARD)

    def files(self, sample: Sample, entries: int) -> Path:
        """Return a folder of links with so many entries in all."""
        folder = self._scratch / f"{sample.tree}-{entries}"
        if not folder.exists():
            folder.mkdir()
            for number in range(entries // sample.entries):
                (folder / f"{number:05d}.root").hardlink_to(self._data / sample.path)
        return folder

    def convert(self, files: Path, workers: int = 1, cluster: str = "") -> tuple[float, float]:
        """Seconds and peak megabytes of a conversion."""
        self._made += 1
        out = self._scratch / f"out-{self._made}"
        seconds, megabytes = run(CONVERT, files, out, self.card, workers, cluster)
        return seconds, megabytes

    def against_bare(self, name: str, runs: int) -> None:
        """Print the rate of conversion beside that of reading the same branches."""
        sample = SAMPLES[name]
        files = self.files(sample, sample.rate)
        branches = json.dumps(run(BRANCHES, self._data / sample.path, self.card))
        pairs = [
            (run(BARE, files, sample.tree, branches)[0], self.convert(files)[0])
            for _ in range(runs)
        ]
        bare, ours = (statistics.median(sample.rate / pair[at] for pair in pairs) for at in (0, 1))
        ratio = statistics.median(theirs / own for theirs, own in pairs)
        print(
            f"{name:10}{sample.rate:8} entries, {len(json.loads(branches))} branches"
            f"{bare:10.0f} /s {ours:10.0f} /s {ratio:8.2f}"
        )

    def memory(self, name: str) -> None:
        """Print peak memory for a small and a large sample."""
        sample = SAMPLES[name]
        small, large = (self.convert(self.files(sample, n))[1] for n in sample.memory)
        print(
            f"{name:10}{sample.memory[0]:8,} entries {small:6.0f} MB, "
            f"{sample.memory[1]:8,} entries {large:6.0f} MB, ratio {large / small:.3f}"
        )

    def two_against_one(self, name: str, runs: int) -> None:
        """Print how much faster two processes, and two workers of dask, are than one."""
        sample = SAMPLES[name]
        files = self.files(sample, sample.rate)
        ratios: dict[str, list[float]] = {"--workers 2 (goal 1.7)": [], "dask, 2 (goal 1.5)": []}
        with cluster_of_two() as address:
            for _ in range(runs):
                one = self.convert(files)[0]
                ratios["--workers 2 (goal 1.7)"].append(one / self.convert(files, workers=2)[0])
                ratios["dask, 2 (goal 1.5)"].append(one / self.convert(files, cluster=address)[0])
        for what, found in ratios.items():
            print(f"{name:10}{what:28}{statistics.median(found):8.2f}")


@contextmanager
def cluster_of_two() -> Iterator[str]:
    """Address of a scheduler with two workers of one thread each on this machine."""
    distributed = importlib.import_module("distributed")  # an extra, without types
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None
    ) as cluster:
        yield cluster.scheduler_address


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="?", type=Path, default=Path("../shared/data"))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--no-memory", action="store_true", help="leave out the long runs")
    arguments = parser.parse_args()
    if not arguments.data.is_dir():
        print(f"there is no {arguments.data}: nothing is measured")
        return
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(arguments.data.resolve(), Path(scratch))
        print(f"{'one core':42}{'bare uproot':>14} {'manyscale':>13} {'ratio (goal 0.5)':>18}")
        for name in SAMPLES:
            bench.against_bare(name, arguments.runs)
        print("\ntwo workers against one")
        for name in SAMPLES:
            bench.two_against_one(name, arguments.runs)
        if not arguments.no_memory:
            print("\npeak memory (goal: within 10%)")
            for name in SAMPLES:
                bench.memory(name)


if __name__ == "__main__":
    main()
