"""Files of others into a dataset: whole or not at all, no event twice, resumed where it was."""

import gzip
import json
import logging
import shlex
from dataclasses import replace

import awkward as ak
import numpy as np
import pytest
import uproot

from manyscale.data.dataset import Dataset
from manyscale.data.manifest import merge
from manyscale.data.sources import Source, collecting, find_sources
from manyscale.errors import CardError, DataError
from manyscale.progress import LOG
from manyscale.runs.convert import Request, convert_files
from manyscale.runs.inspect import inspect_path

CARD = """
seed: 3
convert:
  branches: {jets: {pt: jet_pt, eta: jet_eta, phi: jet_phi, mass: jet_mass}}
  weight: w
  observables: {run: run}
  unit_events: 100
"""
SIGNAL = Request(label="signal")
BACKGROUND = Request(label="background")


@pytest.fixture
def told(caplog, monkeypatch):
    """What is logged; commands of other tests keep it to their handler."""
    monkeypatch.setattr(LOG, "propagate", True)
    caplog.set_level(logging.INFO, LOG.name)
    return caplog


@pytest.fixture
def card(tmp_path):
    path = tmp_path / "card.yaml"
    path.write_text(CARD)
    return path


@pytest.fixture
def convert(tmp_path, card):
    """Convert files, or one, by the card, into a folder of the test."""

    def converted(files, request=SIGNAL, folder="d", **options):
        files = [files] if isinstance(files, str) else files
        options.setdefault("workers", 1)
        return convert_files(files, tmp_path / folder, request, card=card, **options)

    return converted


