"""The card's section `evaluation.limits`."""

from itertools import pairwise

from pydantic import field_validator

from manyscale.settings import Settings, setting

__all__ = ["LimitSettings"]


class LimitSettings(Settings):
    """How limits are set from the scores."""

    bins: int = setting(10, "bins of the score at most", ge=1, le=100)
    floor: float = setting(
        10.0, "effective simulated background events that a chosen bin holds at least", ge=1
    )
    edges: tuple[float, ...] | None = setting(
        None,
        "edges of the bins of the score, rising; null: chosen for the best limit",
        min_length=2,
    )
    masses: dict[str, float] | None = setting(
        None,
        "{process: mass}: each signal process is a hypothesis of its own; null: all signal is one",
        unit="GeV",
        min_length=1,
    )

    @field_validator("edges")
    @classmethod
    def _rising(cls, edges: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if edges is None:
            return None
        if edges[0] < 0 or edges[-1] > 1 or any(high <= low for low, high in pairwise(edges)):
            raise ValueError("edges of a score rise, and lie between 0 and 1")
        return edges
