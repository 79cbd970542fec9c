"""The site of the docs, which `make docs` builds into site/."""

import re
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).parents[1]

project = "manyscale"
html_title = project
html_theme = "furo"
extensions = ["myst_parser"]
myst_heading_anchors = 4
highlight_language = "none"


def follow_links(_: Sphinx, page: str, source: list[str]) -> None:
    """Begin the first page with the README; let what stands beside docs/ be downloaded."""
    text = source[0]
    if page == "index":
        readme = (ROOT / "README.md").read_text(encoding="utf-8")
        text = re.sub(r"\]\((?!https:|docs/)", "](../", readme).replace("](docs/", "](") + text
    text = text.replace("](../README.md", "](index.md")
    source[0] = re.sub(r"\]\((\.\./[^)]*\.md)\)", r"](path:\1)", text)


def setup(app: Sphinx) -> None:
    """Connect it."""
    app.connect("source-read", follow_links)
