"""CMS NanoAOD of any version, plain or with particle-flow candidates (PFNano), as TTree or RNTuple.

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

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from manyscale.errors import DataError
from manyscale.events.files.checks import check_finite
from manyscale.events.files.collisions import select_batch
from manyscale.events.files.convert_settings import ConvertSettings
from manyscale.events.files.expressions import CardExpressions
from manyscale.events.files.nanoaod_branches import (
    LEPTONS,
    MOMENTUM,
    TAGGERS,
    WEIGHT,
    Plan,
    Table,
    collections_found,
    open_events,
    variation_names,
)
from manyscale.events.files.reader import (
    THE_PROCESS,
    Contents,
    FileEvents,
    NoEventsError,
    Piece,
    divide_streams,
    nothing,
)
from manyscale.events.jets import hardest_two
from manyscale.events.kinematics import Momentum
from manyscale.events.objects import DetectedEvents, Hits, JetPairs, Leptons, SmallJets
from manyscale.events.ragged import Array, Floats, Integers
from manyscale.events.settings import GenerateSettings, ObjectSettings
from manyscale.events.truth import BOTTOM, HIGGS, Particles, count_inside, match_h_bb
from manyscale.schema import (
    CHARGED_HADRON,
    ELECTRON,
    MUON,
    NEUTRAL_HADRON,
    PHOTON,
    Generated,
    StreamSchema,
    collision_streams,
)

__all__ = ["NanoAODReader"]

# CMS numbers hadronic and electromagnetic energy in the forward calorimeter 1 and 2.
_CLASS_OF = np.full(256, CHARGED_HADRON, np.int8)
_CLASS_OF[[11, 13, 22, 2]] = ELECTRON, MUON, PHOTON, PHOTON
_CLASS_OF[[130, 1]] = NEUTRAL_HADRON

_RADIUS = 0.8  # of the fat jets, anti-kT
_CM = 10.0  # in mm


@dataclass(frozen=True)
class _Flat:
    """A collection of a batch: the values of all events, one after the other, and counts."""

    name: str
    counts: Integers
    columns: Mapping[str, Array]
    where: Callable[[int], str]  # names an event

    @cached_property
    def event(self) -> Integers:
        """(particles,): which event each belongs to."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    def __getitem__(self, column: str) -> Array:
        return self.columns[column]

    def finite(self, *columns: str) -> tuple[Array, ...]:
        """Take columns whose values must be numbers."""
        named = {f"{self.name}_{column}": self.columns[column] for column in columns}
        check_finite(named, self.event, self.where)
        return tuple(named.values())

    def follow(self, column: str, which: Integers, target: "_Flat") -> Integers:
        """Where among all of a collection those are to which the indices of some of this one point."""
        index, event = self[column][which], self.event[which]
        bad = np.flatnonzero((index < 0) | (index >= target.counts[event]))
        if len(bad):
            at = int(event[bad[0]])
            raise DataError(
                f"{self.where(at)}: branch '{self.name}_{column}' points to {target.name} "
                f"{index[bad[0]]}, but the event has {target.counts[at]} of them"
            )
        return (np.cumsum(target.counts) - target.counts)[event] + index


