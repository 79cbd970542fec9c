"""Writes the report of a run: one HTML file that needs nothing else, from the files of the run."""

import json
import re
import shlex
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from manyscale.errors import RunError, printable
from manyscale.evaluation.results import (
    ComparisonRow,
    DataFacts,
    Deletion,
    EventDisplay,
    Explanation,
    IntegratedGradients,
    LayerPair,
    Limits,
    Metrics,
    Randomisation,
    Separation,
    read_history,
)
from manyscale.model.summary import Summary
from manyscale.reporting import findings, formatting, tables
from manyscale.settings import Record, read_json, read_text
from manyscale.writing import write_whole

__all__ = [
    "MOST_BYTES",
    "PlotFigure",
    "figures_by_section",
    "lightened",
    "rows_if_there",
    "write_page",
    "write_report",
]

# Bytes of a page that opens at once on a phone: all of it, what is not figures, all chosen events.
MOST_BYTES = 3_000_000
_MOST_WORDS = 250_000
_MOST_EVENTS = 600_000

R = TypeVar("R", bound=Record)


def write_report(run: Path) -> Path:
    """Write `report.html` into a run folder, from its files, and return its path.

    It reads card.yaml, provenance.json, metrics.json and history.csv; where they are there also
    data.json, summary.json, flow_chart.svg, comparison.json, limits/limits.json, explanation/*.json,
    and every plots/*.svg with its .csv. What is absent of the second kind the report says, and how
    to make it.

    Raises
    ------
    RunError
        Where a file of the first kind is missing, or any is not what it should be.
    """
    return write_page(run, "report.html.jinja", _context(run))


