import pickle
import sys
import types
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import check_estimator

import manyscale as ms
from helpers.toys import SCHEMA, toy_events
from manyscale.data.dataset import Dataset
from manyscale.progress import LOG


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(0)
    labels = np.arange(160) % 2
    X = rng.normal(size=(160, 5, 3)) + labels[:, None, None]
    X[rng.random((160, 5)).cumsum(1) > 3] = 0
    return X, labels


def small(**settings):
    return ms.Classifier(**{"preset": "model-1", "epochs": 3, "batch_size": 32, **settings})


def test_rules_of_scikit_learn(arrays):
    X, y = arrays
    model = small(seed=5)
    assert clone(model).get_params() == model.get_params()
    assert model.set_params(epochs=2) is model
    with pytest.raises(NotFittedError):
        model.predict(X)
    assert model.fit(X, y) is model
    assert model.classes_.tolist() == [0, 1]
    p = model.predict_proba(X)
    assert p.shape == (160, 2)
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-6)
    assert model.score(X, y) > 0.7
    assert cross_val_score(small(), X, y, cv=2).shape == (2,)


def test_pipeline_grid_search_and_pickle_keep_the_scores(arrays):
    X, y = arrays
    pipeline = make_pipeline(FunctionTransformer(), small(epochs=1))
    search = GridSearchCV(pipeline, {"classifier__learning_rate": [1e-3, 1e-2]}, cv=2).fit(X, y)
    again = pickle.loads(pickle.dumps(search))  # noqa: S301 - our own
    np.testing.assert_array_equal(again.predict_proba(X), search.predict_proba(X))
    assert again.best_params_ == search.best_params_
    assert again.best_estimator_[-1].history_ == search.best_estimator_[-1].history_


def test_labels_may_be_any_two_values(arrays, tmp_path):
    X, y = arrays
    names = np.where(y == 1, "signal", "background")
    model = small().fit(X, names)
    assert model.classes_.tolist() == ["background", "signal"]
    assert set(model.predict(X)) <= {"background", "signal"}
    np.testing.assert_array_equal(model.predict_proba(X), small().fit(X, y).predict_proba(X))
    model.save(tmp_path / "model")
    again = ms.Classifier.load(tmp_path / "model")
    np.testing.assert_array_equal(again.predict(X), model.predict(X))


def test_training_defaults_are_those_of_a_card():
    card, ours = ms.Card().training, ms.Classifier().get_params()
    for name in ("epochs", "batch_size", "learning_rate", "max_steps", "patience"):
        assert ours[name] == getattr(card, name)


def test_dataset_is_scored_chunk_by_chunk(monkeypatch):
    data = Dataset.from_events(SCHEMA, toy_events(1, events=120, learnable=True))
    clf = ms.Classifier(preset="kinematics-only", epochs=1).fit(data)
    whole = clf.predict_proba(data)
    monkeypatch.setattr("manyscale.deployment.predict.CHUNK", 50)
    unread = Dataset.from_events(SCHEMA, data.events())
    monkeypatch.setattr(Dataset, "events", None)
    np.testing.assert_allclose(clf.predict_proba(unread), whole, atol=1e-6)


#: Checks of scikit-learn that do not hold, and why; docs/python.md names them.
FAILING = {
    "check_sample_weight_equivalence_on_dense_data": "a weight of 2 is not the event twice: batches "
    "are of events, and the classes are balanced by their weights",
    "check_methods_sample_order_invariance": "events are scored in batches of single precision: "
    "their last bit depends on what is beside them",
}


