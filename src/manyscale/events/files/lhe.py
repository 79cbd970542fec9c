"""Les Houches event files: hard events that Pythia 8 showers, to be seen by the detector here."""

import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from manyscale.errors import DataError
from manyscale.events import pythia
from manyscale.events.files.convert_settings import ConvertSettings
from manyscale.events.files.generator_files import (
    LoadedEvents,
    choose_columns,
    generator_streams,
    join,
    read_generated,
    size_of,
    weight_columns,
)
from manyscale.events.files.reader import Contents, FileEvents, NoEventsError, Piece
from manyscale.events.files.text_files import scan, split
from manyscale.events.particles import Floats
from manyscale.events.plan import LARGEST_SEED
from manyscale.events.settings import GenerateSettings
from manyscale.schema import StreamSchema

__all__ = ["LHEReader"]

_EVENT = re.compile(rb"\n\s*<event(?=[\s>])")
_INIT = re.compile(rb"<init(?:\s[^>]*)?>(.*?)</init>", re.DOTALL)
_GENERATOR = re.compile(rb"<generator\s+name=['\"]([^'\"]+)['\"]")
_WEIGHT = re.compile(rb"<wgt\s+id=['\"]([^'\"]+)['\"][^>]*>\s*([^<\s]+)")
_END_OF_EVENT, _END = b"</event>", b"</LesHouchesEvents>"
_COLUMNS = 13
# Values of abs(IDWTUP): the weights are 1 or -1, or in pb.
_SIGNS, _WEIGHTS = 3, 4
# Pythia starts afresh for each: that costs as much as some ten events.
_STEP = 500


@dataclass(frozen=True)
class LHEReader:
    """Reads Les Houches event files, plain, gzip or zstd, through Pythia 8's shower.

    Weights are XWGTUP in pb where IDWTUP is 4 or -4, and 1 or -1 where it is 3 or -3; further ones,
    those of <rwgt> by their `id`, are scaled in the same way. The cross section is as Pythia finds
    it from <init>, the weights and the events that it could shower. Events in which Pythia fails
    are left out; their weight is NaN.

    Parameters
    ----------
    generate
        Detector, jets, cuts and objects; and whether there are multiparton interactions.
    convert
        Weights, observables and selections. Expressions can use the further weights by name, and
        `weight`.
    lines
        Settings of Pythia, read after those made here.
    """

    generate: GenerateSettings
    convert: ConvertSettings
    lines: tuple[str, ...] = ()

    @property
    def step(self) -> int:
        """Entries of a unit of work that keep a core busy for some seconds."""
        return _STEP

    def entries(self, path: str) -> int:
        """Return the number of events of a file; raises as `look` does."""
        return self.look(path).entries

    def look(self, path: str) -> Contents:
        """See what is in a file.

        Raises
        ------
        CardError
            Where columns are asked for that the detector does not measure.
        DataError
            Where it is no such file, has no events, is cut short, or leaves it to Pythia to drop
            events at random.
        """
        streams = generator_streams(self.generate)
        found = scan(path, _EVENT)
        cross_section = _read_init(found.head, path).cross_section
        if not found.entries:
            raise NoEventsError(f"{path} is a Les Houches event file without any event")
        _hard_event(found.last, path, found.entries - 1)
        if _END not in found.last:
            raise DataError(
                f"{path} is cut short: {_END.decode()} is missing behind event "
                f"{found.entries - 1} (counted from 0)"
            )
        generator = _GENERATOR.search(found.head)
        made_by = [f"made by {generator[1].decode(errors='replace')}"] if generator else []
        names = list(_hard_event(found.first, path, 0).weights)
        return Contents(
            title="Les Houches events, showered by Pythia 8",
            entries=found.entries,
            streams=streams,
            rows=[("further weights", str(len(names)), _shortened(names))],
            remarks=[*made_by, f"cross section {cross_section:g} pb"],
        )

    def read(
        self, pieces: Sequence[Piece], streams: Mapping[str, StreamSchema], seed: int
    ) -> FileEvents:
        """Shower pieces of files; see `Reader.read`."""
        seeds = np.random.default_rng(seed)
        return read_generated(
            pieces,
            streams,
            self.generate,
            seed,
            batch=_STEP,
            entries=self.entries,
            load=self._showering(lambda: int(seeds.integers(1, LARGEST_SEED, endpoint=True))),
        )

    def _showering(self, next_seed: Callable[[], int]) -> Callable[[Piece], LoadedEvents]:
        def shower(part: Piece) -> LoadedEvents:
            with tempfile.TemporaryDirectory(prefix="manyscale-") as folder:
                events = Path(folder) / "events.lhe"
                weights = _write_part(part, events)
                lines = (
                    "Beams:frameType=4",
                    f"Beams:LHEF={events}",
                    "SLHA:verbose=0",
                    f"PartonLevel:MPI={'on' if self.generate.multiparton else 'off'}",
                    *self.lines,
                )
                generator = pythia.start(part.path, lines, next_seed())
                truth = join(list(pythia.generate(generator, part.path, size_of(part))))
            columns = {name: column[truth.entry] for name, column in weights.items()}
            columns["weight"] = truth.weight
            truth = replace(truth, entry=truth.entry + part.first)
            return LoadedEvents(
                choose_columns(truth, columns, self.convert, part.path),
                pythia.cross_section(generator),
            )

        return shower


