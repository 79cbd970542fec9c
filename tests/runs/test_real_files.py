"""Real files of each format, as a user converts them, trains on them and scores them."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from manyscale.data.dataset import Dataset

DATA = Path(__file__).parents[3] / "shared" / "data"
NANO = ("root/cms_pfnano.root", "delphes/cms_nanoaod_v15_tt_200ev.root")
CARD = """
preset: model-2
data: {dataset: data}
training: {epochs: 1, batch_size: 64}
evaluation: {luminosity: null}
generate:
  events: 150
  multiparton: false
  processes: {qcd_bb: {}}
  cuts: {leading_pt: 20, second_pt: 10, max_eta: 5}
"""
# Events of each file, and how many have two fat jets; of LHE, more than that.
FILES = {
    "delphes/delphes_ttbar_10ev_issue513.root": (10, 10),
    "root/cms_pfnano.root": (10, 10),
    "delphes/cms_nanoaod_v15_tt_200ev.root": (200, 20),
    "hepmc/hepmc2_1ev.hepmc": (1, 1),
    "hepmc/hepmc3_epos_pp_1ev.dat": (1, 1),
    "lhe/madgraph5_pp_jj_1000ev.lhe.gz": (1000, 700),
}


# What each file gave when last recorded, by `fingerprint`: a change is a fix, named in its commit.
RECORDED = Path(__file__).with_name("real_files.json")


def fingerprint(data):
    """Event ids and multiplicities exactly; sums of all numbers, which rounding changes little."""
    events, (process,) = data.events(), data.schema.processes
    exact = [events.event_id, *(stream.counts for stream in events.streams.values())]
    sums = {
        f"{name}.{column}": float(np.abs(values, dtype=np.float64).sum())
        for name, stream in events.streams.items()
        for column, values in [
            *zip(data.schema.stream(name).columns, stream.values.T, strict=True),
            *zip(data.schema.stream(name).axis, stream.axis.T, strict=True),
        ]
    }
    sums |= {name: float(np.nansum(values)) for name, values in events.observables.items()}
    sums |= {name: float(values.sum()) for name, values in events.weights.items()}
    counted = process.model_dump(exclude={"name", "label", "cutflow"})
    return {
        "exact": hashlib.blake2b(
            b"".join(map(np.ndarray.tobytes, exact)), digest_size=8
        ).hexdigest(),
        "sums": {**sums, "weight": float(events.weight.sum())},
        "process": {key: value for key, value in counted.items() if value is not None},
        "cutflow": {step.step: [step.events, step.sum_weights] for step in process.cutflow},
    }


@pytest.fixture(autouse=True)
def card(tmp_path):
    """The card, in the folder in which commands are typed."""
    (tmp_path / "card.yaml").write_text(CARD)


def real(name):
    """A real file, where it is."""
    path = DATA / name
    if not path.is_file():
        pytest.skip(f"there is no {path}")
    return path


@pytest.mark.parametrize("name", FILES)
def test_real_file_is_converted_and_read_back(name, type_):
    path, (entries, pairs) = real(name), FILES[name]
    assert f"{entries:,} events" in type_(f"inspect {path}").out
    type_(f"convert {path} --card card.yaml --process ttbar --out data --workers 1")
    data = Dataset.open("data")
    (process,) = data.schema.processes
    assert process.generated == entries
    assert len(data) == process.cutflow[-1].events
    assert len(data) == pairs if "lhe" not in name else len(data) > pairs
    events = data.events()
    assert len(np.unique(events.event_id)) == len(data)
    for stream in events.streams.values():
        assert np.isfinite(stream.values).all()
    recorded = json.loads(RECORDED.read_text("utf-8"))[name]
    found = fingerprint(data)
    assert found["exact"] == recorded.pop("exact")
    for part, values in recorded.items():
        assert found[part].keys() == values.keys()
        for key, value in values.items():
            assert found[part][key] == pytest.approx(value, rel=1e-5, abs=1e-6), key
    type_("inspect data --verify")


def test_the_damaged_file_is_refused(type_):
    path = real("hepmc/hepmc3_broken.dat")
    assert "event 0" in type_(f"convert {path} --process qcd --out data", code=1).err
    assert not Path("data").exists()


def test_nanoaod_as_signal_against_generated_background(type_):
    paths = [real(name) for name in NANO]
    pytest.importorskip("manyscale.events.generate")
    type_("generate card.yaml --out data --workers 1")
    for path in paths:
        type_(f"convert {path} --card card.yaml --label signal --out data")
    type_("train card.yaml --out run")
    for name, path in zip(NANO, paths, strict=True):
        type_(f"predict run {path} --out scores.npz")
        scores = np.load("scores.npz")
        entries, pairs = FILES[name]
        assert len(scores["score"]) == entries
        assert scores["selected"].sum() == pairs
        assert np.isfinite(scores["score"][scores["selected"]]).all()
