import pickle
from pathlib import Path

import awkward as ak
import numpy as np
import pytest

from helpers.collisions import PERFECT
from helpers.generator_files import compressed, lhe_event, lhe_text
from helpers.reading import read
from manyscale.errors import CardError, DataError
from manyscale.events.files.convert_settings import ConvertSettings
from manyscale.events.files.lhe import LHEReader
from manyscale.events.files.reader import THE_PROCESS, Piece
from manyscale.events.settings import CutSettings, GenerateSettings
from manyscale.schema import Generated, collision_streams

REAL = Path(__file__).parents[3].parent / "shared/data/lhe/madgraph5_pp_jj_1000ev.lhe.gz"
LOW = GenerateSettings(
    cuts=CutSettings(leading_pt=20, second_pt=10, max_eta=5), detector=PERFECT, multiparton=False
)
LAYOUTS = collision_streams(LOW.streams)
# The hard events alone: nothing for the detector to see, but quick.
BARE = (
    "PartonLevel:ISR=off",
    "PartonLevel:FSR=off",
    "PartonLevel:Remnants=off",
    "HadronLevel:all=off",
    "Check:event=off",
)


def _reader(lines=BARE, settings=LOW, **convert):
    return LHEReader(settings, ConvertSettings.model_validate(convert), lines)


def _read(path, first=0, last=None, reader=None, seed=1):
    return read(reader or _reader(), [Piece(str(path), first, last)], LAYOUTS, seed)


def _records(found):
    return found.processes[THE_PROCESS].records


@pytest.fixture
def write(tmp_path):
    def write(events, way="plain", **header):
        path = tmp_path / "events.any"
        path.write_bytes(compressed(lhe_text(events, **header), way))
        return path

    return write


def test_look(write):
    path = write([lhe_event()] * 3)
    contents = _reader().look(str(path))
    assert contents.title == "Les Houches events, showered by Pythia 8"
    assert contents.entries == _reader().entries(str(path)) == 3
    assert contents.streams == LAYOUTS
    assert contents.rows == [("further weights", "2", "up, 1002")]
    assert contents.remarks == ["made by Pencil", "cross section 10 pb"]


def test_showered_events(write):
    path = write([lhe_event(pt=300)] * 6)
    reader = _reader(lines=())
    found = _read(path, reader=reader)
    records = _records(found)
    assert found.weight.tolist() == [1] * 6
    assert len(records) == 6
    assert np.median(records.jet1_axis.jet_pt) == pytest.approx(300, rel=0.2)
    assert ak.min(ak.num(records.jet1)) > 5
    assert ak.sum(records.observables.h_bb_j1) == 0
    # Energy is conserved: what is stable carries what the two protons brought.
    (loaded,) = reader._shower(Piece(str(path), 1, 3), 3)
    stable = loaded.truth.stable
    np.testing.assert_allclose(np.bincount(stable.event, stable.energy), 13_000, rtol=1e-5)
    np.testing.assert_allclose(np.bincount(stable.event, stable.px), 0, atol=0.01)


@pytest.mark.parametrize("way", ["gzip", "zstd"])
def test_compression_changes_nothing_nor_who_reads(tmp_path, way):
    events = [lhe_event(pt=200 + 20 * at) for at in range(4)]
    found = []
    for name, how in (("with space.lhe", "plain"), ("no.ending", way)):
        path = tmp_path / name
        path.write_bytes(compressed(lhe_text(events), how))
        reader = pickle.loads(pickle.dumps(_reader(lines=())))  # noqa: S301
        found.append(ak.to_list(_records(_read(path, reader=reader))))
    assert found[0] == found[1]
    assert len(found[0]) == 4


def test_seed_gives_other_showers(write):
    path = str(write([lhe_event(pt=300)] * 2))
    reader = _reader(lines=())
    one, again, other = (
        ak.to_list(_records(_read(path, reader=reader, seed=seed)).jet1_axis)
        for seed in (1, 1, 900_000_001)
    )
    assert one == again
    assert one != other


