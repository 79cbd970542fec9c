"""Writes the report of a run: one HTML file that needs nothing else, from the files of the run."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from manyscale.errors import RunError
from manyscale.reporting import story, wording
from manyscale.reporting.captions import COMPARISON_PLOT
from manyscale.reporting.drawn import Drawn
from manyscale.reporting.inline_svg import inline_svg
from manyscale.reporting.plot_figures import figures_by_section
from manyscale.reporting.run_files import ComparisonRow, RunFiles

__all__ = ["write_comparison", "write_report"]


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
    page = _environment().get_template("report.html.jinja").render(_context(run))
    draft = run / ".report.html.tmp"
    draft.write_text(page, encoding="utf-8")
    path = run / "report.html"
    draft.replace(path)
    return path


def write_comparison(run: Path, rows: Sequence[ComparisonRow], curves: Drawn | None = None) -> None:
    """Write comparison.json, and the common ROC plot, where `write_report` looks for them.

    Parameters
    ----------
    run
        The run folder whose report shows the comparison.
    rows
        One a classifier, all on the same test events; the first is what the others are held against.
    curves
        What `plots.roc` draws of all of them.
    """
    table = [row.model_dump() for row in rows]
    (run / "comparison.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    if curves is not None:
        curves.save(run / "plots", COMPARISON_PLOT)


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("manyscale", "reporting/page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": wording.count,
        "difference": wording.difference,
        "percent": wording.percent,
        "quantity": wording.quantity,
        "rejection": wording.rejection,
        "short": wording.short,
        "sigmas": story.sigmas,
        "value": wording.value,
    }
    return environment


def _context(run: Path) -> dict[str, Any]:
    """What the template asks for."""
    files = RunFiles.read(run)
    processes = files.data.processes if files.data else ()
    return {
        "name": run.resolve().name,
        "path": shlex.quote(str(run)),
        "preset": _preset(files.card, run),
        "files": files,
        "metrics": files.metrics,
        "tiles": story.tiles(files),
        "findings": story.findings(files),
        "doubts": story.doubts(files),
        "significance": story.significance_sentences(files.metrics),
        "checks": story.check_sentences(files.explanation),
        "limits": story.limit_sentences(files.limits),
        "classes": {
            label: [process.name for process in processes if process.label == label]
            for label in ("signal", "background")
        },
        "provenance": list(wording.flatten({**files.provenance, "versions": None})),
        "versions": list(wording.flatten(files.provenance.get("versions"))),
        "time_spent": wording.time_spent(files.history),
        "cutflow": wording.cutflow(processes),
        "flow_chart": _drawing(files.flow_chart, "flow") if files.flow_chart else None,
        "sections": figures_by_section(files.plots, files.tables),
        "display": files.display.light() if files.display else None,
    }


def _drawing(document: str, prefix: str) -> Markup:
    return Markup(inline_svg(document, prefix))  # noqa: S704 - rewritten, scripts taken out


def _preset(card: str, run: Path) -> str:
    """Name of the preset that the card of the run says."""
    try:
        content = YAML(typ="safe").load(card)
    except YAMLError as error:
        raise RunError(f"{run / 'card.yaml'} is not YAML: {error}") from error
    named = content.get("preset") if isinstance(content, dict) else None
    return str(named or "custom")
