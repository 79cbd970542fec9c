from collections import Counter

import numpy as np

from helpers.collisions import hits
from manyscale.events.files.collisions import select_batch
from manyscale.events.files.reader import THE_PROCESS
from manyscale.events.jets import cluster
from manyscale.events.objects import DetectedEvents, Leptons
from manyscale.events.settings import GenerateSettings
from manyscale.schema import STREAMS


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
    notes = {text.partition(", such as ")[0]: times for text, times in found.notes.items()}
    assert notes == {
        "values of 'pt' in the stream 'leptons' are below 0": 2,
        "values of 'eta' in the stream 'leptons' are beyond 20": 1,
    }
    assert all("-999; " in text and "convert.missing:" in text for text in found.notes)
