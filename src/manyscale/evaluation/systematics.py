"""Systematic uncertainties: as a card states them, what they do to events, and to yields.

A detector uncertainty is a `Shift`: it takes packed events and returns them changed, before features
are made of them; numbers of events, labels and weights stay. It treats each event alone, so that the
chunks in which events come do not matter, to the bit. Random numbers are a function of event, stream
and index in the event: the same token is always moved by the same amount, whatever the run, and a
shift twice as large moves it twice as far.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Annotated

import numpy as np

# Of scipy, only its name: its parts take long to import, and every card is read here.
import scipy
from numpy.typing import NDArray
from pydantic import AfterValidator, model_validator

from manyscale.data.identity import part_ids, uniform
from manyscale.data.packing import PackedEvents
from manyscale.errors import CardError
from manyscale.evaluation.results import YieldChange
from manyscale.evaluation.yields import ScaledEvents
from manyscale.events.ragged import PackedStream, ragged_rows
from manyscale.schema import Schema, StreamSchema
from manyscale.settings import Settings, setting

Floats = NDArray[np.float64]
Shift = Callable[[PackedEvents], PackedEvents]

#: Parameter of interest of the workspaces: the signal's strength, in units of its cross section.
POI = "mu"

# ---- settings -----------------------------------------------------------------------------------

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


# ---- what they mean for given data --------------------------------------------------------------


def check_systematics(systematics: Mapping[str, SystematicSettings], schema: Schema) -> None:
    """Refuse systematics of a card, by name, that do not fit to the data."""
    for name, settings in systematics.items():
        moved_processes(name, settings, schema)
        if settings.kind in _OF_STREAMS:
            moved_streams(name, settings, schema)
        if (given := settings.weights) is not None:
            names = [weight for weight in (given.up, given.down) if weight is not None]
            _require(f"{_KEY}.{name}.weights", "named weight", names, schema.weights[1:])


def moved_processes(name: str, settings: SystematicSettings, schema: Schema) -> tuple[str, ...]:
    """Names of the processes that a systematic moves; CardError where the data lack one."""
    if settings.processes is None:
        wanted = {"background"} if settings.kind == "normalisation" else {"background", "signal"}
        return tuple(process.name for process in schema.processes if process.label in wanted)
    known = [process.name for process in schema.processes]
    _require(f"{_KEY}.{name}.processes", "process", settings.processes, known)
    return settings.processes


def moved_streams(
    name: str, settings: SystematicSettings, schema: Schema
) -> tuple[StreamSchema, ...]:
    """The streams that a systematic of energies or of efficiency moves."""
    fits, what = {
        "energy_scale": (can_scale, "energies"),
        "energy_resolution": (can_smear, "energies"),
        "efficiency": (lambda stream: bool(stream.axis), "a jet's axis"),
    }[settings.kind]
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


# ---- shifts of stored events --------------------------------------------------------------------

#: Least factor on a smeared energy: a normal variable has no lower end, an energy has.
LEAST_FACTOR = 0.01
# The normal quantile of 0 is infinite.
_LEAST_QUANTILE = 2.0**-54

_Move = Callable[[Floats, Floats], Floats]


def _plus_log(values: Floats, factor: Floats) -> Floats:
    return values + np.log(factor)


def _log_of_one_and_more(values: Floats, factor: Floats) -> Floats:
    """log(1 + m) to log(1 + factor m)."""
    mass = np.expm1(np.maximum(values, 0))
    return np.where(values > 0, np.log1p(factor * mass), values)


# How columns follow when energies are multiplied; all that are not named stay.
_OF_TOKEN: dict[str, _Move] = {
    "pt": np.multiply,
    "energy": np.multiply,
    "mass": np.multiply,
    "log_pt": _plus_log,
    "log_energy": _plus_log,
    "log_mass": _log_of_one_and_more,
}
_SCALED = _OF_TOKEN | {"jet_pt": np.multiply, "jet_mass": np.multiply}
# What is relative to the jet follows where the token moves and its jet stays.
_SMEARED = _OF_TOKEN | {"log_pt_rel": _plus_log, "log_energy_rel": _plus_log}


def can_scale(stream: StreamSchema) -> bool:
    """Whether a stream has energies, its own or its jet's, that a scale would change."""
    return not _SCALED.keys().isdisjoint(stream.all_columns)


