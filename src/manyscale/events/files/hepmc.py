"""HepMC2 and HepMC3 text: the particles of a generator's events, to be seen by the detector here."""

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyhepmc
from numpy.typing import NDArray

from manyscale.errors import DataError
from manyscale.events.files.checks import check_finite
from manyscale.events.files.convert_settings import ConvertSettings
from manyscale.events.files.reader import Contents, FileEvents, NoEventsError, Piece
from manyscale.events.files.text import (
    EventTexts,
    LoadedEvents,
    choose_columns,
    generator_streams,
    select_generated,
    weight_columns,
)
from manyscale.events.ragged import Array, Integers
from manyscale.events.settings import GenerateSettings
from manyscale.events.truth import BOTTOM, CHARM, HIGGS, Particles, TruthEvents, heaviest_flavour
from manyscale.schema import StreamSchema

__all__ = ["HepMCReader"]

_EVENT = re.compile(rb"\nE ")
_FORMATS = {b"HepMC::Asciiv3": "HepMC3", b"HepMC::IO_GenEvent": "HepMC2"}
_END = b"-END_EVENT_LISTING"
_BATCH = 250
_FINAL = 1


@dataclass(frozen=True)
class HepMCReader:
    """Reads HepMC2 (IO_GenEvent) and HepMC3 (Asciiv3) text, plain, gzip or zstd.

    Stable particles are those of status 1; MeV become GeV. Hadrons with a b or charm quark count as
    they leave the hadronisation: those that come from no other such hadron, whatever statuses the
    generator uses. The first weight is the event's. The cross section is that of the last event
    of a file: generators write a running estimate.

    Parameters
    ----------
    generate
        Detector, jets, cuts and objects.
    convert
        Weights, observables and selections. Expressions can use the file's weights by name and
        `event`, the event number.
    """

    step: ClassVar[int] = 2000  # an event takes 7 ms
    generate: GenerateSettings
    convert: ConvertSettings
    texts: EventTexts = field(default_factory=lambda: EventTexts(_EVENT), compare=False, repr=False)
    # Of files seen, by path and time of change: to find their last event again takes a pass of them.
    sections: dict[tuple[str, int], tuple[float, float] | None] = field(
        default_factory=dict, compare=False, repr=False
    )

    def entries(self, path: str) -> int:
        """Return the number of events of a file; raises as `look` does."""
        try:
            return self.look(path).entries
        except NoEventsError:
            return 0

    def look(self, path: str) -> Contents:
        """See what is in a file; reads its first and last event.

        Raises
        ------
        CardError
            Where columns are asked for that the detector does not measure.
        DataError
            Where it is no such file, has no events, or the first or last event is damaged.
        """
        streams = generator_streams(self.generate)
        found = self.texts.scan(path)
        kind = _format(found.head, path)
        if not found.entries:
            raise NoEventsError(f"{path} is {kind} text without any event")
        first = _parse(found.head, found.first, kind, path, 0)
        last = _parse(found.head, found.last, kind, path, found.entries - 1)
        self.sections[path, Path(path).stat().st_mtime_ns] = _cross_section(last)
        return Contents(
            title=f"{kind} text",
            entries=found.entries,
            streams=streams,
            rows=[
                ("particles", f"{len(first.particles)} in event 0", "stable ones: the detector"),
                ("weights", str(len(first.weights)), ", ".join(_weights(first)) or "all 1"),
            ],
            remarks=list(_remarks(first, last, found.last)),
        )

    def read(
        self, piece: Piece, streams: Mapping[str, StreamSchema], seed: int
    ) -> Iterator[FileEvents]:
        """Read a piece of a file; see `Reader.read`."""
        yield from select_generated(self._load(piece), streams, self.generate, seed)

    def _load(self, piece: Piece) -> Iterator[LoadedEvents]:
        path = piece.path
        head = self.texts.head(path)
        kind = _format(head, path)
        seen = path, Path(path).stat().st_mtime_ns
        if seen not in self.sections:
            with suppress(DataError):  # said, with its index, where this event itself is read
                last = _parse(head, self.texts.last(path), kind, path, 0)
                self.sections[seen] = _cross_section(last)
        section = self.sections.get(seen)
        for first, texts in self.texts.batches(piece, _BATCH):
            events = [
                _Event.of(_parse(head, text, kind, path, entry))
                for entry, text in enumerate(texts, first)
            ]
            columns = {
                "event": np.array([event.number for event in events]),
                **weight_columns([event.weights for event in events], path, first),
            }
            truth = choose_columns(_truth(events, path, first), columns, self.convert, path)
            yield LoadedEvents(first, len(events), truth, *(section or (None, None)))


