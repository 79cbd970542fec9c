"""What the sentences say, and that they say no more than the numbers do."""

import json

import pytest

from helpers.report_files import expected_limits, explanation_files
from manyscale.evaluation.results import (
    Deletion,
    Explanation,
    Limits,
    Metrics,
    Randomisation,
    Separation,
)
from manyscale.reporting.findings import (
    SECTIONS,
    caption_of,
    check_sentences,
    combination_sentence,
    comparison_sentences,
    importance_sentence,
    limit_sentences,
    section_of,
    significance_sentences,
    suspicion,
    tiles,
)


@pytest.fixture
def metrics(content):
    """metrics.json of a complete run, to be changed."""
    return json.loads(content["metrics.json"])


def test_network_and_trees_are_compared_where_nothing_else_was(metrics):
    first, second, third = comparison_sentences(Metrics.model_validate(metrics), ())
    assert "AUC of the network is higher than that of the trees" in first
    # The trees of this run know nothing that the network does not know.
    assert "network and trees combined and that of the network differ" in second
    assert "network and trees combined is higher than that of the trees" in third
    metrics["trees"]["network_minus_trees"]["auc_error"] = 1.0
    first, *_ = comparison_sentences(Metrics.model_validate(metrics), ())
    assert "this sample cannot tell" in first


def test_what_the_combined_score_is_made_of_is_said(metrics):
    metrics["combined"]["combination"] |= {"network": 0.5, "trees": 0.0, "intercept": -0.25}
    said = combination_sentence(Metrics.model_validate(metrics))
    assert "0.5 × that of the network + 0 × that of the trees − 0.25" in said
    assert said.endswith("validation events.")
    metrics["combined"]["combination"]["notice"] = "the trees are odd"
    assert combination_sentence(Metrics.model_validate(metrics)).endswith("But the trees are odd.")
    del metrics["combined"]
    metrics["combined_missing"] = "One class."
    assert combination_sentence(Metrics.model_validate(metrics)) == "One class."


def test_what_is_too_good_to_be_true_is_said(metrics):
    assert suspicion(Metrics.model_validate(metrics)) == ""
    alone = [Separation(stream="jet1", feature="log_pt", separation=0.999)]
    said = suspicion(Metrics.model_validate(metrics), alone)
    assert said.startswith("Too good to be true: log_pt of jet1 alone tells the classes apart.")
    metrics["trees"]["auc"] = 0.99996
    said = suspicion(Metrics.model_validate(metrics))
    assert said.startswith("Too good to be true: the AUC of the trees is 1 within rounding.")


def test_without_yields_no_significance_is_told(metrics):
    del metrics["yields"]
    plain = Metrics.model_validate(metrics)
    assert significance_sentences(plain) == []
    assert tiles(plain, None) == []


def test_no_significance_is_said(metrics):
    metrics["significance"] |= {"best": None, "systematics": [], "notice": "Too few."}
    scarce = Metrics.model_validate(metrics)
    network, trees, combined = significance_sentences(scarce)
    assert "no cut leaves 10 effective background events" in network
    assert "promises" in trees
    assert "network and trees combined promises" in combined
    assert tiles(scarce, None) == []


def test_the_significance_told_is_that_with_the_error_of_the_simulation(metrics):
    metrics["significance"]["best"] |= {"value": 9.0, "value_with_mc_error": 3.0}
    for row in metrics["significance"]["systematics"]:
        row["best"] |= {"value": 3.0 - 10 * row["background"], "value_error": 0.25}
    altered = Metrics.model_validate(metrics)
    told = significance_sentences(altered)[0]
    assert "promises 3.00 ± 0.25 σ, and 2.00 ± 0.25 σ where the background" in told
    assert tiles(altered, None)[0][0] == "3 σ"


def test_a_limit_that_was_not_found_is_said():
    content = expected_limits()
    content["classifiers"]["network"]["hypotheses"][0]["mu"]["0"] = None
    network, trees = limit_sentences(Limits.model_validate(content))
    assert network.startswith("No limit on ")
    assert "2.500 ± 0.030 times" in trees
    assert limit_sentences(None) == []


def checks(**changes):
    """The check sentences of explanation_files(), some contents changed."""
    files = explanation_files()
    deletion = files["deletion.json"] | changes.get("deletion", {})
    randomisation = files["randomisation.json"] | changes.get("randomisation", {})
    return check_sentences(
        Randomisation.model_validate(randomisation), Deletion.model_validate(deletion)
    )


@pytest.mark.parametrize(
    ("passes", "said"), [(True, "it depends"), (False, "it is not shown to depend")]
)
def test_the_check_by_randomised_weights_says_how_it_went(passes, said):
    (sentence,) = checks(randomisation={"passes": passes}, deletion={"excess": {}})
    assert said in sentence
    assert "+0.030 ± 0.020" in sentence


def test_a_deletion_without_a_number_is_passed_over():
    excess = explanation_files()["deletion.json"]["excess"]
    excess["Grad-CAM"] = {"value": None, "error": None, "passes": False}
    _, sentence = checks(deletion={"excess": excess})
    assert "attention −0.10 ± 0.10 (failed)" in sentence
    assert "Grad-CAM" not in sentence


@pytest.mark.parametrize(
    ("loss", "needed"), [(0.05, True), (0.01, False), (0.0, False), (-0.03, False)]
)
def test_no_stream_is_called_needed_whose_loss_is_within_its_error(loss, needed):
    summary = explanation_files()["summary.json"]
    for row in summary["streams"]:
        row |= {"auc_loss": loss, "auc_loss_error": 0.01}
    sentence = importance_sentence(Explanation.model_validate(summary))
    assert ("the network needs" in sentence) == needed
    assert sentence.startswith("No stream is clearly needed") != needed


def test_what_was_not_explained_says_nothing():
    assert check_sentences(None, None) == []
    assert importance_sentence(None) == ""


def test_a_caption_names_what_its_plot_is_of_whatever_that_is_called():
    assert "stream {x}" in caption_of("image_{x}")
    assert section_of("limit_brazil_{rest}") == "limits"
    assert caption_of("of a user") == "of a user"
    assert "nothing of the network." in caption_of("deletion")
    assert {section_of(name) for name in ("roc", "sculpting", "limit_mu", "permutation")} | {
        section_of("comparison_roc"),
        section_of("of a user"),
    } == set(SECTIONS)
