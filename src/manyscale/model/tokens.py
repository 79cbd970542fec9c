"""Where the tokens of a packed stream stand, and how they come to padded arrays and back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from manyscale.data.packing import ragged_rows

__all__ = ["Group", "Layout", "length_groups"]

# Work of one more group, in pairs of tokens: measured on a CPU at two heads of width 16.
_GROUP_COST = 15_000
_MOST_GROUPS = 8


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


class _Scatter(torch.autograd.Function):
    """Like _Gather, for the way back: slots that no row was taken from get no gradient."""

    @staticmethod
    def forward(ctx: Any, slots: Tensor, index: Tensor) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(index)
        ctx.slots = len(slots)
        return slots.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        (index,) = ctx.saved_tensors
        out = grads[0].new_zeros(ctx.slots, *grads[0].shape[1:])
        return out.index_copy_(0, index, grads[0]), None


def length_groups(lengths: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Divide events into groups of similar length, where that saves more than it costs.

    The batch was drawn at random before: what is learned from it does not depend on the groups.

    Parameters
    ----------
    lengths
        (events,): tokens of each event.

    Returns
    -------
    The events of each group.
    """
    order = np.argsort(lengths, kind="stable")
    best, least = [order], np.inf
    for count in range(1, _MOST_GROUPS + 1):
        parts = [part for part in np.array_split(order, count) if len(part)]
        work = sum(len(part) * float(lengths[part[-1]] + 1) ** 2 for part in parts)
        work += _GROUP_COST * len(parts)
        if work >= least:
            break
        best, least = parts, work
    return best


@dataclass(frozen=True)
class Group:
    """Events of similar length, padded together.

    Attributes
    ----------
    events
        (events of the group,): places in the batch.
    longest
        Slots an event.
    hidden
        (events of the group, 1, 1, longest), float: 0 for a real slot, -inf for an empty one; added
        to the scores of attention, so that no query sees an empty key.
    """

    events: Tensor
    longest: int
    hidden: Tensor


@dataclass(frozen=True)
class Layout:
    """The layout of one stream of a batch: packed rows against padded slots.

    The packed array has (events + tokens) rows: first the class token of every event, then the
    real tokens, one event behind the other. The slots are those of the groups, one behind the
    other: for each event its class token, its tokens, and empty slots up to the group's longest.

    Attributes
    ----------
    events
        Number of events.
    place
        (tokens,): the place of each token in its event.
    groups
        How the events are padded.
    slot_row
        (slots,): the row of each slot; an empty slot points at its event's class token.
    row_slot
        (events + tokens,): the slot of each row.
    """

    events: int
    place: Tensor
    groups: tuple[Group, ...]
    slot_row: Tensor
    row_slot: Tensor

    @staticmethod
    def of(
        counts: NDArray[np.int64],
        device: torch.device | str = "cpu",
        groups: Sequence[NDArray[np.int64]] | None = None,
    ) -> "Layout":
        """Make the layout of events of `counts` tokens; by default grouped by their length."""
        events = len(counts)
        first_row = np.cumsum(counts) - counts + events
        first_slot = np.zeros(events, np.int64)
        slot_rows, made, slots = [], [], 0
        for members in length_groups(counts) if groups is None else groups:
            longest = int(counts[members].max(initial=0)) + 1
            place = np.arange(longest)
            real = place <= counts[members, None]
            rows = np.where(real, first_row[members, None] + place - 1, members[:, None])
            rows[:, 0] = members
            slot_rows.append(rows.ravel())
            first_slot[members] = slots + longest * np.arange(len(members))
            hidden = np.where(real, np.float32(0), np.float32(-np.inf))[:, None, None, :]
            made.append(Group(_on(members, device), longest, _on(hidden, device)))
            slots += rows.size
        place = ragged_rows(np.zeros(events, np.int64), counts)
        token_slot = np.repeat(first_slot + 1, counts) + place
        return Layout(
            events,
            _on(place, device),
            tuple(made),
            _on(np.concatenate([*slot_rows, np.zeros(0, np.int64)]), device),
            _on(np.concatenate([first_slot, token_slot]), device),
        )

    def pad(self, rows: Tensor) -> list[Tensor]:
        """Bring packed rows (events + tokens, width) to slots (events, longest, width) of each group.

        Empty slots hold a copy of the class token, so that they are finite; `hidden` keeps every
        query from seeing them, so that no gradient comes back from them.
        """
        slots: Tensor = _Gather.apply(rows, self.slot_row, self.row_slot)  # type: ignore[no-untyped-call]
        width = rows.shape[1]
        sizes = [len(group.events) * group.longest for group in self.groups]
        return [
            part.view(-1, group.longest, width)
            for part, group in zip(torch.split(slots, sizes), self.groups, strict=True)
        ]

    def pack(self, slots: Sequence[Tensor]) -> Tensor:
        """Bring slots (events, longest, width) of each group back to rows (events + tokens, width)."""
        flat = torch.cat([group.flatten(0, 1) for group in slots])
        packed: Tensor = _Scatter.apply(flat, self.row_slot)  # type: ignore[no-untyped-call]
        return packed

    def pack_events(self, values: Sequence[Tensor]) -> Tensor:
        """Bring values (events, width) of each group to the order of the batch, (events, width)."""
        order = torch.cat([group.events for group in self.groups])
        together = torch.cat(list(values))
        return torch.empty_like(together).index_copy(0, order, together)


def _on(values: NDArray[Any], device: torch.device | str) -> Tensor:
    return torch.from_numpy(values).to(device)
