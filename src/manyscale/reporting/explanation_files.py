"""What a report reads of the folder explanation/."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from manyscale.reporting.json_files import Part, read_json, read_json_if_there

__all__ = ["Deletion", "Explanations", "Randomisation", "StreamRow"]


class StreamRow(Part):
    """Attention and importance of a stream beside what is lost without it.

    Attributes
    ----------
    attention
        Part of the last fusion block's attention that its tokens are given; None: nobody looks.
    importance
        Part of Grad-CAM.
    auc_loss, rejection_factor
        When the stream is shuffled between the events: AUC lost; rejection over what is left of it.
    """

    stream: str
    attention: float | None = None
    importance: float | None = None
    auc_loss: float | None = None
    auc_loss_error: float | None = None
    rejection_factor: float | None = None
    rejection_low: float | None = None
    rejection_high: float | None = None


class _Summary(Part):
    """summary.json."""

    events: dict[str, int] = Field(default_factory=dict)
    deep_events: dict[str, int] = Field(default_factory=dict)
    seconds: dict[str, float] = Field(default_factory=dict)
    notices: tuple[str, ...] = ()
    streams: tuple[StreamRow, ...] = ()


class _Excess(Part):
    """How much more deleting by a ranking hurts than deleting at random, in logits; None: not known."""

    value: float | None
    error: float | None = None
    passes: bool


class Deletion(Part):
    """deletion.json."""

    events: int
    excess: dict[str, _Excess] = Field(default_factory=dict)


class _Redrawn(Part):
    """Rank correlation with the explanation of the trained network, weights down to one re-drawn."""

    redrawn: str
    correlation: float | None
    error: float | None = None


class Randomisation(Part):
    """randomisation.json."""

    passes: bool
    points: tuple[_Redrawn, ...] = ()


@dataclass(frozen=True)
class Explanations:
    """What was found; a check that was not done is None."""

    summary: _Summary
    deletion: Deletion | None
    randomisation: Randomisation | None

    @classmethod
    def read(cls, folder: Path) -> "Explanations | None":
        """Read the folder of a run that was explained; None where it was not.

        Raises
        ------
        RunError
            Where a file is not what it should be.
        """
        if not (folder / "summary.json").is_file():
            return None
        return cls(
            read_json(folder / "summary.json", _Summary),
            read_json_if_there(folder / "deletion.json", Deletion),
            read_json_if_there(folder / "randomisation.json", Randomisation),
        )
