"""From the class tokens of the streams to the scores of the classes."""

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from manyscale.settings import Settings, setting

__all__ = ["Head", "HeadSettings"]


class HeadSettings(Settings):
    """The layers between the pooled class tokens and the scores."""

    units: tuple[Annotated[int, Field(ge=1)], ...] = setting((64,), "widths of the hidden layers")
    dropout: float = setting(0.0, "dropout behind each hidden layer", ge=0, lt=1)


class Head(nn.Module):
    """The class tokens of the pooled streams, side by side, to one logit a class."""

    def __init__(self, widths: Sequence[int], classes: int, settings: HeadSettings) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = sum(widths)
        for units in settings.units:
            layers += [nn.Linear(width, units), nn.GELU(), nn.Dropout(settings.dropout)]
            width = units
        self.layers = nn.Sequential(*layers, nn.Linear(width, classes))

    def forward(self, pooled: Sequence[Tensor]) -> Tensor:
        """Map the class tokens, each (events, width of its stream), to logits (events, classes)."""
        logits: Tensor = self.layers(torch.cat(list(pooled), dim=1))
        return logits
