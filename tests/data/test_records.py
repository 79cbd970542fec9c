"""Records of events against the packed events made of them."""

import numpy as np
import pytest

from manyscale.data.identity import event_ids
from manyscale.data.records import pack_records
from manyscale.data.schema import StreamSchema

ak = pytest.importorskip("awkward")

STREAMS = (
    StreamSchema(name="jet1", columns=("pt", "charge"), axis=("jet_pt",)),
    StreamSchema(name="kinematics", columns=("mass",)),
)


def records():
    return ak.Array(
        [
            {
                "entry": 7,
                "weight": 0.5,
                "scale_up": 0.6,
                "jet1": [{"pt": 3.0, "charge": 1, "d0": 9.0}, {"pt": 2.0, "charge": -1, "d0": 9.0}],
                "jet1_axis": {"jet_pt": 400.0, "jet_eta": 1.0},
                "kinematics": [{"mass": 125.0}],
                "observables": {"run": 11, "m_hh": 1000.5},
            },
            {
                "entry": 9,
                "weight": -1.0,
                "scale_up": 1.0,
                "jet1": [],
                "jet1_axis": {"jet_pt": 300.0, "jet_eta": 1.0},
                "kinematics": [{"mass": 1.0}, {"mass": 2.0}],
                "observables": {"run": 12, "m_hh": 500.0},
            },
        ]
    )


def test_records_are_packed_in_the_order_of_the_schema():
    events = pack_records(records(), STREAMS, identity="x", label=1, weights=["scale_up"])
    jet = events.streams["jet1"]
    assert jet.values.tolist() == [[3, 1], [2, -1]]
    assert jet.values.dtype == np.float32
    assert jet.counts.tolist() == [2, 0]
    assert jet.axis.tolist() == [[400], [300]]
    assert events.streams["kinematics"].values.tolist() == [[125], [1], [2]]
    assert events.streams["kinematics"].axis.shape == (2, 0)
    np.testing.assert_array_equal(events.event_id, event_ids("x", [7, 9]))
    assert events.weight.tolist() == [0.5, -1]
    assert events.weights["scale_up"].tolist() == [0.6, 1]
    assert events.label.tolist() == [1, 1]
    assert events.observables["run"].tolist() == [11, 12]


def test_chosen_and_turned_records_are_packed_as_they_stand():
    turned = records()[[1, 0]]
    events = pack_records(turned, STREAMS, identity="x")
    assert events.streams["jet1"].counts.tolist() == [0, 2]
    assert events.streams["kinematics"].values.tolist() == [[1], [2], [125]]


def test_no_records_are_no_events():
    events = pack_records(records()[:0], STREAMS, identity="x")
    assert len(events) == 0
    assert events.streams["jet1"].values.shape == (0, 2)
    assert events.streams["jet1"].axis.shape == (0, 1)
