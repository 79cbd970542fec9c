"""Any ntuple (TTree, RNTuple, Parquet, HDF5) to events, by the branch map of a card.

- `jet_pt`, `jet_eta`, `jet_phi`, `jet_mass` are the stream's axis: one number an event.
- Of the other columns, those that are lists make the tokens; those that are one number an event are
  repeated on each. A stream of numbers alone has one token an event.
- Columns that the table `_DERIVED` knows are replaced by those that it makes of them: `px`, `py`, `pz`
  by `pt`, `eta`, `phi`, say.
- A token is there where its `pt` is not 0. Without a `pt`, all entries of lists are there; of lists of
  fixed length those where any column is not 0. `convert.missing` takes away more.
- Tokens stand in the order of falling `pt`, where there is one; azimuths are brought to (-pi, pi].
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple

import awkward as ak
import numpy as np

from manyscale.errors import CardError, DataError
from manyscale.events.files.checks import check_finite, range_notes
from manyscale.events.files.convert_settings import ConvertSettings
from manyscale.events.files.expressions import (
    SLICE,
    WIDE,
    CardExpressions,
    Expression,
    is_text,
    parse,
)
from manyscale.events.files.ntuple_files import Ntuple, open_ntuple
from manyscale.events.files.reader import (
    FIRST_STEP,
    THE_PROCESS,
    Contents,
    FileEvents,
    NoEventsError,
    Piece,
    nothing,
)
from manyscale.events.kinematics import Momentum, wrap_phi
from manyscale.events.particles import Array, Floats, Integers
from manyscale.events.ragged import PackedStream, SelectedEvents
from manyscale.schema import (
    AXIS_COLUMNS,
    CHARGED_HADRON,
    COLUMNS,
    ELECTRON,
    MUON,
    NEUTRAL_HADRON,
    PHOTON,
    CutflowStep,
    Generated,
    StreamSchema,
)

__all__ = ["NtupleReader", "make_tokens", "pdg_charge", "stream_schema"]

_LISTED = 60
_PROBE = 200  # entries that tell how large one is
_BATCH_BYTES = 16 << 20  # of the branches read at a time; what is made of them is a few times that
_MAX_BATCH = 20_000

_OF_JET = {*AXIS_COLUMNS, *(f"jet_{name}" for name in ("px", "py", "pz", "energy", "rapidity"))}
_AZIMUTHS = ("phi", "delta_phi", "phi_rel", "jet_phi")
_IN_GEV = {
    *(name for name, column in COLUMNS.items() if column.unit == "GeV"),
    *("px", "py", "pz", "jet_px", "jet_py", "jet_pz", "jet_energy"),
}

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
            wide, cut = WIDE.fullmatch(one.text), SLICE.fullmatch(one.text)
            if wide:
                pattern = re.compile(re.escape(wide[1]) + r"(\d+)")
                matches = [match for name in ntuple.names if (match := pattern.fullmatch(name))]
                matches.sort(key=lambda match: int(match[1]))
                if not matches:
                    raise DataError(
                        f"{ntuple.where}: there are no branches {wide[1]}0, {wide[1]}1, ..., which "
                        f"{one.key}: '{one.text}' needs"
                    )
                found[one.text] = [match[0] for match in matches]
                numbers[one.key] = [int(match[1]) for match in matches]
            elif cut:
                replace(one, names=(cut[1],)).check_names(ntuple.names, ntuple.where)
                found[one.text] = [cut[1]]
            else:
                one.check_names(ntuple.names, ntuple.where)
                found |= {name: [name] for name in one.names}
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
            cut = SLICE.fullmatch(name)
            if name.endswith("*"):
                arrays[name] = ak.from_numpy(
                    np.stack([ak.to_numpy(read[branch]) for branch in branches], axis=1)
                )
            elif cut:
                values = read[branches[0]]
                if values.ndim != 2 or not values.layout.purelist_isregular:
                    raise DataError(
                        f"{ntuple.where}: '{name}' takes numbers out of lists of one fixed length, "
                        f"but '{branches[0]}' is {ntuple.type_of(branches[0])}"
                    )
                first, last, step = (int(number) if number else None for number in cut.groups()[1:])
                arrays[name] = values[:, first:last:step]
            else:
                arrays[name] = read[name]
        return arrays


# ---- the reader -------------------------------------------------------------------------------


@dataclass(frozen=True)
class NtupleReader:
    """Reads ntuples by a branch map; the top of the module says what becomes of the columns.

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

    convert: ConvertSettings

    @property
    def step(self) -> int:
        """Entries of a unit of work."""
        return 100_000

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
        twice = np.flatnonzero(np.sum(list(truth.values()), axis=0) > 1) if truth else ()
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
            padded |= any(x.ndim > 1 and x.layout.purelist_isregular for x in arrays.values())
            gone = {}
            if self.convert.missing:
                gone = {name: _is_missing(x, self.convert.missing) for name, x in arrays.items()}
                # As 0, so that sums over the tokens leave it out.
                arrays = {name: ak.where(gone[name], 0, x) for name, x in arrays.items()}
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
        hint = "; convert.missing: nan says that it stands where there is nothing"
        for names, values, event in (
            (schema.columns, packed.values, np.repeat(each, counts)),
            (schema.axis, packed.axis, each),
        ):
            texts = [given[name].text if name in given else name for name in names]
            check_finite(dict(zip(texts, values.T, strict=True)), event, self.name, hint)
        notes = range_notes(schema, packed)
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


