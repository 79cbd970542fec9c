"""Mirrored events: an exact symmetry of collisions, by which training sees each event in four forms."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from manyscale.data.feeds import TrainingBatch
from manyscale.data.identity import uniform
from manyscale.events.ragged import PackedStream
from manyscale.schema import COLUMNS, StreamSchema

__all__ = ["Mirror"]

# Columns that change their sign where the beams are swapped, and where the event is seen in a mirror
# that holds the beam. All other known columns stay as they are.
_ODD = {
    "eta": frozenset({"eta", "jet_eta", "delta_eta", "dz"}),
    "phi": frozenset({"phi", "jet_phi", "delta_phi", "phi_rel", "d0"}),
}


class Mirror:
    """Mirrors whole events at random: eta to -eta, phi to -phi, each for half of the events.

    Turning an event about the beam is a symmetry, too, but the network sees no azimuth that is not
    relative to another: nothing would change.

    Parameters
    ----------
    streams
        Those that the network takes.
    seed
        Of the choice, which follows from seed, epoch and `event_id` alone.

    Attributes
    ----------
    unknown
        Columns of which it is not known how they change, as stream.column: with any of them nothing
        is mirrored.
    """

    def __init__(self, streams: Sequence[StreamSchema], seed: int) -> None:
        self.unknown = tuple(
            f"{stream.name}.{column}"
            for stream in streams
            for column in stream.columns + stream.axis
            if column not in COLUMNS
        )
        self._seed = seed
        self._odd = {
            stream.name: {
                way: (_places(stream.columns, odd), _places(stream.axis, odd))
                for way, odd in _ODD.items()
            }
            for stream in streams
        }

    def __call__(self, events: TrainingBatch, epoch: int) -> TrainingBatch:
        """Mirror some of the events, those of an epoch from 0."""
        if self.unknown:
            return events
        signs = {
            way: np.where(
                uniform(events.event_id, f"mirror {way} {self._seed} {epoch}") < 0.5, -1, 1
            ).astype(np.float32)
            for way in _ODD
        }
        streams = {
            name: _mirrored(stream, self._odd[name], signs)
            for name, stream in events.streams.items()
        }
        return replace(events, streams=streams)


def _places(columns: Sequence[str], odd: frozenset[str]) -> list[int]:
    return [index for index, name in enumerate(columns) if name in odd]


def _mirrored(
    stream: PackedStream,
    odd: Mapping[str, tuple[list[int], list[int]]],
    signs: Mapping[str, NDArray[np.float32]],
) -> PackedStream:
    values, axis = stream.values.copy(), stream.axis.copy()
    for way, (columns, axis_columns) in odd.items():
        if columns:
            of_token = np.repeat(signs[way], stream.counts)
            for column in columns:
                values[:, column] *= of_token
        for column in axis_columns:
            axis[:, column] *= signs[way]
    return PackedStream(values, stream.counts, axis)
