"""Scores of a file that is no dataset: one row an entry, in its order, selected or not."""

import awkward as ak
import numpy as np
import pytest
import uproot

from manyscale.card import load_card
from manyscale.data.dataset import Dataset
from manyscale.deployment.scores import read_scores
from manyscale.runs.convert import convert_files
from manyscale.runs.train import whole_run

CARD = """
preset: model-1
data: {{dataset: {data}}}
streams: {{jets: {{layers: 1, width: 8, heads: 1}}}}
training: {{epochs: 1, batch_size: 64}}
evaluation: {{luminosity: null}}
convert:
  branches: {{jets: {{pt: jet_pt, eta: jet_eta, phi: jet_phi}}}}
  process: {{signal: "is_signal == 1", background: "is_signal == 0"}}
  selection: "n_jets > 1"
  observables: {{run: run, half: "0.5 * n_jets"}}
  unit_events: 150
"""


# The first whole number that no float64 holds.
BEYOND = 2**53 + 1


def jets(path, seed, events=400):
    """Jets of signal and background, of which signal is harder."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 5, events)
    signal = rng.integers(0, 2, events)
    pt = rng.exponential(50 + 50 * np.repeat(signal, counts)) + 20
    columns = {
        "jet_pt": pt,
        "jet_eta": rng.normal(0, 1, len(pt)),
        "jet_phi": rng.uniform(-3, 3, len(pt)),
    }
    with uproot.recreate(path) as file:
        file["events"] = {
            **{
                name: ak.unflatten(values.astype(np.float32), counts)
                for name, values in columns.items()
            },
            "n_jets": counts.astype(np.int32),
            "is_signal": signal.astype(np.int32),
            "run": np.arange(events, dtype=np.int64) + BEYOND,
        }
    return counts, signal


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a card and its finished run."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "card.yaml").write_text(CARD.format(data=folder / "data"))
    jets(folder / "train.root", 1)
    card = folder / "card.yaml"
    convert_files([str(folder / "train.root")], folder / "data", card=card, workers=1)
    whole_run(load_card(card), folder / "run", plots=False)
    return folder


def test_rows_are_those_of_the_file(type_, trained, tmp_path):
    counts, signal = jets(tmp_path / "new.root", 2)
    done = type_(f"predict {trained}/run new.root --out scores.parquet")
    columns = read_scores(tmp_path / "scores.parquet").columns
    selected = counts > 1
    assert np.array_equal(columns["selected"], selected)
    assert np.array_equal(np.isnan(columns["score"]), ~selected)
    assert np.array_equal(columns["label"][selected], signal[selected])
    assert (columns["label"][~selected] == -1).all()
    names = np.where(signal, "signal", "background")
    assert np.array_equal(columns["process"], np.where(selected, names, ""))
    assert columns["run"].dtype == np.int64
    assert np.array_equal(columns["run"], np.where(selected, BEYOND + np.arange(400), 0))
    assert np.array_equal(columns["half"][selected], 0.5 * counts[selected])
    assert np.isnan(columns["half"][~selected]).all()
    assert len(np.unique(columns["event_id"])) == 400
    assert "scores of 400 events" in done.out


def test_scores_are_those_of_the_converted_dataset(type_, trained, tmp_path):
    jets(tmp_path / "new.root", 2)
    type_(f"convert new.root --card {trained}/card.yaml --out new --workers 1")
    for source, target in (("new.root", "file.npz"), ("new", "dataset.npz")):
        type_(f"predict {trained}/run {source} --out {target}")
    file, dataset = (np.load(name) for name in ("file.npz", "dataset.npz"))
    assert len(dataset["score"]) == len(Dataset.open(tmp_path / "new"))
    place = {number: at for at, number in enumerate(file["event_id"].tolist())}
    order = [place[number] for number in dataset["event_id"].tolist()]
    for name in ("score", "score_trees", "score_combined"):
        assert np.abs(file[name][order] - dataset[name]).max() < 1e-6
    for name in ("process", "split"):
        assert np.array_equal(file[name][order], dataset[name])
    assert set(dataset["split"]) == {"train", "validation", "test"}


@pytest.fixture
def measured(tmp_path):
    """A file of measured events, which nobody knows the class of; of further columns, as given."""

    def write(**more):
        pt = ak.Array([[50.0, 40.0], [30.0], [200.0, 20.0, 20.0]])
        with uproot.recreate(tmp_path / "measured.root") as file:
            file["events"] = {
                **dict.fromkeys(("jet_pt", "jet_eta", "jet_phi"), ak.values_astype(pt, np.float32)),
                "n_jets": np.array([2, 1, 3], np.int32),
                "run": np.arange(3),
                **more,
            }

    return write


def test_measured_events_have_no_label(type_, trained, tmp_path, measured):
    measured()
    done = type_(f"predict {trained}/run measured.root --out scores.parquet")
    columns = read_scores(tmp_path / "scores.parquet").columns
    assert columns["selected"].tolist() == [True, False, True]
    assert {"label", "process"}.isdisjoint(columns)
    assert "no labels: " in done.err
    assert "no branch 'is_signal', which convert.process.signal" in " ".join(done.err.split())


def test_what_is_wrong_with_a_label_is_said(type_, trained, measured):
    measured(is_signal=ak.Array([[1], [0, 1], []]))
    done = type_(f"predict {trained}/run measured.root --out scores.parquet", code=1)
    assert "convert.process.signal: 'is_signal == 1' gives a list an event" in done.err


def test_a_file_that_lacks_what_the_network_wants(type_, trained, tmp_path):
    with uproot.recreate(tmp_path / "other.root") as file:
        file["events"] = {"n_jets": np.ones(5, np.int32)}
    assert "jet_pt" in type_(f"predict {trained}/run other.root --out scores.npz", code=1).err
    assert not (tmp_path / "scores.npz").exists()


def test_a_friend_has_the_entries_of_its_files_in_their_order(type_, trained, tmp_path):
    """Two workers, two files; what ROOT's AddFriend asks of a tree: as many entries, in their order."""
    jets(tmp_path / "a.root", 3, events=301)
    counts = np.concatenate([jets(tmp_path / f"{name}.root", seed, events=301)[0]
                             for name, seed in (("b", 4), ("a", 3))])  # fmt: skip
    type_(f"predict {trained}/run b.root a.root --out friend.root --friend-of --workers 2")
    type_(f"predict {trained}/run a.root --out alone.root --workers 1")
    friend = uproot.open("friend.root:scores")
    names = ["event_id", "score", "score_trees", "score_combined", "selected", "split"]
    assert friend.keys() == names
    assert friend.num_entries == 602
    assert np.array_equal(friend["selected"].array(library="np"), counts > 1)
    alone = uproot.open("alone.root:scores").arrays(names, library="np")
    for name, values in friend.arrays(library="np").items():
        assert np.array_equal(values[301:], alone[name], equal_nan=values.dtype.kind == "f")


def test_a_friend_is_one_of_root_files(type_, trained, tmp_path):
    jets(tmp_path / "a.root", 3, events=10)
    command = f"predict {trained}/run {{}} --out {{}} --friend-of"
    for source, out in (("a.root", "scores.npz"), (f"{trained}/data", "scores.root")):
        assert "not both ROOT files" in type_(command.format(source, out), code=1).err
