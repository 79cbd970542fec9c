"""Where packed rows stand in padded arrays: pad indices, attention masks, buckets of similar length.

The rows of a batch (tokens of all events, one after the other) are padded for attention alone. Short
events share a row of the padded array, kept apart by a mask; long ones have one each; padded rows of
similar length form a bucket, so that little padding is worked on. The batch was drawn at random before:
what is learned from it does not depend on its buckets.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from manyscale.features.columns import on_device

__all__ = ["AttentionLayout", "Buckets", "Layout", "PaddedLayout", "Padding", "Sequences"]

# Measured on one core with two heads of width 16: padded rows shorter than this cost more in calls than
# they save in pairs; a bucket pays for its calls from so many tokens on; more buckets gain nothing.
_SHORTEST = 48
_TOKENS_PER_BUCKET = 1000
_MOST_BUCKETS = 10
# Subtracted from a score it leaves nothing after the softmax; finite, also in half precision, so that a
# padded query, which may attend to no key at all, stays finite.
_MASKED = np.float32(30_000)


@dataclass(frozen=True)
class Buckets:
    """Which events of a batch share a padded row, and which padded rows form a bucket.

    Attributes
    ----------
    row_of_event
        (events,): the padded row of each event; the rows of a bucket follow each other.
    sizes
        Number of padded rows of each bucket.
    alone
        Whether each event of the bucket has a padded row of its own.
    """

    row_of_event: NDArray[np.int64]
    sizes: tuple[int, ...]
    alone: tuple[bool, ...]

    @staticmethod
    def of(lengths: NDArray[np.int64]) -> "Buckets":
        """Divide events of so many tokens, (events,), each of one at least.

        Examples
        --------
        >>> buckets = Buckets.of(np.array([2, 40, 3, 2]))
        >>> buckets.row_of_event.tolist(), buckets.sizes, buckets.alone
        ([0, 0, 0, 0], (1,), (False,))
        """
        order = np.argsort(-lengths, kind="stable")
        falling = lengths[order]
        most = min(1 + int(falling.sum()) // _TOKENS_PER_BUCKET, _MOST_BUCKETS)
        if falling.max(initial=0) <= _SHORTEST:
            most = 1
        # Buckets of equal work, of pairs and of tokens: so that one long event stands alone.
        groups = [order]
        if most > 1:
            work = falling * (_SHORTEST + falling)
            bucket = (np.cumsum(work) - work) * most // int(work.sum())
            groups = np.split(order, np.flatnonzero(np.diff(bucket)) + 1)
        row_of_event = np.empty(len(lengths), np.int64)
        sizes: list[int] = []
        alone: list[bool] = []
        for members in groups:
            rows = _share_rows(lengths[members])
            row_of_event[members] = sum(sizes) + rows
            sizes.append(int(rows.max(initial=-1)) + 1)
            alone.append(sizes[-1] == len(members))
        return Buckets(row_of_event, tuple(sizes), tuple(alone))


def _share_rows(falling: NDArray[np.int64]) -> NDArray[np.int64]:
    """Padded row of each event of a bucket: the longest have one each, the others fill them up."""
    tokens, events = max(int(falling.sum()), 1), len(falling)
    rows = -(-events // max(1, _SHORTEST * events // tokens))
    shared = np.arange(events)
    if rows < events:
        room = np.maximum(falling[0], -(-tokens // rows))
        ends = np.cumsum(room - falling[:rows])
        # The shortest come first, where there is the least room.
        rest = falling[: rows - 1 : -1]
        middle = np.cumsum(rest) - rest / 2
        shared[rows:] = np.minimum(np.searchsorted(ends, middle), rows - 1)[::-1]
    return shared


@dataclass(frozen=True)
class Padding:
    """Packed rows to padded arrays and back.

    Attributes
    ----------
    shapes
        (padded rows, length) of each bucket; flattened, all buckets follow each other.
    pad_index
        (slots,): the packed row of each slot of the padded arrays; padding repeats some row.
    unpad_index
        (rows,): the slot of each packed row.
    event_of_slot
        (slots,), int32, on the host: the event of each slot; -1 for padding.
    """

    shapes: tuple[tuple[int, int], ...]
    pad_index: Tensor
    unpad_index: Tensor
    event_of_slot: NDArray[np.int32]

    @staticmethod
    def of(
        event: NDArray[np.int64], buckets: Buckets, device: torch.device | str = "cpu"
    ) -> "Padding":
        """Put packed rows, `event` the event of each, into the padded rows of their events, in order."""
        padded_row = buckets.row_of_event[event]
        order = np.argsort(padded_row, kind="stable")
        filled = np.bincount(padded_row, minlength=sum(buckets.sizes))
        lengths = [
            int(filled[end - size : end].max(initial=1))
            for size, end in zip(buckets.sizes, accumulate(buckets.sizes), strict=True)
        ]
        width = np.repeat(lengths, buckets.sizes)
        # Padding that stands before each padded row.
        before = np.cumsum(width - filled) - (width - filled)
        slot = np.arange(len(order)) + np.repeat(before, filled)
        pad_index = np.zeros(int(width.sum()), np.int64)
        pad_index[slot] = order
        unpad_index = np.empty_like(order)
        unpad_index[order] = slot
        event_of_slot = np.full(len(pad_index), -1, np.int32)
        event_of_slot[unpad_index] = event
        return Padding(
            tuple(zip(buckets.sizes, lengths, strict=True)),
            on_device(pad_index, device),
            on_device(unpad_index, device),
            event_of_slot,
        )

    def pad(self, rows: Tensor) -> list[Tensor]:
        """Bring rows (rows, ...) to padded arrays (padded rows, length, ...), one a bucket.

        Padding holds a copy of some row, so that it is finite; as a key it is masked, and as a query
        it is not read, so that no gradient comes back from it.
        """
        slots: Tensor = _Pad.apply(rows, self.pad_index, self.unpad_index)  # type: ignore[no-untyped-call]
        if len(self.shapes) == 1:
            return [slots.view(*self.shapes[0], *rows.shape[1:])]
        parts = torch.split(slots, [count * length for count, length in self.shapes])
        return [
            part.view(*shape, *rows.shape[1:])
            for part, shape in zip(parts, self.shapes, strict=True)
        ]

    def unpad(self, padded: Sequence[Tensor]) -> Tensor:
        """Bring padded arrays (padded rows, length, ...), one a bucket, back to rows (rows, ...)."""
        flat = [bucket.flatten(0, 1) for bucket in padded]
        return (flat[0] if len(flat) == 1 else torch.cat(flat)).index_select(0, self.unpad_index)


class _Pad(torch.autograd.Function):
    """Rows of an array by index; the gradient comes back by the inverse index, without adding up."""

    @staticmethod
    def forward(ctx, rows: Tensor, index: Tensor, inverse: Tensor) -> Tensor:  # type: ignore[no-untyped-def] # noqa: ANN001
        ctx.save_for_backward(inverse)
        return rows.index_select(0, index)

    @staticmethod
    def backward(ctx, *grads: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[no-untyped-def] # noqa: ANN001
        (inverse,) = ctx.saved_tensors
        return grads[0].index_select(0, inverse), None, None


@dataclass(frozen=True)
class PaddedLayout:
    """Queries and keys in padded arrays, for torch's kernel with a mask.

    Attributes
    ----------
    queries, keys
        Where their rows stand; both have the same buckets.
    masks
        A bucket: (padded rows, 1, queries, keys), or (padded rows, 1, 1, keys) where each event has a
        padded row of its own: 0 where query and key are of the same event, else -30,000; added to
        the scores.
    """

    queries: Padding
    keys: Padding
    masks: tuple[Tensor, ...]

    @staticmethod
    def of(queries: Padding, keys: Padding, buckets: Buckets) -> "PaddedLayout":
        """Let the rows of each event attend to those of the same event alone."""
        masks, query_end, key_end = [], 0, 0
        for (rows, query_length), (_, key_length), alone in zip(
            queries.shapes, keys.shapes, buckets.alone, strict=True
        ):
            query_start, key_start = query_end, key_end
            query_end, key_end = query_end + rows * query_length, key_end + rows * key_length
            query = queries.event_of_slot[query_start:query_end].reshape(rows, 1, query_length, 1)
            key = keys.event_of_slot[key_start:key_end].reshape(rows, 1, 1, key_length)
            seen = key >= 0 if alone else key == query
            masks.append(on_device(~seen * -_MASKED, queries.unpad_index.device))
        return PaddedLayout(queries, keys, tuple(masks))


@dataclass(frozen=True)
class Sequences:
    """Rows brought together event by event, as a variable-length kernel takes them.

    Attributes
    ----------
    order, position
        (rows,): the row that stands at each position, and the position of each row; None where the
        rows stand in this order already.
    starts
        (events + 1,), int32: the position of the first row of each event, and the end.
    longest
        Most rows of an event.
    """

    order: Tensor | None
    position: Tensor | None
    starts: Tensor
    longest: int

    @staticmethod
    def of(layouts: Sequence["Layout"]) -> "Sequences":
        """Rows of several streams of the same events; worked out on their device, without waiting."""
        longest = int(np.sum([layout.host_counts + 1 for layout in layouts], axis=0).max(initial=0))
        if len(layouts) == 1:
            return Sequences(None, None, layouts[0].starts.int(), longest)
        rows = torch.stack([layout.counts + 1 for layout in layouts])
        before = rows.cumsum(0) - rows
        ends = rows.sum(0).cumsum(0)
        starts = torch.cat([ends.new_zeros(1), ends])
        position = []
        for layout, offset in zip(layouts, before, strict=True):
            shift = starts[:-1] + offset - layout.starts[:-1]
            row = torch.arange(layout.rows, device=rows.device)
            position.append(row + shift.index_select(0, layout.event_of_row))
        every = torch.cat(position)
        order = torch.empty_like(every)
        order[every] = torch.arange(len(order), device=order.device)
        return Sequences(order, every, starts.int(), longest)

    def bring(self, rows: Tensor) -> Tensor:
        """Rows (rows, ...) in the order of the events."""
        if self.order is None:
            return rows
        return _Pad.apply(rows, self.order, self.position)  # type: ignore[no-untyped-call]


class AttentionLayout:
    """Which query rows attend to which key rows: those of the same event.

    What a kernel needs of it is worked out when it is first asked for.

    Parameters
    ----------
    query
        The stream whose rows query.
    keys
        The streams whose rows are attended to, one after the other.
    class_only
        Whether only the class tokens query.
    """

    def __init__(
        self, query: "Layout", keys: Sequence["Layout"], *, class_only: bool = False
    ) -> None:
        self.query, self.keys, self.class_only = query, keys, class_only

    @cached_property
    def padded(self) -> PaddedLayout:
        """For torch's kernel with a mask, which also takes a bias and shows weights."""
        query, device = self.query, self.query.device
        if self.keys == (query,):
            return query.padded_classes if self.class_only else query.padded
        key_event = np.concatenate([layout.event for layout in self.keys])
        buckets = Buckets.of(np.bincount(key_event, minlength=query.events))
        return PaddedLayout.of(
            Padding.of(query.event, buckets, device),
            Padding.of(key_event, buckets, device),
            buckets,
        )

    @cached_property
    def sequences(self) -> tuple[Sequences, Sequences]:
        """Queries and keys for a variable-length kernel."""
        query = self.query
        keys = query.sequences if self.keys == (query,) else Sequences.of(self.keys)
        if self.class_only:
            starts = torch.arange(query.events + 1, dtype=torch.int32, device=query.device)
            return Sequences(None, None, starts, 1), keys
        return query.sequences, keys


