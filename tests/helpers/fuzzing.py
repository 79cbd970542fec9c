"""Damaged and hostile files: good ones, ways to spoil them, and what reads them."""

import json
import shutil
import signal
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import manyscale as ms
from helpers.commands import toy_dataset, toy_npz
from helpers.generator_files import hepmc_event, hepmc_text, lhe_event, lhe_text
from helpers.ntuple_files import cms_like, write_hdf5, write_parquet, write_tree
from manyscale.card import load_card, preset_card_text
from manyscale.checksums import CHECKSUMS
from manyscale.data.dataset import Dataset
from manyscale.deployment.bundle import load_bundle
from manyscale.deployment.scores import read_scores
from manyscale.evaluation.results import DataFacts, read_history
from manyscale.events.files.formats import expand
from manyscale.model.summary import Summary
from manyscale.reporting.report import write_report
from manyscale.runs.convert import Request, convert_files
from manyscale.runs.inspect import inspect_path

SECONDS = 10

CARD = """
preset: kinematics-only
convert:
  tree: Events
  branches: {jets: {pt: Jet_pt, eta: Jet_eta, phi: Jet_phi}, missing: {pt: MET_pt, phi: MET_phi}}
  weight: genWeight
"""


def _converted(path, place, *, card=None):
    convert_files([str(path)], place / "out", Request(label="signal"), card=card, workers=1)
    Dataset.open(place / "out").events()


def _all_events(folder):
    data = Dataset.open(folder)
    data.events()
    data.train.balance.weights(data.train.bookkeeping())


def _jet(energy):
    return [(211, 1, None, (energy, 0.0, 1.0, energy + 1)), (22, 1, 0, (-energy, 0.0, 2.0, energy))]


def good_files(root, run):
    """Make a good file of each kind; say which file of which folder it is and what reads it.

    Returns
    -------
    By kind: folder, name of the file in it, and a function of a copy of the folder and a place for
    its output.
    """
    npz = root / "npz"
    npz.mkdir()
    for name in ("s", "b"):
        toy_npz(npz / f"{name}.npz", 20, name == "s")
    toy_dataset(root / "toys", events=30)
    part = next((root / "toys" / "parts").glob("*.parquet")).name
    rng = np.random.default_rng(1)
    branches = cms_like(rng, 12)
    one = root / "one"
    one.mkdir()
    write_hdf5(one / "a.h5", "Events", branches)
    write_parquet(one / "a.parquet", "", branches)
    write_tree(one / "a.root", "Events", branches)
    (one / "map.yaml").write_text(CARD, encoding="utf-8")
    (one / "card.yaml").write_text(preset_card_text("model-2"), encoding="utf-8")
    (one / "list.txt").write_text("a.h5\n# more\n*.parquet\n", encoding="utf-8")
    for kind in ("HepMC2", "HepMC3"):
        hepmc_text(one / f"a.{kind}", [hepmc_event(_jet(50.0 + n), n) for n in range(4)], kind)
    (one / "a.lhe").write_bytes(lhe_text([lhe_event(), lhe_event(2.0)]))
    scores = {"event_id": np.arange(20, dtype=np.uint64), "score": rng.uniform(size=20)}
    pq.write_table(pa.table(scores), one / "scores.parquet")

    def mapped(name):
        return lambda copy, out: _converted(copy / name, out, card=copy / "map.yaml")

    def of_run(name, read):
        return run, name, lambda copy, _: read(copy / name)

    def of_report(name):
        return run, name, lambda copy, _: write_report(copy)

    return {
        "npz": (npz, "s.npz", lambda copy, _: ms.read_npz(
            signal={"jet1": copy / "s.npz"}, background={"jet1": copy / "b.npz"}).events()),
        "part": (root / "toys", f"parts/{part}", lambda copy, _: _all_events(copy)),
        "dataset.json": (root / "toys", "dataset.json", lambda copy, _: _all_events(copy)),
        "HDF5": (one, "a.h5", mapped("a.h5")),
        "Parquet": (one, "a.parquet", mapped("a.parquet")),
        "ROOT": (one, "a.root", mapped("a.root")),
        "HepMC2": (one, "a.HepMC2", lambda copy, out: _converted(copy / "a.HepMC2", out)),
        "HepMC3": (one, "a.HepMC3", lambda copy, out: _converted(copy / "a.HepMC3", out)),
        "LHE": (one, "a.lhe", lambda copy, _: inspect_path(copy / "a.lhe")),
        "list": (one, "list.txt", lambda copy, _: expand([str(copy / "list.txt")])),
        "card": (one, "card.yaml", lambda copy, _: load_card(copy / "card.yaml")),
        "scores": (one, "scores.parquet", lambda copy, _: read_scores(copy / "scores.parquet")),
        "safetensors": (run, "model/weights.safetensors", lambda copy, _: load_bundle(copy / "model")),
        "config.json": (run, "model/config.json", lambda copy, _: load_bundle(copy / "model")),
        "data.json": of_run("data.json", DataFacts.read),
        "summary.json": of_run("summary.json", Summary.read),
        "history.csv": of_run("history.csv", read_history),
        "metrics.json": of_report("metrics.json"),
        "plot.csv": of_report("plots/roc.csv"),
    }  # fmt: skip


