"""Any ntuple (TTree, RNTuple, Parquet, HDF5) to events, by the branch map of a card.

What becomes of the columns of a map stands in ntuple_tokens.py. Azimuths are brought to (-pi, pi].
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import ClassVar

import awkward as ak
import numpy as np

from manyscale.errors import CardError, DataError
from manyscale.events.files.checks import check_finite, range_notes
from manyscale.events.files.convert_settings import ConvertSettings
from manyscale.events.files.expressions import (
    CUT,
    WIDE,
    CardExpressions,
    Expression,
    is_text,
    parse,
)
from manyscale.events.files.ntuple_tokens import make_tokens, stream_schema
from manyscale.events.files.reader import (
    FIRST_STEP,
    THE_PROCESS,
    Contents,
    FileEvents,
    NoEventsError,
    Piece,
    nothing,
)
from manyscale.events.files.tables import Ntuple, open_ntuple
from manyscale.events.kinematics import wrap_phi
from manyscale.events.ragged import Array, Floats, Integers, PackedStream, SelectedEvents
from manyscale.schema import CutflowStep, Generated, StreamSchema

__all__ = ["NtupleReader"]

_LISTED = 60
_PROBE = 200  # entries that tell how large one is
_BATCH_BYTES = 16 << 20  # of the branches read at a time; what is made of them is a few times that
_MAX_BATCH = 20_000

_AZIMUTHS = ("phi", "delta_phi", "phi_rel", "jet_phi")

# ---- the map ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _BranchMap:
    """The expressions of the card's section `convert`, parsed."""

    streams: Mapping[str, Mapping[str, Expression]]  # columns of each
    processes: Mapping[str, Expression]  # true for the events of each; empty where all are of one
    variations: tuple[Expression, ...]  # branches of varied weights
    common: CardExpressions  # weight, observables, selection

    @staticmethod
    def parse(convert: ConvertSettings) -> "_BranchMap":
        """Parse; CardError names the key that holds no expression, or no branch."""
        for name in convert.variations or ():
            if not re.fullmatch(r"[A-Za-z_]\w*(\.\w+)*", name):
                raise CardError(f"convert.variations: '{name}' is no name of a branch")
        return _BranchMap(
            {
                stream: {
                    column: parse(text, f"convert.branches.{stream}.{column}")
                    for column, text in columns.items()
                }
                for stream, columns in convert.branches.items()
            },
            {
                name: parse(process.where, f"convert.process.{name}")
                for name, process in convert.process.items()
            },
            tuple(parse(name, "convert.variations") for name in convert.variations or ()),
            CardExpressions.parse(convert),
        )

    @property
    def expressions(self) -> list[Expression]:
        """All of them, those of the streams first."""
        of_streams = [one for columns in self.streams.values() for one in columns.values()]
        return [*of_streams, *self.processes.values(), *self.variations, *self.common.all]

    def sources(self, ntuple: Ntuple) -> dict[str, list[str]]:
        """Branches of a file behind each name of the map: one, but for `PX_*`.

        DataError where there are none, or the columns of a stream have different numbers.
        """
        found: dict[str, list[str]] = {}
        numbers: dict[str, list[int]] = {}
        for one in self.expressions:
            for name in one.names:
                wide, cut = WIDE.fullmatch(name), CUT.fullmatch(name)
                found[name] = [cut[1] if cut else name]
                if not wide:
                    replace(one, names=tuple(found[name])).check_names(ntuple.names, ntuple.where)
                    continue
                pattern = re.compile(re.escape(wide[1]) + r"(\d+)")
                matches = [match for of in ntuple.names if (match := pattern.fullmatch(of))]
                if not matches:
                    raise DataError(
                        f"{ntuple.where}: there are no branches {wide[1]}0, {wide[1]}1, ..., which "
                        f"{one.key}: '{one.text}' needs"
                    )
                matches.sort(key=lambda match: int(match[1]))
                found[name] = [match[0] for match in matches]
                numbers[one.key] = [int(match[1]) for match in matches]
        for key, of in numbers.items():
            stream = key.rpartition(".")[0]
            first = next(other for other in numbers if other.rpartition(".")[0] == stream)
            odd = sorted(set(of) ^ set(numbers[first]))
            if odd:
                raise DataError(
                    f"{ntuple.where}: {first} and {key} stand for branches of different numbers: "
                    f"{odd[0]} is of one of them only"
                )
        return found

    def arrays(
        self, ntuple: Ntuple, sources: Mapping[str, Sequence[str]], read: Mapping[str, ak.Array]
    ) -> dict[str, ak.Array]:
        """Make of branches read an array of each name of the map: (events,), or a list an event.

        DataError where a branch holds something else.
        """
        text = {name for one in self.expressions for name in one.compared}
        arrays = {}
        for name, branches in sources.items():
            for branch in branches:
                values = read[branch]
                numbers = str(values.type.content).rpartition(" ")[2]
                plain = values.ndim <= 2 and numbers.startswith(("int", "uint", "float", "bool"))
                wide = len(branches) > 1 or name.endswith("*")
                if not (plain or (is_text(values) and name in text)) or (wide and values.ndim > 1):
                    hint = 'an event; text is compared in quotes, as in label == "s"'
                    raise DataError(
                        f"{ntuple.where}: the branch '{branch}' ({ntuple.type_of(branch)}) holds "
                        f"{'no number' if wide else 'neither a number nor a list of numbers'} "
                        f"{hint if is_text(values) else 'an event'}"
                    )
            arrays[name] = read[branches[0]]
            cut = CUT.fullmatch(name)
            if name.endswith("*"):
                table = np.stack([ak.to_numpy(read[branch]) for branch in branches], axis=1)
                arrays[name] = ak.from_numpy(table)
            elif cut:
                whole = arrays[name]
                width = int(whole.type.content.size) if _is_padded(whole) else 0
                index, *ends = (int(number) if number else None for number in cut.groups()[1:])
                if width <= (index or 0):
                    raise DataError(
                        f"{ntuple.where}: '{name}' is of lists of one fixed length, the first number "
                        f"[0], but '{branches[0]}' is {ntuple.type_of(branches[0])}; max(...), "
                        "min(...) and sum(...) make one number of any list"
                    )
                arrays[name] = whole[:, slice(*ends) if index is None else index]
        return arrays


