"""Files and folders that are written whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from manyscale.errors import RunError

__all__ = ["disk_errors", "is_draft", "remove", "whole", "write_whole"]

_DRAFT = ".tmp"


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
        What is written, for the system does not always say.

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
        raise RunError(
            f"cannot read or write {error.filename or path or 'a file'}: {error.strerror or error}; what was complete before is "
            f"as it was, and the same command can be given again"
        ) from error


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Write a file or a folder under another name; once it is on the disk, put it in its place.

    An older one stays as it was until then. Where the block fails nothing is left; what a killed
    process leaves, the next writer of the same file takes away.

    Parameters
    ----------
    path
        Of the file or folder; its own folder is made.

    Yields
    ------
    The name to write under, where there is nothing yet.

    Raises
    ------
    RunError
        As `disk_errors`.
    """
    draft = path.with_name(f".{path.name}{_DRAFT}")
    with disk_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            remove(draft)
            yield draft
            for written in [*draft.rglob("*"), draft]:
                _to_disk(written)
            if draft.is_dir():
                remove(path)  # a folder takes the place of an empty one alone
            draft.replace(path)
            _to_disk(path.parent)
        except BaseException:
            remove(draft)
            raise


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a text in UTF-8, its line ends as they are, or bytes; see `whole`."""
    with whole(path) as draft:
        draft.write_bytes(content.encode() if isinstance(content, str) else content)


def _to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, would survive that the machine loses power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
