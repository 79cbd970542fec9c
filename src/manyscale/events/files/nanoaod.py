"""CMS NanoAOD of any version, plain or with particle-flow candidates (PFNano).

The two fat jets are those of highest pT of the file (`FatJet`: anti-kT of radius 0.8, energies
corrected). Their constituents are the candidates linked to them, weighted with their PUPPI weight
as the jets are: they add up to the jet before its correction, `FatJet_pt * (1 -
FatJet_rawFactor)`. NanoAOD rounds each number to about ten bits, the factor and the weights to
fewer: directions agree to 3e-4, pT to 2e-3, masses to 3e-3 (unweighted, masses are up to a fifth
off).

The b-tags of a fat jet are those of its two subjets, which tell b quarks apart that are closer
than two small jets can be; where no known tagger of subjets is there, the tagged small jets within
it. Varied weights are ratios in NanoAOD; here they are weights, the event's times the ratio.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import awkward as ak
import numpy as np

from manyscale.events.files.expressions import CardExpressions
from manyscale.events.files.convert_settings import ConvertSettings
from manyscale.events.files.nanoaod_branches import (
    FAT_JETS,
    GENERATED,
    LEPTONS,
    SMALL_JETS,
    Branches,
    give_streams,
)
from manyscale.events.files.nanoaod_events import detect
from manyscale.events.files.nanoaod_tree import EventsTree, NanoFiles, Plan, Sums, open_events
from manyscale.events.files.object_files import Totals, read_objects
from manyscale.events.files.reader import (
    THE_PROCESS,
    Contents,
    FileEvents,
    NoEventsError,
    Piece,
    nothing,
)
from manyscale.events.settings import GenerateSettings
from manyscale.schema import StreamSchema, collision_streams

__all__ = ["NanoAODReader"]

_BATCH_BYTES = 64 << 20  # of the branches read at a time
_SMALLEST_BATCH = 100
_LOOK = 200  # entries that tell how large collections are


@dataclass(frozen=True)
class NanoAODReader:
    """Reads CMS NanoAOD; the module says what it takes.

    Attributes
    ----------
    generate
        Section of the card: cuts, objects and streams.
    convert
        Section of the card: weights, observables and selection.
    """

    generate: GenerateSettings
    convert: ConvertSettings

    @property
    def step(self) -> int:
        """Entries of a unit of work."""
        return 10_000

    def entries(self, path: str) -> int:
        """Return the number of events of a file.

        Raises
        ------
        DataError
            Where it cannot be opened or has no tree of events.
        """
        with ExitStack() as stack:
            return open_events(path, stack).entries

    def look(self, path: str) -> Contents:
        """See what is in a file.

        Raises
        ------
        CardError
            Names the key of the card's section `convert` that holds no expression.
        DataError
            Where the file cannot be opened, holds no events, or lacks a branch.
        """
        expressions = CardExpressions.parse(self.convert)
        with ExitStack() as stack:
            events = open_events(path, stack)
            if not events.entries:
                raise NoEventsError(f"{events.where} holds no events")
            wanted = collision_streams(self.generate.streams, self.generate.columns)
            plan = Plan.make(events, wanted, expressions, self.convert.variations)
            streams, missing = give_streams(plan.branches, wanted)
            return Contents(
                title="CMS NanoAOD, tree 'Events'",
                entries=events.entries,
                streams=streams,
                missing=missing,
                rows=list(_rows(events, plan.branches)),
                remarks=list(_remarks(events, plan)),
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
        DataError
            Names file, branch and entry.
        """
        expressions = CardExpressions.parse(self.convert)
        with NanoFiles(streams, expressions, self.convert.variations) as files:
            first = next((piece.path for piece in pieces if files.entries(piece.path)), None)
            if first is None:
                return _with_sums(nothing(streams), files.sums(pieces))
            plan = files.plan(first)
            size = files.open(first).entry_size(plan.names)
            found = read_objects(
                pieces,
                streams,
                self.generate,
                batch=int(np.clip(_BATCH_BYTES / max(size, 1), _SMALLEST_BATCH, self.step)),
                entries=files.entries,
                load=files.load,
                detect=lambda batch: detect(batch, plan, streams, self.generate),
                totals=lambda *_: Totals(None, None),
            )
            return _with_sums(found, files.sums(pieces) if _is_summed(plan) else None)


def _with_sums(found: FileEvents, sums: Sums | None) -> FileEvents:
    """Add the files' own sums of weights."""
    result = found.processes[THE_PROCESS]
    book = replace(
        result.bookkeeping,
        sum_weights=None if sums is None else sums.weights,
        sum_weights2=None if sums is None else sums.weights2,
    )
    return replace(found, processes={THE_PROCESS: replace(result, bookkeeping=book)})


def _is_summed(plan: Plan) -> bool:
    """Whether the weight is the one that `Runs` has the sums of."""
    weight = plan.expressions.weight
    return plan.branches.weight is not None and (
        weight is None or weight.text.strip() == plan.branches.weight
    )


def _remarks(events: EventsTree, plan: Plan) -> Iterator[str]:
    branches = plan.branches
    if branches.weight is None and plan.expressions.weight is None:
        yield "no branch genWeight: every event has weight 1, as data have"
    elif not _is_summed(plan):
        yield (
            "the sum of convert.weight over all generated events is not known: give it with "
            "--sum-weights"
        )
    elif events.sums is None:
        yield (
            "no sums of weights (tree 'Runs', genEventSumw): give the sum over all generated "
            "events with --sum-weights"
        )
    if not (branches.subjet_tagger or branches.jet_tagger):
        yield "no b-tagger that is known here: n_btags is 0 throughout"
    if not branches.generated:
        yield "no generator's particles: whether a jet is h -> bb is not known"


def _rows(events: EventsTree, branches: Branches) -> Iterator[tuple[str, str, str]]:
    """Collections found, with their mean number in the first events, and their use."""
    tagger = branches.subjet_tagger or branches.jet_tagger
    uses = {FAT_JETS[0]: "fat jets"}
    if branches.candidates:
        uses[branches.candidates.momentum[0]] = "constituents"
        uses[branches.candidates.jet] = "links of constituents to fat jets"
    uses[SMALL_JETS[0]] = "small_jets"
    if tagger:
        uses[tagger.branch] = f"n_btags: {tagger.branch} > {tagger.threshold}"
    uses |= {kind.charge: "leptons" for kind in LEPTONS}
    uses[GENERATED[0]] = "h_bb"
    there = {name: use for name, use in uses.items() if name in events.branches}
    read = events.read(there, 0, min(_LOOK, events.entries))
    for name, use in there.items():
        yield name.rpartition("_")[0], f"{ak.mean(ak.num(read[name])):.1f} an event", use
    yield branches.missing_momentum[0].rpartition("_")[0], "1 an event", "missing momentum"
    if branches.weight:
        yield branches.weight, "1 an event", "weight"
