"""The order of an epoch that is read from disk: as good as a random one, known block by block.

The events of a process stand on a line, its row groups in random order and the events of each in
random order. How many events of each process a block takes from the ends of these lines is drawn as
for a true shuffle of all events; within the block they are then shuffled. So the order of processes,
and with it of classes, is exactly as random as it can be, and an event's neighbours are random
events of the block.

A block consists of `SHARDS` shards: events 0, 64, 128, ... of the block are the first shard, and so
on. They are what processes divide among each other.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from manyscale.events.ragged import ragged_rows

__all__ = ["SHARDS", "EpochPlan", "Piece", "Share", "SourceCounts"]

#: Into how many processes the reading can be divided.
SHARDS = 64
# In this order shards stand on the line: those of one process of 2, 4, ... are neighbours.
_ON_LINE = np.array([int(f"{shard:06b}"[::-1], 2) for shard in range(SHARDS)])

# Above so many events numpy cannot draw without putting back; then it makes no difference.
_MOST_FOR_HYPERGEOMETRIC = 10**9

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class SourceCounts:
    """Training events of each row group.

    Attributes
    ----------
    process
        (groups,): place of the process whose events a group holds.
    events
        (groups,): how many of them belong to the training part.
    """

    process: Counts
    events: Counts


class Piece(NamedTuple):
    """Some events of a row group.

    Attributes
    ----------
    group
        Place of the row group.
    events
        Which of its training events, in the order in which they are taken.
    """

    group: int
    events: Counts


@dataclass(frozen=True)
class Share:
    """What one process reads of a block.

    Attributes
    ----------
    pieces
        To be read one behind the other.
    order
        (events,): the events so read in the order of training.
    place
        (events,): which event of the epoch each is, ascending; other processes have those between.
    """

    pieces: tuple[Piece, ...]
    order: Counts
    place: Counts


class EpochPlan:
    """Says what each block of an epoch is made of: a pure function of seed and epoch.

    Parameters
    ----------
    counts
        Training events of each row group.
    block
        Events of a block at most, though never less than `SHARDS`.
    seed, epoch
        Of which the order is drawn.
    """

    def __init__(self, counts: SourceCounts, block: int, seed: int, epoch: int) -> None:
        self._seed = (seed, epoch)
        filled = np.flatnonzero(counts.events)
        shuffled = self._random(0).permutation(filled)
        self._groups = shuffled[np.argsort(counts.process[shuffled], kind="stable")]
        sizes = counts.events[self._groups]
        # Where on the joined lines of all processes each group begins, and where they end.
        self._begins = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
        self._processes = np.bincount(counts.process[filled], counts.events[filled]).astype(
            np.int64
        )
        self._lines = np.cumsum(self._processes) - self._processes
        # Blocks of the same size, each of whole rounds of the shards.
        rounds = -(-self.events // SHARDS)
        blocks = -(-rounds // max(1, block // SHARDS))
        self._block = max(1, -(-rounds // max(1, blocks))) * SHARDS

    @property
    def events(self) -> int:
        """Events of the epoch."""
        return int(self._begins[-1])

    @property
    def blocks(self) -> int:
        """Blocks of the epoch."""
        return -(-self.events // self._block)

    def end(self, block: int) -> int:
        """The first event of the epoch behind a block."""
        return min((block + 1) * self._block, self.events)

    def share(self, block: int, rank: int = 0, world: int = 1) -> Share:
        """Say what process `rank` of `world` reads of a block, and in which order it is trained on."""
        shards = np.arange(SHARDS)
        own = shards[shards % world == rank]
        starts, counts = self._cells(block)
        # By process, then as on its line; so the same for any number of processes.
        mine = np.isin(_ON_LINE, own)
        starts, counts = starts[:, mine].ravel(), counts[:, mine].ravel()
        shard = np.repeat(np.tile(_ON_LINE[mine], len(self._processes)), counts)
        order, place = self._arrange(shard, own, block)
        return Share(tuple(self._pieces(ragged_rows(starts, counts))), order, place)

    def _cells(self, block: int) -> tuple[Counts, Counts]:
        """Where on the line the events of each process for each shard begin, and how many they are.

        Both (processes, shards), the shards in the order of the line.
        """
        before, after = self._taken[block], self._taken[block + 1]
        counts = after - before
        sizes = _shard_sizes(int(counts.sum()))[_ON_LINE]
        cells = _deal(self._random(1, block), counts, sizes).T
        starts = (self._lines + before)[:, None] + np.cumsum(cells, axis=1) - cells
        return starts, cells

    @cached_property
    def _taken(self) -> Counts:
        """(blocks + 1, processes): events of each process that the blocks before have taken."""
        sizes = np.full(self.blocks, self._block)
        if self.blocks:
            sizes[-1] = self.events - self._block * (self.blocks - 1)
        dealt = _deal(self._random(2), self._processes, sizes)
        return np.concatenate([np.zeros((1, len(self._processes)), np.int64), dealt.cumsum(0)])

    def _arrange(self, shard: Counts, own: Counts, block: int) -> tuple[Counts, Counts]:
        """Shuffle the events of each shard, and deal the shards out."""
        order, place = [], []
        for of in own.tolist():
            rows = np.flatnonzero(shard == of)
            order.append(self._random(3, block, of).permutation(rows))
            place.append(block * self._block + of + SHARDS * np.arange(len(rows)))
        places = np.concatenate(place)
        dealt = np.argsort(places)
        return np.concatenate(order)[dealt], places[dealt]

    def _pieces(self, slots: Counts) -> Iterator[Piece]:
        """What stands at these slots of the lines."""
        at = np.searchsorted(self._begins, slots, side="right") - 1
        bounds = np.flatnonzero(np.diff(at, prepend=-1, append=-1))
        for first, last in pairwise(bounds.tolist()):
            place = at[first]
            group = int(self._groups[place])
            events = int(self._begins[place + 1] - self._begins[place])
            shuffled = self._random(4, group).permutation(events)
            yield Piece(group, shuffled[slots[first:last] - self._begins[place]])

    def _random(self, *purpose: int) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence((*self._seed, *purpose))))


def _shard_sizes(events: int) -> Counts:
    """(SHARDS,): events of each shard of a block of so many events."""
    return events // SHARDS + (np.arange(SHARDS) < events % SHARDS)


def _deal(generator: np.random.Generator, processes: Counts, sizes: Counts) -> Counts:
    """Draw (sizes, processes): of each process as many as shuffled events would have in each piece."""
    left = processes.copy()
    dealt = np.zeros((len(sizes), len(processes)), np.int64)
    for place, size in enumerate(sizes.tolist()):
        if left.sum() < _MOST_FOR_HYPERGEOMETRIC:
            dealt[place] = generator.multivariate_hypergeometric(left, size, method="marginals")
        else:
            dealt[place] = _nearest_below(generator.multinomial(size, left / left.sum()), left)
        left -= dealt[place]
    return dealt


def _nearest_below(drawn: Counts, left: Counts) -> Counts:
    """Counts of the same sum of which none is above what is left."""
    possible = np.minimum(drawn, left)
    largest = np.argmax(left - possible)
    possible[largest] += drawn.sum() - possible.sum()
    return possible
