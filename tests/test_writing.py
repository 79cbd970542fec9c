"""Files and folders that come whole, whoever else writes or has ended."""

import subprocess
import sys
from contextlib import suppress

import pytest

from helpers.faults import Disk
from manyscale.checksums import changed_files
from manyscale.errors import RunError
from manyscale.writing import is_draft, whole, write_whole

KILLED = """
import os, pathlib, signal, sys
from manyscale.writing import whole
with whole(pathlib.Path(sys.argv[1])) as draft:
    draft.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_leaves_the_next_writer_takes_away(tmp_path):
    path = tmp_path / "a[1].json"
    subprocess.run([sys.executable, "-c", KILLED, path], check=False)
    assert [is_draft(left) for left in tmp_path.iterdir()] == [True]
    write_whole(path, "whole")
    assert list(tmp_path.iterdir()) == [path]


def test_what_another_process_is_writing_stays(tmp_path):
    path = tmp_path / "a.json"
    script = KILLED.replace("os.kill(os.getpid(), signal.SIGKILL)", "print(flush=True); input()")
    other = subprocess.Popen([sys.executable, "-c", script, path],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
    other.stdout.readline()
    write_whole(path, "whole")
    assert len(list(tmp_path.iterdir())) == 2
    other.communicate(b"\n")
    assert [left.read_text(encoding="utf-8") for left in tmp_path.iterdir()] == ["half"]


def test_where_it_fails_nothing_is_left(tmp_path):
    def fail():
        with whole(tmp_path / "new" / "folder") as draft:
            draft.mkdir()
            (draft / "a").write_text("", encoding="utf-8")
            raise OSError(28, "No space left on device", str(draft / "a"))

    with pytest.raises(RunError, match=r"folder: No space left"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_an_older_folder_stays_until_the_new_one_is_there(tmp_path):
    def write(content):
        with whole(tmp_path / "folder") as draft:
            draft.mkdir()
            (draft / "a").write_text(content, encoding="utf-8")

    def replace(at=None):
        """Say what was done, and what then stands there, where the operation of that number fails."""
        write("older")
        disk = Disk(tmp_path, at)
        with disk.watched(), suppress(RunError):
            write("new")
        assert [path.name for path in tmp_path.iterdir()] == ["folder"]
        return disk.done, (tmp_path / "folder" / "a").read_text(encoding="utf-8")

    done, _ = replace()
    found = [replace(at)[1] for at in range(len(done))]
    placed = [name for name, _ in done].index("replace") + 1  # the older one is put aside before
    assert found == ["older"] * (placed + 1) + ["new"] * (len(done) - placed - 1)


def test_a_link_is_replaced_and_what_it_points_to_stays(tmp_path):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "a").write_text("theirs", encoding="utf-8")
    for name, target in (("file", "theirs/a"), ("folder", "theirs")):
        (tmp_path / name).symlink_to(target)
    write_whole(tmp_path / "file", "ours")
    with whole(tmp_path / "folder") as draft:
        draft.mkdir()
    assert (tmp_path / "theirs" / "a").read_text(encoding="utf-8") == "theirs"
    assert not any((tmp_path / name).is_symlink() for name in ("file", "folder"))


def test_checksums_lead_nowhere_else(tmp_path):
    (tmp_path / "secret").write_text("secret", encoding="utf-8")
    (tmp_path / "model").mkdir()
    write_whole(
        tmp_path / "model" / "checksums.json", '{"sha256": {"../secret": "0", "/etc/passwd": "0"}}'
    )
    assert changed_files(tmp_path / "model") == ["../secret is missing", "/etc/passwd is missing"]
