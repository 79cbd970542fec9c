"""What a detector uncertainty does to stored events, before features are made of them.

A shift takes packed events and returns them changed: numbers of events, labels and weights stay. It
looks at each event alone, so that the chunks in which events come do not matter, to the bit. Random
numbers are a function of event, stream and place in the event: the same token is always moved by the
same amount, whatever the run, and a shift twice as large moves it twice as far.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from manyscale.data.identity import part_ids, uniform
from manyscale.data.packing import PackedEvents, PackedStream, ragged_rows
from manyscale.data.schema import StreamSchema

__all__ = ["Shift", "can_scale", "can_smear", "lose_tokens", "scale_energies", "smear_energies"]

Shift = Callable[[PackedEvents], PackedEvents]
Floats = NDArray[np.float64]

#: Least factor on a smeared energy: a normal variable has no lower end, an energy has.
LEAST_FACTOR = 0.01
# The normal quantile of 0 is infinite.
_LEAST_QUANTILE = 2.0**-54


def _times(values: Floats, factor: Floats) -> Floats:
    return values * factor


def _plus_log(values: Floats, factor: Floats) -> Floats:
    return values + np.log(factor)


def _log_of_one_and_more(values: Floats, factor: Floats) -> Floats:
    """log(1 + m) to log(1 + factor m)."""
    mass = np.expm1(np.maximum(values, 0))
    return np.where(values > 0, np.log1p(factor * mass), values)


_Move = Callable[[Floats, Floats], Floats]
# How columns follow when energies are multiplied; all that are not named stay.
_OF_TOKEN: dict[str, _Move] = {
    "pt": _times,
    "energy": _times,
    "mass": _times,
    "log_pt": _plus_log,
    "log_energy": _plus_log,
    "log_mass": _log_of_one_and_more,
}
_OF_JET: dict[str, _Move] = {"jet_pt": _times, "jet_mass": _times}
# They follow where the token moves and its jet stays.
_RELATIVE: dict[str, _Move] = {"log_pt_rel": _plus_log, "log_energy_rel": _plus_log}
_SCALED = _OF_TOKEN | _OF_JET
_SMEARED = _OF_TOKEN | _RELATIVE


def can_scale(stream: StreamSchema) -> bool:
    """Whether a stream has energies, its own or its jet's, that a scale would change."""
    return not _SCALED.keys().isdisjoint(stream.all_columns)


def can_smear(stream: StreamSchema) -> bool:
    """Whether the tokens of a stream have energies."""
    return not _SMEARED.keys().isdisjoint(stream.columns)


def scale_energies(streams: Sequence[StreamSchema], factor: float) -> Shift:
    """Shift that multiplies all energies of some streams, those of the jets' axes too.

    pt, energy, mass, jet_pt, jet_mass are multiplied; log_pt, log_energy and log_mass follow.
    Directions stay, and so does what is relative to the jet (log_pt_rel, log_energy_rel), since the
    jet is multiplied, too.

    Parameters
    ----------
    streams
        Those to be moved, their columns in the order of the events.
    factor
        Above zero.
    """

    def shift(events: PackedEvents) -> PackedEvents:
        return _with(events, ((stream.name, scaled(events, stream)) for stream in streams))

    def scaled(events: PackedEvents, stream: StreamSchema) -> PackedStream:
        packed = events.streams[stream.name]
        return replace(
            packed,
            values=_moved(packed.values, stream.columns, _SCALED, factor),
            axis=_moved(packed.axis, stream.axis, _SCALED, factor),
        )

    return shift


def smear_energies(streams: Sequence[StreamSchema], width: float) -> Shift:
    """Shift that multiplies each token's energies by a factor of its own.

    The factor is 1 + width z, z standard normal, at least 0.01; it is the same for all energies of
    the token. The jet's axis stays: it is measured and calibrated as a whole. So columns relative to
    it follow the token. The order of the tokens stays.

    Parameters
    ----------
    streams
        Those to be moved, their columns in the order of the events.
    width
        Relative: 0.05 adds 5% in quadrature to whatever the detector did.
    """
    from scipy.special import ndtri  # noqa: PLC0415 - it takes long, and every card is read here

    def shift(events: PackedEvents) -> PackedEvents:
        return _with(events, ((stream.name, smeared(events, stream)) for stream in streams))

    def smeared(events: PackedEvents, stream: StreamSchema) -> PackedStream:
        packed = events.streams[stream.name]
        drawn = _draw(events, stream.name, "energy resolution")
        normal = ndtri(np.maximum(drawn, _LEAST_QUANTILE))
        factor = np.maximum(1 + width * normal, LEAST_FACTOR)
        return replace(packed, values=_moved(packed.values, stream.columns, _SMEARED, factor))

    return shift


def lose_tokens(streams: Sequence[StreamSchema], probability: float) -> Shift:
    """Shift that loses each token with some probability; the jet's axis stays, as it is calibrated.

    What is lost with some probability is lost with any higher one, too.
    """

    def shift(events: PackedEvents) -> PackedEvents:
        return _with(events, ((stream.name, thinned(events, stream)) for stream in streams))

    def thinned(events: PackedEvents, stream: StreamSchema) -> PackedStream:
        packed = events.streams[stream.name]
        kept = _draw(events, stream.name, "efficiency") >= probability
        before = np.concatenate([[0], np.cumsum(kept)])
        return PackedStream(packed.values[kept], np.diff(before[packed.offsets]), packed.axis)

    return shift


def _with(events: PackedEvents, changed: Iterable[tuple[str, PackedStream]]) -> PackedEvents:
    return replace(events, streams={**events.streams, **dict(changed)})


def _moved(
    values: NDArray[np.float32],
    columns: Sequence[str],
    moves: Mapping[str, _Move],
    factor: float | Floats,
) -> NDArray[np.float32]:
    """Move the columns (rows, columns) that follow an energy; factor: one, or one a row."""
    moved = values.copy()
    factors = np.asarray(factor, np.float64)
    for place, column in enumerate(columns):
        if column in moves:
            moved[:, place] = moves[column](values[:, place].astype(np.float64), factors)
    return moved


def _draw(events: PackedEvents, stream: str, purpose: str) -> Floats:
    """One number in [0, 1) for each token of a stream, (tokens,)."""
    counts = events.streams[stream].counts
    place = ragged_rows(np.zeros_like(counts), counts)
    return uniform(part_ids(np.repeat(events.event_id, counts), place), f"{purpose} of {stream}")
