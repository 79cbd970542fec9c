"""Which branches of a Delphes file are read, and which streams they give."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from manyscale.errors import DataError
from manyscale.events.files.expressions import CardExpressions
from manyscale.events.files.delphes_tree import DelphesTree
from manyscale.events.files.delphes_truth import GENERATED
from manyscale.events.files.reader import divide_streams
from manyscale.schema import CONSTITUENTS, SUBJETS, StreamSchema

__all__ = ["LEPTONS", "TRACKS", "Branches", "find_branches", "give_streams"]

#: Collections of tracks; the other ones that hits come from are of cells.
TRACKS = ("EFlowTrack", "Track")
#: Collections of isolated leptons.
LEPTONS = ("Electron", "Muon")

# Tower is what the calorimeters saw before the energy of tracks is taken off: it is not to be
# added to the others.
_ENERGY_FLOW = ("EFlowTrack", "EFlowPhoton", "EFlowNeutralHadron")
_OTHERWISE = ("Tower", "Track")
_JET = ("PT", "Eta", "Phi", "Mass")
_DISPLACEMENT = {"d0": "D0", "dz": "DZ"}


@dataclass(frozen=True)
class Branches:
    """What is read of a file.

    Attributes
    ----------
    fat_jets
        The collection taken as fat jets; None: they are clustered from `seen`.
    hits
        Collections that the constituents come from; empty where there are none or none is wanted.
    seen
        Collections that together are all that the detector saw, each energy once.
    collections
        Columns to read, by collection.
    variations
        Branches of varied weights.
    others
        Branches that expressions of the card use.
    """

    fat_jets: str | None
    hits: tuple[str, ...]
    seen: tuple[str, ...]
    collections: Mapping[str, tuple[str, ...]]
    variations: tuple[str, ...]
    others: tuple[str, ...]

    def has(self, collection: str, column: str | None = None) -> bool:
        """Whether a collection, or a column of it, is read."""
        columns = self.collections.get(collection, ())
        return column in columns if column else bool(columns)


def find_branches(
    tree: DelphesTree,
    wanted: Collection[str],
    columns: Collection[str],
    expressions: CardExpressions,
    variations: tuple[str, ...],
) -> Branches:
    """Find what is to be read of a file.

    Parameters
    ----------
    tree
        Of the file.
    wanted
        Names of the streams wanted.
    columns
        Further columns of the constituents that are wanted.
    expressions
        Of the card.
    variations
        Branches of varied weights.

    Raises
    ------
    DataError
        Names a branch that is needed and not there, or says that there are no jets and nothing to
        make them of.
    """
    for expression in expressions.all:
        expression.check_names(tree.names, tree.where)
    tree.need(variations, "convert.variations")
    fat_jets = next((name for name in ("FatJet", "Jet") if tree.columns(name)), None)
    seen = _seen(tree)
    if not fat_jets and not seen:
        raise DataError(
            f"{tree.where}: there are no jets (FatJet, Jet) and nothing to make them of "
            f"({', '.join((*_ENERGY_FLOW, *_OTHERWISE))}); there are {', '.join(tree.collections)}"
        )
    if not tree.columns("MissingET") and not seen:
        raise DataError(
            f"{tree.where}: there is no missing momentum (MissingET) and nothing to compute it of "
            f"({', '.join((*_ENERGY_FLOW, *_OTHERWISE))}); there are {', '.join(tree.collections)}"
        )
    read: dict[str, tuple[str, ...]] = {
        "Event": _choose(tree, "Event", (), ("Weight", "CrossSection", "CrossSectionError")),
        "MissingET": _choose(tree, "MissingET", ("MET", "Phi")),
    }
    if fat_jets:
        read[fat_jets] = _choose(tree, fat_jets, _JET, ("BTag", "Constituents"))
    if fat_jets == "FatJet":
        read["Jet"] = _small_jets(tree, counted="small_jets" in wanted)
    if "leptons" in wanted:
        read |= {name: _choose(tree, name, ("PT", "Eta", "Phi", "Charge")) for name in LEPTONS}
    if set(GENERATED) <= set(tree.columns("Particle")):
        read["Particle"] = GENERATED
    read = {name: of for name, of in read.items() if of}
    hits = _hits(tree, fat_jets, seen, wanted)
    linked = ("fUniqueID",) if fat_jets else ()
    for name in {*hits, *(seen if _all_is_needed(read, fat_jets, wanted) else ())}:
        read[name] = _hit(tree, name, columns, linked)
    return Branches(fat_jets, hits, seen, read, variations, expressions.names)


def _seen(tree: DelphesTree) -> tuple[str, ...]:
    flow = tuple(name for name in _ENERGY_FLOW if tree.columns(name))
    return flow or tuple(name for name in _OTHERWISE if tree.columns(name))[:1]


def _hits(
    tree: DelphesTree, fat_jets: str | None, seen: tuple[str, ...], wanted: Collection[str]
) -> tuple[str, ...]:
    if fat_jets is None:
        return seen
    if "Constituents" not in tree.columns(fat_jets) or not {
        *CONSTITUENTS,
        *SUBJETS,
        "kinematics",
    } & set(wanted):
        return ()
    # Jets may be made of towers although there is energy flow.
    possible = dict.fromkeys((*seen, "Tower"))
    return tuple(name for name in possible if "fUniqueID" in tree.columns(name))


def _all_is_needed(
    read: Mapping[str, tuple[str, ...]], fat_jets: str | None, wanted: Collection[str]
) -> bool:
    return (
        fat_jets is None
        or "MissingET" not in read
        or ("small_jets" in wanted and "Jet" not in read)
        or ("leptons" in wanted and not read.keys() & set(LEPTONS))
    )


def _small_jets(tree: DelphesTree, *, counted: bool) -> tuple[str, ...]:
    """Columns of the jets beside the fat ones; `counted`: with what tells their constituents."""
    if not counted and "BTag" not in tree.columns("Jet"):
        return ()
    return _choose(tree, "Jet", _JET, ("BTag", "Constituents") if counted else ("BTag",))


def _hit(
    tree: DelphesTree, name: str, columns: Collection[str], linked: tuple[str, ...]
) -> tuple[str, ...]:
    if name in TRACKS:
        displacement = tuple(_DISPLACEMENT[column] for column in columns)
        needed = ("PT", "Eta", "Phi", "Charge", "PID")
        return _choose(tree, name, needed, ("Mass", *linked, *displacement))
    return _choose(
        tree,
        name,
        ("ET", "Eta", "Phi", "E"),
        (*linked, "Eem", "Ehad") if name == "Tower" else linked,
    )


def _choose(
    tree: DelphesTree, collection: str, needed: Sequence[str], optional: Sequence[str] = ()
) -> tuple[str, ...]:
    """Columns to read of a collection, none where there is no such; those needed must be there."""
    there = tree.columns(collection)
    if there:
        tree.need([f"{collection}.{column}" for column in needed], f"'{collection}'")
    return tuple(column for column in (*needed, *optional) if column in there)


def give_streams(
    branches: Branches, wanted: Mapping[str, StreamSchema]
) -> tuple[dict[str, StreamSchema], dict[str, str]]:
    """Divide the streams wanted into what the branches give and what not; see `divide_streams`."""
    return divide_streams(wanted, partial(_lacking, branches=branches))


def _lacking(stream: str, branches: Branches) -> dict[str, str]:
    """Columns of a stream that cannot be given, and why; pt stands for the whole stream."""
    no_hits = (
        f"'{branches.fat_jets}' has no constituents that the file holds: they are in "
        f"{', '.join((*_ENERGY_FLOW, 'Tower'))}"
    )
    if stream in {*CONSTITUENTS, *SUBJETS} and not branches.hits:
        return {"pt": no_hits}
    if stream in CONSTITUENTS:
        return {
            column: f"no tracks with a branch {branch}"
            for column, branch in _DISPLACEMENT.items()
            if not any(branches.has(tracks, branch) for tracks in TRACKS)
        }
    if stream == "kinematics" and not branches.hits:
        counted = branches.fat_jets and branches.has(branches.fat_jets, "Constituents")
        return {"width": no_hits} if counted else {"width": no_hits, "multiplicity": no_hits}
    if stream == "small_jets":
        return _lacking_of_small_jets(branches)
    if stream == "leptons" and not any(map(branches.has, (*LEPTONS, *TRACKS))):
        return {"pt": f"there is none of {', '.join((*LEPTONS, *TRACKS))}"}
    return {}


def _lacking_of_small_jets(branches: Branches) -> dict[str, str]:
    if not branches.has("Jet"):
        if not branches.seen:
            return {"pt": "there is no 'Jet', and nothing to make them of"}
        return {"n_btags": "there is no 'Jet'; those made here have no b-tags"}
    columns = {"BTag": "n_btags", "Constituents": "multiplicity"}
    return {
        column: f"there is no branch 'Jet.{branch}'"
        for branch, column in columns.items()
        if not branches.has("Jet", branch)
    }
