"""Parts and dataset.json: whole or not at all, whoever writes."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from helpers.toys import SCHEMA, toy_events
from manyscale.data.dataset import Dataset
from manyscale.data.manifest import merge, read_manifest, verify
from manyscale.data.parquet import group_sizes, part_path, read_groups, write_events
from manyscale.data.sources import Source, SourceUnit, collecting
from manyscale.data.store import no_events
from manyscale.errors import DataError, RunError
from manyscale.schema import CutflowStep, Process, Schema

PLAIN = SCHEMA.model_copy(update={"processes": (), "observables": ("m_hh",)})


def unit(name="hh4b", label="signal", generated=100, sigma=2.0, error=0.1, **more):
    """A process as a unit of work knows it."""
    return Process(
        name=name,
        label=label,
        cross_section=sigma,
        cross_section_error=error,
        generated=generated,
        sum_weights=float(generated),
        sum_weights2=float(generated),
        cutflow=(
            CutflowStep(step="generated", events=generated, sum_weights=generated),
            CutflowStep(step="two jets", events=generated // 2, sum_weights=generated / 2),
        ),
        **more,
    )


def write(folder, name, process=None, *, seed=1, events=20, schema=PLAIN, made=None):
    process = process or unit()
    return write_events(folder, name, toy_events(seed, events), schema, process, name, made)


def test_a_part_has_the_columns_and_checksums_of_the_format(tmp_path):
    path = write(tmp_path, "unit-0")
    table = pq.read_table(path)
    assert table.schema.field("jet1").type == pa.list_(
        pa.field(
            "element",
            pa.struct(
                [pa.field(c, pa.float32(), nullable=False) for c in SCHEMA.streams[0].columns]
            ),
            nullable=False,
        )
    )
    assert table.schema.field("jet1_axis").type.field("jet_pt").type == pa.float32()
    assert table.schema.field("weight").type == pa.float64()
    assert table.schema.field("event_id").type == pa.uint64()
    assert table.column("process").to_pylist() == ["hh4b"] * 20
    assert table.column("observables").to_pylist()[0].keys() == {"m_hh"}
    assert table.column_names[:3] == ["jet1", "jet1_axis", "jet2"]
    group = pq.read_metadata(path).row_group(0)
    assert {group.column(i).compression for i in range(group.num_columns)} == {"ZSTD"}


def test_large_parts_have_row_groups_of_moderate_size(tmp_path):
    path = write(tmp_path, "unit-0", events=20_000, schema=Schema(streams=SCHEMA.streams[2:]))
    assert pq.read_metadata(path).num_row_groups == 3


def test_dataset_json_is_made_from_the_parts_alone(tmp_path):
    write(tmp_path, "a", unit(generated=100, sigma=2.0, error=0.3), made={"seed": 1})
    write(tmp_path, "b", unit(generated=300, sigma=4.0, error=0.4), made={"seed": 1})
    write(tmp_path, "c", unit("qcd", "background", sigma=85.0), made={"seed": 2})
    schema = merge(tmp_path)
    signal, background = schema.processes
    assert (signal.name, background.name) == ("hh4b", "qcd")
    assert signal.generated == 400
    assert signal.sum_weights == 400
    assert signal.cross_section == pytest.approx((100 * 2 + 300 * 4) / 400)
    assert signal.cross_section_error == pytest.approx(np.hypot(0.25 * 0.3, 0.75 * 0.4))
    assert [(s.step, s.events, s.sum_weights) for s in signal.cutflow] == [
        ("generated", 400, 400),
        ("two jets", 200, 200),
    ]
    content = json.loads((tmp_path / "dataset.json").read_text())
    assert content["version"] == 1
    assert content["units"]["jet_pt"] == "GeV"
    assert content["made"] == [{"seed": 1}, {"seed": 2}]
    assert [part["events"] for part in content["parts"]] == [20, 20, 20]
    (tmp_path / "dataset.json").unlink()
    merge(tmp_path)
    assert json.loads((tmp_path / "dataset.json").read_text()) == content


def test_sums_that_one_part_does_not_know_are_not_known(tmp_path):
    write(tmp_path, "a")
    write(tmp_path, "b", unit().model_copy(update={"sum_weights": None, "cross_section": None}))
    (process,) = merge(tmp_path).processes
    assert process.sum_weights is None
    assert process.sum_weights2 == 200
    assert process.cross_section == 2.0


def test_a_unit_none_of_whose_events_passed_still_counts(tmp_path):
    write(tmp_path, "a", events=0)
    assert merge(tmp_path).processes[0].generated == 100
    assert len(Dataset.open(tmp_path)) == 0
    assert Dataset.open(tmp_path).events().streams["jet1"].values.shape == (0, 6)
    assert list(Dataset.open(tmp_path).chunks(10)) == []
    write(tmp_path, "b", events=5)
    merge(tmp_path)
    assert len(Dataset.open(tmp_path).events()) == 5


def test_a_part_of_the_same_name_is_replaced(tmp_path):
    write(tmp_path, "a", events=20)
    merge(tmp_path)
    write(tmp_path, "a", seed=9, events=20)
    assert merge(tmp_path).processes[0].generated == 100
    assert verify(tmp_path) == ()
    assert set(Dataset.open(tmp_path).events().event_id) == set(toy_events(9, 20).event_id)


WRITER = """
import sys
from pathlib import Path
from manyscale.data.manifest import merge
from manyscale.data.parquet import write_events
from manyscale.schema import Process, Schema, StreamSchema
from manyscale.data.sources import Source, SourceUnit, collecting
from manyscale.data.store import no_events

