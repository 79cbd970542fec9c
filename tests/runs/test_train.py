"""From card and data to a trained run: what is passed over, chunk by chunk, and what is resumed."""

import csv
import shutil

import numpy as np
import pytest
import torch

import manyscale as ms
from data.test_dataset import on_disk
from helpers.commands import toy_dataset
from helpers.toys import SCHEMA, toy_events
from helpers.training import assert_same_bits, fitted, interrupted_after
from manyscale.card import Card, DataSettings
from manyscale.data.dataset import Dataset
from manyscale.deployment.bundle import load_bundle
from manyscale.deployment.predict import class_logits, class_probabilities, score
from manyscale.errors import RunError
from manyscale.features.columns import StreamBatch
from manyscale.model.layers import StreamSettings
from manyscale.runs import fit
from manyscale.runs.fit import build_model, dropped_tokens, fit_features, open_data
from manyscale.runs.folder import RunFolder
from manyscale.runs.predict import predict_run
from manyscale.runs.train import train_run
from manyscale.training import loop
from manyscale.training.schedule import TrainingSettings, learning_rate, total_steps

JET = StreamSettings(max_tokens=6, encoder="jets")
CARD = Card(streams={"jet1": JET, "jet2": JET})


@pytest.mark.parametrize("chunk", [17, 10_000])
def test_the_standardisation_is_that_of_all_events_at_once(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(fit, "CHUNK", chunk)
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
    monkeypatch.setattr(fit, "CHUNK", chunk)
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
    ((key, value),) = values.items()
    said = rf"differ in {section}\.{key} \(there [\w.]+, here {value}\)\. Resume with"
    with pytest.raises(RunError, match=said):
        train_run(changed(card, section, **values), root, resume=True)
    # Without being asked for, as in a comparison, a run is not trained longer either.
    with pytest.raises(RunError, match=r"training\.epochs \(there 2, here 5\)"):
        train_run(changed(card, "training", epochs=5), root, resume=True)
    with pytest.raises(RunError, match="longer, not shorter"):
        train_run(changed(card, "training", epochs=1), root, resume=True, longer=True)


def test_a_run_trained_longer_is_what_its_card_gives_in_one_go(killed, tmp_path):
    """A finished run, one that was killed while it was trained longer, and one by its last card."""
    card, root = killed
    run = shutil.copytree(root, tmp_path / "run")
    folder = train_run(card, run, resume=True)
    before = folder.model.joinpath("weights.safetensors").read_bytes()
    longer = changed(card, "training", epochs=5)
    with interrupted_after(8):
        train_run(longer, run, resume=True, longer=True)
    # As it was before, until it is done.
    assert folder.model.joinpath("weights.safetensors").read_bytes() == before
    assert folder.read_card().training.epochs == 2
    train_run(longer, run, resume=True, longer=True)
    found = folder.read_card()
    assert (found.training.epochs, found.training.restarts) == (5, (6,))
    history = csv.DictReader(folder.history.read_text(encoding="utf-8").splitlines())
    rates = [float(row["learning_rate"]) for row in history]
    assert rates[1] < rates[2] > rates[4]
    again = train_run(longer, run, resume=True, longer=True)  # done already
    whole = train_run(found, tmp_path / "whole")
    for one in (folder, again, whole):
        assert one.model.joinpath("weights.safetensors").read_bytes() != before
        assert (
            one.model.joinpath("weights.safetensors").read_bytes()
            == whole.model.joinpath("weights.safetensors").read_bytes()
        )


def with_board(folder):
    training = TrainingSettings(epochs=2, batch_size=64, tensorboard=True)
    dataset = Dataset.from_events(SCHEMA, toy_events(1, events=120))
    return fitted(Card(training=training), dataset, RunFolder(folder))


def test_tensorboard_is_given_the_rows_of_the_history(tmp_path, monkeypatch):
    rows = []

    class Board:
        experiment = None

        def __init__(self, root, name, version):
            assert (root, name, version) == (tmp_path, "tensorboard", "")

        def log_metrics(self, row, step):
            rows.append((step, row))

        def save(self):
            pass

    monkeypatch.setattr("lightning_fabric.loggers.tensorboard.TensorBoardLogger", Board)
    _, state = with_board(tmp_path)
    assert rows == list(enumerate(state.history, start=1))


def test_tensorboard_that_is_not_installed_is_named(tmp_path, monkeypatch):
    def missing(*arguments, **options):
        raise ModuleNotFoundError("tensorboard")

    monkeypatch.setattr("lightning_fabric.loggers.tensorboard.TensorBoardLogger", missing)
    with pytest.raises(RunError, match="pip install tensorboard"):
        with_board(tmp_path)


def test_features_are_fitted_as_the_docs_say():
    data = Dataset.from_events(SCHEMA, toy_events(1, events=80))
    net = ms.build_model(Card(), data.schema)
    fit_features(net, data.train)
    assert (net.extractor("jet1").deviation != 1).any()


def test_an_ensemble_scores_by_the_mean_of_its_members_and_tells_their_spread(tmp_path):
    training = TrainingSettings(epochs=2, batch_size=64, ensemble=3, start="none")
    data = toy_dataset(tmp_path / "data")
    card = Card(data=DataSettings(dataset=data), training=training)
    network = load_bundle(train_run(card, tmp_path / "run").model).network
    streams = Dataset.open(data).events().streams
    members = [network, *network.others]
    # Each member is what its seed alone gives, on the split of the card's own.
    single = card.model_copy(update={"training": training.model_copy(update={"ensemble": 1})})
    first = load_bundle(train_run(single, tmp_path / "single").model).network
    network.join([])
    assert_same_bits(network.state_dict(), first.state_dict())
    probabilities = [class_probabilities(member, streams)[:, 1] for member in members]
    network.join(members[1:])
    mean, known = score(network, streams)
    np.testing.assert_allclose(mean[:, 1], np.mean(probabilities, 0), rtol=1e-5)
    spread = np.std(probabilities, 0, ddof=1)
    np.testing.assert_allclose(known["score_spread"], spread, rtol=1e-3, atol=1e-6)
    assert spread.max() > 1e-3
    logits = torch.from_numpy(class_logits(network, streams))
    np.testing.assert_allclose(logits.softmax(1)[:, 1], mean[:, 1], rtol=1e-4)
    predict_run(tmp_path / "run", data, tmp_path / "scores.npz")
    with np.load(tmp_path / "scores.npz") as scores:
        np.testing.assert_array_equal(scores["score_spread"], known["score_spread"])


def test_an_ensemble_killed_in_its_second_member_ends_in_the_same_bits(tmp_path):
    training = TrainingSettings(epochs=2, batch_size=32, ensemble=2)
    card = Card(data=DataSettings(dataset=toy_dataset(tmp_path / "data")), training=training)
    whole = load_bundle(train_run(card, tmp_path / "whole").model).network
    second = total_steps(training, len(open_data(card).train))
    calls = []

    def stopping(step, *arguments):
        calls.append(step)
        if len(calls) > second + 3:
            raise KeyboardInterrupt
        return learning_rate(step, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "learning_rate", stopping)
        with pytest.raises(KeyboardInterrupt):
            train_run(card, tmp_path / "killed")
    network = load_bundle(train_run(card, tmp_path / "killed", resume=True).model).network
    assert_same_bits(whole.state_dict(), network.state_dict())
