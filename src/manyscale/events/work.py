"""Units of work: which make the events of a card, and how units of any kind are done by workers.

Bounded memory, a retry, clear errors, a prompt end. The libraries that generate are not imported here,
so that a plan can say which of them is missing.
"""

import hashlib
import importlib
import importlib.util
import json
import math
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from manyscale.errors import CardError, DataError, ManyscaleError, MissingExtraError
from manyscale.events.settings import GenerateSettings

__all__ = [
    "LARGEST_SEED",
    "SHARE",
    "OneByOne",
    "ProcessPool",
    "Unit",
    "in_order",
    "open_executor",
    "plan",
    "run_units",
    "usable_cores",
]

#: Pythia's largest seed; 0 would make it take the time of day.
LARGEST_SEED = 900_000_000
_LIBRARIES = ("pythia8mc", "fastjet", "awkward")
# Units that a message names.
_NAMED = 5
# Seconds that a scheduler has to answer.
_PATIENCE = 10
# Where Linux says in which control groups this process is, and what these grant.
_OWN_GROUPS = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")
#: Environment variable of a process that is to use so many cores only, its share of the machine.
SHARE = "MANYSCALE_CORES"

AnyUnit = TypeVar("AnyUnit")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Unit:
    """A share of the events of one process, made in one go from its own seed.

    A unit of fewer events is the beginning of the same unit with more: a longer run repeats a
    shorter one and goes on.

    Attributes
    ----------
    process, index
        Which one: units of a process count from 0.
    events
        Number to be generated.
    seed
        Of Pythia and the detector; follows from the card's seed, process and index alone.
    identity
        Hash of all that the events follow from: the seed, the section `generate` of the card
        without the number of events, the settings of Pythia that it means, process and index.
    """

    process: str
    index: int
    events: int
    seed: int
    identity: str

    def __str__(self) -> str:
        """Name the unit in messages."""
        return f"unit {self.index} of {self.process}"


