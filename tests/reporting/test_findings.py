"""What the sentences say, and that they say no more than the numbers do."""

import json

import pytest

from helpers.report_files import expected_limits, explanation_files
from manyscale.evaluation.results import (
    ComparisonRow,
    Deletion,
    Explanation,
    IntegratedGradients,
    LayerPair,
    Limits,
    Metrics,
    Randomisation,
    Separation,
    Stamp,
)
from manyscale.reporting.findings import (
    SECTIONS,
    caption_of,
    combination_sentence,
    explanation_sentences,
    importance_sentence,
    is_folded,
    section_of,
    stale,
    stamped,
    suspicion,
    tiles,
    verdict,
)
from manyscale.schema import Process


@pytest.fixture
def metrics(content):
    """metrics.json of a complete run, to be changed."""
    return json.loads(content["metrics.json"])


PROCESSES = tuple(
    Process(name=name, label=label)
    for name, label in (("hh", "signal"), ("qcd", "background"), ("zz", "background"))
)


def test_the_verdict_is_one_sentence_of_paired_differences(metrics):
    said = verdict("mine", PROCESSES, Metrics.model_validate(metrics))
    assert said.startswith("mine tells hh from qcd and zz, better than boosted trees (by ")
    # The trees of this run know nothing that the network does not know.
    assert "and not to be told from both combined (by " in said
    assert said.count(".", 0, -1) == said.count("0.")
    metrics["auc"] = 0.5
    metrics["trees"]["network_minus_trees"] = {"auc": -0.02, "auc_error": 0.005}
    said = verdict("mine", (), Metrics.model_validate(metrics))
    assert said.startswith(
        "mine does not tell signal from background, worse than boosted trees (by 0.0200 ± 0.0050"
    )


def test_the_verdict_names_the_rivals_where_there_are_some(metrics):
    rows = [ComparisonRow(name="mine", auc=0.97)]
    rows += [
        ComparisonRow(
            name=name, auc=0.9, difference_to="mine", difference=d, difference_error=0.001
        )
        for name, d in (("other", -0.01), ("trees", -0.02), ("third", 0.003))
    ]
    said = verdict("mine", PROCESSES, Metrics.model_validate(metrics), rows)
    assert (
        "better than other (by 0.0100 ± 0.0010 in AUC) and boosted trees (by 0.0200 ± 0.0010"
        in said
    )
    assert said.endswith("and worse than third (by 0.0030 ± 0.0010).")


STAMP = Stamp(events=875, identity="a", luminosity=300, made="2026-11-27T05:17:44+00:00")


def test_what_does_not_fit_the_last_evaluation_is_stale(metrics):
    evaluated = Metrics.model_validate(metrics | {"stamp": STAMP})
    assert evaluated.yields.luminosity == 300
    assert stale(STAMP, evaluated, 300) == ""
    assert "for 3,000 fb⁻¹, and the last evaluation for 300" in stale(STAMP, evaluated, 3000)
    grown = STAMP.model_copy(update={"identity": "b", "events": 105})
    assert "of 105 test events, and the last evaluation of 875" in stale(grown, evaluated)
    assert "does not say of which events" in stale(None, evaluated)
    # Of a version that knew no stamps.
    plain = Metrics.model_validate(metrics)
    assert stale(None, plain, 300) == ""
    assert stale(None, plain, 30).startswith("Stale: ")
    assert stamped(STAMP) == "875 test events, 300 fb⁻¹, 2026-11-27 05:17 UTC"
    assert stamped(None) == ""


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


def test_there_are_four_tiles_whatever_is_known(metrics):
    known = Metrics.model_validate(metrics)
    limits = expected_limits()
    *_, (significance, what), (limit, _) = tiles(known, Limits.model_validate(limits))
    assert significance.endswith(" σ")
    assert what == "expected at 300 fb⁻¹, best cut"
    assert limit == "μ < 1.23"
    del metrics["yields"]
    metrics["significance"]["best"] = None
    found = tiles(Metrics.model_validate(metrics), None)
    assert [what for _, what in found][-2:] == [
        "AUC of network and trees combined",
        "AUC of boosted trees",
    ]
    assert len(found) == 4