class _Batch:
    """Entries of a file from `first` on, as they were read."""

    def __init__(self, path: str, first: int, plan: Plan, arrays: Mapping[str, ak.Array]) -> None:
        self.plan, self.arrays = plan, arrays
        self._path, self._first = path, first
        self._flat: dict[str, _Flat] = {}

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    @property
    def entry(self) -> Integers:
        """(events,): the index of each in its file."""
        return np.arange(self._first, self._first + len(self))

    def where(self, event: int) -> str:
        """Name an event in messages."""
        return f"{self._path}, entry {self._first + event}"

    def __getitem__(self, collection: str) -> _Flat:
        """Take a collection with the columns that were read; refuse columns of different lengths."""
        if collection not in self._flat:
            columns = self.plan.columns[collection]
            lists = [self.list_of(f"{collection}_{column}") for column in columns]
            counts = lists[0][0]
            for column, (other, _) in zip(columns, lists, strict=True):
                if not np.array_equal(counts, other):
                    event = int(np.flatnonzero(counts != other)[0])
                    raise DataError(
                        f"{self.where(event)}: '{collection}_{columns[0]}' has {counts[event]} "
                        f"values and '{collection}_{column}' has {other[event]}; the file is damaged"
                    )
            values = dict(zip(columns, (values for _, values in lists), strict=True))
            self._flat[collection] = _Flat(collection, counts, values, self.where)
        return self._flat[collection]

    def list_of(self, branch: str) -> tuple[Integers, Array]:
        """Counts and values, straight from the buffers, as the calls of awkward add up."""
        layout = self.arrays[branch].layout.to_ListOffsetArray64(start_at_zero=True)
        counts, values = np.diff(layout.offsets.data), layout.content.data
        return counts, values[: layout.offsets[-1]]

    def each_event(self, branch: str) -> Array:
        """(events,): values of a branch with one number an event, which must be finite."""
        values: Array = ak.to_numpy(self.arrays[branch])
        check_finite({branch: values}, np.arange(len(self)), self.where)
        return values


# ---- objects ----------------------------------------------------------------------------------


def _detect(
    batch: _Batch, streams: Collection[str], settings: GenerateSettings
) -> tuple[DetectedEvents, Counter[str]]:
    """Make detected events of what was read; and what is odd, with how often."""
    plan, objects = batch.plan, settings.objects
    weight = plan.card.weights(batch.arrays, len(batch), batch.where)
    if weight is None and plan.weight:
        weight = batch.each_event(WEIGHT).astype(np.float64)
    elif weight is None:
        weight = np.ones(len(batch))

    # The two fat jets of highest pT, in whatever order they are: their index among all.
    fat_jets = batch["FatJet"]
    momenta = fat_jets.finite(*MOMENTUM)
    event, index = hardest_two(fat_jets.counts, momenta[0], settings.cuts.second_pt)
    pairs = JetPairs(event, _four_momenta(*(column[index] for column in momenta)))
    hits, multiplicity, empty = None, None, 0
    if plan.candidates:
        hits, pairs, empty = _constituents(batch, pairs, index)
    elif "nConstituents" in fat_jets.columns:
        multiplicity = fat_jets["nConstituents"][index].astype(np.int64)

    met = plan.missing_momentum
    pt, phi = (batch.each_event(f"{met}_{name}").astype(np.float64) for name in ("pt", "phi"))
    detected = DetectedEvents(
        entry=batch.entry,
        weight=weight,
        hits=hits,
        pairs=pairs,
        n_btags=_count_tags(batch, pairs, index),
        missing=(pt * np.cos(phi), pt * np.sin(phi)),
        multiplicity=multiplicity,
        h_bb=match_h_bb(_find_higgs(batch), pairs, _RADIUS) if "GenPart" in plan.columns else None,
        small_jets=_small_jets(batch, objects) if "small_jets" in streams else None,
        leptons=_leptons(batch, objects) if "leptons" in streams else None,
        steps=plan.card.steps(batch.arrays, len(batch)),
        weights=_varied(batch, weight),
        observables=plan.card.values(batch.arrays, len(batch)),
    )
    note = "fat jets have no candidates linked to them: their streams are empty"
    return detected, +Counter({note: empty})


def _four_momenta(pt: Array, eta: Array, phi: Array, mass: Array) -> Momentum:
    """Components in double precision; a negative mass stands for a negative square of it."""
    pt, eta, phi, mass = (x.astype(np.float64) for x in (pt, eta, phi, mass))
    return Momentum.of_polar(pt, eta, phi, _energy(pt, eta, mass))


