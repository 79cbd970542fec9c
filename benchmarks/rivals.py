"""What manyscale is measured against: the seed package's network, loop and padding, in plain torch.

Our own expression, from the public description, of Model 1 of the package
AHamamd150/Multi-Scale-Transformer-encoder (arXiv:2401.00452): 50 padded constituents of 7 columns,
three pre-norm layers with five heads as wide as a token, 61,619 parameters. Nothing is copied.
"""

from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

__all__ = [
    "BATCH",
    "LENGTH",
    "PARAMETERS",
    "SeedNetwork",
    "pad_by_append",
    "predict",
    "train_steps",
]

LENGTH = 50
BATCH = 50
PARAMETERS = 61_619

_COLUMNS = 7
_HEADS = 5
_LAYERS = 3
_DROPOUT = 0.2
_PT = 2


class _Layer(nn.Module):
    """Pre-norm attention and feed-forward; each head is as wide as the whole token."""

    def __init__(self) -> None:
        super().__init__()
        inner = _HEADS * _COLUMNS
        self.norm_attention = nn.LayerNorm(_COLUMNS)
        self.query_key_value = nn.Linear(_COLUMNS, 3 * inner)
        self.out = nn.Linear(inner, _COLUMNS)
        self.norm_feed_forward = nn.LayerNorm(_COLUMNS)
        self.feed_forward = nn.Sequential(*_hidden(_COLUMNS, 64, _COLUMNS))

    def forward(self, tokens: Tensor, hidden: Tensor) -> Tensor:
        events = len(tokens)
        split = self.query_key_value(self.norm_attention(tokens))
        query, key, value = split.view(events, LENGTH, 3, _HEADS, _COLUMNS).permute(2, 0, 3, 1, 4)
        tokens = tokens + self.out(self._attend(query, key, value, hidden).flatten(2))
        return tokens + self.feed_forward(self.norm_feed_forward(tokens))

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, hidden: Tensor) -> Tensor:
        """Whichever form is the faster one on CPUs: torch's kernel has no fast way with dropout."""
        if self.training:
            scores = (query * _COLUMNS**-0.5) @ key.transpose(-1, -2) + hidden
            weights = nn.functional.dropout(torch.softmax(scores, dim=-1), _DROPOUT)
            attended = weights @ value
        else:
            attended = nn.functional.scaled_dot_product_attention(
                query, key, value, attn_mask=hidden
            )
        return attended.transpose(1, 2)


class SeedNetwork(nn.Module):
    """Layers over padded tokens, all tokens side by side into three hidden layers, two scores."""

    def __init__(self) -> None:
        super().__init__()
        self.norm_input = nn.LayerNorm(_COLUMNS)
        self.layers = nn.ModuleList(_Layer() for _ in range(_LAYERS))
        self.head = nn.Sequential(
            nn.LayerNorm(_COLUMNS),
            nn.Flatten(),
            nn.Dropout(_DROPOUT),
            *_hidden(LENGTH * _COLUMNS, 128, 64, 32),
            nn.Linear(32, 2),
        )

    def forward(self, events: Tensor) -> Tensor:
        """Map (events, 50, 7) to logits (events, 2)."""
        empty = events[:, None, None, :, _PT] == 0
        hidden = torch.zeros(empty.shape).masked_fill_(empty, -1e9)
        tokens = self.norm_input(events)
        for layer in self.layers:
            tokens = layer(tokens, hidden)
        return self.head(tokens)


def _hidden(*widths: int) -> list[nn.Module]:
    """Linear layers with GELU and dropout."""
    return [
        module
        for before, behind in pairwise(widths)
        for module in (nn.Linear(before, behind), nn.GELU(), nn.Dropout(_DROPOUT))
    ]


def train_steps(
    network: SeedNetwork,
    optimizer: torch.optim.Optimizer,
    events: Tensor,
    label: Tensor,
    steps: int,
) -> None:
    """Train on so many batches of 50, drawn at random; loss and accuracy are kept up each step."""
    network.train()
    order = torch.randperm(len(events))
    right = 0.0
    for chosen in torch.split(order[: steps * BATCH], BATCH):
        logits = network(events[chosen])
        loss = nn.functional.cross_entropy(logits, label[chosen])
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        right += float((logits.argmax(1) == label[chosen]).float().mean())


@torch.inference_mode()
def predict(network: SeedNetwork, events: Tensor, batch: int = BATCH) -> Tensor:
    """Probabilities (events, 2); at a batch of 50 the network is as fast as at any."""
    network.eval()
    return torch.cat([network(part).softmax(1) for part in torch.split(events, batch)])


def pad_by_append(events: NDArray[np.float64], length: int) -> NDArray[np.float64]:
    """Pad events (events, tokens, columns) to `length` tokens as the seed does: one `np.append` an event.

    Each append copies all events before it, so that the time is quadratic in their number.
    """
    tokens, columns = events.shape[1:]
    padded = np.empty((0, length, columns))
    for event in events:
        filled = np.concatenate([event[:length], np.zeros((max(0, length - tokens), columns))])
        padded = np.append(padded, filled[None], axis=0)
    return padded
