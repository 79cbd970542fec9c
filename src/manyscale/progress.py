"""What long work tells: log lines, and a bar while it runs.

The package logs to the logger "manyscale" and stays silent otherwise, as a library should. The commands
call `show`, and from then on lines and bars go to stderr: bars on a terminal, plain lines elsewhere.
"""

import importlib
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from manyscale.errors import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

__all__ = ["LOG", "Bar", "is_shown", "progress_bar", "show", "shown"]

LOG = logging.getLogger("manyscale")

# Seconds between two lines where there is no terminal to draw a bar on.
_INTERVAL = 10.0
# The same in a notebook, where the line before is overwritten.
_REDRAWN = 0.5


class _Lines(logging.Handler):
    """Writes log lines to stderr through rich, which keeps a running bar below them."""

    def __init__(self, console: "Console") -> None:
        super().__init__()
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        line = printable(record.getMessage())
        line = f"warning: {line}" if record.levelno >= logging.WARNING else line
        self.console.print(line, markup=False, soft_wrap=True)


def _console() -> "Console | None":
    """Where lines go; None where nothing is shown."""
    return next((h.console for h in LOG.handlers if isinstance(h, _Lines)), None)


def is_shown() -> bool:
    """Whether lines and bars are shown, as in a command."""
    return _console() is not None


def show() -> None:
    """Show log lines and bars on stderr from now on."""
    # rich takes as long to import as the rest of the command line together.
    from rich.console import Console  # noqa: PLC0415

    if not is_shown():
        LOG.addHandler(_Lines(Console(stderr=True, highlight=False)))
        LOG.setLevel(logging.INFO)
        LOG.propagate = False


@contextmanager
def shown(*, wanted: bool = True) -> Iterator[None]:
    """Show log lines and bars while a block runs, where wanted, and as before after it."""
    before = list(LOG.handlers), LOG.level, LOG.propagate
    if wanted:
        show()
    try:
        yield
    finally:
        LOG.handlers[:], LOG.level, LOG.propagate = before


class Bar:
    """One piece of long work; see `progress_bar`."""

    def __init__(self, what: str, total: int, unit: str, done: int) -> None:
        self.what, self.total, self.unit = what, total, unit
        self.done = self._first = done
        self.note = ""
        self.began = self._last_line = time.monotonic()
        self._bar: Progress | None = None
        self._cell: Any = None
        console = _console()
        if console is not None and console.is_terminal:
            self._bar = _rich_bar(console)
            self._bar.start()
            self._task = self._bar.add_task(what, total=total, completed=done, rate="", note="")
        elif console is not None and console.is_jupyter:
            # One line below the cell, written anew; rich's bars need ipywidgets there.
            notebook = importlib.import_module("IPython.display")
            self._cell = notebook.display({"text/plain": what}, raw=True, display_id=True)
        else:
            LOG.info("%s: %d %s%s", what, total, unit, f", {done} are done already" if done else "")

    def advance(self, units: int, note: str = "") -> None:
        """Say that so many more units are done, and what else is worth showing."""
        self.done += units
        self.note = note or self.note
        now = time.monotonic()
        rate = (self.done - self._first) / max(now - self.began, 1e-9)
        if self._bar is not None:
            self._bar.update(
                self._task,
                completed=self.done,
                rate=f"{rate:.0f} {self.unit}/s",
                note=self.note,
            )
        elif note or now - self._last_line > (_INTERVAL if self._cell is None else _REDRAWN):
            self._last_line = now
            left = (self.total - self.done) / rate if rate else 0.0
            line = f"{self.what}: {self.done} of {self.total} {self.unit}, {rate:.0f} per second, "
            line += f"{left:.0f} s left" + (f", {self.note}" if self.note else "")
            if self._cell is None:
                LOG.info("%s", line)
            else:
                self._cell.update({"text/plain": line}, raw=True)

    def close(self) -> None:
        """Give the terminal back."""
        if self._bar is not None:
            self._bar.stop()
        if self._cell is not None:
            self._cell.update({"text/plain": ""}, raw=True)


@contextmanager
def progress_bar(what: str, total: int, unit: str, done: int = 0) -> Iterator[Bar]:
    """Show how far some work of `total` units is, of which `done` were there already.

    Leaves one line of what was done; where the work raises, none.
    """
    bar = Bar(what, total, unit, done)
    try:
        yield bar
    finally:
        bar.close()
    seconds = time.monotonic() - bar.began
    note = f"; {bar.note}" if bar.note else ""
    LOG.info("%s: %d %s in %.1f s%s", what, bar.done, unit, seconds, note)


def _rich_bar(console: "Console") -> "Progress":
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        transient=True,
    )
