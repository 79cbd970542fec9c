"""NanoAOD: weights and their sums, expressions of the card, units, and damaged files."""

import pickle
from itertools import pairwise
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot

from helpers import reading
from helpers.nanoaod_files import (
    NANOAOD_15,
    PFNANO,
    changed,
    made_up,
    read,
    reader,
    records,
    with_generated,
    without,
    write,
)
from manyscale.errors import CardError, DataError
from manyscale.events.files.reader import THE_PROCESS, NoEventsError, Piece

ENTRIES = 20
ALL = ("jet1", "jet2", "subjets1", "small_jets", "leptons", "missing", "kinematics")


@pytest.fixture(scope="module")
def branches() -> dict[str, ak.Array]:
    return made_up(PFNANO, ENTRIES)


def test_weights_and_their_variations(tmp_path, branches):
    found = read(write(tmp_path / "a.root", branches))
    events = records(found)
    np.testing.assert_allclose(found.weight, branches["genWeight"])
    ratios = np.asarray(branches["PSWeight"])[events.entry]
    for place in range(4):
        expected = branches["genWeight"][events.entry] * ratios[:, place]
        np.testing.assert_allclose(events[f"PSWeight_{place}"], expected, rtol=1e-6)


def test_the_card_says_the_weight_its_variations_observables_and_selection(tmp_path, branches):
    branches = branches | {"pileup": np.linspace(0.5, 1.5, ENTRIES, dtype=np.float32)}
    path = write(tmp_path / "a.root", branches)
    of = reader(
        weight="genWeight * 2",
        variations=["pileup"],
        observables={"number": "event", "twice": "2 * PuppiMET_pt"},
        selection=["event > 1004", "max(FatJet_pt) > 100"],
    )
    found = read(path, of)
    events = records(found)
    np.testing.assert_allclose(found.weight, 2 * branches["genWeight"])
    np.testing.assert_allclose(events.pileup, events.weight * branches["pileup"][events.entry])
    assert "PSWeight_0" not in events.fields
    assert events.observables.number.to_list() == (events.entry + 1000).to_list()
    assert ak.all(events.entry > 4)
    met = branches["PuppiMET_pt"][events.entry]
    np.testing.assert_allclose(events.observables.twice, 2 * met, rtol=1e-6)
    hard = sum(max([0, *pts]) > 100 for pts in branches["FatJet_pt"].to_list()[5:])
    steps = found.processes[THE_PROCESS].bookkeeping.cutflow[:3]
    counts = {"in the file": ENTRIES, "event > 1004": ENTRIES - 5, "max(FatJet_pt) > 100": hard}
    assert {step.step: step.events for step in steps} == counts
    assert any("--sum-weights" in remark for remark in of.look(path).remarks)


def test_no_variations_and_those_of_one_entry_alone(tmp_path, branches):
    path = write(tmp_path / "a.root", branches)
    assert "PSWeight_0" not in records(read(path, reader(variations=[]))).fields
    lone = branches | {"PSWeight": ak.Array([[1.0]] * ENTRIES)}
    path = write(tmp_path / "b.root", lone)
    assert "PSWeight_0" not in records(read(path)).fields
    assert "PSWeight_0" in records(read(path, reader(variations=["PSWeight"]))).fields


def test_variations_of_different_lengths_are_refused(tmp_path, branches):
    ratios = branches["PSWeight"].to_list()
    ratios[7] = ratios[7][:3]
    path = write(tmp_path / "a.root", branches | {"PSWeight": ak.Array(ratios)})
    with pytest.raises(DataError, match=r"a\.root, entry 7: branch 'PSWeight' has 3 .* has 4"):
        read(path)


