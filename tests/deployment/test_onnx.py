import json
import sys

import numpy as np
import pytest
import torch

from helpers.toys import SCHEMA, toy_events
from manyscale.data.npz import read_npz_events
from manyscale.deployment import onnx as module
from manyscale.deployment.bundle import Bundle
from manyscale.deployment.onnx import check_onnx_target, write_onnx
from manyscale.deployment.predict import class_probabilities
from manyscale.errors import DataError, MissingExtraError, RunError
from manyscale.features.jet_frame import FrameSettings
from manyscale.model.classifier import MultiScaleClassifier
from manyscale.model.layers import StreamSettings
from manyscale.model.padded import padded_array
from manyscale.model.presets import resolve

onnx = pytest.importorskip("onnx", reason="ONNX needs the extra deploy")
onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX needs the extra deploy")
pytest.importorskip("onnxscript", reason="ONNX needs the extra deploy")


def small_network():
    """An ensemble; two streams of different widths, one in a jet frame and with pair biases, one with positions."""
    torch.manual_seed(5)
    frame = FrameSettings(centre="pt", flip=True)
    streams = {
        "jet1": StreamSettings(width=6, layers=1, max_tokens=6, frame=frame, pair_bias=True),
        "kinematics": StreamSettings(width=4, layers=1, max_tokens=3, positions=True),
    }
    settings = resolve("model-2", list(streams), streams).model_copy(update={"members": 2})
    network = MultiScaleClassifier(settings, SCHEMA)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return Bundle(network.eval(), tuple(SCHEMA.stream(name) for name in streams))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A network, where it stands as ONNX, and what runs it."""
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    path.write_text("an older one")
    bundle = small_network()
    assert write_onnx(path, bundle, [toy_events(4, events=20).streams]) < 1e-5
    assert list(path.parent.iterdir()) == [path]
    return bundle, path, onnxruntime.InferenceSession(path)


@pytest.mark.parametrize(("events", "longest"), [(1, 1), (1, 12), (7, 0), (1000, 30)])
def test_any_number_of_events_and_tokens_scores_as_the_network(written, events, longest):
    bundle, _, session = written
    streams = toy_events(events + longest, events=events, longest=longest).streams
    arrays = {of.name: padded_array(of, streams[of.name]) for of in bundle.streams}
    expected = class_probabilities(bundle.network, streams)
    np.testing.assert_allclose(session.run(None, arrays)[0], expected, atol=1e-5)
    # More padding, some of it between the tokens, changes nothing.
    rng = np.random.default_rng(1)
    spread = {}
    for name, array in arrays.items():
        wide = np.zeros((events, 2 * array.shape[1] + 3, array.shape[2]), np.float32)
        place = np.sort(rng.permutation(wide.shape[1])[: array.shape[1]])
        wide[:, place] = array
        spread[name] = wide
    np.testing.assert_allclose(session.run(None, spread)[0], expected, atol=1e-5)
    read = read_npz_events(spread, bundle.streams).streams
    np.testing.assert_allclose(class_probabilities(bundle.network, read), expected, atol=1e-5)


def test_inputs_and_metadata_say_what_the_model_takes(written):
    bundle, path, session = written
    inputs = {of.name: (of.type, of.shape[2]) for of in session.get_inputs()}
    assert inputs == {of.name: ("tensor(float)", len(of.all_columns)) for of in bundle.streams}
    assert all(isinstance(size, str) for of in session.get_inputs() for size in of.shape[:2])
    about = session.get_modelmeta().custom_metadata_map
    assert json.loads(about["classes"]) == ["background", "signal"]
    streams = json.loads(about["streams"])
    assert streams["jet1"]["max_tokens"] == 6
    assert streams["jet1"]["columns"][0] == {"name": "pt", "unit": "GeV"}
    features = [one["name"] for one in json.loads(about["features"])["jet1"]]
    assert features == list(bundle.network.extractor("jet1").names)
    assert str(path.parent).encode() not in path.read_bytes()
    assert b".py" not in path.read_bytes()


def test_a_model_that_scores_otherwise_is_not_written(written, tmp_path, monkeypatch):
    bundle, path, _ = written
    monkeypatch.setattr(module, "_exported", lambda _: onnx.load(path))
    with torch.no_grad():
        bias = bundle.network.head.layers[-1].bias
        bias += torch.tensor([0.1, 0.0])
        with pytest.raises(RunError, match="other probabilities than the network"):
            write_onnx(tmp_path / "model.onnx", bundle, [toy_events(1, events=5).streams])
        bias -= torch.tensor([0.1, 0.0])
    assert list(tmp_path.iterdir()) == []


def test_wrong_targets_are_refused_before_any_work(tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"must end in \.onnx"):
        check_onnx_target(tmp_path / "model.pt")
    with pytest.raises(DataError, match="there is no folder"):
        check_onnx_target(tmp_path / "nowhere" / "model.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"manyscale\[deploy\]"):
        check_onnx_target(tmp_path / "model.onnx")
