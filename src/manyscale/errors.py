"""The exceptions a user can meet. Each message says what is wrong, where, and what to do."""

import re

__all__ = [
    "CardError",
    "DataError",
    "ManyscaleError",
    "MissingBranchError",
    "MissingExtraError",
    "RunError",
    "printable",
]

# Control characters but tab and line feed, and bytes of file names that are no characters.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def printable(text: str) -> str:
    r"""Spell out characters that would steer a terminal, or make an SVG or a page none.

    Names of files, processes and branches may come from a stranger.

    Examples
    --------
    >>> printable("a\x1b[2Jb")
    'a\\x1b[2Jb'
    """
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class ManyscaleError(ValueError):
    """Base of all errors that manyscale raises on purpose; the command line prints it and exits 1."""


class CardError(ManyscaleError):
    """A card cannot be read, or one of its keys or values is not allowed."""


class DataError(ManyscaleError):
    """Events, a file or a dataset are not what they should be."""


class MissingBranchError(DataError):
    """A file lacks a branch that a key of the card, `key`, names."""

    def __init__(self, message: str, key: str = "") -> None:
        super().__init__(message)
        self.key = key


class RunError(ManyscaleError):
    """A run or model folder is missing, incomplete, or would be overwritten."""


class MissingExtraError(ManyscaleError):
    """An optional library is not installed; the message gives the pip command that installs it."""

    def __init__(self, library: str, extra: str) -> None:
        super().__init__(
            f"this needs the library '{library}', which is not installed: "
            f"pip install 'manyscale[{extra}]'"
        )
        self._of = library, extra

    def __reduce__(self) -> tuple[type["MissingExtraError"], tuple[str, str]]:
        return type(self), self._of
