"""Multi-head attention of packed rows: `attend`, the one seam, and the layers that call it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from manyscale.features.pairs import FEATURES, MOMENTUM, pair_features
from manyscale.model.layout import AttentionLayout, Layout
from manyscale.progress import LOG

__all__ = [
    "AttentionWeights",
    "CrossAttention",
    "FeedForward",
    "PairBias",
    "SelfAttention",
    "attend",
    "takes_varlen",
]


@dataclass(frozen=True)
class AttentionWeights:
    """The softmax weights of one attention for a batch, padded.

    Attributes
    ----------
    buckets
        (padded rows, heads, queries, keys) of each bucket; each query's weights sum to one over the
        keys of its event and are zero for all others. Those of padding hold anything finite.
    layout
        Which rows stand where.
    """

    buckets: tuple[Tensor, ...]
    layout: AttentionLayout

    def onto_keys(
        self, of_classes: Tensor, of_tokens: Tensor | None = None
    ) -> list[tuple[Tensor, Tensor]]:
        """Add up what each key is given by the queries of its event, these counted by their share.

        Parameters
        ----------
        of_classes, of_tokens
            (events, kinds) and (tokens, kinds): how much the class token of each event, and each
            token of the stream that queries, counts; several kinds of queries at once. None: tokens
            count nothing.

        Returns
        -------
        For each stream of keys what its class tokens are given, (events, heads, kinds), and its
        tokens, (tokens, heads, kinds).
        """
        query, padded = self.layout.query, self.layout.padded
        share = of_classes
        if not self.layout.class_only:
            share = of_classes.new_zeros(query.rows, of_classes.shape[1])
            share[query.first_rows] = of_classes
            if of_tokens is not None:
                share[query.token_rows] = of_tokens
        real = torch.from_numpy(padded.queries.event_of_slot >= 0).to(share.device)
        first = 0
        found = []
        for weights, shares in zip(self.buckets, padded.queries.pad(share), strict=True):
            rows, length = shares.shape[:2]
            there = real[first : first + rows * length].view(rows, length, 1)
            first += rows * length
            found.append(torch.einsum("bhqk,bqc->bkhc", weights, shares * there))
        keys = self.layout.keys
        parts = torch.split(padded.keys.unpad(found), [layout.rows for layout in keys])
        return [
            (layout.class_rows(part), part.index_select(0, layout.token_rows))
            for layout, part in zip(keys, parts, strict=True)
        ]


def _varlen_attention() -> Callable[..., Tensor] | None:
    """Torch's variable-length FlashAttention; None before torch 2.10."""
    try:
        from torch.nn.attention.varlen import varlen_attn  # noqa: PLC0415
    except ImportError:
        return None
    return varlen_attn  # type: ignore[return-value]


_VARLEN = _varlen_attention()
# Hidden width of what maps pairs to biases: on a CPU half of a step goes there.
_HIDDEN = 16


@cache
def takes_varlen(head: int) -> bool:
    """Whether torch has a variable-length kernel on GPUs for packed rows and heads of this width."""
    fits = head % 8 == 0 and head <= 256
    if _VARLEN is not None and not fits:
        LOG.info(
            f"attention heads of width {head} (width / heads) are padded on a GPU, which is slower: "
            f"its kernel for packed rows takes multiples of 8 up to 256"
        )
    return _VARLEN is not None and fits


WeightsTap = Callable[[AttentionWeights], None]


def attend(
    query_rows: Tensor | None,
    key_value_rows: Tensor,
    layout: AttentionLayout,
    *,
    bias: Sequence[Tensor] | None = None,
    tap: WeightsTap | None = None,
) -> Tensor:
    """Scaled dot-product attention, softmax(q k^T / sqrt(d) + bias) v, inside each event.

    Parameters
    ----------
    query_rows
        (query rows, heads, d), packed; None where the same rows query and are attended to.
    key_value_rows
        (key rows, 2, heads, d), packed: key and value of each row; (rows, 3, heads, d), query, key
        and value, where there are no other queries. Side by side, since they are padded in one go.
    layout
        Which query attends to which key.
    bias
        A bucket of the layout: (padded rows, heads or 1, queries, keys), added to the scores.
    tap
        Is given the weights, which the kernel does not show: they are worked out beside it.

    Returns
    -------
    (query rows, heads * d)

    References
    ----------
    Vaswani et al., arXiv:1706.03762, equation 1; the kernel is torch's best for the device.
    """
    if _VARLEN is not None and bias is None and tap is None and _fits_varlen(key_value_rows):
        queries, keys = layout.sequences
        *own, key, value = keys.bring(key_value_rows).unbind(1)
        found = _VARLEN(
            own[0] if query_rows is None else query_rows,
            *(key, value, queries.starts, keys.starts, queries.longest, keys.longest),
        )
        return found.flatten(1)
    padded = layout.padded
    buckets = padded.keys.pad(key_value_rows)
    others = None if query_rows is None else padded.queries.pad(query_rows)
    out, weights = [], []
    for number, (bucket, mask) in enumerate(zip(buckets, padded.masks, strict=True)):
        *own, key, value = bucket.permute(2, 0, 3, 1, 4).unbind(0)
        query = own[0] if others is None else others[number].transpose(1, 2)
        added = mask if bias is None else mask + bias[number]
        found = nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=added.to(query.dtype)
        )
        out.append(found.transpose(1, 2).flatten(2))
        if tap is not None:
            scores = query.detach() @ key.detach().transpose(2, 3) / query.shape[-1] ** 0.5
            weights.append(torch.softmax(scores + added.detach(), dim=-1))
    if tap is not None:
        tap(AttentionWeights(tuple(weights), layout))
    return padded.queries.unpad(out)


