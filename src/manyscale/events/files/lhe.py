"""Les Houches event files: hard events that Pythia 8 showers, to be seen by the detector here."""

import math
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np

from manyscale.errors import DataError
from manyscale.events import pythia
from manyscale.events.files.convert_settings import ConvertSettings
from manyscale.events.files.reader import Contents, FileEvents, NoEventsError, Piece
from manyscale.events.files.text import (
    EventTexts,
    LoadedEvents,
    choose_columns,
    generator_streams,
    select_generated,
    split,
    weight_columns,
)
from manyscale.events.settings import GenerateSettings
from manyscale.events.truth import Particles, TruthEvents
from manyscale.events.work import LARGEST_SEED
from manyscale.schema import StreamSchema

__all__ = ["LHEReader"]

_EVENT = re.compile(rb"\n\s*<event(?=[\s>])")
_INIT = re.compile(rb"<init(?:\s[^>]*)?>(.*?)</init>", re.DOTALL)
_GENERATOR = re.compile(rb"<generator\s+name=['\"]([^'\"]+)['\"]")
_WEIGHT = re.compile(rb"<wgt\s+id=(['\"])(.+?)\1[^>]*>\s*([^<\s]+)", re.DOTALL)
_NORM = re.compile(rb"^\s*(\w+)\s*=\s*event_norm\b", re.MULTILINE)  # in MadGraph's run card
_END_OF_EVENT, _END = b"</event>", b"</LesHouchesEvents>"
_COLUMNS = 13
_SPACES = bytes.maketrans(b"\r\n\t", b"   ")
# Values of abs(IDWTUP): the weights are 1 or -1, or in pb.
_SIGNS, _WEIGHTS = 3, 4
# Weights and <init> agree within this: <init> is integrated before the events are made.
_AGREE = 0.1
# Pythia starts afresh for each: that costs as much as some ten events.
_STEP = 500


