"""Cards as YAML: read with all faults at once, each with its line and key; written with comments."""

import difflib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import annotated_types
import numpy as np
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from manyscale.card.card import Card, preset_card
from manyscale.errors import CardError
from manyscale.model.presets import Preset
from manyscale.settings import Settings

__all__ = ["card_text", "load_card", "make_card", "parse_card", "preset_card_text"]

# Where a key stands: names of keys, and indices of list items.
Location = tuple[int | str, ...]

# More values than any card has.
_LARGEST = 100_000

# JSON's words to YAML's, in pydantic's messages.
_WORDS = {"an object": "a mapping", "a valid array": "a list", "null": "empty"}

# ---- reading ----------------------------------------------------------------------------------


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

    def lines() -> dict[Location, int]:
        found = _lines(text)
        for change in changes:
            key = tuple(change.partition("=")[0].strip().split("."))
            found[key] = 0
            found = {key[:length]: 0 for length in range(1, len(key))} | found
        return found

    return make_card(content, source, lines)


def make_card(
    content: Mapping[str, Any],
    source: str = "card",
    lines: Callable[[], Mapping[Location, int]] = dict,
) -> Card:
    """Check the content of a card, plain values in dicts and lists; see `load_card`.

    `lines` tells where a key stands in `source`; it is asked only where something is at fault.
    """

    def plain(value: object) -> object:
        return value.item() if isinstance(value, np.generic) else str(value)

    try:
        # Through JSON, because strict JSON is what YAML means: a list is a tuple, "3" no number.
        encoded = json.dumps(content, default=plain)
    except (TypeError, ValueError) as error:
        raise CardError(f"{source}: this is no plain card: {error}") from error
    try:
        return Card.model_validate_json(encoded, strict=True)
    except ValidationError as error:
        places = lines()
        faults = error.errors()
        # A list is too short only because an item of it is at fault: that item is named already.
        inner = {other["loc"][:length] for other in faults for length in range(len(other["loc"]))}
        described = [
            _describe(fault, content, places, source)
            for fault in faults
            if fault["type"] != "too_short" or fault["loc"] not in inner
        ]
        raise CardError("\n".join(dict.fromkeys(described))) from error


def _read_yaml(text: str, source: str) -> dict[str, Any]:
    try:
        if (size := _size(YAML(typ="safe", pure=True).compose(text), {})) > _LARGEST:
            raise CardError(f"{source}: with its aliases written out this has {size:,} values")
        content = YAML(typ="safe", pure=True).load(text)
    except RecursionError:
        raise CardError(f"{source}: this is nested too deeply for a card") from None
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


def _size(node: Node | None, known: dict[int, int]) -> int:
    """Values below a node once its aliases are written out, which a few lines make billions."""
    if id(node) not in known:
        known[id(node)] = 1  # a node may hold itself
        below = node.value if isinstance(node, MappingNode | SequenceNode) else ()
        nodes = (one for part in below for one in (part if isinstance(part, tuple) else (part,)))
        known[id(node)] += sum(_size(one, known) for one in nodes)
    return known[id(node)]


def _apply(content: dict[str, Any], change: str) -> None:
    """Set one key to what `--set key=value` says."""
    key, equals, text = change.partition("=")
    if not equals or not key.strip():
        raise CardError(f"--set {change}: write it as key=value, say training.epochs=3")
    *parents, last = key.strip().split(".")
    section = content
    for parent in parents:
        if section.get(parent) is None:
            section[parent] = {}
        section = section[parent]
        if not isinstance(section, dict):
            raise CardError(f"--set {change}: '{parent}' has no keys below it")
    try:
        section[last] = YAML(typ="safe", pure=True).load(text)
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
            for index, value in enumerate(node.value):
                yield (*path, index), value.start_mark.line + 1
                yield from walk(value, (*path, index))

    root = YAML(typ="safe", pure=True).compose(text)
    return dict(walk(root, ())) if root is not None else {}