def jets(path, seed=0, events=250, **more):
    """A jagged ntuple with a weight, a run number and a label."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 5, events)
    total = int(counts.sum())

    def lists(values):
        return ak.unflatten(values.astype(np.float32), counts)

    branches = {
        "jet_pt": lists(rng.uniform(20, 500, total)),
        "jet_eta": lists(rng.normal(0, 1, total)),
        "jet_phi": lists(rng.uniform(-3, 3, total)),
        "jet_mass": lists(rng.uniform(1, 50, total)),
        "w": rng.uniform(0.5, 1.5, events),
        "run": np.full(events, 362760 + seed, np.int32),
        "is_signal": rng.integers(0, 2, events).astype(np.int32),
    }
    branches |= more
    with uproot.recreate(path) as file:
        file["events"] = branches
    return str(path)


@pytest.fixture
def file(tmp_path):
    return jets(tmp_path / "a.root")


def damaged(path, seed=0):
    """The same with a momentum that is no number, in entry 120."""
    good = jets(path, seed)
    with uproot.open(good) as file:
        pt = file["events"]["jet_pt"].array()
    counts = ak.num(pt)
    values = ak.to_numpy(ak.flatten(pt)).copy()
    first = int(np.cumsum(ak.to_numpy(counts))[119])
    event = int(np.argmax(ak.to_numpy(counts)[120:] > 0)) + 120
    values[first] = np.nan
    return jets(path, seed, jet_pt=ak.unflatten(values, counts)), event


def listing(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_every_event_of_several_files_arrives_once(tmp_path, convert, told):
    files = [jets(tmp_path / f"{name}.root", seed) for seed, name in enumerate("ab")]
    added = convert(files)
    data = Dataset.open(tmp_path / "d")
    assert len(data) == 500
    assert len(np.unique(data.event_ids)) == 500
    assert "signal: 500 events" in added.said
    assert added.processes[0].cutflow[0].events == 500
    with uproot.open(files[1]) as file:
        weight = file["events"]["w"].array(library="np")
    events = data.events()
    of_second = events.observables["run"] == 362761
    assert np.array_equal(np.sort(events.weight[of_second]), np.sort(weight))
    assert "--cross-section" in told.text
    assert "--sum-weights" in told.text


def test_units_do_not_change_the_events(tmp_path, convert, card, file):
    convert(file, folder="small")
    card.write_text(CARD.replace("unit_events: 100", "unit_events: 1000"))
    convert(file, folder="large")
    one, other = (Dataset.open(tmp_path / name).events() for name in ("small", "large"))
    order, same = np.argsort(one.event_id), np.argsort(other.event_id)
    assert np.array_equal(one.event_id[order], other.event_id[same])
    assert np.array_equal(
        one.streams["jets"].take(order).values, other.streams["jets"].take(same).values
    )
    assert len(list((tmp_path / "small" / "parts").iterdir())) == 3
    assert len(list((tmp_path / "large" / "parts").iterdir())) == 1


def test_two_workers_make_the_same_as_one(tmp_path, convert, file):
    for workers in (1, 2):
        convert(file, folder=str(workers), workers=workers)
    one, two = (Dataset.open(tmp_path / name).events() for name in "12")
    assert np.array_equal(one.event_id, two.event_id)
    assert np.array_equal(one.streams["jets"].values, two.streams["jets"].values)


def test_giving_the_command_again_changes_nothing_and_new_files_are_added(tmp_path, convert, file):
    first, second = file, jets(tmp_path / "b.root", 1)
    convert(first)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "d" / "parts").iterdir()}
    added = convert(first)
    assert "already" in added.said
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "d" / "parts").iterdir()} == before
    convert([first, second])
    assert len(Dataset.open(tmp_path / "d")) == 500


def test_an_event_cannot_be_in_a_dataset_twice(tmp_path, convert, card, file):
    convert(file)
    before = listing(tmp_path / "d")
    with pytest.raises(DataError, match=r"a\.root is in .* already"):
        convert(file, BACKGROUND)
    card.write_text(CARD.replace("weight: w", 'selection: "w > 1"'))
    with pytest.raises(DataError, match="other settings"):
        convert(file)
    assert listing(tmp_path / "d") == before


def test_a_copy_under_another_name_is_another_file_and_said(tmp_path, convert, told, file):
    (tmp_path / "b.root").hardlink_to(file)
    convert([file, str(tmp_path / "b.root")])
    assert len(np.unique(Dataset.open(tmp_path / "d").event_ids)) == 500
    assert "a.root and b.root are the same under two names" in told.text
    told.clear()
    convert(file, folder="e")
    assert "under two names" not in told.text
    convert(str(tmp_path / "b.root"), folder="e")
    assert "a.root and b.root are the same under two names" in told.text


def test_a_link_is_the_file_to_which_it_points(tmp_path, convert, file):
    (tmp_path / "b.root").symlink_to(file)
    with pytest.raises(DataError, match="are the same file"):
        convert([file, str(tmp_path / "b.root")])
    convert(file)
    assert "already" in convert(str(tmp_path / "b.root")).said
    assert len(Dataset.open(tmp_path / "d")) == 250


def test_a_failed_unit_is_named_the_rest_completes_and_nothing_counts_until_all_is_there(
    tmp_path, convert
):
    good = jets(tmp_path / "good.root", 1)
    convert(good)
    bad, event = damaged(tmp_path / "bad.root", 2)
    says = rf"1 of 3 units failed, each twice: unit 1 .*bad\.root, entries 83 to 165.*entry {event}"
    with pytest.raises(DataError, match=says):
        convert(bad, BACKGROUND)
    assert len(list((tmp_path / "d" / "parts").glob("background*"))) == 2
    merge(tmp_path / "d")
    assert Dataset.open(tmp_path / "d").class_counts == {"signal": 250, "background": 0}
    found = inspect_path(tmp_path / "d").lines
    assert any("1 of 3 units are missing" in line for line in found)
    assert any("unit 1:" in line and "entries 83 to 165" in line for line in found)


def test_a_conversion_of_which_nothing_came_leaves_no_folder(tmp_path, convert, card):
    card.write_text(CARD.replace("unit_events: 100", "unit_events: 1000"))
    bad, _ = damaged(tmp_path / "bad.root")
    with pytest.raises(DataError, match="jet_pt"):
        convert(bad)
    assert not (tmp_path / "d").exists()


def test_files_begun_together_can_be_resumed_without_the_damaged_one(tmp_path, convert):
    files = [jets(tmp_path / "a.root", 1), damaged(tmp_path / "b.root", 2)[0]]
    files.append(jets(tmp_path / "c.root", 3))
    out = tmp_path / "d"
    with pytest.raises(DataError, match=r"b\.root"):
        convert(files)
    before = {p.name: p.stat().st_mtime_ns for p in (out / "parts").iterdir()}
    assert len(before) == 8
    convert([files[0], files[2]])
    after = {p.name: p.stat().st_mtime_ns for p in (out / "parts").iterdir()}
    assert len(after) == 6
    assert after.items() <= before.items()
    data = Dataset.open(out)
    assert len(np.unique(data.event_ids)) == 500
    jets(tmp_path / "b.root", 4)
    convert(files)
    assert len(np.unique(Dataset.open(out).event_ids)) == 750


def test_units_of_an_extended_dataset_are_numbered_as_they_came(tmp_path, convert):
    files = [jets(tmp_path / f"{name}.root", seed) for seed, name in enumerate("abcde")]
    out = tmp_path / "d"
    convert(files[:1])
    for first in range(0, 15, 3):
        share = (first, first + 3)
        convert(files, share=share)
    assert len(np.unique(Dataset.open(out).event_ids)) == 1250


def test_files_without_events_among_others_are_passed_over(tmp_path, convert):
    with uproot.recreate(tmp_path / "a.root") as file:
        kinds = dict.fromkeys(("jet_pt", "jet_eta", "jet_phi", "jet_mass"), "var * float32")
        file.mktree("events", {**kinds, "w": "float64", "run": "int32"})
    files = [str(tmp_path / "a.root"), jets(tmp_path / "b.root")]
    convert(files)
    assert len(Dataset.open(tmp_path / "d")) == 250


def test_a_written_dataset_knows_of_which_files_its_events_are(tmp_path, convert, file):
    convert(file)
    Dataset.open(tmp_path / "d").write(tmp_path / "copy")
    with pytest.raises(DataError, match="already"):
        convert(file, folder="copy")


def test_the_k_factor_of_a_card_can_be_changed_for_all_events_of_a_process(
    tmp_path, convert, card, file
):
    ttbar = Request(process="ttbar")
    card.write_text(CARD + "generate: {processes: {ttbar: {cross_section: 831, k_factor: 2}}}\n")
    convert(file, ttbar)
    card.write_text(CARD + "generate: {processes: {ttbar: {cross_section: 900, k_factor: 1.5}}}\n")
    convert(file, ttbar)
    (process,) = Dataset.open(tmp_path / "d").schema.processes
    assert (process.cross_section, process.k_factor) == (900.0, 1.5)


def test_the_share_of_a_card_is_that_of_its_events(tmp_path, convert, card, file):
    more = "generate: {processes: {ttbar: {share: 0.25, k_factor: 2}, qcd: {share: 0.75}}}\n"
    card.write_text(CARD + more)
    convert(file, Request(process="ttbar"))
    (process,) = Dataset.open(tmp_path / "d").schema.processes
    assert (process.share, process.k_factor) == (0.25, 2.0)
    card.write_text(CARD + more.replace("0.25", "0.5"))
    with pytest.raises(DataError, match=r"share of its class of 0\.25, not 0\.5"):
        convert(jets(tmp_path / "b.root", 1), Request(process="ttbar"))
    convert(file, Request(process="ttbar"))
    assert Dataset.open(tmp_path / "d").schema.processes[0].share == 0.5


def test_two_calls_that_read_one_file_otherwise_are_refused(tmp_path):
    source = Source(name="a", again="a", whole=True, sources=('[["x.root", 1, ""]]',))
    other = source.model_copy(update={"settings": "{}", "again": "b"})
    with (
        collecting(tmp_path, [source], shared=True),
        pytest.raises(DataError, match=r"two calls read the file x\.root"),
        collecting(tmp_path, [other], shared=True),
    ):
        pass
    assert find_sources(tmp_path) == [source]


def test_notes_of_earlier_versions_say_what_counts(tmp_path, convert, file):
    """Plans, which divided several files together and numbered their parts."""
    convert(file)
    out = tmp_path / "d"
    (source,) = find_sources(out)
    (out / "sources" / f"{source.name}.json").unlink()
    (out / "plans").mkdir()
    names = []
    for at, path in enumerate(sorted((out / "parts").iterdir())):
        names.append(f"signal-0123456789abcdef-{at:06d}")
        path.rename(path.with_stem(names[-1]))
    plan = {
        "name": "0123456789abcdef",
        "number": 1,
        "again": "manyscale convert a.root",
        "whole": True,
        "sources": source.sources,
        "size": source.size,
        "replaces": [],
        "units": [
            {"parts": [name], "what": name, "pieces": [[0, 0, None]], "share": 1 / 3}
            for name in names
        ],
        "settings": source.settings,
        "stated": {"signal": {"cross_section": 2.0, "sum_weights": 300.0}},
    }
    noted = out / "plans" / "0123456789abcdef.json"
    noted.write_text(json.dumps(plan))
    merge(out)
    (process,) = Dataset.open(out).schema.processes
    assert (process.cross_section, process.sum_weights) == (2.0, pytest.approx(300))
    convert(jets(tmp_path / "b.root", 1))
    assert "already" in convert(file).said
    assert len(Dataset.open(out)) == 500
    # One that was not finished does not count, and is made anew.
    (out / "parts" / f"{names[1]}.parquet").unlink()
    assert any("1 of 3 units are missing" in line for line in inspect_path(out).lines)
    merge(out)
    assert len(Dataset.open(out)) == 250
    convert(file)
    assert len(np.unique(Dataset.open(out).event_ids)) == 500
    assert not any("signal-0123" in name for name in listing(out))


def test_parts_of_a_call_do_not_depend_on_what_else_it_reads(tmp_path, convert, file):
    second = jets(tmp_path / "b.root", 1)
    convert(file, folder="one")
    convert([second, file], folder="two")
    one, two = ({p.name for p in (tmp_path / of / "parts").iterdir()} for of in ("one", "two"))
    assert one < two


def test_shares_of_units_are_finished_by_inspect(tmp_path, convert, file):
    done = convert(file, share=(0, 1))
    assert "2 of 3 units are missing" in done.said
    assert any("unit 2:" in line for line in inspect_path(tmp_path / "d").lines)
    assert not (tmp_path / "d" / "dataset.json").exists()
    convert(file, share=(2, 3))
    convert(file, share=(1, 2))
    assert len(Dataset.open(tmp_path / "d")) == 250
    (tmp_path / "d" / "dataset.json").unlink()
    assert any("250 events" in line for line in inspect_path(tmp_path / "d").lines)
    assert len(Dataset.open(tmp_path / "d")) == 250
    with pytest.raises(DataError, match=r"--units 3:9: the files make only the units 0:3"):
        convert(file, share=(3, 9))


def test_a_stated_sum_of_weights_is_that_of_all_files_together(tmp_path, convert, told):
    files = [jets(tmp_path / f"{name}.root", seed) for seed, name in enumerate("ab")]
    said = Request(process="ttbar", cross_section=831.0, sum_weights=1.2e9)
    convert(files, said)
    (process,) = Dataset.open(tmp_path / "d").schema.processes
    assert process.label == "background"
    assert process.cross_section == 831.0
    assert process.sum_weights == pytest.approx(1.2e9, rel=1e-12)
    assert process.generated == 500
    assert "unknown" not in told.text
    rows = inspect_path(tmp_path / "d", luminosity=100.0).tables[1].rows
    weights = Dataset.open(tmp_path / "d").events().weight
    expected = weights.sum() * 831.0 * 100.0 * 1000 / 1.2e9
    effective = weights.sum() ** 2 / (weights**2).sum()
    assert rows[0][-1] == f"{expected:,.4g}"
    assert rows[0][-2] == f"{effective:,.0f}"


def test_what_was_unknown_can_be_said_by_giving_the_command_again(tmp_path, convert, file):
    first, second = file, jets(tmp_path / "b.root", 1)
    out = tmp_path / "d"

    def process():
        (found,) = Dataset.open(out).schema.processes
        return found

    convert(first, Request(process="ttbar"))
    assert (process().cross_section, process().sum_weights) == (None, None)
    before = {path: path.stat().st_mtime_ns for path in (out / "parts").iterdir()}
    said = Request(process="ttbar", cross_section=831.0, sum_weights=1000.0)
    convert(first, said)
    assert (process().cross_section, process().sum_weights) == (831.0, pytest.approx(1000.0))
    assert {path: path.stat().st_mtime_ns for path in (out / "parts").iterdir()} == before
    more = Request(process="ttbar", cross_section=831.0, sum_weights=500.0)
    convert(second, more)
    assert process().sum_weights == pytest.approx(1500.0)
    with pytest.raises(DataError, match=r"other events of the process 'ttbar' .* 831.0, not 830.0"):
        convert(second, replace(more, cross_section=830.0))
    both = Request(process="ttbar", cross_section=830.0, sum_weights=1600.0)
    convert([first, second], both)
    assert (process().cross_section, process().sum_weights) == (830.0, pytest.approx(1600.0))
    convert(first, Request(process="ttbar"))
    assert (process().cross_section, process().sum_weights) == (830.0, pytest.approx(1600.0))


def test_two_selections_of_one_process_do_not_fit_together(tmp_path, convert, card, file):
    first, second = file, jets(tmp_path / "b.root", 1)
    convert(first)
    card.write_text(CARD + '  selection: "w > 1"\n')
    with pytest.raises(DataError, match="events of signal that other cuts have selected"):
        convert(second)


def test_one_file_with_several_processes(tmp_path, convert, card, file):
    card.write_text(
        CARD + '  process: {signal: "is_signal == 1", '
        'other: {where: "is_signal == 0", class: background, cross_section: 5, sum_weights: 70}}\n'
    )
    with pytest.raises(DataError, match="leave out --label"):
        convert(file)
    convert(file, None)
    with uproot.open(file) as opened:
        signal = int(opened["events"]["is_signal"].array(library="np").sum())
    data = Dataset.open(tmp_path / "d")
    assert data.process_counts == {"signal": signal, "other": 250 - signal}
    known = {of.name: (of.cross_section, of.sum_weights) for of in data.schema.processes}
    assert known == {"signal": (None, None), "other": (5.0, pytest.approx(70))}


def test_a_selection_that_nothing_passes_gives_a_dataset_of_no_events(
    tmp_path, convert, told, card, file
):
    card.write_text(CARD.replace("weight: w", 'selection: "w > 100"'))
    added = convert(file)
    assert len(Dataset.open(tmp_path / "d")) == 0
    assert [(s.step, s.events) for s in added.processes[0].cutflow] == [
        ("in the file", 250),
        ("w > 100", 0),
    ]
    assert "no event passed" in told.text


def test_adding_other_streams_is_refused(tmp_path, convert, card, file):
    convert(file)
    before = listing(tmp_path / "d")
    card.write_text(CARD.replace(", mass: jet_mass", ""))
    with pytest.raises(
        DataError, match=r"other streams or columns: only .*set has jets\.mass\. .*drop"
    ):
        convert(jets(tmp_path / "b.root", 1), BACKGROUND)
    assert listing(tmp_path / "d") == before


def test_columns_that_not_all_files_have_can_be_dropped(tmp_path, convert, told, card, file):
    dropping = CARD + "  drop: [jets.mass]\n"
    card.write_text(dropping)
    convert(file)
    card.write_text(dropping.replace(", mass: jet_mass", ""))
    convert(jets(tmp_path / "b.root", 1), BACKGROUND)
    assert "gives no jets.mass, so there is nothing to drop" in told.text
    data = Dataset.open(tmp_path / "d")
    assert data.schema.streams[0].columns == ("pt", "eta", "phi")
    assert len(data) == 500
    assert data.events().streams["jets"].values.shape[1] == 3


@pytest.mark.parametrize("drop", ["mass", "jets.", ".mass"])
def test_a_column_to_be_dropped_is_named_with_its_stream(convert, card, file, drop):
    card.write_text(CARD + f"  drop: ['{drop}']\n")
    with pytest.raises(CardError, match=r"write stream\.column, as in jet1\.charge"):
        convert(file)


def test_weights_that_are_all_zero_are_refused(tmp_path, convert):
    file = jets(tmp_path / "a.root", w=np.zeros(250))
    with pytest.raises(DataError, match="all event weights are 0; --weights"):
        convert(file)
    convert(file, Request(label="signal", weights="run / run"))
    assert (Dataset.open(tmp_path / "d").events().weight == 1).all()


def test_files_of_two_formats_in_one_call(tmp_path, convert):
    root = jets(tmp_path / "a.root")
    np.savez(tmp_path / "b.npz", np.ones((3, 2, 2)))
    with pytest.raises(DataError, match=r"a\.root is of the format ROOT, .*b\.npz of npz"):
        convert([root, str(tmp_path / "b.npz")])
    assert not (tmp_path / "d").exists()


def test_globs_and_lists_of_files(tmp_path, convert):
    for seed, name in enumerate("ab"):
        jets(tmp_path / f"{name}.root", seed)
    convert(str(tmp_path / "*.root"), folder="glob")
    (tmp_path / "files.txt").write_text("  # both\na.root\n\nb.root\n")
    (tmp_path / "globs.txt").write_text("*.root\n")
    for name in ("files", "globs"):
        listed = str(tmp_path / f"{name}.txt")
        convert(listed, folder=name)
    ids = [np.sort(Dataset.open(tmp_path / name).event_ids) for name in ("glob", "files", "globs")]
    assert np.array_equal(ids[0], ids[1])
    assert np.array_equal(ids[0], ids[2])
    (tmp_path / "lists.txt").write_text("files.txt\n")
    with pytest.raises(DataError, match=r"lists\.txt names .*files\.txt, which is a list itself"):
        convert(str(tmp_path / "lists.txt"), folder="no")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"no events here\n", "no format that is known"),
        (gzip.compress(b"", mtime=0), "has nothing in it"),
        (b"root" + 100 * b"\0", "has no tree"),
        (b"\x1f\x8b broken", "cannot be decompressed"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, convert, content, says):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(DataError, match=says):
        convert(str(path))
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize("part", [0.02, 0.5, 0.97])
def test_a_root_file_that_is_cut_short(tmp_path, convert, part):
    whole = (tmp_path / "a.root", jets(tmp_path / "a.root"))[0].read_bytes()
    cut = tmp_path / "cut.root"
    cut.write_bytes(whole[: int(part * len(whole))])
    with pytest.raises(DataError, match=r"cut\.root"):
        convert(str(cut))
    assert not (tmp_path / "d").exists()


def test_inputs_that_are_no_files(tmp_path, convert):
    for path, says in (
        (tmp_path, "is a folder"),
        (tmp_path / "none.root", "no file"),
        (tmp_path / "*.hepmc", "no file matches"),
    ):
        with pytest.raises(DataError, match=says):
            convert(str(path))


def test_a_file_is_named_once_also_by_another_path(tmp_path, convert, file):
    (tmp_path / "copies").mkdir()
    (tmp_path / "copies" / "a.root").hardlink_to(file)
    with pytest.raises(DataError, match="named twice"):
        convert([file, file])
    for other in ("copies/a.root", "copies/../a.root"):
        with pytest.raises(DataError, match="are the same file"):
            convert([file, str(tmp_path / other)])
    assert not (tmp_path / "d").exists()


def test_a_file_without_any_event(tmp_path, convert, card):
    with uproot.recreate(tmp_path / "a.root") as file:
        file.mktree("events", dict.fromkeys(("jet_pt", "jet_eta", "w", "run"), "float64"))
    card.write_text(CARD.replace(", phi: jet_phi, mass: jet_mass", ""))
    with pytest.raises(DataError, match=r"a\.root, tree 'events' holds no events"):
        convert(str(tmp_path / "a.root"))
    assert not (tmp_path / "d").exists()


def test_the_class_must_be_said(tmp_path, convert):
    with pytest.raises(DataError, match="--label signal"):
        convert(jets(tmp_path / "a.root"), None)
    with pytest.raises(DataError, match="class of 'mine' is not known"):
        convert_files([jets(tmp_path / "a.root")], tmp_path / "d", Request(process="mine"))


def test_processes_are_told_apart_by_the_branches_of_an_ntuple_alone(tmp_path, convert, card):
    card.write_text('convert: {process: {ttbar: "w > 1", qcd: "w <= 1"}}')
    with pytest.raises(CardError, match=r"convert\.process divides .* convert\.branches"):
        convert(jets(tmp_path / "a.root"), None)


def test_a_card_that_maps_no_branches(tmp_path):
    with pytest.raises(DataError, match=r"convert\.branches by --card"):
        convert_files([jets(tmp_path / "a.root")], tmp_path / "d", SIGNAL)


def test_the_command_that_goes_on_is_whole(tmp_path, convert, card, file):
    said = Request(process="ttbar", cross_section=831.0, weights="w * w")
    convert(file, said, share=(0, 1))
    again = find_sources(tmp_path / "d")[0].again
    assert shlex.split(again) == [
        *("manyscale", "convert", file, "--process", "ttbar", "--cross-section", "831.0"),
        *("--weights", "w * w", "--card", str(card), "--out", str(tmp_path / "d")),
    ]
    assert any(again in line for line in inspect_path(tmp_path / "d").lines)


@pytest.mark.parametrize("names", [("Events",), ("first", "second")])
def test_trees_that_no_reader_knows_are_listed(tmp_path, names):
    with uproot.recreate(tmp_path / "a.root") as file:
        for name in names:
            file[name] = {f"pt_{name}": np.arange(3.0)}
    found = inspect_path(tmp_path / "a.root")
    assert [table.rows[0][0] for table in found.tables] == [f"pt_{name}" for name in names]
    assert any("convert.branches" in line for line in found.lines)


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ("variations: [weight]", "variations: the name 'weight' is taken"),
        ("variations: [jets]", "variations: the name 'jets' is taken"),
        ("observables: {score: w}", "observables: the name 'score' is taken"),
    ],
)
def test_names_that_a_dataset_uses_itself_are_taken(convert, lines, says, card, file):
    card.write_text(CARD.replace("  observables: {run: run}\n", f"  {lines}\n"))
    with pytest.raises(CardError, match=says):
        convert(file)


def test_a_bad_expression_names_the_key_of_the_card(tmp_path, convert, card, file):
    card.write_text(CARD.replace("weight: w", 'weight: "import os"'))
    with pytest.raises(CardError, match=r"convert\.weight"):
        convert(file)
    assert not (tmp_path / "d").exists()


def test_a_dask_cluster_makes_the_same(tmp_path, convert, file):
    distributed = pytest.importorskip("distributed")
    convert(file, folder="here")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
    ):
        address = cluster.scheduler_address
        convert(file, folder="there", cluster=address)
    here, there = (Dataset.open(tmp_path / name).events() for name in ("here", "there"))
    assert np.array_equal(here.event_id, there.event_id)
    assert np.array_equal(here.streams["jets"].values, there.streams["jets"].values)


def test_a_cluster_that_does_not_answer(tmp_path, convert, monkeypatch, file):
    pytest.importorskip("distributed")
    monkeypatch.setattr("manyscale.events.work._PATIENCE", 0.2)
    with pytest.raises(DataError, match=r"tcp://127.0.0.1:1: no dask scheduler answers"):
        convert(file, cluster="tcp://127.0.0.1:1")
    assert not (tmp_path / "d").exists()


def test_the_dataset_says_how_it_was_made(tmp_path, convert, file):
    convert(file)
    (made,) = json.loads((tmp_path / "d" / "dataset.json").read_text())["made"]
    assert made["command"] == "convert"
    assert made["convert"]["branches"]["jets"]["pt"] == "jet_pt"
    (source,) = find_sources(tmp_path / "d")
    assert sum(unit.share for unit in source.units) == pytest.approx(1)
