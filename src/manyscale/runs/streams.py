"""Records of collisions as a dataset sees them: their schema, and whether it fits a dataset."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from manyscale.data.parts import part_path, read_book
from manyscale.data.schema import Schema, StreamSchema
from manyscale.errors import DataError
from manyscale.events.record import OBSERVABLES, StreamLayout

__all__ = ["check_streams", "collision_schema"]


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


def check_streams(folder: Path, schema: Schema) -> None:
    """Refuse, before any work, a dataset whose events are made of something else.

    Raises
    ------
    DataError
        Names the streams of the dataset.
    """
    path = next(iter(sorted(part_path(folder, "x").parent.glob("*.parquet"))), None)
    if path is None:
        return
    book, _ = read_book(path)
    if book.streams != schema.streams:
        streams = ", ".join(stream.name for stream in book.streams)
        raise DataError(
            f"{folder} holds events of other streams or columns ({streams}): name another folder"
        )