@dataclass(frozen=True)
class LHEReader:
    """Reads Les Houches event files, plain, gzip or zstd, through Pythia 8's shower.

    Weights are XWGTUP in pb where IDWTUP is 4 or -4, and 1 or -1 where it is 3 or -3; further ones,
    those of <rwgt> by their `id`, are scaled in the same way. The cross section is as Pythia finds
    it from <init>, the weights and the events that it could shower; where the weights sum to the
    cross section or are no cross section (`event_norm` of the run card, or else the weights against
    <init>), it is that of <init>, and the sums of weights are scaled to all events, those that Pythia
    could not shower too. Events in which Pythia fails are left out; their weight is NaN.

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

    step: ClassVar[int] = _STEP
    generate: GenerateSettings
    convert: ConvertSettings
    lines: tuple[str, ...] = ()
    texts: EventTexts = field(default_factory=lambda: EventTexts(_EVENT), compare=False, repr=False)

    def entries(self, path: str) -> int:
        """Return the number of events of a file; raises as `look` does."""
        try:
            return self.look(path).entries
        except NoEventsError:
            return 0

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
        found = self.texts.scan(path)
        init = _read_init(found.head, path)
        if not found.entries:
            raise NoEventsError(f"{path} is a Les Houches event file without any event")
        _hard_event(found.last, path, found.entries - 1)
        _check_end(found.last, path, found.entries - 1)
        generator = _GENERATOR.search(found.head)
        made_by = [f"made by {generator[1].decode(errors='replace')}"] if generator else []
        names = list(_hard_event(found.first, path, 0).weights)
        return Contents(
            title="Les Houches events, showered by Pythia 8",
            entries=found.entries,
            streams=streams,
            rows=[("further weights", str(len(names)), _shortened(names))],
            remarks=[
                *made_by,
                f"cross section {init.cross_section:g} pb{_norm(path, init).remark}",
            ],
        )

    def read(
        self, piece: Piece, streams: Mapping[str, StreamSchema], seed: int
    ) -> Iterator[FileEvents]:
        """Shower a piece of a file; see `Reader.read`."""
        yield from select_generated(self._shower(piece, seed), streams, self.generate, seed)

    def _shower(self, piece: Piece, seed: int) -> Iterator[LoadedEvents]:
        path = piece.path
        head = self.texts.head(path)
        init = _read_init(head, path)
        signs = abs(init.strategy) == _SIGNS
        seeds = np.random.default_rng(seed)
        entry, text = piece.first, _END
        for first, texts in self.texts.batches(piece, _STEP):
            text, entry = texts[-1], first + len(texts) - 1
            # Pythia reads neither zstd nor a range of events: a batch is a file of its own. It has no
            # name in any folder, so that a process that is killed leaves none.
            with tempfile.TemporaryFile() as file:
                further = []
                file.write(head)
                for at, part in enumerate(texts, first):
                    event = _hard_event(part, path, at)
                    # As Pythia scales the weight.
                    unit = (abs(event.weight) or 1.0) if signs else 1.0
                    further.append({name: w / unit for name, w in event.weights.items()})
                    file.write(b"\n<event" + event.text)
                file.write(b"\n" + _END + b"\n")
                file.seek(0)
                weights = weight_columns(further, path, first)
                lines = (
                    "Beams:frameType=4",
                    f"Beams:LHEF=/dev/fd/{file.fileno()}",
                    "SLHA:verbose=0",
                    f"PartonLevel:MPI={'on' if self.generate.multiparton else 'off'}",
                    *self.lines,
                )
                generator = pythia.start(
                    path, lines, int(seeds.integers(1, LARGEST_SEED, endpoint=True))
                )
                truth = _join(list(pythia.generate(generator, path, len(texts))))
            columns = {name: column[truth.entry] for name, column in weights.items()}
            columns["weight"] = truth.weight
            cross_section, scale = pythia.cross_section(generator), 1.0
            if _norm(path, init).stated:
                # One estimate in all batches, whatever Pythia fails in.
                cross_section = pythia.CrossSection(init.cross_section, init.error)
                scale = len(texts) / len(truth.entry)
            truth = replace(truth, entry=truth.entry + first)
            chosen = choose_columns(truth, columns, self.convert, path)
            yield LoadedEvents(first, len(texts), chosen, *cross_section, scale)
        if piece.last is None:
            _check_end(text, path, entry)


def _join(events: Sequence[TruthEvents]) -> TruthEvents:
    """Put showered events, which have no columns of the card yet, one after the other."""
    return TruthEvents(
        np.concatenate([some.entry for some in events]),
        np.concatenate([some.weight for some in events]),
        Particles.join([some.stable for some in events]),
        Particles.join([some.heavy for some in events]),
        Particles.join([some.higgs for some in events if some.higgs is not None]),
    )


class _HardEvent(NamedTuple):
    """Text of an event from its opening to its end, its weight XWGTUP and the further ones."""

    text: bytes
    weight: float
    weights: dict[str, float]


class _Init(NamedTuple):
    """How events are weighted, and the cross section in pb that the header promises, with its error.

    Attributes
    ----------
    strategy
        IDWTUP.
    event_norm
        Of the run card in the header, in lower case; empty without one.
    """

    strategy: int
    event_norm: str
    cross_section: float
    error: float


class _Norm(NamedTuple):
    """Whether <init> alone states the cross section, not the mean of the weights; and what to say of it."""

    stated: bool
    remark: str


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
            # A line break in an attribute is a space, says XML.
            name.translate(_SPACES).decode(errors="replace"): float(value)
            for _, name, value in _WEIGHT.findall(body)
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
        sections = [float(values[10 + 4 * at]) for at in range(n_processes)]
        errors = [float(values[11 + 4 * at]) for at in range(n_processes)]
    except (ValueError, IndexError) as error:
        raise DataError(f"{path}: the numbers in <init> are damaged") from error
    if abs(strategy) not in {_SIGNS, _WEIGHTS}:
        raise DataError(
            f"{path}: its weighting strategy IDWTUP is {strategy}, which asks the shower to drop or "
            "repeat events at random; let the generator unweight them (IDWTUP 3) or keep their "
            "weights (IDWTUP 4)"
        )
    norm = _NORM.search(head)
    event_norm = norm[1].decode(errors="replace").lower() if norm else ""
    return _Init(strategy, event_norm, sum(sections), math.hypot(*errors))


def _check_end(last: bytes, path: str, entry: int) -> None:
    """Refuse a file whose last event is not followed by its end."""
    if _END not in last:
        raise DataError(
            f"{path} is cut short: {_END.decode()} is missing behind event {entry} (counted from 0)"
        )


def _norm(path: str, init: _Init) -> _Norm:
    """Find out how the weights of a file are normalised: to a mean, or to a sum."""
    if abs(init.strategy) == _SIGNS:
        # The weights are no cross section. Of both signs, Pythia takes their mean times that of <init>.
        return _Norm(init.strategy > 0, "")
    if init.event_norm:
        means = {"average": ", the mean of the weights", "sum": ", the sum of the weights"}
        what = means.get(init.event_norm, "; the weights are no cross section")
        by_card = f"{what} (event_norm = {init.event_norm} in the run card)"
        return _Norm(init.event_norm != "average", by_card)
    mean, total, signs = _weights(path, Path(path).stat().st_mtime_ns)
    if math.isclose(mean, init.cross_section, rel_tol=_AGREE):
        return _Norm(False, ", the mean of the weights")
    if math.isclose(total, init.cross_section, rel_tol=_AGREE):
        return _Norm(True, ", the sum of the weights")
    if signs:
        return _Norm(True, "; the weights are no cross section, but 1 or -1")
    return _Norm(
        False,
        f" in <init>, but the weights average to {mean:g} and sum to {total:g}: their mean is taken; "
        "--cross-section says another",
    )


@lru_cache(maxsize=16)
def _weights(path: str, _changed: int) -> tuple[float, float, bool]:
    """Mean and sum of the weights of a file, and whether all are 1 or -1; read once in a process."""
    weights = []
    for _, text in islice(split(path, _EVENT), 1, None):
        start = text.find(b">") + 1
        with suppress(ValueError, IndexError):  # what is damaged is named where it is showered
            weights.append(float(text[start : start + 200].split(None, 3)[2]))
    total = math.fsum(weight for weight in weights if math.isfinite(weight))
    return total / max(1, len(weights)), total, {abs(weight) for weight in weights} == {1.0}


def _shortened(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