def can_smear(stream: StreamSchema) -> bool:
    """Whether the tokens of a stream have energies."""
    return not _SMEARED.keys().isdisjoint(stream.columns)


def shifts(settings: SystematicSettings, streams: Sequence[StreamSchema]) -> list[Shift]:
    """The shift up of a detector uncertainty, and that down where it is not its mirror image."""
    if (x := settings.energy_scale) is not None:
        return [scale_energies(streams, 1 + x), scale_energies(streams, 1 - x)]
    if (x := settings.energy_resolution) is not None:
        return [smear_energies(streams, x)]
    assert settings.efficiency is not None  # noqa: S101  # the only kind left that has streams
    return [lose_tokens(streams, settings.efficiency)]


def scale_energies(streams: Sequence[StreamSchema], factor: float) -> Shift:
    """Shift that multiplies all energies of some streams, those of the jets' axes too.

    pt, energy, mass, jet_pt, jet_mass are multiplied; log_pt, log_energy and log_mass follow.
    Directions stay, and so does what is relative to the jet (log_pt_rel, log_energy_rel), since the
    jet is multiplied, too.
    """

    def scaled(_: PackedEvents, stream: StreamSchema, packed: PackedStream) -> PackedStream:
        return replace(
            packed,
            values=_moved(packed.values, stream.columns, _SCALED, factor),
            axis=_moved(packed.axis, stream.axis, _SCALED, factor),
        )

    return _each(streams, scaled)


def smear_energies(streams: Sequence[StreamSchema], width: float) -> Shift:
    """Shift that multiplies each token's energies by a factor of its own.

    The factor is 1 + width z, z standard normal, at least 0.01; it is the same for all energies of
    the token: a width of 0.05 adds 5% in quadrature to whatever the detector did. The jet's axis
    stays: it is measured as a whole. So columns relative to it follow the token. The order of the
    tokens stays.
    """

    def smeared(events: PackedEvents, stream: StreamSchema, packed: PackedStream) -> PackedStream:
        drawn = _draw(events, stream.name, "energy resolution")
        normal = scipy.special.ndtri(np.maximum(drawn, _LEAST_QUANTILE))
        factor = np.maximum(1 + width * normal, LEAST_FACTOR)
        return replace(packed, values=_moved(packed.values, stream.columns, _SMEARED, factor))

    return _each(streams, smeared)


def lose_tokens(streams: Sequence[StreamSchema], probability: float) -> Shift:
    """Shift that loses each token with some probability; the jet's axis stays as measured.

    What is lost with some probability is lost with any higher one, too.
    """

    def thinned(events: PackedEvents, stream: StreamSchema, packed: PackedStream) -> PackedStream:
        kept = _draw(events, stream.name, "efficiency") >= probability
        before = np.concatenate([[0], np.cumsum(kept)])
        return PackedStream(packed.values[kept], np.diff(before[packed.offsets]), packed.axis)

    return _each(streams, thinned)


def _each(
    streams: Sequence[StreamSchema],
    change: Callable[[PackedEvents, StreamSchema, PackedStream], PackedStream],
) -> Shift:
    """The shift that changes some streams one by one."""

    def shift(events: PackedEvents) -> PackedEvents:
        changed = {s.name: change(events, s, events.streams[s.name]) for s in streams}
        return replace(events, streams={**events.streams, **changed})

    return shift


