"""A trained run evaluated at a luminosity: yields by hand, what is said, and bad input."""

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

import manyscale as ms
from helpers.commands import run
from helpers.toys import SCHEMA, toy_events
from manyscale.card import Card, DataSettings
from manyscale.console import print_metrics
from manyscale.data.dataset import Dataset
from manyscale.data.event_filter import SplitSettings
from manyscale.data.manifest import merge
from manyscale.data.parquet import write_events
from manyscale.deployment.scores import read_scores
from manyscale.errors import ManyscaleError
from manyscale.evaluation.combination import Combination
from manyscale.evaluation.results import Metrics
from manyscale.progress import LOG
from manyscale.runs import evaluate as module
from manyscale.runs.evaluate import evaluate_run
from manyscale.runs.plots import draw_plots, report_run
from manyscale.runs.train import train_run
from manyscale.schema import Process
from manyscale.training.schedule import TrainingSettings

PROCESSES = (
    Process(
        name="hh4b",
        label="signal",
        cross_section=1e-3,
        k_factor=1.5,
        filter_efficiency=0.5,
        sum_weights=3000.0,
        generated=2000,
    ),
    Process(
        name="qcd",
        label="background",
        cross_section=100.0,
        k_factor=1.2,
        sum_weights=500.0,
        generated=600,
    ),
    Process(
        name="ttbar", label="background", cross_section=0.8, sum_weights=1500.0, generated=2000
    ),
)
SPLIT = SplitSettings(train=0.4, validation=0.2, test=0.4)
KINDS = ("leading_jet", "second_jet", "pair", "missing_momentum")


def events(seed, observables):
    """Signal, a little qcd and much ttbar; a tenth of the weights below zero."""
    generator = np.random.default_rng(seed)
    packed = toy_events(seed, events=1200, learnable=True)
    of_background = np.where(generator.random(1200) < 0.1, 1, 2)
    weight = np.where(generator.random(1200) < 0.1, -0.5, generator.uniform(0.5, 2, 1200))
    values = {name: generator.exponential(50, 1200).astype(np.float32) for name in observables}
    process = np.where(packed.label == 1, 0, of_background)
    return replace(packed, process=process, weight=weight, observables=values)


