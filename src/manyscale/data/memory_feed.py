"""Batches of events that are held in memory."""

from collections.abc import Iterator

from manyscale.data.feed import TrainingBatch
from manyscale.data.sampling import batch_events, epoch_order

__all__ = ["MemoryFeed"]


class MemoryFeed:
    """Feeds training with events held in memory, in a new random order each epoch.

    Parameters
    ----------
    held
        The events that this process holds, with a mean weight of one over those of all processes:
        of every `world` training events the one at index `rank`.
    events
        Number of training events, of all processes together.
    seed
        Of which the orders are drawn.
    rank, world
        Which of how many processes this is.
    """

    def __init__(
        self, held: TrainingBatch, events: int, seed: int, *, rank: int = 0, world: int = 1
    ) -> None:
        self._held = held
        self._seed = seed
        self._rank, self._world = rank, world
        self.events = events

    def batches(self, epoch: int, batch_size: int) -> Iterator[TrainingBatch]:
        """Give the batches of an epoch in turn, of each the share of this process; see `Feed`."""
        order = epoch_order(self.events, self._seed, epoch)
        for together in batch_events(order, batch_size):
            # The order is one for all processes. What falls to each varies a little from step to
            # step, which is the price of holding each event once.
            chosen = together[together % self._world == self._rank] // self._world
            yield self._held.take(chosen)
