"""Writing a card: settings to YAML, each key with its doc, unit and limits as a comment."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import annotated_types
from pydantic.fields import FieldInfo

from manyscale.card.settings import Card
from manyscale.settings import Settings

__all__ = ["card_text"]

_PLAIN = re.compile(r"[A-Za-z_][\w./\-]*")
_RESERVED = {"null", "true", "false", "yes", "no", "on", "off"}
_COMMENT_COLUMN = 44


def card_text(card: Card, title: str, *, leave_out: frozenset[str] = frozenset()) -> str:
    """Write a complete card, every key with its comment.

    Parameters
    ----------
    card
        What to write.
    title
        First line, without the #.
    leave_out
        Keys such as "fusion" or "data.columns" that are not written, and so keep their defaults.
    """
    lines = [f"# {title}", *_section(card, "", leave_out)]
    return "\n".join(lines) + "\n"


def _section(settings: Settings, path: str, leave_out: frozenset[str]) -> Iterator[str]:
    indent = "  " * (path.count(".") if path else 0)
    for name, field in type(settings).model_fields.items():
        key = f"{path}{name}"
        if key in leave_out:
            continue
        value = getattr(settings, name)
        if isinstance(value, Settings):
            if not path:
                yield ""
            yield _line(indent, name, "", _comment(field))
            yield from _section(value, f"{key}.", leave_out)
        elif isinstance(value, Mapping) and any(isinstance(v, Settings) for v in value.values()):
            if not path:
                yield ""
            yield _line(indent, name, "", _comment(field))
            yield from _key_docs(next(iter(value.values())), indent)
            for inner, entry in value.items():
                yield f"{indent}  {_flow(inner)}: {_flow(_given(entry))}"
        elif isinstance(value, tuple) and any(isinstance(v, Settings) for v in value):
            yield ""
            yield _line(indent, name, "", _comment(field))
            yield from _key_docs(value[0], indent)
            for entry in value:
                yield f"{indent}  - {_flow(_given(entry))}"
        else:
            yield _line(indent, name, _flow(value), _comment(field))


def _key_docs(settings: Settings, indent: str) -> Iterator[str]:
    """Comments that say what the keys of one stream, block or process mean."""
    for name, field in type(settings).model_fields.items():
        yield f"{indent}  # {field.alias or name}: {_comment(field)}"


def _given(settings: Settings) -> dict[str, Any]:
    """The fields of one stream or process that say something: not those that are null."""
    return {
        name: value
        for name, value in settings.model_dump(by_alias=True).items()
        if value is not None
    }


def _line(indent: str, name: str, value: str, comment: str) -> str:
    text = f"{indent}{name}:{' ' if value else ''}{value}"
    return f"{text:<{_COMMENT_COLUMN}}  # {comment}"


def _comment(field: FieldInfo) -> str:
    extra = field.json_schema_extra
    unit = f" [{extra['unit']}]" if isinstance(extra, dict) else ""
    limits = _limits(field)
    return f"{field.description}{unit}{f'; {limits}' if limits else ''}"


def _limits(field: FieldInfo) -> str:
    words = {
        annotated_types.Gt: ("above", "gt"),
        annotated_types.Ge: ("from", "ge"),
        annotated_types.Lt: ("below", "lt"),
        annotated_types.Le: ("up to", "le"),
    }
    found = [
        f"{words[type(limit)][0]} {getattr(limit, words[type(limit)][1])}"
        for limit in field.metadata
        if type(limit) in words
    ]
    return ", ".join(found)


def _flow(value: object) -> str:
    """One value in YAML's flow style."""
    if isinstance(value, Settings):
        value = value.model_dump(by_alias=True)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_flow(k)}: {_flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_flow(item) for item in value) + "]"
    if isinstance(value, str | Path):
        text = str(value)
        plain = _PLAIN.fullmatch(text) and text.lower() not in _RESERVED
        return text if plain else json.dumps(text, ensure_ascii=False)
    return json.dumps(value)