# What some parsers stumble over.
_WORDS = [
    b"1e400", b"-1", b"nan", b"1e308", b"99999999999999999999", b"null", b"[]", b"{}", b'""', b"<", b">",
    b"&", b"*", b"\x1b[2J", b"\x00", b"\xff\xfe", b"\n", b"\r", b"'", b'"', b"../../x", b"!!python/name:os",
]  # fmt: skip


def spoil(content, rng):
    """Spoil the content of a file in one of several ways, sometimes in several."""
    data = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        at = int(rng.integers(0, max(1, len(data))))
        length = int(rng.integers(1, 40))
        match rng.integers(0, 8):
            case 0:  # cut short
                del data[at:]
            case 1:  # a bit
                if data:
                    data[at] ^= 1 << int(rng.integers(0, 8))
            case 2:  # some bytes
                data[at : at + length] = rng.bytes(length)
            case 3:  # a part is missing
                del data[at : at + length]
            case 4:  # or there twice
                data[at:at] = data[at : at + 10 * length]
            case 5:  # a word in the place of another
                data[at : at + int(rng.integers(0, 6))] = _WORDS[rng.integers(len(_WORDS))]
            case 6:  # deep nesting
                data[at:at] = [b"[", b"{", b'{"a":', b"- "][rng.integers(4)] * 20000
            case _:  # large numbers in binary
                data[at : at + 8] = int(
                    rng.choice([2**31 - 1, 2**32 - 1, 2**62, 2**63 - 1])
                ).to_bytes(8, "little")
    return bytes(data)


def spoil_json(content, rng):
    """Put another value in the place of one."""
    whole = json.loads(content)
    places = []

    def walk(value):
        for key in value if isinstance(value, dict) else range(len(value)):
            places.append((value, key))
            if isinstance(value[key], dict | list):
                walk(value[key])

    walk(whole)
    holder, key = places[rng.integers(len(places))]
    others = [None, -1, 10**400, 1e308, "x", "\x1b[2J<&'\"", "../../x", [], {}, [[1]], True, 0]
    holder[key] = others[rng.integers(len(others))]
    return json.dumps(whole).encode()


@contextmanager
def in_time(seconds=SECONDS):
    """Raise where the block takes more of a core's time."""

    def late(*_):
        raise TimeoutError(f"longer than {seconds} s")

    before = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def try_one(kind, number, files, place):
    """Spoil a file and read it; return what was said of it, None where it was accepted.

    That of number -1 is left as it is.

    Raises whatever is no ManyscaleError.
    """
    folder, name, read = files[kind]
    rng = np.random.default_rng([abs(number), sum(kind.encode())])
    shutil.rmtree(place, ignore_errors=True)
    copy = place / "copy"
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("checkpoints", "*.pdf", "*.svg"))
    content = (folder / name).read_bytes()
    as_json = name.endswith(".json") and number % 2
    if number >= 0:
        (copy / name).write_bytes((spoil_json if as_json else spoil)(content, rng))
    if number % 4 < 2:  # else a changed file is refused unread
        (copy / "model" / CHECKSUMS).unlink(missing_ok=True)
    before = {path for path in copy.rglob("*") if path.name != "report.html"}
    try:
        with in_time():
            read(copy, place)
    except ms.ManyscaleError as error:
        said = str(error)
    else:
        said = None
    after = {path for path in copy.rglob("*") if path.name != "report.html"}
    if after != before or {path.name for path in place.iterdir()} - {"copy", "out"}:
        raise AssertionError(f"files outside the output: {after - before}")
    return said
