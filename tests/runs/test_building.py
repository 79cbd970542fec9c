"""From card and data to a network that is ready to be trained, one chunk in memory at a time."""

import pytest
import torch

from data.test_dataset import on_disk
from helpers.toys import SCHEMA, toy_events
from manyscale.card import Card
from manyscale.data.dataset import Dataset
from manyscale.features.columns import StreamBatch
from manyscale.model.layers import StreamSettings
from manyscale.runs import building
from manyscale.runs.building import build_model, dropped_tokens, fit_features

JET = StreamSettings(max_tokens=6, encoder="jets")
CARD = Card(streams={"jet1": JET, "jet2": JET})


@pytest.mark.parametrize("chunk", [17, 10_000])
def test_the_standardisation_is_that_of_all_events_at_once(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(building, "CHUNK", chunk)
    data = on_disk(tmp_path, toy_events(1, events=150))
    network = build_model(CARD, data.schema)
    fit_features(network, data.train)
    taken = network.trim(data.train.events().streams)
    numbers = torch.cat(
        [network.extractor(n).raw(StreamBatch.of(taken[n]))[0] for n in ("jet1", "jet2")]
    )
    for name in ("jet1", "jet2"):
        torch.testing.assert_close(
            network.extractor(name).mean, numbers.mean(0), rtol=1e-4, atol=1e-5
        )
        expected = numbers.std(0, correction=0)
        torch.testing.assert_close(
            network.extractor(name).deviation, expected, rtol=1e-4, atol=1e-5
        )
    objects = network.extractor("kinematics").raw(StreamBatch.of(taken["kinematics"]))[0]
    torch.testing.assert_close(
        network.extractor("kinematics").mean, objects.mean(0), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("chunk", [17, 10_000])
def test_dropped_tokens_are_counted_over_all_events(monkeypatch, chunk):
    monkeypatch.setattr(building, "CHUNK", chunk)
    events = toy_events(1, events=60)
    network = build_model(CARD, SCHEMA)
    expected = {"kinematics": 0.0}
    for name in ("jet1", "jet2"):
        counts = events.streams[name].counts
        expected[name] = 1 - counts.clip(max=6).sum() / counts.sum()
    found = dropped_tokens(network, Dataset.from_events(SCHEMA, events))
    assert found == pytest.approx(expected)
    assert 0 < expected["jet1"] < 1
