"""A batch of an ntuple's entries to records: processes, selection, weights, tokens."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import awkward as ak
import numpy as np

from manyscale.errors import DataError
from manyscale.events.bookkeeping import Bookkeeping, CutStep, UnitResult
from manyscale.events.files.branch_map import BranchMap
from manyscale.events.files.checks import check_finite
from manyscale.events.files.expressions import Expression
from manyscale.events.files.ntuple_streams import StreamTokens, make_stream
from manyscale.events.files.reader import FIRST_STEP, THE_PROCESS
from manyscale.events.particles import Array, Floats, Integers
from manyscale.schema import StreamSchema

__all__ = ["NtupleBatch"]


@dataclass(frozen=True)
class NtupleBatch:
    """Some entries of a file.

    Attributes
    ----------
    map_
        What is taken from them.
    where
        Names file and tree.
    place
        Of the piece among those of the unit.
    entry
        (entries,): the place of each in the file.
    arrays
        The branches of the map: one number an event, or a list.
    """

    map_: BranchMap
    where: str
    place: int
    entry: Integers
    arrays: Mapping[str, ak.Array]

    @cached_property
    def weight(self) -> Floats:
        """(entries,): the event weights."""
        if self.map_.weight is None:
            return np.ones(len(self))
        return self._numbers(self.map_.weight).astype(np.float64)

    def results(
        self, streams: Mapping[str, StreamSchema]
    ) -> tuple[dict[str, UnitResult], Counter[str]]:
        """Records and bookkeeping of each process, and what is odd.

        Raises
        ------
        DataError
            Names file, tree, branch or expression, and entry: an event of two processes, lists of
            different lengths in a stream, numbers that are not finite in an event that passes.
        """
        results, notes = {}, Counter[str]()
        variations = self._variations()
        selection = {one.text: self._truth(one) for one in self.map_.selection}
        for name, steps in self._processes().items():
            passed = np.ones(len(self), bool)
            cutflow = []
            for text, mask in {FIRST_STEP: passed, **steps, **selection}.items():
                passed = passed & mask
                cutflow.append(CutStep(text, int(passed.sum()), float(self.weight[passed].sum())))
            kept = np.flatnonzero(passed)
            varied = {of: weights[kept] for of, weights in variations.items()}
            records = self.take(kept).records(streams, varied)
            generated = cutflow[len(steps)].events
            results[name] = UnitResult(
                records, Bookkeeping(generated, None, None, None, None, tuple(cutflow))
            )
            notes += _notes(records, streams)
        return results, notes

    def __len__(self) -> int:
        return len(self.entry)

    def take(self, events: Integers) -> "NtupleBatch":
        """Return the events named."""
        arrays = {name: array[events] for name, array in self.arrays.items()}
        return replace(self, entry=self.entry[events], arrays=arrays)

    def _processes(self) -> dict[str, dict[str, Array]]:
        """Of each process, which entries are of it, under the expression that says so."""
        masks = {name: self._truth(one) for name, one in self.map_.processes.items()}
        if not masks:
            return {THE_PROCESS: {}}
        twice = np.flatnonzero(np.sum(list(masks.values()), axis=0) > 1)
        if len(twice):
            names = [name for name, mask in masks.items() if mask[twice[0]]]
            raise DataError(
                f"{self._name(twice[0])}: the event is of the processes {' and '.join(names)}; "
                "in convert.process one at most may be true"
            )
        return {name: {self.map_.processes[name].text: mask} for name, mask in masks.items()}

    def records(
        self, streams: Mapping[str, StreamSchema], variations: Mapping[str, Floats]
    ) -> ak.Array:
        """Records of all events; see record.py. Raises as `results` does."""
        fields: dict[str, ak.Array | Array] = {
            "piece": np.full(len(self), self.place),
            "entry": self.entry,
            "weight": self.weight,
            **variations,
        }
        events = np.arange(len(self))
        check_finite(variations, events, self._name)
        for name, layout in streams.items():
            stream = self._stream(name)
            event = np.repeat(events, stream.counts)
            tokens = self._single(name, {x: stream.columns[x] for x in layout.columns}, event)
            fields[name] = ak.unflatten(ak.zip(tokens), stream.counts)
            if layout.axis:
                axis = self._single(name, {x: stream.axis[x] for x in layout.axis}, events)
                fields[f"{name}_axis"] = ak.zip(axis)
        observables = {name: self._numbers(one) for name, one in self.map_.observables.items()}
        if observables:
            fields["observables"] = ak.zip(observables)
        return ak.zip(fields, depth_limit=1)

    def _stream(self, name: str) -> StreamTokens:
        columns: dict[str, Any] = {}
        padded = False
        for column, one in self.map_.streams[name].items():
            arrays = {used: self.arrays[used] for used in one.names}
            padded |= any(x.ndim > 1 and x.layout.purelist_isregular for x in arrays.values())
            try:
                columns[column] = one(arrays) if arrays else np.full(len(self), one(arrays))
            except DataError as error:
                self._same_lengths(arrays, name)
                raise DataError(f"{self.where}: {error}") from error
        texts = {self.map_.streams[name][column].text: x for column, x in columns.items()}
        self._same_lengths(texts, name)
        return make_stream(columns, len(self), padded=padded)

    def _same_lengths(self, columns: Mapping[str, Any], stream: str) -> None:
        lists = {name: ak.to_numpy(ak.num(x, axis=1)) for name, x in columns.items() if x.ndim > 1}
        for name, counts in lists.items():
            reference, expected = next(iter(lists.items()))
            bad = np.flatnonzero(counts != expected)
            if len(bad):
                raise DataError(
                    f"{self._name(bad[0])}: the lists of the stream '{stream}' have different "
                    f"lengths: '{reference}' {expected[bad[0]]}, '{name}' {counts[bad[0]]}"
                )

    def _single(
        self, stream: str, columns: Mapping[str, Array], event: Integers
    ) -> dict[str, Array]:
        """In single precision, and checked; `event` is that of each value."""
        with np.errstate(over="ignore"):  # too large for it: infinite, and refused
            single = {name: values.astype(np.float32) for name, values in columns.items()}
        given = self.map_.streams[stream]
        texts = {name: given[name].text if name in given else name for name in columns}
        check_finite({texts[name]: x for name, x in single.items()}, event, self._name)
        return single

    def _variations(self) -> dict[str, Floats]:
        """Varied weights by name: that of the branch, with the place in it where it is a list."""
        weights = {}
        for one in self.map_.variations:
            values, name = one(self.arrays), one.text.replace(".", "_")
            if values.ndim == 1:
                weights[name] = ak.to_numpy(values).astype(np.float64)
                continue
            counts = ak.to_numpy(ak.num(values, axis=1))
            bad = np.flatnonzero(counts != counts[:1].sum())
            if len(bad):
                raise DataError(
                    f"{self._name(bad[0])}: '{one.text}' has {counts[bad[0]]} weights, where other "
                    f"events have {counts[0]}"
                )
            table = ak.to_numpy(ak.to_regular(values, axis=1)).astype(np.float64)
            weights |= {f"{name}_{at}": table[:, at] for at in range(table.shape[1])}
        return weights

    def _numbers(self, one: Expression) -> Array:
        """One number an event, checked."""
        with self._located():
            values = one.each_event(self.arrays, len(self))
        check_finite({one.text: values}, np.arange(len(self)), self._name)
        return values

    def _truth(self, one: Expression) -> Array:
        with self._located():
            return one.each_event(self.arrays, len(self)) != 0

    @contextmanager
    def _located(self) -> Iterator[None]:
        try:
            yield
        except DataError as error:
            raise DataError(f"{self.where}: {error}") from error

    def _name(self, event: int) -> str:
        return f"{self.where}, entry {self.entry[event]}"


def _notes(records: ak.Array, streams: Mapping[str, StreamSchema]) -> Counter[str]:
    empty = {name: int(ak.sum(ak.num(records[name], axis=1) == 0)) for name in streams}
    return Counter(
        {f"events whose stream '{name}' is empty": count for name, count in empty.items() if count}
    )
