"""Signals by which a user or a batch system ends a command: Ctrl-C, SIGTERM, SIGUSR1."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["ENDING", "RESUMABLE", "held", "obey"]

#: Exit code of a command that SIGTERM or SIGUSR1 has ended: the same one, given again, goes on;
#: EX_TEMPFAIL of sysexits.h.
RESUMABLE = 75

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class _EndedError(KeyboardInterrupt):
    """Ended by SIGTERM or SIGUSR1. Where `exec` meets a plain one, Python's exit code is that of SIGINT."""


def obey() -> list[int]:
    """From now on SIGTERM and SIGUSR1 end this process as Ctrl-C does; return the list of those.

    One is enough: others are ignored, so that what cleans up comes to its end.
    """
    came: list[int] = []

    def end(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - a handler's arguments
        if not came:
            came.append(number)
            raise _EndedError

    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, end)
    return came


@contextmanager
def held() -> Iterator[list[int]]:
    """Hold signals back while nothing may be left half done, and let them act afterwards.

    Yields
    ------
    Those that have come so far. A second Ctrl-C acts at once.
    """
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield came
        return

    def note(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - a handler's arguments
        if number == signal.SIGINT and number in came:
            raise KeyboardInterrupt
        came.append(number)

    before = {number: signal.signal(number, note) for number in ENDING}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if came:
            signal.raise_signal(came[0])
