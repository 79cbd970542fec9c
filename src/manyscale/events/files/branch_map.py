"""The expressions of a card's section `convert`, parsed: what to take from an ntuple."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from manyscale.errors import CardError
from manyscale.events.files.card_expressions import CardExpressions
from manyscale.events.files.convert_settings import ConvertSettings
from manyscale.events.files.expressions import Expression, parse

__all__ = ["BranchMap", "parse_map"]


@dataclass(frozen=True)
class BranchMap:
    """What is taken from an ntuple.

    Attributes
    ----------
    streams
        Columns of each stream.
    processes
        What is true for the events of each; empty where all are of one.
    selection
        What must be true, in this order.
    weight
        Event weight; None for 1.
    variations
        Branches of varied weights.
    observables
        One number an event each.
    """

    streams: Mapping[str, Mapping[str, Expression]]
    processes: Mapping[str, Expression]
    selection: tuple[Expression, ...]
    weight: Expression | None
    variations: tuple[Expression, ...]
    observables: Mapping[str, Expression]

    def expressions(self) -> Iterator[Expression]:
        """All of them, those of the streams first."""
        for columns in self.streams.values():
            yield from columns.values()
        yield from self.processes.values()
        yield from self.selection
        if self.weight is not None:
            yield self.weight
        yield from self.variations
        yield from self.observables.values()

    @property
    def names(self) -> list[str]:
        """Branches that are used, each once."""
        return list(dict.fromkeys(name for one in self.expressions() for name in one.names))


def parse_map(convert: ConvertSettings) -> BranchMap:
    """Parse all expressions of `convert`.

    Raises
    ------
    CardError
        Names the key that holds no expression, or no branch.
    """
    common = CardExpressions.parse(convert)
    return BranchMap(
        streams={
            stream: {
                column: parse(text, f"convert.branches.{stream}.{column}")
                for column, text in columns.items()
            }
            for stream, columns in convert.branches.items()
        },
        processes={
            name: parse(process.where, f"convert.process.{name}")
            for name, process in convert.process.items()
        },
        selection=common.selection,
        weight=common.weight,
        variations=tuple(_branch(name) for name in convert.variations or ()),
        observables=common.observables,
    )


def _branch(name: str) -> Expression:
    if not re.fullmatch(r"[A-Za-z_]\w*(\.\w+)*", name):
        raise CardError(f"convert.variations: '{name}' is no name of a branch")
    return parse(name, "convert.variations")
