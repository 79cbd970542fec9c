"""Plots of what the scores promise in an analysis: significance, sculpted masses, limits.

Luminosities are in fb^-1; dicts go by the name of the classifier.
"""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from manyscale.evaluation.cuts import LEAST_BACKGROUND, CutScan
from manyscale.evaluation.limits import ClassifierTemplates
from manyscale.evaluation.results import SignalLimit
from manyscale.evaluation.sculpting import KEPT, MassSample
from manyscale.reporting.figure import (
    CLASS_COLOURS,
    DASHES,
    GREY,
    Drawn,
    above_zero,
    error_band,
    luminosity_title,
    room_above,
    shared_legend,
    stack_backgrounds,
    stacked,
    styled,
)
from manyscale.reporting.formatting import short
from manyscale.reporting.look import label_of
from manyscale.statistics.exclusion import BANDS, CONFIDENCE
from manyscale.statistics.sample import Floats

__all__ = [
    "brazil",
    "classifier_limits",
    "mass_ratio",
    "score_templates",
    "sculpting",
    "significance",
]

_MARKERS = "os^D"
# The colours that the field knows these bands by, in shades that colour-blind eyes tell apart.
_ONE_SIGMA, _TWO_SIGMA = "#607641", "#F5BB54"
# The strength of the data is marked where it is within this factor of the bands.
_NEAR = 100.0
_MOST_DIGITS = 7
# On a log axis the smallest template is still to be seen, and there is room for the legend.
_DECADES_BELOW = 1.0
_DECADES_ABOVE = 0.45


def _titles(axes: Axes, left: str, luminosity: float | None) -> None:
    axes.set_title(left, fontsize=12, loc="left", pad=4)
    luminosity_title(axes, luminosity)


