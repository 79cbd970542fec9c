"""SHA-256 of the files of a folder: what was damaged or changed is known before it is read."""

import hashlib
from pathlib import Path

from manyscale.errors import RunError
from manyscale.settings import read_json, write_json

__all__ = ["CHECKSUMS", "changed_files", "read_checked", "sha256", "write_checksums"]

CHECKSUMS = "checksums.json"


def write_checksums(folder: Path, *names: str) -> None:
    """Write checksums.json, the last file of a folder.

    With names it is what it says of these alone that is new; a folder without one then stays so.
    """
    if names and not (folder / CHECKSUMS).is_file():
        return
    known = _known(folder) if names else {}
    names = names or tuple(sorted(path.name for path in _files(folder)))
    known |= {name: sha256((folder / name).read_bytes()) for name in names}
    write_json(folder / CHECKSUMS, {"sha256": known})


def read_checked(path: Path) -> bytes:
    """Read a file that is as it was written; of a folder without checksums.json, any file.

    Raises
    ------
    RunError
        Where its content is not that of which the checksum was taken.
    """
    content = path.read_bytes()
    known = _known(path.parent)
    if path.name in known and sha256(content) != known[path.name]:
        raise RunError(
            f"{path} was damaged or changed: its SHA-256 is not the one in {CHECKSUMS}, so that it is "
            f"not used. Copy it once more from where it came from"
        )
    return content


def changed_files(folder: Path) -> list[str]:
    """Say a line each what is not as checksums.json says: changed, missing or added."""
    known, there = _known(folder), {path.name for path in _files(folder)}
    return [
        *(f"{name} is missing" for name in sorted(known.keys() - there)),
        *(f"{name} was added" for name in sorted(there - known.keys())),
        *(
            f"{name} was damaged or changed"
            for name in sorted(there & known.keys())
            if sha256((folder / name).read_bytes()) != known[name]
        ),
    ]


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file() and path.name != CHECKSUMS]


def _known(folder: Path) -> dict[str, str]:
    if not (folder / CHECKSUMS).is_file():
        return {}
    content = read_json(folder / CHECKSUMS)
    known = content.get("sha256") if isinstance(content, dict) else None
    if not isinstance(known, dict):
        raise RunError(f"{folder / CHECKSUMS} is damaged: it names no checksums")
    return known


def sha256(content: bytes) -> str:
    """SHA-256 of some bytes, in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()
