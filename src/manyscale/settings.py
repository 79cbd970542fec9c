"""What the settings of every part have in common: frozen, checked, each with unit and sentence."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue

__all__ = ["Settings", "setting"]


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
