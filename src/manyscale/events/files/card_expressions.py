"""The expressions of the card's section `convert` that any file of objects understands."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from manyscale.events.files.checks import check_finite
from manyscale.events.files.convert_settings import ConvertSettings
from manyscale.events.files.expressions import Expression, parse
from manyscale.events.particles import Array, Floats

__all__ = ["CardExpressions"]


class CardExpressions(NamedTuple):
    """Weight, observables and selection of the card, each one number an event."""

    weight: Expression | None
    observables: Mapping[str, Expression]
    selection: tuple[Expression, ...]

    @classmethod
    def parse(cls, convert: ConvertSettings) -> "CardExpressions":
        """Parse those of the card.

        Raises
        ------
        CardError
            Names the key of what is no expression.
        """
        return cls(
            None if convert.weight is None else parse(convert.weight, "convert.weight"),
            {
                name: parse(text, f"convert.observables.{name}")
                for name, text in convert.observables.items()
            },
            tuple(parse(text, "convert.selection") for text in convert.selection),
        )

    @property
    def all(self) -> tuple[Expression, ...]:
        """Every one of them."""
        weight = () if self.weight is None else (self.weight,)
        return (*weight, *self.observables.values(), *self.selection)

    @property
    def names(self) -> tuple[str, ...]:
        """Branches that they use, each once."""
        return tuple(dict.fromkeys(name for expression in self.all for name in expression.names))

    def weights(
        self, columns: Mapping[str, ak.Array | Array], n_events: int, where: Callable[[int], str]
    ) -> Floats | None:
        """(events,): weights by the card; None where it has no expression of them.

        Raises
        ------
        DataError
            Where one is not finite.
        """
        if self.weight is None:
            return None
        weight = self.weight.each_event(columns, n_events).astype(np.float64)
        check_finite({self.weight.text: weight}, np.arange(n_events), where)
        return weight

    def steps(
        self, columns: Mapping[str, ak.Array | Array], n_events: int
    ) -> dict[str, NDArray[np.bool_]]:
        """Return (events,) of each step of the selection, by its text."""
        return {
            step.text: step.each_event(columns, n_events).astype(bool) for step in self.selection
        }

    def values(self, columns: Mapping[str, ak.Array | Array], n_events: int) -> dict[str, Array]:
        """Return (events,) of each observable."""
        return {
            name: expression.each_event(columns, n_events)
            for name, expression in self.observables.items()
        }
