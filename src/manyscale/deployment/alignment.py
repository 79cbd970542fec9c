"""The columns of some data brought to those that a network was trained on, by name."""

from collections.abc import Mapping, Sequence

import numpy as np

from manyscale.data.packing import PackedEvents, PackedStream
from manyscale.data.schema import Schema, StreamSchema
from manyscale.errors import DataError

__all__ = ["Alignment"]


class Alignment:
    """Takes from events the streams and columns that a network wants, in its order.

    Parameters
    ----------
    schema
        Of the data.
    wanted
        The streams of the network.

    Raises
    ------
    DataError
        Where the data lack a stream or a column; the message names it.
    """

    def __init__(self, schema: Schema, wanted: Sequence[StreamSchema]) -> None:
        self._places = {
            stream.name: _places(schema.stream(stream.name), stream) for stream in wanted
        }

    def streams(self, events: PackedEvents) -> Mapping[str, PackedStream]:
        """Return the wanted streams of some events."""
        return self.select(events.streams)

    def select(self, streams: Mapping[str, PackedStream]) -> Mapping[str, PackedStream]:
        """Return the wanted streams and columns of some streams."""
        return {
            name: PackedStream(
                _columns(streams[name].values, columns),
                streams[name].counts,
                _columns(streams[name].axis, axis),
            )
            for name, (columns, axis) in self._places.items()
        }


def _places(has: StreamSchema, wants: StreamSchema) -> tuple[list[int], list[int]]:
    missing = [name for name in wants.columns if name not in has.columns]
    missing += [name for name in wants.axis if name not in has.axis]
    if missing:
        raise DataError(
            f"stream '{has.name}' lacks the columns {', '.join(missing)}, which the network was "
            f"trained on"
        )
    columns = [has.columns.index(name) for name in wants.columns]
    return columns, [has.axis.index(name) for name in wants.axis]


def _columns(
    values: np.ndarray[tuple[int, int], np.dtype[np.float32]], places: list[int]
) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    if places == list(range(values.shape[1])):
        return values
    return np.ascontiguousarray(values[:, places])
