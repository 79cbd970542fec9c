"""Which units of work make the events that a card asks for."""

import hashlib
import importlib.util
import json
from collections.abc import Iterator
from dataclasses import dataclass

from manyscale.errors import MissingExtraError
from manyscale.events.settings import GenerateSettings

__all__ = ["LARGEST_SEED", "Unit", "plan"]

#: Pythia's largest seed; 0 would make it take the time of day.
LARGEST_SEED = 900_000_000
_LIBRARIES = ("pythia8mc", "fastjet", "awkward")


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
    section = json.dumps(
        settings.model_dump(mode="json", by_alias=True, exclude={"events"}), sort_keys=True
    )
    return [
        Unit(
            process,
            index,
            min(settings.unit_events, events - first),
            _seed(seed, process, index),
            _digest(section, settings.pythia_lines(process), seed, process, index),
        )
        for process, events in _events(settings)
        for index, first in enumerate(range(0, events, settings.unit_events))
    ]


def _events(settings: GenerateSettings) -> Iterator[tuple[str, int]]:
    """Each process and how many events of it; those of a class add up to what is asked."""
    for event_class in ("signal", "background"):
        names = [name for name in settings.processes if settings.event_class(name) == event_class]
        total = sum(settings.share(name) for name in names)
        shares, given = 0.0, 0
        for name in names:
            shares += settings.share(name)
            until = round(settings.events * shares / total)
            yield name, until - given
            given = until


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _seed(seed: int, process: str, index: int) -> int:
    """One of Pythia's seeds, 1 to 9e8, another for every unit of a process."""
    return 1 + (int(_digest(seed, process), 16) + index) % LARGEST_SEED
