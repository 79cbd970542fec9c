"""ROOT files by uproot: opened, looked into and read, with errors that name file, tree and branch."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import awkward as ak
import uproot

from manyscale.errors import DataError

__all__ = ["open_root", "read_branches", "trees"]


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
        file = uproot.open(path)
    except Exception as error:  # uproot raises whatever a damaged header leads it to
        raise DataError(
            f"{path} cannot be opened as a ROOT file; it may be cut short ({_line(error)})"
        ) from error
    with file:
        yield file


def trees(file: Any) -> dict[str, Any]:  # noqa: ANN401 - uproot has no types
    """Trees and RNTuples of a file by name, of each the newest cycle."""
    kinds = {"TTree", "TNtuple", "TNtupleD", "TChain", "ROOT::RNTuple"}
    named = file.classnames(recursive=True)
    return {name.partition(";")[0]: file[name] for name in named if named[name] in kinds}


def read_branches(
    tree: Any,  # noqa: ANN401
    path: str,
    branches: Sequence[str],
    first: int,
    last: int,
) -> dict[str, ak.Array]:
    """Read entries `first` to `last - 1` of some branches, each by itself.

    Raises
    ------
    DataError
        Where a branch cannot be read; names file, tree, branch and entries.
    """
    columns = {}
    for name in branches:
        try:
            columns[name] = tree[name].array(entry_start=first, entry_stop=last)
        except Exception as error:
            raise DataError(
                f"{path}, tree '{tree.name}', branch '{name}': entries {first} to {last - 1} cannot "
                f"be read; the file may be damaged ({_line(error)})"
            ) from error
    return columns


def _line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:120]}" if text else type(error).__name__
