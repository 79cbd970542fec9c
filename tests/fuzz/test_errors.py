"""Every kind of bad input that the project knows has its row in docs/errors.md, with what is said of it."""

import io
import math
import re
import resource
import zipfile
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from numpy.lib import format as npy_format

import manyscale as ms
from helpers.commands import toy_card, toy_dataset, toy_npz, write_parts
from helpers.generator_files import hepmc_event, hepmc_text, lhe_event, lhe_text
from helpers.networks import network_of
from helpers.ntuple_files import write_tree
from helpers.toys import SCHEMA, toy_events
from helpers.training import trained
from manyscale.card import load_card, parse_card
from manyscale.checksums import write_checksums
from manyscale.data.dataset import Dataset
from manyscale.data.npz import read_npz_events
from manyscale.deployment.bundle import PRETRAINED, load_bundle, save_bundle
from manyscale.deployment.predict import Alignment
from manyscale.deployment.scores import read_scores
from manyscale.evaluation.results import Metrics, read_history
from manyscale.evaluation.trees import Trees
from manyscale.events.files.formats import expand, of_one_format
from manyscale.model.classifier import MultiScaleClassifier
from manyscale.runs.evaluate import evaluate_run
from manyscale.runs.folder import RunFolder
from manyscale.runs.inspect import inspect_path
from manyscale.runs.limits import limits_run
from manyscale.runs.predict import predict_run
from manyscale.runs.train import train_run
from manyscale.schema import Schema
from manyscale.settings import read_json
from manyscale.training import checkpoint

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"
DEEP = "[" * 100_000


def _npz(path, shape, header=None, data=b""):
    """An npz of one array whose header says what it likes."""
    file = io.BytesIO()
    described = {"descr": "<f8", "fortran_order": False, "shape": shape}
    npy_format.write_array_header_1_0(file, described)
    content = file.getvalue() if header is None else header
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("arr_0.npy", content + data)


def _read(path):
    toy_npz(path.with_name("good.npz"), 20, signal=False)
    ms.read_npz(signal=path, background=path.with_name("good.npz"))


def cut_npz(folder):
    path = toy_npz(folder / "s.npz", 20, signal=True)
    path.write_bytes(path.read_bytes()[:100])
    _read(path)


def pickled(folder):
    np.savez(folder / "s.npz", np.array([[["a", {}]]], object))
    _read(folder / "s.npz")


def claims_events(folder):
    _npz(folder / "s.npz", (10**11, 2, 3), data=b"x" * 50)
    _read(folder / "s.npz")


def claims_no_tokens(folder):
    _npz(folder / "s.npz", (10**12, 0, 3))
    _read(folder / "s.npz")


def header_of_nonsense(folder):
    text = b"{'descr': '<f8', (((\n"
    head = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text
    _npz(folder / "s.npz", (), header=head)
    _read(folder / "s.npz")


def deep_manifest(folder):
    data = toy_dataset(folder / "data", events=20)
    (data / "dataset.json").write_text(DEEP, encoding="utf-8")
    Dataset.open(data)


def part_elsewhere(folder):
    data = toy_dataset(folder / "data", events=20)
    text = (data / "dataset.json").read_text(encoding="utf-8")
    (data / "dataset.json").write_text(text.replace("parts/hh4b", "../../hh4b"), encoding="utf-8")
    Dataset.open(data)


def flipped_part(folder):
    data = toy_dataset(folder / "data", events=20)
    path = min((data / "parts").glob("*.parquet"))
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    path.write_bytes(content)
    Dataset.open(data).events()


def large_weights(folder):
    events = toy_events(1, events=20)
    events = replace(events, weight=np.full(20, 1e308))
    data = Dataset.open(write_parts(folder / "data", SCHEMA, events))
    data.train.balance.weights(data.train.bookkeeping())


def unknown_key(folder):
    parse_card("trainin: {epochs: 3}", "card.yaml")


def alias_bomb(folder):
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    parse_card("\n".join(lines), "card.yaml")


def deep_card(folder):
    parse_card(DEEP, "card.yaml")


def tagged_card(folder):
    parse_card("seed: !!python/object/apply:os.system [id]", "card.yaml")


def binary_card(folder):
    (folder / "card.yaml").write_bytes(b"\xff\xfe\x00")
    load_card(folder / "card.yaml")


def cut_hdf5(folder):
    path = folder / "events.h5"
    with h5py.File(path, "w") as file:
        file["events/pt"] = np.ones(1000)
    path.write_bytes(path.read_bytes()[:3000])
    inspect_path(path)


