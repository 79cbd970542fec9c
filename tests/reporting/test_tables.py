"""Tables say what the records hold, on the page and on the console alike."""

import pytest
from rich.console import Console

from helpers.report_files import expected_limits
from manyscale import console
from manyscale.evaluation.results import Counting, Explanation, Limits, Metrics
from manyscale.reporting import tables
from manyscale.reporting.tables import Table
from manyscale.schema import CutflowStep, Process


def process(sum_weights, cross_section=None):
    steps = (
        CutflowStep(step="generated", events=1000, sum_weights=sum_weights or 0.0),
        CutflowStep(step="two jets", events=900, sum_weights=5.0),
    )
    return Process(
        name="qcd",
        label="background",
        generated=1000,
        sum_weights=sum_weights,
        cross_section=cross_section,
        cutflow=steps,
    )


@pytest.mark.parametrize(
    ("sum_weights", "cross_section", "part", "expected"),
    [(50.0, 2.0, "0.1", "3,000"), (50.0, None, "0.1", "–"), (None, 2.0, "0.9", "–")],
)
def test_cutflow_is_by_weight_and_scaled_where_that_is_known(
    sum_weights, cross_section, part, expected
):
    table = tables.cutflow_table([process(sum_weights, cross_section)], luminosity=15.0)
    row = dict(zip(table.header, table.rows[1], strict=True))
    assert row["part that passes"] == part
    assert row.get("expected at 15 fb^-1", "–") == expected
    assert tables.cutflow_table([process(50.0)]).rows[1][-1] == "0.1"


def test_factors_of_one_are_not_shown_and_further_columns_are():
    one, other = process(1.0), process(1.0).model_copy(update={"k_factor": 1.25})
    assert "k-factor" not in tables.process_table([one]).header
    table = tables.process_table([one, other], {"in the dataset": ["7", "8"]})
    assert [row[table.header.index("k-factor")] for row in table.rows] == ["–", "1.25"]
    assert [row[-1] for row in table.rows] == ["7", "8"]
    assert "cross section [pb]" not in table.header


def test_columns_of_figures_stand_to_the_right():
    rows = [["1", "0.97 ± 0.01", "as jet1", "−3.1%"], ["2", "–", "66", "above 8"]]
    assert Table("", ["a", "b", "c", "d"], rows).figures == [False, True, False, True]


def test_a_table_without_header_and_one_without_rows(capsys):
    console.print_table(Table("empty", ["a"], []))
    assert capsys.readouterr().out == ""
    console.print_table(Table("", [], [["[red]commit", "abc"]], "what [it] means"))
    said = capsys.readouterr()
    assert "[red]commit" in said.out
    assert "what [it] means" in said.err


def test_limits_are_printed_with_what_may_not_be_trusted(capsys):
    limits = Limits.model_validate(expected_limits())
    row = Counting(
        signal_process="hh",
        cut=0.9,
        signal=3.0,
        background=1.0,
        exact=2.1,
        asymptotic=2.5,
        trust="exact",
    )
    sure = row.model_copy(update={"trust": "asymptotic"})
    console.print_limits(limits.model_copy(update={"counting": {"network": (row, sure)}}))
    said = capsys.readouterr().out
    assert "expected limits, 95% CL, 300 fb^-1, physical weights" in said
    assert "1.234 ± 0.030" in said
    assert said.count("trust the counts") == 1
    assert "bins joined" in said


def test_what_is_not_known_is_a_dash(capsys):
    streams = ({"stream": "a", "attention": None, "importance": 0.5},)
    console.print_explanation(Explanation.model_validate({"streams": streams, "notices": ["Odd."]}))
    said = capsys.readouterr().out
    assert said.split()[-6:] == ["stream", "Grad-CAM", "─────────────────", "a", "0.5", "Odd."]
    console.print_metrics(Metrics(auc=0.9, yields_missing="No luminosity."))
    said = capsys.readouterr().out
    assert "No luminosity." in said
    assert "trees" not in said


def test_wide_where_no_terminal_says_how_wide(capsys):
    console.print_table(Table("", ["a", "b"], [["x" * 60, "y" * 60]]))
    assert "x" * 60 in capsys.readouterr().out
    assert not Console().is_terminal
