"""Multi-head attention on packed tokens: only inside this file are they padded."""

import math
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
        (events, keys): 0 for a key to be seen, -inf for one to be hidden; each event sees one key
        at least.

    Returns
    -------
    (events, queries, heads * d)

    References
    ----------
    Vaswani et al., arXiv:1706.03762, equation 1.
    """
    events, heads, queries, depth = query.shape
    scores = torch.matmul(query * (1 / math.sqrt(depth)), key.transpose(-1, -2))
    weights = torch.softmax(scores + hidden[:, None, None, :], dim=-1)
    return torch.matmul(weights, value).transpose(1, 2).reshape(events, queries, heads * depth)


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
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, tokens: Tensor, layout: Layout, *, class_only: bool = False) -> Tensor:
        """Map rows (events + tokens, width) to rows; with `class_only` to the class rows alone."""
        events = layout.events
        if class_only:
            query = self.query(tokens[:events]).view(events, self.heads, 1, -1)
            key, value = _heads(layout.pad(self.key_value(tokens)), 2, self.heads)
            return self.out(attend(query, key, value, layout.hidden).view(events, -1))
        weight = torch.cat([self.query.weight, self.key_value.weight])
        bias = torch.cat([self.query.bias, self.key_value.bias])
        rows = nn.functional.linear(tokens, weight, bias)
        query, key, value = _heads(layout.pad(rows), 3, self.heads)
        return self.out(layout.pack(attend(query, key, value, layout.hidden)))


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
        """Map query rows (events + tokens, width) to rows; contexts are rows with their layouts."""
        (query,) = _heads(layout.pad(self.query(tokens)), 1, self.heads)
        slots = torch.cat([place.pad(self.key_value(rows)) for rows, place in contexts], dim=1)
        hidden = torch.cat([place.hidden for _, place in contexts], dim=1)
        key, value = _heads(slots, 2, self.heads)
        return self.out(layout.pack(attend(query, key, value, hidden)))


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
