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


def test_pieces_and_files_together_are_what_they_are_apart(tmp_path, branches):
    one = write(tmp_path / "a.root", branches)
    two = write(tmp_path / "b.root", branches)
    whole = records(read(one))
    pieces = [Piece(one, 0, 7), Piece(two, 7, None), Piece(one, 7, None)]
    together = records(read(one, None, *pieces))
    for place, piece in enumerate(pieces):
        expected = whole[(whole.entry >= piece.first) & (whole.entry < (piece.last or ENTRIES))]
        part = together[together.piece == place]
        fields = [name for name in whole.fields if name != "piece"]
        assert part[fields].to_list() == expected[fields].to_list()


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
    other = write(tmp_path / "d.root", without(branches, "Jet_", "SubJet"))
    with pytest.raises(DataError, match=r"d\.root.*'SubJet_btagDeepB'"):
        read(path, None, Piece(path, 0, None), Piece(other, 0, None))


def test_the_streams_that_were_found_must_be_in_each_file(tmp_path, branches):
    streams = reader().look(write(tmp_path / "a.root", branches)).streams
    plain = write(tmp_path / "b.root", without(branches, "PFCands", "FatJetPFCands"))
    with pytest.raises(DataError, match=r"b\.root, tree 'Events' does not give jet1"):
        reading.read(reader(), [Piece(plain, 0, None)], streams)


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
    together = reading.read(one, [Piece(path, 0, None) for path in paths], streams)
    empty = reading.read(one, [Piece(paths[0], 0, None)], streams)
    divided = [reading.read(one, [Piece(paths[1], *ends)], streams) for ends in ((0, 4), (4, 6))]
    books = [of.processes[THE_PROCESS].bookkeeping for of in (together, empty, *divided)]
    assert [book.sum_weights for book in books] == [200, 100, 100, 0]
    assert [book.sum_weights2 for book in books] == [600, 300, 300, 0]
    assert [book.generated for book in books] == [6, 0, 4, 2]
    assert len(records(empty)) == 0
