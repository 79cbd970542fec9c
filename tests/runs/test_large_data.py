"""Training, evaluating and scoring with more events than memory may hold."""

import numpy as np
import pytest

from data.test_dataset import on_disk
from helpers.commands import toy_npz
from helpers.toys import toy_events
from helpers.training import interrupted_after
from manyscale.card import Card, DataSettings
from manyscale.data import npz
from manyscale.data.dataset import Dataset
from manyscale.data.feeds import MemoryFeed
from manyscale.data.folder_feed import FolderFeed, make_feed
from manyscale.deployment.bundle import load_bundle
from manyscale.deployment.predict import class_probabilities
from manyscale.deployment.scores import read_scores
from manyscale.evaluation.results import read_history
from manyscale.model.layers import StreamSettings
from manyscale.runs.evaluate import evaluate_run
from manyscale.runs.predict import predict_run
from manyscale.runs.train import train_run
from manyscale.statistics.metrics import evaluate
from manyscale.training.schedule import TrainingSettings


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A dataset whose training part takes 1.2 MB once decoded."""
    folder = tmp_path_factory.mktemp("stored")
    on_disk(folder, toy_events(1, events=3200, learnable=True), pieces=8)
    return folder


def card(folder, memory):
    jet = StreamSettings(width=8, layers=1, encoder="jets")
    return Card(
        data=DataSettings(dataset=folder, memory=memory),
        streams={"jet1": jet, "jet2": jet},
        training=TrainingSettings(epochs=2, batch_size=64, learning_rate=5e-3),
    )


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    """A run for which no part of the events was ever held whole."""

    def refuse(_):
        raise AssertionError("all events of a part were decoded")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Dataset, "events", refuse)
        return train_run(card(folder, 1), tmp_path_factory.mktemp("trained") / "run")


def weights(run):
    return (run.model / "weights.safetensors").read_bytes()


def test_a_run_from_disk_that_was_killed_gives_the_same_bits(folder, trained, tmp_path):
    with interrupted_after(50):
        train_run(card(folder, 1), tmp_path / "run")
    resumed = train_run(card(folder, 1), tmp_path / "run", resume=True)
    assert weights(resumed) == weights(trained)
    assert (resumed.model / "trees.txt").read_bytes() == (trained.model / "trees.txt").read_bytes()


def test_less_memory_means_another_order_and_no_worse_a_network(folder, trained):
    data = Dataset.open(folder)
    assert isinstance(make_feed(data.train, dict, 1, 1), FolderFeed)
    assert isinstance(make_feed(data.train, dict, 2, 1), MemoryFeed)
    assert read_history(trained.history)[-1]["validation_auc"] > 0.8


def test_evaluation_chunk_by_chunk_gives_the_figures_of_all_events(folder, trained, monkeypatch):
    monkeypatch.setattr("manyscale.deployment.predict.CHUNK", 50)
    metrics = evaluate_run(trained.root, plots=False)
    test = Dataset.open(folder).test
    events = test.events()
    network = load_bundle(trained.model).network
    whole = evaluate(
        events.label,
        class_probabilities(network, events.streams)[:, 1],
        test.balanced_weights(events),
    )
    assert metrics.auc == pytest.approx(whole["auc"], abs=1e-6)
    assert metrics.loss == pytest.approx(whole["loss"], rel=1e-5)
    assert metrics.n_events == len(test)
    scores = read_scores(trained.scores)
    np.testing.assert_array_equal(scores.columns["event_id"], events.event_id)
    np.testing.assert_array_equal(scores.columns["m_hh"], events.observables["m_hh"])


def test_scoring_chunk_by_chunk_gives_the_scores_of_all(folder, trained, tmp_path, monkeypatch):
    predict_run(trained.root, folder, tmp_path / "whole.parquet")
    monkeypatch.setattr("manyscale.deployment.predict.CHUNK", 130)
    assert predict_run(trained.root, folder, tmp_path / "chunks.parquet") == 3200
    whole, chunks = (
        read_scores(tmp_path / f"{name}.parquet").columns for name in ("whole", "chunks")
    )
    assert whole.keys() == chunks.keys()
    for name, values in whole.items():
        if values.dtype.kind == "f":
            np.testing.assert_allclose(chunks[name], values, atol=1e-6)
        else:
            np.testing.assert_array_equal(chunks[name], values)


def test_npz_files_are_scored_block_by_block(tmp_path, monkeypatch):
    for name, signal in (("signal", True), ("background", False)):
        toy_npz(tmp_path / f"{name}.npz", 300, signal, seed=int(signal))
    data = DataSettings(
        signal={"constituents": tmp_path / "signal.npz"},
        background={"constituents": tmp_path / "background.npz"},
    )
    small = Card(
        preset="model-1",
        data=data,
        streams={"constituents": StreamSettings(width=8, layers=1)},
        training=TrainingSettings(epochs=1, batch_size=64),
    )
    run = train_run(small, tmp_path / "run")
    predict_run(run.root, tmp_path / "signal.npz", tmp_path / "whole.parquet")
    # 20 events of six tokens of three columns in double precision.
    monkeypatch.setattr(npz, "_BLOCK_BYTES", 20 * 6 * 3 * 8)
    predict_run(run.root, tmp_path / "signal.npz", tmp_path / "blocks.parquet")
    whole, blocks = (
        read_scores(tmp_path / f"{name}.parquet").columns for name in ("whole", "blocks")
    )
    np.testing.assert_array_equal(blocks["event_id"], whole["event_id"])
    np.testing.assert_allclose(blocks["score"], whole["score"], atol=1e-6)
