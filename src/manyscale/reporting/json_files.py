"""Reads files of a run: what is not what it should be is said with its name and place."""

import json
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from manyscale.errors import RunError

__all__ = ["Part", "read_json", "read_json_if_there", "read_text"]

T = TypeVar("T")


class Part(BaseModel):
    """Part of a JSON file of a run; what a report does not need is passed over."""

    model_config = ConfigDict(extra="ignore", frozen=True)


def read_text(path: Path) -> str:
    """Read a text file that a complete run has.

    Raises
    ------
    RunError
        Where it is missing or cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RunError(
            f"{path.parent} has no {path.name}: finish the run first, `manyscale train` with "
            f"--resume, then `manyscale evaluate`"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"cannot read {path}: {error}") from error


def read_json(path: Path, kind: type[T]) -> T:
    """Read a JSON file as a checked type.

    Raises
    ------
    RunError
        Where it is missing, is not JSON, or something in it is not as it should be.
    """
    text = read_text(path)
    try:
        return TypeAdapter(kind).validate_python(json.loads(text))
    except json.JSONDecodeError as error:
        raise RunError(f"{path} is not JSON: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise RunError(f"{path}, {where}: {first['msg']}") from error


def read_json_if_there(path: Path, kind: type[T]) -> T | None:
    """Read a JSON file as `read_json` does; None where there is no such file."""
    return read_json(path, kind) if path.is_file() else None