@pytest.mark.parametrize("ending", ["", "_"])
def test_units_share_the_sums_of_weights(tmp_path, branches, ending):
    runs = {f"genEventSumw{ending}": [100.0, 20.0], f"genEventSumw2{ending}": [300.0, 9.0]}
    path = write(tmp_path / "a.root", branches, runs)
    edges = (0, 3, 11, ENTRIES)
    books = [
        read(path, None, Piece(path, *piece)).processes[THE_PROCESS].bookkeeping
        for piece in pairwise(edges)
    ]
    assert sum(book.sum_weights for book in books) == pytest.approx(120)
    assert sum(book.sum_weights2 for book in books) == pytest.approx(309)
    assert sum(book.generated for book in books) == ENTRIES
    with_own = read(path, reader(weight="genWeight")).processes[THE_PROCESS].bookkeeping
    assert with_own.sum_weights == pytest.approx(120)
    other = read(path, reader(weight="2 * genWeight")).processes[THE_PROCESS].bookkeeping
    assert other.sum_weights is None


def test_data_have_weight_one_and_no_sums(tmp_path, branches):
    data = without(branches, "genWeight", "PSWeight")
    path = write(tmp_path / "a.root", data, {"run": [1.0]})
    found = read(path)
    assert set(found.weight) == {1.0}
    assert found.processes[THE_PROCESS].bookkeeping.sum_weights is None
    assert any("weight 1" in remark for remark in reader().look(path).remarks)


def test_pieces_are_what_they_are_in_the_whole_file(tmp_path, branches, monkeypatch):
    path = write(tmp_path / "a.root", branches)
    whole = records(read(path))
    monkeypatch.setattr("manyscale.events.files.nanoaod_branches._SMALLEST_BATCH", 4)
    monkeypatch.setattr("manyscale.events.files.nanoaod_branches._BATCH_BYTES", 1)
    for piece in (Piece(path, 0, 7), Piece(path, 7, None), Piece(path, 3, 3)):
        ends = piece.first, ENTRIES if piece.last is None else piece.last
        batches = list(reader().read(piece, reader().look(path).streams, 1))
        assert [len(batch.weight) for batch in batches] == {7: [4, 3], 13: [4, 4, 4, 1], 0: [0]}[
            ends[1] - ends[0]
        ]
        expected = whole[(whole.entry >= ends[0]) & (whole.entry < ends[1])]
        if len(expected):
            assert records(read(path, None, piece)).to_list() == expected.to_list()


def test_readers_are_sent_to_workers_and_count_entries(tmp_path, branches):
    path = write(tmp_path / "a.root", branches)
    of = pickle.loads(pickle.dumps(reader()))  # noqa: S301 - our own
    assert of == reader()
    assert of.entries(path) == ENTRIES
    rows = {name: (number, use) for name, number, use in of.look(path).rows}
    assert rows["FatJet"][0] == "2.0 an event"
    assert rows["SubJet"][1] == "n_btags: SubJet_btagDeepB > 0.4168"


DAMAGED = [
    ("FatJetPFCands_jetIdx", 99, r"points to FatJet 99"),
    ("FatJetPFCands_jetIdx", -1, r"points to FatJet -1"),
    ("FatJetPFCands_pFCandsIdx", 9999, r"points to PFCands 9999"),
    ("FatJetPFCands_pFCandsIdx", -1, r"points to PFCands -1"),
    ("FatJet_subJetIdx1", 50, r"points to SubJet 50"),
    ("FatJet_pt", np.nan, r"holds nan"),
    ("PFCands_eta", np.inf, r"holds inf"),
    ("PFCands_puppiWeight", np.nan, r"holds nan"),
    ("GenPart_genPartIdxMother", 77, r"points to GenPart 77"),
]


@pytest.mark.parametrize(("branch", "value", "message"), DAMAGED)
def test_damaged_events_are_named(tmp_path, branches, branch, value, message):
    branches = with_generated(branches)
    place = 3 if branch.startswith("GenPart") else 0  # a b quark
    damaged = branches | {branch: changed(branches[branch], 4, place, value)}
    path = write(tmp_path / "bad.root", damaged)
    with pytest.raises(DataError, match=rf"bad\.root, entry 4: branch '{branch}' {message}"):
        read(path)