def _moved(
    values: NDArray[np.float32],
    columns: Sequence[str],
    moves: Mapping[str, _Move],
    factor: float | Floats,
) -> NDArray[np.float32]:
    """Move the columns (rows, columns) that follow an energy; factor: one, or one a row."""
    moved = values.copy()
    for index, column in enumerate(columns):
        if column in moves:
            # In double precision, so that a shift and its inverse give back the same numbers.
            energy = values[:, index].astype(np.float64)
            moved[:, index] = moves[column](energy, np.asarray(factor, np.float64))
    return moved


def _draw(events: PackedEvents, stream: str, purpose: str) -> Floats:
    """One number in [0, 1) for each token of a stream, (tokens,)."""
    counts = events.streams[stream].counts
    # A function of event and index, so that chunks and their order change nothing.
    index = ragged_rows(np.zeros_like(counts), counts)
    return uniform(part_ids(np.repeat(events.event_id, counts), index), f"{purpose} of {stream}")


# ---- scored events under a systematic -----------------------------------------------------------


@dataclass(frozen=True)
class Normalisation:
    """A systematic that changes how many events of some processes there are, not how they look."""

    name: str  #: of its nuisance parameter
    processes: tuple[str, ...]  #: names of those that it moves, together
    #: Factors on their yields at plus and minus one standard deviation, 1.1 and 0.9 say.
    up: float
    down: float


@dataclass(frozen=True)
class Varied:
    """The same events under a variation."""

    #: Signal probabilities by classifier: `network`, `trees`, `combined`; (events,) each.
    scores: dict[str, NDArray[np.floating]]
    #: (events,): expected events that each event stands for.
    weight: Floats


@dataclass(frozen=True)
class Shape:
    """A systematic that moves the scores, or the weights, of events: the model's own response."""

    name: str
    processes: tuple[str, ...]  #: names of those that it moves; of others the nominal holds
    #: The events at plus and minus one standard deviation; None: the mirror image of `up`.
    up: Varied
    down: Varied | None


def effects(
    variations: Sequence[Normalisation | Shape],
    events: ScaledEvents,
    scores: NDArray[np.floating],
    cut: float,
) -> dict[str, dict[str, YieldChange]]:
    """Relative change of each process's yield above a cut under each systematic.

    Parameters
    ----------
    variations
        Of the same events.
    events
        Scaled to a luminosity.
    scores
        (events,): nominal scores of the network.
    cut
        Events of this score or above count; it stays where it is under a variation.

    Returns
    -------
    By name of the systematic, then of the process (those alone that it moves): 0.1 for 10% more.
    None where no event, or less than nothing, is above the cut. Without a variation down, `down` is
    minus `up`.

    Examples
    --------
    >>> from manyscale.schema import Process
    >>> qcd = Process(name="qcd", label="background")
    >>> events = ScaledEvents((qcd,), np.array([0, 0]), np.array([4.0, 1.0]), 1.0)
    >>> higher = Varied({"network": np.array([0.9, 0.6])}, events.weight)
    >>> jes = Shape("jes", ("qcd",), higher, None)
    >>> effects([jes], events, np.array([0.8, 0.2]), 0.5)
    {'jes': {'qcd': YieldChange(up=0.25, down=-0.25)}}
    """

    def yields(score: NDArray[np.floating], weight: Floats) -> Floats:
        above = score >= cut
        sums = np.bincount(events.process[above], weight[above], len(events.processes))
        return sums.astype(np.float64)  # without any event above the cut they are integers

    # The cut stays where it is, and events move across it.
    nominal = yields(scores, events.weight)
    there = nominal > 0

    def change(varied: Varied) -> Floats:
        difference = yields(varied.scores["network"], varied.weight) - nominal
        return np.divide(difference, nominal, out=np.full_like(nominal, np.nan), where=there)

    found = {}
    for one in variations:
        if isinstance(one, Normalisation):
            up, down = (np.where(there, factor - 1, np.nan) for factor in (one.up, one.down))
        else:
            up = change(one.up)
            down = -up if one.down is None else change(one.down)
        found[one.name] = {
            process.name: YieldChange(up=float(up[i]), down=float(down[i]))
            for i, process in enumerate(events.processes)
            if process.name in one.processes
        }
    return found
