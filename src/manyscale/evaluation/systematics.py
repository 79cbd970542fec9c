"""Systematic uncertainties as a card states them, and what they mean for given data."""

import re
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from typing import Annotated

from pydantic import AfterValidator, model_validator

from manyscale.data.schema import Schema, StreamSchema
from manyscale.errors import CardError
from manyscale.evaluation.shifts import can_scale, can_smear
from manyscale.evaluation.workspace import POI
from manyscale.settings import Settings, setting

__all__ = [
    "SystematicSettings",
    "Systematics",
    "WeightNames",
    "check_systematics",
    "moved_processes",
    "moved_streams",
]

_KINDS = ("normalisation", "energy_scale", "energy_resolution", "efficiency", "weights")
_OF_STREAMS = ("energy_scale", "energy_resolution", "efficiency")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_KEY = "evaluation.systematics"


class WeightNames(Settings):
    """Named weights of the dataset that stand for one uncertainty."""

    up: str = setting(..., "weight at plus one standard deviation")
    down: str | None = setting(None, "weight at minus one; null: the mirror image of up")


class SystematicSettings(Settings):
    """One systematic uncertainty: a name of exactly one kind."""

    processes: tuple[str, ...] | None = setting(
        None,
        "processes that it moves, together; null: of a normalisation all background, else all",
        min_length=1,
    )
    streams: tuple[str, ...] | None = setting(
        None,
        "streams that it moves; null: all with energies, of an efficiency those with a jet's axis",
        min_length=1,
    )
    normalisation: float | None = setting(
        None, "relative uncertainty x of the yields: times 1 + x or 1 / (1 + x)", gt=0, le=10
    )
    energy_scale: float | None = setting(None, "all energies times 1 + x or 1 - x", gt=0, lt=1)
    energy_resolution: float | None = setting(
        None, "each token's energies times 1 + x z, z standard normal", gt=0, le=0.5
    )
    efficiency: float | None = setting(None, "each token is lost with probability x", gt=0, lt=1)
    weights: WeightNames | None = setting(
        None, "named weights of the dataset, {up: NAME, down: NAME}, instead of the nominal"
    )

    @property
    def kind(self) -> str:
        """Which kind it is: the name of the key that is given."""
        return next(kind for kind in _KINDS if getattr(self, kind) is not None)

    @model_validator(mode="after")
    def _one_kind(self) -> "SystematicSettings":
        given = [kind for kind in _KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            found = f"{' and '.join(given)} are given" if given else "none is"
            raise ValueError(f"give exactly one of {', '.join(_KINDS)}; {found}")
        if self.streams is not None and self.kind not in _OF_STREAMS:
            raise ValueError(f"streams means nothing to the kind {self.kind}; leave it out")
        return self


def _well_named(
    systematics: dict[str, SystematicSettings],
) -> dict[str, SystematicSettings]:
    for name in systematics:
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"'{name}' cannot be a name: use letters, digits and _, a letter first"
            )
        # Said here, not after a training.
        if name == POI or name.startswith("staterror_"):
            raise ValueError(
                f"'{name}' cannot be a name: a parameter of the workspace of limits has it"
            )
    return systematics


#: A card's systematics by the names of their nuisance parameters.
Systematics = Annotated[dict[str, SystematicSettings], AfterValidator(_well_named)]


def check_systematics(systematics: Mapping[str, SystematicSettings], schema: Schema) -> None:
    """Refuse systematics that do not fit to the data.

    Parameters
    ----------
    systematics
        Of the card, by name.
    schema
        Streams, processes and named weights of the data.

    Raises
    ------
    CardError
        Where a process, stream or weight is not there, or a stream has nothing to be moved. The
        message names the key, and what there is.
    """
    for name, settings in systematics.items():
        moved_processes(name, settings, schema)
        if settings.kind in _OF_STREAMS:
            moved_streams(name, settings, schema)
        if settings.weights is not None:
            given = [settings.weights.up, settings.weights.down]
            _require(
                f"{_KEY}.{name}.weights",
                "named weight",
                [weight for weight in given if weight is not None],
                schema.weights[1:],
            )


def moved_processes(name: str, settings: SystematicSettings, schema: Schema) -> tuple[str, ...]:
    """Names of the processes that a systematic moves.

    Raises
    ------
    CardError
        Where the card names one that the data do not have.
    """
    processes = schema.processes
    if settings.processes is None:
        wanted = {"background"} if settings.kind == "normalisation" else {"background", "signal"}
        return tuple(process.name for process in processes if process.label in wanted)
    known = [process.name for process in processes]
    _require(f"{_KEY}.{name}.processes", "process", settings.processes, known)
    return settings.processes


def moved_streams(
    name: str, settings: SystematicSettings, schema: Schema
) -> tuple[StreamSchema, ...]:
    """The streams that a systematic of energies or of efficiency moves.

    Raises
    ------
    CardError
        Where the card names a stream that the data do not have, or that has no energies; where it
        names none, and there is none to be moved.
    """
    tests = {
        "energy_scale": (can_scale, "energies"),
        "energy_resolution": (can_smear, "energies"),
        "efficiency": (lambda stream: bool(stream.axis), "a jet's axis"),
    }
    fits, what = tests[settings.kind]
    if settings.streams is None:
        found = tuple(stream for stream in schema.streams if fits(stream))
        if not found:
            raise CardError(
                f"{_KEY}.{name}: no stream of the data has {what}; "
                f"they have {', '.join(stream.name for stream in schema.streams)}"
            )
        return found
    key = f"{_KEY}.{name}.streams"
    _require(key, "stream", settings.streams, [stream.name for stream in schema.streams])
    chosen = tuple(schema.stream(stream) for stream in settings.streams)
    for stream in chosen:
        # Any token can be lost, but not any column is an energy.
        if settings.kind != "efficiency" and not fits(stream):
            raise CardError(
                f"{key}: stream '{stream.name}' has no energies; its columns are "
                f"{', '.join(stream.all_columns)}"
            )
    return chosen


def _require(key: str, what: str, names: Sequence[str], known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            close = get_close_matches(name, known, n=1)
            hint = f"did you mean '{close[0]}'? " if close else ""
            has = f"they have {', '.join(known)}" if known else "they have none"
            raise CardError(f"{key}: the data have no {what} '{name}'; {hint}{has}")