folder, writer = Path(sys.argv[1]), sys.argv[2]
schema = Schema(streams=(StreamSchema(name="jet1", columns=("pt",)),))
process = Process(name="qcd", label="background", generated=1)
for number in range(6):
    write_events(folder, f"{writer}{number}", no_events(schema), schema, process, writer)
    merge(folder)
"""


def test_several_writers_of_one_folder_lose_nothing(tmp_path):
    folder = tmp_path / "data"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(folder), name]) for name in "ab"]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0]
    assert len(read_manifest(folder).parts) == 12
    assert read_manifest(folder).content.processes[0].generated == 12
    assert not list(folder.rglob("*.tmp"))


def test_a_part_that_comes_during_a_merge_is_merged(tmp_path, monkeypatch):
    write(tmp_path, "a")
    late = iter(["b"])

    def slow(self):
        for name in late:
            write(tmp_path, name)
        return original(self)

    original = type(read_manifest_of(tmp_path)).to_json
    monkeypatch.setattr("manyscale.data.manifest.Manifest.to_json", slow)
    merge(tmp_path)
    assert [part.file for part in read_manifest(tmp_path).parts] == [
        "parts/a.parquet",
        "parts/b.parquet",
    ]


def read_manifest_of(folder):
    merge(folder)
    return read_manifest(folder)


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0xFF
    path.write_bytes(content)


def test_damage_is_found_and_named(tmp_path):
    for name in "abc":
        write(tmp_path, name, events=200)
    merge(tmp_path)
    assert verify(tmp_path) == ()
    damage(part_path(tmp_path, "b"))
    (fault,) = verify(tmp_path)
    assert "b.parquet" in fault
    with pytest.raises(DataError, match=r"b\.parquet is damaged"):
        Dataset.open(tmp_path).events()
    merge(tmp_path)
    assert len(verify(tmp_path)) == 1, "a merge must not bless a damaged part"


def test_missing_short_and_foreign_parts_are_named(tmp_path):
    for name in "ab":
        write(tmp_path, name)
    merge(tmp_path)
    path = part_path(tmp_path, "a")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"a\.parquet has .* bytes instead of"):
        Dataset.open(tmp_path)
    with pytest.raises(DataError, match=r"a\.parquet is damaged"):
        merge(tmp_path)
    path.unlink()
    with pytest.raises(DataError, match=r"a\.parquet is missing"):
        Dataset.open(tmp_path)
    assert [fault for fault in verify(tmp_path) if "missing" in fault]
    pq.write_table(pa.table({"x": [1]}), part_path(tmp_path, "c"))
    assert any("c.parquet is not in dataset.json" in fault for fault in verify(tmp_path))
    with pytest.raises(DataError, match=r"c\.parquet is no part of a dataset"):
        merge(tmp_path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "cannot be read"),
        ("[]", "no JSON object"),
        ('{"version": 1}', "cannot be read"),
        ('{"version": 99}', "version 99.*install a newer one"),
    ],
)
def test_a_dataset_json_that_cannot_be_read(tmp_path, text, says):
    write(tmp_path, "a")
    merge(tmp_path)
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(DataError, match=says):
        Dataset.open(tmp_path)


def test_what_is_no_dataset(tmp_path):
    with pytest.raises(DataError, match="there is no dataset"):
        Dataset.open(tmp_path / "none")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="is a file"):
        Dataset.open(tmp_path / "file")
    with pytest.raises(DataError, match=r"no dataset: it has no dataset\.json"):
        Dataset.open(tmp_path)
    with pytest.raises(DataError, match="no parts"):
        merge(tmp_path)


def test_parts_that_do_not_fit_together(tmp_path):
    write(tmp_path, "a")
    jets = PLAIN.model_copy(update={"streams": PLAIN.streams[:1]})
    write(tmp_path, "b", schema=jets)
    with pytest.raises(DataError, match=r"a\.parquet and .*b\.parquet do not fit together"):
        merge(tmp_path)
    write(tmp_path, "b", unit(label="background"))
    with pytest.raises(DataError, match="label of the process hh4b is signal, for the other backg"):
        merge(tmp_path)


def test_weights_and_observables_that_a_part_lacks_are_nominal_and_unknown(tmp_path):
    first = toy_events(1, 20)
    varied = replace(first, weights={"scale_up": 1.5 * first.weight})
    schema = PLAIN.model_copy(update={"weights": ("weight", "scale_up")})
    write_events(tmp_path, "a", varied, schema, unit(), "a")
    second = replace(toy_events(2, 10), weight=np.full(10, 3.0), observables={})
    bare = PLAIN.model_copy(update={"observables": ()})
    write_events(tmp_path, "b", second, bare, unit("qcd", "background"), "b")
    merge(tmp_path)
    dataset = Dataset.open(tmp_path)
    assert dataset.schema.weights == ("weight", "scale_up")
    events = dataset.events()
    known = np.isin(events.event_id, first.event_id)
    assert known.sum() == 20
    assert (events.weights["scale_up"][known] == 1.5).all()
    assert (events.weights["scale_up"][~known] == 3.0).all()
    assert np.isnan(events.observables["m_hh"][~known]).all()
    assert np.array_equal(events.observables["m_hh"][known], first.observables["m_hh"])


def test_a_failed_write_leaves_nothing(tmp_path):
    folder = tmp_path / "new" / "dataset"
    bad = PLAIN.model_copy(update={"observables": ("m_hh", "unknown")})
    with pytest.raises(KeyError):
        write(folder, "a", schema=bad)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(DataError, match="holds something that is no dataset"):
        write(tmp_path, "a")
    with pytest.raises(DataError, match="is a file"):
        write(tmp_path / "thesis.tex", "a")
    with pytest.raises(RunError, match=r"thesis\.tex/deeper"):
        write(tmp_path / "thesis.tex" / "deeper", "a")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_parts_selected_in_several_ways_keep_the_ends_of_their_cutflows(tmp_path):
    write(tmp_path, "a")
    other = unit().model_copy(
        update={
            "cutflow": (
                CutflowStep(step="in the file", events=60, sum_weights=60.0),
                CutflowStep(step="one cut", events=40, sum_weights=40.0),
                CutflowStep(step="another", events=30, sum_weights=30.0),
            )
        }
    )
    write(tmp_path, "b", other)
    (process,) = merge(tmp_path).processes
    assert [(s.step, s.events, s.sum_weights) for s in process.cutflow] == [
        ("before any selection", 160, 160.0),
        ("selected, in several ways", 80, 80.0),
    ]


@pytest.mark.parametrize(("longest", "groups"), [(3, 1), (150, 4)])
def test_row_groups_are_small_in_memory_whatever_an_event_takes(tmp_path, longest, groups):
    events = toy_events(1, 2000, longest)
    path = write_events(tmp_path, "unit-0", events, PLAIN, unit(), "unit-0")
    sizes, tokens = group_sizes(path, PLAIN)
    assert len(sizes) == groups
    assert sizes.sum() == 2000
    for name, stream in events.streams.items():
        empty = np.count_nonzero(stream.counts == 0)
        assert tokens[name].sum() == len(stream.values) + empty


def test_row_groups_are_read_alone_and_in_any_order(tmp_path):
    events = toy_events(1, 2000, 150)
    path = write_events(tmp_path, "unit-0", events, PLAIN, unit(), "unit-0")
    ends = np.cumsum(group_sizes(path, PLAIN)[0])
    found = list(read_groups(PLAIN, ["jet2"], [(path, 3), (path, 1)]))
    for group, some in zip((3, 1), found, strict=True):
        expected = events.between(ends[group - 1], ends[group])
        np.testing.assert_array_equal(some.event_id, expected.event_id)
        np.testing.assert_array_equal(some.streams["jet2"].values, expected.streams["jet2"].values)
        assert not some.observables


def test_parts_that_take_turns_are_opened_once(tmp_path, monkeypatch):
    for seed, name in enumerate("ab"):
        events = toy_events(seed, 2000, 150)
        write_events(tmp_path, name, events, PLAIN, unit(), name)
    merge(tmp_path)
    dataset = Dataset.open(tmp_path)
    assert len(dataset.groups) == 8
    opened = []
    original = pq.ParquetFile

    def counted(path, **options):
        opened.append(path)
        return original(path, **options)

    monkeypatch.setattr(pq, "ParquetFile", counted)
    found = list(dataset.read_groups([0, 4, 1, 5, 2, 6], ["jet2"]))
    assert [len(events) for events in found] == dataset.groups.events[[0, 4, 1, 5, 2, 6]].tolist()
    assert len(opened) == 2


def test_a_merge_ends_though_parts_keep_coming(tmp_path, monkeypatch):
    write(tmp_path, "a")
    original = type(read_manifest_of(tmp_path)).to_json
    names = iter(f"late{number}" for number in range(1000))

    def slow(self):
        write(tmp_path, next(names))
        return original(self)

    monkeypatch.setattr("manyscale.data.manifest.Manifest.to_json", slow)
    merge(tmp_path)
    assert len(read_manifest(tmp_path).parts) < 20
    monkeypatch.undo()
    merge(tmp_path)
    assert verify(tmp_path) == ()


def test_columns_that_only_one_part_has_are_named(tmp_path):
    write(tmp_path, "a")
    first, *others = PLAIN.streams
    fewer = first.model_copy(update={"columns": first.columns[:-1]})
    schema = PLAIN.model_copy(update={"streams": (fewer, *others)})
    write_events(tmp_path, "b", no_events(schema), schema, unit(), "b")
    says = rf"only .*a\.parquet has jet1\.{first.columns[-1]}$"
    with pytest.raises(DataError, match=says):
        merge(tmp_path)


def test_sizes_of_a_damaged_part_name_it(tmp_path):
    path = write(tmp_path, "unit-0")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"unit-0\.parquet is damaged"):
        group_sizes(path, PLAIN)
    path.unlink()
    with pytest.raises(DataError, match=r"unit-0\.parquet is missing"):
        group_sizes(path, PLAIN)


def test_a_part_made_anew_without_its_dataset_json_is_incomplete_not_damaged(tmp_path):
    """As where `generate` was killed that replaced a short unit by a longer one."""
    again = f"manyscale generate CARD --out {tmp_path}"
    units = tuple(SourceUnit(parts=(f"unit-{i}",), what=f"hh4b, its unit {i}") for i in range(3))
    source = Source(name="generate", again=again, whole=False, units=units)
    with collecting(tmp_path, [source], shared=False):
        write(tmp_path, "unit-0")
        write(tmp_path, "unit-1", seed=2)
    merge(tmp_path)
    assert Dataset.open(tmp_path).notices[0] == (
        f"1 of 3 units of the dataset {tmp_path} are missing; `{again}` makes them"
    )
    path = write(tmp_path, "unit-0", events=40)
    with pytest.raises(DataError, match=rf"incomplete: its part unit-0.*`{again}` completes it"):
        Dataset.open(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    with pytest.raises(DataError, match=rf"unit-0\.parquet has .* damaged.*`{again}` makes it"):
        Dataset.open(tmp_path)
    path.write_bytes(whole)
    merge(tmp_path)
    assert len(Dataset.open(tmp_path)) == 60
