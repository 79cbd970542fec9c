"""Comparisons end to end: folds, resumed and side by side; what is refused before anything is trained."""

import json
import re
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from helpers import tasks
from helpers.commands import toy_dataset, write_parts
from helpers.toys import SCHEMA, toy_events
from manyscale.card import Card, DataSettings, load_card
from manyscale.errors import DataError, RunError
from manyscale.events.work import SHARE
from manyscale.model.layers import StreamSettings
from manyscale.reporting.figure import Drawn
from manyscale.runs import compare
from manyscale.runs.compare import compare_cards
from manyscale.statistics.metrics import auc
from manyscale.training.schedule import TrainingSettings


def card_of(dataset, width=8, **training):
    return Card(
        preset="kinematics-only",
        data=DataSettings(dataset=dataset),
        streams={"kinematics": StreamSettings(width=width, layers=1)},
        training=TrainingSettings(epochs=1, batch_size=64, **training),
    )


def make_quick(patch):
    """One run after the other, on one core, without the plots, which are tested elsewhere."""
    patch.setattr(Drawn, "save", lambda _, folder, name: folder.mkdir(exist_ok=True))
    patch.setenv(SHARE, "1")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    make_quick(monkeypatch)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("compared")


@pytest.fixture(scope="module")
def cards(folder):
    dataset = toy_dataset(folder / "toys")
    return {"narrow": card_of(dataset), "wide": card_of(dataset, width=16)}


@pytest.fixture(scope="module")
def compared(folder, cards):
    """Two cards on two folds."""
    with pytest.MonkeyPatch.context() as patch:
        make_quick(patch)
        compare_cards(cards, folder / "both", folds=2)
    return folder / "both"


def columns_of(path):
    table = pq.read_table(path)
    return {name: table[name].to_numpy() for name in table.column_names}


def figures_of(path):
    """The table without what depends on the machine's mood."""
    rows = json.loads(path.read_text(encoding="utf-8"))
    return [
        {key: of for key, of in row.items() if key not in {"seconds", "events_per_second"}}
        for row in rows
    ]


def test_each_event_is_tested_once_by_a_network_that_has_not_seen_it(compared, cards):
    joined = columns_of(compared / "scores.parquet")
    assert list(joined)[:5] == ["event_id", "process", "label", "weight", "fold"]
    assert {"narrow", "wide", "trees"} <= set(joined)
    assert len(np.unique(joined["event_id"])) == len(joined["event_id"]) == 240
    assert set(joined["process"][joined["label"] == 1]) == {"hh4b"}
    for fold in (0, 1):
        run = compared / "wide" / f"fold-{fold}"
        split = load_card(run / "card.yaml").data.split
        assert (split.folds, split.fold) == (2, fold)
        own = columns_of(run / "scores" / "test.parquet")
        chosen = joined["fold"] == fold
        np.testing.assert_array_equal(joined["event_id"][chosen], own["event_id"])
        np.testing.assert_array_equal(joined["wide"][chosen], own["score"])


def test_table_and_report_hold_the_means_over_the_folds(compared):
    joined = columns_of(compared / "scores.parquet")
    rows = {row["name"]: row for row in figures_of(compared / "comparison.json")}
    assert list(rows)[:3] == ["narrow", "wide", "trees"]
    areas = [
        auc(joined["label"][joined["fold"] == fold], joined["wide"][joined["fold"] == fold])
        for fold in (0, 1)
    ]
    assert rows["wide"]["auc"] == pytest.approx(np.mean(areas))
    assert rows["wide"]["auc_spread"] == pytest.approx(np.std(areas, ddof=1))
    assert (rows["wide"]["trainings"], rows["wide"]["difference_to"]) == (2, "narrow")
    assert list(rows["trees"]["background_rejection"]) == ["0.30", "0.50", "0.70", "0.90", "0.95"]
    page = (compared / "report.html").read_text(encoding="utf-8")
    assert "On the same test events the AUC of wide" in page
    assert "Means over 2 trainings" in page
    assert "training [s]" in page
    assert not re.search(r"(src|href)=.?https?://", page)


