"""Plots of what the scores promise in an analysis: significance along the cut, sculpted masses."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from manyscale.evaluation.cuts import CutScan
from manyscale.evaluation.sculpting import KEPT, MassSample, Sculpted
from manyscale.reporting.drawn import Drawn, stacked
from manyscale.reporting.style import styled
from manyscale.statistics.sample import Floats

__all__ = ["sculpting", "significance"]

_DASHES = ("solid", "dashed", "dashdot", "dotted")
_MARKERS = "os^D"
_GREY = "#717581"


@styled
def significance(scans: Mapping[str, CutScan], luminosity: float) -> Drawn:
    """Asimov significance of counting above a cut against its signal efficiency, physical weights.

    A panel a classifier, a curve a relative systematic uncertainty of the background, which is
    taken in quadrature with the error from the number of simulated events. The marker is the best
    cut, its bar and the bands the error from the number of simulated events. Where too few
    effective background events are left the panel is grey.

    Parameters
    ----------
    scans
        By classifier; one at least.
    luminosity
        In fb^-1.
    """
    figure = Figure(figsize=(5.6, 0.9 + 2.7 * len(scans)))
    panels = figure.subplots(len(scans), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    table = []
    for axes, (name, scan) in zip(panels, scans.items(), strict=True):
        table += [_significance_curve(axes, name, scan, place) for place in range(len(scan.curves))]
        _grey_out(axes, scan)
        axes.set_title(name, fontsize=12, loc="left", pad=4)
        axes.set_ylabel("significance [σ]")
    panels[0].set_title(f"{luminosity:g} fb$^{{-1}}$", fontsize=12, loc="right", pad=4)
    panels[-1].set_xlabel("signal efficiency")
    panels[0].set_xlim(0, 1)
    panels[0].set_ylim(bottom=0)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        title="error of the background beside the simulation's",
        title_fontsize=11,
        loc="outside upper center",
        ncols=len(labels),
    )
    return Drawn(figure, stacked(table))


def _significance_curve(axes: Axes, name: str, scan: CutScan, place: int) -> dict[str, object]:
    systematic = list(scan.curves)[place]
    value, error = scan.curves[systematic]
    efficiency, colour = scan.signal_efficiency, f"C{place}"
    label = f"{systematic:.0%}" if systematic else "none"
    axes.plot(efficiency, value, color=colour, linestyle=_DASHES[place], label=label)
    low, high = np.maximum(value - error, 0), value + error
    axes.fill_between(efficiency, low, high, color=colour, alpha=0.15, linewidth=0)
    best = scan.best(systematic)
    if best is not None:
        axes.errorbar(
            efficiency[best],
            value[best],
            yerr=[[min(error[best], value[best])], [error[best]]],
            fmt=_MARKERS[place],
            color=colour,
            markersize=6,
            linewidth=1.2,
        )
    return {
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


def _grey_out(axes: Axes, scan: CutScan) -> None:
    """Grey where a cut is not considered, from half-way to the considered ones beside it."""
    order = np.argsort(scan.signal_efficiency, kind="stable")
    at, refused = scan.signal_efficiency[order], ~scan.considered[order]
    edges = np.concatenate([[0.0], (at[1:] + at[:-1]) / 2, [1.0]])
    for low, high in zip(edges[:-1][refused], edges[1:][refused], strict=True):
        axes.axvspan(low, high, color=_GREY, alpha=0.2, linewidth=0)
    if refused.any():
        axes.text(
            0.02,
            0.04,
            f"grey: under {scan.least_background:g} effective\nbackground events",
            transform=axes.transAxes,
            fontsize=9,
        )


@styled
def sculpting(sample: MassSample, sculpted: Mapping[str, Sequence[Sculpted]]) -> Drawn:
    """Mass of background events that pass cuts on the score, over that of all: flat is unbent.

    Above, each distribution with unit area, class-balanced weights; below, each over that of all
    background. The outermost bins also hold what lies beyond.

    Parameters
    ----------
    sample
        Background events in bins of their mass.
    sculpted
        By classifier, what each cut does to them.
    """
    figure = Figure(figsize=(5.6, 4.6))
    panels = figure.subplots(
        2, len(sculpted), sharex=True, sharey="row", squeeze=False, height_ratios=(3, 2)
    )
    table = []
    for (above, below), (name, found) in zip(panels.T, sculpted.items(), strict=True):
        every = sample.contents()
        norm = every.sum()
        above.stairs(every / norm, sample.edges, fill=True, color=_GREY, alpha=0.3, label="all")
        for place, one in enumerate(found):
            shape, shape_error, ratio, ratio_error = _bent(sample, one)
            colour, dashes = f"C{place}", _DASHES[place]
            label = f"{KEPT[place]:.0%} pass"
            above.stairs(shape, sample.edges, color=colour, linestyle=dashes, label=label)
            centres = (sample.edges[1:] + sample.edges[:-1]) / 2
            below.stairs(ratio, sample.edges, color=colour, linestyle=dashes, baseline=None)
            below.errorbar(centres, ratio, ratio_error, fmt="none", color=colour, linewidth=0.8)
            table.append(
                {
                    "classifier": name,
                    "background kept": KEPT[place],
                    "from [GeV]": sample.edges[:-1],
                    "to [GeV]": sample.edges[1:],
                    "share of all": every / norm,
                    "share of those that pass": shape,
                    "error": shape_error,
                    "ratio": ratio,
                    "ratio error": ratio_error,
                }
            )
        below.axhline(1, color=_GREY, linewidth=1)
        above.set_title(name, fontsize=12, loc="left", pad=4)
        below.set_xlabel(f"{sample.observable} [GeV]")
    panels[0, 0].set_ylabel("share of background")
    panels[1, 0].set_ylabel("over all")
    panels[1, 0].set_ylim(bottom=0)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    return Drawn(figure, stacked(table))


def _bent(sample: MassSample, one: Sculpted) -> tuple[Floats, Floats, Floats, Floats]:
    """Shares of the events that pass in each bin, and over those of all, each with its error.

    The events that pass are among all: the error of the ratio is that of an efficiency.
    """
    every, passed = sample.contents(), sample.contents(one.passed)
    squares, failed = (sample.contents(some, power=2) for some in (one.passed, ~one.passed))
    total, of_passed = every.sum(), passed.sum()
    efficiency, variance = np.full((2, len(every)), np.nan)
    np.divide(passed, every, out=efficiency, where=every > 0)
    spread = (1 - efficiency) ** 2 * squares + efficiency**2 * failed
    np.divide(spread, every**2, out=variance, where=every > 0)
    scale = total / of_passed
    return (
        passed / of_passed,
        np.sqrt(squares) / of_passed,
        efficiency * scale,
        np.sqrt(variance) * scale,
    )
