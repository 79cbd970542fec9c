"""What a worker process does: one unit of work to its parts of a dataset. Imports no torch."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from manyscale.data.manifest import difference
from manyscale.data.packing import PackedEvents
from manyscale.data.parquet import PARTS, read_book, write_events
from manyscale.errors import DataError
from manyscale.events.files.reader import FileEvents, Piece, Reader
from manyscale.events.settings import GenerateSettings
from manyscale.events.work import LARGEST_SEED, Unit
from manyscale.schema import (
    OBSERVABLES,
    Process,
    Schema,
    StreamSchema,
    collision_streams,
)

__all__ = [
    "FileUnit",
    "MakeFileParts",
    "MakePart",
    "check_streams",
    "collision_schema",
    "generated_part",
    "share_of",
    "unit_seed",
]

AnyUnit = TypeVar("AnyUnit")


def collision_schema(
    streams: Mapping[str, StreamSchema],
    weights: Sequence[str] = (),
    observables: Sequence[str] = OBSERVABLES,
) -> Schema:
    """Schema of events with these streams, further weights and observables."""
    return Schema(
        streams=tuple(streams.values()),
        weights=("weight", *weights),
        observables=tuple(observables),
    )


def check_streams(folder: Path, streams: Mapping[str, StreamSchema]) -> None:
    """Refuse, before any work, a dataset whose events are made of something else."""
    path = min((folder / PARTS).glob("*.parquet"), default=None)
    book = None if path is None else read_book(path)[0]
    if book is None:
        return
    differ = difference(book.streams, tuple(streams.values()), ("the dataset", "these events"))
    if differ:
        raise DataError(
            f"{folder} holds events of other streams or columns: {differ}. Name another folder, or "
            "leave out what not all have: `generate.streams` of the card says which streams, "
            "`convert.drop` which columns of files go"
        )


def share_of(
    units: Sequence[AnyUnit], share: tuple[int, int] | None, holder: str
) -> Sequence[AnyUnit]:
    """Units from the first number of a share up to, not with, the second; all without a share."""
    first, last = share or (0, len(units))
    if first >= len(units):
        raise DataError(f"--units {first}:{last}: {holder} only the units 0:{len(units)}")
    return units[first:last]


# ---- generated events -------------------------------------------------------------------------


def generated_part(unit: Unit) -> str:
    """Name of a unit's part in the dataset."""
    return f"{unit.process}-{unit.index:06d}"


@dataclass(frozen=True)
class MakePart:
    """Generates the events of a unit and writes its part; can be sent to another process."""

    settings: GenerateSettings
    seed: int  # the card's
    folder: Path  # of the dataset

    def __call__(self, unit: Unit) -> int:
        """Make a unit; return the number of events that passed."""
        # Pythia is an extra, which workers that convert files do without.
        from manyscale.events.generate import generate_unit  # noqa: PLC0415

        settings = self.settings
        selected, generated = generate_unit(settings, unit)
        label = settings.event_class(unit.process)
        schema = collision_schema(collision_streams(settings.streams), settings.weights)
        packed = PackedEvents.of_source(selected, unit.identity, label)
        stated = settings.processes[unit.process]
        known = dict(generated)
        if (cross_section := settings.cross_section(unit.process)) is not None:
            known |= {"cross_section": cross_section, "cross_section_error": None}
        process = Process(
            name=unit.process,
            label=label,
            k_factor=stated.k_factor,
            filter_efficiency=stated.filter_efficiency,
            share=settings.share(unit.process),
            **known,
        )
        made = {
            "command": "generate",
            "seed": self.seed,
            "settings": json.loads(settings.section),
        }
        write_events(
            self.folder, generated_part(unit), packed, schema, process, unit.identity, made
        )
        return len(packed)


# ---- events of files --------------------------------------------------------------------------


@dataclass(frozen=True)
class FileUnit:
    """Some entries of an input file, and the parts that they give."""

    index: int  # among the units of the call
    parts: tuple[str, ...]  # names, one a process
    piece: Piece
    identity: str  # of the file

    def __str__(self) -> str:
        """Name the unit in messages."""
        return f"unit {self.index} ({self.piece})"


def unit_seed(seed: int, identity: str, first: int) -> int:
    """One of Pythia's seeds, 1 to 9e8, for a unit that begins at an entry of a file."""
    digest = hashlib.sha256(f"{seed}\n{identity}\n{first}".encode()).hexdigest()
    return 1 + int(digest, 16) % LARGEST_SEED


@dataclass(frozen=True)
class MakeFileParts:
    """Reads a unit of a file and writes its parts, one a process; can be sent to another process."""

    reader: Reader
    streams: Mapping[str, StreamSchema]  # those wanted
    folder: Path  # of the dataset
    processes: Mapping[str, Process]  # as far as they are known, by the reader's names for them
    seed: int  # the card's
    made: Mapping[str, Any]  # how it is made, as JSON values

    def __call__(self, unit: FileUnit) -> tuple[bool, Counter[str]]:
        """Make a unit; return whether any entry has a weight, and what was odd, with how often."""
        seed = unit_seed(self.seed, unit.identity, unit.piece.first)
        found = FileEvents.add(list(self.reader.read(unit.piece, self.streams, seed)))
        if not np.isfinite(np.nansum(np.square(found.weight))):
            raise DataError("the event weights are too large to be added up")
        for part, (name, process) in zip(unit.parts, self.processes.items(), strict=True):
            selected, generated = found.processes[name]
            packed = PackedEvents.of_source(selected, unit.identity, process.label)
            schema = collision_schema(self.streams, list(packed.weights), list(packed.observables))
            known = process.model_copy(update=dict(generated))
            write_events(self.folder, part, packed, schema, known, unit.identity, self.made)
        return bool(np.nan_to_num(found.weight).any()), found.notes
