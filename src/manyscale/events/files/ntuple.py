"""Any ntuple (TTree, RNTuple, Parquet, HDF5) to records, by the branch map of a card."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import awkward as ak
import numpy as np

from manyscale.errors import CardError, DataError
from manyscale.events.bookkeeping import Bookkeeping, UnitResult, add_cutflows
from manyscale.events.files.branch_map import BranchMap, parse_map
from manyscale.events.files.convert_settings import ConvertSettings
from manyscale.events.files.ntuple_files import Ntuple, open_ntuple
from manyscale.events.files.ntuple_records import NtupleBatch
from manyscale.events.files.ntuple_streams import stream_layout
from manyscale.events.files.reader import (
    THE_PROCESS,
    Contents,
    FileEvents,
    NoEventsError,
    Piece,
    nothing,
)
from manyscale.schema import StreamSchema

__all__ = ["NtupleReader"]

_LISTED = 60
_PROBE = 200  # entries that tell how large one is
_BATCH_BYTES = 16 << 20  # of the branches read at a time; what is made of them is a few times that
_MAX_BATCH = 20_000


@dataclass(frozen=True)
class NtupleReader:
    """Reads ntuples by a branch map; `ntuple_streams` says what becomes of the columns.

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
        map_ = parse_map(self.convert)
        with open_ntuple(path, self.convert.tree) as ntuple:
            _check_names(map_, ntuple)
            if not ntuple.entries:
                raise NoEventsError(f"{ntuple.where} holds no events")
            remarks = []
            if not map_.streams:
                remarks.append("say in the card's section convert.branches what is to be read")
            elif map_.weight is None:
                remarks.append("convert.weight is not given: each event has the weight 1")
            return Contents(
                title=f"ntuple, {ntuple.kind}",
                entries=ntuple.entries,
                streams=_layouts(map_, ntuple),
                rows=_rows(map_, ntuple),
                remarks=remarks,
            )

    def read(
        self,
        pieces: Sequence[Piece],
        streams: Mapping[str, StreamSchema],
        seed: int,  # noqa: ARG002 - nothing is random
    ) -> FileEvents:
        """See `Reader.read`.

        Raises
        ------
        CardError
            Where the card's section `convert` maps no branches.
        DataError
            Names file, tree, branch or expression, and entry.
        """
        map_ = parse_map(self.convert)
        if not map_.names:
            raise CardError("convert.branches: name the branches that make the streams' columns")
        weights, results, notes = [], [], Counter[str]()
        for place, piece in enumerate(pieces):
            for batch in self._batches(map_, place, piece):
                of_processes, odd = batch.results(streams)
                weights.append(batch.weight)
                results.append(of_processes)
                notes += odd
        if not results:
            return nothing(streams, tuple(self.convert.process) or (THE_PROCESS,))
        processes = {name: _joined([of[name] for of in results]) for name in results[0]}
        return FileEvents(np.concatenate(weights), processes, notes)

    def _batches(self, map_: BranchMap, place: int, piece: Piece) -> Iterator[NtupleBatch]:
        with open_ntuple(piece.path, self.convert.tree) as ntuple:
            _check_names(map_, ntuple)
            first, last = piece.first, ntuple.entries if piece.last is None else piece.last
            if first >= last:
                return
            size = _batch_size(map_.names, ntuple, first, last)
            for read in ntuple.read(map_.names, first, last, size):
                arrays = {name: _checked(array, name, ntuple) for name, array in read.items()}
                entry = first + np.arange(len(next(iter(arrays.values()))))
                yield NtupleBatch(map_, ntuple.where, place, entry, arrays)
                first += len(entry)


def _check_names(map_: BranchMap, ntuple: Ntuple) -> None:
    for expression in map_.expressions():
        expression.check_names(ntuple.names, ntuple.where)


def _batch_size(names: Sequence[str], ntuple: Ntuple, first: int, last: int) -> int:
    some = min(last, first + _PROBE)
    probe = next(ntuple.read(names, first, some, _PROBE))
    entry_bytes = sum(ak.to_packed(array).nbytes for array in probe.values()) / max(some - first, 1)
    return int(np.clip(_BATCH_BYTES / max(entry_bytes, 1), _PROBE, _MAX_BATCH))


def _checked(array: ak.Array, name: str, ntuple: Ntuple) -> ak.Array:
    """Numbers or lists of them."""
    numbers = str(array.type.content).rpartition(" ")[2]
    if array.ndim > 2 or not numbers.startswith(("int", "uint", "float", "bool")):
        raise DataError(
            f"{ntuple.where}: the branch '{name}' ({ntuple.type_of(name)}) holds neither a number "
            "nor a list of numbers an event"
        )
    return array


def _layouts(map_: BranchMap, ntuple: Ntuple) -> dict[str, StreamSchema]:
    if not map_.names:
        return {}
    some = next(ntuple.read(map_.names, 0, min(1, ntuple.entries), 1))
    arrays = {name: _checked(array, name, ntuple) for name, array in some.items()}
    layouts = {}
    for stream, columns in map_.streams.items():
        try:
            is_list = {name: one(arrays).ndim > 1 for name, one in columns.items()}
            layouts[stream] = stream_layout(is_list)
        except DataError as error:
            raise DataError(f"{ntuple.where}, convert.branches.{stream}: {error}") from error
    return layouts


def _rows(map_: BranchMap, ntuple: Ntuple) -> list[tuple[str, str, str]]:
    """Branches with their types and uses, the used ones first; how many more there are."""
    uses: dict[str, list[str]] = {name: [] for name in map_.names}
    for one in map_.expressions():
        for name in one.names:
            uses[name].append(one.key.removeprefix("convert.").removeprefix("branches."))
    order = [*uses, *(name for name in ntuple.names if name not in uses)]
    shown = order[: max(_LISTED, len(uses))]
    rows = [(name, ntuple.type_of(name), ", ".join(uses.get(name, ()))) for name in shown]
    if len(order) > len(shown):
        rows.append(("...", f"{len(order) - len(shown)} more branches", ""))
    return rows


def _joined(parts: Sequence[UnitResult]) -> UnitResult:
    return UnitResult(
        ak.concatenate([part.records for part in parts]),
        Bookkeeping(
            generated=sum(part.bookkeeping.generated for part in parts),
            sum_weights=None,
            sum_weights2=None,
            cross_section=None,
            cross_section_error=None,
            cutflow=add_cutflows([part.bookkeeping.cutflow for part in parts]),
        ),
    )