def write(folder, seed, processes=PROCESSES, observables=("m_j1",)):
    schema = SCHEMA.model_copy(update={"processes": processes, "observables": observables})
    packed = events(seed, observables)
    for place, process in enumerate(processes):
        chosen = packed.take(np.flatnonzero(packed.process == place))
        write_events(
            folder, f"{process.name}-000000", chosen, schema, process, f"toys {process.name}"
        )
    merge(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("evaluated")


@pytest.fixture(scope="module")
def dataset(folder):
    return write(folder / "data", 5)


@pytest.fixture(scope="module")
def trained(folder, dataset):
    card = Card(
        preset="kinematics-only",
        data=DataSettings(dataset=dataset, split=SPLIT),
        training=TrainingSettings(epochs=1, batch_size=64, learning_rate=5e-3),
    )
    return train_run(card, folder / "run").root


@pytest.fixture(scope="module")
def metrics(trained):
    """The first evaluation, at 300 fb^-1."""
    return evaluate_run(trained, luminosity=300, device="cpu", plots=False).plain()


@pytest.fixture(scope="module")
def drawn(trained, metrics, tmp_path_factory):
    """A copy of the run, its plots drawn from its files."""
    root = shutil.copytree(trained, tmp_path_factory.mktemp("drawn") / "run")
    assert not (root / "plots").exists()
    assert report_run(root) == root / "report.html"
    return root


@pytest.fixture
def again(trained, metrics, tmp_path):
    """Evaluate a copy of the run, without plots."""
    root = tmp_path / "run"
    shutil.copytree(trained, root)

    def evaluated(*, card=(), **keywords):
        for old, new in card:
            text = (root / "card.yaml").read_text(encoding="utf-8")
            assert old in text
            (root / "card.yaml").write_text(text.replace(old, new), encoding="utf-8")
        return evaluate_run(root, plots=False, **keywords).plain()

    evaluated.root = root
    return evaluated


def test_yields_agree_with_a_hand_calculation(metrics, dataset):
    every = Dataset.open(dataset, split=SPLIT, seed=1)
    known, tested = every.bookkeeping(), every.test.bookkeeping()
    names = [process.name for process in every.schema.processes]
    found = metrics["yields"]
    background = [0.0, 0.0]
    for process in PROCESSES:
        place = names.index(process.name)
        pb = process.cross_section * process.k_factor * process.filter_efficiency
        of_weight_one = 300 * 1000 * pb / process.sum_weights
        every_weight = known.weight[known.process == place]
        test_weight = tested.weight[tested.process == place]
        assert 0 < len(test_weight) < len(every_weight)
        assert (test_weight < 0).any()
        expected = of_weight_one * every_weight.sum()
        to_the_whole = every_weight.sum() / test_weight.sum()
        error = of_weight_one * to_the_whole * np.sqrt((test_weight**2).sum())
        one = found["processes"][process.name]
        assert one["expected"] == pytest.approx(expected, rel=1e-12)
        assert one["error"] == pytest.approx(error, rel=1e-12)
        assert one["n_events"] == len(test_weight)
        assert one["n_effective"] == pytest.approx(
            test_weight.sum() ** 2 / (test_weight**2).sum(), rel=1e-12
        )
        if process.label == "background":
            background[0] += expected
            background[1] += error**2
    assert found["background"]["expected"] == pytest.approx(background[0], rel=1e-12)
    assert found["background"]["error"] == pytest.approx(np.sqrt(background[1]), rel=1e-12)
    assert (found["luminosity"], found["notice"]) == (300, "")


def test_every_group_of_figures_says_its_weights(metrics, trained):
    assert metrics == json.loads((trained / "metrics.json").read_text(encoding="utf-8"))
    groups = (metrics, metrics["trees"], metrics["combined"])
    balanced = (*groups, metrics["sculpting"])
    physical = (metrics["yields"], *(group["significance"] for group in groups))
    assert {group["weights"] for group in balanced} == {"class-balanced"}
    assert {group["weights"] for group in physical} == {"physical"}


def test_console_shows_all_and_says_of_each_table_what_it_counts(metrics, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")  # a narrow table stands in pieces
    print_metrics(Metrics.model_validate(metrics))
    said = capsys.readouterr()
    assert "Test events, class-balanced" in said.err
    for words in (
        "expected at 300 fb^-1, physical weights",
        "best cut on the score, with the simulation's error, physical weights",
        "how cuts sculpt m_j1 of the background",
        metrics["significance"]["notice"],
    ):
        assert words in said.out
    rows = [line.split() for line in said.out.splitlines()]
    assert [row[:2] for row in rows if row and row[0] == "20%"] == [
        ["20%", "network"],
        ["20%", "trees"],
        ["20%", "combined"],
    ]
    assert "Combined: its logit is " in said.out


def test_plots_are_drawn_on_demand_from_the_files_of_the_run(drawn):
    assert {path.stem for path in (drawn / "plots").glob("*.svg")} == {
        "roc", "roc_by_process", "confusion", "reliability", "history", "tree_importances",
        "score_by_process", "scores", "mass_m_j1", "signal_efficiency", "significance", "sculpting",
        *(f"inputs_kinematics_{kind}" for kind in KINDS),
    }  # fmt: skip
    page = (drawn / "report.html").read_text(encoding="utf-8")
    assert 'data-name="score_by_process"' in page
    # Jets and missing momentum are never in one histogram.
    ranked = json.loads((drawn / "plots" / "separation.json").read_text(encoding="utf-8"))
    assert {row["stream"].replace(" ", "_") for row in ranked} == set(KINDS)


def test_plots_of_an_earlier_evaluation_go_and_others_stay(drawn, tmp_path, capsys, monkeypatch):
    root = shutil.copytree(drawn, tmp_path / "run")
    (root / "plots" / "limit_mu.svg").touch()
    done = run(capsys, monkeypatch, "evaluate", root, "--no-plots", "--luminosity", "10")
    assert done.code == 0, done.err
    assert [path.name for path in (root / "plots").iterdir()] == ["limit_mu.svg"]
    assert f"manyscale report {root}" in (root / "report.html").read_text(encoding="utf-8")


def test_scores_of_other_events_are_not_drawn(drawn, dataset, tmp_path):
    root = shutil.copytree(drawn, tmp_path / "run")
    other = module.Trial.open(root, write(tmp_path / "other", 6), "cpu")
    with pytest.raises(ManyscaleError, match="the data have changed since"):
        draw_plots(other)


def test_plots_carry_their_numbers(metrics, drawn):
    with (drawn / "plots" / "significance.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["best"] == "True"]
    every = (metrics, metrics["trees"], metrics["combined"])
    figures = [one for of in every for one in of["significance"]["systematics"] if one["best"]]
    assert len(rows) == len(figures) >= 4
    for row, one in zip(rows, figures, strict=True):
        assert float(row["systematic"]) == one["background"]
        assert float(row["significance"]) == pytest.approx(one["best"]["value"], rel=1e-6)
        assert float(row["error"]) == pytest.approx(one["best"]["value_error"], rel=1e-6)


def test_without_luminosity_the_other_figures_are_given(again, metrics, capsys):
    found = again(card=[("luminosity: 3000.0", "luminosity: null")])
    assert "yields" not in found
    assert found["auc"] == metrics["auc"]
    assert "no luminosity; give --luminosity" in found["yields_missing"]
    print_metrics(Metrics.model_validate(found))
    assert found["yields_missing"] in capsys.readouterr().out


def test_process_without_cross_section_is_named(again, dataset, metrics, tmp_path):
    shutil.copytree(dataset, tmp_path / "data")
    manifest = tmp_path / "data" / "dataset.json"
    text = manifest.read_text(encoding="utf-8")
    assert '"cross_section": 100.0' in text
    manifest.write_text(text.replace('"cross_section": 100.0', '"cross_section": null'), "utf-8")
    found = again(card=[(str(dataset), str(tmp_path / "data"))])
    assert "no cross section is known of 'qcd'" in found["yields_missing"]
    assert "'ttbar'" not in found["yields_missing"]
    # The backgrounds are mixed by their cross sections only where all of them are known.
    assert found["auc"] != metrics["auc"]


def test_data_without_the_mass_say_so(again, capsys):
    found = again(card=[("mass: m_j1", "mass: m_w")])
    assert "no observable 'm_w' (they have m_j1)" in found["sculpting_missing"]
    print_metrics(Metrics.model_validate(found))
    assert found["sculpting_missing"] in capsys.readouterr().out


def test_other_data_are_test_events_as_a_whole(again, tmp_path):
    other = write(tmp_path / "other", 6)
    weights = Dataset.open(other).bookkeeping()
    found = again(data=other, luminosity=300)
    assert found["n_events"] == 1200
    qcd = weights.weight[weights.process == 1]
    assert found["yields"]["processes"]["qcd"]["expected"] == pytest.approx(
        300 * 1000 * 120 / 500 * qcd.sum(), rel=1e-12
    )


def test_process_without_a_test_event_is_named(again, dataset, metrics):
    lone = PROCESSES[1].model_copy(update={"name": "lone"})
    data = Dataset.open(dataset, split=SPLIT, seed=1)
    chosen = data.train.bookkeeping()
    train_only = chosen.event_id[chosen.process == 1][0]
    every = data.events()
    one = every.take(np.flatnonzero(every.event_id == train_only))
    mixed = replace(one, process=np.zeros(1, np.int64))
    target = again.root.parent / "with_lone"
    shutil.copytree(dataset, target)
    schema = data.schema.model_copy(update={"processes": (lone,)})
    write_events(target, "lone-000000", mixed, schema, lone, "toys lone")
    merge(target)
    found = again(card=[(str(dataset), str(target))])
    assert found["yields"]["notice"] == "No test event is of lone: it counts as nothing."
    assert found["yields"]["processes"]["lone"]["expected"] == 0


@pytest.mark.parametrize("luminosity", [0, -3])
def test_luminosity_must_be_above_zero(trained, metrics, capsys, monkeypatch, luminosity):
    before = (trained / "metrics.json").read_bytes()
    done = run(capsys, monkeypatch, "evaluate", trained, "--luminosity", luminosity)
    assert (done.code, f"the luminosity is {luminosity} fb^-1" in done.err) == (1, True)
    assert (trained / "metrics.json").read_bytes() == before


def test_run_whose_data_moved_says_where_they_were_and_what_to_do(again, dataset, tmp_path):
    gone = tmp_path / "gone"
    with pytest.raises(ManyscaleError, match="If they were moved") as refused:
        again(card=[(str(dataset), str(gone))])
    assert str(gone) in str(refused.value)
    assert str(again.root / "card.yaml") in str(refused.value)


def without_background(dataset, part, target):
    """The dataset without the background of a part of the split."""
    data = Dataset.open(dataset, split=SPLIT, seed=1)
    there = getattr(data, part).bookkeeping()
    unwanted = there.event_id[there.label == 0]
    every = data.events()
    kept = every.take(np.flatnonzero(~np.isin(every.event_id, unwanted)))
    for place, process in enumerate(data.schema.processes):
        chosen = kept.take(np.flatnonzero(kept.process == place))
        write_events(target, f"{process.name}-000000", chosen, data.schema, process, process.name)
    merge(target)
    return target


def test_test_split_without_background_is_refused(again, dataset, tmp_path):
    target = without_background(dataset, "test", tmp_path / "one_class")
    with pytest.raises(ManyscaleError, match=r"the test part of the data .* hold no background"):
        again(card=[(str(dataset), str(target))])


def test_scores_hold_every_classifier_and_give_the_figures_back(metrics, trained, dataset):
    scores = read_scores(trained / "scores" / "test.parquet").columns
    test = Dataset.open(dataset, split=SPLIT, seed=1).test
    events = test.bookkeeping()
    np.testing.assert_array_equal(scores["event_id"], events.event_id)
    names = np.array([process.name for process in test.schema.processes])
    assert (scores["process"] == names[events.process]).all()
    assert (scores["split"] == "test").all()
    for column, figures in {
        "score": metrics,
        "score_trees": metrics["trees"],
        "score_combined": metrics["combined"],
    }.items():
        found = ms.evaluate(scores["label"], scores[column], test.balance.weights(events))
        assert found["auc"] == figures["auc"]
    fitted = Combination.model_validate(metrics["combined"]["combination"])
    np.testing.assert_allclose(
        fitted(scores["score"], scores["score_trees"]), scores["score_combined"], rtol=1e-12
    )
    for process, row in metrics["yields"]["processes"].items():
        chosen = scores["process"] == process
        assert scores["physical_weight"][chosen].sum() == pytest.approx(row["expected"])


def test_run_of_an_earlier_version_is_combined_where_its_validation_allows(
    again, dataset, metrics, tmp_path, capsys, caplog, monkeypatch
):
    monkeypatch.setattr(LOG, "propagate", True)
    facts = again.root / "model" / "trees.json"
    before = facts.read_bytes()
    facts.unlink()
    found = module.Trial.open(again.root, device="cpu").beside.combination
    assert found.plain() == metrics["combined"]["combination"]
    assert facts.read_bytes() == before

    facts.unlink()
    target = without_background(dataset, "validation", tmp_path / "one_class")
    found = again(card=[(str(dataset), str(target))])
    assert "combined" not in found
    assert "no combination of network and trees: the validation part" in caplog.text
    print_metrics(Metrics.model_validate(found))
    assert found["combined_missing"] in capsys.readouterr().out
    scores = read_scores(again.root / "scores" / "test.parquet").columns
    assert {"score", "score_trees"} == {name for name in scores if name.startswith("score")}


def test_device_that_is_not_there_is_refused(trained, metrics):
    with pytest.raises(ManyscaleError, match="there is no device 'gpu'"):
        evaluate_run(trained, device="gpu")