@styled
def significance(scans: Mapping[str, CutScan], luminosity: float) -> Drawn:
    """Asimov significance of counting above a cut against its signal efficiency, physical weights.

    A panel a classifier, a curve a relative systematic uncertainty of the background, which is
    taken in quadrature with the error from the number of simulated events. The marker is the best
    cut, its bar and the bands the error from the number of simulated events. Where too few
    effective background events are left the panel is grey.
    """
    figure = Figure(figsize=(5.6, 0.9 + 2.7 * len(scans)))
    panels = figure.subplots(len(scans), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    table = []
    for number, (axes, (name, scan)) in enumerate(zip(panels, scans.items(), strict=True)):
        efficiency = scan.signal_efficiency
        for index, (systematic, (value, error)) in enumerate(scan.curves.items()):
            colour, label = f"C{index}", f"{systematic:.0%}" if systematic else "none"
            axes.plot(efficiency, value, color=colour, linestyle=DASHES[index], label=label)
            low, high = np.maximum(value - error, 0), value + error
            axes.fill_between(efficiency, low, high, color=colour, alpha=0.15, linewidth=0)
            best = scan.best(systematic)
            if best is not None:
                # A significance below zero means nothing.
                ends = [[min(error[best], value[best])], [error[best]]]
                look: dict[str, Any] = {"color": colour, "markersize": 6, "linewidth": 1.2}
                axes.errorbar(efficiency[best], value[best], ends, fmt=_MARKERS[index], **look)
            table.append(
                {
                    "classifier": name,
                    "systematic": systematic,
                    "cut": scan.cut,
                    "signal efficiency": efficiency,
                    "significance": value,
                    "error": error,
                    "signal [events]": scan.signal[1],
                    "background [events]": scan.background[1],
                    "effective background events": scan.background_n_effective,
                    "best": np.arange(len(scan.cut)) == (-1 if best is None else best),
                }
            )
        _grey_out(axes, scan)
        _titles(axes, name, luminosity if number == 0 else None)
        axes.set_ylabel("significance [σ]")
    panels[-1].set_xlabel("signal efficiency")
    panels[0].set_xlim(0, 1)
    panels[0].set_ylim(bottom=0)
    title = "error of the background beside the simulation's"
    shared_legend(figure, panels, title=title, title_fontsize=11)
    return Drawn(figure, stacked(table))


def _grey_out(axes: Axes, scan: CutScan) -> None:
    """Grey where a cut is not considered, from half-way to the considered ones beside it."""
    order = np.argsort(scan.signal_efficiency, kind="stable")
    at, refused = scan.signal_efficiency[order], ~scan.considered[order]
    edges = np.concatenate([[0.0], (at[1:] + at[:-1]) / 2, [1.0]])
    turns = np.flatnonzero(np.diff(np.concatenate([[0], refused, [0]])))
    for first, last in turns.reshape(-1, 2):
        axes.axvspan(edges[first], edges[last], color=GREY, alpha=0.2, linewidth=0)
    if refused.any():
        words = f"grey: under {LEAST_BACKGROUND:g} effective\nbackground events"
        axes.text(0.02, 0.04, words, transform=axes.transAxes, fontsize=9)


@styled
def sculpting(sample: MassSample, passing: Mapping[str, Sequence[NDArray[np.bool_]]]) -> Drawn:
    """Mass of background events that pass cuts on the score, over that of all: flat is not sculpted.

    Above, each distribution with unit area, class-balanced weights; below, each over that of all
    background. The outermost bins also hold what lies beyond.
    """
    figure = Figure(figsize=(max(5.6, 2.6 * len(passing)), 4.6))
    panels = figure.subplots(
        2, len(passing), sharex=True, sharey="row", squeeze=False, height_ratios=(3, 2)
    )
    edges, every = sample.edges, sample.contents()
    share_of_all = every / every.sum()
    table = []
    for (above, below), (name, found) in zip(panels.T, passing.items(), strict=True):
        above.stairs(share_of_all, edges, fill=True, color=GREY, alpha=0.3, label="all")
        for index, passed in enumerate(found):
            shape, shape_error, ratio, ratio_error = mass_ratio(sample, passed)
            colour, dashes = f"C{index}", DASHES[index]
            label = f"{KEPT[index]:.0%} pass"
            above.stairs(shape, edges, color=colour, linestyle=dashes, label=label)
            centres = (edges[1:] + edges[:-1]) / 2
            below.stairs(ratio, edges, color=colour, linestyle=dashes, baseline=None)
            below.errorbar(centres, ratio, ratio_error, fmt="none", color=colour, linewidth=0.8)
            table.append(
                {
                    "classifier": name,
                    "background kept": KEPT[index],
                    "from [GeV]": edges[:-1],
                    "to [GeV]": edges[1:],
                    "share of all": share_of_all,
                    "share of those that pass": shape,
                    "error": shape_error,
                    "ratio": ratio,
                    "ratio error": ratio_error,
                }
            )
        below.axhline(1, color=GREY, linewidth=1)
        _titles(above, name, None)
        below.set_xlabel(label_of(sample.observable))
    panels[0, 0].set_ylabel("share of background")
    panels[1, 0].set_ylabel("over all")
    panels[1, 0].set_ylim(bottom=0)
    shared_legend(figure, panels[0])
    return Drawn(figure, stacked(table))


def mass_ratio(
    sample: MassSample, passing: NDArray[np.bool_]
) -> tuple[Floats, Floats, Floats, Floats]:
    """Shares of the events that pass in each bin, and over those of all, each with its error.

    The events that pass are among all: the error of the ratio is that of an efficiency.
    """
    every, passed = sample.contents(), sample.contents(passing)
    squares, failed = (sample.contents(some, power=2) for some in (passing, ~passing))
    efficiency, variance = np.full((2, len(every)), np.nan)
    np.divide(passed, every, out=efficiency, where=every > 0)
    spread = (1 - efficiency) ** 2 * squares + efficiency**2 * failed
    np.divide(spread, every**2, out=variance, where=every > 0)
    scale = every.sum() / passed.sum()
    return (
        passed / passed.sum(),
        np.sqrt(squares) / passed.sum(),
        efficiency * scale,
        np.sqrt(variance) * scale,
    )


@styled
def score_templates(
    templates: ClassifierTemplates, limits: Sequence[SignalLimit], luminosity: float
) -> Drawn:
    """Expected events in bins of the score: backgrounds stacked, the signal on top, log scale.

    All bins are drawn equally wide, whatever their edges. The signal has the strength of its
    expected limit of each hypothesis; hatched is the error of the background, of the simulation and
    all systematics.
    """
    nominal = templates.nominal
    background, error = nominal.background, templates.background_error
    bins = np.arange(len(background) + 1.0)
    figure = Figure(figsize=(5.6, 4.8))
    axes = figure.subplots()

    of_background = nominal.is_background
    names = [process.name for process in nominal.processes]
    stack_backgrounds(
        axes,
        np.maximum(nominal.content[of_background], 0),
        bins,
        [name for name, one in zip(names, of_background, strict=True) if one],
    )
    error_band(axes, background, error, bins, "error of background")
    signals = []
    for one, dashes in zip(limits, cycle(DASHES), strict=False):
        strength = float(np.float64(one.mu["0"]))
        events = strength * templates.signals[one.signal]
        signals.append((one.signal, strength, events))
        look: dict[str, Any] = {"baseline": None, "color": CLASS_COLOURS[1], "linestyle": dashes}
        words = f"{label_of(one.signal)} × {short(strength)}"
        axes.stairs(background + events, bins, label=words, **look)

    axes.set_yscale("log")
    axes.set_ylim(background[background > 0].min() / 10**_DECADES_BELOW)
    room_above(axes, _DECADES_ABOVE)
    axes.set_xlim(0, len(background))
    # Edges are written with as few digits as tell them apart.
    for digits in range(2, _MOST_DIGITS + 1):
        labels = [f"{edge:.{digits}f}" for edge in nominal.edges]
        if len(set(labels)) == len(labels):
            break
    axes.set_xticks(bins, labels, rotation=60, fontsize=10)
    axes.tick_params(axis="x", which="minor", bottom=False, top=False)
    axes.set_xlabel("score, edges of the bins")
    axes.set_ylabel("expected events")
    _titles(axes, templates.classifier, luminosity)
    axes.legend(loc="upper center", ncols=2, fontsize=10)

    rows = [
        *zip(names, nominal.content, np.sqrt(nominal.variance), nominal.n_effective, strict=True),
        ("all background", background, error, np.nan),
        *(
            (f"{name} x {strength:.3g}", events, np.nan, np.nan)
            for name, strength, events in signals
        ),
    ]
    columns = ("what", "expected events", "error", "effective simulated events")
    bin_of = {
        "bin": np.arange(len(background)) + 1,
        "from": nominal.edges[:-1],
        "to": nominal.edges[1:],
    }
    return Drawn(figure, stacked(bin_of | dict(zip(columns, row, strict=True)) for row in rows))


@styled
def brazil(classifier: str, limits: Sequence[SignalLimit], luminosity: float) -> Drawn:
    """Expected upper limit on the cross section [fb] against the mass [GeV] that each hypothesis has.

    With its bands of 68% and 95%, log scale; the line is the cross section of the data.
    """
    rising = sorted(limits, key=lambda one: one.mass or 0.0)
    mass = np.array([one.mass for one in rising], np.float64)
    stated = np.array([one.cross_section_fb for one in rising], np.float64)
    bands = {
        band: np.array([one.limit_fb[str(band)] for one in rising], np.float64) for band in BANDS
    }
    figure = Figure()
    axes = figure.subplots()
    for band, colour, label in ((2, _TWO_SIGMA, "95% expected"), (1, _ONE_SIGMA, "68% expected")):
        axes.fill_between(mass, bands[-band], bands[band], color=colour, linewidth=0, label=label)
    axes.plot(mass, bands[0], "o--", color="black", markersize=4, label="median expected")
    axes.plot(mass, stated, "-", color=CLASS_COLOURS[1], label="cross section of the data")
    axes.set_yscale("log")
    room_above(axes, _DECADES_ABOVE)
    axes.set_xlabel("mass [GeV]")
    axes.set_ylabel(f"{CONFIDENCE:.0%} CL limit on σ [fb]")
    _titles(axes, classifier, luminosity)
    axes.legend(loc="upper right")
    table = {
        "mass [GeV]": mass,
        **{f"limit [fb], band {band:+d}": values for band, values in bands.items()},
        "cross section of the data [fb]": stated,
    }
    return Drawn(figure, stacked([table]))


@styled
def classifier_limits(limits: Mapping[str, SignalLimit], luminosity: float) -> Drawn:
    """Expected upper limit on the signal strength from the score of each classifier, with its bands.

    The open marker is the median with the statistical errors of data and simulation alone; the bar
    on the filled one is the error from the number of simulated events. All are limits on the same
    signal hypothesis.
    """
    figure = Figure(figsize=(5.6, 1.9 + 0.7 * len(limits)))
    axes = figure.subplots()
    rows = []
    for row, (name, one) in enumerate(limits.items()):
        found = {band: float(np.float64(one.mu[str(band)])) for band in BANDS}
        # An unknown one becomes NaN, which is not drawn.
        alone, error = np.array([one.mu_statistics_only, one.mu_error], np.float64).tolist()
        for band, colour, label in ((2, _TWO_SIGMA, "95%"), (1, _ONE_SIGMA, "68%")):
            width = found[band] - found[-band]
            look: dict[str, Any] = {"left": found[-band], "color": colour, "linewidth": 0}
            axes.barh(row, width, 0.6, label=label, **look)
        ends = above_zero(*np.array([[found[0]], [error]]))
        axes.errorbar(found[0], row, xerr=ends, fmt="ok", markersize=5, label="median expected")
        look = {"markersize": 8, "markerfacecolor": "none", "label": "without systematics"}
        axes.plot(alone, row, "ok", **look)
        rows.append(
            {
                "classifier": name,
                **{f"limit on mu, band {band:+d}": value for band, value in found.items()},
                "error of the median": error,
                "median without systematics": alone,
            }
        )
    strengths = [value for one in limits.values() for value in one.mu.values() if value is not None]
    if min(strengths) / _NEAR < 1 < max(strengths) * _NEAR:
        axes.axvline(1, color=GREY, linestyle="dotted", linewidth=1)
    axes.set_xscale("log")
    axes.set_yticks(range(len(limits)), list(limits))
    axes.tick_params(axis="y", which="both", length=0)
    axes.set_ylim(len(limits) - 0.4, -0.6)
    axes.set_xlabel(f"{CONFIDENCE:.0%} CL limit on μ, {luminosity:,g} fb⁻¹")
    shared_legend(figure, [axes], ncols=2)
    return Drawn(figure, stacked(rows))
