"""Batches of events of similar length, for passes over many events in which nothing is learned."""

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from manyscale.data.packing import PackedStream

__all__ = ["batches_by_length"]

# Rows of a batch, class tokens counted; measured, for short events and for long ones.
_ROWS = 16_384


def batches_by_length(
    streams: Mapping[str, PackedStream], rows: int = _ROWS
) -> Iterator[NDArray[np.int64]]:
    """Give the events of each batch, the shortest first: so many that their rows are about `rows`.

    Similar lengths need the least padding. A score does not depend on the events beside it; only in
    training would such batches do harm.

    Parameters
    ----------
    streams
        As the network sees them (`MultiScaleClassifier.trim`).

    Examples
    --------
    >>> counts = np.array([9, 1, 2])
    >>> stream = PackedStream(np.zeros((12, 1), np.float32), counts, np.zeros((3, 0), np.float32))
    >>> [batch.tolist() for batch in batches_by_length({"jet": stream}, rows=5)]
    [[1], [2], [0]]
    """
    lengths = np.sum([stream.counts + 1 for stream in streams.values()], axis=0)
    order = np.argsort(lengths, kind="stable")
    batch = np.cumsum(lengths[order]) // rows
    cuts = np.flatnonzero(np.diff(batch)) + 1
    return (part for part in np.split(order, cuts) if len(part))
