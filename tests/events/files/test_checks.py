from collections import Counter

import numpy as np
import pytest

from helpers.collisions import hits
from manyscale.events.files.checks import range_notes
from manyscale.events.files.collisions import select_batch
from manyscale.events.files.reader import THE_PROCESS
from manyscale.events.jets import cluster
from manyscale.events.objects import DetectedEvents, Leptons
from manyscale.events.ragged import PackedStream
from manyscale.events.settings import GenerateSettings
from manyscale.schema import STREAMS, StreamSchema


def test_ranges_are_checked_in_what_any_reader_selects():
    seen = hits([[(300, 0, 0), (250, 0, 3)]] * 2)
    pt, eta = np.array([30.0, -999.0, -999.0]), np.array([0.5, -999.0, 1.0])
    zero = np.zeros(3, np.int8)
    events = DetectedEvents(
        entry=np.arange(2),
        weight=np.ones(2),
        hits=seen,
        pairs=cluster(seen, 1.0, 200.0),
        n_btags=np.zeros((2, 2), int),
        missing=(np.zeros(2), np.zeros(2)),
        leptons=Leptons(np.array([2, 1]), pt, eta, 0 * pt, zero, zero),
    )
    streams = {"leptons": STREAMS["leptons"]}
    found = select_batch(events, streams, GenerateSettings(), Counter())
    assert len(found.processes[THE_PROCESS][0]) == 2
    notes = {text.partition(" in the stream ")[0]: times for text, times in found.notes.items()}
    assert notes == {"values of 'pt'": 2, "values of 'eta'": 1}
    assert all("such as -999: what stands where there is nothing?" in text for text in found.notes)


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        (
            "pt",
            [20_000, 45_123.5, 900],
            "2 outside the usual 0 to 14000 GeV, of about 100000: in MeV?",
        ),
        ("log_energy", [9.7, 10.5], "2 outside the usual -20 to 9.6, of about 10: in MeV?"),
        (
            "phi",
            [90.0, -179.5, 3],
            "2 outside the usual -3.1416 to 3.1416 rad, of about -200: in deg",
        ),
        (
            "jet_phi",
            [90.0, 170.5],
            "2 outside the usual -3.1416 to 3.1416 rad, of about 200: in deg",
        ),
        (
            "mass",
            [-999, 10, -999],
            "2 outside the usual -1 to 14000 GeV, such as -999: what stands",
        ),
        ("charge", [-99, 1], "1 outside the usual -2 to 2 e, such as -99: what stands where there"),
        (
            "energy",
            [-30.5, -20.1],
            "2 outside the usual 0 to 14000 GeV, of about -30: is the column",
        ),
    ],
)
def test_the_likely_cause_of_odd_values_is_said(name, values, said):
    columns, axis = ((), (name,)) if name.startswith("jet_") else ((name,), ())
    schema = StreamSchema(name="s", columns=("f0", *columns), axis=axis)
    given = np.array(values, np.float32)
    stream = PackedStream.of_columns(
        schema, np.ones(len(values), np.int64), {"f0": 1e9 * given, name: given}, {name: given}
    )
    ((text, times),) = range_notes(schema, stream).items()
    start, _, rest = text.partition(" are ")
    assert start == f"values of '{name}' in the stream 's'"
    assert f"{times} {rest}".startswith(said)