def _fits_varlen(rows: Tensor) -> bool:
    """Whether the variable-length kernel takes these rows: on a GPU, in half precision."""
    half = rows.dtype in {torch.bfloat16, torch.float16}
    return rows.is_cuda and half and takes_varlen(rows.shape[-1])


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

    def forward(
        self,
        tokens: Tensor,
        layout: Layout,
        *,
        class_only: bool = False,
        bias: Sequence[Tensor] | None = None,
        tap: WeightsTap | None = None,
    ) -> Tensor:
        """Map rows (rows, width) to rows; with `class_only` to the class rows alone, without a bias."""
        if class_only:
            # The queries of other tokens would be worked out for nothing.
            sizes = [tokens.shape[1], 2 * tokens.shape[1]]
            weights = torch.split(self.query_key_value.weight, sizes)
            biases = torch.split(self.query_key_value.bias, sizes)
            query = nn.functional.linear(layout.class_rows(tokens), weights[0], biases[0])
            key_value = nn.functional.linear(tokens, weights[1], biases[1])
            query = query.view(len(query), self.heads, -1)
            key_value = key_value.view(len(tokens), 2, self.heads, -1)
            return self.out(attend(query, key_value, layout.class_to_all, tap=tap))
        rows = self.query_key_value(tokens).view(len(tokens), 3, self.heads, -1)
        return self.out(attend(None, rows, layout.to_itself, bias=bias, tap=tap))


class PairBias(nn.Module):
    """What is added to the scores of self-attention: a number for each head and pair of tokens.

    A perceptron of one hidden layer, on what both tokens are to each other; one for all layers. Pairs with
    a class token, which has no momentum, have the bias 0. At first all have.

    References
    ----------
    H. Qu, C. Li, S. Qian, arXiv:2202.03772, section 4 (there three hidden layers of 64).
    """

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.wide = nn.Linear(FEATURES, _HIDDEN)
        self.narrow = nn.Linear(_HIDDEN, heads)
        nn.init.zeros_(self.narrow.weight)
        nn.init.zeros_(self.narrow.bias)

    def forward(self, momenta: Tensor, layout: Layout) -> list[Tensor]:
        """Map momenta (tokens, 4) to biases (padded rows, heads, rows, rows) of each bucket."""
        # Below one row for every class token; the last number tells tokens apart.
        rows = momenta.new_zeros(1 + len(momenta), MOMENTUM + 1)
        rows[1:, :-1] = momenta
        rows[1:, -1] = 1
        rows = rows.index_select(0, layout.token_of_row)
        return [self.padded(bucket) for bucket in layout.padded.keys.pad(rows)]

    def padded(self, rows: Tensor) -> Tensor:
        """Map padded rows (padded rows, rows, 5) to biases (padded rows, heads, rows, rows).

        The fifth number tells tokens, 1, from class tokens and padding, 0.
        """
        count, length = rows.shape[:2]
        # Pairs look the same from both sides: half of them are worked out, then put in both places.
        # Pair k is that of rows j <= i with k = i (i + 1) / 2 + j.
        k = torch.arange(length * (length + 1) // 2, device=rows.device)
        one = ((8 * k + 1).double().sqrt().sub(1) / 2).floor().long()
        other = k - one * (one + 1) // 2
        row = torch.arange(length, device=rows.device)
        larger, smaller = torch.maximum(row[:, None], row), torch.minimum(row[:, None], row)
        place = larger * (larger + 1) // 2 + smaller
        # Numbers first and padded rows last: on a CPU several times as fast.
        numbers = rows.permute(1, 2, 0).contiguous()
        a, b = (numbers.index_select(0, of).transpose(0, 1) for of in (one, other))
        pairs = pair_features(a[:-1], b[:-1]).flatten(1)
        hidden = torch.addmm(self.wide.bias[:, None], self.wide.weight, pairs)
        hidden = nn.functional.gelu(hidden)
        bias = torch.addmm(self.narrow.bias[:, None], self.narrow.weight, hidden)
        bias = bias.view(-1, one.shape[0], count) * (a[-1] * b[-1])
        whole = bias.index_select(1, place.flatten()).permute(2, 0, 1)
        return whole.reshape(count, -1, length, length)


class CrossAttention(nn.Module):
    """Attention of the tokens of one stream to those of other streams, in one softmax over all."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(
        self,
        tokens: Tensor,
        context: Tensor,
        layout: AttentionLayout,
        tap: WeightsTap | None = None,
    ) -> Tensor:
        """Map query rows (rows, width) to rows; context: the rows of all other streams."""
        query = self.query(tokens).view(len(tokens), self.heads, -1)
        key_value = self.key_value(context).view(len(context), 2, self.heads, -1)
        return self.out(attend(query, key_value, layout, tap=tap))


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