def test_a_resumed_comparison_is_equal_and_repeats_nothing(compared, cards, tmp_path, monkeypatch):
    root = tmp_path / "both"
    shutil.copytree(compared, root)
    shutil.rmtree(root / "wide" / "fold-1")
    trained = []
    done = compare._train_and_evaluate

    def counted(card, folder, *arguments):
        trained.append(folder)
        done(card, folder, *arguments)

    monkeypatch.setattr(compare, "_train_and_evaluate", counted)
    compare_cards(cards, root, folds=2)
    assert trained == [root / "wide" / "fold-1"]
    assert figures_of(root / "comparison.json") == figures_of(compared / "comparison.json")
    found, before = (columns_of(of / "scores.parquet") for of in (root, compared))
    for name, column in found.items():
        np.testing.assert_array_equal(column, before[name])
    changed = cards | {"wide": card_of(cards["wide"].data.dataset, width=16, learning_rate=1e-4)}
    with pytest.raises(RunError, match="begun with another card: they differ in training"):
        compare_cards(changed, root, folds=2)


def test_side_by_side_gives_the_same_as_one_after_the_other(compared, cards, tmp_path, monkeypatch):
    """Of one thread each, as tests have; the workers are processes of their own."""
    monkeypatch.setattr(compare, "usable_cores", lambda: 2)
    monkeypatch.setattr(compare, "_train_and_evaluate", tasks.train_without_plots)
    compare_cards({"narrow": cards["narrow"]}, tmp_path / "one", folds=2)
    found, before = (columns_of(of / "scores.parquet") for of in (tmp_path / "one", compared))
    np.testing.assert_array_equal(found["event_id"], before["event_id"])
    for name in ("narrow", "trees"):
        np.testing.assert_array_equal(found[name], before[name])


def test_a_run_that_fails_leaves_the_others_and_says_how_to_go_on(
    compared, cards, tmp_path, monkeypatch
):
    def fail(card, folder, *_):
        if folder.parent.name == "narrow" and folder.name == "fold-0":
            raise DataError("event 7 is odd")
        shutil.copytree(compared / folder.parent.name / folder.name, folder)

    monkeypatch.setattr(compare, "_train_and_evaluate", fail)
    monkeypatch.setattr("sys.argv", ["manyscale", "compare", "narrow.yaml", "--folds", "2"])
    said = r"1 of 4 runs failed.*fold-0: event 7 is odd.*`manyscale compare narrow.yaml --folds 2`"
    with pytest.raises(RunError, match=said):
        compare_cards(cards, tmp_path / "both", folds=2)
    assert sorted(path.parent.parent.name for path in tmp_path.rglob("metrics.json")) == [
        "narrow",
        "wide",
        "wide",
    ]


def test_what_cannot_be_compared_is_refused_before_anything_is_trained(cards, tmp_path):
    narrow = cards["narrow"]
    for name in ("trees", "combined", "fold", "plots"):
        with pytest.raises(RunError, match=f"may not be called '{name}'"):
            compare_cards({name: narrow}, tmp_path / "out")
    with pytest.raises(RunError, match="either folds or seeds"):
        compare_cards(cards, tmp_path / "out", folds=2, seeds=2)
    with pytest.raises(DataError, match="1000 training events are asked for, but there are 1"):
        compare_cards(cards, tmp_path / "out", sizes=[20, 1000])
    events = toy_events(3, events=60)
    few = events.take(
        np.r_[np.flatnonzero(events.label == 1)[:4], np.flatnonzero(events.label == 0)]
    )
    rare = card_of(write_parts(tmp_path / "rare", SCHEMA, few))
    with pytest.raises(DataError, match="4 signal events, fewer than the 5 folds"):
        compare_cards({"rare": rare}, tmp_path / "out", folds=5)
    with pytest.raises(DataError, match=r"fold-\d: its (test|validation|train) part has no signal"):
        compare_cards({"rare": rare}, tmp_path / "out", folds=4)
    assert not (tmp_path / "out").exists()
