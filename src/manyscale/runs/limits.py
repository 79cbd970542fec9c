"""Limits of a trained run: templates, workspaces, expected limits and significance."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manyscale.data.schema import Process
from manyscale.errors import DataError
from manyscale.evaluation.cuts import scan_cuts
from manyscale.evaluation.effects import effects
from manyscale.evaluation.limits import (
    ClassifierTemplates,
    Hypothesis,
    HypothesisLimits,
    fill_templates,
    hypotheses,
    hypothesis_limits,
)
from manyscale.evaluation.variations import Normalisation, Shape
from manyscale.evaluation.yields import PHYSICAL, ScaledEvents
from manyscale.progress import Progress, Silent
from manyscale.reporting import limit_plots
from manyscale.runs.folder import RunFolder, read_metrics, write_json
from manyscale.runs.judging import Trial, judge, scale
from manyscale.runs.plotting import drop_plot
from manyscale.runs.variations import variations
from manyscale.statistics.exclusion import CONFIDENCE
from manyscale.statistics.toys import poisson_significance, toy_significance

__all__ = ["limits_run"]


def limits_run(
    root: Path | str,
    *,
    data: Path | str | None = None,
    luminosity: float | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Find expected limits of a run on its test events, and write limits.json, workspaces and plots.

    Parameters
    ----------
    root
        The folder of an evaluated run.
    data
        A dataset whose events all count as test events, instead of the run's own test split.
    luminosity
        In fb^-1, in place of the card's.

    Returns
    -------
    The content of limits.json; docs/statistics.md says what each figure means.

    Raises
    ------
    RunError
        Where the run is not trained to its end, or not evaluated.
    DataError
        Where there is no luminosity, a process lacks its cross section or sum of weights, the
        background does not do for templates, the run's data are gone, or `data` holds events of the
        training.
    CardError
        Where the card's systematics or masses do not fit to the data.
    MissingExtraError
        Where pyhf is not installed.
    """
    progress = progress or Silent()
    trial = Trial.open(root, data)
    read_metrics(trial.folder)
    luminosity = trial.luminosity(luminosity)
    if luminosity is None:
        raise DataError(
            "limits need a luminosity: give --luminosity [fb^-1], or evaluation.luminosity in the "
            "card"
        )
    progress.say(f"limits from {len(trial.test)} events")
    judged = judge(trial)
    scaled = scale(trial, judged.events, luminosity, progress)
    _require_both(scaled)
    settings = trial.card.evaluation.limits
    signals = hypotheses(_present(scaled), settings.masses)
    moved = variations(trial, judged, scaled, progress)

    found = []
    for name, scores in (("network", judged.signal), ("trees", judged.trees)):
        templates = fill_templates(
            name, scores, scaled, moved, signals, settings=settings, seed=trial.card.seed
        )
        progress.start(f"limits of the {name}", len(signals), "signals")
        limits = []
        for signal in signals:
            limits.append(hypothesis_limits(templates, signal))
            progress.advance(1)
        progress.stop()
        counting = [_counting(scaled, scores, signal, trial.card.seed) for signal in signals]
        found.append(_Found(templates, limits, counting))
    content = {
        "weights": PHYSICAL,
        "luminosity": luminosity,
        "confidence": CONFIDENCE,
        "classifiers": {one.name: one.content() for one in found},
        "systematics": [variation.name for variation in moved],
        "effects": _effects(moved, scaled, judged.signal, found[0].counting[0]["cut"]),
        "counting": {one.name: one.counting for one in found},
        "notices": [notice for one in found for notice in one.notices()],
    }
    # Only here, so that what is refused leaves an earlier result as it was.
    _write(trial.folder, found, content)
    _plot(trial.folder, found, luminosity)
    trial.folder.log(f"limits at {luminosity:g} fb^-1, {len(signals)} signals")
    return content


