"""Which event is for training, validation or test: a function of the event and the seed alone."""

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from manyscale.data.identity import uniform
from manyscale.settings import Settings, setting

__all__ = ["SPLITS", "SplitName", "SplitSettings", "split_places"]

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")


class SplitSettings(Settings):
    """Shares of the three parts; together they are 1."""

    train: float = setting(0.7, "share of the events that the network learns from", gt=0, lt=1)
    validation: float = setting(0.15, "share by which the best epoch is chosen", gt=0, lt=1)
    test: float = setting(0.15, "share that the figures are made of", gt=0, lt=1)

    @model_validator(mode="after")
    def _whole(self) -> "SplitSettings":
        total = math.fsum((self.train, self.validation, self.test))
        if abs(total - 1) > 1e-9:
            raise ValueError(f"train, validation and test must add up to 1, not to {total:.12g}")
        return self


def split_places(
    event_id: NDArray[np.uint64], seed: int, settings: SplitSettings
) -> NDArray[np.int64]:
    """Place of each event's part in `SPLITS`, (events,).

    Examples
    --------
    >>> split_places(np.arange(4, dtype=np.uint64), 1, SplitSettings())
    array([2, 1, 2, 2])
    """
    edges = [settings.train, settings.train + settings.validation]
    return np.searchsorted(edges, uniform(event_id, f"split {seed}"), side="right")