def test_each_batch_is_showered_by_itself(write, monkeypatch):
    monkeypatch.setattr("manyscale.events.files.lhe._STEP", 2)
    path = str(write([lhe_event(weight, pt=300) for weight in (1, 2, 3, 3, 3)], strategy=4))
    found = _read(path, 1, reader=_reader(lines=("PartonLevel:ISR=off",)))
    np.testing.assert_allclose(found.weight, [2, 3, 3, 3])
    records = _records(found)
    assert records.entry.to_list() == [1, 2, 3, 4]
    np.testing.assert_allclose(records.weight, found.weight)
    axis = records.jet1_axis.jet_pt.to_numpy()
    assert (axis[:2] != axis[2:]).all()


@pytest.mark.parametrize(
    ("strategy", "given", "weights", "cross_section"),
    [
        (3, [1, 1, 1, 1], [1, 1, 1, 1], 10),
        # Pythia counts the promised cross section as that of both signs together.
        (-3, [2, -2, 2, 2], [1, -1, 1, 1], 5),
        (4, [8, 10, 12], [8, 10, 12], 10),
        (-4, [8, -2, 12], [8, -2, 12], 6),
    ],
)
def test_weights_and_cross_section(write, strategy, given, weights, cross_section):
    path = write([lhe_event(weight) for weight in given], strategy=strategy)
    found = _read(path, reader=_reader(variations=["up", "1002"]))
    np.testing.assert_allclose(found.weight, weights)
    kept = found.processes[THE_PROCESS].bookkeeping
    assert kept.generated == len(given)
    assert kept.sum_weights == pytest.approx(sum(weights))
    assert kept.sum_weights2 == pytest.approx(sum(w * w for w in weights))
    assert kept.cross_section == pytest.approx(cross_section)
    assert (kept.cutflow[0].step, kept.cutflow[0].events) == ("in the file", len(given))
    up = _read(path, reader=_reader(weight="up"))
    np.testing.assert_allclose(up.weight, 1.5 * np.array(weights))


@pytest.mark.parametrize(
    ("event_norm", "given", "says"),
    [
        ("average", [10.0] * 5, ", the mean of the weights (event_norm = average in the run card)"),
        ("sum", [2.0] * 5, ", the sum of the weights (event_norm = sum in the run card)"),
        ("unity", [1.0] * 5, "; the weights are no cross section (event_norm = unity in the run"),
        # Without a run card the weights themselves say it.
        (None, [8.0, 12.0, 9.0, 10.0, 11.0], ", the mean of the weights"),
        (None, [2.0, 3.0, 1.0, 1.5, 2.5], ", the sum of the weights"),
        (None, [1.0] * 5, "; the weights are no cross section, but 1 or -1"),
    ],
)
def test_cross_section_whatever_the_weights_add_up_to(write, event_norm, given, says):
    path = write([lhe_event(w) for w in given], strategy=-4, event_norm=event_norm)
    (remark,) = _reader().look(str(path)).remarks[1:]
    assert remark.startswith(f"cross section 10 pb{says}")
    found = _read(path)
    np.testing.assert_allclose(found.weight, given)
    kept = found.processes[THE_PROCESS].bookkeeping
    assert kept.cross_section == pytest.approx(10)
    assert kept.sum_weights == pytest.approx(sum(given))


def test_cross_section_by_the_sum_of_weights_in_units_and_without_what_pythia_fails_in(write):
    odd = lhe_event(2.5).replace("21 -1 0 0 503", "21 -1 0 0 509")
    path = str(write([lhe_event(2.5), odd, *[lhe_event(2.5)] * 2], strategy=4, event_norm="Sum"))
    pieces = [Piece(path, 0, 2), Piece(path, 2, 4)]
    kept = [_read(*piece).processes[THE_PROCESS].bookkeeping for piece in pieces]
    # One estimate, that of <init>: what Pythia fails in is in the sums of weights.
    whole = Generated.add(kept)
    assert (whole.cross_section, whole.cross_section_error) == pytest.approx((10, 0.5))
    assert [of.sum_weights for of in kept] == pytest.approx([5, 5])