def _is_padded(values: ak.Array) -> bool:
    """Whether lists are of one fixed length."""
    return values.ndim > 1 and values.layout.purelist_isregular


# ---- the reader -------------------------------------------------------------------------------


@dataclass(frozen=True)
class NtupleReader:
    """Reads ntuples by a branch map; ntuple_tokens.py says what becomes of the columns.

    Attributes
    ----------
    convert
        The card's section `convert`.

    Notes
    -----
    An event that is true for two of `convert.process` is an error, one that is true for none is
    left out. The sum of generated weights is not known: an ntuple does not say what was dropped
    before it was written.
    """

    step: ClassVar[int] = 100_000
    convert: ConvertSettings

    def entries(self, path: str) -> int:
        """Number of events of a file; raises as `look` does."""
        with open_ntuple(path, self.convert.tree) as ntuple:
            return ntuple.entries

    def look(self, path: str) -> Contents:
        """See `Reader.look`; without a branch map, list the branches.

        Raises
        ------
        CardError
            Where the card's section `convert` holds what is no expression.
        DataError
            Where the file is damaged, or lacks the tree or a branch.
        """
        map_ = _BranchMap.parse(self.convert)
        with open_ntuple(path, self.convert.tree) as ntuple:
            sources = map_.sources(ntuple)
            if not ntuple.entries:
                raise NoEventsError(f"{ntuple.where} holds no events")
            streams = {}
            if sources:
                some = next(ntuple.read(_branches(sources), 0, 1, 1))
                arrays = map_.arrays(ntuple, sources, some)
                for stream, columns in map_.streams.items():
                    try:
                        is_list = {name: one(arrays).ndim > 1 for name, one in columns.items()}
                        streams[stream] = stream_schema(stream, is_list)
                    except DataError as error:
                        place = f"{ntuple.where}, convert.branches.{stream}"
                        raise DataError(f"{place}: {error}") from error
            remarks = []
            if not map_.streams:
                remarks.append("say in the card's section convert.branches what is to be read")
            elif map_.common.weight is None:
                remarks.append("convert.weight is not given: each event has the weight 1")
            return Contents(
                title=f"ntuple, {ntuple.kind}",
                entries=ntuple.entries,
                streams=streams,
                rows=_rows(map_, ntuple, sources),
                remarks=remarks,
            )

    def read(
        self,
        piece: Piece,
        streams: Mapping[str, StreamSchema],
        seed: int,  # noqa: ARG002 - nothing is random
    ) -> Iterator[FileEvents]:
        """See `Reader.read`.

        Raises
        ------
        CardError
            Where the card's section `convert` maps no branches.
        DataError
            Names file, tree, branch or expression, and entry.
        """
        map_ = _BranchMap.parse(self.convert)
        if not any(one.names for one in map_.expressions):
            raise CardError("convert.branches: name the branches that make the streams' columns")
        with open_ntuple(piece.path, self.convert.tree) as ntuple:
            sources = map_.sources(ntuple)
            branches = _branches(sources)
            first, last = piece.first, ntuple.entries if piece.last is None else piece.last
            if first >= last:
                yield nothing(streams, tuple(self.convert.process) or (THE_PROCESS,))
                return
            # As many entries at a time as fit in `_BATCH_BYTES`, by the first of them.
            some = min(last, first + _PROBE)
            probe = next(ntuple.read(branches, first, some, _PROBE))
            size = sum(ak.to_packed(array).nbytes for array in probe.values()) / (some - first)
            at_a_time = int(np.clip(_BATCH_BYTES / max(size, 1), _PROBE, _MAX_BATCH))
            for read in ntuple.read(branches, first, last, at_a_time):
                arrays = map_.arrays(ntuple, sources, read)
                entry = first + np.arange(len(next(iter(arrays.values()))))
                yield _Batch(map_, self.convert, ntuple.where, entry, arrays).events(streams)
                first += len(entry)