def test_needed_branches(tmp_path, branches):
    path = write(tmp_path / "a.root", without(branches, "FatJet_mass"))
    with pytest.raises(DataError, match=r"a\.root, tree 'Events': .* 'FatJet_mass'.*FatJet_"):
        reader().look(path)
    path = write(tmp_path / "b.root", without(branches, "PuppiMET"))
    with pytest.raises(DataError, match="'PuppiMET_pt', needed for the missing momentum"):
        reader().look(path)
    path = write(tmp_path / "c.root", branches)
    with pytest.raises(DataError, match=r"'LHEWeight', needed for convert\.variations"):
        reader(variations=["LHEWeight"]).look(path)
    with pytest.raises(DataError, match=r"'Puppi_pt', which convert\.weight.*PuppiMET_pt"):
        reader(weight="Puppi_pt").look(path)
    with pytest.raises(CardError, match=r"convert\.observables\.m: .* is no expression"):
        reader(observables={"m": "1 +"}).look(path)
    with pytest.raises(DataError, match=r"convert\.observables\.pt: .* list an event"):
        read(path, reader(observables={"pt": "FatJet_pt"}))


def test_files_of_different_versions_in_one_call(tmp_path):
    new = made_up(NANOAOD_15, ENTRIES)
    new["SubJet_btagUParTAK4B"] = new.pop("SubJet_btagDeepB")
    new["LHEScaleWeight"] = ak.Array(np.full((ENTRIES, 2), 0.5).tolist())
    old = made_up(PFNANO, ENTRIES, seed=2)
    paths = [write(tmp_path / "new.root", new), write(tmp_path / "old.root", old)]
    for order in (paths, paths[::-1]):
        alone = [records(read(path)) for path in order]
        together = records(read(order[0], None, *(Piece(path, 0, None) for path in order)))
        assert len(together) == sum(map(len, alone))
        for field in ("entry", "jet1", "jet2", "kinematics", "observables", "PSWeight_3"):
            assert together[field].to_list() == [x for part in alone for x in part[field].to_list()]
        lacks = np.repeat([path == paths[1] for path in order], [len(part) for part in alone])
        factor = np.where(lacks, 1, 0.5)  # what a file does not have is its nominal weight
        np.testing.assert_allclose(together.LHEScaleWeight_0, together.weight * factor)


def test_what_the_streams_have_must_be_in_each_file(tmp_path, branches):
    one = reader(columns=("d0",))
    streams = one.look(write(tmp_path / "a.root", branches)).streams
    plain = write(tmp_path / "b.root", without(branches, "PFCands", "FatJetPFCands"))
    with pytest.raises(DataError, match=r"b\.root, tree 'Events' does not give jet1: .* PFNano"):
        reading.read(one, [Piece(plain, 0, None)], streams)
    of_15 = write(tmp_path / "c.root", made_up(NANOAOD_15, ENTRIES))
    with pytest.raises(DataError, match=r"c\.root.* column 'd0' of jet1: .* no branch PFCand_d0"):
        reading.read(one, [Piece(of_15, 0, None)], streams)


def test_two_branches_of_one_name_are_refused_where_they_are_read(tmp_path, branches):
    path = Path(
        write(tmp_path / "a.root", branches | {"genWeighs": branches["genWeight"]}, None, 0)
    )
    assert len(records(read(path)))
    path.write_bytes(path.read_bytes().replace(b"genWeighs", b"genWeight"))
    with pytest.raises(DataError, match=r"a\.root.* two branches named 'genWeight'"):
        reader().look(str(path))


def test_two_weights_of_one_name_are_refused(tmp_path, branches):
    path = write(tmp_path / "a.root", branches | {"PSWeight_1": branches["genWeight"]})
    with pytest.raises(DataError, match=r"variations gives two weights named 'PSWeight_1'"):
        reader(variations=["PSWeight", "PSWeight_1"]).look(path)


