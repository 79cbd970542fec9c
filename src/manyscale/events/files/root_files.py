"""ROOT files by uproot: opened, looked into and read, with errors that name file, tree and branch."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uproot

from manyscale.errors import DataError

__all__ = [
    "first_line",
    "open_root",
    "open_tree",
    "reading",
    "size_and_head",
    "trees",
]


@contextmanager
def open_root(path: str) -> Iterator[Any]:
    """Open a ROOT file, local or remote, as uproot's directory.

    Raises
    ------
    DataError
        Where it cannot be opened: it is missing, cut short, or no ROOT file.
    """
    if "://" not in path and not Path(path).is_file():
        raise DataError(f"there is no file {path}")
    try:
        # uproot's caches would keep the trees of a hundred files, and 100 MB of arrays.
        options: dict[str, Any] = {"object_cache": None, "array_cache": None}
        if "://" not in path:
            # The default hands every read to the event loop of another thread.
            options["handler"] = uproot.MultithreadedFileSource
        file = uproot.open(path, **options)
    except Exception as error:  # uproot raises whatever a damaged header leads it to
        raise DataError(
            f"{path} cannot be opened as a ROOT file; it may be cut short ({first_line(error)})"
        ) from error
    with file:
        yield file


def open_tree(file: Any, name: str) -> Any:  # noqa: ANN401 - uproot has no types
    """Tree or RNTuple of an open file, with all its branches."""
    # Python would look again and again for garbage among the thousands of objects that uproot makes
    # of the branches: nearly half of the time that a tree takes to open.
    collecting = gc.isenabled()
    gc.disable()
    try:
        return file[name]
    finally:
        if collecting:
            gc.enable()


def size_and_head(path: str, head: int) -> tuple[int, bytes]:
    """Size in bytes and the first bytes of a remote ROOT file."""
    with open_root(path) as file:
        source = file.file.source
        return source.num_bytes, source.chunk(0, min(head, source.num_bytes)).raw_data.tobytes()


def trees(file: Any) -> dict[str, Any]:  # noqa: ANN401 - uproot has no types
    """Trees and RNTuples of a file by name, of each the newest cycle."""
    kinds = {"TTree", "TNtuple", "TNtupleD", "TChain", "ROOT::RNTuple"}
    named = file.classnames(recursive=True)
    names = dict.fromkeys(name.partition(";")[0] for name in named if named[name] in kinds)
    return {name: open_tree(file, name) for name in names}


@contextmanager
def reading(where: str, branch: str, first: int, last: int) -> Iterator[None]:
    """Read entries `first` to `last - 1` of a branch of a tree inside.

    Raises
    ------
    DataError
        Where that fails, whatever the reason; names `where`, branch and entries.
    """
    try:
        yield
    except Exception as error:
        raise DataError(
            f"{where}, branch '{branch}': entries {first} to {last - 1} cannot be read; the file "
            f"may be cut short or damaged ({first_line(error)})"
        ) from error


def first_line(error: Exception) -> str:
    """The first line of what a library says, without the names of its classes."""
    text = str(error).strip().splitlines()
    return text[0].rstrip(" ,:")[:120] if text else "no reason is given"
