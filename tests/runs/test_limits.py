"""The command `limits` end to end on a small run, what it refuses; and a run's systematics."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helpers.commands import PROCESSES, run, three_processes
from helpers.toys import SCHEMA, toy_events
from manyscale.card import card_text, load_card, parse_card
from manyscale.data.manifest import merge
from manyscale.data.parquet import write_events
from manyscale.errors import CardError, ManyscaleError
from manyscale.evaluation.systematics import Normalisation, Shape
from manyscale.events.ragged import PackedStream
from manyscale.reporting.report import write_report
from manyscale.runs import limits as limits_module
from manyscale.runs.evaluate import Trial, evaluate_run, predict_trial, scale
from manyscale.runs.limits import limits_run, variations
from manyscale.runs.train import train_run, whole_run
from manyscale.schema import COLUMNS

pytest.importorskip("pyhf")

LUMINOSITY = 300.0


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("limits")
    dataset = three_processes(folder / "data")
    card = parse_card(
        "preset: kinematics-only\n",
        "card",
        [
            f"data.dataset={dataset}",
            "training.epochs=2",
            f"evaluation.luminosity={LUMINOSITY}",
            "evaluation.limits.bins=4",
            "evaluation.systematics={rate: {normalisation: 0.1}, jes: {energy_scale: 0.05}}",
        ],
    )
    whole_run(card, folder / "run", plots=False)
    return folder / "run"


@pytest.fixture
def copied(trained, tmp_path):
    """A copy of the run, whose card a test may change."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def with_settings(folder, *changes):
    card = load_card(folder / "card.yaml", changes)
    (folder / "card.yaml").write_text(card_text(card, "changed"), encoding="utf-8")
    return folder


def found_in(folder):
    return json.loads((folder / "limits" / "limits.json").read_text(encoding="utf-8"))


def test_command_writes_limits_workspaces_plots_and_report(copied, capsys, monkeypatch):
    (copied / "report.html").unlink()
    done = run(capsys, monkeypatch, "limits", copied)
    assert done.code == 0, done.err
    assert "limit on mu" in done.out
    assert (copied / "report.html").is_file()
    found = found_in(copied)
    assert found["luminosity"] == LUMINOSITY
    assert found["confidence"] == 0.95
    assert found["weights"] == "physical"
    assert found["systematics"] == ["rate", "jes"]
    assert list(found["classifiers"]) == ["network", "trees", "combined"]
    for name, classifier in found["classifiers"].items():
        (row,) = classifier["hypotheses"]
        assert (row["signal"], row["mass"]) == ("hh_1000 + hh_1500", None)
        assert row["cross_section_fb"] == pytest.approx(0.2 + 0.05)
        for band in ("-2", "-1", "0", "1", "2"):
            assert row["limit_fb"][band] == pytest.approx(0.25 * row["mu"][band])
        assert row["mu"]["0"] > row["mu_statistics_only"] > 0
        assert 0 < row["significance"] < row["significance_statistics_only"]
        assert 0 < row["mu_error"] < row["mu"]["0"]
        workspace = json.loads((copied / "limits" / row["workspace"]).read_text(encoding="utf-8"))
        assert workspace["channels"][0]["name"] == name
        yields = {one["process"]: sum(one["content"]) for one in classifier["templates"]}
        # The test split stands for all events: luminosity x cross section x k-factor.
        assert yields == pytest.approx({"hh_1000": 60, "hh_1500": 15, "qcd": 300})
        for stem in (f"limit_templates_{name}", "limit_mu"):
            for ending in ("svg", "csv"):
                assert (copied / "plots" / f"{stem}.{ending}").is_file()
    (counted,) = found["counting"]["network"]
    assert counted["trust"] in {"asymptotic", "exact"}
    assert counted["exact"] == pytest.approx(counted["asymptotic"], rel=0.2)


