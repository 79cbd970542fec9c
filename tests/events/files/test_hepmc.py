import pickle
from pathlib import Path

import awkward as ak
import numpy as np
import pyhepmc
import pytest

from helpers.collisions import PERFECT
from helpers.generator_files import compressed, hepmc_event, hepmc_text, pythia_event
from helpers.reading import read, records_of
from manyscale.errors import CardError, DataError
from manyscale.events import pythia
from manyscale.events.files import hepmc
from manyscale.events.files.convert_settings import ConvertSettings
from manyscale.events.files.hepmc import HepMCReader
from manyscale.events.files.reader import THE_PROCESS, Piece
from manyscale.events.generate import Reconstruction
from manyscale.events.settings import CutSettings, GenerateSettings
from manyscale.schema import CutflowStep, Generated, collision_streams

FOLDER = Path(__file__).parents[3].parent / "shared" / "data" / "hepmc"
real_files = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="the HepMC files are not beside the project"
)

LOW = GenerateSettings(
    cuts=CutSettings(leading_pt=20, second_pt=10, max_eta=5), detector=PERFECT, multiparton=False
)
LAYOUTS = collision_streams(LOW.streams)


def _reader(**convert):
    return HepMCReader(LOW, ConvertSettings.model_validate(convert))


def _read(path, first=0, last=None, reader=None):
    return read(reader or _reader(), [Piece(str(path), first, last)], LAYOUTS)


def _records(found):
    return found.processes[THE_PROCESS].records


def _truth(reader, path, events):
    (loaded,) = reader._load(Piece(str(path), 0, events))
    return loaded.truth


def _massless(pt, phi, pz=0.0):
    return (pt * np.cos(phi), pt * np.sin(phi), pz, np.hypot(pt, pz))


def _two_jets(pt):
    """Two jets back to back, each of a pion and a photon, one of a B meson; and a neutrino.

    The neutrino takes a fifth of the second jet.
    """
    one, other, neutrino = 0.7 * pt, 0.3 * pt, 0.2 * pt
    along = np.arctan2((one - other) * np.sin(0.1), pt * np.cos(0.1)) + np.pi
    balance = np.hypot(pt * np.cos(0.1), (one - other) * np.sin(0.1)) / pt
    return [
        (-5, 2, None, _massless(pt, 0.0)),
        (511, 2, 0, _massless(pt, 0.0)),
        (211, 1, 1, _massless(one, 0.1)),
        (22, 1, 1, _massless(other, -0.1)),
        (-211, 1, None, _massless(0.8 * one, 0.1 + np.pi, 20.0)),
        (22, 1, None, _massless(0.8 * other, -0.1 + np.pi, 20.0)),
        (12, 1, None, _massless(neutrino * balance, along)),
    ]