def plan(settings: GenerateSettings, seed: int) -> list[Unit]:
    """Divide the events of each class over its processes by their shares, and into units.

    All units of a process have `unit_events` events, but the last, which may have fewer.

    Parameters
    ----------
    settings
        The section `generate` of the card.
    seed
        The card's seed.

    Raises
    ------
    MissingExtraError
        Where the libraries that generate are not installed.
    """
    for library in _LIBRARIES:
        if importlib.util.find_spec(library) is None:
            raise MissingExtraError(library, "generate")
    units = []
    for event_class in ("signal", "background"):
        names = [name for name in settings.processes if settings.event_class(name) == event_class]
        total = sum(settings.share(name) for name in names)
        shares, given = 0.0, 0
        for process in names:
            # Rounded sums, so that the events of a class add up to what is asked.
            shares += settings.share(process)
            until = round(settings.events * shares / total)
            events, given = until - given, until
            lines = settings.pythia_lines(process)
            for index, first in enumerate(range(0, events, settings.unit_events)):
                units.append(
                    Unit(
                        process,
                        index,
                        min(settings.unit_events, events - first),
                        # Another for every unit of a process.
                        1 + (int(_digest(seed, process), 16) + index) % LARGEST_SEED,
                        _digest(settings.section, lines, seed, process, index),
                    )
                )
    return units


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def usable_cores() -> int:
    """Cores that this process may use: a batch system or a container may grant fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    cores = min(cores, int(os.environ.get(SHARE, cores)))
    try:
        own = _OWN_GROUPS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return cores
    # A limit on time (docker --cpus) hides no core. That of each group above binds, too.
    groups = [_GROUPS / line.rpartition(":")[2].lstrip("/") for line in own]
    for folder in {folder for group in groups for folder in (group, *group.parents)}:
        with suppress(OSError, ValueError):
            granted, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
            cores = min(cores, max(1, math.ceil(int(granted) / int(period))))
    return cores


def run_units(
    task: Callable[[AnyUnit], Result], units: Sequence[AnyUnit], executor: Executor, in_flight: int
) -> Iterator[tuple[AnyUnit, Result]]:
    """Do the units and yield each with its result as it completes.

    A unit that fails is done once more; if it fails again, the others are still completed first.

    Parameters
    ----------
    task
        What is done with a unit; it and the units can be pickled.
    units
        `str()` of a unit names it in messages.
    executor
        Where the units are done. Left early, those handed over are the executor's to drop: see
        `open_executor`.
    in_flight
        Units handed to the executor at a time, and so results held at most: twice the workers keep
        them busy.

    Raises
    ------
    CardError
        At once, where the task raises it: every unit would.
    DataError
        At the end, naming the units that failed twice; at once where a worker process has died.
    """
    waiting = iter(units)
    running: dict[Future[Result], tuple[AnyUnit, bool]] = {}
    failed: list[tuple[AnyUnit, BaseException]] = []
    with _dead_workers_named():
        while True:
            while len(running) < in_flight and (unit := next(waiting, None)) is not None:
                running[executor.submit(task, unit)] = unit, False
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                unit, again = running.pop(future)
                error = future.exception()
                if error is None:
                    yield unit, future.result()
                elif isinstance(error, CardError | BrokenExecutor):
                    raise error
                elif again:
                    failed.append((unit, error))
                else:
                    running[executor.submit(task, unit)] = unit, True
    if failed:
        raise DataError(_describe(failed, len(units))) from failed[0][1]


def in_order(
    task: Callable[[AnyUnit], Result], units: Iterable[AnyUnit], executor: Executor, in_flight: int
) -> Iterator[Result]:
    """Do the units as `run_units`, each once, and yield the results in their order.

    Raises
    ------
    DataError
        Where a worker process has died. What the task raises comes as it is, and at once.
    """
    running: deque[Future[Result]] = deque()
    with _dead_workers_named():
        for unit in units:
            running.append(executor.submit(task, unit))
            if len(running) == in_flight:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()


@contextmanager
def _dead_workers_named() -> Iterator[None]:
    try:
        yield
    except BrokenExecutor as error:
        raise DataError(
            "a worker process has died; where nothing is said above, it was killed, perhaps for "
            "lack of memory: run again with fewer workers"
        ) from error


def _describe(failed: Sequence[tuple[object, BaseException]], total: int) -> str:
    faults = []
    for unit, error in failed[:_NAMED]:
        kind = "" if isinstance(error, ManyscaleError) else f"{type(error).__name__}: "
        faults.append(f"{unit}: {kind}{error}")
    if len(failed) > _NAMED:
        faults.append(f"and {len(failed) - _NAMED} more")
    return f"{len(failed)} of {total} units failed, each twice: {'; '.join(faults)}"


class ProcessPool(ProcessPoolExecutor):
    """Worker processes that start clean, use one thread each, and leave Ctrl-C to their parent.

    Left with an exception (Ctrl-C is one), its `with` block ends the workers at once instead of
    waiting for their units. Workers whose parent is killed end too.

    Parameters
    ----------
    workers
        Number of processes.
    """

    def __init__(self, workers: int) -> None:
        # Forked workers would inherit the locks of torch's threads.
        context = multiprocessing.get_context("spawn")
        super().__init__(workers, mp_context=context, initializer=_prepare_worker)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:  # noqa: ANN401
        """Submit a call; a worker that is started for it inherits that these are blocked."""
        ours = {signal.SIGINT, signal.SIGUSR1}
        before = signal.pthread_sigmask(signal.SIG_BLOCK, ours)
        try:
            return super().submit(fn, *args, **kwargs)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        if kind is not None:
            workers = list((self._processes or {}).values())
            self.shutdown(wait=False, cancel_futures=True)
            for worker in workers:
                worker.terminate()
        return super().__exit__(kind, error, traceback)


class OneByOne(Executor):
    """Does each call at once, here."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:  # noqa: ANN401
        """Make the call."""
        future = Future[Any]()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001  # it is the caller's, as of any executor
            future.set_exception(error)
        return future


@contextmanager
def open_executor(workers: int, cluster: str | None) -> Iterator[tuple[Executor, int]]:
    """Open where units are done, with the number to hand over at a time.

    Parameters
    ----------
    workers
        Processes on this machine; with one, the work is done here.
    cluster
        Address of a dask scheduler, whose workers are then used; they see the same files.

    Raises
    ------
    DataError
        Where no scheduler answers at the address, or it has no workers.
    MissingExtraError
        Where dask.distributed is not installed.
    """
    if cluster is None:
        if workers == 1:
            yield OneByOne(), 1
        else:
            with ProcessPool(workers) as pool:
                yield pool, 2 * workers
        return
    try:
        distributed = importlib.import_module("distributed")  # an extra, without types
    except ModuleNotFoundError:
        raise MissingExtraError("distributed", "cluster") from None
    try:
        client = distributed.Client(cluster, timeout=_PATIENCE)
    except (OSError, ValueError, TimeoutError) as error:
        raise DataError(
            f"--cluster {cluster}: no dask scheduler answers there; is it running, and is the address "
            "as it printed it, tcp://host:8786?"
        ) from error
    with client:
        threads = sum(client.nthreads().values())
        if not threads:
            raise DataError(f"--cluster {cluster}: the scheduler there has no workers")
        yield client.get_executor(pure=False, retries=0), 2 * threads


def _prepare_worker() -> None:
    def end_with_parent() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    # Read by the libraries that a worker imports with its first unit.
    os.environ["OMP_NUM_THREADS"] = os.environ[SHARE] = "1"
    threading.Thread(target=end_with_parent, daemon=True).start()
