"""The card's section `convert`: what to take from files, by names and simple expressions."""

import math
import re
from collections import Counter
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from manyscale.events.settings import NAMED_PROCESSES
from manyscale.schema import STREAMS, Label
from manyscale.settings import Settings, setting

__all__ = ["ConvertSettings", "FileProcess"]

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
# Names that datasets and files of scores use themselves.
_RESERVED = {"piece", "entry", "weight", "event_id", "process", "observables"}
_OF_SCORES = {"event_id", "score", "selected", "label", "weight"}


class FileProcess(Settings):
    """Which events of a file are of a process."""

    where: str = Field(description="expression that is true for its events")
    event_class: Label | None = setting(
        None, "signal or background; null: as the named process", alias="class"
    )
    cross_section: float | None = setting(
        None, "cross section; null: not known", unit="pb", gt=0, allow_inf_nan=False
    )
    sum_weights: float | None = setting(
        None,
        "sum of the weights of all events generated for the files; null: not known",
        gt=0,
        allow_inf_nan=False,
    )


def _as_where(value: Any) -> Any:  # noqa: ANN401 - whatever the card holds
    return {"where": value} if isinstance(value, str) else value


def _as_list(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


def _as_missing(value: Any) -> Any:  # noqa: ANN401
    values = value if isinstance(value, list | tuple) else (value,)
    # YAML's own .nan is no JSON, in which settings are written down.
    return tuple("nan" if isinstance(x, float) and math.isnan(x) else x for x in values)


class ConvertSettings(Settings):
    """What to take from files. Expressions: + - * / **, comparisons, & |, sqrt log exp abs ..."""

    tree: str | None = setting(
        None, "tree, RNTuple or HDF5 group with the events; null: the only one"
    )
    branches: dict[str, dict[str, str]] = setting(
        {}, "of any ntuple: each stream's columns, as branches or expressions of them"
    )
    units: Literal["GeV", "MeV"] = setting(
        "GeV", "of the momenta, energies and masses in branches: GeV or MeV"
    )
    missing: Annotated[tuple[float | Literal["nan"], ...], BeforeValidator(_as_missing)] = setting(
        (), "in branches, what stands where there is nothing: -999, a list of numbers, or nan"
    )
    process: dict[str, Annotated[FileProcess, BeforeValidator(_as_where)]] = setting(
        {}, "of a file with events of several processes: each name with what is true for its events"
    )
    weight: str | None = setting(None, "event weight; null: as the format has it, else 1")
    variations: tuple[str, ...] | None = setting(
        None, "branches of varied weights; null: PSWeight and LHEScaleWeight of NanoAOD"
    )
    observables: dict[str, str] = setting(
        {}, "what is kept beside the events and never seen by the network"
    )
    selection: Annotated[tuple[str, ...], BeforeValidator(_as_list)] = setting(
        (), "one or more expressions that must be true; each a step of the cutflow"
    )
    drop: tuple[str, ...] = setting(
        (),
        "columns that are left out, as in [jet1.charge, kinematics.width]: those that not all files have",
    )
    unit_events: int | None = setting(
        None, "entries of a unit of work; null: some seconds' worth of the format", ge=1
    )

    @field_validator("variations")
    @classmethod
    def _variations(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for name in names or ():
            if "\n" in name or "\r" in name:
                raise ValueError(f"{name!r} has a line break, as no weight's name has")
        # A struct's field a.b makes the weight a_b.
        made = Counter(name.replace(".", "_") for name in names or ())
        twice = [name for name, times in made.items() if times > 1]
        if twice:
            raise ValueError(f"two of them make a weight of the name '{twice[0]}'")
        return names

    @model_validator(mode="after")
    def _names(self) -> "ConvertSettings":
        for name in (*self.branches, *self.process, *self.observables):
            if not _NAME.fullmatch(name):
                raise ValueError(f"'{name}' is no name: use letters, digits and _, a letter first")
        streams = {*self.branches, *STREAMS}
        taken = {
            "observables": _OF_SCORES,
            "variations": _RESERVED | streams | {f"{stream}_axis" for stream in streams},
            "branches": _RESERVED,
        }
        for key, reserved in taken.items():
            for name in getattr(self, key) or ():
                if name in reserved:
                    raise ValueError(f"{key}: the name '{name}' is taken by something else")
        for name, process in self.process.items():
            if name not in {*NAMED_PROCESSES, "signal", "background"} and not process.event_class:
                raise ValueError(
                    f"process '{name}' is not one of signal, background, "
                    f"{', '.join(NAMED_PROCESSES)}: write {name}: {{where: ..., class: signal}}"
                )
        for text in self.drop:
            if not all(text.partition(".")):
                raise ValueError(f"drop: write stream.column, as in jet1.charge, not '{text}'")
        for stream, columns in self.branches.items():
            if not columns:
                raise ValueError(f"the stream '{stream}' has no columns")
        return self

    def event_class(self, process: str) -> Label:
        """Class of a process of `process`."""
        stated = self.process[process].event_class
        if stated is not None:
            return stated
        if process in NAMED_PROCESSES:
            return NAMED_PROCESSES[process].event_class
        return "signal" if process == "signal" else "background"