@dataclass(frozen=True)
class _Event:
    """What is wanted of an event of pyhepmc, in arrays.

    A positive number in `source` and a negative one in `target` are a particle and the vertex that
    it enters; the other way round, a vertex and a particle that leaves it. Both count from 1.
    """

    number: int
    weights: dict[str, float]
    particles: NDArray[np.void]
    n_vertices: int
    source: Array
    target: Array

    @classmethod
    def of(cls, event: Any) -> "_Event":  # noqa: ANN401 - pyhepmc has no types
        event.set_units(pyhepmc.Units.GEV, pyhepmc.Units.MM)
        data = pyhepmc.GenEventData()
        event.write_data(data)
        return cls(
            event.event_number,
            _weights(event),
            data.particles.copy(),
            len(data.vertices),
            data.links1.astype(np.int64),
            data.links2.astype(np.int64),
        )


def _format(head: bytes, path: str) -> str:
    for line, kind in _FORMATS.items():
        if line in head:
            return kind
    raise DataError(f"{path} is no HepMC2 or HepMC3 text: its header says neither")


def _parse(head: bytes, text: bytes, kind: str, path: str, entry: int) -> Any:  # noqa: ANN401
    """Read one event by itself, so that damage is found where it is."""
    event, fault = None, None
    # What is missing HepMC would find too, but print it where it cannot be kept from it, and of
    # HepMC2 end the process by it: a particle without a vertex is a null pointer.
    if (_has_its_particles if kind == "HepMC3" else _has_its_vertices)(text):
        try:
            with _quiet(), pyhepmc.open(io.BytesIO(head + b"\nE " + text), format=kind) as file:
                event = file.read()
        except Exception as error:  # noqa: BLE001 - pyhepmc raises whatever a damaged line leads to
            fault = error
    if event is None:
        why = _wrong_names(head, text, kind) or (
            "is damaged or cut short: it does not have the particles and vertices that its first line "
            "promises"
        )
        raise DataError(f"{path}, event {entry} (counted from 0) {why}") from fault
    return event


def _has_its_particles(text: bytes) -> bool:
    promised = text.partition(b"\n")[0].split()
    return len(promised) > 2 and promised[2] == str(text.count(b"\nP ")).encode()


def _has_its_vertices(text: bytes) -> bool:
    """Whether an event of HepMC2 has the vertices of its first line, and these their particles."""
    first, _, rest = text.partition(b"\n")
    # By vertex: the first particle is behind the vertex, and those are as many as it says.
    before, *vertices = (b"\n" + rest).split(b"\nV ")
    lines = [vertex.partition(b"\n")[0].split() for vertex in vertices]
    there = [vertex.count(b"\nP ") for vertex in vertices]
    try:
        return (
            b"\nP " not in before
            and int(first.split()[7]) == len(vertices)
            and all(int(fields[0]) < 0 for fields in lines)
            and there == [int(fields[6]) + int(fields[7]) for fields in lines]
        )
    except (ValueError, IndexError):
        return False


