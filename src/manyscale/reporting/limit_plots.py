"""Plots of expected limits: templates of the score, limit against mass, limits of classifiers."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from manyscale.evaluation.limits import ClassifierTemplates, HypothesisLimits
from manyscale.evaluation.templates import Templates
from manyscale.reporting.drawn import Drawn, stacked
from manyscale.reporting.style import CLASS_COLOURS, styled
from manyscale.reporting.wording import short
from manyscale.statistics.exclusion import CONFIDENCE
from manyscale.statistics.sample import Floats

__all__ = ["brazil", "classifier_limits", "score_templates"]

# The colours that the field knows these bands by, in shades that colour-blind eyes tell apart.
_ONE_SIGMA, _TWO_SIGMA = "#607641", "#F5BB54"
_GREY = "#717581"
# Places in the cycle of colours; the red one is the signal's.
_BACKGROUND_COLOURS = (0, 1, 3, 4, 5, 6, 7, 8, 9)
# The strength of the data is marked where it is within this factor of the bands.
_NEAR = 100.0
_DASHES = ("solid", "dashed", "dashdot", "dotted")
_MOST_DIGITS = 7
# On a log axis the smallest template is still to be seen, and there is room for the legend.
_DECADES_BELOW = 1.0
_DECADES_ABOVE = 0.45


@styled
def score_templates(
    templates: ClassifierTemplates, limits: Sequence[HypothesisLimits], luminosity: float
) -> Drawn:
    """Expected events in bins of the score: backgrounds stacked, the signal on top, log scale.

    All bins are drawn equally wide, whatever their edges. The signal has the strength of its
    expected limit; hatched is the error of the background, of the simulation and all systematics.

    Parameters
    ----------
    templates
        Of one classifier.
    limits
        Of each signal hypothesis, from the same classifier.
    luminosity
        In fb^-1.
    """
    nominal = templates.nominal
    bins = np.arange(len(nominal.background) + 1.0)
    figure = Figure(figsize=(5.6, 4.8))
    axes = figure.subplots()
    _stack(axes, nominal, bins)
    background, error = nominal.background, templates.background_error
    axes.stairs(
        background + error,
        bins,
        baseline=np.maximum(background - error, 1e-9 * background),
        fill=True,
        hatch="////",
        facecolor="none",
        edgecolor="black",
        linewidth=0,
        label="error of background",
    )
    for place, one in enumerate(limits):
        signal = one.complete.limits[0] * nominal.signal(one.hypothesis.processes)
        axes.stairs(
            background + signal,
            bins,
            baseline=None,
            color=CLASS_COLOURS[1],
            linestyle=_DASHES[place % len(_DASHES)],
            linewidth=1.8,
            label=f"{one.hypothesis.name} × {short(one.complete.limits[0])}",
        )
    _frame(axes, nominal, templates.classifier, luminosity)
    return Drawn(figure, _template_table(templates, limits))


def _stack(axes: Axes, nominal: Templates, bins: Floats) -> None:
    """Fill the backgrounds, the smallest lowest."""
    content = np.maximum(nominal.content, 0)
    chosen = np.flatnonzero(nominal.is_background & (content.sum(axis=1) > 0))
    total = np.zeros(len(bins) - 1)
    for place, process in enumerate(chosen[np.argsort(content[chosen].sum(axis=1))]):
        above = total + content[process]
        axes.stairs(
            above,
            bins,
            baseline=total,
            fill=True,
            color=f"C{_BACKGROUND_COLOURS[place % len(_BACKGROUND_COLOURS)]}",
            alpha=0.75,
            label=nominal.processes[process].name,
        )
        total = above


def _frame(axes: Axes, nominal: Templates, classifier: str, luminosity: float) -> None:
    bins = len(nominal.background)
    axes.set_yscale("log")
    some = nominal.background[nominal.background > 0]
    low, high = some.min() / 10**_DECADES_BELOW, axes.get_ylim()[1]
    axes.set_ylim(low, high * (high / low) ** _DECADES_ABOVE)
    axes.set_xlim(0, bins)
    axes.set_xticks(range(bins + 1), _edge_labels(nominal.edges), rotation=60, fontsize=10)
    axes.tick_params(axis="x", which="minor", bottom=False, top=False)
    axes.set_xlabel("score, edges of the bins")
    axes.set_ylabel("expected events")
    axes.set_title(classifier, fontsize=12, loc="left", pad=4)
    axes.set_title(f"{luminosity:g} fb$^{{-1}}$", fontsize=12, loc="right", pad=4)
    axes.legend(loc="upper center", ncols=2, fontsize=10)


def _edge_labels(edges: Floats) -> list[str]:
    """Write edges with as few digits as tell them apart."""
    for digits in range(2, _MOST_DIGITS):
        labels = [f"{edge:.{digits}f}" for edge in edges]
        if len(set(labels)) == len(labels):
            return labels
    return [f"{edge:.{_MOST_DIGITS}f}" for edge in edges]


def _template_table(
    templates: ClassifierTemplates, limits: Sequence[HypothesisLimits]
) -> dict[str, list[object]]:
    nominal = templates.nominal
    bins = np.arange(len(nominal.background)) + 1
    fixed = {"bin": bins, "from": nominal.edges[:-1], "to": nominal.edges[1:]}
    rows: list[dict[str, object]] = [
        {
            **fixed,
            "what": process.name,
            "expected events": nominal.content[place],
            "error": np.sqrt(nominal.variance[place]),
            "effective simulated events": nominal.n_effective[place],
        }
        for place, process in enumerate(nominal.processes)
    ]
    rows.append(
        {
            **fixed,
            "what": "all background",
            "expected events": nominal.background,
            "error": templates.background_error,
            "effective simulated events": np.nan,
        }
    )
    for one in limits:
        strength = one.complete.limits[0]
        rows.append(
            {
                **fixed,
                "what": f"{one.hypothesis.name} x {strength:.3g}",
                "expected events": strength * nominal.signal(one.hypothesis.processes),
                "error": np.nan,
                "effective simulated events": np.nan,
            }
        )
    return stacked(rows)


@styled
def brazil(classifier: str, limits: Sequence[HypothesisLimits], luminosity: float) -> Drawn:
    """Expected upper limit on the cross section against the mass, with its bands, log scale.

    Parameters
    ----------
    classifier
        Its name.
    limits
        Of signal hypotheses, each with a mass.
    luminosity
        In fb^-1.
    """
    rising = sorted(limits, key=lambda one: one.hypothesis.mass or 0.0)
    mass = np.array([one.hypothesis.mass for one in rising], np.float64)
    stated = np.array([one.hypothesis.cross_section for one in rising])
    bands = {
        band: stated * [one.complete.limits[band] for one in rising]
        for band in rising[0].complete.limits
    }
    figure = Figure()
    axes = figure.subplots()
    axes.fill_between(
        mass, bands[-2], bands[2], color=_TWO_SIGMA, linewidth=0, label="95% expected"
    )
    axes.fill_between(
        mass, bands[-1], bands[1], color=_ONE_SIGMA, linewidth=0, label="68% expected"
    )
    axes.plot(mass, bands[0], "o--", color="black", markersize=4, label="median expected")
    axes.plot(mass, stated, "-", color=CLASS_COLOURS[1], label="cross section of the data")
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * (high / low) ** _DECADES_ABOVE)
    axes.set_xlabel("mass [GeV]")
    axes.set_ylabel(f"{CONFIDENCE:.0%} CL limit on σ [fb]")
    axes.set_title(classifier, fontsize=12, loc="left", pad=4)
    axes.set_title(f"{luminosity:g} fb$^{{-1}}$", fontsize=12, loc="right", pad=4)
    axes.legend(loc="upper right")
    table = {
        "mass [GeV]": mass,
        **{f"limit [fb], band {band:+d}": values for band, values in bands.items()},
        "cross section of the data [fb]": stated,
    }
    return Drawn(figure, stacked([table]))


@styled
def classifier_limits(limits: Mapping[str, HypothesisLimits], luminosity: float) -> Drawn:
    """Expected upper limit on the signal strength from the score of each classifier, with its bands.

    The open marker is the median with the statistical errors of data and simulation alone; the bar
    on the filled one is the error from the number of simulated events.

    Parameters
    ----------
    limits
        By classifier, of the same signal hypothesis.
    luminosity
        In fb^-1.
    """
    figure = Figure(figsize=(5.6, 1.9 + 0.7 * len(limits)))
    axes = figure.subplots()
    rows = []
    for place, (name, one) in enumerate(limits.items()):
        found = one.complete.limits
        for outer, colour, height in ((2, _TWO_SIGMA, 0.6), (1, _ONE_SIGMA, 0.6)):
            width = found[outer] - found[-outer]
            axes.barh(place, width, height, left=found[-outer], color=colour, linewidth=0)
        axes.errorbar(
            found[0],
            place,
            xerr=[[min(one.limit_error, 0.9 * found[0])], [one.limit_error]],
            fmt="o",
            color="black",
            markersize=5,
            label="median expected" if place == 0 else None,
        )
        axes.plot(
            one.statistics.limits[0],
            place,
            "o",
            markersize=8,
            markerfacecolor="none",
            color="black",
            label="without systematics" if place == 0 else None,
        )
        rows.append(
            {
                "classifier": name,
                **{f"limit on mu, band {band:+d}": value for band, value in found.items()},
                "error of the median": one.limit_error,
                "median without systematics": one.statistics.limits[0],
            }
        )
    strengths = [value for one in limits.values() for value in one.complete.limits.values()]
    if min(strengths) / _NEAR < 1 < max(strengths) * _NEAR:
        axes.axvline(1, color=_GREY, linestyle="dotted", linewidth=1)
    axes.set_xscale("log")
    axes.set_yticks(range(len(limits)), list(limits))
    axes.tick_params(axis="y", which="both", length=0)
    axes.set_ylim(len(limits) - 0.4, -0.6)
    axes.set_xlabel(f"{CONFIDENCE:.0%} CL limit on μ, {luminosity:g} fb$^{{-1}}$")
    handles, _ = axes.get_legend_handles_labels()
    handles += [Patch(color=_ONE_SIGMA, label="68%"), Patch(color=_TWO_SIGMA, label="95%")]
    figure.legend(handles=handles, loc="outside upper center", ncols=2)
    return Drawn(figure, stacked(rows))
