"""Writes the report of a run: one HTML file that needs nothing else, from the files of the run."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from manyscale.errors import RunError
from manyscale.reporting import wording
from manyscale.reporting.captions import COMPARISON_PLOT, caption_of, in_order
from manyscale.reporting.inline_svg import inline_svg
from manyscale.reporting.run_files import ComparisonRow, RunFiles
from manyscale.reporting.style import save

__all__ = ["write_comparison", "write_report"]


def write_report(run: Path) -> Path:
    """Write `report.html` into a run folder, from its files, and return its path.

    It reads card.yaml, provenance.json, metrics.json and history.csv; where they are there also
    data.json, summary.json, flow_chart.svg, comparison.json, plots/separation.json and every
    plots/*.svg. What is absent of the second kind the report says.

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


def write_comparison(
    run: Path, rows: Sequence[ComparisonRow], curves: Figure | None = None
) -> None:
    """Write comparison.json, and the common ROC plot, where `write_report` looks for them.

    Parameters
    ----------
    run
        The run folder whose report shows the comparison.
    rows
        One a classifier, all on the same test events; the first is what the others are held against.
    curves
        The figure of `plots.roc` for all of them.
    """
    table = [row.model_dump() for row in rows]
    (run / "comparison.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    if curves is not None:
        save(curves, run / "plots", COMPARISON_PLOT)


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("manyscale", "reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": wording.count,
        "difference": wording.difference,
        "quantity": wording.quantity,
        "rejection": wording.rejection,
        "value": wording.value,
    }
    return environment


def _context(run: Path) -> dict[str, Any]:
    """What the template asks for."""
    files = RunFiles.read(run)
    plots = {
        name: _drawing(files.plots[name], f"plot-{number}")
        for number, name in enumerate(in_order(files.plots))
    }
    compared = plots.pop(COMPARISON_PLOT, None)
    processes = files.data.processes if files.data else ()
    return {
        "name": run.resolve().name,
        "preset": _preset(files.card, run),
        "files": files,
        "metrics": files.metrics,
        "findings": wording.findings(files),
        "classes": {
            label: [process.name for process in processes if process.label == label]
            for label in ("signal", "background")
        },
        "provenance": list(wording.flatten(files.provenance)),
        "time_spent": wording.time_spent(files.history),
        "cutflow": wording.cutflow(processes),
        "flow_chart": _drawing(files.flow_chart, "flow") if files.flow_chart else None,
        "plots": [(name, drawing, caption_of(name)) for name, drawing in plots.items()],
        "compared": compared,
        "compared_caption": caption_of(COMPARISON_PLOT),
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
