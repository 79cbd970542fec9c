"""Which feed a dataset is trained with: from memory where it fits there, else from disk."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from manyscale.data.dataset import Dataset
from manyscale.data.event_buffer import EventBuffer
from manyscale.data.feed import Feed, TrainingBatch
from manyscale.data.folder_feed import FolderFeed, Trim, taken_streams
from manyscale.data.footprint import decoded_bytes
from manyscale.data.memory_feed import MemoryFeed
from manyscale.data.packing import PackedEvents

__all__ = ["hold", "make_feed", "memory_of"]

_MB = 1e6
# Events decoded at a time.
_CHUNK = 8192


def make_feed(train: Dataset, trim: Trim, memory: float, seed: int) -> Feed:
    """Make the feed of some training events: from memory where they fit, else from disk.

    Parameters
    ----------
    train
        The events to learn from.
    trim
        Takes the streams that the network wants.
    memory
        MB of decoded events held at most.
    seed
        Of which the order of the events is drawn.

    Raises
    ------
    DataError
        Where a part is missing or damaged.
    """
    streams = taken_streams(train, trim)
    if memory_of(train, streams) > memory * _MB:
        return FolderFeed(train, trim, memory * _MB, seed)
    held = _decoded(train, trim) if train.groups is None else _read(train, trim, streams)
    return MemoryFeed(held.streams, held.label, held.weight, seed)


def hold(dataset: Dataset, memory: float) -> None:
    """Decode the events of a dataset once and for all, if they take at most so many MB."""
    if memory_of(dataset) <= memory * _MB:
        dataset.events()


def _decoded(train: Dataset, trim: Trim) -> TrainingBatch:
    """Take events that are in memory, without a copy of what need not be cut."""
    events = train.events()
    return TrainingBatch(trim(events.streams), events.label, _weights(train, events))


def _read(train: Dataset, trim: Trim, streams: Sequence[str]) -> TrainingBatch:
    """Read events to memory, never twice there."""
    weight = _weights(train, train.bookkeeping())
    buffer = EventBuffer()
    for events in train.restricted(streams=streams).chunks(_CHUNK):
        share = slice(len(buffer), len(buffer) + len(events))
        buffer.append(TrainingBatch(trim(events.streams), events.label, weight[share]))
    return buffer.events


def _weights(train: Dataset, events: PackedEvents) -> NDArray[np.float32]:
    weights = train.balance.weights(events)
    return (weights / weights.mean()).astype(np.float32)


def memory_of(dataset: Dataset, streams: Sequence[str] | None = None) -> float:
    """Estimate the bytes that the events of a dataset folder take once decoded.

    Parameters
    ----------
    streams
        Those counted; None for all.

    Returns
    -------
    Zero for events that are in memory already.
    """
    groups = dataset.groups
    if groups is None:
        return 0.0
    names = [of.name for of in dataset.schema.streams] if streams is None else streams
    whole = float(decoded_bytes(groups, dataset.schema, names).sum())
    return whole * len(dataset) / max(1, int(groups.events.sum()))
