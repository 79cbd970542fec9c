"""What a systematic uncertainty does to the scored events."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = ["Normalisation", "Shape", "Varied"]


@dataclass(frozen=True)
class Normalisation:
    """A systematic that changes how many events of some processes there are, not how they look.

    Attributes
    ----------
    name
        Of its nuisance parameter.
    processes
        Names of those that it moves, together.
    up, down
        Factors on their yields at plus and minus one standard deviation, 1.1 and 0.9 say.
    """

    name: str
    processes: tuple[str, ...]
    up: float
    down: float


@dataclass(frozen=True)
class Varied:
    """The same events under a variation.

    Attributes
    ----------
    scores
        Signal probabilities by classifier (`network`, `trees`), each (events,).
    weight
        (events,): expected events that each event stands for.
    """

    scores: dict[str, NDArray[np.floating]] = field(repr=False)
    weight: NDArray[np.float64] = field(repr=False)


@dataclass(frozen=True)
class Shape:
    """A systematic that moves the scores, or the weights, of events: the model's own response.

    Attributes
    ----------
    name
        Of its nuisance parameter.
    processes
        Names of those that it moves, together; of all others the nominal holds.
    up, down
        The events at plus and minus one standard deviation. `down` None: the mirror image of `up`.
    """

    name: str
    processes: tuple[str, ...]
    up: Varied
    down: Varied | None
