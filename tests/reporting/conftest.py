import csv
import json
import shutil

import numpy as np
import pytest

from helpers.report_files import HOSTILE, chosen_events, expected_limits, explanation_files
from manyscale.evaluation.combination import Combination
from manyscale.evaluation.cuts import scan_cuts, significance_figures
from manyscale.evaluation.yields import expected_yields, scale_events
from manyscale.model.summary import Block, Summary
from manyscale.reporting import score_plots
from manyscale.reporting.flow_chart import flow_chart
from manyscale.schema import CutflowStep, Process
from manyscale.statistics.metrics import auc_difference, evaluate


@pytest.fixture(scope="session")
def hostile():
    """A name that must never reach a page as it is."""
    return HOSTILE


@pytest.fixture(scope="session")
def events():
    """Labels, scores of a network, scores of the trees."""
    generator = np.random.default_rng(1)
    labels = generator.integers(0, 2, 2000)
    value = generator.normal(1.3 * (2 * labels - 1))
    noisy = value + generator.normal(scale=0.7, size=2000)
    return labels, 1 / (1 + np.exp(-2 * value)), 1 / (1 + np.exp(-noisy))


@pytest.fixture(scope="session")
def content(events):
    """Each file of a complete run: path within it -> text."""
    labels, network, trees = events
    processes = [
        Process(
            name=name,
            label=label,
            cross_section=cross_section,
            generated=2000,
            sum_weights=2000.0,
            cutflow=(CutflowStep(step="two fat jets", events=1700, sum_weights=1700.0),),
        )
        for name, label, cross_section in (("qcd_bb", "background", 85), (HOSTILE, "signal", 1e-3))
    ]
    scaled = scale_events(processes, labels, np.ones(2000), 300.0)
    combination = Combination.fit(labels, network, trees)
    combined = combination(network, trees)

    def difference(one, other):
        value, error = auc_difference(labels, one, other)
        return {"auc": value, "auc_error": error}

    metrics = evaluate(labels, network) | {
        "events_per_second": 2345.6,
        "trees": evaluate(labels, trees)
        | {
            "network_minus_trees": difference(network, trees),
            "significance": significance_figures(scan_cuts(scaled, trees)).plain(),
        },
        "combined": evaluate(labels, combined)
        | {
            "combination": combination.plain(),
            "combined_minus_network": difference(combined, network),
            "combined_minus_trees": difference(combined, trees),
            "significance": significance_figures(scan_cuts(scaled, combined)).plain(),
        },
        "yields": expected_yields(scaled).plain(),
        "significance": significance_figures(scan_cuts(scaled, network)).plain(),
    }
    tokens = Block(
        name="jet1 input", kind="input", lines=("log_pt",), parameters=0, output="tokens x 1"
    )
    head = Block(
        name="head",
        kind="head",
        inputs=("jet1 input",),
        roles=("",),
        lines=("32 -> 2",),
        parameters=66,
        output="class scores",
    )
    summary = Summary(blocks=(tokens, head), parameters=66)
    data = {
        "processes": [process.model_dump() for process in processes],
        "splits": {"train": {"signal": 700, "background": 701}},
        "mix": {"background": {"rule": "cross section", "fractions": {"qcd_bb": 0.75, "zz": 0.25}}},
        "dropped_tokens": {"jet1": 0.0123, "jet2": 0.0},
        "notices": [f"odd column {HOSTILE}"],
    }
    return {
        "limits/limits.json": json.dumps(expected_limits()),
        "explanation/display.json": json.dumps(chosen_events()),
        **{f"explanation/{name}": json.dumps(part) for name, part in explanation_files().items()},
        "card.yaml": f"preset: model-1\n# {HOSTILE}\n",
        "provenance.json": json.dumps({"versions": {"torch": "2.13.0"}, "command": HOSTILE}),
        "metrics.json": json.dumps(metrics),
        "data.json": json.dumps(data),
        "summary.json": json.dumps(summary.plain()),
        "flow_chart.svg": flow_chart(summary),
        "plots/separation.json": json.dumps(
            [{"stream": "jet1", "feature": HOSTILE, "separation": 0.25}]
        ),
    }


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory, content, events):
    """A complete run folder whose name, processes, features and card are hostile; not to be changed."""
    folder = tmp_path_factory.mktemp("runs") / "a <b>run</b>"
    labels, network, trees = events
    score_plots.roc(labels, {"model-1": network, "trees": trees}).save(folder / "plots", "roc")
    score_plots.reliability(labels, {"model-1": network}).save(folder / "plots", "reliability")
    for part in ("limits", "explanation"):
        (folder / part).mkdir()
    for name, text in content.items():
        (folder / name).write_text(text, encoding="utf-8")
    with (folder / "history.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows(
            [
                [
                    *("epoch", "train_loss", "validation_loss", "validation_auc"),
                    *("data_seconds", "forward_seconds", "peak_memory_mb"),
                ],
                [1, 0.5, 0.4, "", 1.0, 3.0, 512.3],
            ]
        )
    return folder


@pytest.fixture
def run(tmp_path, finished_run):
    """A copy of the finished run."""
    return shutil.copytree(finished_run, tmp_path / finished_run.name)