def test_masses_make_a_limit_each_and_replace_what_was_there(copied):
    for folder in ("limits", "plots"):
        (copied / folder).mkdir()
    for old in ("limits/workspace_network.json", "plots/limit_mu.svg", "plots/limit_mu.csv"):
        (copied / old).write_text("", encoding="utf-8")
    with_settings(copied, "evaluation.limits.masses={hh_1500: 1500, hh_1000: 1000}")
    found = limits_run(copied, luminosity=600, device="cpu").plain()
    assert found == found_in(copied)
    for name, classifier in found["classifiers"].items():
        rows = classifier["hypotheses"]
        assert [(row["signal"], row["mass"]) for row in rows] == [
            ("hh_1000", 1000),
            ("hh_1500", 1500),
        ]
        assert [row["workspace"] for row in rows] == [
            f"workspace_{name}_hh_1000.json",
            f"workspace_{name}_hh_1500.json",
        ]
        # The same kind of toys: limits on the cross section alike, so on mu as the cross sections.
        assert rows[0]["limit_fb"]["0"] == pytest.approx(rows[1]["limit_fb"]["0"], rel=0.5)
        assert (copied / "plots" / f"limit_brazil_{name}.svg").is_file()
    written = {path.name for path in (copied / "limits").iterdir()}
    assert written == {
        "limits.json",
        *(
            f"workspace_{name}_hh_{mass}.json"
            for name in found["counting"]
            for mass in (1000, 1500)
        ),
    }
    assert not list((copied / "plots").glob("limit_mu.*"))


def test_limits_are_for_the_luminosity_of_the_last_evaluation_and_say_so(copied):
    evaluated = evaluate_run(copied, luminosity=55, plots=False)
    found = limits_run(copied)
    assert found.luminosity == 55
    assert found.stamp.identity == evaluated.stamp.identity
    assert "Stale" not in write_report(copied).read_text(encoding="utf-8")
    evaluate_run(copied, luminosity=300, plots=False)
    said = write_report(copied).read_text(encoding="utf-8")
    assert "Stale: it is for 55 fb⁻¹, and the last evaluation for 300 fb⁻¹." in said
    assert f"manyscale limits {copied}" in said


def test_limits_of_other_events_than_the_last_evaluation_are_stale(copied, tmp_path):
    limits_run(copied)
    other = three_processes(tmp_path / "other", seed=12, events=400)
    evaluate_run(copied, data=other, plots=False)
    said = write_report(copied).read_text(encoding="utf-8")
    assert "and the last evaluation of 400." in said
    assert f"manyscale limits {copied} --data {other}" in said


def test_a_limit_from_one_bin_is_not_claimed_for_the_network(copied, capsys, monkeypatch):
    with_settings(copied, "evaluation.limits.bins=1")
    done = run(capsys, monkeypatch, "limits", copied)
    said = "one bin is left, so that the limit on hh_1000 + hh_1500 counts events and ignores the"
    assert f"network: {said} score: it is no result of the network." in done.out
    assert "it is no result of the network" in (copied / "report.html").read_text(encoding="utf-8")
    row = found_in(copied)["classifiers"]["network"]["hypotheses"][0]
    assert row["mu_without_score"] == pytest.approx(row["mu_statistics_only"])


def test_bins_that_say_no_more_than_one_are_no_result_of_the_network(copied):
    with_settings(copied, "evaluation.limits.edges=[0, 0.5, 1]", "evaluation.systematics={}")
    original = limits_module.predict_trial

    def guessed(trial):
        prediction = original(trial)
        guess = np.empty(len(prediction.events))
        for process in range(len(PROCESSES)):
            of = prediction.events.process == process
            guess[of] = np.resize([0.25, 0.75], of.sum())
        return replace(prediction, scores=dict.fromkeys(prediction.scores, guess))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits_module, "predict_trial", guessed)
        found = limits_run(copied)
    assert any("2 bins say no more than one" in notice for notice in found.notices)


def test_limits_need_a_luminosity(copied):
    with_settings(copied, "evaluation.luminosity=null")
    evaluate_run(copied, plots=False)
    with pytest.raises(ManyscaleError, match="limits need a luminosity"):
        limits_run(copied)


def test_given_edges_are_taken(copied):
    with_settings(copied, "evaluation.limits.edges=[0, 0.5, 1]")
    found = limits_run(copied).plain()
    assert found["classifiers"]["trees"]["edges"] == [0, 0.5, 1]
    assert not any("same events" in notice for notice in found["notices"])
    assert not any("ignores the score" in notice for notice in found["notices"])


def test_another_dataset_is_test_as_a_whole(copied, tmp_path):
    other = three_processes(tmp_path / "other", seed=12, events=400)
    found = limits_run(copied, data=other).plain()
    content = found["classifiers"]["network"]["templates"][2]
    assert sum(content["content"]) == pytest.approx(300)
    assert sum(content["n_effective"]) == pytest.approx(200, rel=0.2)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (("evaluation.limits.masses={hx: 1}",), "no signal process 'hx'"),
        (("evaluation.limits.edges=[0, 0.5, 0.99999, 1]",), "bin 3 of 3, scores from 0.99999"),
        (("evaluation.limits.floor=500",), "a bin of the templates needs 500"),
        (("evaluation.systematics={mu: {normalisation: 0.1}}",), "'mu' cannot be a name"),
        (("data.dataset=moved",), "moved"),
    ],
)
def test_what_cannot_be_done_is_said_and_leaves_nothing(copied, changes, said):
    with pytest.raises(ManyscaleError, match=said):
        limits_run(with_settings(copied, *changes))
    assert not (copied / "limits").exists()
    assert not list((copied / "plots").glob("limit_*"))