def test_weights_that_agree_with_no_cross_section_are_remarked_on(write):
    path = write([lhe_event(w) for w in (3.0, 5.0)], strategy=4, cross_section=100.0)
    (remark,) = _reader().look(str(path)).remarks[1:]
    assert "the weights average to 4 and sum to 8: their mean is taken" in remark
    assert _read(path).processes[THE_PROCESS].bookkeeping.cross_section == pytest.approx(4)


def test_name_of_a_weight_with_a_line_break(write):
    event = lhe_event(pt=300).replace("id='up'", "id='mu\nup'").replace("'1002'", '"don\'t"')
    reader = _reader(lines=(), variations=["mu up", "don't"])
    path = write([event] * 2)
    assert reader.look(str(path)).rows == [("further weights", "2", "mu up, don't")]
    records = _records(_read(path, reader=reader))
    np.testing.assert_allclose(records["mu up"], 1.5)
    np.testing.assert_allclose(records["don't"], 0.5)


def test_file_cut_short_is_found_where_it_is_read_to_its_end(write):
    path = write([lhe_event()] * 2, end="")
    with pytest.raises(
        DataError, match=r"events.any is cut short: </LesHouchesEvents> .* event 1 "
    ):
        _read(path)


def test_named_weights(write):
    path = write([lhe_event(w, pt=300) for w in (2.0, -4.0)], strategy=-4)
    reader = _reader(lines=(), variations=["up", "1002"], observables={"half": "weight / 2"})
    records = _records(_read(path, reader=reader))
    np.testing.assert_allclose(records.weight, [2, -4])
    np.testing.assert_allclose(records["up"], [3, -6])
    np.testing.assert_allclose(records["1002"], [1, -2])
    np.testing.assert_allclose(records.observables.half, [1, -2])
    assert _read(path, reader=_reader(weight="up")).weight == pytest.approx([3, -6])


def test_weight_that_is_not_there(write):
    path = write([lhe_event()])
    with pytest.raises(DataError, match=r"events.any has no weight 'down'.*variations.*up, 1002"):
        _read(path, reader=_reader(variations=["down"]))


def test_event_that_pythia_cannot_shower_is_counted(write):
    # The first gluon's colour goes nowhere.
    odd = lhe_event().replace("21 -1 0 0 503", "21 -1 0 0 509")
    path = write([lhe_event(), odd, lhe_event()])
    found = _read(path)
    np.testing.assert_array_equal(found.weight, [1, np.nan, 1])
    assert found.notes == {"events in which Pythia failed": 1}
    kept = found.processes[THE_PROCESS].bookkeeping
    assert (kept.generated, kept.sum_weights) == (3, pytest.approx(3))
    assert (kept.cross_section, kept.cross_section_error) == pytest.approx((10, 0.5))
    assert (kept.cutflow[0].step, kept.cutflow[0].events) == ("in the file", 2)


def test_multiparton_interactions_follow_the_card(write):
    path = write([lhe_event(pt=300)] * 3)
    both = [
        _read(path, reader=_reader((), LOW.model_copy(update={"multiparton": choice})))
        for choice in (False, True)
    ]
    less, more = (ak.sum(_records(found).kinematics.multiplicity[:, :2]) for found in both)
    assert more > 1.1 * less


def test_refused_setting_names_file_and_line(write):
    path = write([lhe_event()])
    with pytest.raises(CardError, match=r"events.any.*refuses the setting 'Beams:nonsense=on'"):
        _read(path, reader=_reader(("Beams:nonsense=on",)))


