"""One unit of input files to its parts of a dataset; what a worker process does.

Kept apart from `conversion`, so that workers need not import torch.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np

from manyscale.data.parts import part_name, write_events
from manyscale.data.records import pack_records
from manyscale.data.schema import CutflowStep, Process
from manyscale.errors import DataError
from manyscale.events.bookkeeping import Bookkeeping, UnitResult
from manyscale.events.files.source import Piece, Reader
from manyscale.events.plan import LARGEST_SEED
from manyscale.events.record import StreamLayout
from manyscale.runs.streams import collision_schema

__all__ = ["ConvertUnit", "FileUnit", "MakeFileParts", "part_of", "unit_seed"]


@dataclass(frozen=True)
class FileUnit:
    """Some pieces of input files.

    Attributes
    ----------
    plan, index
        Name of the plan it is of, and its number there.
    parts
        Names of its parts, one a process.
    pieces, identities
        What is read, and the identity of each piece's file.
    """

    plan: str
    index: int
    parts: tuple[str, ...]
    pieces: tuple[Piece, ...]
    identities: tuple[str, ...]

    def __str__(self) -> str:
        """Name the unit in messages."""
        more = f" and {len(self.pieces) - 1} more files" if len(self.pieces) > 1 else ""
        return f"unit {self.index} ({self.pieces[0]}{more})"


@dataclass(frozen=True)
class ConvertUnit:
    """What became of a unit.

    Attributes
    ----------
    weighted
        Whether any entry has a weight other than 0.
    notes
        What was odd, with how often.
    """

    weighted: bool
    notes: Counter[str]


def part_of(process: str, plan: str, index: int) -> str:
    """Name of the part that a unit makes of a process."""
    return part_name(process, plan, f"{index:06d}")


def unit_seed(seed: int, identity: str, first: int) -> int:
    """One of Pythia's seeds, 1 to 9e8, for a unit that begins at an entry of a file."""
    digest = hashlib.sha256(f"{seed}\n{identity}\n{first}".encode()).hexdigest()
    return 1 + int(digest, 16) % LARGEST_SEED


@dataclass(frozen=True)
class MakeFileParts:
    """Makes the parts of a unit; can be sent to another process.

    Attributes
    ----------
    reader, streams
        What reads the files, and what of them is wanted.
    folder
        The dataset.
    processes
        The processes as far as they are known, by the reader's names for them.
    seed
        The card's.
    made
        How it is made, as JSON values.
    """

    reader: Reader
    streams: Mapping[str, StreamLayout]
    folder: Path
    processes: Mapping[str, Process]
    seed: int
    made: Mapping[str, Any]

    def __call__(self, unit: FileUnit) -> ConvertUnit:
        """Read a unit and write its parts; return what became of it."""
        seed = unit_seed(self.seed, unit.identities[0], unit.pieces[0].first)
        found = self.reader.read(unit.pieces, self.streams, seed)
        if not np.isfinite(np.nansum(np.square(found.weight))):
            raise DataError("the event weights are too large to be added up")
        for part, (name, process) in zip(unit.parts, self.processes.items(), strict=True):
            self._write(unit, part, process, found.processes[name])
        return ConvertUnit(bool(np.nan_to_num(found.weight).any()), found.notes)

    def _write(self, unit: FileUnit, part: str, process: Process, result: UnitResult) -> None:
        records = result.records
        streams = collision_schema(self.streams).streams
        known = {"piece", "entry", "weight", "observables", *self.streams}
        known |= {f"{name}_axis" for name in self.streams}
        weights = [name for name in ak.fields(records) if name not in known]
        observables = ak.fields(records["observables"]) if "observables" in records.fields else []
        packed = pack_records(
            records,
            streams,
            identity=unit.identities,
            label=int(process.label == "signal"),
            weights=weights,
        )
        write_events(
            self.folder,
            part,
            packed,
            collision_schema(self.streams, weights, observables),
            _described(process, result.bookkeeping),
            f"{unit.plan}-{unit.index}",
            self.made,
        )


def _described(process: Process, book: Bookkeeping) -> Process:
    """Complete what is known of the process by what the files say."""
    return process.model_copy(
        update={
            "cross_section": book.cross_section,
            "cross_section_error": book.cross_section_error,
            "generated": book.generated,
            "sum_weights": book.sum_weights,
            "sum_weights2": book.sum_weights2,
            "cutflow": tuple(
                CutflowStep(step=s.step, events=s.events, sum_weights=s.sum_weights)
                for s in book.cutflow
            ),
        }
    )
