"""Events of any dataset to a new dataset folder."""

import shutil
import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from manyscale.data.manifest import merge
from manyscale.data.packing import PackedEvents
from manyscale.data.parts import PartBook, PartWriter, new_part, part_name
from manyscale.data.store import no_events
from manyscale.errors import DataError
from manyscale.schema import CutflowStep, Process, Schema

__all__ = ["Types", "common_types", "scaled", "write_dataset"]

#: Observable to the type that holds all of its values.
Types = Mapping[str, np.dtype[Any]]


def common_types(batches: Iterable[PackedEvents]) -> Types:
    """Types of the observables that hold the values of all events."""
    types: dict[str, np.dtype[Any]] = {}
    for batch in batches:
        for name, values in batch.observables.items():
            types[name] = np.result_type(types.get(name, values.dtype), values.dtype)
    return types


def scaled(process: Process, share: float) -> Process:
    """What is known of a process, for a random share of its events alone.

    That share then stands for the same cross section as all of them.
    """
    return process.model_copy(
        update={
            "generated": round(process.generated * share),
            "sum_weights": _times(process.sum_weights, share),
            "sum_weights2": _times(process.sum_weights2, share),
            "cutflow": tuple(
                CutflowStep(
                    step=step.step,
                    events=round(step.events * share),
                    sum_weights=step.sum_weights * share,
                )
                for step in process.cutflow
            ),
        }
    )


def _times(value: float | None, share: float) -> float | None:
    return None if value is None else value * share


def write_dataset(
    folder: Path, schema: Schema, batches: Iterable[PackedEvents], types: Types, source: str
) -> None:
    """Write events as a new dataset, a part a process; whole or not at all.

    Parameters
    ----------
    folder
        New, or empty.
    schema
        Of the events, with what was generated of each process.
    batches
        The events, one batch in memory at a time.
    types
        Of the observables.
    source
        Where the events come from, in words.

    Raises
    ------
    DataError
        Where the folder holds something or cannot be written, or the process of an event is not
        known.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise DataError(f"{folder} is there already: name a new folder for the dataset")
    draft = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.tmp")
    try:
        with ExitStack() as stack:
            writers = [
                stack.enter_context(new_part(draft, _part_name(place, of), schema, of.name))
                for place, of in enumerate(schema.processes)
            ]
            _write(writers, schema, batches, types)
            for writer, process in zip(writers, schema.processes, strict=True):
                writer.close(_book(schema, process, source))
        merge(draft)
        draft.replace(folder)
    except OSError as error:
        raise DataError(f"the dataset {folder} cannot be written: {error}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _part_name(place: int, process: Process) -> str:
    return part_name(process.name, f"{place:06d}")


def _write(
    writers: Sequence[PartWriter], schema: Schema, batches: Iterable[PackedEvents], types: Types
) -> None:
    # A process without events has a part, too, for what was generated of it.
    missing = set(range(len(writers)))
    for batch in batches:
        if (batch.process < 0).any():
            raise DataError("events of an unknown process cannot be written as a dataset")
        for place in np.unique(batch.process).tolist():
            of_process = batch.take(np.flatnonzero(batch.process == place))
            writers[place].write(_with_types(of_process, types))
            missing.discard(place)
    for place in missing:
        writers[place].write(no_events(schema))


def _with_types(events: PackedEvents, types: Types) -> PackedEvents:
    observables = {name: values.astype(types[name]) for name, values in events.observables.items()}
    return replace(events, observables=observables)


def _book(schema: Schema, process: Process, source: str) -> PartBook:
    return PartBook(
        streams=schema.streams,
        weights=schema.weights,
        observables=schema.observables,
        process=process,
        identity=f"written from {source}",
        made={"command": "write", "source": source},
    )
