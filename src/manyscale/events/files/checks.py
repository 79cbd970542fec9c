"""Checks of what files hold: errors that say where the fault is, notes of what is odd."""

from collections import Counter
from collections.abc import Callable, Mapping

import numpy as np

from manyscale.errors import DataError
from manyscale.events.ragged import Array, Integers, PackedStream
from manyscale.progress import LOG
from manyscale.schema import COLUMNS, StreamSchema

__all__ = ["check_finite", "range_notes", "tell"]

# Of azimuths that are wrapped where they are read, what is beyond this is none.
_FULL_TURN = 6.2832  # single precision's 2 pi is the larger one
_ANGLES = {"eta", "phi", "delta_eta", "delta_phi", "phi_rel"}
_ODD = "values of '"


def check_finite(
    columns: Mapping[str, Array], event: Integers, where: Callable[[int], str], if_nan: str = ""
) -> None:
    """Refuse values that are not finite.

    Parameters
    ----------
    columns
        Name of a branch to (n,) values.
    event
        (n,): which event of the batch each value belongs to.
    where
        Names an event of the batch: file, tree and entry.
    if_nan
        What to do about what is not a number, at the end of the message.

    Raises
    ------
    DataError
        Names file, tree, branch and entry of the first such value.
    """
    for name, values in columns.items():
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            value = values[bad[0]]
            raise DataError(
                f"{where(int(event[bad[0]]))}: branch '{name}' holds {value}, where a finite number "
                f"is needed{if_nan if np.isnan(value) else ''}"
            )


def range_notes(schema: StreamSchema, stream: PackedStream, *, wraps: bool = False) -> Counter[str]:
    """Count the values outside the usual ranges of known columns, and say what is the likely cause.

    The one check of units and sentinels on every way in: files, npz, arrays.

    Parameters
    ----------
    wraps
        Whether azimuths may be counted from 0 to 2 pi, too.

    Returns
    -------
    Notes as those of `FileEvents`: each makes sense with its number in front.
    """
    notes = Counter[str]()
    tables = ((schema.columns, stream.values), (schema.axis, stream.axis))
    for name, values in ((name, of[:, i]) for names, of in tables for i, name in enumerate(names)):
        if (column := COLUMNS.get(name)) is None or not len(values):
            continue
        low, high, angle = column.low, column.high, name.removeprefix("jet_") in _ANGLES
        if wraps and angle and "phi" in name:
            low, high = -_FULL_TURN, _FULL_TURN
        if values.min() >= low and values.max() <= high:
            continue
        found, times = np.unique(values[(values < low) | (values > high)], return_counts=True)
        if not len(found):
            continue  # not a number, which is neither
        value, largest = found[times.argmax()], found[np.abs(found).argmax()]
        often = times.max() > 1 and 2 * times.max() >= times.sum()
        if often or set(f"{abs(value):g}") == {"9"}:
            size = f"such as {value:g}"
            cause = "what stands where there is nothing? A card names it under convert.missing"
        else:
            # Of large values the size alone, or each batch of a file would have a note of its own.
            rounded = float(f"{largest:.0e}")
            if abs(largest) >= 1000:
                rounded = float(np.sign(largest)) * 10.0 ** round(np.log10(abs(largest)))
            size = f"of about {rounded:g}"
            if largest > high and (column.unit == "GeV" or name.startswith("log_")):
                cause = "in MeV? They are to be in GeV"
            elif angle and "phi" in name and abs(largest) < _FULL_TURN:
                cause = "not in (-pi, pi]?"
            elif angle and abs(largest) <= 360:
                cause = "in degrees? Angles are to be in radians"
            else:
                cause = "is the column what its name says?"
        unit = f" {column.unit}" if column.unit else ""
        notes[
            f"{_ODD}{name}' in the stream '{schema.name}' are outside the usual "
            f"{low:g} to {high:g}{unit}, {size}: {cause}"
        ] = int(times.sum())
    return notes


def tell(notes: Mapping[str, int]) -> None:
    """Log notes, those on values as warnings."""
    for text, count in sorted(notes.items()):
        (LOG.warning if text.startswith(_ODD) else LOG.info)("%s %s", f"{count:,}", text)