@pytest.mark.parametrize("luminosity", [0, -3, float("nan")])
def test_luminosity_must_be_above_zero(trained, luminosity):
    with pytest.raises(ManyscaleError, match="luminosity is"):
        limits_run(trained, luminosity=luminosity)


def test_missing_cross_section_is_named(copied, tmp_path):
    other = three_processes(tmp_path / "other", seed=12, events=300)
    for path in [other / "dataset.json", *other.rglob("*.json")]:
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace('"cross_section": 0.001', '"cross_section": null'), "utf-8")
    with pytest.raises(ManyscaleError, match="cross section is known of 'qcd'"):
        limits_run(copied, data=other)


def test_run_that_is_not_evaluated_is_refused(copied):
    (copied / "metrics.json").unlink()
    with pytest.raises(ManyscaleError, match="is not evaluated"):
        limits_run(copied)


def test_folder_that_is_no_run_is_refused(tmp_path, capsys, monkeypatch):
    done = run(capsys, monkeypatch, "limits", tmp_path / "nowhere")
    assert (done.code, "there is no run" in done.err) == (1, True)


# ---- systematics as the response of network and trees ----

WEIGHTS = ("weight", "scale_up", "scale_down")
VARIED = SCHEMA.model_copy(update={"weights": WEIGHTS})
SYSTEMATICS = """
evaluation:
  luminosity: 100
  systematics:
    qcd_rate: {normalisation: 0.25}
    jes: {energy_scale: 0.1}
    jes_of_jet1: {energy_scale: 0.1, streams: [jet1], processes: [qcd]}
    jer: {energy_resolution: 0.2}
    tracking: {efficiency: 0.2}
    scale: {weights: {up: scale_up, down: scale_down}, processes: [qcd]}
    shower: {weights: {up: scale_up}}
"""


def write_varied(folder, events):
    """Write events as a dataset, a part for each process."""
    for place, process in enumerate(VARIED.processes):
        chosen = events.take(np.flatnonzero(events.process == place))
        book = process.model_copy(update={"generated": 1000, "sum_weights": 1000.0})
        write_events(folder, process.name, chosen, VARIED, book, process.name)
    merge(folder)
    return folder


def varied_events(events):
    """Weights of both signs and of zero, and two variations of them."""
    weight = np.resize([1.0, 2.0, -0.5, 0.0, 1.5], len(events))
    draws = np.random.default_rng(5).uniform(0.5, 1.5, (2, len(events)))
    varied = {"scale_up": weight * draws[0] + 0.1, "scale_down": weight * draws[1]}
    return replace(events, weight=weight, weights=varied)


@pytest.fixture(scope="module")
def varied_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("variations")
    data = write_varied(folder / "data", varied_events(toy_events(17, events=300, learnable=True)))
    changes = [f"data.dataset={data}", "training.epochs=2", "training.batch_size=32"]
    return train_run(parse_card(SYSTEMATICS, changes=changes), folder / "run").root


@pytest.fixture(scope="module")
def trial(varied_run):
    return Trial.open(varied_run, device="cpu")


@pytest.fixture(scope="module")
def prediction(trial):
    return predict_trial(trial)


@pytest.fixture(scope="module")
def scaled(trial, prediction):
    return scale(trial, prediction.events, 100.0)


@pytest.fixture(scope="module")
def found(trial, prediction, scaled):
    return {one.name: one for one in variations(trial, prediction, scaled)}


def test_each_is_what_the_card_says(found, trial):
    assert list(found) == list(trial.card.evaluation.systematics)
    assert found["qcd_rate"] == Normalisation("qcd_rate", ("qcd",), 1.25, 0.8)
    shapes = {name: one for name, one in found.items() if isinstance(one, Shape)}
    assert len(shapes) == 6
    mirrored = {name for name, one in shapes.items() if one.down is None}
    assert mirrored == {"jer", "tracking", "shower"}


def test_test_events_keep_their_named_weights(prediction, trial):
    expected = trial.test.events()
    assert set(prediction.events.weights) == {"scale_up", "scale_down"}
    for name, values in expected.weights.items():
        np.testing.assert_array_equal(prediction.events.weights[name], values)
    assert any((values != expected.weight).any() for values in expected.weights.values())


