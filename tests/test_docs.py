"""Links, commands, card excerpts and Python of the docs hold against the code."""

import ast
import re
import textwrap
from pathlib import Path

import numpy as np
import pytest
import typer
from matplotlib import rc_context

from helpers.commands import toy_dataset, toy_npz
from helpers.toys import SCHEMA, toy_events
from manyscale import cli
from manyscale.card import parse_card, preset_card
from manyscale.deployment.scores import Scores, write_scores
from manyscale.events.settings import NAMED_PROCESSES
from manyscale.model.summary import summarise
from manyscale.reporting.flow_chart import flow_chart
from manyscale.runs.train import build_model

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\(([^)#\s]+)\)")
COMMAND = re.compile(r"^\s{4,}manyscale (.+)$|`manyscale ([^`]+)`", re.MULTILINE)
YAML_BLOCK = re.compile(r"```yaml\n(.*?)```", re.DOTALL)
PYTHON_BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)
INDENTED_BLOCK = re.compile(r"(?:^(?: {4}.*)?\n)+", re.MULTILINE)

# Pages whose Python is run.
RUN = {"README.md", "python.md", "plotting.md"}

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def commands_of(text):
    """What is typed behind `manyscale`, comments left out."""
    for found in COMMAND.finditer(text):
        yield " ".join((found[1] or found[2]).split("#")[0].split())


def options_of(command):
    return {flag for parameter in command.params for flag in parameter.opts}


@pages
def test_links_lead_somewhere(page):
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (page.parent / target).exists(), target


@pages
def test_commands_and_options_exist(page):
    known = typer.main.get_command(cli.app).commands
    for typed in commands_of(page.read_text(encoding="utf-8")):
        name, *rest = typed.split()
        if name == "--help":
            continue
        assert name in known, typed
        flags = {word for word in rest if word.startswith("--")}
        assert flags <= options_of(known[name]) | {"--help", "--debug"}, typed


def test_commands_are_found():
    assert "train card.yaml --out run" in set(commands_of(PAGES[0].read_text(encoding="utf-8")))


@pages
def test_card_excerpts_are_cards(page):
    for block in YAML_BLOCK.findall(page.read_text(encoding="utf-8")):
        parse_card(block, page.name)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name in RUN], ids=lambda page: page.name
)
def test_python_runs(page, tmp_path, monkeypatch):
    """All of a page in turn, in a folder with the files that the pages name; one epoch is enough."""
    blocks = PYTHON_BLOCK.findall(page.read_text(encoding="utf-8"))
    assert blocks
    monkeypatch.chdir(tmp_path)
    toy_dataset(tmp_path / "data" / "hh4b")
    for seed, name in enumerate(("s", "s1", "s2", "b", "b1", "b2")):
        toy_npz(tmp_path / f"{name}.npz", 60, name[0] == "s", seed)
    (tmp_path / "card.yaml").write_text("data: {dataset: data/hh4b}\n", encoding="utf-8")
    scores = tmp_path / "runs" / "first" / "scores" / "test.parquet"
    scores.parent.mkdir(parents=True)
    events = toy_events(3, events=60)
    signal = np.linspace(0, 1, 60)
    found = Scores.of(events, {"combined": signal}, "test", ["hh4b", "qcd"], labelled=True)
    write_scores(scores, [Scores({**found.columns, "physical_weight": events.weight})])
    names = {}
    with rc_context():
        for block in blocks:
            code = re.sub(r"epochs=\d+", "epochs=1", block)
            exec(compile(code, page.name, "exec"), names)  # noqa: S102


@pages
def test_python_that_runs_is_all_python(page):
    """Pages of which nothing is run have none, and no indented block is any."""
    text = page.read_text(encoding="utf-8")
    if page.name not in RUN:
        assert not PYTHON_BLOCK.search(text)
    text = PYTHON_BLOCK.sub("", YAML_BLOCK.sub("", text))
    for block in INDENTED_BLOCK.findall(text):
        try:
            tree = ast.parse(textwrap.dedent(block))
        except SyntaxError:  # a command, say
            continue
        code = (ast.Call, ast.Import, ast.ImportFrom, ast.Attribute)
        assert not any(isinstance(node, code) for node in ast.walk(tree)), block


def test_imports_keep_to_the_floors_of_the_architecture():
    """The table names every folder; none imports from one below it in the table, a floor above."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    floors = [
        name
        for row in re.findall(r"^\| (.*?) \|", text, re.MULTILINE)
        for name in re.findall(r"`(\w+)/?`", row)
    ]
    package = ROOT / "src" / "manyscale"
    there = {
        path.stem
        for path in package.iterdir()
        if path.suffix == ".py" or (path / "__init__.py").is_file()
    }
    assert set(floors) == there - {"__init__", "__main__"}
    upward = [
        f"{path.relative_to(package)} imports {name}"
        for path in package.rglob("*.py")
        for name in re.findall(
            r"^\s*(?:from|import) manyscale\.(\w+)", path.read_text("utf-8"), re.MULTILINE
        )
        if (own := path.relative_to(package).parts[0].removesuffix(".py")) in floors
        and floors.index(name) > floors.index(own)
    ]
    assert upward == []


def test_generation_lists_the_named_processes():
    text = (ROOT / "docs" / "generation.md").read_text(encoding="utf-8")
    for name, process in NAMED_PROCESSES.items():
        assert f"| `{name}` | {process.event_class} | {process.share:g} |" in text


def test_picture_of_model_2_is_up_to_date():
    """The toys have the columns of generated events. How to make it anew: CONTRIBUTING.md."""
    network = build_model(preset_card("model-2"), SCHEMA)
    drawn = (ROOT / "docs" / "pictures" / "model-2.svg").read_text(encoding="utf-8")
    assert flow_chart(summarise(network)) == drawn
