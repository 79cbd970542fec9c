"""One batch of a stream as torch tensors, and its columns by name."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from manyscale.data.packing import PackedStream
from manyscale.data.schema import StreamSchema

__all__ = ["StreamBatch", "TokenColumns", "to_torch"]


class StreamBatch(NamedTuple):
    """One stream of a batch, real tokens only.

    Attributes
    ----------
    values
        (tokens, columns), float32.
    counts
        (events,), int64: tokens an event.
    axis
        (events, axis columns), float32.
    host_counts
        The same counts on the host, so that a GPU need not be asked for them.
    """

    values: Tensor
    counts: Tensor
    axis: Tensor
    host_counts: NDArray[np.int64]

    @staticmethod
    def of(stream: PackedStream, device: torch.device | str = "cpu") -> "StreamBatch":
        """Bring a packed stream to torch and to a device."""
        return StreamBatch(
            torch.from_numpy(stream.values).to(device),
            torch.from_numpy(stream.counts).to(device),
            torch.from_numpy(stream.axis).to(device),
            stream.counts,
        )


def to_torch(
    streams: Mapping[str, PackedStream],
    chosen: NDArray[np.integer],
    device: torch.device | str = "cpu",
) -> dict[str, StreamBatch]:
    """Bring the chosen events of some streams to torch and to a device."""
    return {name: StreamBatch.of(stream.take(chosen), device) for name, stream in streams.items()}


class TokenColumns:
    """The columns of one stream by name, each (tokens,); the axis is repeated on each token."""

    def __init__(self, stream: StreamSchema, batch: StreamBatch) -> None:
        self._place = {name: place for place, name in enumerate(stream.columns)}
        self._axis_place = {name: place for place, name in enumerate(stream.axis)}
        self._batch = batch
        self._event: Tensor | None = None
        self._axis: Tensor | None = None

    @property
    def event(self) -> Tensor:
        """(tokens,): the event of each token."""
        if self._event is None:
            counts = self._batch.counts
            self._event = torch.repeat_interleave(
                torch.arange(len(counts), device=counts.device),
                counts,
                output_size=len(self._batch.values),
            )
        return self._event

    def __getitem__(self, name: str) -> Tensor:
        """(tokens,): the column of that name."""
        if name in self._place:
            return self._batch.values[:, self._place[name]]
        if self._axis is None:
            self._axis = self._batch.axis[self.event]
        return self._axis[:, self._axis_place[name]]

    def of_first(self, name: str) -> Tensor:
        """(tokens,): the column's value at the first token of the same event."""
        counts = self._batch.counts
        first = torch.cumsum(counts, 0) - counts
        return self[name][first[self.event]]
