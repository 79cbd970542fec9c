"""One unit of generated events to one part of a dataset; what a worker process does.

Kept apart from `production`, so that workers need not import torch.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from manyscale.data.parts import part_path, read_book, write_events
from manyscale.data.plans import Plan, PlannedUnit
from manyscale.data.records import pack_records
from manyscale.data.schema import CutflowStep, Process
from manyscale.errors import DataError
from manyscale.events.bookkeeping import Bookkeeping
from manyscale.events.generation import generate_unit
from manyscale.events.plan import Unit
from manyscale.events.record import layouts
from manyscale.events.settings import GenerateSettings
from manyscale.runs.streams import collision_schema

__all__ = ["MakePart", "generation_plan", "is_made", "part_name"]


def part_name(unit: Unit) -> str:
    """Name of a unit's part in the dataset."""
    return f"{unit.process}-{unit.index:06d}"


def is_made(folder: Path, unit: Unit) -> bool:
    """Whether the part of a unit is there, with at least the events asked for.

    Raises
    ------
    DataError
        Where a part of that name was made with other settings or another seed.
    """
    path = part_path(folder, part_name(unit))
    if not path.is_file():
        return False
    book, _ = read_book(path)
    if book.identity != unit.identity:
        raise DataError(
            f"{folder} holds events made with other settings or another seed ({path.name}): name "
            f"another folder"
        )
    return book.process.generated >= unit.events


def generation_plan(
    settings: GenerateSettings, seed: int, folder: Path, units: Sequence[Unit]
) -> Plan:
    """What is to be there; each unit counts by itself, so that fewer events are a dataset, too."""
    made = settings.model_dump_json(by_alias=True, exclude={"events"})
    name = hashlib.sha256(f"{made}\n{seed}".encode()).hexdigest()[:16]
    return Plan(
        name=f"generate-{name}",
        again=f"manyscale generate CARD --out {folder}",
        whole=False,
        units=tuple(
            PlannedUnit(parts=(part_name(unit),), what=f"{unit.process}, its unit {unit.index}")
            for unit in units
        ),
    )


@dataclass(frozen=True)
class MakePart:
    """Makes the part of a unit; can be sent to another process.

    Attributes
    ----------
    settings, seed
        The section `generate` of the card, and its seed.
    folder
        The dataset.
    """

    settings: GenerateSettings
    seed: int
    folder: Path

    def __call__(self, unit: Unit) -> int:
        """Generate a unit and write its part; return the number of events that passed."""
        result = generate_unit(self.settings, unit)
        schema = collision_schema(layouts(self.settings.streams), self.settings.weights)
        label = self.settings.event_class(unit.process)
        packed = pack_records(
            result.records,
            schema.streams,
            identity=unit.identity,
            label=1 if label == "signal" else 0,
            weights=self.settings.weights,
        )
        write_events(
            self.folder,
            part_name(unit),
            packed,
            schema,
            self._process(unit, result.bookkeeping),
            unit.identity,
            {"command": "generate", "seed": self.seed, "settings": self._made()},
        )
        return len(packed)

    def _made(self) -> dict[str, object]:
        return self.settings.model_dump(mode="json", by_alias=True, exclude={"events"})

    def _process(self, unit: Unit, book: Bookkeeping) -> Process:
        chosen = self.settings.processes[unit.process]
        stated = chosen.cross_section
        return Process(
            name=unit.process,
            label=self.settings.event_class(unit.process),
            cross_section=book.cross_section if stated is None else stated,
            cross_section_error=book.cross_section_error if stated is None else None,
            k_factor=chosen.k_factor,
            filter_efficiency=chosen.filter_efficiency,
            share=self.settings.share(unit.process),
            generated=book.generated,
            sum_weights=book.sum_weights,
            sum_weights2=book.sum_weights2,
            cutflow=tuple(
                CutflowStep(step=s.step, events=s.events, sum_weights=s.sum_weights)
                for s in book.cutflow
            ),
        )
