import csv
import re
import shutil
import subprocess
from xml.etree import ElementTree as ET

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

from manyscale.errors import CardError
from manyscale.reporting.figure import Drawn, classifier_styles, stacked, styled
from manyscale.reporting.look import PlotSettings, label_of, look


@styled
def _drawn():
    figure = Figure()
    axes = figure.subplots()
    axes.plot([0, 1], [1, 2])
    axes.fill_between([0, 1], [1, 2])
    axes.imshow(np.eye(3), extent=(0, 1, 1, 2))
    axes.set_xlabel("mass [GeV]")
    return Drawn(figure, {"mass [GeV]": [0, np.float32(1)], "events, all": [1 / 3, np.nan]})


PDF = PlotSettings(pdf=True)


def test_the_same_figure_gives_the_same_bytes(tmp_path):
    for part in "ab":
        with look(PDF):
            _drawn().save(tmp_path / part, "plot")
    for suffix in ("svg", "pdf", "csv"):
        one, two = ((tmp_path / part / f"plot.{suffix}").read_bytes() for part in "ab")
        assert one == two
        assert b"dc:date" not in one
        assert b"CreationDate" not in one


def test_letters_are_outlines_that_need_no_font_and_the_words_can_be_searched(tmp_path):
    _drawn().save(tmp_path, "plot")
    text = (tmp_path / "plot.svg").read_text(encoding="utf-8")
    assert "<!-- mass [GeV] -->" in text
    assert not re.search(r"<text|font-family", text)
    used = set(re.findall(r'xlink:href="#([^"]+)"', text))
    assert used == set(re.findall(r'<path id="([^"]+)"', text)) & used
    assert not list(tmp_path.glob("*.pdf"))


def test_labels_title_and_tag_come_from_the_card(tmp_path):
    settings = PlotSettings(
        title="my search", experiment="CMS", labels={"mine": "$x_{1}$"}, style="ATLAS"
    )
    with look(settings):
        _named(label_of("mine")).save(tmp_path, "mine")
        _named(label_of("m_hh")).save(tmp_path, "known")
    _named(label_of("mine")).save(tmp_path, "plain")
    mine, known, plain = (
        (tmp_path / f"{name}.svg").read_text(encoding="utf-8")
        for name in ("mine", "known", "plain")
    )
    assert mine.count("<!-- $x_{1}$ -->") == 3
    assert "<!-- CMS my search -->" in mine
    assert "<!-- $m_{hh}$ [GeV] -->" in known
    assert plain.count("<!-- mine -->") == 3


def test_a_label_that_is_no_formula_is_named():
    said = r"evaluation.plots.labels, mine: cannot draw \$\\nothing\$"
    with pytest.raises(CardError, match=said), look(PlotSettings(labels={"mine": r"$\nothing$"})):
        pass


@pytest.mark.skipif(shutil.which("pdftotext") is None, reason="there is no pdftotext")
def test_text_of_the_pdf_can_be_searched(tmp_path):
    with look(PDF):
        _drawn().save(tmp_path, "plot")
    done = subprocess.run(
        ["pdftotext", tmp_path / "plot.pdf", "-"], check=True, capture_output=True, text=True
    )
    assert "mass [GeV]" in done.stdout
    assert done.stderr == ""


def test_numbers_stand_beside_and_not_a_number_stands_empty(tmp_path):
    _drawn().save(tmp_path, "plot")
    with (tmp_path / "plot.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows == [["mass [GeV]", "events, all"], ["0", "0.3333333"], ["1", ""]]


def test_columns_of_other_lengths_are_refused(tmp_path):
    with pytest.raises(ValueError, match="shorter"):
        Drawn(Figure(), {"a": [1, 2], "b": [1]}).save(tmp_path, "plot")


def test_curves_stand_one_below_the_other():
    both = stacked([{"curve": "a", "x": np.arange(2)}, {"curve": "b", "x": 7.5}])
    assert both == {"curve": ["a", "a", "b"], "x": [0, 1, 7.5]}


@styled
def _named(name):
    figure = Figure()
    axes = figure.subplots()
    axes.plot([0, 1], [1, 100], label=name)
    axes.set_yscale("log")
    axes.set_xticks([0, 1], [name, "b"])
    axes.set_title(name)
    axes.set_xlabel("at 3000 fb⁻¹")
    axes.legend()
    return Drawn(figure, {"x": [0, 1]})


def test_a_name_with_dollars_is_no_formula(tmp_path):
    name = r"$\bad{ and a $_<é"
    _named(name).save(tmp_path, "plot")
    text = (tmp_path / "plot.svg").read_text(encoding="utf-8")
    assert text.count(r"<!-- $\bad{ and a $_&lt;é -->") == 3
    assert ET.fromstring(text).tag.endswith("svg")  # noqa: S314 - our own file


def test_a_drawing_is_made_small_and_its_words_stay(tmp_path):
    figure = Figure()
    axes = figure.subplots()
    axes.plot([0, 1 / 3, 1], [1, 2, 4 / 3])
    axes.set_title("0.123456 GeV")
    Drawn(figure, {"x": [0]}).save(tmp_path, "plot")
    text = (tmp_path / "plot.svg").read_text(encoding="utf-8")
    assert "<!-- 0.123456 GeV -->" in text
    paths = re.findall(r' d="([^"]*)"', text)
    assert paths
    assert not any(re.search(r"\.\d{3}|\n", path) for path in paths)
    assert ET.fromstring(text).tag.endswith("svg")  # noqa: S314 - our own file


NAMES = ["network", "trees", "model-2", "mine", "yours", "ours", "theirs"]


def test_a_classifier_keeps_its_colour_whatever_stands_beside_it():
    for known in ("trees", "model-2", "concatenation"):
        assert classifier_styles([known])[known] == classifier_styles([*NAMES, known])[known]


def test_no_two_classifiers_of_a_plot_look_the_same():
    styles = classifier_styles(NAMES)
    assert len(set(styles.values())) == len(styles)


def test_settings_of_matplotlib_are_left_as_they_were():
    before = dict(mpl.rcParams)

    @styled
    def fail():
        raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert dict(mpl.rcParams) == before
