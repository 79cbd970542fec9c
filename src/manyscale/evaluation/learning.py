"""Learning curves: how a figure falls with the number of training events, and how many it would take."""

import math
from collections.abc import Sequence

import numpy as np

from manyscale.evaluation.results import ComparisonRow, LearningCurve, LearningPoint, PowerLaw
from manyscale.statistics.sample import Floats

__all__ = ["TARGET_EFFICIENCY", "fit_power_law", "learning_curves"]

#: Signal efficiency of the rejection that a target is of.
TARGET_EFFICIENCY = "0.70"

# Exponents that are tried: a figure that falls slower does not fall, none is known to fall faster.
_EXPONENTS = np.arange(0.02, 3.005, 0.01)
_REPLICAS = 400


def learning_curves(
    rows: Sequence[ComparisonRow], target: float | None = None, seed: int = 1
) -> list[LearningCurve]:
    """Fit 1 - AUC and the background efficiency of every classifier against the training events.

    Parameters
    ----------
    rows
        Of several sizes.
    target
        Background rejection at a signal efficiency of 0.70 for which the needed events are told; None:
        the highest that was measured at the largest size.
    seed
        Of the fluctuations by which errors are found.
    """
    largest = max(row.size or 0 for row in rows)
    if target is None:
        reached = [r.background_rejection[TARGET_EFFICIENCY] for r in rows if r.size == largest]
        target = max((point.value or point.low for point in reached), default=1.0)
    curves = []
    for name in dict.fromkeys(row.name for row in rows):
        own = sorted((row for row in rows if row.name == name), key=lambda row: row.size or 0)
        areas, shares = [], []
        for row in own:
            areas.append(
                LearningPoint(events=row.size or 0, value=1 - row.auc, error=row.auc_error)
            )
            point = row.background_rejection[TARGET_EFFICIENCY]
            low = 0.0 if point.high is None else 1 / point.high
            share = 0.0 if point.value is None else 1 / point.value
            error = (1 / point.low - low) / (1 if point.value is None else 2)
            shares.append(LearningPoint(events=row.size or 0, value=share, error=error))
        curves.append(_curve(name, "1 - AUC", areas, None, seed))
        figure = f"background efficiency at {TARGET_EFFICIENCY}"
        curves.append(_curve(name, figure, shares, 1 / target, seed))
    return curves


def _curve(
    name: str, figure: str, points: Sequence[LearningPoint], target: float | None, seed: int
) -> LearningCurve:
    plain = LearningCurve(name=name, figure=figure, points=tuple(points))
    if len(points) < 2:
        return plain.model_copy(update={"notice": "one size alone has no law"})
    # Of constant scores the error is that of rounding.
    if not all((point.error or 0) > 1e-12 for point in points):
        return plain.model_copy(update={"notice": "the errors of some points are not known"})
    sizes, values, errors = np.array([(p.events, p.value, p.error) for p in points], np.float64).T
    random = np.random.default_rng(seed)
    replicas = values + errors * random.normal(size=(_REPLICAS, len(values)))
    a, b, c = fit_power_law(sizes, np.vstack([values, replicas]), errors)
    spread = [float(np.std(of[1:], ddof=1)) for of in (a, b, c)]
    law = PowerLaw(
        a=a[0],
        b=b[0],
        c=c[0],
        a_error=spread[0] if len(points) > 3 else None,
        b_error=spread[1],
        c_error=spread[2],
    )
    found = {"law": law}
    if target is None:
        return plain.model_copy(update=found)
    # The logarithm, as few events more or less in the tail are a factor of ten in what is needed.
    with np.errstate(divide="ignore", invalid="ignore"):
        log_needed = np.where((target > a) & (b > 0), (np.log(b) - np.log(target - a)) / c, np.inf)
    middle = log_needed[0]
    low, high = np.quantile(log_needed[1:], [0.1587, 0.8413], method="nearest")
    events = {
        key: math.exp(value) if value < math.log(1e15) else None
        for key, value in (("needed", middle), ("needed_low", low), ("needed_high", high))
    }
    return plain.model_copy(update=found | {"target": target} | events)


def fit_power_law(sizes: Floats, values: Floats, errors: Floats) -> tuple[Floats, Floats, Floats]:
    """Fit a + b n^-c by least squares, a and b not below zero; of three sizes or fewer, a is 0.

    With c given the law is linear, so that the best a and b of each exponent of a fine grid are known
    in closed form; the best of all is the fit, without a starting point to depend on. That learning
    curves follow such laws: J. Hestness et al., arXiv:1712.00409.

    Parameters
    ----------
    sizes, errors
        (sizes,): training events, and the errors of the values, taken as independent. The points
        being of the same test events, what these have in common moves all of them together: the
        exponent is known a little better, and the floor a little worse, than is said.
    values
        (replicas, sizes): each is fitted.

    Returns
    -------
    a, b, c, each (replicas,).
    """
    middle = math.exp(float(np.log(sizes).mean()))
    power = (sizes / middle) ** -_EXPONENTS[:, None]  # (exponents, sizes)
    weight = errors**-2.0
    one, x, xx = weight.sum(), power @ weight, power**2 @ weight
    y, xy = (values @ weight)[:, None], (values * weight) @ power.T  # (replicas, exponents)
    a = (xx * y - x * xy) / (one * xx - x**2)
    if len(sizes) <= 3:
        a = np.zeros_like(a)
    a = a.clip(min=0)
    b = (xy - a * x) / xx
    # A figure that rises: the best law is flat.
    a = np.where((b < 0) & (len(sizes) > 3), y / one, a)
    b = b.clip(min=0)
    squares = a**2 * one + b**2 * xx - 2 * (a * y + b * xy - a * b * x)
    best = (np.arange(len(values)), squares.argmin(axis=1))
    exponent = _EXPONENTS[best[1]]
    return a[best], b[best] * middle**exponent, exponent