def _describe(
    fault: ErrorDetails, content: object, lines: Mapping[Location, int], source: str
) -> str:
    """One fault that pydantic found, in a user's words."""
    # Pydantic's location also names members of unions; what the card itself has is kept.
    path: list[int | str] = []
    for number, part in enumerate(fault["loc"]):
        if isinstance(content, dict) and (part in content or number == len(fault["loc"]) - 1):
            content = content.get(part)
        elif isinstance(content, list) and isinstance(part, int) and part < len(content):
            content = content[part]
        else:
            continue
        path.append(part)
    spelled = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    key = spelled.removeprefix(".")
    # The innermost key with a line says where; line 0 is a change by --set.
    known = (tuple(path[:length]) for length in range(len(path), 0, -1))
    line = next((lines[location] for location in known if location in lines), None)
    where = {None: f"{source}: ", 0: "--set: "}.get(line, f"{source} line {line}: ")
    if fault["type"] == "extra_forbidden":
        keys, name = _known_keys(path[:-1]), str(path[-1])
        close = difflib.get_close_matches(name, keys, n=1)
        if len(path) == 1 or not close:
            # Rather a key of a section, whose name was left out, than one with a similar name.
            every = [(of.rpartition(".")[2], of) for of in _all_keys(Card)]
            near = difflib.get_close_matches(name, {of for of, _ in every}, n=1, cutoff=0.8)
            found = ([of for last, of in every if last == one] for one in (name, *near, *close))
            close = next(filter(None, found), [])
        meant = " or ".join(f"'{of}'" for of in close[:3])
        hint = f"did you mean {meant}?" if meant else f"known here: {', '.join(keys)}"
        return f"{where}unknown key '{key}'; {hint}"
    if fault["type"] == "missing":
        return f"{where}'{key}' is missing"
    message = fault["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    for of_json, of_yaml in _WORDS.items():
        message = message.replace(of_json, of_yaml)
    if fault["type"] == "value_error":
        return f"{where}{key}: {message}"
    value = json.dumps(fault["input"], default=str)  # as YAML has it
    value = value if len(value) <= 60 else f"{value[:57]}..."
    return f"{where}{key} is {value}; it must be {message}"


def _known_keys(path: Sequence[int | str]) -> list[str]:
    """Keys that a card may have in the section that a path names."""
    kind = Card
    for part in path:
        # Names of streams and indices of blocks are no fields: they stay in the same section.
        if part in kind.model_fields:
            kind = _section_in(kind.model_fields[str(part)].annotation) or kind
    return [field.alias or name for name, field in kind.model_fields.items()]


def _all_keys(kind: type[Settings], path: str = "") -> Iterator[str]:
    """Every key of a card in full, as in training.epochs; NAME stands for those of one's own."""
    for name, field in kind.model_fields.items():
        here = f"{path}{field.alias or name}"
        yield here
        if inner := _section_in(field.annotation):
            by_name = "dict" in str(field.annotation)
            listed = "tuple" in str(field.annotation)
            yield from _all_keys(inner, f"{here}{'.NAME' * by_name}{'[0]' * listed}.")


def _section_in(annotation: Any) -> Any:  # noqa: ANN401 - annotations are of any type
    """The settings class inside dict[str, ...], tuple[..., ...] or ... | None."""
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return annotation
    return next(filter(None, map(_section_in, get_args(annotation))), None)


# ---- writing ----------------------------------------------------------------------------------

# What YAML reads as text without quotes.
_PLAIN = re.compile(r"(?!(?:null|true|false|yes|no|on|off)\Z)[a-z_][\w./\-]*", re.IGNORECASE)
_COMMENT_COLUMN = 44
_LIMITS = {
    annotated_types.Gt: ("above", "gt"),
    annotated_types.Ge: ("from", "ge"),
    annotated_types.Lt: ("below", "lt"),
    annotated_types.Le: ("up to", "le"),
}

_TITLES: dict[Preset, str] = {
    "kinematics-only": "the reconstructed kinematics alone",
    "concatenation": "each stream encoded, their class tokens side by side, no cross-attention",
    "model-1": "one stream, self-attention",
    "model-2": "three streams, self-attention in each, the last attends to the others",
    "model-3": "two streams, self-attention in each, the last attends to the first",
    "custom": "any streams, any list of cross-attention blocks",
}


# What a short card has even where it is the default; with `.*.`, of each stream or block.
_DAILY = {
    "preset", "seed", "data.split.train", "data.split.validation", "data.split.test",
    "data.max_events", "streams.*.layers", "streams.*.width", "streams.*.heads",
    "streams.*.max_tokens", "fusion.*.query", "fusion.*.context", "fusion.*.layers",
    "fusion.*.heads", "training.start", "training.epochs", "training.batch_size",
    "training.learning_rate", "training.patience",
}  # fmt: skip
_DAILY_OF_NPZ = {
    "data.signal", "data.background", "data.columns", "evaluation.luminosity",
    "evaluation.cross_sections",
}  # fmt: skip
_DAILY_OF_DATASET = {
    "data.dataset", "generate.events", "generate.processes", "generate.cuts.leading_pt",
    "generate.cuts.second_pt", "generate.cuts.min_btags", "evaluation.luminosity",
}  # fmt: skip


def preset_card_text(preset: Preset, *, full: bool = False) -> str:
    """The card of a preset with its comments, as `manyscale card PRESET` prints it."""
    return card_text(preset_card(preset), f"manyscale card, {preset}: {_TITLES[preset]}", full=full)


def card_text(card: Card, title: str, *, full: bool = True) -> str:
    """Write a card, each key with its doc, unit and limits as a comment.

    Parameters
    ----------
    card
        What to write.
    title
        First line, without the #.
    full
        Every key; else those that people change for such data, and what is not the default.
    """
    if full:
        return "\n".join([f"# {title}", *_section(card, Card(), "", "", None)]) + "\n"
    daily = _DAILY | (_DAILY_OF_DATASET if card.data.signal is None else _DAILY_OF_NPZ)
    more = "# What people change; what does not stand here has its default (--full prints all)."
    return "\n".join([f"# {title}", more, *_section(card, Card(), "", "", daily)]) + "\n"


def _section(
    settings: Settings, defaults: Settings, path: str, indent: str, daily: set[str] | None
) -> Iterator[str]:
    """Write the keys of a section: all, or, of a short card, the daily ones and what is changed."""
    for name, field in type(settings).model_fields.items():
        value, default, here = getattr(settings, name), getattr(defaults, name), f"{path}{name}"
        if daily is not None and not _is_shown(value, default, here, daily):
            continue
        by_name = isinstance(value, Mapping)
        entries = list(value.values()) if by_name else value if isinstance(value, tuple) else []
        of_settings = bool(entries) and isinstance(entries[0], Settings)
        # Below its sections a short card has one line a key.
        opens = (isinstance(value, Settings) or of_settings) and not (daily and indent)
        if opens and not indent:
            yield ""
        shown = "" if opens else f" {_flow(value, here, daily)}"
        yield f"{f'{indent}{name}:{shown}':<{_COMMENT_COLUMN}}  # {_comment(field)}"
        if opens and isinstance(value, Settings):
            yield from _section(value, default, f"{here}.", f"{indent}  ", daily)
        elif opens:
            said = [_given(entry, f"{here}.*.", daily) for entry in entries]
            for key, of_entry in type(entries[0]).model_fields.items():
                key = of_entry.alias or key  # noqa: PLW2901
                if daily is None or (by_name and any(key in one for one in said)):
                    yield f"{indent}  # {key}: {_comment(of_entry)}"
            names = [f"{_flow(key)}: " for key in value] if by_name else ["- "] * len(entries)
            for start, one in zip(names, said, strict=True):
                yield f"{indent}  {start}{_flow(one)}"


def _is_shown(value: object, default: object, path: str, daily: set[str]) -> bool:
    """Whether a short card has a key: a daily one, one not at its default, or one above such."""
    if isinstance(value, Settings) and isinstance(default, Settings) and path not in daily:
        return any(
            _is_shown(below, getattr(default, name), f"{path}.{name}", daily)
            for name, below in value
        )
    return path in daily or value != default


def _given(entry: Settings, path: str, daily: set[str] | None) -> dict[str, object]:
    """What is written of a stream, block or process: of a full card all that is not null."""
    return {
        field.alias or name: value
        for name, field in type(entry).model_fields.items()
        if (value := getattr(entry, name)) is not None
        and (
            daily is None
            or _is_shown(
                value, field.get_default(call_default_factory=True), f"{path}{name}", daily
            )
        )
    }


def _comment(field: FieldInfo) -> str:
    extra = field.json_schema_extra
    unit = f" [{extra['unit']}]" if isinstance(extra, dict) else ""
    limits = ", ".join(
        f"{_LIMITS[type(limit)][0]} {getattr(limit, _LIMITS[type(limit)][1])}"
        for limit in field.metadata
        if type(limit) in _LIMITS
    )
    return f"{field.description}{unit}{f'; {limits}' if limits else ''}"


def _flow(value: object, path: str = "", daily: set[str] | None = None) -> str:
    """One value in YAML's flow style."""
    if isinstance(value, Settings):
        value = _given(value, f"{path}.", daily) if daily else value.model_dump(by_alias=True)
    if isinstance(value, Mapping):
        below = [f"{_flow(key)}: {_flow(of, f'{path}.*', daily)}" for key, of in value.items()]
        return "{" + ", ".join(below) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_flow(of, f"{path}.*", daily) for of in value) + "]"
    if isinstance(value, str | Path):
        text = str(value)
        return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)
    return json.dumps(value)