def test_a_limit_that_ignores_the_score_is_not_claimed_for_the_network(metrics):
    content = expected_limits()
    row = content["classifiers"]["network"]["hypotheses"][0]
    row |= {"mu_statistics_only": 1.0, "mu_without_score": 1.005}
    *_, (_, what) = tiles(Metrics.model_validate(metrics), Limits.model_validate(content))
    assert what.endswith("events counted without the score")
    row["mu_without_score"] = 1.5
    *_, (_, what) = tiles(Metrics.model_validate(metrics), Limits.model_validate(content))
    assert "without the score" not in what


def explained(**changes):
    """The sentences of explanation_files(), some contents changed."""
    files = explanation_files()
    deletion = files["deletion.json"] | changes.get("deletion", {})
    randomisation = files["randomisation.json"] | changes.get("randomisation", {})
    return explanation_sentences(
        Explanation.model_validate(files["summary.json"]),
        IntegratedGradients.model_validate({"features": FEATURES}),
        [LayerPair(first=one, second=other, cka=cka, chance=0.01) for one, other, cka in PAIRS],
        Randomisation.model_validate(randomisation),
        Deletion.model_validate(deletion),
    )


FEATURES = [
    {
        "stream": "jet1", "feature": name, "label": label,
        "signed": 0.0, "signed_error": 0.1, "absolute": size, "absolute_error": 0.1,
    }
    for name, size in (("pt", 1.0), ("eta", 3.0), ("phi", 0.5), ("mass", 2.0))
    for label in ("signal", "background")
]  # fmt: skip
# Layers of one stream are alike anyway, and a fusion block holds all streams.
PAIRS = [
    ("jet1, layer 1", "jet1, layer 2", 0.99),
    ("jet1, layer 2", "jet2, layer 2", 0.8),
    ("jet1, layer 1", "jet2, layer 1", 0.7),
    ("kinematics, layer 1", "fusion 1", 0.95),
]


def test_each_explanation_has_a_line():
    needs, moves, alike, redrawn, deleted = explained()
    assert "the network needs kinematics most" in needs
    assert "eta of jet1 (3 logits), mass of jet1 (2 logits) and pt of jet1 (1 logits)" in moves
    assert "jet1, layer 2 and jet2, layer 2 are most alike: a CKA of 0.80, 0.01 by chance" in alike
    assert redrawn.startswith("Check by re-drawn weights passed")
    assert "attention −0.10 ± 0.10 (failed)" in deleted


@pytest.mark.parametrize(("passes", "said"), [(True, "depends"), (False, "is not shown to depend")])
def test_the_check_by_randomised_weights_says_how_it_went(passes, said):
    *_, sentence = explained(randomisation={"passes": passes}, deletion={"excess": {}})
    assert f"Grad-CAM {said} on what was learned" in sentence
    assert "+0.030 ± 0.020" in sentence


def test_a_deletion_without_a_number_is_passed_over():
    excess = explanation_files()["deletion.json"]["excess"]
    excess["Grad-CAM"] = {"value": None, "error": None, "passes": False}
    *_, sentence = explained(deletion={"excess": excess})
    assert sentence.endswith("at random: attention −0.10 ± 0.10 (failed).")


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
    assert explanation_sentences(None) == []
    assert importance_sentence(None) == ""


def test_a_caption_names_what_its_plot_is_of_whatever_that_is_called():
    assert caption_of("image_{x}")[0].startswith("Mean image of the stream {x} in")
    assert section_of("limit_brazil_{rest}") == "limits"
    assert caption_of("of a user") == ("of a user", "")
    assert "nothing of the network." in caption_of("deletion")[1]
    assert is_folded("deletion")
    assert not is_folded("roc")
    assert {section_of(name) for name in ("roc", "inputs_x", "limit_mu", "permutation")} | {
        section_of("comparison_learning"),
        section_of("of a user"),
    } == set(SECTIONS)