def test_an_rntuple_is_read_as_its_tree(tmp_path, branches):
    """Fields named as branches, and records of them; of several clusters."""
    runs = {"genEventSumw": [100.0], "genEventSumw2": [300.0]}
    branches = with_generated(branches)
    of = reader(ALL, ("d0", "dz"), observables={"event": "event"}, selection=["sum(Jet_pt) > 9"])
    found, seen = {}, {}
    for form in ("tree", "fields", "records"):
        path = write(tmp_path / f"{form}.root", branches, runs, form=form)
        seen[form], found[form] = of.look(path), read(path, of)
        pieces = [Piece(path, *ends) for ends in ((0, 9), (9, 12), (12, None))]
        assert records(read(path, of, *pieces)).to_list() == records(found[form]).to_list()
    for form in ("fields", "records"):
        assert records(found[form]).to_list() == records(found["tree"]).to_list()
        np.testing.assert_array_equal(found[form].weight, found["tree"].weight)
        books = [found[of].processes[THE_PROCESS].bookkeeping for of in (form, "tree")]
        assert books[0] == books[1]
        assert seen[form].title == "CMS NanoAOD, RNTuple 'Events'"
        for of_contents in ("entries", "streams", "missing", "rows", "remarks"):
            assert getattr(seen[form], of_contents) == getattr(seen["tree"], of_contents)


def test_files_that_are_no_nanoaod(tmp_path, branches):
    path = Path(write(tmp_path / "a.root", branches))
    cut = tmp_path / "cut.root"
    cut.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=r"cut\.root"):
        read(cut)
    with uproot.recreate(tmp_path / "other.root") as file:
        file.mktree("tree", {"x": "float64"})
    with pytest.raises(DataError, match=r"other\.root has no tree .*'Events'.*tree \(TTree\)"):
        reader().look(str(tmp_path / "other.root"))
    empty = {name: array[:0] for name, array in branches.items()}
    with pytest.raises(DataError, match=r"holds no events"):
        reader().look(write(tmp_path / "empty.root", empty))
    with pytest.raises(DataError, match="there is no file"):
        reader().look(str(tmp_path / "nowhere.root"))


def test_sums_of_files_without_events_count(tmp_path):
    events = made_up(n_events=6)
    runs = {"genEventSumw": [100.0], "genEventSumw2": [300.0]}
    write(tmp_path / "a.root", {name: array[:0] for name, array in events.items()}, runs)
    write(tmp_path / "b.root", events, runs)
    paths = [str(tmp_path / name) for name in ("a.root", "b.root")]
    one, streams = reader(), reader().look(paths[1]).streams
    with pytest.raises(NoEventsError):
        one.look(paths[0])
    # A selection may leave no event, and then no branches.
    bare = write(tmp_path / "c.root", {"run": events["run"][:0]}, runs)
    bare_ntuple = write(tmp_path / "d.root", {"run": events["run"][:0]}, runs, form="fields")
    for path in (bare, bare_ntuple):
        with pytest.raises(NoEventsError):
            one.look(path)
        found = reading.read(one, [Piece(of, 0, None) for of in (path, paths[1], path)], streams)
        assert found.processes[THE_PROCESS].bookkeeping.sum_weights == 300
        assert len(found.weight) == 6
    together = reading.read(one, [Piece(path, 0, None) for path in paths], streams)
    empty = reading.read(one, [Piece(paths[0], 0, None)], streams)
    divided = [reading.read(one, [Piece(paths[1], *ends)], streams) for ends in ((0, 4), (4, 6))]
    books = [of.processes[THE_PROCESS].bookkeeping for of in (together, empty, *divided)]
    assert [book.sum_weights for book in books] == [200, 100, 100, 0]
    assert [book.sum_weights2 for book in books] == [600, 300, 300, 0]
    assert [book.generated for book in books] == [6, 0, 4, 2]
    assert len(records(empty)) == 0
