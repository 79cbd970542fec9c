"""What settings and JSON files have in common: checked types, each field with its sentence."""

import json
import math
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, ValidationError

from manyscale.errors import RunError
from manyscale.writing import write_whole

__all__ = ["Known", "Record", "Settings", "read_json", "read_text", "setting", "write_json"]


class Settings(BaseModel):
    """Base of all settings: a section of the card, immutable, unknown keys refused."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False
    )


def setting(default: Any, doc: str, *, unit: str = "", **limits: Any) -> Any:  # noqa: ANN401
    """Declare one setting: its default, its one-line doc, its unit and its limits.

    Parameters
    ----------
    default
        The value where the card says nothing; a dict is copied for each use.
    doc
        One line, printed as the comment of a card and in the docs.
    unit
        GeV, pb, fb^-1, radians, ...; empty for plain numbers.
    **limits
        Limits that pydantic checks: gt, ge, lt, le, min_length, ...
    """
    extra: dict[str, JsonValue] | None = {"unit": unit} if unit else None
    if isinstance(default, dict):
        return Field(
            default_factory=default.copy, description=doc, json_schema_extra=extra, **limits
        )
    return Field(default, description=doc, json_schema_extra=extra, **limits)


def _nan_is_unknown(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


#: A number that may be unknown: JSON has no NaN, so NaN and infinity are stored as null.
Known = Annotated[float | None, BeforeValidator(_nan_is_unknown)]


class Record(BaseModel):
    """Base of what the JSON files of a run hold: written by one part, read by others.

    Fields that were never set are not written; keys that are not known are passed over, so that a file
    of a later version can be read.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    def plain(self) -> dict[str, Any]:
        """What the file holds: dicts, lists and plain values."""
        return self.model_dump(mode="json", exclude_unset=True)

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        write_json(path, self.plain())

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the file.

        Raises
        ------
        RunError
            Where it is missing, is not JSON, or something in it is not as it should be.
        """
        content = read_json(path)
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the whole"
            raise RunError(f"{path}, {where}: {first['msg']}") from error

    @classmethod
    def read_if_there(cls, path: Path) -> Self | None:
        """Read the file as `read` does; None where there is none."""
        return cls.read(path) if path.is_file() else None


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


def read_json(path: Path) -> Any:  # noqa: ANN401 - any JSON value
    """Read a JSON file of a run; raises RunError as `read_text`, and where it is not JSON.

    Whole numbers that no double holds are infinite, as others are.
    """
    text = read_text(path)
    try:
        return json.loads(
            text, parse_int=lambda digits: int(digits) if len(digits) < 308 else float(digits)
        )
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path} is not JSON: {error}") from error


def write_json(path: Path, content: object) -> None:
    """Write JSON whole or not at all."""
    write_whole(path, json.dumps(content, indent=1) + "\n")
