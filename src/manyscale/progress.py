"""How long work tells that it goes on, without knowing who listens."""

from typing import Protocol

__all__ = ["Progress", "Silent"]


class Progress(Protocol):
    """Listens to long work: a bar on a terminal, plain lines in a log, or nothing."""

    def start(self, what: str, total: int, unit: str, done: int = 0) -> None:
        """Begin some work of `total` units, of which `done` were there already."""

    def advance(self, units: int, note: str = "") -> None:
        """Tell that so many more units are done, and what else is worth showing."""

    def stop(self) -> None:
        """End the work begun last."""

    def say(self, line: str) -> None:
        """Tell a line that should stay."""


class Silent:
    """A listener that shows nothing."""

    def start(self, what: str, total: int, unit: str, done: int = 0) -> None:
        """Show nothing."""

    def advance(self, units: int, note: str = "") -> None:
        """Show nothing."""

    def stop(self) -> None:
        """Show nothing."""

    def say(self, line: str) -> None:
        """Show nothing."""
