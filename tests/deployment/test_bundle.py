import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.toys import SCHEMA, toy_events
from manyscale.checksums import CHECKSUMS, changed_files, write_checksums
from manyscale.data.dataset import Dataset
from manyscale.deployment.bundle import load_bundle, save_bundle
from manyscale.deployment.predict import class_probabilities
from manyscale.errors import RunError
from manyscale.evaluation.trees import Trees
from manyscale.features.jet_frame import FrameSettings
from manyscale.model.classifier import MultiScaleClassifier
from manyscale.model.layers import StreamSettings
from manyscale.model.presets import resolve
from manyscale.runs.fit import fit_features

STREAMS = ("jet1", "jet2", "kinematics")


@pytest.fixture
def network():
    torch.manual_seed(1)
    streams = {"jet1": StreamSettings(max_tokens=5, width=8, encoder="jets", pair_bias=True)}
    streams["jet2"] = streams["jet1"]
    settings = resolve("model-2", ["jet1", "jet2", "kinematics"], streams)
    network = MultiScaleClassifier(settings, SCHEMA)
    fit_features(network, Dataset.from_events(SCHEMA, toy_events(0)))
    return network.eval()


def test_model_folder_scores_as_the_network_it_came_from(network, tmp_path):
    save_bundle(tmp_path / "model", network)
    bundle = load_bundle(tmp_path / "model")
    events = toy_events(3)
    np.testing.assert_array_equal(
        class_probabilities(bundle.network, events.streams),
        class_probabilities(network, events.streams),
    )
    assert bundle.streams == SCHEMA.streams


def test_jet_frame_is_kept_with_the_model(tmp_path):
    frame = FrameSettings(centre="pt", rotate="second", flip=True)
    streams = {"jet1": StreamSettings(width=8, encoder="jets", frame=frame)}
    streams["jet2"] = StreamSettings(width=8, encoder="jets")
    network = MultiScaleClassifier(resolve("model-2", list(STREAMS), streams), SCHEMA)
    fit_features(network, Dataset.from_events(SCHEMA, toy_events(0)))
    events = toy_events(3)
    expected = class_probabilities(network.eval(), events.streams)
    save_bundle(tmp_path / "model", network)
    loaded = load_bundle(tmp_path / "model").network
    np.testing.assert_array_equal(class_probabilities(loaded, events.streams), expected)
    assert loaded.settings.streams["jet1"].frame == frame
    described = json.loads((tmp_path / "model" / "features.json").read_text(encoding="utf-8"))
    framed = {entry["name"]: entry.get("frame") for entry in described["jet1"]}
    assert framed["delta_phi"] == {"centre": "pt", "rotate": "second", "flip": True}
    assert framed["log_pt"] is None
    assert not any("frame" in entry for entry in described["jet2"])

    # Centred on pT, the stored axis is no longer looked at.
    axis = events.streams["jet1"].axis.copy()
    axis[:, SCHEMA.stream("jet1").axis.index("jet_phi")] += 1
    turned = {**events.streams, "jet1": replace(events.streams["jet1"], axis=axis)}
    np.testing.assert_allclose(class_probabilities(loaded, turned), expected, atol=1e-5)


def test_same_network_gives_the_same_bytes(network, tmp_path):
    save_bundle(tmp_path / "a", network)
    save_bundle(tmp_path / "b", network)
    for name in ("weights.safetensors", "config.json", "features.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_labels_are_kept_where_they_are_not_0_and_1(network, tmp_path):
    save_bundle(tmp_path / "numbers", network)
    assert "labels" not in json.loads((tmp_path / "numbers" / "config.json").read_text("utf-8"))
    assert list(load_bundle(tmp_path / "numbers").labels) == [0, 1]
    save_bundle(tmp_path / "words", network, ["b", "s"])
    assert load_bundle(tmp_path / "words").labels == ["b", "s"]


def test_features_are_spelled_out(network, tmp_path):
    save_bundle(tmp_path / "model", network)
    described = json.loads((tmp_path / "model" / "features.json").read_text(encoding="utf-8"))
    assert [feature["name"] for feature in described["jet1"]] == list(
        network.extractor("jet1").names
    )
    assert all(feature["doc"] for features in described.values() for feature in features)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("config.json", "{", "cannot be read"),
        ("config.json", '{"format": 99}', "newer manyscale"),
        ("config.json", '{"format": 1}', "train it again"),
        ("config.json", '{"format": "1"}', "cannot be read"),
        ("weights.safetensors", "cut", "cannot be read"),
    ],
)
def test_damaged_model_folder_is_named(network, tmp_path, name, content, said):
    save_bundle(tmp_path / "model", network)
    (tmp_path / "model" / name).write_text(content)
    write_checksums(tmp_path / "model")
    with pytest.raises(RunError, match=said):
        load_bundle(tmp_path / "model")
    with pytest.raises(RunError, match="no model folder"):
        load_bundle(tmp_path)


def test_empty_input_gives_no_scores(network):
    nothing = toy_events(1).take(np.array([], np.int64))
    assert class_probabilities(network, nothing.streams).shape == (0, 2)


@pytest.mark.parametrize("name", ["weights.safetensors", "config.json"])
def test_a_flipped_bit_is_found_before_the_file_is_read(network, tmp_path, name):
    folder = tmp_path / "model"
    save_bundle(folder, network)
    assert changed_files(folder) == []
    content = bytearray((folder / name).read_bytes())
    content[-3] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(RunError, match=rf"{name} was damaged or changed"):
        load_bundle(folder)
    (folder / "README.md").unlink()
    (folder / "more.txt").write_text("")
    found = ["README.md is missing", "more.txt was added", f"{name} was damaged or changed"]
    assert changed_files(folder) == found


def test_damaged_trees_do_not_reach_lightgbm(tmp_path, monkeypatch):
    path = tmp_path / "trees.txt"
    path.write_text("tree")
    write_checksums(tmp_path)
    path.write_text("treE")
    monkeypatch.setattr("lightgbm.Booster", None)
    with pytest.raises(RunError, match=r"trees\.txt was damaged or changed"):
        Trees.load(path)


def test_folder_without_checksums_still_loads(network, tmp_path):
    save_bundle(tmp_path, network)
    (tmp_path / CHECKSUMS).unlink()
    write_checksums(tmp_path, "README.md")  # as a later evaluation does
    assert not (tmp_path / CHECKSUMS).exists()
    load_bundle(tmp_path)


def test_folder_of_version_0_1_scores_as_it_did_then():
    """Written by manyscale 0.1.0, with the scores of ten toy events in `scores.json` beside it."""
    stored = Path(__file__).with_name("stored")
    network = load_bundle(stored / "model").network
    assert changed_files(stored / "model") == []
    scores = class_probabilities(network, toy_events(7, events=10).streams)[:, 1]
    expected = json.loads((stored / "scores.json").read_text(encoding="utf-8"))
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    trees = Trees.load(stored / "model" / "trees.txt")
    assert trees.predict([[3.0]], ["x"])[0] > 0.5 > trees.predict([[-3.0]], ["x"])[0]