def loose_particle(folder):
    """pyhepmc followed a null pointer here, and ended the process."""
    event = hepmc_event([(211, 1, None, (50.0, 0.0, 1.0, 51.0))])
    text = hepmc_text(folder / "a", [event], "HepMC2")
    (folder / "events.hepmc").write_bytes(re.sub(rb"\nV [^\n]*", b"", text))
    inspect_path(folder / "events.hepmc")


def cut_lhe(folder):
    (folder / "events.lhe").write_bytes(lhe_text([lhe_event(), lhe_event()])[:-60])
    inspect_path(folder / "events.lhe")


def cut_root(folder):
    path = folder / "events.root"
    write_tree(path, "Events", {"x": np.ones(1000)})
    path.write_bytes(path.read_bytes()[:500])
    inspect_path(path)


def two_formats(folder):
    toy_npz(folder / "a.npz", 5, signal=True)
    (folder / "b.csv").write_text("pt,eta\n1,2\n", encoding="utf-8")
    of_one_format([str(folder / "a.npz"), str(folder / "b.csv")])


def unequal_npz(folder):
    files = {
        n: toy_npz(folder / f"{n}.npz", 9 + len(n), signal=True) for n in ("jet1", "kinematics")
    }
    ms.read_npz(signal=files, background=files)


def not_finite(folder):
    values = np.ones((4, 2, 3))
    values[2, 1, 0] = np.nan
    np.savez(folder / "s.npz", values)
    _read(folder / "s.npz")


def one_class(folder):
    events = toy_events(1, events=20)
    data = Dataset.open(
        write_parts(folder / "data", SCHEMA, events.take(np.flatnonzero(events.label)))
    )
    data.require_classes()


def long_name(folder):
    toy_npz(folder / "a.npz", 5, signal=True)
    (folder / "files.txt").write_text(f"{folder}/a.npz\n{'x' * 5000}\n", encoding="utf-8")
    expand([str(folder / "files.txt")])


def binary_list(folder):
    toy_npz(folder / "a.npz", 5, signal=True)
    (folder / "files.txt").write_bytes(f"{folder}/a.npz\n".encode() + b"\xff\xfe")
    expand([str(folder / "files.txt")])


def no_pattern(folder):
    expand([f"{folder}/a**.npz"])


def cut_scores(folder):
    path = folder / "test.parquet"
    pq.write_table(pa.table({"score": np.ones(100)}), path)
    path.write_bytes(path.read_bytes()[:-20])
    read_scores(path)


def unnamed_scores(folder):
    path = folder / "test.parquet"
    pq.write_table(pa.table({"score": np.ones(100)}), path, compression="none")
    path.write_bytes(path.read_bytes().replace(b"score", b"\xffcore"))
    read_scores(path)


def endless_cell(folder):
    (folder / "history.csv").write_text(f"epoch\n{'1' * 200_000}\n", encoding="utf-8")
    read_history(folder / "history.csv")


def deep_metrics(folder):
    (folder / "metrics.json").write_text(DEEP, encoding="utf-8")
    Metrics.read(folder / "metrics.json")


def cut_weights(folder):
    save_bundle(folder / "model", network_of("model-1"))
    path = folder / "model" / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    load_bundle(folder / "model")


def newer_model(folder):
    save_bundle(folder / "model", network_of("model-1"))
    config = (folder / "model" / "config.json").read_text(encoding="utf-8")
    (folder / "model" / "config.json").write_text(
        config.replace('"format": ', '"format": 9').replace('"model"', '"net"'), encoding="utf-8"
    )
    write_checksums(folder / "model")
    load_bundle(folder / "model")


def changed_trees(folder):
    (folder / "trees.txt").write_text("tree", encoding="utf-8")
    write_checksums(folder)
    (folder / "trees.txt").write_text("treE", encoding="utf-8")
    Trees.load(folder / "trees.txt")


