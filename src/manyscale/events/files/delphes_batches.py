"""Batches of Delphes events: loaded, detected, and counted."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import NamedTuple

import awkward as ak
import numpy as np

from manyscale.errors import DataError
from manyscale.events.clustering import JetPairs
from manyscale.events.detected import DetectedEvents
from manyscale.events.files.expressions import CardExpressions
from manyscale.events.files.checks import check_finite
from manyscale.events.files.convert_settings import ConvertSettings
from manyscale.events.files.delphes_branches import Branches, find_branches
from manyscale.events.files.delphes_objects import DelphesObjects
from manyscale.events.files.delphes_tree import TREE, DelphesFiles, DelphesTree, Table
from manyscale.events.files.delphes_truth import read_higgs
from manyscale.events.files.object_files import Totals
from manyscale.events.files.reader import Batch, Piece
from manyscale.events.particles import Array, Floats, Hits
from manyscale.events.settings import GenerateSettings
from manyscale.events.truth import match_h_bb
from manyscale.schema import StreamSchema

__all__ = ["DelphesBatches"]

# Collections of one object an event: expressions see one number of each.
_SINGLE = {"Event", "MissingET", "GenMissingET", "PuppiMissingET", "ScalarHT"}

_NO_CONSTITUENTS = "of the two leading jets have no constituents: their streams are empty"
# In pb. Where the generator said nothing Delphes writes whatever was in memory, 1e-23 say.
_SMALLEST = 1e-15


class _Loaded(NamedTuple):
    """What is read of some entries: tables by collection, and branches that expressions use."""

    tables: Mapping[str, Table]
    others: Mapping[str, ak.Array]

    @classmethod
    def concatenate(cls, parts: list["_Loaded"]) -> "_Loaded":
        """Join the entries of several."""
        return cls(
            {
                name: Table.concatenate([part.tables[name] for part in parts])
                for name in parts[0].tables
            },
            {
                name: ak.concatenate([part.others[name] for part in parts])
                for name in parts[0].others
            },
        )


class DelphesBatches:
    """Loads and detects batches of events, all of one content.

    Parameters
    ----------
    files
        Opens them.
    generate, convert
        Sections of the card.
    streams
        Those wanted.
    """

    def __init__(
        self,
        files: DelphesFiles,
        generate: GenerateSettings,
        convert: ConvertSettings,
        streams: Mapping[str, StreamSchema],
    ) -> None:
        self._files = files
        self._generate = generate
        self._variations = convert.variations or ()
        self._expressions = CardExpressions.parse(convert)
        self._streams = streams
        self._first: tuple[str, Branches] | None = None
        self._tree = convert.tree or TREE
        self._n_varied: dict[str, int] = {}

    def load(self, part: Piece) -> _Loaded:
        """Read a part of a piece."""
        path, first, last = part
        assert last is not None  # noqa: S101  # parts have an end
        tree = self._files.tree(path)
        branches = self._branches(tree)
        tables = {
            name: tree.table(name, columns, first, last)
            for name, columns in branches.collections.items()
            if name != "Particle"
        }
        if branches.has("Particle"):
            tables["Particle"] = read_higgs(tree, first, last)
        for name in branches.variations:
            counts, values = tree.flat(name, first, last)
            tables[name] = Table(counts, {"": values}, {})
        others = {name: tree.array(name, first, last) for name in branches.others}
        return _Loaded(tables, others)

    def _branches(self, tree: DelphesTree) -> Branches:
        """Find what is read of a file: the same as of the first."""
        found = find_branches(
            tree, self._streams, self._generate.columns, self._expressions, self._variations
        )
        if self._first is None:
            self._first = tree.where, found
        where, expected = self._first
        if found != expected:
            raise DataError(
                f"{tree.where} holds other collections or branches than {where}: convert files of "
                "different content each by a call of its own, into the same dataset"
            )
        return found

    def detect(self, batch: Batch) -> tuple[DetectedEvents, Counter[str]]:
        """Make detected events of a loaded batch, and count what is odd."""
        assert self._first is not None  # noqa: S101  # something is loaded
        _, branches = self._first
        loaded = _Loaded.concatenate(batch.loaded)
        entry = batch.entry
        n_events = len(entry)

        def where(event: int) -> str:
            return f"{batch.where(event)} of tree '{self._tree}'"

        objects = DelphesObjects(loaded.tables, branches, self._generate, where)
        hits, pairs, multiplicity = objects.fat_jets()
        higgs = objects.higgs()
        columns = {name: _one_each(name, values, where) for name, values in loaded.others.items()}
        weight = self._expressions.weights(columns, n_events, where)
        detected = DetectedEvents(
            piece=batch.piece,
            entry=entry,
            weight=objects.weight(n_events) if weight is None else weight,
            hits=hits,
            pairs=pairs,
            n_btags=objects.n_btags(pairs),
            missing=objects.missing(),
            multiplicity=multiplicity,
            h_bb=None if higgs is None else match_h_bb(higgs, pairs, self._generate.jets.radius),
            small_jets=objects.small_jets() if "small_jets" in self._streams else None,
            leptons=objects.leptons() if "leptons" in self._streams else None,
            steps=self._expressions.steps(columns, n_events),
            weights=self._varied(loaded.tables, branches, where),
            observables=self._expressions.values(columns, n_events),
        )
        return detected, _odd(hits, pairs)

    def totals(self, batch: Batch, events: DetectedEvents) -> Totals:
        """Sums of the weights of all entries; the cross section as the last one of them knows it."""
        last = batch.loaded[-1].tables.get("Event")
        known = {} if last is None else last.columns
        value, error = (
            float(known[name][-1]) if name in known else 0.0
            for name in ("CrossSection", "CrossSectionError")
        )
        is_known = value > _SMALLEST
        return Totals(
            float(events.weight.sum()),
            float(np.square(events.weight).sum()),
            value if is_known else None,
            error if is_known and error > 0 else None,
        )

    def _varied(
        self, tables: Mapping[str, Table], branches: Branches, where: Callable[[int], str]
    ) -> dict[str, Floats]:
        """Varied weights (events,): "Weight.Weight" gives Weight_Weight_0, Weight_Weight_1, ..."""
        varied = {}
        for name in branches.variations:
            counts, values = tables[name].counts, tables[name].columns[""].astype(np.float64)
            number = self._n_varied.setdefault(name, int(counts[0]))
            odd = np.flatnonzero(counts != number)
            if len(odd):
                raise DataError(
                    f"{where(int(odd[0]))}: branch '{name}' holds {counts[odd[0]]} weights, and "
                    f"{number} in the events before"
                )
            check_finite({name: values}, tables[name].event, where)
            plain = name.replace(".", "_")
            for place, column in enumerate(values.reshape(len(counts), number).T):
                varied[plain if number == 1 else f"{plain}_{place}"] = column
        return varied


def _one_each(name: str, values: ak.Array, where: Callable[[int], str]) -> ak.Array | Array:
    """Make one value an event of a branch that has lists of one."""
    if values.ndim == 1 or name.partition(".")[0] not in _SINGLE:
        return values
    odd = np.flatnonzero(ak.num(values) != 1)
    if len(odd):
        raise DataError(f"{where(int(odd[0]))}: branch '{name}' does not hold one value an event")
    return ak.to_numpy(ak.flatten(values))


def _odd(hits: Hits | None, pairs: JetPairs) -> Counter[str]:
    if hits is None:
        return Counter()
    empty = int(ak.sum(ak.num(pairs.members, axis=2) == 0))
    return Counter({_NO_CONSTITUENTS: empty} if empty else {})