def write_page(folder: Path, template: str, context: Mapping[str, Any]) -> Path:
    """Fill a template of `reporting/page` and write it as report.html, whole or not at all."""
    environment = Environment(
        loader=PackageLoader("manyscale", "reporting/page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for write in (formatting.count, formatting.quantity, formatting.rejection, formatting.value):
        environment.filters[write.__name__] = write
    # Jinja's own lowers all other letters.
    environment.filters["capitalize_first"] = lambda text: text[:1].upper() + text[1:]
    path = folder / "report.html"
    write_whole(path, printable(environment.get_template(template).render(context)))
    return path


def _context(run: Path) -> dict[str, Any]:
    """What the template needs: each file read and checked, what is absent None or empty."""
    card = read_text(run / "card.yaml")
    metrics = Metrics.read(run / "metrics.json")
    chart, folder, plots = run / "flow_chart.svg", run / "explanation", run / "plots"
    limits = Limits.read_if_there(run / "limits" / "limits.json")
    explanation = Explanation.read_if_there(folder / "summary.json")
    comparison = rows_if_there(run / "comparison.json", ComparisonRow)
    every_event = EventDisplay.read_if_there(folder / "display.json")
    display = lightened(every_event) if every_event else None
    embedded = _script_json(display) if display else ""
    outdated = {
        "limits": findings.stale(limits.stamp, metrics, limits.luminosity) if limits else "",
        "explanations": findings.stale(explanation.stamp, metrics) if explanation else "",
        "comparison": findings.stale(comparison[0].stamp, metrics) if comparison else "",
    }
    together = f"{findings.COMPARISON_PLOT}.svg"
    rivals = comparison and not outdated["comparison"] and (plots / together).is_file()
    hidden = "roc" if rivals else findings.COMPARISON_PLOT
    where = metrics.stamp.data if metrics.stamp else ""
    return {
        "name": run.resolve().name,
        "path": shlex.quote(str(run)),
        "of_data": f" --data {shlex.quote(where)}" if where else "",
        "tables": tables,
        "findings": findings,
        "preset": _preset(card, run),
        "card": card,
        "provenance": read_json(run / "provenance.json"),
        "metrics": metrics,
        "history": read_history(run / "history.csv"),
        "data": DataFacts.read_if_there(run / "data.json"),
        "network": Summary.read_if_there(run / "summary.json"),
        "flow_chart": _data_uri(chart) if chart.is_file() else None,
        "comparison": comparison,
        "separation": rows_if_there(plots / "separation.json", Separation),
        "limits": limits,
        "explanation": explanation,
        "outdated": outdated,
        "explained": findings.explanation_sentences(
            explanation,
            IntegratedGradients.read_if_there(folder / "integrated_gradients.json"),
            rows_if_there(folder / "similarity.json", LayerPair),
            Randomisation.read_if_there(folder / "randomisation.json"),
            Deletion.read_if_there(folder / "deletion.json"),
        ),
        "sections": figures_by_section(plots, MOST_BYTES - _MOST_WORDS - len(embedded), hidden),
        "display": display,
        "display_json": embedded,
        "displayed": len(every_event.events) if every_event else 0,
    }


def rows_if_there(path: Path, kind: type[R]) -> tuple[R, ...]:
    """Read a JSON file that holds a list of records; nothing where there is none."""
    if not path.is_file():
        return ()
    rows = read_json(path)
    try:
        return tuple(kind.model_validate(row) for row in rows)
    except (ValidationError, TypeError) as error:
        raise RunError(f"{path} does not hold rows of {kind.__name__}: {error}") from error


def _preset(card: str, run: Path) -> str:
    """Name of the preset that the card of the run says."""
    try:
        content = YAML(typ="safe").load(card)
    except YAMLError as error:
        raise RunError(f"{run / 'card.yaml'} is not YAML: {error}") from error
    named = content.get("preset") if isinstance(content, dict) else None
    return str(named or "custom")


# ---- figures ----------------------------------------------------------------------------------


class PlotFigure(NamedTuple):
    """One plot in the page.

    Attributes
    ----------
    name
        Of its files in plots/.
    source
        The drawing as an address that holds all of it; empty where the page would be too large.
    caption, more
        What it shows, and how to read it.
    folded
        Whether it is seen only by those who ask for more.
    numbers
        CSV text; empty where the run has none, or where the page would be too large with it.
    rows
        Of the CSV file, its head not counted.
    """

    name: str
    source: Markup
    caption: str
    more: str
    folded: bool
    numbers: str
    rows: int


def figures_by_section(folder: Path, room: int, hidden: str = "") -> dict[str, list[PlotFigure]]:
    """Sort the plots of a run into the sections of its report.

    Parameters
    ----------
    folder
        With the SVG and CSV files of the plots.
    room
        Bytes that all may take: the numbers of the largest tables are left out, then drawings of those
        that are folded.
    hidden
        A plot that is not shown.
    """
    sources = {path.stem: _data_uri(path) for path in folder.glob("*.svg") if path.stem != hidden}
    numbers = {path.stem: read_text(path) for path in folder.glob("*.csv") if path.stem in sources}
    # Those that are seen at once and the smallest first.
    for name in sorted(sources, key=lambda name: (findings.is_folded(name), len(sources[name]))):
        room -= len(sources[name])
        if room < 0 and findings.is_folded(name):
            room += len(sources[name])
            sources[name] = Markup()
    carried = set()
    # The smallest first: of most plots the page carries all numbers.
    for name in sorted(numbers, key=lambda name: (len(numbers[name]), name)):
        room -= len(numbers[name])
        if room >= 0:
            carried.add(name)
    sections: dict[str, list[PlotFigure]] = {section: [] for section in findings.SECTIONS}
    for name in findings.in_order(sources):
        figure = PlotFigure(
            name,
            sources[name],
            *findings.caption_of(name),
            findings.is_folded(name),
            numbers[name] if name in carried else "",
            max(numbers.get(name, "").count("\n") - 1, 0),
        )
        sections[findings.section_of(name)].append(figure)
    return sections


def _data_uri(path: Path) -> Markup:
    """An image as an address that holds all of it: as drawn, apart from the page's names and styles.

    Percent-encoded, a quarter less than in base64; to stand between double quotes.
    """
    text = re.sub(r">\s+<", "><", read_text(path))
    # A quotation mark costs three bytes; another kind of it none.
    text = re.sub(
        r"<[^!>][^>]*>", lambda tag: tag[0] if "'" in tag[0] else tag[0].replace('"', "'"), text
    )
    encoded = quote(text, safe=" <>'=/:;,.()!?@$*+~|[]{}")
    return Markup(f"data:image/svg+xml;charset=utf-8,{encoded}")  # noqa: S704 - no " and no & is left


# ---- event display ----------------------------------------------------------------------------


def lightened(display: EventDisplay) -> EventDisplay:
    """As many of the events, from each reason the first, as a page can carry."""
    seen: Counter[str] = Counter()
    ranked = []
    for event in display.events:
        ranked.append((seen[event.why], event))
        seen[event.why] += 1
    kept, left = set(), _MOST_EVENTS
    # The first of each reason before the second of any.
    for _, event in sorted(ranked, key=lambda pair: pair[0]):
        left -= len(event.model_dump_json())
        if left < 0:
            break
        kept.add(id(event))
    events = tuple(event for event in display.events if id(event) in kept)
    return display.model_copy(update={"events": events})


def _script_json(display: EventDisplay) -> Markup:
    """JSON that can stand in a script element: nothing in it can end the element."""
    text = json.dumps(display.model_dump(), separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704 - no character of HTML is left
