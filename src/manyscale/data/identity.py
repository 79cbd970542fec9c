"""Which event is which: 64-bit numbers that follow from where an event comes from."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "FIRST_BYTES",
    "copies",
    "event_ids",
    "file_identity",
    "identity_of",
    "part_ids",
    "remote_identity",
    "uniform",
]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
#: How much of a file its identity depends on.
FIRST_BYTES = 1 << 20


def event_ids(identity: str, entries: ArrayLike) -> NDArray[np.uint64]:
    """Number events by their source and their place in it.

    Two entries of one source never share a number; two sources do by chance alone (64 bits).

    Parameters
    ----------
    identity
        Says which source: see `file_identity`.
    entries
        (events,): places in the source, from 0.
    """
    return _mix(_base(identity) + _GOLDEN * np.asarray(entries).astype(np.uint64))


def part_ids(event_id: NDArray[np.uint64], place: ArrayLike) -> NDArray[np.uint64]:
    """Number parts of events, such as tokens, by their event and their place in it, from 0."""
    return _mix(_mix(event_id) + _GOLDEN * np.asarray(place).astype(np.uint64))


def identity_of(event_id: NDArray[np.uint64]) -> str:
    """Name a set of events, whatever their order."""
    return f"{np.bitwise_xor.reduce(_mix(event_id)):016x}"


def uniform(event_id: NDArray[np.uint64], purpose: str) -> NDArray[np.float64]:
    """Draw one number in [0, 1) for each event, or part: a pure function of it and the purpose."""
    bits = _mix(_mix(event_id ^ _base(purpose)))
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def file_identity(paths: Sequence[Path]) -> str:
    """Name the source that some files are together: names, sizes, checksums of the first MiB.

    A link has the name of the file that it points to: it is the same file.
    """
    return json.dumps([_facts_of_file(path) for path in paths])


def remote_identity(name: str, size: int, head: bytes) -> str:
    """Name the source that a remote file is; the same as if it were here."""
    return json.dumps([_facts(name, size, head)])


def copies(known: Iterable[str], new: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Give the files that are known, or new, already under another name, by size and first MiB.

    Parameters
    ----------
    known, new
        Identities of sources; those that are no files are passed over.

    Yields
    ------
    Both names, of each new file that is another's copy.
    """
    names: dict[tuple[int, str], str] = {}
    for identities, is_new in ((known, False), (new, True)):
        for identity in identities:
            for name, *content in json.loads(identity) if identity.startswith("[") else ():
                other = names.setdefault(tuple(content), name)
                if is_new and other != name:
                    yield other, name


def _facts_of_file(path: Path) -> tuple[str, int, str]:
    with path.open("rb") as file:
        return _facts(path.resolve().name, path.stat().st_size, file.read(FIRST_BYTES))


def _facts(name: str, size: int, head: bytes) -> tuple[str, int, str]:
    return name, size, hashlib.blake2b(head, digest_size=16).hexdigest()


def _base(text: str) -> np.uint64:
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return np.uint64(int.from_bytes(digest, "little"))


def _mix(bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Finaliser of splitmix64 (Steele, Lea, Flood, OOPSLA 2014): one to one, bits well spread."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
