"""Several classifiers on the same events, held against the first, with paired errors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from manyscale.statistics.metrics import auc_difference, evaluate

__all__ = ["Judged", "average", "compare"]


@dataclass(frozen=True)
class Judged:
    """One classifier's scores of the common events, and what else is known of it.

    Attributes
    ----------
    scores
        (events,): signal probability.
    parameters, events_per_second
        Of the network and its training; None for the trees.
    """

    scores: NDArray[np.floating]
    parameters: int | None = None
    events_per_second: float | None = None


def compare(
    labels: ArrayLike, weights: ArrayLike, classifiers: Mapping[str, Judged]
) -> list[dict[str, Any]]:
    """Judge classifiers on the same events, each beside the first.

    Parameters
    ----------
    labels, weights
        (events,): 1 signal, 0 background, class-balanced weights.
    classifiers
        By name; the first is what the others are held against.

    Returns
    -------
    A row a classifier: `name`, `auc`, `auc_error`, `background_rejection`, `parameters`,
    `events_per_second`; but for the first also `difference_to` (the first's name), `difference`
    (AUC of the row minus that of the first) and `difference_error` (paired, DeLong).
    """
    rows = []
    first = next(iter(classifiers))
    for name, judged in classifiers.items():
        figures = evaluate(labels, judged.scores, weights)
        row = {
            "name": name,
            "auc": figures["auc"],
            "auc_error": figures["auc_error"],
            "background_rejection": figures["background_rejection"],
            "parameters": judged.parameters,
            "events_per_second": judged.events_per_second,
        }
        if name != first:
            difference, error = auc_difference(
                labels, judged.scores, classifiers[first].scores, weights
            )
            row |= {
                "difference_to": first,
                "difference": difference,
                "difference_error": None if np.isnan(error) else error,
            }
        rows.append(row)
    return rows


def average(trainings: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Mean over several trainings of the same classifiers, with the error of the mean.

    Parameters
    ----------
    trainings
        Rows of `compare`, one list a training, two trainings at least.

    Returns
    -------
    Rows of the same form: `auc`, `difference` and the rejections are means over the trainings, and
    their errors the standard deviation over the trainings divided by the root of their number.
    """
    return [_mean_row(rows) for rows in zip(*trainings, strict=True)]


def _mean(values: Sequence[float]) -> tuple[float, float]:
    return float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values)))


def _mean_row(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    row = dict(rows[0])
    for key in ("auc", "difference"):
        if key in row:
            row[key], row[f"{key}_error"] = _mean([one[key] for one in rows])
    if row["events_per_second"] is not None:
        row["events_per_second"], _ = _mean([one["events_per_second"] for one in rows])
    row["background_rejection"] = {
        efficiency: _mean_rejection([one["background_rejection"][efficiency] for one in rows])
        for efficiency in row["background_rejection"]
    }
    return row


def _mean_rejection(points: Sequence[dict[str, float | None]]) -> dict[str, float | None]:
    values = [point["value"] for point in points]
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        # One training without background left makes the mean unknown; its limits still hold.
        lows = [point["low"] for point in points if point["low"] is not None]
        return {"value": None, "low": min(lows), "high": None}
    mean, error = _mean(known)
    return {"value": mean, "low": mean - error, "high": mean + error}
