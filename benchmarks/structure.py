"""How the package is cut: lines, files, functions and their lengths, a row a folder.

    python benchmarks/structure.py [SOURCE_FOLDER]

A function's length is that of its body without its docstring; comments and docstrings are shares of all
lines of Python.
"""

import argparse
import ast
import io
import statistics
import tokenize
from dataclasses import dataclass, field
from pathlib import Path

from manyscale.console import print_table
from manyscale.reporting.tables import Table

SOURCE = Path(__file__).resolve().parents[1] / "src" / "manyscale"
# The floors above data and features.
UPPER = {
    "model", "training", "evaluation", "explanation", "deployment", "reporting", "card", "runs", "top",
}  # fmt: skip


@dataclass
class Folder:
    """What is counted in one folder."""

    files: int = 0
    lines: int = 0
    comments: int = 0
    docstrings: int = 0
    bodies: list[int] = field(default_factory=list)
    private: int = 0

    def add(self, text: str) -> None:
        """Count one Python file."""
        self.files += 1
        self.lines += text.count("\n")
        tokens = tokenize.generate_tokens(io.StringIO(text).readline)
        self.comments += sum(token.type == tokenize.COMMENT for token in tokens)
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module):
                first = node.body[0] if node.body else None
                documented = ast.get_docstring(node) is not None and first is not None
                if documented and first is not None:
                    self.docstrings += (first.end_lineno or 0) - first.lineno + 1
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                code = node.body[1:] if documented else node.body
                length = (code[-1].end_lineno or 0) - code[0].lineno + 1 if code else 0
                self.bodies.append(length)
                self.private += node.name.startswith("_") and not node.name.startswith("__")

    def cells(self, name: str) -> list[str]:
        """A row of the table."""
        bodies = sorted(self.bodies) or [0]
        return [
            name,
            f"{self.files}",
            f"{self.lines:,}",
            f"{len(self.bodies)}",
            f"{statistics.median(bodies):.0f}",
            f"{bodies[int(0.9 * (len(bodies) - 1))]}",
            f"{self.private / max(len(self.bodies), 1):.0%}",
            f"{self.comments / max(self.lines, 1):.1%}",
            f"{self.docstrings / max(self.lines, 1):.0%}",
        ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("source", nargs="?", type=Path, default=SOURCE)
    source = parser.parse_args().source
    folders: dict[str, Folder] = {}
    for path in sorted(source.rglob("*.py")):
        parts = path.relative_to(source).parts
        name = parts[0] if len(parts) > 1 else "top"
        groups = [name, "all", "upper floors" if name in UPPER else "lower floors"]
        for group in groups:
            folders.setdefault(group, Folder()).add(path.read_text(encoding="utf-8"))
    last = ("lower floors", "upper floors", "all")
    order = [name for name in folders if name not in last] + [
        name for name in last if name in folders
    ]
    header = [
        "folder",
        "files",
        "lines",
        "functions",
        "median",
        "90%",
        "private",
        "comments",
        "docs",
    ]
    print_table(Table(str(source), header, [folders[name].cells(name) for name in order]))


if __name__ == "__main__":
    main()