def scaled_by_hand(events, factor):
    """The events with every column in GeV multiplied."""

    def multiplied(stream):
        packed = events.streams[stream.name]
        of_token, of_jet = (
            np.array([factor if COLUMNS[name].unit == "GeV" else 1 for name in names], np.float32)
            for names in (stream.columns, stream.axis)
        )
        return PackedStream(packed.values * of_token, packed.counts, packed.axis * of_jet)

    return replace(events, streams={stream.name: multiplied(stream) for stream in SCHEMA.streams})


@pytest.mark.parametrize(("side", "factor"), [("up", 1.1), ("down", 0.9)])
def test_response_is_the_score_of_data_that_were_written_shifted(
    found, trial, prediction, varied_run, tmp_path, side, factor
):
    data = write_varied(tmp_path / "shifted", scaled_by_hand(trial.test.events(), factor))
    other = predict_trial(Trial.open(varied_run, data, "cpu"))
    place = {number: i for i, number in enumerate(other.events.event_id.tolist())}
    order = [place[number] for number in prediction.events.event_id.tolist()]
    scores = getattr(found["jes"], side).scores
    for name, values in other.scores.items():
        np.testing.assert_allclose(scores[name], values[order], atol=1e-6)
    assert np.abs(scores["network"] - prediction.network).max() > 1e-3


def test_weights_stay_where_energies_move(found, scaled):
    for name in ("jes", "jes_of_jet1", "jer", "tracking"):
        np.testing.assert_array_equal(found[name].up.weight, scaled.weight)


def test_all_detector_shifts_move_scores(found, prediction):
    for name in ("jes", "jes_of_jet1", "jer", "tracking"):
        scores = found[name].up.scores
        assert np.abs(scores["network"] - prediction.network).max() > 1e-4, name


def test_processes_that_are_not_named_stay_nominal(found, prediction, scaled):
    named = scaled.process == [process.name for process in scaled.processes].index("qcd")
    scores = found["jes_of_jet1"].up.scores["network"]
    np.testing.assert_array_equal(scores[~named], prediction.network[~named])
    assert (scores[named] != prediction.network[named]).any()
    weight = found["scale"].up.weight
    np.testing.assert_array_equal(weight[~named], scaled.weight[~named])
    assert (weight[named] != scaled.weight[named]).any()


def test_named_weights_are_scaled_as_the_nominal(found, prediction, scaled, trial):
    """By hand: luminosity x cross section / sum of generated weights, times test to whole."""
    varied = found["shower"].up
    for place, process in enumerate(scaled.processes):
        chosen = prediction.events.process == place
        whole = trial.whole.process_weights[place]
        factor = 100.0 * 1000 * process.cross_section / process.sum_weights
        factor *= whole / prediction.events.weight[chosen].sum()
        expected = prediction.events.weights["scale_up"][chosen] * factor
        np.testing.assert_allclose(varied.weight[chosen], expected, rtol=1e-12)
    assert (scaled.weight == 0).any()  # also where the nominal weight is zero
    np.testing.assert_array_equal(varied.scores["network"], prediction.network)


def test_other_data_are_asked_for_their_own_weights(varied_run, tmp_path, prediction, scaled):
    plain = write_plain(tmp_path / "plain")
    trial = Trial.open(varied_run, plain, "cpu")
    with pytest.raises(CardError, match=r"scale.weights: the data have no named weight 'scale_up'"):
        variations(trial, prediction, scaled)


def write_plain(folder):
    events = replace(toy_events(99, events=40), weights={})
    for place, process in enumerate(SCHEMA.processes):
        chosen = events.take(np.flatnonzero(events.process == place))
        write_events(folder, process.name, chosen, SCHEMA, process, process.name)
    merge(folder)
    return folder


def test_training_refuses_systematics_that_do_not_fit_the_data(tmp_path):
    data = write_plain(tmp_path / "data")
    changes = [
        f"data.dataset={data}",
        "evaluation.systematics.jes={energy_scale: 0.1, streams: [jet]}",
    ]
    with pytest.raises(CardError, match=r"jes\.streams: the data have no stream 'jet'; did"):
        train_run(parse_card("", changes=changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_no_systematics_no_variations(trial, prediction, scaled):
    card = trial.card
    bare = card.model_copy(
        update={"evaluation": card.evaluation.model_copy(update={"systematics": {}})}
    )
    assert variations(replace(trial, card=bare), prediction, scaled) == []
