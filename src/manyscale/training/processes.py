"""Training processes on this machine: started together, watched, and ended together."""

import multiprocessing
import os
import signal
import socket
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import FrameType

import torch

from manyscale.errors import ManyscaleError, RunError
from manyscale.progress import Progress, Silent
from manyscale.training.collective import LostProcessError

__all__ = ["run_processes"]

Work = Callable[[Progress], None]

# Seconds that the cause of a failure may be younger than its consequences; and that an end may take.
_PATIENCE = 5.0
_END = 15.0


def run_processes(work: Work, count: int, progress: Progress) -> None:
    """Do some work in several processes that train together, and wait for its end.

    They find each other as those of torchrun do. Where one fails the others are ended.

    Parameters
    ----------
    work
        What each process calls; can be pickled. The first is given what `progress` is, the others
        a silent one.
    count
        Number of processes.

    Raises
    ------
    ManyscaleError
        As a process raises it.
    RunError
        Where a process has died: says which, and how.
    """
    context = multiprocessing.get_context("spawn")
    port = _free_port()
    started: list[_Started] = []
    try:
        for rank in range(count):
            inbox, outbox = context.Pipe(duplex=False)
            environment = {
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(count),
                "LOCAL_WORLD_SIZE": str(count),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
            }
            process = context.Process(
                target=_work, args=(work, environment, outbox), name=f"training-{rank}"
            )
            process.start()
            # Only the process may hold this end, or its end would not be noticed.
            outbox.close()
            started.append(_Started(rank, process, inbox))
        _watch(started, progress)
    finally:
        _end(started, progress)


@dataclass
class _Started:
    """A process as its parent sees it."""

    rank: int
    process: SpawnProcess
    inbox: Connection
    failure: ManyscaleError | None = None
    over: bool = False

    def listen(self, progress: Progress) -> None:
        """Pass on what the process has told so far; note how it ended, if it has."""
        try:
            while not self.inbox.closed and self.inbox.poll():
                message = self.inbox.recv()
                if isinstance(message, ManyscaleError):
                    self.failure = message
                else:
                    name, arguments = message
                    getattr(progress, name)(*arguments)
        except (EOFError, OSError):
            self.inbox.close()
        if not self.over and self.process.exitcode is not None:
            self.over = True
            if self.process.exitcode and self.failure is None:
                self.failure = RunError(_death(self.rank, self.process.exitcode))


def _death(rank: int, code: int) -> str:
    if code < 0:
        how = f"was ended by {signal.Signals(-code).name}"
        how += ", perhaps for lack of memory" if -code == signal.SIGKILL else ""
    else:
        how = f"ended with exit code {code}"
    return (
        f"training process {rank} (counted from 0) {how}; the others were ended too. --resume goes "
        f"on from the last epoch"
    )


def _watch(started: Sequence[_Started], progress: Progress) -> None:
    """Wait until all are done, or one has failed."""
    deadline = float("inf")
    while running := [one for one in started if not one.over]:
        remaining = max(0.0, deadline - time.monotonic())
        handles = [one.process.sentinel for one in running]
        inboxes = [one.inbox for one in running if not one.inbox.closed]
        wait([*handles, *inboxes], timeout=min(remaining, 1.0))
        for one in running:
            one.listen(progress)
        failures = [one.failure for one in started if one.failure is not None]
        # Who has lost another only tells that there is a cause.
        causes = [failure for failure in failures if not isinstance(failure, LostProcessError)]
        if causes or (failures and remaining == 0.0):
            raise (causes or failures)[0]
        if failures and deadline == float("inf"):
            deadline = time.monotonic() + _PATIENCE
    failures = [one.failure for one in started if one.failure is not None]
    if failures:
        raise failures[0]


def _end(started: Sequence[_Started], progress: Progress) -> None:
    """End the processes that still run: first asked to, then killed."""
    for one in started:
        one.process.terminate()
    deadline = time.monotonic() + _END
    while any(one.process.is_alive() for one in started) and time.monotonic() < deadline:
        wait([one.process.sentinel for one in started if one.process.is_alive()], timeout=0.1)
        for one in started:
            one.listen(progress)
    for one in started:
        one.process.kill()
        one.process.join()
        one.inbox.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class _Told:
    """Progress of the first process, told to its parent."""

    def __init__(self, outbox: Connection) -> None:
        self._outbox = outbox

    def start(self, what: str, total: int, unit: str, done: int = 0) -> None:
        self._outbox.send(("start", (what, total, unit, done)))

    def advance(self, units: int, note: str = "") -> None:
        self._outbox.send(("advance", (units, note)))

    def stop(self) -> None:
        self._outbox.send(("stop", ()))

    def say(self, line: str) -> None:
        self._outbox.send(("say", (line,)))


def _work(work: Work, environment: dict[str, str], outbox: Connection) -> None:
    """What each process does."""
    # Ctrl-C is for the parent, which then asks all of them to end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _interrupt)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ.update(environment)
    if "OMP_NUM_THREADS" not in os.environ:
        # Each would use all cores, and they would wait for each other.
        torch.set_num_threads(max(1, torch.get_num_threads() // int(environment["WORLD_SIZE"])))
    try:
        work(_Told(outbox) if environment["RANK"] == "0" else Silent())
    except KeyboardInterrupt:
        pass
    except ManyscaleError as error:
        _tell(error, outbox)
    except Exception as error:  # noqa: BLE001 - a fault of ours, for the parent to raise
        _tell(RunError(f"{type(error).__name__}: {error}"), outbox)
    else:
        return
    # An orderly end would wait for processes that are there no more.
    os._exit(1)


def _tell(error: ManyscaleError, outbox: Connection) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the whole message, or the parent waits for it
    error.add_note(traceback.format_exc())  # --debug shows it
    outbox.send(error)


def _interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - a handler's arguments
    raise KeyboardInterrupt


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