def _branches(sources: Mapping[str, Sequence[str]]) -> list[str]:
    return list(dict.fromkeys(name for names in sources.values() for name in names))


def _rows(
    map_: _BranchMap, ntuple: Ntuple, sources: Mapping[str, Sequence[str]]
) -> list[tuple[str, str, str]]:
    """Branches with their types and uses, the used ones first; how many more there are."""
    uses: dict[str, list[str]] = {name: [] for name in sources}
    for one in map_.expressions:
        for name in one.names:
            uses[name].append(one.key.removeprefix("convert.").removeprefix("branches."))
    rows = []
    for name, of in sources.items():
        several = f"{len(of)} branches, {of[0]} to {of[-1]}, " if name.endswith("*") else ""
        rows.append((name, several + ntuple.type_of(of[0]), ", ".join(uses[name])))
    used = set(_branches(sources))
    others = [name for name in ntuple.names if name not in used]
    shown = others[: max(_LISTED - len(rows), 0)]
    rows += [(name, ntuple.type_of(name), "") for name in shown]
    if len(others) > len(shown):
        rows.append(("...", f"{len(others) - len(shown)} more branches", ""))
    return rows


# ---- a batch ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Batch:
    """Some entries of a file: `entry` (entries,) the index of each, `arrays` by names of the map."""

    map_: _BranchMap
    convert: ConvertSettings
    where: str  # file and tree
    entry: Integers
    arrays: Mapping[str, ak.Array]

    def __len__(self) -> int:
        return len(self.entry)

    def name(self, event: int) -> str:
        """Name an event in messages."""
        return f"{self.where}, entry {self.entry[event]}"

    def take(self, events: Integers) -> "_Batch":
        """Return the events named."""
        arrays = {name: array[events] for name, array in self.arrays.items()}
        return replace(self, entry=self.entry[events], arrays=arrays)

    def events(self, streams: Mapping[str, StreamSchema]) -> FileEvents:
        """Weights of all entries, and of each process what passes the selection.

        Raises
        ------
        DataError
            Names file, tree, branch or expression, and entry: an event of two processes, lists of
            different lengths in a stream, numbers that are not finite in an event that passes.
        """
        map_, common = self.map_, self.map_.common
        with self._located():
            of_card = common.weights(self.arrays, len(self), self.name)
            truth = {
                name: one.each_event(self.arrays, len(self)) != 0
                for name, one in map_.processes.items()
            }
            selection = {
                one.text: one.each_event(self.arrays, len(self)) != 0 for one in common.selection
            }
        weight = np.ones(len(self)) if of_card is None else of_card
        variations = self._variations()
        times = np.sum([np.zeros(len(self), bool), *truth.values()], axis=0)
        twice = np.flatnonzero(times > 1)
        if len(twice):
            names = [name for name, mask in truth.items() if mask[twice[0]]]
            raise DataError(
                f"{self.name(twice[0])}: the event is of the processes {' and '.join(names)}; "
                "in convert.process one at most may be true"
            )
        steps = {name: {map_.processes[name].text: mask} for name, mask in truth.items()}
        processes, notes = {}, Counter[str]()
        for process, its_own in (steps or {THE_PROCESS: {}}).items():
            passed = np.ones(len(self), bool)
            cutflow = []
            for text, mask in {FIRST_STEP: passed, **its_own, **selection}.items():
                passed = passed & mask
                total = float(weight[passed].sum())
                cutflow.append(CutflowStep(step=text, events=int(passed.sum()), sum_weights=total))
            kept = np.flatnonzero(passed)
            batch = self if passed.all() else self.take(kept)
            weights = {name: values[kept] for name, values in variations.items()}
            each = np.arange(len(batch))
            check_finite(weights, each, batch.name)
            packed = {}
            for name, schema in streams.items():
                packed[name], odd = batch.stream(schema)
                notes.update(odd)
            with self._located():
                observables = common.values(batch.arrays, len(batch))
            texts = {common.observables[name].text: x for name, x in observables.items()}
            check_finite(texts, each, batch.name)
            processes[process] = (
                SelectedEvents(batch.entry, weight[kept], packed, weights, observables),
                Generated(generated=cutflow[len(its_own)].events, cutflow=tuple(cutflow)),
            )
        return FileEvents(weight, processes, notes)

    def stream(self, schema: StreamSchema) -> tuple[PackedStream, Counter[str]]:
        """Tokens of a stream, checked, and what is odd about them."""
        given = self.map_.streams[schema.name]
        columns: dict[str, ak.Array | Array] = {}
        missing: dict[str, ak.Array | Array] = {}
        padded = False
        for column, one in given.items():
            arrays = {name: self.arrays[name] for name in one.names}
            padded |= any(map(_is_padded, arrays.values()))
            gone = {}
            if self.convert.missing:
                numbers = {name: x for name, x in arrays.items() if not is_text(x)}
                gone = {name: _is_missing(x, self.convert.missing) for name, x in numbers.items()}
                # As 0, so that sums over the tokens leave it out.
                arrays |= {name: ak.where(gone[name], 0, x) for name, x in numbers.items()}
            try:
                columns[column] = one(arrays) if arrays else np.full(len(self), one(arrays))
            except DataError as error:
                self._check_lengths(arrays, schema.name)
                raise DataError(f"{self.where}: {error}") from error
            lists = columns[column].ndim > 1
            counts = ak.num(columns[column], axis=1) if lists else None
            for mask in gone.values():
                # Not of lists that the expression has summed over.
                if mask.ndim == 1 or (lists and ak.all(ak.num(mask, axis=1) == counts)):
                    missing[column] = missing.get(column, np.zeros(len(self), bool)) | mask
        self._check_lengths({given[name].text: x for name, x in columns.items()}, schema.name)
        per_gev = 1000 if self.convert.units == "MeV" else 1
        counts, tokens, axis = make_tokens(
            columns, len(self), missing, padded=padded, per_gev=per_gev
        )
        with np.errstate(over="ignore"):  # too large for single precision: infinite, and refused
            packed = PackedStream.of_columns(schema, counts, tokens, axis)
        each = np.arange(len(self))
        if_nan = "; convert.missing: nan says that it stands where there is nothing"
        for names, values, event in (
            (schema.columns, packed.values, np.repeat(each, counts)),
            (schema.axis, packed.axis, each),
        ):
            texts = [given[name].text if name in given else name for name in names]
            check_finite(dict(zip(texts, values.T, strict=True)), event, self.name, if_nan)
        notes = range_notes(schema, packed, wraps=True)
        # Not before: a sentinel would be an azimuth like any other.
        for names, values, of in (
            (schema.columns, packed.values, tokens),
            (schema.axis, packed.axis, axis),
        ):
            for place, name in enumerate(names):
                if name in _AZIMUTHS:
                    values[:, place] = wrap_phi(of[name].astype(np.float64))
        empty = int((counts == 0).sum())
        if empty:
            notes[f"events whose stream '{schema.name}' is empty"] = empty
        return packed, notes

    def _check_lengths(self, columns: Mapping[str, ak.Array | Array], stream: str) -> None:
        lists = {name: ak.to_numpy(ak.num(x, axis=1)) for name, x in columns.items() if x.ndim > 1}
        for name, counts in lists.items():
            reference, expected = next(iter(lists.items()))
            bad = np.flatnonzero(counts != expected)
            if len(bad):
                raise DataError(
                    f"{self.name(bad[0])}: the lists of the stream '{stream}' have different "
                    f"lengths: '{reference}' {expected[bad[0]]}, '{name}' {counts[bad[0]]}"
                )

    def _variations(self) -> dict[str, Floats]:
        """Varied weights by name: that of the branch, with the index in it where it is a list."""
        weights: dict[str, Floats] = {}
        for one in self.map_.variations:
            values, name = one(self.arrays), one.text.replace(".", "_")
            if values.ndim == 1:
                made = {name: ak.to_numpy(values).astype(np.float64)}
            else:
                counts = ak.to_numpy(ak.num(values, axis=1))
                bad = np.flatnonzero(counts != counts[:1].sum())
                if len(bad):
                    raise DataError(
                        f"{self.name(bad[0])}: '{one.text}' has {counts[bad[0]]} weights, where "
                        f"other events have {counts[0]}"
                    )
                table = ak.to_numpy(ak.to_regular(values, axis=1)).astype(np.float64)
                made = {f"{name}_{at}": table[:, at] for at in range(table.shape[1])}
            both = sorted(weights.keys() & made.keys())
            if both:
                raise DataError(
                    f"{self.where}: two of convert.variations make a weight of the name '{both[0]}'"
                )
            weights |= made
        return weights

    @contextmanager
    def _located(self) -> Iterator[None]:
        try:
            yield
        except DataError as error:
            text = str(error)
            raise DataError(
                text if text.startswith(self.where) else f"{self.where}: {text}"
            ) from error


def _is_missing(values: ak.Array, missing: Sequence[float | str]) -> ak.Array | Array:
    """Where a branch holds one of the values that stand where there is nothing."""
    flat = ak.to_numpy(ak.flatten(values, axis=None))
    gone = np.zeros(len(flat), bool)
    for value in missing:
        gone |= np.isnan(flat) if value == "nan" else flat == value
    return gone if values.ndim == 1 else ak.unflatten(gone, ak.num(values, axis=1))
