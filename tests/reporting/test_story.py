import json

import pytest

from helpers.report_files import expected_limits, explanation_files
from manyscale.reporting.explanation_files import Explanations
from manyscale.reporting.limit_file import LimitFile
from manyscale.reporting.run_files import RunFiles
from manyscale.reporting.story import (
    check_sentences,
    doubts,
    findings,
    limit_sentences,
    significance_sentences,
    tiles,
)


def change(run, name, alter):
    """Change a JSON file of a run, and read the run."""
    content = json.loads((run / name).read_text())
    alter(content)
    (run / name).write_text(json.dumps(content))
    return RunFiles.read(run)


def test_a_run_without_the_rest_tells_of_its_classifiers_alone(run):
    for name in ("limits/limits.json", "explanation/summary.json"):
        (run / name).unlink()

    def plain(metrics):
        del metrics["yields"], metrics["significance"]
        metrics["yields_missing"] = "No luminosity."

    files = change(run, "metrics.json", plain)
    (only,) = findings(files)
    assert "AUC of the network" in only
    assert tiles(files) == []
    assert doubts(files) == ["No luminosity."]


def test_no_significance_is_said(run):
    def scarce(metrics):
        metrics["significance"] |= {"best": None, "systematics": [], "notice": "Too few."}

    files = change(run, "metrics.json", scarce)
    network, trees = significance_sentences(files.metrics)
    assert "no cut leaves 10 effective background events" in network
    assert "promises" in trees
    assert "Too few." in doubts(files)
    assert not any("σ" in number for number, _ in tiles(files))


def test_the_significance_told_is_that_with_the_error_of_the_simulation(run):
    def alter(metrics):
        best = metrics["significance"]["best"]
        best |= {"value": 9.0, "value_with_mc_error": 3.0}
        for row in metrics["significance"]["systematics"]:
            row["best"] |= {"value": 3.0 - 10 * row["background"], "value_error": 0.25}

    files = change(run, "metrics.json", alter)
    told = significance_sentences(files.metrics)[0]
    assert "promises 3.00 ± 0.25 σ, and 2.00 ± 0.25 σ where the background" in told
    assert tiles(files)[0][0] == "3 σ"


def test_a_limit_that_was_not_found_is_said():
    content = expected_limits()
    content["classifiers"]["network"]["hypotheses"][0]["mu"]["0"] = None
    network, trees = limit_sentences(LimitFile.model_validate(content))
    assert network.startswith("No limit on ")
    assert "2.500 ± 0.030 times" in trees


@pytest.mark.parametrize(
    ("passes", "said"), [(True, "it depends"), (False, "it is not shown to depend")]
)
def test_the_check_by_randomised_weights_says_how_it_went(tmp_path, passes, said):
    files = explanation_files()
    files["randomisation.json"]["passes"] = passes
    del files["deletion.json"]
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    (sentence,) = check_sentences(Explanations.read(tmp_path))
    assert said in sentence
    assert "+0.030 ± 0.020" in sentence


def test_a_deletion_without_a_number_is_passed_over(tmp_path):
    files = explanation_files()
    files["deletion.json"]["excess"]["Grad-CAM"] = {"value": None, "error": None, "passes": False}
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    _, sentence = check_sentences(Explanations.read(tmp_path))
    assert "attention −0.10 ± 0.10 (failed)" in sentence
    assert "Grad-CAM" not in sentence


@pytest.mark.parametrize("loss", [0.01, 0.0, -0.03])
def test_no_stream_is_called_needed_whose_loss_is_within_its_error(run, loss):
    def alter(summary):
        for row in summary["streams"]:
            row |= {"auc_loss": loss, "auc_loss_error": 0.01}

    found = findings(change(run, "explanation/summary.json", alter))
    assert found[-1].startswith("No stream is clearly needed")
    assert not any("needs" in sentence for sentence in found)


def test_what_was_not_explained_says_nothing(tmp_path):
    assert Explanations.read(tmp_path) is None
    assert check_sentences(None) == []
