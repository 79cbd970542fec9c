"""What users see and the numbers of small trainings stay as they were; see `pins.py`."""

import json
from pathlib import Path

import pins


def test_nothing_that_is_pinned_has_moved():
    stored = json.loads(Path(__file__).with_name("pinned.json").read_text(encoding="utf-8"))
    # Other processors round otherwise.
    assert list(pins.differences(stored, pins.record(quick=True), rtol=1e-3)) == []


def test_differences_are_found():
    before = {"a": [1.0, 2.0], "sum": 0.0, "abs_sum": 10.0, "sha256": "x", "b": "text"}
    after = {"a": [1.0, 2.1], "sum": 1e-3, "abs_sum": 10.0, "sha256": "y", "c": None}
    exact = [line.split(":")[0] for line in pins.differences(before, after)]
    assert exact == ["/a[1]", "/sum", "/sha256", "/b", "/c"]
    about = [line.split(":")[0] for line in pins.differences(before, after, rtol=1e-3)]
    assert about == ["/a[1]", "/b", "/c"]