class _HardEvent(NamedTuple):
    """Text of an event from its opening to its end, its weight XWGTUP and the further ones."""

    text: bytes
    weight: float
    weights: dict[str, float]


class _Init(NamedTuple):
    """How events are weighted (IDWTUP), and the cross section in pb that the header promises."""

    strategy: int
    cross_section: float


def _write_part(part: Piece, target: Path) -> dict[str, Floats]:
    """Write the events of a part to a file of their own: Pythia reads neither zstd nor a range.

    Returns
    -------
    Further weights by name: (entries,), scaled as Pythia scales the weight.
    """
    texts = split(part.path, _EVENT)
    head = next(texts)
    scaled = abs(_read_init(head, part.path).strategy) == _SIGNS
    weights = []
    with target.open("wb") as file:
        file.write(head)
        for entry, text in enumerate(islice(texts, part.first, part.last), part.first):
            event = _hard_event(text, part.path, entry)
            unit = (abs(event.weight) or 1.0) if scaled else 1.0
            weights.append({name: weight / unit for name, weight in event.weights.items()})
            file.write(b"\n<event" + event.text)
        file.write(b"\n" + _END + b"\n")
    return weight_columns(weights, part)


def _hard_event(text: bytes, path: str, entry: int) -> _HardEvent:
    """Check that an event has its end and the particles that it promises, and find its weights."""
    body, end, _ = text.partition(_END_OF_EVENT)
    try:
        lines = body.partition(b">")[2].strip().split(b"\n")
        first = lines[0].split()
        n_particles, weight = int(first[0]), float(first[2])
        particles = np.array(
            [[float(v) for v in line.split()[:_COLUMNS]] for line in lines[1 : 1 + n_particles]]
        )
        weights = {
            name.decode(errors="replace"): float(value) for name, value in _WEIGHT.findall(body)
        }
        whole = bool(end) and particles.shape == (n_particles, _COLUMNS)
        whole = whole and bool(np.isfinite(particles).all())
    except (ValueError, IndexError):
        whole = False
    if not whole:
        raise DataError(
            f"{path}, event {entry} (counted from 0) is damaged or cut short: it lacks its end or "
            "the particles that its first line promises"
        )
    return _HardEvent(body + end, weight, weights)


def _read_init(head: bytes, path: str) -> _Init:
    init = _INIT.search(head)
    if b"<LesHouchesEvents" not in head or init is None:
        raise DataError(f"{path} is no Les Houches event file, or its header is damaged: no <init>")
    try:
        values = init[1].split()
        strategy, n_processes = int(values[8]), int(values[9])
        cross_section = sum(float(values[10 + 4 * at]) for at in range(n_processes))
    except (ValueError, IndexError) as error:
        raise DataError(f"{path}: the numbers in <init> are damaged") from error
    if abs(strategy) not in {_SIGNS, _WEIGHTS}:
        raise DataError(
            f"{path}: its weighting strategy IDWTUP is {strategy}, which asks the shower to drop or "
            "repeat events at random; let the generator unweight them (IDWTUP 3) or keep their "
            "weights (IDWTUP 4)"
        )
    return _Init(strategy, cross_section)


def _shortened(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
