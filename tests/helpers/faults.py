"""File operations that fail, or are the last of a process, in turn."""

import contextlib
import errno
import io
import json
import os
import re
import sys
from pathlib import Path

import pytest
from matplotlib import pyplot as plt

from manyscale import cli
from manyscale.evaluation import trees
from manyscale.evaluation.results import read_history
from manyscale.writing import is_draft

# What needs room on the disk, and what does not.
_TAKING = ("mkdir", "fsync", "open", "write")
_OTHERS = ("rename", "replace", "unlink", "remove", "rmdir")


class KilledError(BaseException):
    """The process has ended here: nothing that it does afterwards reaches the disk."""


class Disk:
    """Counts the operations that change files under a folder; the one of number `at` goes wrong.

    Parameters
    ----------
    root
        The folder.
    at
        From 0; None: all go well.
    kills
        Whether the process ends before it. Else the disk is full: it fails, and so does from then
        on all that needs room.
    """

    def __init__(self, root, at=None, *, kills=False):
        self.root, self.at, self.kills = os.fspath(root), at, kills
        self.done = []  # name and path of each operation

    def pass_or_raise(self, name, path):
        """Count an operation; raise where it may not be."""
        if isinstance(path, int):
            path = Path(f"/proc/self/fd/{path}").readlink()
        path = os.fspath(path)
        if not os.path.abspath(path).startswith(self.root):  # noqa: PTH100 - links stay as they are
            return
        number = len(self.done)
        self.done.append((name, path))
        if self.at is None or number < self.at:
            return
        if self.kills:
            raise KilledError
        if number == self.at or name in _TAKING:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    @contextlib.contextmanager
    def watched(self):
        """Watch what is done in the block."""

        def watching(name):
            real = getattr(os, name)

            def operation(path, *arguments, dir_fd=None, **options):
                known = path if dir_fd is None else Path(f"/proc/self/fd/{dir_fd}").resolve() / path
                self.pass_or_raise(name, known)
                if dir_fd is not None:
                    options["dir_fd"] = dir_fd
                return real(path, *arguments, **options)

            return operation

        real_open = io.open

        def opening(file, mode="r", buffering=-1, *text, opener=None, **options):
            if not set(mode) & set("wax+") or isinstance(file, int):
                return real_open(file, mode, buffering, *text, opener=opener, **options)
            self.pass_or_raise("open", file)
            raw = _Raw(file, mode.replace("b", "").replace("t", ""), opener=opener)
            raw.pass_or_raise = self.pass_or_raise
            binary = (io.BufferedRandom if "+" in mode else io.BufferedWriter)(raw)
            return binary if "b" in mode else io.TextIOWrapper(binary, *text, **options)

        def drawn(_, target, **options):
            content = _PLOT if options["format"] == "svg" else "%PDF"
            if isinstance(target, io.StringIO):
                target.write(content)
            else:
                Path(target).write_text(content, encoding="utf-8")

        with pytest.MonkeyPatch.context() as patch:
            for name in ("fsync", "mkdir", *_OTHERS):
                patch.setattr(os, name, watching(name))
            patch.setattr(io, "open", opening)
            patch.setattr("builtins.open", opening)
            # Threads that wait for a core which others use, too, wait long.
            patch.setattr(trees, "usable_cores", lambda: 1)
            # Drawing is slow, and no file operation; nor is going through all that is drawn.
            patch.setattr(plt.Figure, "savefig", drawn)
            patch.setattr(plt.Figure, "findobj", lambda *_: [])
            yield


class _Raw(io.FileIO):
    """A file each of whose writes, once its buffer is full or flushed, is counted."""

    def write(self, content):
        self.pass_or_raise("write", self.name)
        return super().write(content)


_PLOT = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="10pt" height="10pt" viewBox="0 0 10 10"></svg>'
)


def command(*words):
    """Type `manyscale WORDS`; return its exit code and stderr."""
    said = io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stderr(said),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        patch.setattr(sys, "argv", ["manyscale", *map(str, words)])
        try:
            cli.main()
        except SystemExit as end:
            return end.code or 0, said.getvalue()
    return 0, said.getvalue()


def kept(folder):
    """What the files of a folder hold, by their names, without times."""
    found = {}
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        if path.is_dir() or name in {"log.txt", "provenance.json", "report.html"}:
            found[name] = None
        elif path.name == "history.csv":
            rows = read_history(path)
            found[name] = [[row[key] for key in list(row)[:5]] for row in rows]
        elif path.parent.name == "checkpoints":
            found[str(name).rpartition("-")[0]] = None
        elif path.suffix == ".json" and "plots" not in name:
            content = json.loads(path.read_text(encoding="utf-8").replace(str(folder), "FOLDER"))
            if isinstance(content, dict):
                content.pop("seconds", None)
            text = json.dumps(content, indent=0)
            # Times, and names of parts that are drawn at random.
            found[name] = re.sub(r'"[a-z_]*(second|deviation|made)[^\n]*|[0-9a-f]{32}', "", text)
        elif "seconds" not in name and path.suffix != ".parquet":
            found[re.sub(r"[0-9a-f]{32}", "", name)] = path.read_bytes()
    return found


def strays(folder, failed=None):
    """Files that only a writer at work has, but for one whose removal is the operation that failed."""
    return [
        path
        for path in folder.rglob("*")
        if (is_draft(path) or path.name == ".lock") and ("unlink", str(path)) != failed
    ]
