import json
import re
import shutil
from html.parser import HTMLParser

import pytest

from helpers.report_files import chosen_events
from manyscale.errors import RunError
from manyscale.reporting import plots
from manyscale.reporting.report import write_comparison, write_report
from manyscale.reporting.run_files import ComparisonRow, RunFiles

VOID = {"meta", "br", "img", "link", "hr", "input"}
SECTIONS = [
    *("summary", "run", "data", "network", "figures", "significance", "limits", "explanations"),
    *("events", "comparison", "plots", "card"),
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
    assert all(reference.startswith("#") for reference in page.references)
    assert not re.search(r"@import|url\(\s*['\"]?(?!#)", html)
    assert not {tag for tag, _ in page.tags} & {"link", "iframe", "object", "base", "form"}
    assert path.stat().st_size < 3_000_000


def test_references_within_the_page_lead_somewhere_and_ids_are_unique(run):
    html = write_report(run).read_text(encoding="utf-8")
    page = Page(html)
    assert len(page.ids) == len(set(page.ids))
    wanted = {reference[1:] for reference in page.references}
    wanted |= set(re.findall(r"url\(#([^)]+)\)", html))
    assert len(wanted) > 10
    assert wanted <= set(page.ids)


def test_names_from_cards_and_files_are_escaped(run, hostile):
    html = write_report(run).read_text(encoding="utf-8")
    page = Page(html)
    assert "<img" not in html
    assert "<b>run</b>" not in html
    assert page.text.count(hostile) >= 6  # process, cutflow, yield, notice, feature, card, command
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)


def test_numbers_are_those_of_the_files(run):
    metrics = json.loads((run / "metrics.json").read_text())
    text = page_of(run).text
    assert f"{metrics['auc']:.4f} ± {metrics['auc_error']:.4f}" in text
    assert f"{metrics['trees']['auc']:.4f} ± {metrics['trees']['auc_error']:.4f}" in text
    assert "the AUC of the network is higher than that of the trees by" in text
    assert "1,700 (85.0%)" in text
    assert "jet1, 1.2% were beyond" in text
    assert "jet2" not in text
    assert "training events per second (median of the epochs) 2,346" in text
    assert "Expected events without a cut at 300 fb" in text


def test_says_where_the_time_went(run):
    text = page_of(run).text
    assert "at most 512 MB of memory" in text
    assert "waiting for data 1.0 25% forward 3.0 75%" in " ".join(text.split())


def test_a_run_without_times_has_no_table_of_them(run):
    (run / "history.csv").write_text("epoch,train_loss\n1,0.5\n", encoding="utf-8")
    assert "Where the time of the training went" not in page_of(run).text


def test_says_which_weights_its_figures_are_on(run):
    text = page_of(run).text
    assert "with class-balanced weights" in text
    assert "with physical weights" in text


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
    del metrics["trees"], metrics["yields"], metrics["significance"]
    path.write_text(json.dumps(metrics))
    text = page_of(run).text
    assert "Boosted trees were not trained" in text
    assert "No expected events" in text


def test_says_that_no_cut_leaves_enough_background(run):
    path = run / "metrics.json"
    metrics = json.loads(path.read_text())
    metrics["significance"]["best"] = None
    path.write_text(json.dumps(metrics))
    assert "no cut leaves 10 effective background events" in page_of(run).text


def test_the_story_tells_significance_limits_and_checks(run):
    text = page_of(run).text
    metrics = json.loads((run / "metrics.json").read_text())
    worse = metrics["significance"]["systematics"][2]["best"]
    assert f"{worse['value']:.2g}"[:3] in text
    assert "where the background is uncertain by 10%" in text
    assert "exclude " in text
    assert "at 95% confidence from 1.234 ± 0.030 times its cross section" in text
    assert "the network needs kinematics most" in text
    assert "Sanity check passed: with all weights re-drawn" in text
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
    assert "First of 20,000 rows of numbers" in Page(page.read_text("utf-8")).text


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
        ("plots/roc.svg", "<svg", "is not SVG"),
        ("limits/limits.json", "{}", "luminosity: Field required"),
        ("explanation/display.json", '{"events": [{}]}', r"events\.0\.event_id"),
    ],
)
def test_names_the_file_that_is_broken(run, name, text, said):
    (run / name).write_text(text)
    with pytest.raises(RunError, match=said):
        write_report(run)


def test_an_unread_value_of_history_is_nan(run):
    (row,) = RunFiles.read(run).history
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
    write_comparison(run, rows, plots.roc(labels, {"model-2": network, hostile: trees}))
    html = write_report(run).read_text(encoding="utf-8")
    page = Page(html)
    assert "comparison" in page.ids
    assert "<img" not in html
    for words in ("−0.00400 ± 0.00050", "above 812", "51,138", "lower than that of model-2"):
        assert words in page.text
    assert "All classifiers on the same test events" in page.text
    assert RunFiles.read(run).comparison == tuple(rows)