# ---- columns to tokens ------------------------------------------------------------------------


class _Derived(NamedTuple):
    """Columns that are made of others: of the tokens, or with jet_ in front of all of the axis."""

    of: tuple[str, ...]
    replaced: int  # so many of those, the first, do not stay
    gives: tuple[str, ...]
    make: Callable[..., tuple[Array, ...]]


def _polar(px: Array, py: Array, pz: Array) -> tuple[Array, ...]:
    momentum = Momentum(px, py, pz, np.zeros_like(px))
    return momentum.pt, momentum.eta, momentum.phi


def _eta(sinh_eta_pt: Array, pt: Array) -> tuple[Array, ...]:
    # 0 where there is no momentum, and so no token.
    return (np.arcsinh(sinh_eta_pt / np.maximum(pt, np.finfo(np.float64).tiny)),)


def _mass(energy: Array, pt: Array, eta: Array) -> tuple[Array, ...]:
    return (np.sqrt(np.maximum(energy**2 - (pt * np.cosh(eta)) ** 2, 0.0)),)


def pdg_charge(codes: Array) -> Array:
    """Electric charge of particles by their PDG codes.

    By the rules of the Review of Particle Physics, "Monte Carlo particle numbering scheme": the digits
    n_q1 n_q2 n_q3 n_J of a hadron's code are its quarks and its spin, a meson has n_q1 = 0; a nucleus
    is 10LZZZAAAI.

    Examples
    --------
    >>> pdg_charge(np.array([211, -321, 130, 2212, 3112, -411, 521, 11, 22, 1000020040])).tolist()
    [1, -1, 0, 1, -1, -1, 1, -1, 0, 2]
    """
    code = np.abs(codes).astype(np.int64)
    # In thirds of the unit: quarks, odd ones below and even ones above, and the neighbours of those.
    thirds = np.zeros(40, np.int64)
    thirds[[1, 3, 5, 7, 2, 4, 6, 8]] = [-1] * 4 + [2] * 4
    thirds[[11, 13, 15, 17, 24, 34, 37]] = [-3] * 4 + [3] * 3
    first, second, third = (code // 10**place % 10 for place in (3, 2, 1))
    q1, q2, q3 = (np.where(quark < 9, thirds[quark], 0) for quark in (first, second, third))
    # The heavier quark of a meson comes first; of a meson of positive code, that is an antiquark
    # where it is of the lower kind.
    meson = np.where(second % 2 == 0, q2 - q3, q3 - q2)
    charge = np.where(first == 0, meson, q1 + q2 + q3)
    charge = np.where(code < 100, thirds[np.minimum(code, 39)], charge)
    charge = np.where(code >= 10**9, 3 * (code // 10_000 % 1000), charge)
    result: Array = np.sign(codes).astype(np.int64) * charge // 3
    return result


def _kind(pdg_id: Array) -> tuple[Array, ...]:
    known = np.isfinite(pdg_id)
    codes = np.where(known, pdg_id, 0)
    charge = pdg_charge(codes)
    kind = np.where(charge == 0, NEUTRAL_HADRON, CHARGED_HADRON)
    for code, particle_class in ((11, ELECTRON), (13, MUON), (22, PHOTON)):
        kind[np.abs(codes) == code] = particle_class
    return np.where(known, kind, np.nan), np.where(known, charge, np.nan)


_DERIVED = (
    _Derived(("px", "py", "pz"), 3, ("pt", "eta", "phi"), _polar),
    _Derived(("rapidity", "pt", "energy"), 1, ("eta",), lambda y, pt, e: _eta(e * np.tanh(y), pt)),
    _Derived(
        ("rapidity", "pt", "mass"),
        1,
        ("eta",),
        lambda y, pt, m: _eta(np.hypot(pt, m) * np.sinh(y), pt),
    ),
    _Derived(("rapidity", "pt"), 1, ("eta",), lambda y, _: (y,)),  # as if without mass
    _Derived(("pdg_id",), 1, ("particle_class", "charge"), _kind),
)
_DERIVED_OF_JET = (*_DERIVED[:4], _Derived(("energy", "pt", "eta"), 1, ("mass",), _mass))


def _derive(columns: Mapping[str, Array], prefix: str = "") -> dict[str, Array]:
    """Put what `_DERIVED` makes of columns in their place, unless it is there already."""
    found = dict(columns)
    for row in _DERIVED_OF_JET if prefix else _DERIVED:
        of, gives = ([prefix + name for name in names] for names in (row.of, row.gives))
        if not found.keys() >= set(of) or found.keys() & set(gives):
            continue
        made = row.make(*(found[name].astype(np.float64) for name in of))
        gone, place = of[: row.replaced], of[0]
        before = found
        found = {}
        for name, values in before.items():
            if name == place:
                found |= dict(zip(gives, made, strict=True))
            elif name not in gone:
                found[name] = values
    return {name: found[name] for name in AXIS_COLUMNS if name in found} if prefix else found


def stream_schema(name: str, columns: Mapping[str, bool]) -> StreamSchema:
    """Schema that a stream's map gives; the order is that of the map.

    Parameters
    ----------
    name
        Of the stream.
    columns
        Each column that the map names, and whether it is a list an event.

    Raises
    ------
    DataError
        Where an axis is a list, or there are no columns of tokens.

    Examples
    --------
    >>> columns = {"px": True, "py": True, "pz": True, "charge": True, "jet_pt": False}
    >>> stream_schema("jet", columns).all_columns
    ('pt', 'eta', 'phi', 'charge', 'jet_pt')
    """
    for column, is_list in columns.items():
        if column in _OF_JET and is_list:
            raise DataError(
                f"the column '{column}' is of the jet of the stream, one number an event, but it is "
                "a list; a column of tokens is named without jet_"
            )
    none = np.zeros(0)
    tokens = _derive({column: none for column in columns if column not in _OF_JET})
    axis = _derive({column: none for column in columns if column in _OF_JET}, "jet_")
    if not tokens:
        raise DataError("there is no column of tokens, only the jet's axis")
    return StreamSchema(name=name, columns=tuple(tokens), axis=tuple(axis))


class Tokens(NamedTuple):
    """Tokens of a stream: `counts` (events,), `columns` by name (tokens,), `axis` (events,)."""

    counts: Integers
    columns: dict[str, Array]
    axis: dict[str, Array]


def make_tokens(
    columns: Mapping[str, ak.Array | Array],
    n_events: int,
    missing: Mapping[str, ak.Array | Array] | None = None,
    *,
    padded: bool = False,
    per_gev: float = 1.0,
) -> Tokens:
    """Make tokens of the columns of a map.

    Parameters
    ----------
    columns
        Name to (events,), or to a list an event; those of tokens with the same lengths.
    n_events
        Number of events.
    missing
        Of a column, where it holds nothing: of its shape, or (events,). Of `pt`, or else the first
        column, the token is none; of any other its value is 0.
    padded
        Whether the lists are of fixed length.
    per_gev
        The columns' unit of momentum: how many make a GeV.
    """
    lists = [name for name, values in columns.items() if name not in _OF_JET and values.ndim > 1]
    counts = np.ones(n_events, np.int64)
    if lists:
        counts = ak.to_numpy(ak.num(columns[lists[0]], axis=1)).astype(np.int64)
    flat: dict[str, Array] = {}
    gone: dict[str, Array] = {}
    for source, into in ((columns, flat), (missing or {}, gone)):
        for name, values in source.items():
            if values.ndim > 1:
                into[name] = ak.to_numpy(ak.flatten(values, axis=1))
            else:
                one = np.asarray(values)
                into[name] = one if name in _OF_JET else np.repeat(one, counts)
    for name in _IN_GEV & flat.keys() if per_gev != 1 else ():
        flat[name] = flat[name] / per_gev
    flat |= {name: np.where(where, 0, flat[name]) for name, where in gone.items()}

    given = {name: values for name, values in flat.items() if name not in _OF_JET}
    tokens = _derive(given)
    axis = _derive({name: values for name, values in flat.items() if name in _OF_JET}, "jet_")
    key = "pt" if "pt" in given else (lists or list(given))[0]
    real = ~gone[key] if key in gone else np.ones(len(given[key]), bool)
    if "pt" in tokens:
        real &= tokens["pt"] != 0
    elif padded:
        real &= np.any([given[name] != 0 for name in lists or given], axis=0)
    which, event = np.flatnonzero(real), np.repeat(np.arange(n_events), counts)[real]
    in_order = True
    if "pt" in tokens:
        falling = -tokens["pt"][which].astype(np.float64)
        in_order = not ((np.diff(falling) < 0) & (np.diff(event) == 0)).any()
        if not in_order:
            which = which[np.lexsort((falling, event))]
    if not (in_order and real.all()):
        tokens = {name: values[which] for name, values in tokens.items()}
        counts = np.bincount(event, minlength=n_events)
    return Tokens(counts, tokens, axis)