def _energy(pt: Array, eta: Array, mass: Array) -> Array:
    return np.sqrt(np.square(pt * np.cosh(eta)) + mass * np.abs(mass))


def _constituents(batch: _Batch, pairs: JetPairs, index: Integers) -> tuple[Hits, JetPairs, int]:
    """Take the candidates of the two jets, and no others; and count the jets that have none.

    The fat jets of CMS are clustered of candidates weighted with their PUPPI weight, so these are
    weighted, too, by the weight that stands beside them; NanoAOD itself stores them weighted. Their
    sum is the jet before its energy correction. What has no weight is no part of a jet.
    """
    assert batch.plan.candidates is not None  # noqa: S101  # called where there are some
    name, links_name, link = batch.plan.candidates
    candidates, links, fat_jets = batch[name], batch[links_name], batch["FatJet"]

    # The links to the two jets of each pair, in the order of the pairs: `slot` is which of all jets
    # of all pairs, `which` the candidate among all of the batch.
    every = np.arange(len(links.event))
    jet = links.follow("jetIdx", every, fat_jets)
    which = links.follow(link, every, candidates)
    slots = np.full(fat_jets.counts.sum(), -1)
    slots[index.ravel()] = np.arange(index.size)
    slot = slots[jet]
    inside = np.flatnonzero(slot >= 0)
    inside = inside[np.argsort(slot[inside], kind="stable")]
    slot, which = slot[inside], which[inside]

    pt, eta, phi, mass = (
        column[which].astype(np.float64) for column in candidates.finite(*MOMENTUM)
    )
    energy = _energy(pt, eta, mass)
    if "puppiWeight" in candidates.columns:
        (weight,) = candidates.finite("puppiWeight")
        pt, energy = pt * weight[which], energy * weight[which]
    pdg_id = candidates["pdgId"][which]
    code = np.abs(pdg_id)
    if "charge" in candidates.columns:
        charge = candidates["charge"][which].astype(np.int8)
    else:
        # CMS writes electrons, muons, and pions for all charged hadrons.
        of_matter = np.where((code == 11) | (code == 13), -1, np.where(code == 211, 1, 0))
        charge = (of_matter * np.sign(pdg_id)).astype(np.int8)
    displacement = [np.zeros(len(which))] * 2
    for at, column in enumerate(("d0", "dz")):
        if column in candidates.columns:
            (values,) = candidates.finite(column)
            # What leaves no track has none.
            displacement[at] = np.where(charge == 0, 0.0, _CM * values[which].astype(np.float64))
    particle_class = _CLASS_OF[np.minimum(code, len(_CLASS_OF) - 1)]
    columns = (pt, eta, phi, energy, charge, particle_class, *displacement)

    kept = pt > 0
    slot = slot[kept]
    sizes = np.bincount(slot, minlength=index.size)
    n_members = sizes.reshape(-1, 2)
    counts = np.zeros(len(batch), np.int64)
    counts[pairs.event] = n_members.sum(axis=1)
    hits = Hits(counts, *(column[kept] for column in columns))
    empty = int(np.count_nonzero(sizes == 0))
    # They stand in the order of the jets already.
    return hits, replace(pairs, members=np.arange(len(slot)), n_members=n_members), empty


def _count_tags(batch: _Batch, pairs: JetPairs, index: Integers) -> NDArray[np.int64]:
    """(pairs, 2): how many subjets of each jet are tagged, or small jets within it, at most two."""
    plan = batch.plan
    if plan.subjet_tagger:
        fat_jets, subjets = batch["FatJet"], batch["SubJet"]
        tagged = subjets[plan.subjet_tagger] > TAGGERS[plan.subjet_tagger]
        tags = np.zeros(len(fat_jets.event), np.int64)
        for column in ("subJetIdx1", "subJetIdx2"):
            has = np.flatnonzero(fat_jets[column] >= 0)  # -1: there is none
            tags[has] += tagged[fat_jets.follow(column, has, subjets)]
        return tags[index]
    if plan.jet_tagger:
        jets = batch["Jet"]
        _, eta, phi, _ = jets.finite(*MOMENTUM)
        at = np.flatnonzero(jets[plan.jet_tagger] > TAGGERS[plan.jet_tagger])
        return np.minimum(count_inside(jets.event[at], eta[at], phi[at], pairs, _RADIUS), 2)
    return np.zeros(index.shape, np.int64)


