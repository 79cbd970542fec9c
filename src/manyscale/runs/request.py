"""What a user says of the events of some files, and what is said back."""

from dataclasses import dataclass

from manyscale.data.schema import Label, Process
from manyscale.errors import DataError
from manyscale.events.processes import NAMED_PROCESSES

__all__ = ["Added", "Request"]


@dataclass(frozen=True)
class Added:
    """What was added to a dataset: in words, and the processes with their cutflows."""

    said: str
    processes: tuple[Process, ...] = ()


@dataclass(frozen=True)
class Request:
    """What a user says of the events of some files.

    Attributes
    ----------
    label, process
        Class of the events, and name of their process (by default the class). Of a named process
        (hh4b, qcd, ...) the class is known.
    cross_section, sum_weights
        In pb; and the sum of the weights of all events that were generated for these files.
        Unknown where neither said here nor by the files.
    weights
        Branch or expression of the event weights, in the place of the format's own.
    """

    label: Label | None = None
    process: str | None = None
    cross_section: float | None = None
    sum_weights: float | None = None
    weights: str | None = None

    def named(self) -> tuple[str, Label]:
        """Name and class of the process that all the events are of.

        Raises
        ------
        DataError
            Where neither a class nor a process whose class is known is given.
        """
        if self.label is not None:
            return self.process or self.label, self.label
        classes: dict[str, Label] = {"signal": "signal", "background": "background"}
        classes |= {name: named.event_class for name, named in NAMED_PROCESSES.items()}
        if self.process in classes:
            return self.process, classes[self.process]
        known = ", ".join(NAMED_PROCESSES)
        if self.process is not None:
            raise DataError(
                f"say what the events are: the class of '{self.process}' is not known, as those of "
                f"{known} are; add --label signal or --label background"
            )
        raise DataError(
            "say what the events are: --label signal or --label background, or --process with one "
            f"of {known}"
        )

    def options(self) -> list[str]:
        """Words of the command line that say the same."""
        said = {
            "--label": self.label,
            "--process": self.process,
            "--cross-section": self.cross_section,
            "--weights": self.weights,
            "--sum-weights": self.sum_weights,
        }
        return [
            word
            for option, value in said.items()
            if value is not None
            for word in (option, str(value))
        ]
