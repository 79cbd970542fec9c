"""Scores of the events of a file that is no dataset: one row an entry, selected or not."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from manyscale.card import Card
from manyscale.data.identity import event_ids
from manyscale.data.packing import PackedEvents
from manyscale.data.records import pack_records
from manyscale.data.schema import Label, Schema, StreamSchema
from manyscale.deployment.scores import Scores
from manyscale.errors import DataError
from manyscale.events.files.formats import Format
from manyscale.events.files.source import Contents, FileEvents, Piece, Reader
from manyscale.events.record import STREAMS
from manyscale.runs.file_units import unit_seed
from manyscale.runs.sources import SourceFile, count_entries, find_files, look_at_first, one_reader
from manyscale.runs.streams import collision_schema

__all__ = ["FileScores"]


class FileScores:
    """Reads files as the run's own card says, and scores what passes its cuts.

    Parameters
    ----------
    paths, kind
        Files of one format.
    card
        Of the run: detector, jets, cuts and the map of ntuples.
    wanted
        Streams of the network.

    Attributes
    ----------
    schema
        What the events are made of.
    entries
        Number of rows.

    Raises
    ------
    DataError
        Where a file cannot be read, or gives not all that the network wants.
    """

    def __init__(
        self, paths: Sequence[str], kind: Format, card: Card, wanted: Sequence[StreamSchema]
    ) -> None:
        names = [stream.name for stream in wanted]
        columns = {name for stream in wanted for name in stream.columns} & {"d0", "dz"}
        update: dict[str, object] = {"columns": tuple(sorted(columns))}
        if set(names) <= set(STREAMS):
            update["streams"] = tuple(names)
        self._seed = card.seed
        self._classes = card.classes
        self._files = find_files(paths)
        generate = card.generate.model_copy(update=update)
        self._convert = card.convert
        self._reader: Reader = one_reader(kind, self._files, generate, self._convert)
        try:
            sample, contents = look_at_first(self._files, self._reader)
        except DataError:
            # Measured events have neither weights nor what tells processes apart.
            self._convert = card.convert.model_copy(update={"process": {}, "weight": None})
            self._reader = one_reader(kind, self._files, generate, self._convert)
            sample, contents = look_at_first(self._files, self._reader)
        _check_streams(sample, contents, names)
        self._streams = contents.streams
        self.schema: Schema = collision_schema(self._streams)
        self._entries = [count_entries(self._reader, file) for file in self._files]
        self.entries = sum(self._entries)

    def rows(self, score: Callable[[PackedEvents], NDArray[np.floating]]) -> Iterator[Scores]:
        """Read, score and give the rows, some thousand at a time, in the order of the files.

        Parameters
        ----------
        score
            Signal probability of events, (events,).
        """
        step = self._convert.unit_events or self._reader.step
        for file, entries in zip(self._files, self._entries, strict=True):
            for first in range(0, entries, step):
                piece = Piece(file.path, first, min(first + step, entries))
                seed = unit_seed(self._seed, file.identity, first)
                found = self._reader.read([piece], self._streams, seed)
                yield self._rows(file, piece, found, score)

    def _rows(
        self,
        file: SourceFile,
        piece: Piece,
        found: FileEvents,
        score: Callable[[PackedEvents], NDArray[np.floating]],
    ) -> Scores:
        events = len(found.weight)
        scores = np.full(events, np.nan, np.float32)
        labels = np.full(events, -1, np.int8)
        observables: dict[str, NDArray[np.generic]] = {}
        for name, result in found.processes.items():
            records = result.records
            packed = pack_records(records, self.schema.streams, identity=file.identity)
            place = ak.to_numpy(records["entry"]) - piece.first
            if len(packed):
                scores[place] = score(packed)
            if name in self._convert.process:
                labels[place] = self._label(name)
            for key, values in packed.observables.items():
                observables.setdefault(key, _unknown(values, events))[place] = values
        columns: dict[str, NDArray[np.generic]] = {
            "event_id": event_ids(file.identity, piece.first + np.arange(events)),
            "score": scores,
            "selected": np.isfinite(scores),
        }
        if self._convert.process:
            columns["label"] = labels
        return Scores({**columns, "weight": found.weight, **observables})

    def _label(self, process: str) -> int:
        """Label of a process by the run's own classes, else by the map of branches; -1: neither."""
        classes: Mapping[Label, Sequence[str]] = self._classes or {}
        named = {name: label for label, names in classes.items() for name in names}
        if process in named:
            return int(named[process] == "signal")
        own = self._convert.event_class(process)
        return -1 if own in classes else int(own == "signal")


def _unknown(values: NDArray[np.generic], events: int) -> NDArray[np.generic]:
    """An array of NaN that holds the values; whole numbers as double precision."""
    kind = values.dtype if np.issubdtype(values.dtype, np.floating) else np.float64
    return np.full(events, np.nan, kind)


def _check_streams(file: SourceFile, contents: Contents, names: Sequence[str]) -> None:
    missing = [name for name in names if name not in contents.streams]
    if missing:
        there = ", ".join(contents.streams) or "none: the card of the run maps no branches"
        why = contents.missing.get(missing[0], f"it gives {there}")
        raise DataError(
            f"{file.path} does not give the stream '{missing[0]}' that the network wants: {why}"
        )