class Layout:
    """The packed rows of one stream of a batch: of each event a class token, then the real tokens.

    Parameters
    ----------
    counts
        (events,): tokens of each event, on the device of the rows.
    host_counts
        The same on the host, so that a GPU need not be asked for them.

    Attributes
    ----------
    events, rows
        Number of events, and of their rows.
    """

    def __init__(self, counts: Tensor, host_counts: NDArray[np.int64]) -> None:
        self.counts = counts
        self.host_counts = host_counts
        self.events = len(host_counts)
        self.rows = self.events + int(host_counts.sum())
        self.device = counts.device
        self._host_rows = host_counts + 1

    @cached_property
    def event(self) -> NDArray[np.int64]:
        """(rows,): the event of each row, on the host."""
        return np.arange(self.events).repeat(self._host_rows)

    @cached_property
    def starts(self) -> Tensor:
        """(events + 1,): the first row of each event, its class token, and the end."""
        ends = (self.counts + 1).cumsum(0)
        return torch.cat([ends.new_zeros(1), ends])

    @cached_property
    def event_of_row(self) -> Tensor:
        """(rows,): the event of each row."""
        events = torch.arange(self.events, device=self.device)
        return torch.repeat_interleave(events, self.counts + 1, output_size=self.rows)

    @cached_property
    def token_rows(self) -> Tensor:
        """(tokens,): the row of each token."""
        events = torch.arange(1, self.events + 1, device=self.device)
        tokens = self.rows - self.events
        shift = torch.repeat_interleave(events, self.counts, output_size=tokens)
        return torch.arange(tokens, device=self.device) + shift

    @cached_property
    def first_rows(self) -> Tensor:
        """(events,): the row of each class token."""
        if self.device.type == "cpu":
            return torch.from_numpy(self._host_rows.cumsum() - self._host_rows)
        return self.starts[:-1]

    @cached_property
    def token_of_row(self) -> Tensor:
        """(rows,): 0 for a class token, else one more than the index of the token in the batch."""
        if self.device.type == "cpu":
            on_host = np.arange(self.rows) - self.event
            on_host[self.first_rows.numpy()] = 0
            return torch.from_numpy(on_host)
        token = torch.arange(self.rows, device=self.device) - self.event_of_row
        return token.index_fill_(0, self.first_rows, 0)

    def class_rows(self, rows: Tensor) -> Tensor:
        """(events, width) of (rows, width): those of the class tokens."""
        return rows.index_select(0, self.first_rows)

    @cached_property
    def index(self) -> Tensor:
        """(tokens,): the index of each token in its event."""
        row = torch.arange(self.rows, device=self.device)
        in_event = row - self.starts.index_select(0, self.event_of_row)
        return in_event.index_select(0, self.token_rows) - 1

    @cached_property
    def buckets(self) -> Buckets:
        """Of all rows."""
        return Buckets.of(self._host_rows)

    @cached_property
    def sequences(self) -> Sequences:
        """Of all rows."""
        return Sequences.of([self])

    @cached_property
    def padded(self) -> PaddedLayout:
        """All rows to all rows of their event."""
        padding = Padding.of(self.event, self.buckets, self.device)
        return PaddedLayout.of(padding, padding, self.buckets)

    @cached_property
    def padded_classes(self) -> PaddedLayout:
        """Class tokens to all rows of their event."""
        classes = Padding.of(np.arange(self.events), self.buckets, self.device)
        return PaddedLayout.of(classes, self.padded.keys, self.buckets)

    # Not cached: a reference cycle would keep each batch until Python's garbage collector runs.
    @property
    def to_itself(self) -> AttentionLayout:
        """All rows attend to all rows of their event."""
        return AttentionLayout(self, (self,))

    @property
    def class_to_all(self) -> AttentionLayout:
        """Class tokens attend to all rows of their event."""
        return AttentionLayout(self, (self,), class_only=True)

    def to_contexts(self, contexts: Sequence["Layout"]) -> AttentionLayout:
        """All rows attend to the rows of their event in other streams, these one after the other."""
        return AttentionLayout(self, tuple(contexts))
