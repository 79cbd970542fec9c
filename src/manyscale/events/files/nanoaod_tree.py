"""Files of NanoAOD: which branches are read, their events, and the sums of generated weights."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple, Self

import awkward as ak
import numpy as np

from manyscale.errors import DataError
from manyscale.events.files.expressions import CardExpressions
from manyscale.events.files.nanoaod_branches import (
    VARIATIONS,
    Branches,
    find_branches,
    give_streams,
    need,
)
from manyscale.events.files.reader import Piece
from manyscale.events.files.root_files import open_root, read_branches
from manyscale.schema import StreamSchema

__all__ = ["EventsTree", "NanoFiles", "Plan", "Sums", "open_events"]

_TREE = "Events"


class Sums(NamedTuple):
    """Sums of the generated weights of a file, and of their squares."""

    weights: float
    weights2: float


@dataclass(frozen=True)
class EventsTree:
    """The events of an open file.

    Attributes
    ----------
    path
        Of the file.
    tree
        Of uproot.
    branches
        Names of all branches. They are many: none but those needed is looked at.
    sums
        As the tree `Runs` has them; None where there is none.
    """

    path: str
    tree: Any
    branches: Collection[str]
    sums: Sums | None

    @property
    def where(self) -> str:
        """Name file and tree in messages."""
        return f"{self.path}, tree '{_TREE}'"

    @property
    def entries(self) -> int:
        """Number of events."""
        return int(self.tree.num_entries)

    def read(self, names: Collection[str], first: int, last: int) -> dict[str, ak.Array]:
        """Read branches of some entries."""
        return read_branches(self.tree, self.path, tuple(names), first, last)

    def entry_size(self, names: Collection[str]) -> float:
        """Bytes of some branches, uncompressed, in a mean entry."""
        return sum(self.tree[name].uncompressed_bytes for name in names) / max(self.entries, 1)


def open_events(path: str, stack: ExitStack) -> EventsTree:
    """Open a file, until the stack is closed.

    Raises
    ------
    DataError
        Where it cannot be opened or has no tree of events.
    """
    file = stack.enter_context(open_root(path))
    kinds = {key.partition(";")[0]: kind for key, kind in file.classnames(recursive=False).items()}
    if kinds.get(_TREE) != "TTree":
        there = ", ".join(f"{name} ({kind})" for name, kind in kinds.items()) or "nothing"
        raise DataError(f"{path} has no tree (TTree) '{_TREE}', as NanoAOD has; there is {there}")
    try:
        tree = file[_TREE]
        names = {branch.name for branch in tree.branches}
    except Exception as error:  # uproot raises whatever a damaged header leads it to
        raise DataError(
            f"{path}, tree '{_TREE}' cannot be read; the file may be cut short"
        ) from error
    return EventsTree(path, tree, names, _sums(file, path) if "Runs" in kinds else None)


def _sums(file: Any, path: str) -> Sums | None:  # noqa: ANN401 - uproot has no types
    runs = file["Runs"]
    # Some older versions end the names with an underscore.
    for names in (
        ("genEventSumw", "genEventSumw2"),
        ("genEventSumw_", "genEventSumw2_"),
    ):
        if {branch.name for branch in runs.branches} >= set(names):
            columns = read_branches(runs, path, names, 0, runs.num_entries)
            return Sums(*(float(np.sum(columns[name])) for name in names))
    return None


@dataclass(frozen=True)
class Plan:
    """What is read of each of some files with the same content.

    Attributes
    ----------
    branches
        Of events and their objects.
    variations
        Branches of varied weights, each with the number that an event has; None: one number, no
        list.
    expressions
        Of the card.
    """

    branches: Branches
    variations: Mapping[str, int | None]
    expressions: CardExpressions

    @property
    def names(self) -> tuple[str, ...]:
        """All branches to read, each once."""
        names = (*self.branches.names, *self.variations, *self.expressions.names)
        return tuple(dict.fromkeys(names))

    @classmethod
    def make(
        cls,
        events: EventsTree,
        wanted: Mapping[str, StreamSchema],
        expressions: CardExpressions,
        variations: tuple[str, ...] | None,
    ) -> "Plan":
        """Settle what is read of a file.

        Parameters
        ----------
        events
            Of the file.
        wanted
            Layouts of the streams wanted.
        expressions
            Of the card.
        variations
            Branches of varied weights; None: those usual in NanoAOD, where they are there.

        Raises
        ------
        DataError
            Names a branch that is needed and not there.
        """
        for expression in expressions.all:
            expression.check_names(events.branches, events.where)
        need(variations or (), events.branches, "convert.variations", events.where)
        columns = {column for layout in wanted.values() for column in layout.columns}
        return cls(
            find_branches(events.branches, wanted, columns, events.where),
            _usual(events) if variations is None else _lengths(events, variations),
            expressions,
        )


def _usual(events: EventsTree) -> dict[str, int | None]:
    """Lengths of the usual variations; a lone one is a placeholder where none were computed."""
    lengths = _lengths(events, [name for name in VARIATIONS if name in events.branches])
    return {name: length for name, length in lengths.items() if length != 1}


def _lengths(events: EventsTree, names: Collection[str]) -> dict[str, int | None]:
    first = events.read(names, 0, 1)
    return {name: len(first[name][0]) if first[name].ndim > 1 else None for name in names}


class NanoFiles:
    """Files with the same content, one open at a time.

    Parameters
    ----------
    streams
        Layouts of the streams wanted, all of which they must give.
    expressions, variations
        See `Plan.make`.
    """

    def __init__(
        self,
        streams: Mapping[str, StreamSchema],
        expressions: CardExpressions,
        variations: tuple[str, ...] | None,
    ) -> None:
        self._streams = streams
        self._card = expressions, variations
        self._stack = ExitStack()
        self._events: EventsTree | None = None
        self._plan: Plan | None = None
        self._sums: dict[str, Sums | None] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def open(self, path: str) -> EventsTree:
        """Open a file, if it is not the one that is open."""
        if self._events is None or self._events.path != path:
            self._stack.close()
            events = self._events = open_events(path, self._stack)
            if self._plan is not None:
                need(self._plan.names, events.branches, "the other files", events.where)
            self._sums[path] = events.sums
        return self._events

    def plan(self, path: str) -> Plan:
        """What is read of the files, as the first that is opened has it."""
        if self._plan is None:
            events = self.open(path)
            plan = Plan.make(events, self._streams, *self._card)
            _, missing = give_streams(plan.branches, self._streams)
            for stream, why in missing.items():
                raise DataError(f"{events.where} does not give {stream}: {why}")
            self._plan = plan
        return self._plan

    def entries(self, path: str) -> int:
        """Number of events of a file."""
        return self.open(path).entries

    def load(self, piece: Piece) -> dict[str, ak.Array]:
        """Read what is planned of a part of a file."""
        assert piece.last is not None  # noqa: S101  # parts have an end
        return self.open(piece.path).read(self.plan(piece.path).names, piece.first, piece.last)

    def sums(self, pieces: Sequence[Piece]) -> Sums | None:
        """Sums of weights of the files that begin in some pieces; None where one has none.

        So a file counts once, also where it is divided, and where it has no events.
        """
        known = [self._sums[piece.path] for piece in pieces if piece.first == 0]
        if None in known:
            return None
        return Sums(*(sum(of[at] for of in known if of is not None) for at in (0, 1)))
