"""Delphes files: reconstructed objects in a ROOT tree, read without ROOT or Delphes."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from typing import ClassVar

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from manyscale.errors import DataError
from manyscale.events.files.checks import check_finite
from manyscale.events.files.collisions import select_batch
from manyscale.events.files.convert_settings import ConvertSettings
from manyscale.events.files.delphes_branches import (
    JET,
    LEPTON,
    LEPTONS,
    SEEN,
    DelphesTree,
    Layout,
    Objects,
)
from manyscale.events.files.delphes_references import NOWHERE, resolve
from manyscale.events.files.expressions import CardExpressions
from manyscale.events.files.reader import (
    Contents,
    FileEvents,
    NoEventsError,
    Piece,
    divide_streams,
    nothing,
)
from manyscale.events.files.root_files import open_root
from manyscale.events.jets import cluster, find_jets, hardest_two
from manyscale.events.kinematics import Momentum
from manyscale.events.objects import (
    DetectedEvents,
    Hits,
    JetPairs,
    Leptons,
    SmallJets,
    find_leptons,
    missing_momentum,
)
from manyscale.events.ragged import Array, Floats, Integers, pair_up
from manyscale.events.settings import GenerateSettings
from manyscale.events.truth import HIGGS, Particles, count_inside, higgs_to_bottom, match_h_bb
from manyscale.schema import (
    CHARGED_HADRON,
    ELECTRON,
    MUON,
    NEUTRAL_HADRON,
    PHOTON,
    StreamSchema,
    collision_streams,
)

__all__ = ["DelphesReader"]

TREE = "Delphes"
# Some 30 MB of tracks, cells and jets without pile-up.
_BATCH = 400
_NO_CONSTITUENTS = "of the two leading jets have no constituents: their streams are empty"
_CODES = {"EFlowTrack": CHARGED_HADRON, "Track": CHARGED_HADRON, "EFlowPhoton": PHOTON}
# Collections of one object an event: expressions see one number of each.
_SINGLE = {"Event", "MissingET", "GenMissingET", "PuppiMissingET", "ScalarHT"}
# Bit 0 of BTag is the first working point of the Delphes card.
_TAGGED = 1


@dataclass(frozen=True)
class DelphesReader:
    """Reads trees of Delphes 3.

    Fat jets are `FatJet` where there is one, else `JetPUPPIAK8`, `JetAK8`, `Jet` or `JetPUPPI`, else
    clustered from the energy flow. b-tags are bit 0 of `BTag`: a fat jet's are the tagged small
    jets (`Jet`, `JetPUPPI`) within `generate.jets.radius` of it, at most 2, or without these its
    own. Leptons are those of `Electron` and `Muon`. The cross section is that of the file's last
    `Event`, and all events that were generated are in the file.

    Attributes
    ----------
    generate
        Streams, cuts and objects.
    convert
        Tree, weight, variations, observables and selection: branches are named as in the file
        (`Event.Number`, `Jet_size`). A branch of several varied weights, `Weight.Weight`, gives
        one named weight each: `Weight_Weight_0`, `Weight_Weight_1`, ...
    """

    # An event of a large file takes 0.2 ms, and opening it, once a unit, 0.1 s.
    step: ClassVar[int] = 5000
    generate: GenerateSettings
    convert: ConvertSettings

    def entries(self, path: str) -> int:
        """Return the number of events of a file; raises as `look` does."""
        with self._open(path) as tree:
            return tree.n_entries

    def look(self, path: str) -> Contents:
        """See what is in a file without reading its events; see `Reader.look`."""
        wanted = collision_streams(self.generate.streams, self.generate.columns)
        with self._open(path) as tree:
            if not tree.n_entries:
                raise NoEventsError(f"{tree.where} holds no event")
            layout = self._layout(tree, wanted)
            streams, missing = divide_streams(wanted, layout.lacking)
            rows, last = [], min(tree.n_entries, SEEN)
            for name, columns in tree.collections.items():
                counts, _ = tree.flat(f"{name}.{columns[0]}", 0, last)
                rows.append((name, f"{counts.mean():.1f} an event", layout.uses.get(name, "")))
            remarks = layout.remarks()
            section, _ = tree.cross_section()
            if section is not None and tree.adds_up():
                remarks.append(
                    "Event.CrossSection adds up from event to event: that of the last event, "
                    f"{section:.4g} pb, is taken for all"
                )
            title = f"Delphes, tree '{tree.name}'"
            return Contents(title, tree.n_entries, streams, missing, rows, remarks)

    def read(
        self,
        piece: Piece,
        streams: Mapping[str, StreamSchema],
        seed: int,  # noqa: ARG002 - nothing is random
    ) -> Iterator[FileEvents]:
        """Read some entries of a file; see `Reader.read`."""
        with self._open(piece.path) as tree:
            end = tree.n_entries if piece.last is None else piece.last
            if end <= piece.first:
                yield nothing(streams)
                return
            expressions = CardExpressions.parse(self.convert)
            layout = self._layout(tree, streams)
            section, error = tree.cross_section()
            n_varied: dict[str, int] = {}
            for first in range(piece.first, end, _BATCH):
                last = min(first + _BATCH, end)
                batch = _Batch(tree, layout, self.generate, first, last)
                columns = {name: batch.column(name) for name in expressions.names}
                weight = expressions.weights(columns, last - first, batch.where)
                hits, pairs, multiplicity = batch.fat_jets()
                detected = DetectedEvents(
                    entry=np.arange(first, last),
                    weight=batch.weight() if weight is None else weight,
                    hits=hits,
                    pairs=pairs,
                    n_btags=batch.n_btags(pairs),
                    missing=batch.missing(),
                    multiplicity=multiplicity,
                    h_bb=batch.h_bb(pairs),
                    small_jets=batch.small_jets() if "small_jets" in streams else None,
                    leptons=batch.leptons() if "leptons" in streams else None,
                    steps=expressions.steps(columns, last - first),
                    weights=batch.varied(self.convert.variations or (), n_varied),
                    observables=expressions.values(columns, last - first),
                )
                empty = 0 if pairs.n_members is None else int((pairs.n_members == 0).sum())
                yield select_batch(
                    detected,
                    streams,
                    self.generate,
                    +Counter({_NO_CONSTITUENTS: empty}),
                    cross_section=section,
                    cross_section_error=error,
                )

    @contextmanager
    def _open(self, path: str) -> Iterator[DelphesTree]:
        with open_root(path) as file:
            yield DelphesTree(file, path, self.convert.tree or TREE)

    def _layout(self, tree: DelphesTree, wanted: Collection[str]) -> Layout:
        """Find what is read of a file; the branches that the card names must be there."""
        for expression in CardExpressions.parse(self.convert).all:
            expression.check_names(tree.branches.keys(), tree.where)
        for name in self.convert.variations or ():
            if name not in tree.branches:
                close = get_close_matches(name, tree.branches, n=5, cutoff=0.5)
                raise DataError(
                    f"{tree.where}: there is no branch '{name}', which convert.variations needs; "
                    f"there are {', '.join(close or tree.collections) or 'none'}"
                )
        return Layout(tree, wanted, self.generate.columns)


# ---- a batch of events ------------------------------------------------------------------------


@dataclass(frozen=True)
class _NumberedHits(Hits):
    """With the unique numbers by which jets refer to them."""

    unique: Integers


class _Batch:
    """Entries `first` to `last - 1` of a tree, read, and the objects in them."""

    def __init__(
        self, tree: DelphesTree, layout: Layout, settings: GenerateSettings, first: int, last: int
    ) -> None:
        self._tree, self._layout, self._settings = tree, layout, settings
        self._first, self._last = first, last
        self._objects = {
            name: tree.objects(name, columns, first, last)
            for name, columns in layout.read.items()
            if name != "Particle"
        }
        for name, objects in self._objects.items():
            self._check_finite(name, objects)

    def _check_finite(self, name: str, objects: Objects) -> None:
        measured = {
            f"{name}.{column}": values
            for column, values in objects.columns.items()
            if values.dtype.kind == "f"
        }
        check_finite(measured, objects.event, self.where)

    def where(self, event: int) -> str:
        """Name an event of the batch in messages."""
        return f"{self._tree.path}, entry {self._first + event} of tree '{self._tree.name}'"

    def fat_jets(self) -> tuple[Hits | None, JetPairs, Integers | None]:
        """Find the two fat jets of highest pT, both above the cut on the second.

        Returns
        -------
        hits
            What they are made of; None where that is not read.
        pairs
        multiplicity
            (pairs, 2): number of constituents where there are no hits; None where not known.

        Raises
        ------
        DataError
            Where a jet refers to what is not there.
        """
        min_pt = self._settings.cuts.second_pt
        if self._layout.fat_jets is None:
            hits = self._seen()
            return hits, cluster(hits, self._settings.jets.radius, min_pt), None
        jets = self._objects[self._layout.fat_jets]
        event, place = hardest_two(jets.counts, jets.columns["PT"], min_pt)
        pt, eta, phi, mass = (of[place] for of in jets.floats("PT", "Eta", "Phi", "Mass"))
        energy = np.sqrt(pt**2 + (pt * np.sinh(eta)) ** 2 + mass**2)
        momentum = Momentum.of_polar(pt, eta, phi, energy)
        counts, references = jets.n_references, jets.references
        if not self._layout.inside or counts is None or references is None:
            return None, JetPairs(event, momentum), None if counts is None else counts[place]
        everything = self._merge(self._layout.inside)
        # Which jet each reference is of, the event of that, and what it points to.
        jet, reference = pair_up(place.ravel(), counts)
        at = np.repeat(event, 2)[jet]
        found = resolve(references[reference], at, everything.unique, everything.counts)
        lost = at[found == NOWHERE]
        if len(lost):
            raise DataError(
                f"{self.where(int(lost[0]))}: branch '{self._layout.fat_jets}.Constituents' "
                f"refers to an object that is in none of {', '.join(self._layout.inside)}; without "
                "the streams of what is inside the jets, and without kinematics, the file can be "
                "read"
            )
        kept = everything.pt > 0
        hits = everything.take(np.flatnonzero(kept))
        there = kept[found]
        members = (np.cumsum(kept) - 1)[found[there]]  # places among those that are kept
        n_members = np.bincount(jet[there], minlength=place.size).reshape(-1, 2)
        return hits, JetPairs(event, momentum, members, n_members), None

    def n_btags(self, pairs: JetPairs) -> NDArray[np.int64]:
        """(pairs, 2): tagged small jets within the radius of each fat jet, at most 2.

        Without small jets it is the fat jet's own tag; 0 without that.
        """
        fat, small = self._layout.fat_jets, self._layout.small_jets
        if fat and small and small != fat and self._layout.has(small, "BTag"):
            jets = self._objects[small]
            tagged = np.flatnonzero(jets.columns["BTag"] & _TAGGED)
            eta, phi = (jets.columns[name][tagged] for name in ("Eta", "Phi"))
            radius = self._settings.jets.radius
            return np.minimum(count_inside(jets.event[tagged], eta, phi, pairs, radius), 2)
        if not fat or not self._layout.has(fat, "BTag"):
            return np.zeros(pairs.momentum.px.shape, np.int64)
        jets = self._objects[fat]
        _, place = hardest_two(jets.counts, jets.columns["PT"], self._settings.cuts.second_pt)
        return (jets.columns["BTag"] & _TAGGED).astype(np.int64)[place]

    def h_bb(self, pairs: JetPairs) -> NDArray[np.int64] | None:
        """(pairs, 2): which jets are a h -> b bbar; None where there are no generated particles.

        Particles are most of a Delphes file; all but their codes are read only where there is a
        Higgs boson.
        """
        if "Particle" not in self._layout.read:
            return None
        counts, pid = self._tree.flat("Particle.PID", self._first, self._last)
        if not (pid == HIGGS).any():
            return np.zeros(pairs.momentum.px.shape, np.int64)
        columns = self._layout.read["Particle"]
        of = self._tree.objects("Particle", columns, self._first, self._last)
        chosen = higgs_to_bottom(pid, of.columns["D1"], of.columns["D2"], counts)
        number = np.bincount(of.event[chosen], minlength=len(counts))
        higgs = Objects(number, {name: values[chosen] for name, values in of.columns.items()})
        self._check_finite("Particle", higgs)
        momenta = higgs.floats("Px", "Py", "Pz", "E")
        particles = Particles(number, higgs.columns["PID"].astype(np.int64), *momenta)
        return match_h_bb(particles, pairs, self._settings.jets.radius)

    def small_jets(self) -> SmallJets:
        """Jets of the file above the smallest pT; without any, those of all that was seen."""
        settings = self._settings.objects
        if self._layout.small_jets is None:
            return find_jets(self._seen(), settings.jet_radius, settings.jet_pt)
        of = self._objects[self._layout.small_jets]
        pt, eta, phi, mass = (of.columns[name] for name in JET.needed)
        zero = np.zeros(len(pt), np.int64)
        tags = of.columns.get("BTag", zero) & _TAGGED
        number = zero if of.n_references is None else of.n_references
        jets = SmallJets(of.counts, pt, eta, phi, mass, number, tags)
        return jets.take(np.flatnonzero(pt > settings.jet_pt))

    def leptons(self) -> Leptons:
        """Electrons and muons as the Delphes card isolated them; without any, isolated tracks."""
        settings, names = self._settings.objects, self._layout.leptons
        if not names:
            return find_leptons(self._seen(), settings)
        each = []
        for name in names:
            of = self._objects[name]
            pt, eta, phi, charge = (of.columns[column] for column in LEPTON.needed)
            codes = np.full(len(pt), LEPTONS[name])
            each.append(Leptons(of.counts, pt, eta, phi, charge, codes))
        leptons = Leptons.merge(each)
        return leptons.take(np.flatnonzero(leptons.pt > settings.lepton_pt))

    def missing(self) -> tuple[Array, Array]:
        """Components (events,) of the missing momentum, else of minus the sum of all seen."""
        if self._layout.missing is None:
            return missing_momentum(self._seen())
        objects = self._objects[self._layout.missing]
        self._check_one_each(f"'{self._layout.missing}'", objects.counts)
        met, phi = objects.floats("MET", "Phi")
        return met * np.cos(phi), met * np.sin(phi)

    def _seen(self) -> Hits:
        """All that the detector saw."""
        # Delphes leaves tracks with no pT whose energy it gives to cells.
        everything = self._merge(self._layout.seen)
        return everything.take(np.flatnonzero(everything.pt > 0))

    def _merge(self, names: Sequence[str]) -> "_NumberedHits":
        """Join tracks and cells of several collections."""
        each = []
        for name in names:
            of = self._objects[name]
            pt, eta, phi = of.floats("PT" if "PT" in of.columns else "ET", "Eta", "Phi")
            zero = np.zeros(len(pt))
            charge = of.columns.get("Charge", zero).astype(np.int8)
            if "E" in of.columns:
                (energy,) = of.floats("E")
            else:
                # Without pT the direction is a number that no hyperbolic cosine can take: 999.9.
                # Older versions of Delphes say no mass, and make jets of tracks without one.
                momentum = pt * np.cosh(np.where(pt > 0, eta, 0))
                energy = np.hypot(momentum, of.columns.get("Mass", zero))
            code = np.full(len(pt), _CODES.get(name, NEUTRAL_HADRON), np.int8)
            code[charge != 0] = CHARGED_HADRON
            if "Eem" in of.columns and "Ehad" in of.columns:
                code[of.columns["Eem"] > of.columns["Ehad"]] = PHOTON
            for pid, known in {11: ELECTRON, 13: MUON, 22: PHOTON}.items():
                code[np.abs(of.columns.get("PID", zero)) == pid] = known
            d0, dz = (of.columns.get(c, zero).astype(np.float64) for c in ("D0", "DZ"))
            unique = of.columns.get("fUniqueID", zero)
            each.append(
                _NumberedHits(of.counts, pt, eta, phi, energy, charge, code, d0, dz, unique)
            )
        return _NumberedHits.merge(each)

    def _check_one_each(self, what: str, counts: Integers) -> None:
        odd = np.flatnonzero(counts != 1)
        if len(odd):
            raise DataError(
                f"{self.where(int(odd[0]))}: {what} holds {counts[odd[0]]} values, where there is "
                "one an event"
            )

    def weight(self) -> Floats:
        """(events,): weights of the file, 1 where it has none."""
        if not self._layout.has("Event", "Weight"):
            return np.ones(self._last - self._first)
        self._check_one_each("'Event'", self._objects["Event"].counts)
        return self._objects["Event"].floats("Weight")[0]

    def column(self, name: str) -> ak.Array | Array:
        """Read a branch for an expression; of collections of one object, one value an event."""
        values = self._tree.array(name, self._first, self._last)
        if values.ndim == 1 or name.partition(".")[0] not in _SINGLE:
            return values
        self._check_one_each(f"branch '{name}'", ak.to_numpy(ak.num(values)))
        return ak.to_numpy(ak.flatten(values))

    def varied(self, names: Sequence[str], numbers: dict[str, int]) -> dict[str, Floats]:
        """Varied weights (events,): "Weight.Weight" gives Weight_Weight_0, Weight_Weight_1, ...

        `numbers` of weights, by branch, are those of the batches before; the first batch sets them.
        """
        varied: dict[str, Floats] = {}
        for name in names:
            counts, flat = self._tree.flat(name, self._first, self._last)
            values, number = flat.astype(np.float64), numbers.setdefault(name, int(counts[0]))
            odd = np.flatnonzero(counts != number)
            if len(odd):
                raise DataError(
                    f"{self.where(int(odd[0]))}: branch '{name}' holds {counts[odd[0]]} weights, "
                    f"and {number} in the events before"
                )
            check_finite({name: values}, np.repeat(np.arange(len(counts)), counts), self.where)
            plain = name.replace(".", "_")
            for index, column in enumerate(values.reshape(len(counts), number).T):
                varied[plain if number == 1 else f"{plain}_{index}"] = column
        return varied