def test_checks_of_scikit_learn_pass_but_for_those_named():
    """They have arrays of two dimensions, one token an event."""
    model = small(
        learning_rate=1e-2, start="none", streams={"constituents": {"width": 8, "layers": 1}}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = check_estimator(model, expected_failed_checks=FAILING, on_fail=None, on_skip=None)
    assert {one["check_name"] for one in found if one["status"] == "failed"} == set()
    assert {one["check_name"] for one in found if one["status"] == "xfail"} <= FAILING.keys()
    assert sum(one["status"] == "passed" for one in found) > 40
    page = (Path(__file__).parents[1] / "docs" / "python.md").read_text(encoding="utf-8")
    assert all(name in page for name in FAILING)


def test_all_keys_of_a_training_and_of_the_head_reach_the_card():
    grid = {"learning_rate": np.float64(1e-3), "epochs": np.int64(3)}  # as of a grid search
    card = small(
        **grid, training={"weight_decay": 0.1, "mirrored": False}, head={"units": (16, 8)}
    )._card()
    assert (card.training.weight_decay, card.training.mirrored) == (0.1, False)
    assert (card.training.epochs, card.head.units) == (3, (16, 8))


@pytest.fixture
def silent(monkeypatch):
    """As in a program that has not asked for log lines, whatever other tests have."""
    monkeypatch.setattr(LOG, "handlers", [])


@pytest.mark.usefixtures("silent")
def test_scores_and_words_of_dataset_and_classifier(tmp_path, capsys):
    data = Dataset.from_events(SCHEMA, toy_events(1, events=160, learnable=True))
    assert repr(data.train).startswith("Dataset(events in memory, the train part: ")
    assert "hh4b (signal) " in repr(data)
    assert "kinematics (pt, eta, phi, mass" in repr(data)
    clf = ms.Classifier("kinematics-only", epochs=2)
    assert repr(clf) == "Classifier(epochs=2, preset='kinematics-only')"
    clf.fit(data)
    assert "fitted on kinematics; 19,906 parameters; best of 2 epochs: " in repr(clf)
    assert capsys.readouterr().err == ""
    figures = ms.evaluate(
        data.events().label, clf.predict_proba(data), data.balanced_weights(data.events())
    )
    assert clf.score(data) == pytest.approx(figures["accuracy"])
    clf.save(tmp_path / "run" / "model")
    again = ms.Classifier.load(tmp_path / "run")
    np.testing.assert_array_equal(again.predict(data), clf.predict(data))
    assert "fitted on kinematics" in repr(again)


@pytest.mark.usefixtures("silent")
def test_verbose_shows_a_training_and_no_more(capsys):
    data = Dataset.from_events(SCHEMA, toy_events(1, events=80))
    ms.Classifier("kinematics-only", epochs=1, verbose=True).fit(data)
    assert "training: 1 steps in" in capsys.readouterr().err
    ms.Classifier("kinematics-only", epochs=1).fit(data)
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("silent")
def test_a_notebook_has_one_line_written_anew(monkeypatch):
    shown = []

    class Cell:
        def update(self, content, *, raw):
            shown.append(content["text/plain"])

    display = types.SimpleNamespace(display=lambda *_, **__: Cell())
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    monkeypatch.setattr("rich.console.Console._write_buffer", lambda _: None)
    data = Dataset.from_events(SCHEMA, toy_events(1, events=80))
    ms.Classifier("kinematics-only", epochs=2, verbose=True).fit(data)
    lines = [line for line in shown if line.startswith("training: ")]
    assert [line.split(" steps")[0] for line in lines] == ["training: 1 of 2", "training: 2 of 2"]
    assert shown[-1] == ""


def test_device_is_that_of_training_and_prediction(arrays):
    X, y = arrays
    model = small(device="cpu").fit(X, y)
    assert next(model.network_.parameters()).device.type == "cpu"
    assert clone(model).device == "cpu"
    with pytest.raises(ms.ManyscaleError, match="no device 'tpu'"):
        small(device="tpu").fit(X, y)
    with pytest.raises(ms.ManyscaleError, match="no device 'tpu'"):
        model.set_params(device="tpu").predict(X)


def test_lines_of_the_contract(tmp_path):
    data = Dataset.from_events(SCHEMA, toy_events(1, events=200, learnable=True))
    clf = ms.Classifier(preset="model-2", epochs=2).fit(data.train, validation=data.validation)
    p = clf.predict_proba(data.test)
    assert p.shape == (len(data.test), 2)
    clf.save(tmp_path / "model")
    again = ms.Classifier.load(tmp_path / "model")
    np.testing.assert_array_equal(again.predict_proba(data.test), p)
    figures = ms.evaluate(data.test.events().label, p)
    assert 0 <= figures["auc"] <= 1
    net = ms.build_model(ms.Card(preset="model-2"), data.schema)
    assert sum(parameter.numel() for parameter in net.parameters()) > 1000


def test_weights_and_streams_reach_the_training(arrays):
    X, y = arrays
    weight = np.where(X[:, 0, 0] > 0, 10.0, 1.0)
    plain, weighted = small().fit(X, y), small().fit(X, y, weight)
    assert (plain.predict_proba(X) != weighted.predict_proba(X)).any()
    both = {"a": X, "b": X[:, :2]}
    model = ms.Classifier(
        preset="custom", epochs=1, streams={"a": {"width": 8}},
        fusion=[{"query": "a", "context": ["b"]}],
    ).fit(both, y)  # fmt: skip
    assert model.predict_proba(both).shape == (160, 2)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda X, y: small().fit(X), "labels are missing"),
        (lambda X, y: small().fit(X, np.zeros(len(X))), "y has 1 class; there must be two"),
        (lambda X, y: small().fit(X, np.arange(len(X)) % 3), "y has 3 different labels"),
        (lambda X, y: small(preset="modle-1").fit(X, y), "did you mean model-1"),
        (lambda X, y: small(head={"unit": [3]}).fit(X, y), "'head.unit'; did you mean 'units'"),
        (
            lambda X, y: small(streams={"constituents": {"layer": 3}}).fit(X, y),
            "'streams.constituents.layer'; did you mean 'layers'",
        ),
        (
            lambda X, y: small(training={"weight_decy": 0.1}).fit(X, y),
            "'training.weight_decy'; did you mean 'weight_decay'",
        ),
        (lambda X, y: small(training={"epochs": 3}).fit(X, y), "'epochs'.*of their own"),
        (lambda X, y: small().fit(X, y[:-1]), "one number an event"),
        (lambda X, y: small().fit(np.full_like(X, np.nan), y), "nan|NaN"),
        (lambda X, y: small(epochs=0).fit(X, y), "epochs is 0"),
        (lambda X, y: small(preset="model-2").fit(X, y), "needs two streams"),
        (lambda X, y: small().fit(X, y).predict(X[:, :, :2]), "2 columns, but the network"),
    ],
)
def test_mistakes_are_named(arrays, call, said):
    with pytest.raises(ms.ManyscaleError, match=said):
        call(*arrays)


def test_dataset_of_another_column_order_scores_the_same():
    events = toy_events(1, events=120, learnable=True)
    data = Dataset.from_events(SCHEMA, events)
    clf = ms.Classifier(preset="kinematics-only", epochs=1).fit(data)
    stream = SCHEMA.stream("kinematics")
    turned = stream.model_copy(update={"columns": stream.columns[::-1]})
    packed = events.streams["kinematics"]
    other = Dataset.from_events(
        SCHEMA.model_copy(update={"streams": (turned,)}),
        replace(
            events, streams={"kinematics": replace(packed, values=packed.values[:, ::-1].copy())}
        ),
    )
    np.testing.assert_array_equal(clf.predict_proba(other), clf.predict_proba(data))
    with pytest.raises(ms.ManyscaleError, match="no stream 'kinematics'"):
        clf.predict_proba(Dataset.from_events(SCHEMA, events).restricted(streams=["jet1"]))
