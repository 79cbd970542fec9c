"""Reading a card: YAML to settings, with all faults at once, each with its line and its key."""

import difflib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from manyscale.card.settings import Card
from manyscale.errors import CardError
from manyscale.settings import Settings

__all__ = ["load_card", "parse_card"]

# JSON's words to YAML's.
_WORDS = {"an object": "a mapping", "a valid array": "a list", "null": "empty"}

Location = tuple[int | str, ...]


def load_card(path: Path | str, changes: Sequence[str] = ()) -> Card:
    """Read a card from a file.

    Parameters
    ----------
    path
        A YAML file.
    changes
        Changes such as "training.epochs=3", applied before the card is checked.

    Raises
    ------
    CardError
        With all faults of the card, each with its line, its key, the value and what is allowed.
    """
    path = Path(path)
    if path.is_dir():
        raise CardError(f"{path} is a folder; a card is a YAML file")
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise CardError(f"there is no card {path}; `manyscale card model-1` prints one") from None
    except (OSError, UnicodeDecodeError) as error:
        raise CardError(f"card {path} cannot be read: {error}") from error
    return parse_card(text, str(path), changes)


def parse_card(text: str, source: str = "card", changes: Sequence[str] = ()) -> Card:
    """Read a card from its text; see `load_card`."""
    content = _read_yaml(text, source)
    for change in changes:
        _apply(content, change)
    try:
        encoded = json.dumps(content, default=str)
    except (TypeError, ValueError) as error:
        raise CardError(f"{source}: this is no plain card: {error}") from error
    try:
        return Card.model_validate_json(encoded, strict=True)
    except ValidationError as error:
        lines = _lines(text)
        for change in changes:
            lines[tuple(change.partition("=")[0].strip().split("."))] = 0
        faults = [
            _describe(detail, content, lines, source)
            for detail in error.errors()
            if not _follows(detail, error.errors())
        ]
        raise CardError("\n".join(dict.fromkeys(faults))) from error


def _read_yaml(text: str, source: str) -> dict[str, Any]:
    try:
        content = YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{source} line {mark.line + 1}" if mark else source
        # The first line of ruamel's message says what; the rest is advice for its programmers.
        problem = str(error.problem or error.context).splitlines()[0]
        raise CardError(f"{where}: this is not plain YAML: {problem}") from error
    except YAMLError as error:
        raise CardError(f"{source}: this is not plain YAML: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise CardError(f"{source}: a card is a mapping of keys to values, not {content!r:.60}")
    return content


def _apply(content: dict[str, Any], change: str) -> None:
    key, equals, text = change.partition("=")
    if not equals or not key.strip():
        raise CardError(f"--set {change}: write it as key=value, say training.epochs=3")
    *parents, last = key.strip().split(".")
    place = content
    for parent in parents:
        inner = place.get(parent)
        if inner is None:
            inner = place[parent] = {}
        if not isinstance(inner, dict):
            raise CardError(f"--set {change}: '{parent}' has no keys below it")
        place = inner
    place[last] = _read_value(text, change)


def _read_value(text: str, change: str) -> Any:  # noqa: ANN401 - any YAML value
    try:
        return YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise CardError(f"--set {change}: the value is not plain YAML") from error


def _lines(text: str) -> dict[Location, int]:
    """Line of every key and list item, counted from 1."""

    def walk(node: Node, path: Location) -> Iterator[tuple[Location, int]]:
        if isinstance(node, MappingNode):
            for key, value in node.value:
                yield (*path, key.value), key.start_mark.line + 1
                yield from walk(value, (*path, key.value))
        elif isinstance(node, SequenceNode):
            for place, value in enumerate(node.value):
                yield (*path, place), value.start_mark.line + 1
                yield from walk(value, (*path, place))

    root = YAML(typ="safe", pure=True).compose(text)
    return dict(walk(root, ())) if root is not None else {}


def _follows(detail: ErrorDetails, others: Sequence[ErrorDetails]) -> bool:
    """Whether a list is too short only because an item of it is at fault."""
    at = detail["loc"]
    return detail["type"] == "too_short" and any(
        len(other["loc"]) > len(at) and other["loc"][: len(at)] == at for other in others
    )


def _describe(
    detail: ErrorDetails, content: dict[str, Any], lines: dict[Location, int], source: str
) -> str:
    location = _in_card(detail["loc"], content)
    spelled = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    key = spelled.removeprefix(".")
    where = _where(location, lines, source)
    if detail["type"] == "extra_forbidden":
        known = _known_keys(location[:-1])
        close = difflib.get_close_matches(str(location[-1]), known, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"known here: {', '.join(known)}"
        return f"{where}unknown key '{key}'; {hint}"
    if detail["type"] == "missing":
        return f"{where}'{key}' is missing"
    message = detail["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    for theirs, ours in _WORDS.items():
        message = message.replace(theirs, ours)
    if detail["type"] == "value_error":
        return f"{where}{key}: {message}"
    return f"{where}{key} is {_spell(detail['input'])}; it must be {message}"


def _where(location: Location, lines: dict[Location, int], source: str) -> str:
    """The line of a fault, found by the innermost key that has one; 0 is a change by --set."""
    for length in range(len(location), 0, -1):
        line = lines.get(location[:length])
        if line is not None:
            return f"{source} line {line}: " if line else "--set: "
    return f"{source}: "


def _spell(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def _in_card(location: Location, content: object) -> Location:
    """Drop the parts of pydantic's location that are no keys of the card (names of union members)."""
    path: list[int | str] = []
    for number, part in enumerate(location):
        if isinstance(content, dict) and (part in content or number == len(location) - 1):
            content = content.get(part)
        elif isinstance(content, list) and isinstance(part, int) and part < len(content):
            content = content[part]
        else:
            continue
        path.append(part)
    return tuple(path)


def _known_keys(location: Location) -> list[str]:
    """Keys that a card may have at a place."""
    kind: Any = Card
    for part in location:
        if isinstance(kind, type) and issubclass(kind, Settings):
            kind = kind.model_fields[str(part)].annotation
        else:
            kind = get_args(_without_none(kind))[-1 if not isinstance(part, int) else 0]
        kind = _without_none(kind)
    if not (isinstance(kind, type) and issubclass(kind, Settings)):
        return []
    return [field.alias or name for name, field in kind.model_fields.items()]


def _without_none(kind: Any) -> Any:  # noqa: ANN401 - annotations are of any type
    members = [member for member in get_args(kind) if member is not type(None)]
    is_union = get_origin(kind) is Union or type(kind).__name__ == "UnionType"
    return members[0] if is_union and len(members) == 1 else kind
