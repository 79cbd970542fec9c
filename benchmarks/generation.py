"""Rate of generation, with detector and jets, against bare Pythia; and of two processes against one.

All events of the default mix with multiparton interactions; start-up is not counted. Medians of
runs that alternate; the ratio is taken within each run. The second table needs two cores that
nothing else uses.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from functools import partial

from manyscale.events import pythia
from manyscale.events.generate import run_unit
from manyscale.events.settings import GenerateSettings
from manyscale.events.work import ProcessPool, Unit, plan

BATCH = 250


def bare_seconds(settings: GenerateSettings, unit: Unit) -> float:
    """CPU time in which Pythia makes the events of a unit, and nothing else is done."""
    generator = pythia.start(unit.process, settings.pythia_lines(unit.process), unit.seed)
    begin = time.process_time()
    for first in range(0, unit.events, BATCH):
        generator.nextBatch(min(BATCH, unit.events - first))
    return time.process_time() - begin


def our_seconds(
    settings: GenerateSettings, unit: Unit, clock: Callable[[], float] = time.process_time
) -> float:
    """Time in which the same events are generated, reconstructed and selected."""
    generator = pythia.start(unit.process, settings.pythia_lines(unit.process), unit.seed)
    begin = clock()
    run_unit(generator, settings, unit)
    return clock() - begin


def side_by_side(
    executor: Executor, processes: int, settings: GenerateSettings, units: Sequence[Unit]
) -> float:
    """Events per second of so many processes, each with a copy of every unit at the same time."""
    seconds = 0.0
    task = partial(our_seconds, settings, clock=time.perf_counter)
    for unit in units:
        copies = [executor.submit(task, unit) for _ in range(processes)]
        seconds += max(copy.result() for copy in copies)
    return processes * sum(unit.events for unit in units) / seconds


def against_bare(settings: GenerateSettings, units: Sequence[Unit], runs: int) -> None:
    """Print a line a process and one for all of them."""
    bare: dict[Unit, list[float]] = {unit: [] for unit in units}
    ours: dict[Unit, list[float]] = {unit: [] for unit in units}
    for _ in range(runs):
        for unit in units:
            bare[unit].append(bare_seconds(settings, unit))
            ours[unit].append(our_seconds(settings, unit))
    print(f"{'one core':24}{'bare Pythia':>14}{'manyscale':>14}{'ratio':>8}")
    groups = {unit.process: [unit] for unit in units} | {"all (goal 0.85)": list(units)}
    for name, group in groups.items():
        pairs = [
            (sum(bare[unit][run] for unit in group), sum(ours[unit][run] for unit in group))
            for run in range(runs)
        ]
        total = sum(unit.events for unit in group)
        rates = [statistics.median(total / pair[side] for pair in pairs) for side in (0, 1)]
        ratio = statistics.median(theirs / own for theirs, own in pairs)
        print(f"{name:24}{rates[0]:10.1f} /s {rates[1]:10.1f} /s {ratio:7.3f}")


def two_against_one(settings: GenerateSettings, units: Sequence[Unit], runs: int) -> None:
    """Print the rates of one and of two processes."""
    with ProcessPool(1) as one, ProcessPool(2) as two:
        rates = [
            (side_by_side(one, 1, settings, units), side_by_side(two, 2, settings, units))
            for _ in range(runs + 1)
        ]
    # The first run is not counted: the workers import what they need.
    del rates[0]
    single, double = (statistics.median(rate[side] for rate in rates) for side in (0, 1))
    ratio = statistics.median(rate[1] / rate[0] for rate in rates)
    print(f"{'processes':24}{'one':>14}{'two':>14}{'ratio':>8}")
    print(f"{'all (goal 1.8)':24}{single:10.1f} /s {double:10.1f} /s {ratio:7.3f}")


def main() -> None:
    """Measure and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=200, help="of each class and run")
    parser.add_argument("--runs", type=int, default=5)
    chosen = parser.parse_args()
    settings = GenerateSettings(events=chosen.events, unit_events=chosen.events)
    units = plan(settings, seed=1)
    against_bare(settings, units, chosen.runs)
    two_against_one(settings, units, chosen.runs)


if __name__ == "__main__":
    main()
