"""Files and folders that are written whole or not at all."""

import glob
import os
import platform
import shutil
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from manyscale.errors import RunError

__all__ = ["disk_errors", "is_draft", "remove", "whole", "write_whole"]

_DRAFT = ".tmp"
# After so many seconds a draft of another machine is nobody's.
_FORGOTTEN = 86_400


def is_draft(path: Path) -> bool:
    """Whether a file or folder is what a writer that was killed has left of another."""
    return path.name.startswith(".") and path.suffix == _DRAFT


def remove(path: Path) -> None:
    """Remove a file, or a folder with all in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def disk_errors(path: Path | None = None) -> Iterator[None]:
    """Say in plain words what a full disk, or a folder that may not be written, raises.

    Parameters
    ----------
    path
        What is written, for the system does not always say, or names a draft.

    Raises
    ------
    RunError
        Names the file, and what the system says of it.
    """
    try:
        yield
    except ConnectionError:
        raise
    except OSError as error:
        name = error.filename
        if name is None or any(is_draft(of) for of in (Path(name), *Path(name).parents)):
            name = path or name
        raise RunError(
            f"cannot read or write {name or 'a file'}: {error.strerror or error}; what was complete "
            f"before is as it was, and the same command can be given again"
        ) from error


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Write a file or a folder under another name; once it is on the disk, put it in its place.

    An older one stays as it was until then. Several processes may write the same one: the last is
    what stands there. Where the block fails nothing is left; what a killed process leaves, the next
    writer of the same file takes away.

    Parameters
    ----------
    path
        Of the file or folder; those that it stands in are made.

    Yields
    ------
    The name to write under, where there is nothing yet.

    Raises
    ------
    RunError
        As `disk_errors`.
    """
    machine = f"{zlib.crc32(platform.node().encode()):08x}"
    draft, before = (
        path.with_name(f".{path.name}.{kind}{machine}-{os.getpid()}{_DRAFT}")
        for kind in ("", "before.")
    )
    made = [folder for folder in path.parents if not folder.exists()]
    with disk_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            for left in path.parent.glob(f".{glob.escape(path.name)}.*-*{_DRAFT}"):
                if left in (draft, before) or _is_left(left, machine):
                    remove(left)
            yield draft
            for written in [*draft.rglob("*"), draft]:
                _to_disk(written)
            if draft.is_dir() and os.path.lexists(path):
                path.replace(before)  # a folder takes the place of an empty one alone
            draft.replace(path)
            _to_disk(path.parent)
            remove(before)
        except BaseException:
            if before.exists() and not path.exists():
                before.replace(path)
            remove(before)
            remove(draft)
            with suppress(OSError):
                for folder in made:
                    folder.rmdir()
            raise


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a text in UTF-8, its line ends as they are, or bytes; see `whole`."""
    with whole(path) as draft:
        draft.write_bytes(content.encode() if isinstance(content, str) else content)


def _is_left(draft: Path, machine: str) -> bool:
    """Whether whoever was writing a draft has ended."""
    theirs, _, process = draft.stem.rpartition(".")[2].rpartition("-")
    try:
        if theirs != machine:
            return time.time() - draft.stat().st_mtime > _FORGOTTEN
        os.kill(int(process), 0)
    except (ProcessLookupError, ValueError):
        return True
    except OSError:  # it is somebody else's, or was removed meanwhile
        return False
    return False


def _to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, would survive that the machine loses power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
