"""Delphes files: reconstructed objects in a ROOT tree, read without ROOT or Delphes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from manyscale.events.files.expressions import CardExpressions
from manyscale.events.files.convert_settings import ConvertSettings
from manyscale.events.files.delphes_batches import DelphesBatches
from manyscale.events.files.delphes_branches import Branches, find_branches, give_streams
from manyscale.events.files.delphes_tree import TREE, DelphesFiles, DelphesTree
from manyscale.events.files.object_files import read_objects
from manyscale.events.files.reader import Contents, FileEvents, Piece
from manyscale.events.settings import GenerateSettings
from manyscale.schema import StreamSchema, collision_streams

__all__ = ["DelphesReader"]

# An event of a large file takes 0.2 ms, and opening it, once a unit, 0.1 s.
_STEP = 5000
# Some 30 MB of tracks, cells and jets without pile-up.
_BATCH = 400
# Entries from which `look` tells the size of collections.
_SEEN = 10
_USES = {
    "Event": "weights, cross section",
    "Jet": "small jets, b-tags",
    "MissingET": "missing momentum",
    "Electron": "leptons",
    "Muon": "leptons",
    "Particle": "h -> b bbar",
}


@dataclass(frozen=True)
class DelphesReader:
    """Reads trees of Delphes 3.

    Fat jets are `FatJet` where there is one, else `Jet`, else clustered from the energy flow.
    b-tags are bit 0 of `BTag`: a fat jet's are the tagged `Jet`s within `generate.jets.radius` of
    it, at most 2, or without these its own. Leptons are those of `Electron` and `Muon`. Cross sections are those of `Event`, and all events that were generated are in
    the file.

    Attributes
    ----------
    generate
        Streams, cuts and objects.
    convert
        Tree, weight, variations, observables and selection: branches are named as in the file
        (`Event.Number`, `Jet_size`). A branch of several varied weights, `Weight.Weight`, gives
        one named weight each: `Weight_Weight_0`, `Weight_Weight_1`, ...
    """

    generate: GenerateSettings
    convert: ConvertSettings

    @property
    def step(self) -> int:
        """Entries of a unit of work that keep a core busy for some seconds."""
        return _STEP

    def entries(self, path: str) -> int:
        """Return the number of events of a file; raises as `look` does."""
        with self._files() as files:
            return files.tree(path).n_entries

    def look(self, path: str) -> Contents:
        """See what is in a file without reading its events; see `Reader.look`."""
        wanted = collision_streams(self.generate.streams, self.generate.columns)
        with self._files() as files:
            tree = files.tree(path)
            expressions = CardExpressions.parse(self.convert)
            branches = find_branches(
                tree, wanted, self.generate.columns, expressions, self.convert.variations or ()
            )
            streams, missing = give_streams(branches, wanted)
            return Contents(
                title=f"Delphes, tree '{self._tree_name}'",
                entries=tree.n_entries,
                streams=streams,
                missing=missing,
                rows=_rows(tree, branches),
                remarks=_remarks(branches),
            )

    def read(
        self,
        pieces: Sequence[Piece],
        streams: Mapping[str, StreamSchema],
        seed: int,  # noqa: ARG002 - nothing is random
    ) -> FileEvents:
        """Read pieces of files; see `Reader.read`."""
        with self._files() as files:
            reading = DelphesBatches(files, self.generate, self.convert, streams)
            return read_objects(
                pieces,
                streams,
                self.generate,
                batch=_BATCH,
                entries=lambda path: files.tree(path).n_entries,
                load=reading.load,
                detect=reading.detect,
                totals=reading.totals,
            )

    @property
    def _tree_name(self) -> str:
        return self.convert.tree or TREE

    def _files(self) -> DelphesFiles:
        return DelphesFiles(self._tree_name)


def _rows(tree: DelphesTree, branches: Branches) -> list[tuple[str, str, str]]:
    """Collections of the file, how many objects the first events have of each, and their use."""
    last = min(tree.n_entries, _SEEN)
    rows = []
    for name in tree.collections:
        mean = tree.sizes(name, 0, last).mean()
        rows.append((name, f"{mean:.1f} an event", _use(name, branches)))
    return rows


def _use(name: str, branches: Branches) -> str:
    if name == branches.fat_jets:
        return "fat jets"
    if name in branches.hits or (name in branches.seen and branches.has(name)):
        return "constituents" if branches.fat_jets else "fat jets are clustered from it"
    return _USES.get(name, "") if branches.has(name) else ""


def _remarks(branches: Branches) -> list[str]:
    remarks = []
    if branches.fat_jets == "Jet":
        remarks.append("there is no FatJet: the fat jets are those of 'Jet', of whatever radius")
    if branches.fat_jets is None:
        remarks.append(
            "there is neither FatJet nor Jet: fat jets are clustered from "
            f"{', '.join(branches.seen)}, and have no b-tags"
        )
    elif not any(branches.has(name, "BTag") for name in ("FatJet", "Jet")):
        remarks.append("the jets have no branch BTag: no b-tags")
    if not branches.has("MissingET"):
        remarks.append("there is no MissingET: the missing momentum is minus the sum of all seen")
    if not branches.has("Particle"):
        remarks.append("there are no generated particles: h_bb_j1 and h_bb_j2 are not known")
    return remarks