def _small_jets(batch: _Batch, settings: ObjectSettings) -> SmallJets:
    """Small jets above the card's pT; `n_btags` is 1 where tagged."""
    jets, tagger = batch["Jet"], batch.plan.jet_tagger
    momenta = jets.finite(*MOMENTUM)
    none = np.zeros(len(momenta[0]), np.int64)
    multiplicity = jets.columns.get("nConstituents", none)
    n_btags = (jets[tagger] > TAGGERS[tagger]).astype(np.int64) if tagger else none
    columns: tuple[Array, ...] = (*momenta, multiplicity, n_btags)
    return SmallJets(jets.counts, *columns).take(np.flatnonzero(momenta[0] > settings.jet_pt))


def _leptons(batch: _Batch, settings: ObjectSettings) -> Leptons:
    """Electrons and muons of medium quality, isolated, above the card's pT."""
    each = []
    for name, (particle_class, quality, least) in LEPTONS.items():
        if name not in batch.plan.columns:
            continue
        found = batch[name]
        pt, eta, phi = found.finite("pt", "eta", "phi")
        chosen = pt > settings.lepton_pt
        if "pfRelIso03_all" in found.columns:  # pT of others within 0.3, over the lepton's
            chosen &= found["pfRelIso03_all"] < settings.isolation
        if quality in found.columns:
            chosen &= found[quality] >= least
        classes = np.full(len(pt), particle_class, np.int8)
        leptons = Leptons(found.counts, pt, eta, phi, found["charge"], classes)
        each.append(leptons.take(np.flatnonzero(chosen)))
    return Leptons.merge(each)


def _find_higgs(batch: _Batch) -> Particles:
    """Higgs bosons with a b and a b bar among their daughters, so each once, as it decays."""
    generated = batch["GenPart"]
    pdg_id, mother = generated["pdgId"], generated["genPartIdxMother"]
    of_b, of_anti_b = (
        generated.follow(
            "genPartIdxMother", np.flatnonzero((pdg_id == quark) & (mother >= 0)), generated
        )
        for quark in (BOTTOM, -BOTTOM)
    )
    both = np.intersect1d(of_b, of_anti_b)
    higgs = both[pdg_id[both] == HIGGS]
    momentum = _four_momenta(*(generated[name][higgs] for name in MOMENTUM))
    return Particles(
        np.bincount(generated.event[higgs], minlength=len(batch)),
        pdg_id[higgs].astype(np.int64),
        *(momentum.px, momentum.py, momentum.pz, momentum.energy),
    )


def _varied(batch: _Batch, weight: Floats) -> dict[str, Floats]:
    """Weights of each variation."""
    ratios: list[Array] = []
    for branch, length in batch.plan.variations.items():
        if length is None:
            ratios.append(batch.each_event(branch))
            continue
        counts, values = batch.list_of(branch)
        other = np.flatnonzero(counts != length)
        if len(other):
            raise DataError(
                f"{batch.where(int(other[0]))}: branch '{branch}' has {counts[other[0]]} weights, "
                f"where the first entry has {length}; leave it out of convert.variations ([] for "
                "none)"
            )
        check_finite({branch: values}, np.repeat(np.arange(len(batch)), counts), batch.where)
        ratios += list(values.reshape(len(batch), length).T)
    names = variation_names(batch.plan.variations)
    return {name: weight * ratio for name, ratio in zip(names, ratios, strict=True)}


