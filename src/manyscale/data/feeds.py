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

__all__ = ["hold", "make_feed", "memory_of"]

_MB = 1e6
# Events decoded at a time.
_CHUNK = 8192


def make_feed(
    train: Dataset, trim: Trim, memory: float, seed: int, *, rank: int = 0, world: int = 1
) -> Feed:
    """Make the feed of some training events: from memory where they fit, else from disk.

    Parameters
    ----------
    train
        The events to learn from.
    trim
        Takes the streams that the network wants.
    memory
        MB of decoded events held at most, by all processes together.
    seed
        Of which the order of the events is drawn.
    rank, world
        Which of how many processes this is; each holds its share of the events.

    Raises
    ------
    DataError
        Where a part is missing or damaged.
    """
    streams = taken_streams(train, trim)
    if memory_of(train, streams) > memory * _MB:
        return FolderFeed(train, trim, memory * _MB, seed, rank=rank, world=world)
    if train.groups is None:
        # In memory already: without a copy of what need not be cut.
        events = train.events()
        weight = _of_mean_one(train.balance.weights(events))
        held = TrainingBatch(trim(events.streams), events.label, weight, events.event_id)
        if world > 1:
            held = held.take(np.arange(rank, len(events), world))
        return MemoryFeed(held, len(events), seed, rank=rank, world=world)
    weight = _of_mean_one(train.balance.weights(train.bookkeeping()))
    buffer = EventBuffer()  # so that the events are never there twice
    first = 0
    for events in train.restricted(streams=streams).chunks(_CHUNK):
        own = np.arange((rank - first) % world, len(events), world)
        chosen = events if world == 1 else events.take(own)
        cut = trim(chosen.streams)
        buffer.append(TrainingBatch(cut, chosen.label, weight[first + own], chosen.event_id))
        first += len(events)
    return MemoryFeed(buffer.events, first, seed, rank=rank, world=world)


def _of_mean_one(weights: NDArray[np.float64]) -> NDArray[np.float32]:
    return (weights / weights.mean()).astype(np.float32)


def hold(dataset: Dataset, memory: float) -> None:
    """Decode the events of a dataset once and for all, if they take at most so many MB."""
    if memory_of(dataset) <= memory * _MB:
        dataset.events()


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
