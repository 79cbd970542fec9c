"""Where the tokens of a packed stream stand, and how they come to padded arrays and back."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from manyscale.data.packing import ragged_rows
from manyscale.features.columns import on_device
from manyscale.model.bins import Bins

__all__ = ["Layout", "Pattern", "Slots"]

# Taken off a score it leaves nothing behind the softmax; finite, also in half precision, so that an
# empty query, which may see no key at all, stays finite.
_HIDDEN = np.float32(30_000)


@dataclass(frozen=True)
class Slots:
    """Rows in bins: for each row its slot in a padded array, and back.

    Attributes
    ----------
    shapes
        (bins, slots of each) of each group; the slots of all groups stand one behind the other.
    slot_row
        (slots,): the row of each slot; an empty slot points at some row.
    row_slot
        (rows,): the slot of each row.
    owner
        (slots,), int32, on the host: the event of each slot; -1 for an empty one.
    """

    shapes: tuple[tuple[int, int], ...]
    slot_row: Tensor
    row_slot: Tensor
    owner: NDArray[np.int32]

    @staticmethod
    def of(event: NDArray[np.int64], bins: Bins, device: torch.device | str = "cpu") -> "Slots":
        """Put rows, `event` the event of each, into the bins of their events, in their order."""
        bin_of = bins.of_event[event]
        order = np.argsort(bin_of, kind="stable")
        filled = np.bincount(bin_of, minlength=sum(bins.groups))
        ends = accumulate(bins.groups)
        longest = [
            int(filled[end - size : end].max(initial=1))
            for size, end in zip(bins.groups, ends, strict=True)
        ]
        sizes = np.repeat(longest, bins.groups)
        # What stands before a bin: slots of other bins less rows of other bins.
        empty = np.cumsum(sizes - filled) - (sizes - filled)
        slot = np.arange(len(order)) + np.repeat(empty, filled)
        slot_row = np.zeros(int(sizes.sum()), np.int64)
        slot_row[slot] = order
        row_slot = np.empty_like(order)
        row_slot[order] = slot
        owner = np.full(len(slot_row), -1, np.int32)
        owner[row_slot] = event
        return Slots(
            tuple(zip(bins.groups, longest, strict=True)),
            on_device(slot_row, device),
            on_device(row_slot, device),
            owner,
        )

    def pad(self, rows: Tensor) -> list[Tensor]:
        """Bring rows (rows, width) to slots (bins, slots, width) of each group.

        Empty slots hold a copy of some row, so that they are finite; as keys they are hidden, and
        as queries they are not read, so that no gradient comes back from them.
        """
        slots: Tensor = _Gather.apply(rows, self.slot_row, self.row_slot)  # type: ignore[no-untyped-call]
        parts = torch.split(slots, [bins * size for bins, size in self.shapes])
        return [
            part.view(*shape, *rows.shape[1:])
            for part, shape in zip(parts, self.shapes, strict=True)
        ]

    def pack(self, slots: Sequence[Tensor]) -> Tensor:
        """Bring slots (bins, slots, width) of each group back to rows (rows, width)."""
        flat = [group.flatten(0, 1) for group in slots]
        return (flat[0] if len(flat) == 1 else torch.cat(flat)).index_select(0, self.row_slot)


class _Gather(torch.autograd.Function):
    """Rows of an array by index; the gradient comes back by the inverse index, without adding up."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, index: Tensor, inverse: Tensor) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(inverse)
        return rows.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        (inverse,) = ctx.saved_tensors
        return grads[0].index_select(0, inverse), None, None


@dataclass(frozen=True)
class Pattern:
    """Who may look at whom: the queries and the keys of an attention, in the same bins.

    Attributes
    ----------
    queries, keys
        Where their rows stand.
    hidden
        A group: (bins, 1, queries, keys), or (bins, 1, 1, keys) where each event has a bin of its
        own: 0 where query and key are of the same event, else -30,000; added to the scores.
    """

    queries: Slots
    keys: Slots
    hidden: tuple[Tensor, ...]

    @staticmethod
    def of(queries: Slots, keys: Slots, bins: Bins) -> "Pattern":
        """Let the rows of each event look at those of the same event alone."""
        hidden, asked, answering = [], 0, 0
        for (size, rows), (_, columns), alone in zip(
            queries.shapes, keys.shapes, bins.alone, strict=True
        ):
            query = queries.owner[asked : asked + size * rows].reshape(size, 1, rows, 1)
            key = keys.owner[answering : answering + size * columns].reshape(size, 1, 1, columns)
            seen = key >= 0 if alone else key == query
            hidden.append(on_device((seen - np.float32(1)) * _HIDDEN, queries.row_slot.device))
            asked, answering = asked + size * rows, answering + size * columns
        return Pattern(queries, keys, tuple(hidden))


class Layout:
    """The packed rows of one stream of a batch: first a class token an event, then the real tokens.

    Parameters
    ----------
    counts
        (events,): tokens of each event.
    device
        Where the rows are.

    Attributes
    ----------
    events
        Number of events.
    event
        (events + tokens,): the event of each row, on the host.
    """

    def __init__(self, counts: NDArray[np.int64], device: torch.device | str = "cpu") -> None:
        self.events = len(counts)
        self.counts = counts
        self.device = device
        events = np.arange(len(counts))
        self.event = np.concatenate([events, np.repeat(events, counts)])

    @cached_property
    def place(self) -> Tensor:
        """(tokens,): the place of each token in its event."""
        return on_device(ragged_rows(np.zeros_like(self.counts), self.counts), self.device)

    @cached_property
    def _bins(self) -> Bins:
        return Bins.of(self.counts + 1)

    @cached_property
    def tokens(self) -> Pattern:
        """All rows look at all rows of their event."""
        slots = Slots.of(self.event, self._bins, self.device)
        return Pattern.of(slots, slots, self._bins)

    @cached_property
    def class_tokens(self) -> Pattern:
        """Class tokens look at all rows of their event."""
        # They are the first rows of each bin, here as among all rows.
        slots = Slots.of(self.event[: self.events], self._bins, self.device)
        hidden = zip(slots.shapes, self.tokens.hidden, strict=True)
        return Pattern(
            slots, self.tokens.keys, tuple(values[:, :, :size] for (_, size), values in hidden)
        )

    def towards(self, contexts: Sequence["Layout"]) -> Pattern:
        """All rows look at the rows of their event in other streams, these one behind the other."""
        asked = np.concatenate([context.event for context in contexts])
        bins = Bins.of(np.bincount(asked, minlength=self.events))
        return Pattern.of(
            Slots.of(self.event, bins, self.device), Slots.of(asked, bins, self.device), bins
        )
