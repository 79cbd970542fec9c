"""Plots of classifiers: ROC, scores, training, reliability. Each takes arrays."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import ArrayLike

from manyscale.evaluation.results import LearningCurve, Rejection
from manyscale.reporting.figure import (
    CLASS_COLOURS,
    CLASS_NAMES,
    GREY,
    Drawn,
    above_zero,
    classifier_styles,
    room_above,
    stacked,
    styled,
)
from manyscale.statistics.intervals import efficiency
from manyscale.statistics.ks_test import KsTest, ks_test
from manyscale.statistics.metrics import auc, background_rejection
from manyscale.statistics.sample import Sample

__all__ = [
    "EFFICIENCIES",
    "history",
    "learning",
    "overtraining",
    "rejection_curves",
    "reliability",
    "roc",
    "score_distributions",
    "tree_importances",
]

#: Signal efficiencies at which curves are known.
EFFICIENCIES = tuple(percent / 100 for percent in range(1, 101))
_SCORE_BINS = 25
_MOST_INPUTS = 15


def roc(
    labels: ArrayLike, scores: Mapping[str, ArrayLike], weights: ArrayLike | None = None
) -> Drawn:
    """Background rejection, one over the background efficiency, against signal efficiency.

    The legend gives each AUC. The bands are the 68.3% Clopper-Pearson intervals of the background efficiency, from effective
    event counts. A curve ends where no background event is left.

    Parameters
    ----------
    labels, weights
        (events,): 1 signal, 0 background; the events are the same for all classifiers.
    scores
        Name of each classifier -> its scores (events,).

    Raises
    ------
    DataError
        As `Sample.of`.
    """
    curves = {
        name: {
            key: Rejection.model_validate(point)
            for key, point in background_rejection(labels, score, weights, EFFICIENCIES).items()
        }
        for name, score in scores.items()
    }
    words = {
        name: f"{name}, AUC {auc(labels, score, weights):.3f}" for name, score in scores.items()
    }
    return rejection_curves(curves, words=words)


@styled
def rejection_curves(
    classifiers: Mapping[str, Mapping[str, Rejection]],
    *,
    styles: Mapping[str, tuple[str, str]] | None = None,
    words: Mapping[str, str] | None = None,
) -> Drawn:
    """Draw background rejections, by classifier and signal efficiency, with their intervals as bands.

    `styles` has colour and dashes of each, by default those of `classifier_styles`; `words` what the
    legend calls it.
    """
    figure = Figure()
    axes = figure.subplots()
    styles = styles or classifier_styles(classifiers)
    curves = []
    for name, points in classifiers.items():
        efficiencies = [float(key) for key in points]
        # Unknown is NaN, which is not drawn: the curve ends, the band goes on to its limit.
        rejection, low, high = (
            np.array([getattr(point, key) for point in points.values()], np.float64)
            for key in ("value", "low", "high")
        )
        colour, dashes = styles[name]
        axes.plot(
            efficiencies,
            rejection,
            color=colour,
            linestyle=dashes,
            label=(words or {}).get(name, name),
        )
        axes.fill_between(efficiencies, low, high, color=colour, alpha=0.25, linewidth=0)
        curves.append(
            {
                "classifier": name,
                "signal efficiency": efficiencies,
                "background rejection": rejection,
                "68% low": low,
                "68% high": high,
            }
        )
    chance = [1 / e for e in EFFICIENCIES]
    axes.plot(EFFICIENCIES, chance, ":", color=GREY, linewidth=1, label="by chance")
    axes.set_yscale("log")
    axes.set_xlim(0, 1)
    axes.set_ylim(bottom=1)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xlabel("signal efficiency")
    axes.set_ylabel("background rejection, 1 / efficiency")
    axes.legend(loc="best")
    return Drawn(figure, stacked(curves))


def overtraining(train: Sample, test: Sample) -> dict[str, KsTest]:
    """Kolmogorov-Smirnov test between the scores of train and test, of each class by itself.

    A small p-value says that the network scores the events it learned from differently.

    Raises
    ------
    DataError
        Where the weights of a class do not sum to more than zero.
    """
    found = {}
    for label, name in enumerate(CLASS_NAMES):
        one, two = train.signal == bool(label), test.signal == bool(label)
        scores = (train.scores[one], test.scores[two])
        found[name] = ks_test(*scores, train.weights[one], test.weights[two])
    return found


@styled
def score_distributions(train: Sample, test: Sample) -> Drawn:
    """Scores of each class: train filled, test as points with errors, each with unit area.

    The legend gives distance and p-value of `overtraining`.
    """
    figure = Figure()
    axes = figure.subplots()
    edges = np.linspace(0, 1, _SCORE_BINS + 1)
    tests = overtraining(train, test)
    table = []
    for label, name in enumerate(CLASS_NAMES):
        colour = CLASS_COLOURS[label]
        for kind, sample in (("train", train), ("test", test)):
            members = sample.signal == bool(label)
            scores, weights = sample.scores[members], sample.weights[members]
            # Unit area: classes and samples of other sizes are comparable.
            norm = weights.sum() * np.diff(edges)
            density = np.histogram(scores, edges, weights=weights)[0] / norm
            error = np.sqrt(np.histogram(scores, edges, weights=weights**2)[0]) / norm
            table.append(
                {
                    "class": name,
                    "sample": kind,
                    "score from": edges[:-1],
                    "score to": edges[1:],
                    "density": density,
                    "error": error,
                }
            )
            if kind == "train":
                axes.stairs(density, edges, fill=True, color=colour, alpha=0.3)
                axes.stairs(density, edges, color=colour, label=f"{name}, train")
                continue
            ks, filled = tests[name], density > 0
            axes.errorbar(
                (edges[1:] + edges[:-1])[filled] / 2,
                density[filled],
                yerr=above_zero(density[filled], error[filled]),
                fmt="os"[label],
                color=colour,
                markersize=4,
                linewidth=1,
                label=f"{name}, test (KS {ks.distance:.3f}, p = {ks.p_value:.2g})",
            )
    axes.set_yscale("log")
    room_above(axes, 0.5)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlim(0, 1)
    axes.set_xlabel("signal probability")
    axes.set_ylabel("density")
    axes.legend(loc="upper center", fontsize=10)
    return Drawn(figure, stacked(table))


@styled
def history(rows: Sequence[Mapping[str, float]]) -> Drawn:
    """Losses and validation AUC against the epoch; the epoch of the lowest validation loss marked.

    Parameters
    ----------
    rows
        Those of history.csv, with `epoch`, `train_loss`, `validation_loss`, `validation_auc`.
    """
    shown = ("epoch", "train_loss", "validation_loss", "validation_auc")
    table = {name.replace("_", " "): [row[name] for row in rows] for name in shown}
    epochs, train, validation, auc = table.values()
    best = epochs[int(np.argmin(validation))]  # the weights that the training keeps
    figure = Figure(figsize=(5.6, 5.0))
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    above.plot(epochs, train, "o-", markersize=3, label="train")
    above.plot(epochs, validation, "s--", markersize=3, label="validation")
    above.set_ylabel("loss")
    below.plot(epochs, auc, "s--", markersize=3, color="C1")
    below.set_ylabel("validation AUC")
    below.set_xlabel("epoch")
    below.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    below.xaxis.minorticks_off()
    below.ticklabel_format(useOffset=False)
    for axes in (above, below):
        axes.axvline(best, color=GREY, linestyle="dotted", label=f"best epoch, {best:g}")
    above.legend(loc="upper right")
    return Drawn(figure, table)


@styled
def learning(curves: Sequence[LearningCurve]) -> Drawn:
    """Rejection and 1 - AUC against the number of training events, with the laws that were fitted."""
    names = list(dict.fromkeys(curve.figure for curve in curves))
    figure = Figure(figsize=(5.6, 3.6 * len(names)))
    panels = figure.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0]
    styles = classifier_styles({curve.name for curve in curves})
    table = []
    for curve in curves:
        axes = panels[names.index(curve.figure)]
        colour, dashes = styles[curve.name]
        sizes, values, errors = (
            np.array([getattr(point, key) for point in curve.points], np.float64)
            for key in ("events", "value", "error")
        )
        # One over the efficiency is the rejection; of none left the limit.
        inverted = curve.figure != names[0]
        low, high = values - errors, values + errors
        shown, ends = values, (low, high)
        if inverted:
            with np.errstate(divide="ignore"):
                shown = 1 / np.where(values > 0, values, np.nan)
                ends = 1 / high, np.where(low > 0, 1 / low, np.nan)
        known = np.isfinite(shown)
        bars = np.nan_to_num(np.abs(np.array(ends) - shown))[:, known]
        axes.errorbar(
            sizes[known], shown[known], yerr=bars, fmt="o", color=colour, label=curve.name
        )
        for size, limit in zip(sizes[~known], ends[0][~known], strict=True):
            axes.plot(size, limit, "^", color=colour)
        if curve.law is not None:
            dense = np.geomspace(sizes.min(), 10 * sizes.max(), 60)
            law = curve.law.a + curve.law.b * dense**-curve.law.c
            within = law > 0
            drawn = 1 / law[within] if inverted else law[within]
            axes.plot(dense[within], drawn, color=colour, linestyle=dashes, linewidth=1)
        table.append(
            {
                "classifier": curve.name,
                "figure": curve.figure,
                "training events": sizes,
                "value": values,
                "error": errors,
            }
        )
    for axes, name in zip(panels, names, strict=True):
        axes.set_xscale("log")
        axes.set_yscale("log")
        efficiency_ = name.removeprefix("background efficiency at ")
        axes.set_ylabel(name if name == names[0] else f"background rejection at {efficiency_}")
    panels[-1].set_xlabel("training events")
    panels[0].legend(loc="best")
    return Drawn(figure, stacked(table))


@styled
def reliability(
    labels: ArrayLike, scores: Mapping[str, ArrayLike], weights: ArrayLike | None = None
) -> Drawn:
    """Share of signal among the events of each score, against that score: on the diagonal it is a probability.

    Class-balanced weights, ten bins; the errors are 68.3% Clopper-Pearson intervals.

    Raises
    ------
    DataError
        As `Sample.of`.
    """
    figure = Figure(figsize=(5.6, 4.6))
    axes = figure.subplots()
    styles = classifier_styles(scores)
    table = []
    for name, score in scores.items():
        sample = Sample.of(labels, score, weights).balanced()
        index = np.minimum((10 * sample.scores).astype(int), 9)
        points = []
        for number in range(10):
            within = index == number
            inside = sample.weights[within]
            if inside.sum() > 0 and (inside >= 0).all():
                mean = np.average(sample.scores[within], weights=inside)
                points.append((mean, *efficiency(inside, sample.signal[within])))
        at, share, low, high = np.array(points).reshape(-1, 4).T
        colour, dashes = styles[name]
        ends = (share - low, high - share)
        look: dict[str, Any] = {"color": colour, "linestyle": dashes, "linewidth": 1.2}
        axes.errorbar(at, share, yerr=ends, fmt="o", markersize=4, label=name, **look)
        table.append(
            {
                "classifier": name,
                "mean score": at,
                "share of signal": share,
                "68% low": low,
                "68% high": high,
            }
        )
    axes.plot([0, 1], [0, 1], ":", color=GREY, linewidth=1)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xlabel("score")
    axes.set_ylabel("share of signal")
    axes.legend(loc="upper left")
    return Drawn(figure, stacked(table))


@styled
def tree_importances(shares: Mapping[str, float]) -> Drawn:
    """The inputs that the boosted trees gain most from, by their share of the gain."""
    best = sorted(shares.items(), key=lambda one: -one[1])[:_MOST_INPUTS]
    figure = Figure(figsize=(5.6, 0.9 + 0.24 * len(best)))
    axes = figure.subplots()
    axes.barh(range(len(best)), [100 * share for _, share in best], color=CLASS_COLOURS[0])
    axes.set_yticks(range(len(best)), [name for name, _ in best], fontsize=9)
    axes.invert_yaxis()
    axes.minorticks_off()
    axes.tick_params(axis="y", which="both", length=0)
    axes.set_xlabel("share of the gain [%]", fontsize=12)
    return Drawn(figure, {"input": list(shares), "share of the gain": list(shares.values())})
