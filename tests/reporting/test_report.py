import json
import math
import re
import shutil
from collections import Counter
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest
from pydantic import ValidationError

from helpers.report_files import chosen_events
from manyscale.errors import RunError
from manyscale.evaluation.results import ComparisonRow, EventDisplay, read_history
from manyscale.reporting import score_plots
from manyscale.reporting.findings import COMPARISON_PLOT
from manyscale.reporting.report import (
    figures_by_section,
    lightened,
    write_report,
)

HOSTILE_TAG = "<img src=x"
VOID = {"meta", "br", "img", "link", "hr", "input"}
SECTIONS = [
    *("summary", "data", "results", "limits", "explanations", "events", "comparison", "technical"),
]


class Page(HTMLParser):
    """Tags, ids, references and words of a page; fails where tags do not close in order."""

    def __init__(self, html):
        super().__init__()
        self.ids, self.references, self.tags, self.words, self.open = [], [], [], [], []
        self.feed(html)
        assert self.open == []
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            elif name in {"src", "href", "xlink:href", "action", "data", "poster"}:
                self.references.append(value)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in {"script", "style"}:
            self.words.append(data)


def page_of(run):
    return Page(write_report(run).read_text(encoding="utf-8"))


def test_has_every_section_and_its_place_is_in_the_run(run):
    path = write_report(run)
    assert path == run / "report.html"
    assert not list(run.glob(".report*"))
    page = Page(path.read_text(encoding="utf-8"))
    assert [name for name in page.ids if name in SECTIONS] == SECTIONS


def test_refers_to_nothing_outside_itself(run):
    path = write_report(run)
    html = path.read_text(encoding="utf-8")
    page = Page(html)
    assert all(reference.startswith(("#", "data:image/svg+xml")) for reference in page.references)
    assert not re.search(r"@import|url\((?!%23)", html)  # %23: within a drawing
    assert not {tag for tag, _ in page.tags} & {"link", "iframe", "object", "base", "form"}
    assert path.stat().st_size < 3_000_000


def test_references_within_the_page_lead_somewhere_and_ids_are_unique(run):
    html = write_report(run).read_text(encoding="utf-8")
    page = Page(html)
    assert len(page.ids) == len(set(page.ids))
    wanted = {reference[1:] for reference in page.references if reference.startswith("#")}
    assert len(wanted) > 5
    assert wanted <= set(page.ids)


def test_the_mix_of_a_class_is_told_with_its_rule(run):
    text = Page(write_report(run).read_text(encoding="utf-8")).text
    assert "Mix of each class" in text
    for word in ("qcd_bb", "0.75", "zz", "0.25", "cross section"):
        assert word in text.split("Mix of each class", 1)[1]


def test_names_from_cards_and_files_are_escaped(run, hostile):
    html = write_report(run).read_text(encoding="utf-8")
    page = Page(html)
    assert HOSTILE_TAG not in html
    assert "<b>run</b>" not in html
    assert page.text.count(hostile) >= 6  # process, cutflow, yield, notice, feature, card, command
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)


def test_numbers_are_those_of_the_files(run):
    metrics = json.loads((run / "metrics.json").read_text())
    text = page_of(run).text
    assert f"{metrics['auc']:.4f} ± {metrics['auc_error']:.4f}" in text
    assert f"{metrics['trees']['auc']:.4f} ± {metrics['trees']['auc_error']:.4f}" in text
    assert "better than boosted trees (by " in text
    assert f"{metrics['combined']['auc']:.4f}" in text
    assert "Combined: its logit is" in text
    assert "1,700 1,700 0.85" in text
    assert "jet1, 1.2% were beyond" in text
    assert "jet2" not in text
    assert "training events per second (median of the epochs) 2,346" in text
    assert "expected at 300 fb⁻¹, physical weights" in text


def test_says_where_the_time_went(run):
    text = page_of(run).text
    assert "At most 512 MB of memory" in text
    assert "waiting for data 1.0 25% forward 3.0 75%" in " ".join(text.split())


def test_a_run_without_times_has_no_table_of_them(run):
    (run / "history.csv").write_text("epoch,train_loss\n1,0.5\n", encoding="utf-8")
    assert "Where the time of the training went" not in page_of(run).text


def test_says_which_weights_its_figures_are_on(run):
    text = page_of(run).text
    assert "Test events, class-balanced weights. Rejection: one over" in text
    assert "expected at 300 fb⁻¹, physical weights" in text


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("data.json", "has no data.json"),
        ("summary.json", "has no summary.json"),
        ("flow_chart.svg", "has no flow chart"),
    ],
)
def test_says_what_is_missing(run, name, said):
    (run / name).unlink()
    assert said in page_of(run).text


def test_says_that_trees_and_yields_are_missing(run):
    path = run / "metrics.json"
    metrics = json.loads(path.read_text())
    del metrics["trees"], metrics["combined"], metrics["yields"], metrics["significance"]
    path.write_text(json.dumps(metrics))
    text = page_of(run).text
    assert "Boosted trees were not trained" in text
    assert "No expected events" in text