@dataclass(frozen=True)
class _Found:
    """All that was found with one classifier."""

    templates: ClassifierTemplates
    limits: list[HypothesisLimits]
    counting: list[dict[str, Any]]

    @property
    def name(self) -> str:
        return self.templates.classifier

    def content(self) -> dict[str, Any]:
        """What limits.json says."""
        nominal = self.templates.nominal
        return {
            "edges": nominal.edges.tolist(),
            "hypotheses": [self._row(one) for one in self.limits],
            "background_error": self.templates.background_error.tolist(),
            "templates": [
                {
                    "process": process.name,
                    "label": process.label,
                    "content": nominal.content[place].tolist(),
                    "error": np.sqrt(nominal.variance[place]).tolist(),
                    "n_effective": nominal.n_effective[place].tolist(),
                }
                for place, process in enumerate(nominal.processes)
            ],
        }

    def _row(self, one: HypothesisLimits) -> dict[str, Any]:
        signal, complete = one.hypothesis, one.complete
        mu = {str(band): limit for band, limit in complete.limits.items()}
        return {
            "signal": signal.name,
            "mass": signal.mass,
            "cross_section_fb": signal.cross_section,
            "mu": mu,
            "mu_error": one.limit_error,
            "limit_fb": {band: limit * signal.cross_section for band, limit in mu.items()},
            "significance": complete.significance,
            "significance_error": one.significance_error,
            "significance_statistics_only": one.statistics.significance,
            "mu_statistics_only": one.statistics.limits[0],
            "workspace": self.file(one),
        }

    def file(self, one: HypothesisLimits) -> str:
        """Name of the workspace of a hypothesis."""
        signal = one.hypothesis
        if signal.mass is None:
            return f"workspace_{self.name}.json"
        return f"workspace_{self.name}_{re.sub(r'[^A-Za-z0-9_.-]', '_', signal.name)}.json"

    def notices(self) -> list[str]:
        """What may not be trusted, and what was changed for the workspaces, each once."""
        clipped = (notice for one in self.limits for notice in one.workspace.notices)
        changed = [f"{self.name}: {notice}" for notice in dict.fromkeys(clipped)]
        return [*self.templates.notices, *changed]


def _write(folder: RunFolder, found: Sequence[_Found], content: dict[str, Any]) -> None:
    """Write limits.json and the workspaces, in place of those of an earlier command."""
    place = folder.root / "limits"
    place.mkdir(exist_ok=True)
    for path in place.glob("*.json"):
        path.unlink()
    for one in found:
        for limits in one.limits:
            write_json(place / one.file(limits), limits.workspace.content)
    write_json(place / "limits.json", content)


def _plot(folder: RunFolder, found: Sequence[_Found], luminosity: float) -> None:
    """Draw templates, and limits against mass; without masses, those of the classifiers together."""
    for path in folder.plots.glob("limit_*.svg"):
        drop_plot(folder, path.stem)
    for one in found:
        drawn = limit_plots.score_templates(one.templates, one.limits, luminosity)
        drawn.save(folder.plots, f"limit_templates_{one.name}")
    if found[0].limits[0].hypothesis.mass is None:
        first = {one.name: one.limits[0] for one in found}
        limit_plots.classifier_limits(first, luminosity).save(folder.plots, "limit_mu")
        return
    for one in found:
        drawn = limit_plots.brazil(one.name, one.limits, luminosity)
        drawn.save(folder.plots, f"limit_brazil_{one.name}")


def _effects(
    moved: Sequence[Normalisation | Shape],
    scaled: ScaledEvents,
    scores: NDArray[np.floating],
    cut: float | None,
) -> dict[str, Any]:
    """What each systematic changes above the network's best cut; of all events where there is none."""
    cut = 0.0 if cut is None else cut
    return {"cut": cut, "changes": effects(moved, scaled, scores, cut)}


def _counting(
    scaled: ScaledEvents, scores: NDArray[np.floating], signal: Hypothesis, seed: int
) -> dict[str, Any]:
    """The best cut on the score, its significance by formula and by toys, and which to trust."""
    names = [process.name for process in scaled.processes]
    chosen = ~scaled.signal | np.isin(
        scaled.process, [names.index(name) for name in signal.processes]
    )
    one = scaled._replace(process=scaled.process[chosen], weight=scaled.weight[chosen])
    scan = scan_cuts(one, scores[chosen])
    best = scan.best(0.0)
    if best is None or not scan.signal[1, best] > 0:
        return {"signal_process": signal.name, "cut": None}
    s, b = float(scan.signal[1, best]), float(scan.background[1, best])
    error = float(np.sqrt(scan.background[2, best] + scan.unseen[best]))
    toys = toy_significance(s, b, error, np.random.default_rng(seed))
    exact = poisson_significance(s, b)
    return {
        "signal_process": signal.name,
        "cut": float(scan.cut[best]),
        "signal": s,
        "background": b,
        "background_error": error,
        "asymptotic": toys.asymptotic,
        "toys": toys.value,
        "toys_error": toys.error,
        "toys_p_value": toys.p_value,
        "toys_number": toys.toys,
        "background_known": exact if np.isfinite(exact) else None,
        "trust": "asymptotic" if toys.asymptotic_holds else "toys",
    }


def _require_both(scaled: ScaledEvents) -> None:
    for name, chosen in (("signal", scaled.signal), ("background", ~scaled.signal)):
        total = float(scaled.weight[chosen].sum())
        if not total > 0:
            raise DataError(
                f"{total:g} {name} events are expected of the test events: there is nothing to set "
                "a limit with"
            )


def _present(scaled: ScaledEvents) -> list[Process]:
    """Processes of which there are events."""
    return [scaled.processes[place] for place in np.unique(scaled.process)]