def full_disk(folder):
    card = load_card(toy_card(folder))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        train_run(card, folder / "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        left = {path.name for path in (folder / "run").rglob("*")}
        assert not [name for name in left if ".tmp" in name or name == ".lock"]


def taken_folder(folder):
    (folder / "thesis.tex").write_text("mine", encoding="utf-8")
    with RunFolder(folder).claimed(resume=True):
        pass


def second_process(folder):
    with RunFolder(folder).locked(), RunFolder(folder).locked():
        pass


def damaged_checkpoints(folder):
    run = RunFolder(folder)
    trained(run, epochs=1)
    for path in checkpoint.saved(run.checkpoints):
        path.write_bytes(b"cut short")
    trained(run, epochs=1)


def infinite_gradient(folder):
    trained(RunFolder(folder), epochs=1, learning_rate=1e30, clip=1e30)


def no_memory(folder):
    def forward(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MultiScaleClassifier, "forward", forward)
        trained(RunFolder(folder), epochs=1)


def other_columns(_):
    stream = SCHEMA.streams[2]
    fewer = stream.model_copy(update={"columns": stream.columns[:3]})
    Alignment(Schema(streams=(fewer,)), (stream,))


def other_array(folder):
    np.savez(folder / "s.npz", np.ones((5, 4, 3)))
    read_npz_events(folder / "s.npz", [network_of("model-1").extractor("jet1").stream])


def scores_over_events(folder):
    train_run(load_card(toy_card(folder)), folder / "run")
    predict_run(folder / "run", folder / "s.npz", folder / "s.npz")


def same_files_twice(folder):
    toy_npz(folder / "s.npz", 5, signal=True)
    ms.read_npz(signal=folder / "s.npz", background=folder / "s.npz")


def npy_file(folder):
    np.save(folder / "s.npy", np.ones((5, 2, 3)))
    (folder / "s.npy").rename(folder / "s.npz")
    _read(folder / "s.npz")


def base_as_model(_):
    load_bundle(PRETRAINED)


def not_trained(folder):
    RunFolder(folder).write_card("seed: 1")
    RunFolder.open(folder)


def no_cross_section(folder):
    train_run(load_card(toy_card(folder)), folder / "run")
    evaluate_run(folder / "run")
    limits_run(folder / "run")


def other_model(folder):
    save_bundle(folder / "model", network_of("model-1"))
    with (folder / "model" / "config.json").open("a", encoding="utf-8") as file:
        file.write(" ")
    inspect_path(folder / "model")


CASES = {
    "an npz cut short": cut_npz,
    "an npz with Python objects": pickled,
    "an npz that claims more than it can hold": claims_events,
    "an npz of any number of events without a token": claims_no_tokens,
    "an npz whose header is nonsense": header_of_nonsense,
    "dataset.json nested without end": deep_manifest,
    "dataset.json that names a file elsewhere": part_elsewhere,
    "a part of a dataset with a changed bit": flipped_part,
    "npz files of different numbers of events": unequal_npz,
    "a number that is none": not_finite,
    "events of one class alone": one_class,
    "event weights near the largest number": large_weights,
    "a key that no card has": unknown_key,
    "a few lines of YAML that stand for billions": alias_bomb,
    "a card nested without end": deep_card,
    "a card that asks for code to be run": tagged_card,
    "a card that is no text": binary_card,
    "an HDF5 file cut short": cut_hdf5,
    "a HepMC2 event with particles of no vertex": loose_particle,
    "a Les Houches file cut short": cut_lhe,
    "a ROOT file cut short": cut_root,
    "files of two formats": two_formats,
    "a list of files that is no text": binary_list,
    "a list with a name longer than any": long_name,
    "a pattern that is none": no_pattern,
    "scores cut short": cut_scores,
    "scores with a column whose name is no text": unnamed_scores,
    "history.csv with a cell without end": endless_cell,
    "metrics.json nested without end": deep_metrics,
    "weights of a model cut short": cut_weights,
    "a model of a newer manyscale": newer_model,
    "boosted trees with a changed byte": changed_trees,
    "a model folder with a changed file": other_model,
    "a base where a model is needed": base_as_model,
    "events without columns that the network takes": other_columns,
    "an npz of other columns than the network takes": other_array,
    "signal and background of one file": same_files_twice,
    "an array of numpy.save": npy_file,
    "scores written over their events": scores_over_events,
    "a run that is not trained to its end": not_trained,
    "events of unknown cross sections": no_cross_section,
    "a gradient that is not finite": infinite_gradient,
    "a batch too large for the memory": no_memory,
    "no room on the disk": full_disk,
    "a folder that holds something else": taken_folder,
    "a run that another process writes": second_process,
    "checkpoints that are all damaged": damaged_checkpoints,
}


def rows():
    text = PAGE.read_text(encoding="utf-8")
    return dict(re.findall(r"^\| (.+?) \| (?:`` |`)(.+?)(?: ``|`) \|$", text, re.MULTILINE))


@pytest.mark.parametrize("what", CASES)
def test_what_is_said_stands_in_the_docs(what, tmp_path):
    with pytest.raises(ms.ManyscaleError) as caught:
        CASES[what](tmp_path)
    said = str(caught.value).replace(f"{tmp_path}/", "").replace(str(tmp_path), "runs/first")
    pattern = re.escape(rows().get(what, "")).replace("…", ".*")
    assert re.fullmatch(pattern, said, re.DOTALL), f"| {what} | `{said}` |"


def test_a_number_that_no_double_holds_is_infinite(tmp_path):
    (tmp_path / "a.json").write_text("[1" + "0" * 400 + ", 12]", encoding="utf-8")
    assert read_json(tmp_path / "a.json") == [math.inf, 12]


def test_the_docs_name_no_other():
    assert list(rows()) == list(CASES)
