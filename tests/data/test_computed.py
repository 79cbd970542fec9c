"""Columns that are computed while events are read."""

import numpy as np
import pytest

from helpers.toys import SCHEMA, toy_events
from manyscale.data.dataset import Dataset
from manyscale.data.npz import from_arrays
from manyscale.errors import DataError
from manyscale.estimator import Classifier


def kt(jet):
    distance = np.hypot(
        jet["eta"] - jet["jet_eta"], np.angle(np.exp(1j * (jet["phi"] - jet["jet_phi"])))
    )
    return jet["pt"] * distance


@pytest.fixture
def data():
    return Dataset.from_events(SCHEMA, toy_events(3, events=200, learnable=True))


def test_column_is_the_function_of_each_token(data):
    before = data.events().streams["jet1"]
    after = data.with_columns({"jet1": {"kt": kt}}).events().streams["jet1"]
    np.testing.assert_array_equal(after.values[:, :-1], before.values)
    np.testing.assert_array_equal(after.counts, before.counts)
    np.testing.assert_array_equal(after.axis, before.axis)
    columns = {name: before.values[:, i] for i, name in enumerate(SCHEMA.streams[0].columns)}
    axis = np.repeat(before.axis, before.counts, axis=0)
    columns |= {name: axis[:, i] for i, name in enumerate(SCHEMA.streams[0].axis)}
    np.testing.assert_allclose(after.values[:, -1], kt(columns), rtol=1e-6)


def test_schema_has_the_new_columns_and_the_old_dataset_stays(data):
    wider = data.with_columns({"jet1": {"kt": kt, "twice": lambda jet: 2 * jet["pt"]}})
    assert wider.schema.stream("jet1").columns == (*SCHEMA.streams[0].columns, "kt", "twice")
    assert wider.schema.stream("jet2") == data.schema.stream("jet2")
    assert data.schema == SCHEMA
    assert data.events().streams["jet1"].values.shape[1] == len(SCHEMA.streams[0].columns)


def test_parts_restrictions_and_chunks_have_the_columns(data):
    wider = data.with_columns({"jet1": {"kt": kt}})
    whole = wider.events()
    of_event = {
        event: whole.streams["jet1"].take(np.array([i])).values
        for i, event in enumerate(whole.event_id.tolist())
    }
    views = (
        wider.train,
        wider.test.restricted(streams=["jet1"]),
        wider.restricted(max_events=20),
        data.restricted(streams=["jet1"], max_events=20).with_columns({"jet1": {"kt": kt}}),
        data.validation.with_columns({"jet1": {"kt": kt}}),
    )
    for view in views:
        assert len(view) > 0
        for chunk in view.chunks(7):
            for i, event in enumerate(chunk.event_id.tolist()):
                found = chunk.streams["jet1"].take(np.array([i])).values
                np.testing.assert_array_equal(found, of_event[event])


def test_columns_can_be_made_of_new_ones(data):
    wider = data.with_columns({"kinematics": {"a": lambda of: of["pt"] ** 2}})
    wider = wider.with_columns({"kinematics": {"b": lambda of: np.sqrt(of["a"])}})
    values = wider.events().streams["kinematics"].values
    np.testing.assert_allclose(values[:, -1], values[:, 0], rtol=1e-6)


def test_a_new_column_is_an_input_of_the_network(data):
    wider = data.with_columns({"kinematics": {"even": lambda of: of["n_btags"] % 2 == 0}})
    classifier = Classifier(preset="model-2", epochs=1).fit(
        wider.train, validation=wider.validation
    )
    assert classifier.predict_proba(wider.test).shape == (len(wider.test), 2)
    with pytest.raises(DataError, match="even"):
        classifier.predict_proba(data.test)


def test_padded_arrays_keep_their_order_and_gain_the_column():
    arrays = {"x": np.array([[[250.0, 7.0], [250.0, 8.0]], [[300.0, 5.0], [0.0, 0.0]]])}
    data = from_arrays(arrays, [0, 1], columns={"x": ["jet_pt", "pt"]})
    stream = data.with_columns({"x": {"z": lambda x: x["pt"] / x["jet_pt"]}})
    assert stream.schema.stream("x").all_columns == ("jet_pt", "pt", "z")
    np.testing.assert_allclose(
        stream.events().streams["x"].values, [[7, 7 / 250], [8, 8 / 250], [5, 5 / 300]], rtol=1e-6
    )


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"jet3": {"kt": kt}}, "no stream 'jet3'; they have jet1, jet2, kinematics"),
        ({"jet1": {"pt": kt}}, "stream 'jet1' has a column 'pt' already"),
        ({"jet1": {"jet_pt": kt}}, "stream 'jet1' has a column 'jet_pt' already"),
        ({"jet1": {"k t": kt}}, "'k t' cannot be the name of a column of stream 'jet1'"),
    ],
)
def test_wrong_names_are_refused_at_once(data, columns, said):
    with pytest.raises(DataError, match=said):
        data.with_columns(columns)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (
            lambda jet: jet["pt"][:-1],
            r"column 'new' of stream 'jet1'.* shape \(\d+,\) for \d+ tokens",
        ),
        (lambda _: 1.0, r"column 'new' of stream 'jet1'.* shape \(\)"),
        (lambda jet: np.log(0 * jet["pt"] - 1), r"column 'new' of stream 'jet1'.* nan .*pt = "),
        (
            lambda jet: jet["pt"].astype(float) * 1e300,
            r"'new' of stream 'jet1'.* gives \d.*e\+30\d for",
        ),
        (lambda jet: jet["pt"].astype(str), "'new' of stream 'jet1'.* not numbers"),
        (lambda jet: jet["mass"], "stream 'jet1' has no column 'mass'; it has pt, eta"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_wrong_values_are_refused_when_read(data, function, said):
    wider = data.with_columns({"jet1": {"new": function}})
    with pytest.raises(DataError, match=said):
        wider.events()


def test_events_without_tokens_have_no_values():
    data = Dataset.from_events(SCHEMA, toy_events(3, events=5, longest=0))
    stream = data.with_columns({"jet1": {"kt": kt}}).events().streams["jet1"]
    assert stream.values.shape == (0, len(SCHEMA.streams[0].columns) + 1)
