"""Which processes the events of files are of, and what the user says of these."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from manyscale.data.convert import describe_process, read_books
from manyscale.data.plans import Plan, Stated, find_plans, stated_of_parts, with_stated
from manyscale.data.schema import Process
from manyscale.errors import DataError
from manyscale.events.files.convert_settings import ConvertSettings
from manyscale.events.files.source import THE_PROCESS
from manyscale.events.settings import GenerateSettings, ProcessSettings
from manyscale.runs.request import Request

__all__ = ["FileProcesses"]

# What is the same for all events of a process.
_OF_ALL_EVENTS = {
    "cross_section": "cross section [pb]",
    "k_factor": "k-factor",
    "filter_efficiency": "filter efficiency",
}


class FileProcesses:
    """The processes of one call.

    Parameters
    ----------
    folder
        The dataset.
    request
        What the user says on the command line.
    generate, convert
        Sections of the card: what it says of processes by name, and which are told apart in a file.

    Attributes
    ----------
    known
        The processes as far as they are known, by the reader's names for them.

    Raises
    ------
    DataError
        Where it is not said what the events are, or said in two ways.
    """

    def __init__(
        self, folder: Path, request: Request, generate: GenerateSettings, convert: ConvertSettings
    ) -> None:
        self._folder = folder
        self._request = request
        self._generate = generate
        self._of_file = convert.process
        self._books = read_books(folder)
        self.known = self._told_apart(convert) if convert.process else self._alone()

    @property
    def names(self) -> list[str]:
        """Of the processes, as the dataset has them."""
        return [process.name for process in self.known.values()]

    @property
    def lines(self) -> tuple[str, ...]:
        """Lines of Pythia for the shower of hard events: those of the card's process alone."""
        stated = self._generate.processes.get(self.names[0]) if len(self.names) == 1 else None
        return stated.pythia if stated is not None else ()

    def state(self, plans: Sequence[Plan]) -> list[Plan]:
        """Plans with what the user says now in the place of what was said before.

        A sum of weights is that of all the files together: each plan has its part by size.

        Raises
        ------
        DataError
            Where other events of a process have another cross section.
        """
        size = sum(plan.size for plan in plans)
        stated = {name: self._stated(name) for name in self.names}
        self._check_others(stated, {plan.name for plan in plans})
        return [
            plan.model_copy(
                update={
                    "stated": {
                        name: _updated(plan.stated.get(name, Stated()), now, plan.size / size)
                        for name, now in stated.items()
                    }
                }
            )
            for plan in plans
        ]

    def unknown(self, process: Process) -> list[str]:
        """Say what is not known of a process, and what makes it known."""
        several = len(self._of_file) > 1
        missing = {
            f"the cross section of {process.name}": (process.cross_section, "--cross-section"),
            f"the sum of weights of all generated events of {process.name}": (
                process.sum_weights,
                "--sum-weights",
            ),
        }
        return [
            f"{what} is unknown, so no yields: "
            f"{'convert.process of the card' if several else option} says it"
            for what, (value, option) in missing.items()
            if value is None
        ]

    def _alone(self) -> dict[str, Process]:
        name, label = self._request.named()
        return {THE_PROCESS: describe_process(name, label, None, list(self._books.values()))}

    def _told_apart(self, convert: ConvertSettings) -> dict[str, Process]:
        request = self._request
        if request.label is not None or request.process is not None:
            raise DataError(
                "the card's convert.process says what the events are: leave out --label and --process"
            )
        if len(convert.process) > 1 and (request.cross_section or request.sum_weights):
            raise DataError(
                "the card's convert.process names several processes, to which --cross-section and "
                "--sum-weights cannot all apply: say them there, as in "
                '{ttbar: {where: "is_ttbar == 1", cross_section: 831, sum_weights: 1.2e9}}'
            )
        books = list(self._books.values())
        return {
            name: describe_process(name, convert.event_class(name), None, books)
            for name in convert.process
        }

    def _of_card(self, process: str) -> ProcessSettings | None:
        """Return what the card itself says of a process, not what a card has by default."""
        if "processes" not in self._generate.model_fields_set:
            return None
        return self._generate.processes.get(process)

    def _stated(self, process: str) -> Stated:
        """Return what the user says of a process: on the command line, or in the card."""
        cross_section, sum_weights = self._request.cross_section, self._request.sum_weights
        in_file = self._of_file.get(process)
        if in_file is not None:
            cross_section = cross_section or in_file.cross_section
            sum_weights = sum_weights or in_file.sum_weights
        card = self._of_card(process)
        if card is None:
            return Stated(cross_section=cross_section, sum_weights=sum_weights)
        return Stated(
            cross_section=cross_section or card.cross_section,
            sum_weights=sum_weights,
            k_factor=card.k_factor,
            filter_efficiency=card.filter_efficiency,
        )

    def _check_others(self, stated: Mapping[str, Stated], ours: set[str]) -> None:
        """Refuse what other events of the process do not have."""
        every = find_plans(self._folder)
        said_of = stated_of_parts(every)
        own = {part for plan in every if plan.name in ours for u in plan.units for part in u.parts}
        for path, book in self._books.items():
            now = stated.get(book.process.name)
            if now is None or path.stem in own:
                continue
            said, share = said_of.get(path.stem, ({}, 0.0))
            process = with_stated(book.process, said.get(book.process.name), share)
            for key, what in _OF_ALL_EVENTS.items():
                known, wanted = getattr(process, key), getattr(now, key)
                if None not in {known, wanted} and known != wanted:
                    raise DataError(
                        f"{self._folder} holds other events of the process '{process.name}' with a "
                        f"{what} of {known!r}, not {wanted!r}: give these another name with --process"
                    )


def _updated(before: Stated, now: Stated, share: float) -> Stated:
    """What is said now, and before where nothing is; of a sum of weights the share."""
    said = now.model_dump(exclude_none=True)
    if now.sum_weights is not None:
        said["sum_weights"] = now.sum_weights * share
    return before.model_copy(update=said)
