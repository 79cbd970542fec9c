"""Multi-head attention on packed tokens: only inside this file are they padded."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from manyscale.model.tokens import Layout

__all__ = ["CrossAttention", "FeedForward", "SelfAttention", "attend"]


def attend(query: Tensor, key: Tensor, value: Tensor, hidden: Tensor) -> Tensor:
    """Scaled dot-product attention, softmax(q k^T / sqrt(d)) v, over the keys that are not hidden.

    Parameters
    ----------
    query
        (events, heads, queries, d).
    key, value
        (events, heads, keys, d).
    hidden
        (events, 1, 1, keys): 0 for a key to be seen, -inf for one to be hidden; each event sees one
        key at least.

    Returns
    -------
    (events, queries, heads * d)

    References
    ----------
    Vaswani et al., arXiv:1706.03762, equation 1; the kernel is torch's best for the device.
    """
    out = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=hidden)
    return out.transpose(1, 2).flatten(2)


def _heads(slots: Tensor, parts: int, heads: int) -> Sequence[Tensor]:
    """Split (events, slots, parts * width) into `parts` arrays (events, heads, slots, d)."""
    events, length, width = slots.shape
    split = slots.view(events, length, parts, heads, width // (parts * heads))
    return split.permute(2, 0, 3, 1, 4).unbind(0)


class SelfAttention(nn.Module):
    """Attention of the tokens of one stream to each other.

    Parameters
    ----------
    width
        Width of a token; a multiple of `heads`.
    heads
        Number of attention heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, tokens: Tensor, layout: Layout, *, class_only: bool = False) -> Tensor:
        """Map rows (events + tokens, width) to rows; with `class_only` to the class rows alone."""
        if class_only:
            return self.out(self._of_class_tokens(tokens, layout))
        found = []
        padded = layout.pad(self.query_key_value(tokens))
        for group, slots in zip(layout.groups, padded, strict=True):
            query, key, value = _heads(slots, 3, self.heads)
            found.append(attend(query, key, value, group.hidden))
        return self.out(layout.pack(found))

    def _of_class_tokens(self, tokens: Tensor, layout: Layout) -> Tensor:
        """Attention of the class tokens alone: one query an event."""
        linear = self.query_key_value
        width = tokens.shape[1]
        asked = nn.functional.linear(
            tokens[: layout.events], linear.weight[:width], linear.bias[:width]
        )
        queries = asked.view(layout.events, self.heads, 1, -1)
        padded = layout.pad(
            nn.functional.linear(tokens, linear.weight[width:], linear.bias[width:])
        )
        found = []
        for group, slots in zip(layout.groups, padded, strict=True):
            key, value = _heads(slots, 2, self.heads)
            query = queries.index_select(0, group.events)
            found.append(attend(query, key, value, group.hidden)[:, 0])
        return layout.pack_events(found)


class CrossAttention(nn.Module):
    """Attention of the tokens of one stream to those of other streams, in one softmax over all."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(
        self, tokens: Tensor, layout: Layout, contexts: Sequence[tuple[Tensor, Layout]]
    ) -> Tensor:
        """Map query rows (events + tokens, width) to rows; contexts are rows with their layouts.

        All layouts have the same groups of events.
        """
        queries = layout.pad(self.query(tokens))
        padded = [place.pad(self.key_value(rows)) for rows, place in contexts]
        found = []
        for number, slots in enumerate(queries):
            (query,) = _heads(slots, 1, self.heads)
            keys = torch.cat([context[number] for context in padded], dim=1)
            hidden = torch.cat([place.groups[number].hidden for _, place in contexts], dim=3)
            key, value = _heads(keys, 2, self.heads)
            found.append(attend(query, key, value, hidden))
        return self.out(layout.pack(found))


class FeedForward(nn.Module):
    """Two linear layers with a GELU between them, on each token alone."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.wide = nn.Linear(width, 2 * width)
        self.narrow = nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (rows, width) to (rows, width)."""
        return self.narrow(self.dropout(nn.functional.gelu(self.wide(tokens))))
