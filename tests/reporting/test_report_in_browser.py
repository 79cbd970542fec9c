"""The report as a reader meets it: in a browser, from a file, with no network."""

import csv
import json
import shutil
import time
from xml.etree import ElementTree as ET

import pytest

from helpers.report_files import HOSTILE, chosen_events
from manyscale.reporting.report import write_report

pytest.importorskip("selenium", reason="selenium is not installed")
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.support.ui import WebDriverWait

from chromium import CHROMEDRIVER, CHROMIUM, chromium, resize

pytestmark = pytest.mark.skipif(
    CHROMIUM is None or CHROMEDRIVER is None, reason="chromium or chromedriver is not installed"
)
SECTIONS = [
    *("summary", "data", "results", "limits", "explanations", "events", "comparison", "technical"),
]
EVENTS = chosen_events()["events"]


@pytest.fixture(scope="module")
def report(finished_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "run"
    return write_report(shutil.copytree(finished_run, folder))


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture
def page(browser, report):
    """The report, opened anew at the size of a desktop."""
    resize(browser, 1200)
    browser.get_log("performance")
    browser.get(report.as_uri())
    return browser


def find(page, selector):
    return page.find_element("css selector", selector)


def part(page, name):
    return find(page, f'#display [data-part="{name}"]')


def fills(page):
    marks = page.find_elements("css selector", "#display .planes .token")
    return [mark.get_attribute("fill") for mark in marks]


def test_shows_every_section_without_an_error(page):
    for name in SECTIONS:
        section = find(page, f"#{name}")
        assert section.is_displayed()
        assert section.find_element("css selector", "h2").text
    assert page.get_log("browser") == []


def test_every_drawing_is_shown(page):
    shown = page.execute_script(
        "return Promise.all([...document.images].map(async image => {"
        "image.loading = 'eager'; await image.decode(); return image.naturalWidth; }))"
    )
    assert len(shown) >= 3
    assert min(shown) > 100


def test_asks_for_nothing_but_itself(page, report):
    log = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    urls = [
        entry["params"]["request"]["url"]
        for entry in log
        if entry["method"] == "Network.requestWillBeSent"
    ]
    assert report.as_uri() in urls
    assert [url for url in urls if not url.startswith(("file:", "data:", "blob:"))] == []


def test_names_of_files_are_text_and_run_nothing(page):
    assert page.find_elements("css selector", 'img:not([src^="data:"]), b.run') == []
    assert HOSTILE in part(page, "who").text
    assert HOSTILE in part(page, "planes").text


def test_steps_through_the_events_by_button_and_by_key(page):
    assert part(page, "where").text == f"event 1 of {len(EVENTS)}"
    assert EVENTS[0]["event_id"] in part(page, "who").text
    part(page, "next").click()
    assert EVENTS[1]["event_id"] in part(page, "who").text
    find(page, "#display").send_keys(Keys.ARROW_RIGHT)
    assert EVENTS[2]["event_id"] in part(page, "who").text
    find(page, "#display").send_keys(Keys.ARROW_LEFT)
    part(page, "previous").click()
    part(page, "previous").click()
    assert part(page, "where").text == f"event {len(EVENTS)} of {len(EVENTS)}"


def test_keys_step_without_a_click_while_the_display_is_seen(page):
    body = find(page, "body")
    page.execute_script("window.scrollTo(0, 0)")
    body.send_keys(Keys.ARROW_RIGHT)
    assert EVENTS[0]["event_id"] in part(page, "who").text
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", find(page, "#display"))
    body.send_keys(Keys.ARROW_RIGHT)
    assert EVENTS[1]["event_id"] in part(page, "who").text


def test_masses_tags_and_jets_of_an_event_are_shown(page):
    said = part(page, "who").text
    assert "m_j1 125 GeV" in said
    assert "n_btags_j1 2" in said
    assert "h_bb_j1" not in said  # not known
    # One in each jet's plane, two in the detector's.
    assert len(page.find_elements("css selector", "#display ellipse.jet")) == 4


def test_a_group_of_events_is_chosen(page):
    find(page, '#display option[value="worst mistake"]').click()
    mistakes = [event for event in EVENTS if event["why"] == "worst mistake"]
    assert part(page, "where").text == f"event 1 of {len(mistakes)}"
    assert mistakes[0]["event_id"] in part(page, "who").text


def test_draws_every_token_sized_by_its_pt(page):
    streams = EVENTS[0]["streams"]
    assert len(fills(page)) == sum(len(stream["pt"]) for stream in streams.values())
    radii = {
        mark.get_attribute("data-words"): float(mark.get_attribute("r"))
        for mark in page.find_elements("css selector", "#display .panel:first-child circle.token")
    }
    pt = {words: float(words.split("pT ")[1].split()[0]) for words in radii}
    one, two = sorted(pt, key=pt.get)[-2:]
    assert radii[two] / radii[one] == pytest.approx((pt[two] / pt[one]) ** 0.5, rel=0.02)


def test_colours_switch_from_attention_to_importance(page):
    before = fills(page)
    find(page, '#display input[value="importance"]').click()
    after = fills(page)
    assert len(before) == len(after)
    assert before != after
    assert "importance" in part(page, "legend").text


def test_a_token_says_its_numbers(page):
    mark = page.find_elements("css selector", "#display .planes .token")[-1]
    ActionChains(page).move_to_element(mark).perform()
    tip = part(page, "tip")
    assert tip.is_displayed()
    assert tip.text == mark.get_attribute("data-words")
    assert "pT " in tip.text


def rows_in(element, selector):
    """The rows of a table that is filled once it is unfolded: the browser says so a moment later."""
    WebDriverWait(element, 10).until(lambda of: of.find_elements("css selector", selector))
    return element.find_elements("css selector", selector)


def test_an_event_is_also_a_table(page):
    find(page, "#display details summary").click()
    assert len(rows_in(page, "#display details tbody tr")) == len(fills(page))
    part(page, "next").click()
    assert len(rows_in(page, "#display details tbody tr")) == len(fills(page))


def test_numbers_of_a_figure_unfold_into_a_table(page, report):
    figure = find(page, 'figure[data-name="roc"]')
    figure.find_element("css selector", "summary").click()
    with (report.parent / "plots" / "roc.csv").open(newline="", encoding="utf-8") as file:
        head, *rows = csv.reader(file)
    shown = rows_in(figure, "thead th")
    assert [cell.text for cell in shown] == head
    assert len(rows_in(figure, "tbody tr")) == min(len(rows), 200)


@pytest.mark.parametrize("kind", ["svg", "csv"])
def test_buttons_save_drawing_and_numbers(page, report, tmp_path, kind):
    page.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)}
    )
    find(page, f'figure[data-name="roc"] button[data-save="{kind}"]').click()
    saved = tmp_path / f"roc.{kind}"
    for _ in range(100):
        if saved.exists():
            break
        time.sleep(0.1)
    text = saved.read_text(encoding="utf-8")
    if kind == "svg":
        root = ET.fromstring(text)  # noqa: S314 - our own file
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert "signal efficiency" in text  # beside its outlines
    else:
        original = (report.parent / "plots" / "roc.csv").read_text(encoding="utf-8")
        assert text.split() == original.split()
    assert page.get_log("browser") == []


def test_fits_a_phone(page):
    resize(page, 360)
    for details in page.find_elements("css selector", "details"):
        page.execute_script("arguments[0].open = true", details)
    width = page.execute_script("return document.documentElement.scrollWidth")
    assert width <= 360


def test_prints_with_the_first_event(page):
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert len(fills(page)) > 0
    assert find(page, "#display .planes").is_displayed()
    assert not part(page, "next").is_displayed()
    assert not find(page, 'figure[data-name="roc"] button').is_displayed()
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
