"""Multi-head attention on packed tokens: only inside this file are they padded."""

from collections.abc import Sequence

from torch import Tensor, nn

from manyscale.model.tokens import Layout, Pattern

__all__ = ["CrossAttention", "FeedForward", "SelfAttention", "attend", "split_heads"]


def attend(query: Tensor, key: Tensor, value: Tensor, hidden: Tensor) -> Tensor:
    """Scaled dot-product attention, softmax(q k^T / sqrt(d)) v, over the keys that are not hidden.

    Parameters
    ----------
    query
        (events, heads, queries, d).
    key, value
        (events, heads, keys, d).
    hidden
        (events, 1, 1 or queries, keys): 0 for a key to be seen, -inf for one to be hidden; each query
        sees one key at least.

    Returns
    -------
    (events, queries, heads * d)

    References
    ----------
    Vaswani et al., arXiv:1706.03762, equation 1; the kernel is torch's best for the device.
    """
    out = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=hidden)
    return out.transpose(1, 2).flatten(2)


def split_heads(slots: Tensor, parts: int, heads: int) -> Sequence[Tensor]:
    """Split (events, slots, parts * width) into `parts` arrays (events, heads, slots, d)."""
    events, length, width = slots.shape
    split = slots.view(events, length, parts, heads, width // (parts * heads))
    return split.permute(2, 0, 3, 1, 4).unbind(0)


def _across(query: Tensor, key_value: Tensor, pattern: Pattern, heads: int) -> Tensor:
    """Attention of query rows (rows, width) to key and value rows (rows, 2 width), back in rows."""
    found = []
    for asked, answering, hidden in zip(
        pattern.queries.pad(query), pattern.keys.pad(key_value), pattern.hidden, strict=True
    ):
        (queries,) = split_heads(asked, 1, heads)
        keys, values = split_heads(answering, 2, heads)
        found.append(attend(queries, keys, values, hidden))
    return pattern.queries.pack(found)


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
            query, key_value = self._of_class_tokens(tokens, layout.events)
            return self.out(_across(query, key_value, layout.class_tokens, self.heads))
        pattern = layout.tokens
        found = []
        padded = pattern.keys.pad(self.query_key_value(tokens))
        for slots, hidden in zip(padded, pattern.hidden, strict=True):
            query, key, value = split_heads(slots, 3, self.heads)
            found.append(attend(query, key, value, hidden))
        return self.out(pattern.queries.pack(found))

    def _of_class_tokens(self, tokens: Tensor, events: int) -> tuple[Tensor, Tensor]:
        """Queries of the class tokens alone, and keys and values of all."""
        linear, width = self.query_key_value, tokens.shape[1]
        weight, bias = linear.weight, linear.bias
        return (
            nn.functional.linear(tokens[:events], weight[:width], bias[:width]),
            nn.functional.linear(tokens, weight[width:], bias[width:]),
        )


class CrossAttention(nn.Module):
    """Attention of the tokens of one stream to those of other streams, in one softmax over all."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, tokens: Tensor, context: Tensor, pattern: Pattern) -> Tensor:
        """Map query rows (events + tokens, width) to rows; context: the rows of all other streams."""
        found = _across(self.query(tokens), self.key_value(context), pattern, self.heads)
        return self.out(found)


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