def test_says_that_no_cut_leaves_enough_background(run):
    path = run / "metrics.json"
    metrics = json.loads(path.read_text())
    metrics["significance"] |= {"best": None, "notice": "No cut leaves ten."}
    path.write_text(json.dumps(metrics))
    assert "No cut leaves ten." in page_of(run).text


def test_what_no_longer_fits_is_stale_and_enters_no_headline(run):
    assert "Stale" not in page_of(run).text
    path = run / "limits" / "limits.json"
    limits = json.loads(path.read_text())
    path.write_text(json.dumps(limits | {"luminosity": 3000.0}))
    text = page_of(run).text
    said = "Stale: it is for 3,000 fb⁻¹, and the last evaluation for 300 fb⁻¹."
    assert f"{said} manyscale limits '{run}' renews it." in text
    assert "μ < " not in text
    stamp = {"events": 105, "identity": "a", "made": "2026-11-27T05:17:44+00:00"}
    path = run / "explanation" / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"stamp": stamp}))
    path = run / "metrics.json"
    of_all = stamp | {"events": 875, "identity": "b", "data": "my data"}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"stamp": of_all}))
    text = page_of(run).text
    assert "of 105 test events, and the last evaluation of 875" in text
    assert f"manyscale explain '{run}' --data 'my data' renews it." in text


def test_the_story_tells_limits_and_checks(run):
    text = page_of(run).text
    assert "μ < 1.23" in text
    assert "1.234 ± 0.030" in text
    assert "the network needs kinematics most" in text
    assert "Check by re-drawn weights passed" in text
    assert "Grad-CAM +0.50 ± 0.10 (passed); attention −0.10 ± 0.10 (failed)" in text


def test_attention_stands_beside_ablation_with_a_warning(run, hostile):
    text = page_of(run).text
    assert "Attention alone is weak evidence" in text
    assert f"{hostile} 0.25 0.4 0.050 ± 0.010 2.5 kinematics – 0.4 0.150 ± 0.010 2.5" in text


def test_each_number_names_its_file(run):
    text = page_of(run).text
    for name in (
        "metrics.json",
        "limits/limits.json",
        "deletion.json",
        "display.json",
        "data.json",
    ):
        assert name in text


@pytest.mark.parametrize(
    ("part", "command"), [("limits", "manyscale limits"), ("explanation", "manyscale explain")]
)
def test_says_by_which_command_a_missing_part_is_made(run, part, command):
    shutil.rmtree(run / part)
    text = page_of(run).text
    assert f"{command} '{run}'" in text  # quoted, for its name has blanks


def test_a_display_of_too_many_events_is_cut_and_says_so(run):
    path = run / "explanation" / "display.json"
    path.write_text(json.dumps(chosen_events(each=100, tokens=100)))
    page = write_report(run)
    assert page.stat().st_size < 3_000_000
    assert re.search(r"The page carries \d+ of the 300 events", Page(page.read_text("utf-8")).text)


def test_a_run_of_many_plots_stays_below_3_mb(run):
    drawing = (run / "plots" / "roc.svg").read_text(encoding="utf-8")
    rows = "".join(f"{n},{n / 7:.7g}\n" for n in range(20_000))
    for number in range(40):
        (run / "plots" / f"attention_maps_{number}.svg").write_text(drawing, encoding="utf-8")
        (run / "plots" / f"attention_maps_{number}.csv").write_text(f"a,b\n{rows}", "utf-8")
    page = write_report(run)
    assert page.stat().st_size < 3_000_000
    text = Page(page.read_text("utf-8")).text
    assert ".csv (20,000 rows, too many for this page)" in text
    assert "0.01,,190.2617" in text or "model-1,0.01" in text  # the ROC curve, a small table


@pytest.mark.parametrize("name", ["card.yaml", "provenance.json", "metrics.json", "history.csv"])
def test_refuses_a_run_that_lacks_a_needed_file(run, name):
    (run / name).unlink()
    with pytest.raises(RunError, match=re.escape(name)):
        write_report(run)
    assert not (run / "report.html").exists()


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("metrics.json", "{", "is not JSON"),
        ("metrics.json", '{"accuracy": 1}', "auc: Field required"),
        ("data.json", '{"processes": [{"name": "a"}]}', r"processes\.0\.label"),
        ("history.csv", "epoch,train_loss\n1,low\n", "line 2"),
        ("history.csv", "epoch\n1,2\n", "line 2"),
        ("card.yaml", "a: [", "is not YAML"),
        ("comparison.json", '[{"name": "a"}]', "does not hold rows of ComparisonRow"),
        ("plots/separation.json", "3", "does not hold rows of Separation"),
        ("limits/limits.json", "{}", "luminosity: Field required"),
        ("explanation/display.json", '{"events": [{}]}', r"events\.0\.event_id"),
    ],
)
def test_names_the_file_that_is_broken(run, name, text, said):
    (run / name).write_text(text)
    with pytest.raises(RunError, match=said):
        write_report(run)