# ---- the reader -------------------------------------------------------------------------------


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

    step: ClassVar[int] = 10_000
    generate: GenerateSettings
    convert: ConvertSettings

    def entries(self, path: str) -> int:
        """Return the number of events of a file; raises as `look` does."""
        with open_events(path) as (table, _):
            return table.entries

    def look(self, path: str) -> Contents:
        """See what is in a file.

        Raises
        ------
        CardError
            Names the key of the card's section `convert` that holds no expression.
        DataError
            Where the file cannot be opened, holds no events, or lacks a branch.
        """
        card = CardExpressions.parse(self.convert)
        with open_events(path) as (table, generated):
            if not table.entries:
                raise NoEventsError(f"{table.where} holds no events")
            wanted = collision_streams(self.generate.streams, self.generate.columns)
            plan = Plan.make(table, wanted, card, self.convert.variations)
            streams, missing = divide_streams(wanted, plan.lacking)
            return Contents(
                title=f"CMS NanoAOD, {'RNTuple' if table.is_rntuple else 'tree'} 'Events'",
                entries=table.entries,
                streams=streams,
                missing=missing,
                rows=list(collections_found(table, plan)),
                remarks=list(self._remarks(table, plan, generated)),
            )

    def read(
        self,
        piece: Piece,
        streams: Mapping[str, StreamSchema],
        seed: int,  # noqa: ARG002 - nothing is random
    ) -> Iterator[FileEvents]:
        """See `Reader.read`; the sums of weights of a file come with its first entry.

        Raises
        ------
        DataError
            Names file, branch and entry; or the stream, or column of it, that the file does not give.
        """
        card = CardExpressions.parse(self.convert)
        with open_events(piece.path) as (table, of_file):
            last = table.entries if piece.last is None else piece.last
            # Of all generated events, not of those in the file alone.
            known = self._is_summed(table) and of_file.sum_weights is not None
            sums = later = dict.fromkeys(("sum_weights", "sum_weights2"), 0.0 if known else None)
            if known and not piece.first:
                sums = {name: getattr(of_file, name) for name in later}
            if piece.first >= last:  # such a file may have no branches
                events, none = nothing(streams).processes[THE_PROCESS]
                generated = none.model_copy(update=sums)
                yield FileEvents(np.zeros(0), {THE_PROCESS: (events, generated)})
                return
            plan = Plan.make(table, streams, card, self.convert.variations)
            for what, why in divide_streams(streams, plan.lacking)[1].items():
                stream, _, column = what.partition(": ")
                of = f"column '{column}' of {stream}" if column else stream
                raise DataError(
                    f"{table.where} does not give {of}: {why}; other files of the call give it: "
                    "convert this one into another dataset"
                )
            for first, arrays in table.batches(plan.names, piece.first, last, self.step):
                batch = _Batch(piece.path, first, plan, arrays)
                detected, notes = _detect(batch, streams, self.generate)
                yield select_batch(detected, streams, self.generate, notes, **sums)
                sums = later

    def _is_summed(self, table: Table) -> bool:
        """Whether the weight is the one that `Runs` has the sums of."""
        own = self.convert.weight is None or self.convert.weight.strip() == WEIGHT
        return own and (WEIGHT in table.branches or not table.entries)

    def _remarks(self, table: Table, plan: Plan, generated: Generated) -> Iterator[str]:
        if not plan.weight and plan.card.weight is None:
            yield "no branch genWeight: every event has weight 1, as data have"
        elif not self._is_summed(table):
            yield (
                "the sum of convert.weight over all generated events is not known: give it with "
                "--sum-weights"
            )
        elif generated.sum_weights is None:
            yield (
                "no sums of weights (tree 'Runs', genEventSumw): give the sum over all generated "
                "events with --sum-weights"
            )
        if not (plan.subjet_tagger or plan.jet_tagger):
            yield "no b-tagger that is known here: n_btags is 0 throughout"
        if "GenPart" not in plan.columns:
            yield "no generator's particles: whether a jet is h -> bb is not known"