def test_nothing_is_printed_nor_left_behind(write, tmp_path, monkeypatch, capfd):
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    _read(write([lhe_event()] * 2, way="zstd"))
    assert list(folder.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def _cut_event():
    return lhe_event()[:150] + "\n"


@pytest.mark.parametrize(
    ("events", "end", "says"),
    [
        ([], "</LesHouchesEvents>\n", "events.any is a Les Houches event file without any event"),
        ([lhe_event()] * 2, "", r"events.any is cut short: </LesHouchesEvents> .* event 1 "),
        ([lhe_event(), _cut_event()], "", r"events.any, event 1 .* is damaged or cut short"),
        ([_cut_event(), lhe_event()], "</LesHouchesEvents>\n", "events.any, event 0 .* is damaged"),
    ],
)
def test_damage_that_a_look_finds(write, events, end, says):
    with pytest.raises(DataError, match=says):
        _reader().look(str(write(events, end=end)))


@pytest.mark.parametrize(
    "damaged",
    [
        _cut_event(),
        lhe_event().replace(" 504 502", " xx 502"),
        lhe_event().replace(" 7.5e-03", "\0\0\0").replace(" 4 1 ", " 5 1 "),
        lhe_event().replace("300.0 0 0", "nan 0 0"),
    ],
)
def test_damage_in_the_middle_names_the_event(write, damaged):
    path = write([lhe_event(), lhe_event(), damaged, lhe_event()])
    assert _reader().entries(str(path)) == 4
    with pytest.raises(DataError, match=r"events.any, event 2 \(counted from 0\) is damaged"):
        _read(path)
    assert _read(path, 3, 4).weight.tolist() == [1]


def test_gzip_cut_short(tmp_path):
    path = tmp_path / "cut.lhe.gz"
    path.write_bytes(compressed(lhe_text([lhe_event()] * 3), "gzip")[:-20])
    with pytest.raises(DataError, match=r"cut.lhe.gz cannot be decompressed in or behind event"):
        _reader().look(str(path))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("<LesHouchesEvents", "<Something", "no Les Houches event file"),
        ("</init>", "", "no Les Houches event file"),
        ("247000 3 1", "247000 3 x", "the numbers in <init> are damaged"),
        ("247000 3 1", "247000 3 9", "the numbers in <init> are damaged"),
        ("247000 3 1", "247000 1 1", "IDWTUP is 1, which asks the shower to drop"),
        ("247000 3 1", "247000 -2 1", "IDWTUP is -2, which asks the shower to drop"),
    ],
)
def test_header_that_is_damaged_or_not_for_us(write, old, new, says):
    path = write([lhe_event()])
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(DataError, match=f"events.any.*{says}"):
        _reader().look(str(path))


def test_marks_of_events_with_attributes(write):
    path = write([lhe_event(), lhe_event().replace("<event>", "<event npLO=' 1 '>"), lhe_event()])
    assert _read(path).weight.tolist() == [1, 1, 1]


def test_columns_that_the_detector_does_not_measure(write):
    reader = _reader(settings=LOW.model_copy(update={"columns": ("d0", "dz")}))
    with pytest.raises(CardError, match=r"generate.columns: .* measures no d0 or dz"):
        reader.look(str(write([lhe_event()])))


@pytest.mark.skipif(not REAL.is_file(), reason="the LHE file is not beside the project")
def test_real_file():
    reader = _reader(lines=(), variations=["1", "23"])
    contents = reader.look(str(REAL))
    assert contents.entries == 1000
    assert contents.remarks == [
        "made by MadGraph5_aMC@NLO",
        "cross section 6.99671e+08 pb, the mean of the weights (event_norm = average in the run card)",
    ]
    found = _read(REAL, 990, 1000, reader)
    records = _records(found)
    # Hard scatterings above 20 GeV; all events have the weight of the file's cross section.
    assert 5 < len(records) <= 10
    np.testing.assert_allclose(found.weight, 6.9967067e8)
    np.testing.assert_allclose(records["23"], 6.9967067e8, rtol=0.1)
    assert found.processes[THE_PROCESS].bookkeeping.cross_section == pytest.approx(6.9967067e8)