def test_an_unread_value_of_history_is_nan(run):
    (row,) = read_history(run / "history.csv")
    assert row["epoch"] == 1
    assert row["validation_auc"] != row["validation_auc"]


def test_comparison_is_shown_with_its_paired_differences_and_curves(run, events, hostile):
    labels, network, trees = events
    rows = [
        ComparisonRow(name="model-2", auc=0.974, auc_error=0.001, parameters=51138),
        ComparisonRow(
            name=hostile,
            auc=0.97,
            auc_error=0.0011,
            difference_to="model-2",
            difference=-0.004,
            difference_error=0.0005,
            background_rejection={"0.70": {"value": None, "low": 812, "high": None}},
        ),
    ]
    (run / "comparison.json").write_text(json.dumps([row.plain() for row in rows]))
    curves = score_plots.roc(labels, {"model-2": network, hostile: trees})
    curves.save(run / "plots", COMPARISON_PLOT)
    html = write_report(run).read_text(encoding="utf-8")
    page = Page(html)
    assert "comparison" in page.ids
    assert HOSTILE_TAG not in html
    for words in ("−0.00400 ± 0.00050", "above 812", "51,138", "better than"):
        assert words in page.text
    # One ROC curve, with every classifier.
    assert "All classifiers on the same test events" in page.text
    plots = [dict(attributes).get("data-name") for _, attributes in page.tags]
    assert COMPARISON_PLOT in plots
    assert "roc" not in plots
    assert "minus model-2" in page.text


def figures(folder, room=10**6):
    """Names and numbers of the plots in a folder, by section."""
    sections = figures_by_section(folder, room)
    return {
        name: [(one.name, one.numbers, one.rows) for one in of] for name, of in sections.items()
    }


def test_plots_stand_in_their_sections_and_keep_their_bytes(tmp_path):
    names = ["roc", "limit_mu", "attention_maps_a_b", "comparison_roc", "significance", "of a user"]
    for name in names:
        (tmp_path / f"{name}.svg").write_text('<svg a="b">\n<!-- "&%é --></svg>', "utf-8")
    found = figures_by_section(tmp_path, 10**6)
    assert {section: [one.name for one in of] for section, of in found.items()} == {
        "summary": ["roc", "comparison_roc"],
        "data": [],
        "results": ["significance", "of a user"],
        "limits": ["limit_mu"],
        "explanations": ["attention_maps_a_b"],
        "comparison": [],
    }
    kind, content = found["summary"][0].source.split(",")
    assert kind == "data:image/svg+xml;charset=utf-8"
    assert unquote(content) == "<svg a='b'><!-- \"&%é --></svg>"
    assert not set('"&#') & set(content)


def test_the_largest_tables_are_left_out_where_a_page_has_no_room(tmp_path):
    small, large = "a\r\n1\r\n", "a\n" + "1234567\n" * 40_000
    for name, table in (("roc", large), ("scores", small), ("other", "")):
        (tmp_path / f"{name}.svg").write_text("<svg/>")
        if table:
            (tmp_path / f"{name}.csv").write_text(table, newline="")
    found = figures(tmp_path, room=100_000)
    assert found["summary"] == [("roc", "", 40_000)]
    assert found["results"] == [("scores", "a\n1\n", 1), ("other", "", 0)]
    assert figures(tmp_path)["summary"] == [("roc", large, 40_000)]


def test_events_as_embedded_cannot_end_their_element_and_say_the_same(run):
    html = write_report(run).read_text(encoding="utf-8")
    text = html.partition('id="display-data">')[2].partition("</script>")[0]
    assert not set("<>&") & set(text)
    read, content = json.loads(text), chosen_events()
    assert [event["process"] for event in read["events"]] == [
        event["process"] for event in content["events"]
    ]
    assert read["events"][0]["streams"]["jet1"] == content["events"][0]["streams"]["jet1"]


def test_of_too_many_events_the_first_of_each_reason_are_kept():
    display = EventDisplay.model_validate(chosen_events(each=100, tokens=100))
    light = lightened(display)
    assert len(light.model_dump_json()) < 1_000_000
    counts = Counter(event.why for event in light.events)
    assert max(counts.values()) - min(counts.values()) <= 1
    assert len(counts) == 3
    first = [event for event in display.events if event.why == "worst mistake"]
    kept = [event for event in light.events if event.why == "worst mistake"]
    assert kept == first[: len(kept)]
    small = EventDisplay.model_validate(chosen_events())
    assert lightened(small) == small


def test_what_is_not_a_number_is_not_known_and_columns_are_of_one_length():
    content = chosen_events(each=1)
    tokens = content["events"][0]["streams"]["jet1"]
    tokens["attention"][3] = math.nan
    assert EventDisplay.model_validate(content).events[0].streams["jet1"].attention[3] is None
    tokens["pt"].pop()
    with pytest.raises(ValidationError, match="a value a token"):
        EventDisplay.model_validate(content)
