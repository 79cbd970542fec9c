"""Links, commands, card excerpts and Python of the docs hold against the code."""

import ast
import gzip
import json
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import typer
from matplotlib import rc_context

from helpers.commands import run, toy_dataset, toy_npz
from helpers.toys import SCHEMA, toy_events
from manyscale import cli
from manyscale.card import parse_card, preset_card
from manyscale.deployment.scores import Scores, write_scores
from manyscale.events.settings import NAMED_PROCESSES
from manyscale.model.summary import summarise
from manyscale.reporting.flow_chart import flow_chart
from manyscale.runs.fit import build_model

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = sorted(path for path in (ROOT / "examples").iterdir() if path.suffix != ".ipynb")
NOTEBOOK = ROOT / "examples" / "first_steps.ipynb"
LINK = re.compile(r"\]\(([^)#\s]+)\)")
COMMAND = re.compile(r"^(?:#\s|\s{2})\s{2,}manyscale (.+)$|`manyscale ([^`]+)`", re.MULTILINE)
YAML_BLOCK = re.compile(r"```yaml\n(.*?)```", re.DOTALL)
PYTHON_BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)
INDENTED_BLOCK = re.compile(r"(?:^(?: {4}.*)?\n)+", re.MULTILINE)

TYPED = re.compile(r"^ {4}manyscale (.+)$", re.MULTILINE)

# Pages whose Python is run.
RUN = {"README.md", "python.md", "plotting.md"}
# What makes a long command short.
SHORTER = {
    "convert": "--workers 1",
    "generate": "--set generate.events=150 --set generate.multiparton=false --workers 1 "
    '--set generate.processes={"hh4b":{},"zz":{}}',
    # Few events: bins of the limits are to be closed by a few, too.
    "train": "--set training.epochs=1 --set evaluation.limits.floor=3",
}

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


@pytest.mark.parametrize("page", [*PAGES, *EXAMPLES], ids=lambda page: page.name)
def test_commands_and_options_exist(page):
    known = typer.main.get_command(cli.app).commands
    for typed in commands_of(page.read_text(encoding="utf-8")):
        name, *rest = typed.split()
        if name == "--help":
            continue
        assert name in known, typed
        flags = {word for word in rest if word.startswith("--")}
        assert flags <= options_of(known[name]) | {"--help", "--debug"}, typed
        ours = [word for word in rest if word.startswith("examples/")]
        assert all((ROOT / path).is_file() for path in ours), typed


def test_commands_are_found():
    assert "train card.yaml --out run" in set(commands_of(PAGES[0].read_text(encoding="utf-8")))


def type_all(page, capsys, monkeypatch):
    """Type the commands of a page's blocks as they stand there, the long ones shortened."""
    for typed in TYPED.findall(page.read_text(encoding="utf-8")):
        command, _, printed = typed.partition("#")[0].partition(">")
        words = shlex.split(command)
        done = run(capsys, monkeypatch, *words, *SHORTER.get(words[0], "").split())
        assert done.code == 0, f"{typed}: {done.err}"
        if printed:
            Path(printed.strip()).write_text(done.out, encoding="utf-8")
        yield command.strip()


def test_commands_of_the_readme_run(capsys, monkeypatch, tmp_path):
    """And those of the pages that go on with its run."""
    pytest.importorskip("manyscale.events.generate")
    pytest.importorskip("pyhf")
    delphes = pytest.importorskip("helpers.delphes_files")
    monkeypatch.chdir(tmp_path)
    delphes.write_delphes(Path("signal.root"), delphes.toy_collections(20))
    for seed, name in enumerate(("signal", "background", "new")):
        toy_npz(f"{name}.npz", 60, name == "signal", seed, columns=4)
    Path("input.py").write_text("model = 1\nsig_file = 'signal.npz'\nbkg_file = 'background.npz'\n")
    readme = ROOT / "README.md"
    (lines,) = YAML_BLOCK.findall(readme.read_text(encoding="utf-8"))
    for line in type_all(readme, capsys, monkeypatch):
        if line == "card model-1":
            Path("card.yaml").write_text(f"preset: model-1\n{lines}", encoding="utf-8")
    assert {path.name for path in Path("runs/first").iterdir()} >= {"limits", "explanation"}
    for page in ("plotting.md", "deployment.md"):
        assert list(type_all(ROOT / "docs" / page, capsys, monkeypatch))


def test_commands_of_the_guides_run(capsys, monkeypatch, tmp_path):
    """On small files in the layout of each."""
    pytest.importorskip("pyhf")
    delphes = pytest.importorskip("helpers.delphes_files")
    from helpers import generator_files, nanoaod_files, ntuple_files  # noqa: PLC0415

    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("signal", "ttbar")):
        events = [generator_files.lhe_event(pt=400.0 + seed)] * 10
        Path(f"{name}.lhe.gz").write_bytes(gzip.compress(generator_files.lhe_text(events)))
        jets = [(211, 1, None, (sign * 400.0, seed, 0.0, 401.0)) for sign in (1, -1)]
        event = generator_files.hepmc_event(jets, cross_section=(831.0, 1.0))
        text = generator_files.hepmc_text(tmp_path / "ttbar.hepmc", [event] * 3)
        Path("signal.hepmc.gz").write_bytes(gzip.compress(text))
        number = "" if name == "signal" else "_0"
        path = Path(f"delphes_{name}{number}.root")
        delphes.write_delphes(path, delphes.toy_collections(80, seed))
        branches = nanoaod_files.made_up(n_events=20, seed=seed)
        nanoaod_files.write(
            Path(f"nano_{name}{number}.root"),
            branches,
            {"genEventSumw": [20.0], "genEventSumw2": [20.0]},
        )
        made = ntuple_files.atlas_like(np.random.default_rng(seed), 30)
        made |= {"met": made["fat_jet1_pt"], "met_phi": made["fat_jet1_phi"]}
        ntuple_files.write_tree(f"ntuple_{name}.root", "nominal", made)
    for seed, name in enumerate(("signal", "background")):
        toy_npz(f"{name}.npz", 60, name == "signal", seed, columns=4)
    page = ROOT / "docs" / "guides.md"
    cards = YAML_BLOCK.findall(page.read_text(encoding="utf-8"))
    for name, card in zip(("ntuple", "npz"), cards, strict=True):
        Path(f"{name}.yaml").write_text(card, encoding="utf-8")
    assert len(list(type_all(page, capsys, monkeypatch))) > 10
    assert Path("runs/delphes/limits/limits.json").is_file()


def test_site_builds_without_a_broken_link(tmp_path):
    pytest.importorskip("furo")
    build = [sys.executable, "-m", "sphinx", "--fail-on-warning", "-q", "-E", "-b", "html"]
    done = subprocess.run(
        [*build, "-d", tmp_path / "trees", ROOT / "docs", tmp_path / "site"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "make demo" in (tmp_path / "site" / "index.html").read_text(encoding="utf-8")


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


def test_notebook_runs(tmp_path):
    """With fewer events, in a kernel of its own."""
    pytest.importorskip("manyscale.events.generate")
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    text = NOTEBOOK.read_text(encoding="utf-8")
    text = text.replace("events: 3000", "events: 300").replace("epochs=4", "epochs=1")
    assert json.loads(text)["cells"]
    book = nbformat.reads(text, as_version=4)
    where = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(book, timeout=120, resources=where).execute()
    pictures = [out for cell in book.cells for out in cell.get("outputs", []) if "data" in out]
    assert sum("image/png" in out["data"] for out in pictures) == 3


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
