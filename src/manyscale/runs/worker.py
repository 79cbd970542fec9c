"""What a worker process does: one unit of work to its parts of a dataset. Imports no torch."""

import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import awkward as ak
import numpy as np

from manyscale.data.parts import PARTS, read_book, write_events
from manyscale.data.records import pack_records
from manyscale.data.schema import CutflowStep, Process, Schema, StreamSchema
from manyscale.errors import DataError
from manyscale.events.bookkeeping import Bookkeeping
from manyscale.events.files.source import Piece, Reader
from manyscale.events.plan import LARGEST_SEED, Unit
from manyscale.events.record import OBSERVABLES, StreamLayout, layouts
from manyscale.events.settings import GenerateSettings

__all__ = [
    "FileUnit",
    "MakeFileParts",
    "MakePart",
    "check_streams",
    "collision_schema",
    "generated_part",
    "share_of",
    "unit_seed",
    "usable_cores",
]

AnyUnit = TypeVar("AnyUnit")


def usable_cores() -> int:
    """Cores that this process may use: a batch system may grant fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def collision_schema(
    streams: Mapping[str, StreamLayout],
    weights: Sequence[str] = (),
    observables: Sequence[str] = OBSERVABLES,
) -> Schema:
    """Schema of events with these streams, further weights and observables."""
    return Schema(
        streams=tuple(
            StreamSchema(name=name, columns=layout.columns, axis=layout.axis)
            for name, layout in streams.items()
        ),
        weights=("weight", *weights),
        observables=tuple(observables),
    )


def check_streams(folder: Path, streams: Mapping[str, StreamLayout]) -> None:
    """Refuse, before any work, a dataset whose events are made of something else."""
    path = min((folder / PARTS).glob("*.parquet"), default=None)
    book = None if path is None else read_book(path)[0]
    if book is not None and book.streams != collision_schema(streams).streams:
        names = ", ".join(stream.name for stream in book.streams)
        raise DataError(
            f"{folder} holds events of other streams or columns ({names}): name another folder"
        )


def share_of(
    units: Sequence[AnyUnit], share: tuple[int, int] | None, holder: str
) -> Sequence[AnyUnit]:
    """Units from the first number of a share up to, not with, the second; all without a share."""
    first, last = share or (0, len(units))
    if first >= len(units):
        raise DataError(f"--units {first}:{last}: {holder} only the units 0:{len(units)}")
    return units[first:last]


def _counted(book: Bookkeeping) -> dict[str, Any]:
    """What the generator or the files say of a process: fields of `Process`."""
    return {
        "cross_section": book.cross_section,
        "cross_section_error": book.cross_section_error,
        "generated": book.generated,
        "sum_weights": book.sum_weights,
        "sum_weights2": book.sum_weights2,
        "cutflow": tuple(CutflowStep(**step._asdict()) for step in book.cutflow),
    }


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
        from manyscale.events.generation import generate_unit  # noqa: PLC0415

        settings = self.settings
        result = generate_unit(settings, unit)
        label = settings.event_class(unit.process)
        schema = collision_schema(layouts(settings.streams), settings.weights)
        packed = pack_records(
            result.records,
            schema.streams,
            identity=unit.identity,
            label=int(label == "signal"),
            weights=settings.weights,
        )
        stated = settings.processes[unit.process]
        known = _counted(result.bookkeeping)
        if stated.cross_section is not None:
            known |= {"cross_section": stated.cross_section, "cross_section_error": None}
        process = Process(
            name=unit.process,
            label=label,
            k_factor=stated.k_factor,
            filter_efficiency=stated.filter_efficiency,
            share=settings.share(unit.process),
            **known,
        )
        section = settings.model_dump(mode="json", by_alias=True, exclude={"events"})
        made = {"command": "generate", "seed": self.seed, "settings": section}
        write_events(
            self.folder, generated_part(unit), packed, schema, process, unit.identity, made
        )
        return len(packed)


# ---- events of files --------------------------------------------------------------------------


@dataclass(frozen=True)
class FileUnit:
    """Some pieces of input files: the unit of a plan, with its files where they are now."""

    plan: str
    index: int
    parts: tuple[str, ...]  # names, one a process
    pieces: tuple[Piece, ...]
    identities: tuple[str, ...]  # of the file of each piece

    def __str__(self) -> str:
        """Name the unit in messages."""
        more = f" and {len(self.pieces) - 1} more files" if len(self.pieces) > 1 else ""
        return f"unit {self.index} ({self.pieces[0]}{more})"


def unit_seed(seed: int, identity: str, first: int) -> int:
    """One of Pythia's seeds, 1 to 9e8, for a unit that begins at an entry of a file."""
    digest = hashlib.sha256(f"{seed}\n{identity}\n{first}".encode()).hexdigest()
    return 1 + int(digest, 16) % LARGEST_SEED


@dataclass(frozen=True)
class MakeFileParts:
    """Reads a unit of files and writes its parts, one a process; can be sent to another process."""

    reader: Reader
    streams: Mapping[str, StreamLayout]  # those wanted
    folder: Path  # of the dataset
    processes: Mapping[str, Process]  # as far as they are known, by the reader's names for them
    seed: int  # the card's
    made: Mapping[str, Any]  # how it is made, as JSON values

    def __call__(self, unit: FileUnit) -> tuple[bool, Counter[str]]:
        """Make a unit; return whether any entry has a weight, and what was odd, with how often."""
        seed = unit_seed(self.seed, unit.identities[0], unit.pieces[0].first)
        found = self.reader.read(unit.pieces, self.streams, seed)
        if not np.isfinite(np.nansum(np.square(found.weight))):
            raise DataError("the event weights are too large to be added up")
        own = {"piece", "entry", "weight", "observables", *self.streams}
        own |= {f"{name}_axis" for name in self.streams}
        for part, (name, process) in zip(unit.parts, self.processes.items(), strict=True):
            result = found.processes[name]
            records, fields = result.records, ak.fields(result.records)
            # Any further field is a varied weight.
            weights = [field for field in fields if field not in own]
            observables = ak.fields(records["observables"]) if "observables" in fields else []
            schema = collision_schema(self.streams, weights, observables)
            packed = pack_records(
                records,
                schema.streams,
                identity=unit.identities,
                label=int(process.label == "signal"),
                weights=weights,
            )
            known = process.model_copy(update=_counted(result.bookkeeping))
            identity = f"{unit.plan}-{unit.index}"
            write_events(self.folder, part, packed, schema, known, identity, self.made)
        return bool(np.nan_to_num(found.weight).any()), found.notes
