"""Where the tokens of a packed stream stand, and how they come to a padded array and back."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["Layout"]


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


@dataclass(frozen=True)
class Layout:
    """The layout of one stream of a batch: packed rows against padded slots.

    The packed array has (events + tokens) rows: first the class token of every event, then the
    real tokens, one event behind the other. The padded array has (events, longest) slots: each
    event's class token, its tokens, and empty slots up to the longest event.

    Attributes
    ----------
    events
        Number of events.
    longest
        Slots an event, the class token counted.
    slot_row
        (events * longest,): the row of each slot; an empty slot points at its event's class token.
    row_slot
        (events + tokens,): the slot of each row.
    hidden
        (events, longest), float: 0 for a real slot, -inf for an empty one; added to the scores of
        attention, so that no query sees an empty key.
    """

    events: int
    longest: int
    slot_row: Tensor
    row_slot: Tensor
    hidden: Tensor

    @staticmethod
    def of(counts: Tensor, longest: int, tokens: int) -> "Layout":
        """Make the layout of events of `counts` tokens, `longest` at most, `tokens` in all."""
        device = counts.device
        events = len(counts)
        slots = longest + 1
        event = torch.arange(events, device=device)
        first = torch.cumsum(counts, 0) - counts + events
        place = torch.arange(slots, device=device)
        real = place <= counts[:, None]
        slot_row = torch.where(real, first[:, None] + place - 1, event[:, None])
        slot_row[:, 0] = event
        owner = torch.repeat_interleave(event, counts, output_size=tokens)
        token_row = torch.arange(events, events + tokens, device=device)
        token_slot = owner * slots + 1 + token_row - first[owner]
        hidden = torch.zeros(events, slots, device=device).masked_fill_(~real, float("-inf"))
        return Layout(
            events, slots, slot_row.flatten(), torch.cat([event * slots, token_slot]), hidden
        )

    def pad(self, rows: Tensor) -> Tensor:
        """Bring packed rows (events + tokens, width) to slots (events, longest, width).

        Empty slots hold a copy of the class token, so that they are finite; `hidden` keeps every
        query from seeing them, so that no gradient comes back from them.
        """
        padded: Tensor = _Gather.apply(rows, self.slot_row, self.row_slot)  # type: ignore[no-untyped-call]
        return padded.view(self.events, self.longest, -1)

    def pack(self, slots: Tensor) -> Tensor:
        """Bring slots (events, longest, width) back to packed rows (events + tokens, width)."""
        flat = slots.reshape(self.events * self.longest, -1)
        packed: Tensor = _Scatter.apply(flat, self.row_slot)  # type: ignore[no-untyped-call]
        return packed
