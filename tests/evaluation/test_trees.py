"""The boosted trees: what they learn, that they are reproducible, and that no order is mixed up."""

import os

import numpy as np
import pytest

from manyscale.errors import ManyscaleError, RunError
from manyscale.evaluation import trees as module
from manyscale.evaluation.trees import Table, Trees
from manyscale.statistics.metrics import auc

NAMES = ("jet1.log_pt.0", "jet 1: [odd], {name}", "η", "d", "e")


def sample(seed, events):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, events)
    matrix = generator.normal(size=(events, len(NAMES))).astype(np.float32)
    matrix[:, 0] += 1.5 * labels
    matrix[generator.random(events) < 0.1, 1] = np.nan
    return Table(matrix, labels)


@pytest.fixture(scope="module")
def trees():
    return Trees.fit(sample(0, 10000), sample(1, 3000), NAMES, seed=3)


def test_reach_the_ideal_within_the_error(trees):
    test = sample(2, 5000)
    scores = trees.predict(test.matrix, NAMES)
    assert auc(test.labels, scores) > auc(test.labels, test.matrix[:, 0]) - 0.01
    # The classes differ by a shift, so that the true probability is a logistic function.
    truth = 1 / (1 + np.exp(-1.5 * (test.matrix[:, 0] - 0.75)))
    assert np.sqrt(np.mean((scores - truth) ** 2)) < 0.08


def test_same_trees_for_any_number_of_threads(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    train, validation, matrix = sample(0, 1000), sample(1, 500), sample(2, 500).matrix
    one, two, other = (
        Trees.fit(train, validation, NAMES, seed=seed, threads=threads).predict(matrix, NAMES)
        for seed, threads in ((3, 1), (3, None), (4, 1))
    )
    assert (one == two).all()
    assert (one != other).any()


def test_saved_trees_are_the_same_text_and_give_the_same_scores(trees, tmp_path):
    trees.save(tmp_path / "trees.txt")
    loaded = Trees.load(tmp_path / "trees.txt")
    assert loaded.names == trees.names == NAMES
    matrix = sample(2, 500).matrix
    assert (loaded.predict(matrix, NAMES) == trees.predict(matrix, NAMES)).all()
    loaded.save(tmp_path / "again.txt")
    assert (tmp_path / "again.txt").read_bytes() == (tmp_path / "trees.txt").read_bytes()


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ((NAMES[0], NAMES[2], NAMES[1], *NAMES[3:]), "summary 1 is 'η'"),
        (NAMES[:4], "4 summaries, but the trees were trained on 5"),
    ],
)
def test_other_names_are_refused(trees, names, said):
    with pytest.raises(ManyscaleError, match=said):
        trees.predict(np.zeros((2, len(names))), names)


def test_a_matrix_of_another_width_is_refused(trees):
    with pytest.raises(ManyscaleError, match="do not fit 5 names"):
        trees.predict(np.zeros((2, 4)), NAMES)
    with pytest.raises(ManyscaleError, match="do not fit 4 names"):
        Trees.fit(sample(0, 100), sample(1, 100), NAMES[:4], seed=1)


def test_no_events_no_scores(trees):
    assert trees.predict(np.zeros((0, 5)), NAMES).shape == (0,)


def test_one_class_is_refused():
    table = sample(0, 100)
    with pytest.raises(ManyscaleError, match="no background events"):
        Trees.fit(table._replace(labels=np.ones(100)), table, NAMES, seed=1)


def test_scale_of_weights_and_size_of_classes_do_not_matter():
    train, validation, test = (sample(seed, 1500) for seed in range(3))
    plain = Trees.fit(train, validation, NAMES, seed=1)
    weights = np.where(train.labels == 1, 8.0, 0.25)
    weighted = Trees.fit(train._replace(weights=weights), validation, NAMES, seed=1)
    np.testing.assert_allclose(
        weighted.predict(test.matrix, NAMES), plain.predict(test.matrix, NAMES), atol=1e-6
    )


def test_negative_weights_take_away_what_is_too_much():
    def with_excess(seed, events):
        """Half as many background events again, in the signal's place, and as many below zero."""
        generator = np.random.default_rng(seed)
        part = sample(seed, events)
        extra = generator.normal(size=(events // 2, len(NAMES)))
        extra[:, 0] = generator.normal(2, 0.5, len(extra))
        signs = np.where(np.arange(len(extra)) % 2, 1.0, -1.0)
        return Table(
            np.concatenate([part.matrix, extra]),
            np.concatenate([part.labels, np.zeros(len(extra))]),
            np.concatenate([np.ones(events), signs]),
        )

    train, validation, test = with_excess(0, 6000), with_excess(1, 3000), sample(2, 5000)
    signed = Trees.fit(train, validation, NAMES, seed=1).predict(test.matrix, NAMES)
    absolute = Trees.fit(
        train._replace(weights=np.abs(train.weights)),
        validation._replace(weights=np.abs(validation.weights)),
        NAMES,
        seed=1,
    ).predict(test.matrix, NAMES)
    ideal = auc(test.labels, test.matrix[:, 0])
    assert auc(test.labels, signed) > ideal - 0.02
    assert auc(test.labels, signed) > auc(test.labels, absolute) + 0.01


def test_more_events_than_allowed_are_drawn_at_random(monkeypatch):
    monkeypatch.setattr(module, "MOST_EVENTS", 1000)
    train = sample(0, 3000)
    # The first thousand have labels that say nothing: taking only these would learn nothing.
    labels = train.labels.copy()
    labels[:1000] = np.random.default_rng(1).integers(0, 2, 1000)
    trees = Trees.fit(train._replace(labels=labels), sample(1, 1000), NAMES, seed=3)
    test = sample(2, 2000)
    assert auc(test.labels, trees.predict(test.matrix, NAMES)) > 0.7


def test_files_without_trees_are_refused(tmp_path):
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "binary.txt").write_bytes(b"\x80\x00\xff")
    (tmp_path / "other.txt").write_text("tree\nversion=v4\nnot a model\n")
    for name in ("missing.txt", "empty.txt", "binary.txt", "other.txt"):
        with pytest.raises(RunError, match=name):
            Trees.load(tmp_path / name)
