"""Checks of what files hold: errors that say where the fault is, notes of what is odd."""

from collections import Counter
from collections.abc import Callable, Mapping

import numpy as np

from manyscale.errors import DataError
from manyscale.events.ragged import Array, Integers, PackedStream
from manyscale.schema import COLUMNS, StreamSchema

__all__ = ["check_finite", "range_notes"]

#: What no measured value is beyond: lowest, highest, and both in words; also of a jet's own columns.
_RANGES: dict[str, tuple[float, float, str]] = {
    "pt": (0, np.inf, "below 0"),
    "energy": (0, np.inf, "below 0"),
    "eta": (-20, 20, "beyond 20"),
    "phi": (-6.2832, 6.2832, "beyond 2 pi"),  # single precision's 2 pi is the larger one
}
_ADVICE = "; what stands where there is nothing is named in the card, under convert.missing:"


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


def range_notes(schema: StreamSchema, stream: PackedStream, *, usual: bool = False) -> Counter[str]:
    """Count the values that no measurement gives: pT or energy below 0, eta or phi far off.

    Such a value mostly stands for one that is not there, and would be a token all the same.

    Parameters
    ----------
    usual
        Count all outside the columns' usual ranges instead, known columns alone.

    Returns
    -------
    Notes as those of `FileEvents`: each makes sense with its number in front.
    """
    ranges, advice = _RANGES, _ADVICE
    if usual:
        ranges = {
            of.name: (of.low, of.high, f"outside the usual {of.low:g} to {of.high:g} {of.unit}")
            for of in COLUMNS.values()
        }
        advice = ""
    notes = Counter[str]()
    tables = ((schema.columns, stream.values), (schema.axis, stream.axis))
    for name, values in ((name, of[:, i]) for names, of in tables for i, name in enumerate(names)):
        low, high, words = ranges.get(
            name if usual else name.removeprefix("jet_"), (-np.inf, np.inf, "")
        )
        if not words or not len(values) or (values.min() >= low and values.max() <= high):
            continue
        found, times = np.unique(values[(values < low) | (values > high)], return_counts=True)
        if not len(found):
            continue  # not a number, which is neither
        # A sentinel as it is; of what differs from token to token the size alone, or each batch of a
        # file would have a note of its own.
        value = found[times.argmax()]
        is_round = np.float32(f"{value:.5g}") == value
        example = f"{value:g}" if is_round or times.max() > 1 else f"{value:.0e}"
        notes[
            f"values of '{name}' in the stream '{schema.name}' are {words.strip()}, such as {example}"
            f"{advice}"
        ] = int(times.sum())
    return notes
