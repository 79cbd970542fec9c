"""From card and data to a trained run: what is passed over, chunk by chunk, and what is resumed."""

import shutil

import pytest
import torch

import manyscale as ms
from data.test_dataset import on_disk
from helpers.commands import toy_dataset
from helpers.toys import SCHEMA, toy_events
from helpers.training import interrupted_after
from manyscale.card import Card, DataSettings
from manyscale.data.dataset import Dataset
from manyscale.errors import RunError
from manyscale.features.columns import StreamBatch
from manyscale.model.layers import StreamSettings
from manyscale.runs import train
from manyscale.runs.train import build_model, dropped_tokens, fit_features, train_run
from manyscale.training.schedule import TrainingSettings

JET = StreamSettings(max_tokens=6, encoder="jets")
CARD = Card(streams={"jet1": JET, "jet2": JET})


@pytest.mark.parametrize("chunk", [17, 10_000])
def test_the_standardisation_is_that_of_all_events_at_once(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(train, "CHUNK", chunk)
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
    monkeypatch.setattr(train, "CHUNK", chunk)
    events = toy_events(1, events=60)
    network = build_model(CARD, SCHEMA)
    expected = {"kinematics": 0.0}
    for name in ("jet1", "jet2"):
        counts = events.streams[name].counts
        expected[name] = 1 - counts.clip(max=6).sum() / counts.sum()
    found = dropped_tokens(network, Dataset.from_events(SCHEMA, events))
    assert found == pytest.approx(expected)
    assert 0 < expected["jet1"] < 1


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """The card and folder of a run that was killed in its second epoch."""
    root = tmp_path_factory.mktemp("killed")
    jet = StreamSettings(width=8, layers=1, dropout=0.0)
    card = Card(
        preset="model-1",
        data=DataSettings(dataset=toy_dataset(root / "toys"), streams=["jet1"]),
        streams={"jet1": jet},
        training=TrainingSettings(epochs=2, batch_size=64),
    )
    with interrupted_after(4):
        train_run(card, root / "run")
    return card, root / "run"


def changed(card, section, **values):
    part = getattr(card, section).model_copy(update=values)
    return card.model_copy(update={section: part})


def test_a_run_is_resumed_with_what_its_own_messages_advise(killed, tmp_path):
    """Before, a run that was out of memory could not be resumed with `training.accumulate`."""
    card, root = killed
    run = tmp_path / "run"
    shutil.copytree(root, run)
    advised = changed(card, "training", accumulate=2, accelerator="cpu", devices=1)
    folder = train_run(changed(advised, "data", memory=512), run, resume=True)
    assert len(folder.history.read_text(encoding="utf-8").splitlines()) == 3
    assert folder.trees.is_file()
    assert "training resumed" in (run / "log.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("section", "values"),
    [("training", {"learning_rate": 1e-4}), ("data", {"max_events": 50})],
)
def test_a_run_is_not_resumed_with_what_changes_its_result(killed, section, values):
    card, root = killed
    with pytest.raises(RunError, match=f"begun with another card: they differ in {section}"):
        train_run(changed(card, section, **values), root, resume=True)


def test_features_are_fitted_as_the_docs_say():
    data = Dataset.from_events(SCHEMA, toy_events(1, events=80))
    net = ms.build_model(Card(), data.schema)
    fit_features(net, data.train)
    assert (net.extractor("jet1").deviation != 1).any()
