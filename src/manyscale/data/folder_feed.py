"""Batches of events that are read from disk while the network trains, where memory is too small."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from manyscale.data.dataset import Dataset
from manyscale.data.feeds import EventBuffer, Feed, MemoryFeed, TrainingBatch, ahead
from manyscale.data.shuffle import SHARDS, Counts, EpochPlan, Piece, SourceCounts
from manyscale.data.store import RowGroups, no_events
from manyscale.errors import DataError
from manyscale.events.ragged import PackedStream
from manyscale.schema import Schema

__all__ = ["FolderFeed", "Trim", "decoded_bytes", "hold", "make_feed", "memory_of", "taken_streams"]

#: Takes of the streams of some events those that a network wants, cut to what it takes of them.
Trim = Callable[[Mapping[str, PackedStream]], Mapping[str, PackedStream]]

# A row group is there several times while it is decoded: as read, as packed, as chosen.
_COPIES = 3


class FolderFeed:
    """Feeds training with events read from disk, in a new order each epoch; see `EpochPlan`.

    One block of events is trained on while a thread reads the next. The two and what is being
    decoded take the memory given; of several processes each holds its share of the blocks.

    Parameters
    ----------
    train
        The events to learn from, of a dataset folder.
    trim
        Takes the streams that the network wants.
    memory
        Bytes of decoded events held at most, over all processes together.
    seed
        Of which the orders are drawn.
    rank, world
        Which of how many processes this is.

    Raises
    ------
    DataError
        Where a part is missing or damaged; where there are more processes than shards.
    """

    def __init__(
        self,
        train: Dataset,
        trim: Trim,
        memory: float,
        seed: int,
        *,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if world > SHARDS:
            raise DataError(
                f"{world} processes cannot share the reading: at most {SHARDS} can. Raise "
                f"data.memory so that the training events fit, or take fewer processes"
            )
        self._rank, self._world = rank, world
        groups = train.groups
        if groups is None:
            raise DataError("events in memory cannot be read from disk")
        self._train = train
        self._trim = trim
        self._seed = seed
        self._streams = taken_streams(train, trim)
        self._counts = _count(train, len(groups))
        self._balance = train.balance
        # All weights together are the number of classes; their mean is to be one.
        self._scale = len(train) / max(1, self._balance.classes)
        size = decoded_bytes(groups, train.schema, self._streams)
        reading = min(_COPIES * float(size.max(initial=0)), memory / 2)
        event = size.sum() / max(1, groups.events.sum())
        self._block = max(SHARDS, int((memory - reading) / 2 / max(event, 1)))

    @property
    def events(self) -> int:
        """Number of training events."""
        return int(self._counts.events.sum())

    def batches(self, epoch: int, batch_size: int, first: int = 0) -> Iterator[TrainingBatch]:
        """Give the batches of an epoch in turn, of each the share of this process; see `Feed`.

        Raises
        ------
        DataError
            Where a part is missing, damaged or changed.
        """
        if not self.events:
            return
        plan = EpochPlan(self._counts, self._block, self._seed, epoch)
        begun: list[TrainingBatch] = []
        step = first
        for block in self._blocks(plan, first * batch_size):
            while step * batch_size < block.end:
                end = (step + 1) * batch_size
                begun.append(block.between(step * batch_size, end))
                if end > block.end and block.end < plan.events:
                    break
                yield _joined(begun)
                begun = []
                step += 1

    def _blocks(self, plan: EpochPlan, first: int) -> Iterator["_Block"]:
        """Give the blocks in turn from the one with event `first` of the epoch; read one ahead."""
        stop = threading.Event()
        # Filled in turn: a block is good until the next but one is asked for.
        buffers = (EventBuffer(), EventBuffer())

        def read(number: int) -> _Block:
            buffer = buffers[number % len(buffers)]
            share = plan.share(number, self._rank, self._world)
            self._fill(buffer, share.pieces, stop)
            return _Block(buffer.events, share.order, share.place, plan.end(number))

        begin = min(first // self._block, plan.blocks - 1)
        try:
            # Not by `yield from`, which would wait for the thread before it is told to stop.
            for block in ahead(map(read, range(begin, plan.blocks))):  # noqa: UP028 - see above
                yield block
        finally:
            stop.set()

    def _fill(self, buffer: EventBuffer, pieces: Sequence[Piece], stop: threading.Event) -> None:
        buffer.clear()
        groups = [piece.group for piece in pieces]
        found = self._train.read_groups(groups, self._streams)
        for piece, events in zip(pieces, found, strict=True):
            if stop.is_set():
                return
            if len(events) != self._counts.events[piece.group]:
                raise DataError(
                    f"the data ({self._train.source}) have changed since training began: train "
                    f"again"
                )
            chosen = events.take(piece.events)
            weight = self._balance.weights(chosen) * self._scale
            buffer.append(
                TrainingBatch(
                    self._trim(chosen.streams),
                    chosen.label,
                    weight.astype(np.float32),
                    chosen.event_id,
                )
            )


def taken_streams(dataset: Dataset, trim: Trim) -> tuple[str, ...]:
    """Names of the streams that a network takes of a dataset."""
    return tuple(trim(no_events(dataset.schema).streams))


class _Block(NamedTuple):
    """Some events that follow each other in an epoch, or the share that one process has of them.

    Attributes
    ----------
    events
        As read.
    order
        (events,): in which order they are trained on.
    place
        (events,): which of the epoch each is, ascending.
    end
        The first event of the epoch behind the block.
    """

    events: TrainingBatch
    order: Counts
    place: Counts
    end: int

    def between(self, first: int, last: int) -> TrainingBatch:
        """Return those of the events `first` to `last - 1` of the epoch that the block has."""
        chosen = self.order[slice(*np.searchsorted(self.place, [first, last]))]
        return self.events.take(chosen)


def _joined(parts: Sequence[TrainingBatch]) -> TrainingBatch:
    if len(parts) == 1:
        return parts[0]
    return TrainingBatch(
        {
            name: PackedStream.concatenate([part.streams[name] for part in parts])
            for name in parts[0].streams
        },
        np.concatenate([part.label for part in parts]),
        np.concatenate([part.weight for part in parts]),
        np.concatenate([part.event_id for part in parts]),
    )


def _count(train: Dataset, groups: int) -> SourceCounts:
    """Count the training events of each row group."""
    process = np.zeros(groups, np.int64)
    events = np.zeros(groups, np.int64)
    for group, found in enumerate(train.read_groups(range(groups), ())):
        events[group] = len(found)
        # A part holds events of one process.
        process[group] = found.process[0] if len(found) else 0
    return SourceCounts(process, events)


_FLOAT = 4
_WIDE = 8
# Label, process, weight and event_id; and for each stream how many tokens there are, and where.
_EVENT = 4 * _WIDE
_STREAM = 2 * _WIDE


def decoded_bytes(groups: RowGroups, schema: Schema, streams: Sequence[str]) -> NDArray[np.float64]:
    """Bytes of all events of each row group, (groups,), with the named streams.

    Further weights and observables are not counted; an event without a token counts as one token.
    """
    total: NDArray[np.float64] = groups.events.astype(np.float64) * _EVENT
    for name in streams:
        stream = schema.stream(name)
        total += groups.tokens[name] * (_FLOAT * len(stream.columns))
        total += groups.events * (_STREAM + _FLOAT * len(stream.axis))
    return total


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
