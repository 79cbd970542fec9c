"""The command `limits` end to end on a small run, and what it refuses."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from helpers.commands import run
from helpers.toys import SCHEMA, toy_events
from manyscale.card import load_card, parse_card
from manyscale.card.writing import card_text
from manyscale.data.manifest import merge
from manyscale.data.parts import write_events
from manyscale.data.schema import Process
from manyscale.errors import ManyscaleError
from manyscale.runs.limits import limits_run
from manyscale.runs.whole import whole_run

pytest.importorskip("pyhf")

# The cross sections give some hundred background events.
PROCESSES = (
    Process(name="hh_1000", label="signal", cross_section=1e-4, k_factor=2.0),
    Process(name="hh_1500", label="signal", cross_section=5e-5),
    Process(name="qcd", label="background", cross_section=1e-3),
)
LUMINOSITY = 300.0


def three_processes(folder, seed=11, events=1000):
    """Write a dataset of two signals and a background."""
    packed = toy_events(seed, events=events, learnable=True)
    rng = np.random.default_rng(1000 + seed)  # not that of the labels
    process = np.where(packed.label == 1, rng.integers(0, 2, events), 2)
    schema = SCHEMA.model_copy(update={"processes": PROCESSES})
    for place, of in enumerate(PROCESSES):
        chosen = packed.take(np.flatnonzero(process == place))
        chosen.process[:] = place
        book = of.model_copy(update={"generated": len(chosen), "sum_weights": float(len(chosen))})
        write_events(folder, f"{of.name}-000000", chosen, schema, book, f"toys {of.name}")
    merge(folder)
    return folder


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
    whole_run(card, folder / "run")
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
    assert list(found["classifiers"]) == ["network", "trees"]
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
            for ending in ("svg", "pdf", "csv"):
                assert (copied / "plots" / f"{stem}.{ending}").is_file()
    (counted,) = found["counting"]["network"]
    assert counted["trust"] in {"asymptotic", "toys"}
    assert counted["toys"] == pytest.approx(counted["asymptotic"], rel=0.2)


def test_masses_make_a_limit_each_and_replace_what_was_there(copied):
    (copied / "limits").mkdir()
    for old in ("limits/workspace_network.json", "plots/limit_mu.svg", "plots/limit_mu.csv"):
        (copied / old).write_text("", encoding="utf-8")
    with_settings(copied, "evaluation.limits.masses={hh_1500: 1500, hh_1000: 1000}")
    found = limits_run(copied, luminosity=600)
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


def test_given_edges_are_taken(copied):
    with_settings(copied, "evaluation.limits.edges=[0, 0.5, 1]")
    found = limits_run(copied)
    assert found["classifiers"]["trees"]["edges"] == [0, 0.5, 1]
    assert not any("same events" in notice for notice in found["notices"])


def test_another_dataset_is_test_as_a_whole(copied, tmp_path):
    other = three_processes(tmp_path / "other", seed=12, events=400)
    found = limits_run(copied, data=other)
    content = found["classifiers"]["network"]["templates"][2]
    assert sum(content["content"]) == pytest.approx(300)
    assert sum(content["n_effective"]) == pytest.approx(200, rel=0.2)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (("evaluation.luminosity=null",), "limits need a luminosity"),
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
