import json
import math

import pytest
from pydantic import ValidationError

from helpers.report_files import chosen_events
from manyscale.reporting.display_file import Display


def test_embedded_text_cannot_end_its_element_and_says_the_same():
    content = chosen_events(each=1)
    text = str(Display.model_validate(content).embedded())
    assert not set("<>&") & set(text)
    read = json.loads(text)
    assert [event["process"] for event in read["events"]] == [
        event["process"] for event in content["events"]
    ]
    assert read["events"][0]["streams"]["jet1"] == content["events"][0]["streams"]["jet1"]


def test_what_is_not_a_number_is_not_known():
    content = chosen_events(each=1)
    content["events"][0]["streams"]["jet1"]["attention"][3] = math.nan
    tokens = Display.model_validate(content).events[0].streams["jet1"]
    assert tokens.attention[3] is None
    assert tokens.attention[4] is not None


@pytest.mark.parametrize("column", ["eta", "pt", "kind", "importance"])
def test_columns_of_other_lengths_are_refused(column):
    content = chosen_events(each=1)
    content["events"][0]["streams"]["jet1"][column].pop()
    with pytest.raises(ValidationError, match="a value a token"):
        Display.model_validate(content)


def test_a_light_display_keeps_the_first_of_each_reason():
    display = Display.model_validate(chosen_events(each=100, tokens=100))
    light = display.light()
    assert len(light.embedded()) < 1_000_000
    counts = {}
    for event in light.events:
        counts[event.why] = counts.get(event.why, 0) + 1
    assert max(counts.values()) - min(counts.values()) <= 1
    assert len(counts) == 3
    first = [event for event in display.events if event.why == "worst mistake"]
    kept = [event for event in light.events if event.why == "worst mistake"]
    assert kept == first[: len(kept)]


def test_a_small_display_is_kept_whole():
    display = Display.model_validate(chosen_events())
    assert display.light() == display