def _events(n=5, **more):
    return [hepmc_event(_two_jets(50.0 + 10 * at), 100 + at, **more) for at in range(n)]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Five events in HepMC3, by path."""
    path = tmp_path_factory.mktemp("hepmc") / "five.hepmc"
    hepmc_text(path, _events())
    return path


def test_records_of_made_up_events(plain):
    records = _records(_read(plain))
    np.testing.assert_allclose(records.jet1_axis.jet_pt[0], 50, rtol=0.01)
    np.testing.assert_allclose(records.observables.met, 0.2 * records.jet1_axis.jet_pt, rtol=1e-5)
    np.testing.assert_allclose(records.jet2_axis.jet_pt, 0.8 * records.jet1_axis.jet_pt, rtol=1e-5)
    assert records.entry.to_list() == [0, 1, 2, 3, 4]
    assert sorted(records.jet1.particle_class[0].to_list()) == [0, 3]
    tags = records.observables.n_btags_j1 + records.observables.n_btags_j2
    assert tags.to_list() == [1] * 5
    assert records.observables.h_bb_j1.to_list() == [0] * 5


@pytest.mark.parametrize("kind", ["HepMC2", "HepMC3"])
@pytest.mark.parametrize("unit", ["GEV", "MEV"])
@pytest.mark.parametrize("way", ["plain", "gzip", "zstd"])
def test_format_unit_and_compression_change_nothing(plain, tmp_path, kind, unit, way):
    text = hepmc_text(tmp_path / "text", _events(unit=unit), kind)
    path = tmp_path / "events.no_such_ending"
    path.write_bytes(compressed(text, way))
    contents = _reader().look(str(path))
    assert (contents.title, contents.entries) == (f"{kind} text", 5)
    assert contents.streams == LAYOUTS
    # HepMC2 has fewer digits, and a thousand times a number, and back, rounds.
    found = _records(_read(path))
    assert ak.almost_equal(found, _records(_read(plain)), rtol=1e-5, atol=1e-5)


def test_ranges_and_batches_change_nothing(plain, monkeypatch):
    whole = ak.to_list(_records(_read(plain)))
    assert ak.to_list(_records(_read(plain, 1, 4))) == whole[1:4]
    monkeypatch.setattr(hepmc, "_BATCH", 2)
    assert ak.to_list(_records(_read(plain))) == whole


def test_several_files(plain, tmp_path):
    other = tmp_path / "other.hepmc2"
    hepmc_text(other, _events(2), "HepMC2")
    pieces = [Piece(str(plain), 3, 5), Piece(str(other), 0, None)]
    found = read(_reader(), pieces, LAYOUTS)
    assert _records(found).entry.to_list() == [3, 4, 0, 1]
    assert found.weight.tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("kind", ["HepMC2", "HepMC3"])
def test_files_put_one_behind_the_other_are_one(plain, tmp_path, kind):
    text = hepmc_text(tmp_path / "text", _events(), kind)
    path = tmp_path / "two.hepmc"
    path.write_bytes(text + text)
    assert _reader().entries(str(path)) == 10
    records = _records(_read(path))
    assert ak.almost_equal(records.jet1[:5], records.jet1[5:])
    assert ak.almost_equal(records.jet1[:5], _records(_read(plain)).jet1, rtol=1e-5, atol=1e-5)


def test_no_event_that_passes(tmp_path):
    path = tmp_path / "soft.hepmc"
    hepmc_text(path, [hepmc_event(_two_jets(3.0))])
    found = _read(path)
    assert len(_records(found)) == 0
    assert set(LAYOUTS) < set(_records(found).fields)
    cutflow = found.processes[THE_PROCESS].bookkeeping.cutflow
    assert cutflow[0] == CutflowStep(step="in the file", events=1, sum_weights=1)
    assert cutflow[-1].events == 0


def _weighted(kind, path):
    events = [
        hepmc_event(
            _two_jets(60.0),
            7 + at,
            weights=(2.0 + at, 4.0 * at - 1),
            names=("nominal", "muR=2"),
            cross_section=(30.0 + at, 3.0 - at),
        )
        for at in range(3)
    ]
    path.write_bytes(hepmc_text(path, events, kind))
    return path


@pytest.mark.parametrize("kind", ["HepMC2", "HepMC3"])
def test_weights_and_cross_section(tmp_path, kind):
    path = _weighted(kind, tmp_path / "w.hepmc")
    reader = _reader(variations=["muR=2"], observables={"number": "event + 1"})
    found = _read(path, reader=reader)
    assert found.weight.tolist() == [2, 3, 4]
    kept = found.processes[THE_PROCESS].bookkeeping
    assert (kept.generated, kept.sum_weights, kept.sum_weights2) == (3, 9, 29)
    # The running estimate, as it was in the last event.
    assert (kept.cross_section, kept.cross_section_error) == (32, 1)
    records = _records(found)
    assert records.weight.to_list() == [2, 3, 4]
    assert records["muR=2"].to_list() == [-1, 3, 7]
    assert records.observables.number.to_list() == [8, 9, 10]
    contents = reader.look(str(path))
    assert "cross section 32 +- 1 pb" in contents.remarks
    assert ("weights", "2", "nominal, muR=2") in contents.rows


def _with_cross_section(path, values):
    particles = _two_jets(60.0)
    events = [hepmc_event(particles, at, cross_section=(v, 1.0)) for at, v in enumerate(values)]
    path.write_bytes(hepmc_text(path, events))
    return path


def test_cross_section_of_the_last_event_holds_for_all_of_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr(hepmc, "_BATCH", 2)
    paths = [
        _with_cross_section(tmp_path / "long", [1.0, 2.0, 3.0, 4.0, 5.0]),
        _with_cross_section(tmp_path / "short", [9.0, 11.0]),
    ]

    def said(path, first=0, last=None):
        return _read(path, first, last).processes[THE_PROCESS].bookkeeping

    assert (said(paths[0], 0, 3).cross_section, said(paths[0], 3).cross_section) == (5, 5)
    # Each file counts with its own number of events, not with that of its last batch.
    mean = Generated.add([said(path) for path in paths]).cross_section
    assert mean == pytest.approx((5 * 5 + 2 * 11) / 7)


def test_file_that_was_looked_at_is_not_searched_for_its_last_event_again(tmp_path, monkeypatch):
    path = _with_cross_section(tmp_path / "some", [1.0, 2.0, 3.0])
    reader = _reader()
    reader.look(str(path))
    monkeypatch.delattr("manyscale.events.files.text.EventTexts.last")
    sent = pickle.loads(pickle.dumps(reader))  # noqa: S301
    assert _read(path, 0, 2, sent).processes[THE_PROCESS].bookkeeping.cross_section == 3


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("HepMC3", r"has 2 weights, but the file's header names 3; perhaps there is a line break"),
        ("HepMC2", r"has a line break in the name of a weight"),
    ],
)
def test_name_of_a_weight_with_a_line_break(tmp_path, kind, says):
    path = tmp_path / "w.hepmc"
    event = hepmc_event(_two_jets(60.0), weights=(1.0, 2.0), names=("nominal", "mu\nup"))
    path.write_bytes(hepmc_text(path, [event], kind))
    with pytest.raises(DataError, match=rf"w.hepmc, event 0 \(counted from 0\) {says}"):
        _reader().look(str(path))


def test_weight_and_selection_of_the_card(tmp_path):
    path = _weighted("HepMC3", tmp_path / "w.hepmc")
    found = _read(path, reader=_reader(weight="muR=2", selection="event > 7"))
    assert found.weight.tolist() == [-1, 3, 7]
    assert _records(found).entry.to_list() == [1, 2]
    steps = found.processes[THE_PROCESS].bookkeeping.cutflow
    assert steps[:2] == (
        CutflowStep(step="in the file", events=3, sum_weights=9),
        CutflowStep(step="event > 7", events=2, sum_weights=10),
    )
    assert _read(path, reader=_reader(weight="2 * nominal")).weight.tolist() == [4, 6, 8]


@pytest.mark.parametrize(
    ("convert", "says"),
    [
        ({"variations": ["muF"]}, "has no weight 'muF', which convert.variations names"),
        ({"weight": "1001"}, "has no weight '1001', which convert.weight names"),
        ({"weight": "mine"}, "no branch 'mine', which convert.weight"),
        ({"observables": {"run": "run"}}, "no branch 'run', which convert.observables.run"),
    ],
)
def test_what_is_not_in_the_file_is_named(tmp_path, convert, says):
    path = _weighted("HepMC3", tmp_path / "w.hepmc")
    with pytest.raises(DataError, match=f"w.hepmc.*{says}"):
        _read(path, reader=_reader(**convert))


def test_file_that_says_little_is_remarked_on(tmp_path):
    path = tmp_path / "bare.hepmc"
    text = hepmc_text(path, _events(2)).partition(b"HepMC::Asciiv3-END")[0]
    path.write_bytes(text)
    remarks = " ".join(_reader().look(str(path)).remarks)
    assert "no cross section" in remarks
    assert "the generator may have been stopped" in remarks
    found = _read(path)
    assert len(_records(found)) == 2
    assert found.processes[THE_PROCESS].bookkeeping.cross_section is None


def test_heavy_hadrons_as_they_leave_the_hadronisation(tmp_path):
    along = _massless(100.0, 0.0)
    event = hepmc_event(
        [
            (92, 2, None, along),  # a string
            (513, 2, 0, along),  # B*0 -> B0 -> anti-B0 -> D*+ -> D0: one
            (511, 2, 1, along),
            (-511, 2, 2, along),
            (413, 2, 3, along),
            (421, 1, 4, along),
            (4122, 2, 0, along),  # Lambda_c of the string: one
            (443, 2, 0, along),  # J/psi: none
            (521, 1, None, along),  # B+ right from the collision: one
            (5, 2, None, along),
            (-411, 1, 9, along),  # of a quark: one
        ]
    )
    path = tmp_path / "heavy.hepmc"
    for kind in ("HepMC2", "HepMC3"):
        hepmc_text(path, [event, event], kind)
        heavy = _truth(_reader(), path, 2).heavy
        assert heavy.counts.tolist() == [4, 4]
        assert sorted(heavy.pdg_id[:4].tolist()) == [-411, 513, 521, 4122]


def test_higgs_bosons_that_decay_to_bottom(tmp_path):
    along = _massless(100.0, 0.0)
    event = hepmc_event(
        [
            (25, 2, None, along),  # a copy
            (25, 2, 0, along),
            (5, 2, 1, along),
            (-5, 2, 1, along),
            (25, 2, None, along),  # to photons
            (22, 1, 4, along),
            (22, 1, 4, along),
            (23, 2, None, along),  # Z -> b bbar
            (5, 2, 7, along),
            (-5, 2, 7, along),
        ]
    )
    path = tmp_path / "higgs.hepmc"
    hepmc_text(path, [hepmc_event(_two_jets(50.0)), event])
    higgs = _truth(_reader(), path, 2).higgs
    assert higgs.counts.tolist() == [0, 1]


def test_generated_events_come_back_from_a_file(tmp_path):
    """What Pythia made gives the same records by way of a file as straight."""
    lines = LOW.pythia_lines("hh4b")
    settings = LOW.model_copy(update={"streams": ("jet1", "jet2", "kinematics", "small_jets")})
    (truth,) = pythia.generate(pythia.start("hh4b", lines, 5), "hh4b", 8)
    layouts = collision_streams(settings.streams)
    straight = records_of(Reconstruction(settings, 1).reconstruct(truth)[0], layouts)
    same = pythia.start("hh4b", lines, 5).nextBatch(8, "none")
    path = tmp_path / "hh4b.hepmc"
    hepmc_text(path, [pythia_event(e, at) for at, e in enumerate(ak.to_list(same.prt))])
    reader = HepMCReader(settings, ConvertSettings())
    piece = Piece(str(path), 0, None)
    assert len(straight) > 5
    found = _records(read(reader, [piece], layouts))
    assert ak.to_list(found) == ak.to_list(straight)
    assert ak.sum(found.observables.h_bb_j1) > 3
    heavy = _truth(reader, path, 8).heavy
    np.testing.assert_array_equal(heavy.counts, truth.heavy.counts)
    np.testing.assert_array_equal(heavy.pdg_id, truth.heavy.pdg_id)


def _damaged(plain, how):
    text = plain.read_bytes()
    third = text.index(b"\nE 102 ")
    if how == "line missing":
        line = text.index(b"\nP 5 ", third)
        return text[:line] + text[text.index(b"\n", line + 1) :]
    if how == "zeros":
        line = text.index(b"\nP 5 ", third)
        return text[: line + 8] + bytes(30) + text[line + 38 :]
    line = text.index(b"\nP 5 ", third) + 1  # not a number, where pz is
    words = text[line:].split(b" ", 7)
    return text[:line] + b" ".join([*words[:6], b"nan", words[7]])


@pytest.mark.parametrize("how", ["line missing", "zeros", "nan"])
def test_damage_in_the_middle_names_the_event(plain, tmp_path, capfd, how):
    path = tmp_path / "damaged.hepmc"
    path.write_bytes(_damaged(plain, how))
    assert _reader().look(str(path)).entries == 5
    says = "branch 'pz' holds nan" if how == "nan" else "damaged or cut short"
    with pytest.raises(DataError, match=rf"damaged.hepmc, event 2 \(counted from 0\).*{says}"):
        _read(path)
    assert len(_records(_read(path, 3, 5))) == 2
    if how != "zeros":  # there HepMC3 prints what it finds
        assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["HepMC2", "HepMC3"])
@pytest.mark.parametrize("left", [0.0, 0.4, 0.8])
def test_file_cut_short_names_the_last_event(tmp_path, kind, left):
    path = tmp_path / "cut.hepmc"
    text = hepmc_text(path, _events(), kind)
    start, end = text.index(b"\nE 104 ") + 4, text.index(b"\nHepMC::", 200)
    path.write_bytes(text[: start + int(left * (end - start))])
    for act in (lambda: _reader().look(str(path)), lambda: _read(path, 0, 5)):
        with pytest.raises(DataError, match=r"cut.hepmc, event 4 \(counted from 0\) is damaged"):
            act()


def test_gzip_cut_short(plain, tmp_path):
    path = tmp_path / "cut.hepmc.gz"
    path.write_bytes(compressed(plain.read_bytes(), "gzip")[:-30])
    with pytest.raises(DataError, match=r"cut.hepmc.gz cannot be decompressed in or behind event"):
        _reader().look(str(path))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"HepMC::Version 3.02.05\nHepMC::Asciiv3-START_EVENT_LISTING\n", "text without any"),
        (b"E 0 1 2\n", "no HepMC2 or HepMC3 text"),
        (b"", "no HepMC2 or HepMC3 text"),
    ],
)
def test_file_without_events(tmp_path, text, says):
    path = tmp_path / "nothing.hepmc"
    path.write_bytes(text)
    with pytest.raises(DataError, match=f"nothing.hepmc is .*{says}"):
        _reader().look(str(path))


def test_weight_that_is_no_number(tmp_path):
    path = _weighted("HepMC3", tmp_path / "w.hepmc")
    with pytest.raises(DataError, match=r"w.hepmc, event 1 \(counted from 0\): .*holds nan"):
        _read(path, 1, 3, reader=_reader(weight="sqrt(7.5 - event)"))


def test_weights_that_change_within_a_file(tmp_path):
    path = tmp_path / "w.hepmc"
    events = [*_events(2), hepmc_event(_two_jets(60.0), weights=(1.0, 2.0))]
    hepmc_text(path, events, "HepMC2")
    with pytest.raises(DataError, match=r"w.hepmc, event 2 \(counted from 0\) has other weights"):
        _read(path)


def test_columns_that_the_detector_does_not_measure(plain):
    settings = LOW.model_copy(update={"columns": ("d0",)})
    with pytest.raises(CardError, match=r"generate.columns: .* measures no d0"):
        HepMCReader(settings, ConvertSettings()).look(str(plain))


def test_pyhepmc_prints_again_as_before(plain):
    before = pyhepmc.Setup.print_errors
    _read(plain)
    assert pyhepmc.Setup.print_errors == before


@real_files
@pytest.mark.parametrize(
    ("name", "title", "energy", "pz", "weight"),
    [
        ("hepmc2_1ev.hepmc", "HepMC2 text", 13_000, 0, 507.24807),
        # Nine beam protons of 5 TeV, eight of them against one.
        ("hepmc3_epos_pp_1ev.dat", "HepMC3 text", 45_000, -35_000, 1.0),
    ],
)
def test_real_files(name, title, energy, pz, weight):
    path = str(FOLDER / name)
    contents = _reader().look(path)
    assert (contents.title, contents.entries) == (title, 1)
    truth = _truth(_reader(), path, 1)
    # What is stable carries what the beams brought, up to the rounding of the generator.
    assert truth.stable.energy.sum() == pytest.approx(energy, rel=1e-5)
    assert truth.stable.pz.sum() == pytest.approx(pz, rel=1e-5, abs=1e-3)
    for component in (truth.stable.px, truth.stable.py):
        assert component.sum() == pytest.approx(0, abs=1e-3)
    found = _read(path)
    assert found.weight == pytest.approx([weight])
    assert found.processes[THE_PROCESS].bookkeeping.cutflow[0].events == 1
    assert len(_records(found)) <= 1


@real_files
def test_real_file_that_is_broken():
    with pytest.raises(DataError, match=r"hepmc3_broken.dat, event 0 .*damaged or cut short"):
        _reader().look(str(FOLDER / "hepmc3_broken.dat"))