def _wrong_names(head: bytes, text: bytes, kind: str) -> str | None:
    """Say what is wrong where an event cannot be read because of the names of its weights."""
    if kind == "HepMC3":
        # In the header, divided as a line break within a name is written, too.
        names, weights = (re.search(rb"\nW (.*)", part) for part in (head, text))
        if names and weights:
            named, there = names[1].count(b"\\|") + 1, len(weights[1].split())
            if named != there:
                return (
                    f"has {there} weights, but the file's header names {named}; perhaps there is a "
                    "line break in a name: the generator must write it without"
                )
    elif (names := re.search(rb"\nN \d+ (.*)", text)) and names[1].count(b'"') % 2:
        return (
            "has a line break in the name of a weight, at which its line ends; the generator must "
            "write the name without"
        )
    return None


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep HepMC3 from printing; what it has to say is in our errors."""
    setup = pyhepmc.Setup
    before = setup.print_errors, setup.print_warnings, setup.debug_level
    setup.print_errors, setup.print_warnings, setup.debug_level = False, False, 0
    try:
        yield
    finally:
        setup.print_errors, setup.print_warnings, setup.debug_level = before


def _weights(event: Any) -> dict[str, float]:  # noqa: ANN401
    values = list(event.weights)
    names = event.run_info.weight_names if event.run_info is not None else []
    return dict(zip(names or map(str, range(len(values))), values, strict=False))


def _cross_section(event: Any) -> tuple[float, float] | None:  # noqa: ANN401
    """Cross section in pb and its error, as estimated by the time of an event."""
    found = event.cross_section
    if found is None or not 0 < found.xsec() < np.inf:
        return None  # generators that do not know it write 0 or -1
    return found.xsec(), found.xsec_err()


def _remarks(first: Any, last: Any, end: bytes) -> Iterator[str]:  # noqa: ANN401
    tools = first.run_info.tools if first.run_info is not None else []
    if tools:
        yield "made by " + ", ".join(f"{tool.name} {tool.version}".strip() for tool in tools)
    cross_section = _cross_section(last)
    if cross_section is None:
        yield "no cross section in the file: say it with --cross-section"
    else:
        yield "cross section {:g} +- {:g} pb".format(*cross_section)
    if _END not in end:
        yield "the line that ends a file is missing: the generator may have been stopped"


def _truth(events: Sequence[_Event], path: str, first: int) -> TruthEvents:
    counts = np.array([len(event.particles) for event in events])
    flat = np.concatenate([event.particles for event in events])
    code = flat["pid"].astype(np.int64)
    everything = Particles(counts, code, *(flat[name] for name in ("px", "py", "pz", "e")))
    entry = first + np.arange(len(events))
    check_finite(
        {name: flat[name] for name in ("px", "py", "pz", "e")},
        everything.event,
        lambda place: f"{path}, event {entry[place]} (counted from 0)",
    )
    made_at, ends_at = _vertices(events, counts)
    return TruthEvents(
        entry,
        np.array([next(iter(event.weights.values()), 1.0) for event in events]),
        everything.take(np.flatnonzero(flat["status"] == _FINAL)),
        everything.take(_heavy(code, made_at, ends_at)),
        everything.take(_to_bottom(code, made_at, ends_at)),
    )


def _vertices(events: Sequence[_Event], counts: Integers) -> tuple[Integers, Integers]:
    """Vertex that made each particle, and vertex that it ends in; 0 stands for none."""
    n_vertices = np.array([event.n_vertices for event in events])
    n_links = np.array([len(event.source) for event in events])
    first_particle = np.repeat(np.cumsum(counts) - counts, n_links)
    first_vertex = np.repeat(np.cumsum(n_vertices) - n_vertices, n_links)
    source = np.concatenate([event.source for event in events])
    target = np.concatenate([event.target for event in events])
    made_at, ends_at = np.zeros(counts.sum(), np.int64), np.zeros(counts.sum(), np.int64)
    leaves = target > 0
    made_at[(target + first_particle)[leaves] - 1] = (first_vertex - source)[leaves]
    ends_at[(source + first_particle)[~leaves] - 1] = (first_vertex - target)[~leaves]
    return made_at, ends_at


def _at_vertices(vertices: Integers, size: int) -> NDArray[np.bool_]:
    """Mark vertices, but never 0, which is none."""
    marked = np.zeros(size, bool)
    marked[vertices] = True
    marked[0] = False
    return marked


def _heavy(code: Integers, made_at: Integers, ends_at: Integers) -> Integers:
    """Places of the hadrons with a b or charm quark that come from no other of them."""
    heavy = heaviest_flavour(code) >= CHARM
    from_heavy = _at_vertices(ends_at[heavy], 1 + max(made_at.max(), ends_at.max()))
    return np.flatnonzero(heavy & ~from_heavy[made_at])


def _to_bottom(code: Integers, made_at: Integers, ends_at: Integers) -> Integers:
    """Places of the Higgs bosons that end in a vertex which b and bbar leave."""
    size = 1 + max(made_at.max(), ends_at.max())
    bottom, antibottom = (_at_vertices(made_at[code == q], size) for q in (BOTTOM, -BOTTOM))
    return np.flatnonzero((code == HIGGS) & (bottom & antibottom)[ends_at])
