import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from manyscale.data.schema import (
    AXIS_COLUMNS,
    COLUMNS,
    OBJECT_CLASSES,
    PARTICLE_CLASSES,
    check_stream_names,
)
from manyscale.events import record


def test_codes_are_those_of_the_schema():
    codes = {
        "charged hadron": record.CHARGED_HADRON,
        "electron": record.ELECTRON,
        "muon": record.MUON,
        "photon": record.PHOTON,
        "neutral hadron": record.NEUTRAL_HADRON,
    }
    assert codes == {name: place for place, name in enumerate(PARTICLE_CLASSES)}
    assert OBJECT_CLASSES[: len(record.OBJECTS)] == record.OBJECTS


def test_every_column_is_registered():
    check_stream_names(record.STREAMS)
    for layout in record.STREAMS.values():
        assert set(layout.columns) <= set(COLUMNS) - set(AXIS_COLUMNS)
        assert set(layout.axis) <= set(AXIS_COLUMNS)


@given(st.floats(-50, 50))
def test_phi_is_wrapped_by_whole_turns(phi):
    wrapped = float(record.wrap_phi(np.array(phi)))
    assert -np.pi < wrapped <= np.pi
    turns = (phi - wrapped) / (2 * np.pi)
    assert abs(turns - round(turns)) < 1e-12


def test_phi_wraps_at_the_seam():
    phi = np.array([np.pi, -np.pi, np.pi + 0.1, -np.pi - 0.1, 3 * np.pi])
    expected = [np.pi, np.pi, -np.pi + 0.1, np.pi - 0.1, np.pi]
    np.testing.assert_allclose(record.wrap_phi(phi), expected, atol=1e-12)
