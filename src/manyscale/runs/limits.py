"""Limits of a trained run: its systematics, templates, workspaces, expected limits, significance."""

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from manyscale.errors import DataError
from manyscale.evaluation.cuts import scan_cuts
from manyscale.evaluation.limits import (
    ClassifierTemplates,
    Hypothesis,
    fill_templates,
    hypotheses,
    hypothesis_limits,
)
from manyscale.evaluation.results import (
    ClassifierLimits,
    Counting,
    Limits,
    LimitTemplate,
    SystematicEffects,
)
from manyscale.evaluation.systematics import (
    Normalisation,
    Shape,
    Varied,
    check_systematics,
    effects,
    moved_processes,
    moved_streams,
    shifts,
)
from manyscale.evaluation.yields import PHYSICAL, ScaledEvents
from manyscale.progress import LOG, progress_bar
from manyscale.reporting import physics_plots
from manyscale.reporting.look import look
from manyscale.runs.evaluate import Prediction, Trial, predict_trial, scale
from manyscale.runs.folder import RunFolder
from manyscale.settings import write_json
from manyscale.statistics.exclusion import CONFIDENCE
from manyscale.statistics.significance import asymptotic_holds, exact_significance, significance

__all__ = ["limits_run", "variations"]


def limits_run(
    root: Path | str,
    *,
    data: Path | str | None = None,
    luminosity: float | None = None,
    cross_sections: Mapping[str, float] | None = None,
    device: str = "auto",
) -> Limits:
    """Find expected limits of a run on its test events, and write limits.json, workspaces and plots.

    Parameters
    ----------
    root
        The folder of an evaluated run.
    data
        A dataset whose events all count as test events, instead of the run's own test split.
    luminosity
        In fb^-1, in place of that of the last evaluation, or else the card's.
    cross_sections
        In pb, by process, before those of the last evaluation, of card and data.
    device
        Where the network runs: auto, cpu or cuda.

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
        Where the card's systematics or masses do not fit to the data, or the device is not there.
    MissingExtraError
        Where pyhf is not installed.
    """
    evaluated = RunFolder.open(root).read_metrics().yields
    stated = {**(evaluated.cross_sections if evaluated else {}), **(cross_sections or {})}
    trial = Trial.open(root, data, device, stated)
    folder, card = trial.folder, trial.card
    if luminosity is None and evaluated is not None:
        luminosity = evaluated.luminosity
    luminosity = trial.luminosity(luminosity)
    if luminosity is None:
        raise DataError(
            "limits need a luminosity: give --luminosity [fb^-1], or evaluation.luminosity in the "
            "card"
        )
    LOG.info("limits from %d events", len(trial.test))
    prediction = predict_trial(trial)
    scaled = scale(trial, prediction.events, luminosity)
    for name, chosen in (("signal", scaled.signal), ("background", ~scaled.signal)):
        if not (total := float(scaled.weight[chosen].sum())) > 0:
            raise DataError(
                f"{total:g} {name} events are expected of the test events: there is nothing to set "
                "a limit with"
            )
    present = [scaled.processes[index] for index in np.unique(scaled.process)]
    signals = hypotheses(present, card.evaluation.limits.masses)
    moved = variations(trial, prediction, scaled)

    templates: dict[str, ClassifierTemplates] = {}
    classifiers: dict[str, ClassifierLimits] = {}
    counting: dict[str, tuple[Counting, ...]] = {}
    notices: list[str] = []
    workspaces: dict[str, dict[str, object]] = {}  # by file name
    for name, scores in prediction.scores.items():
        filled = fill_templates(
            name, scores, scaled, moved, signals, settings=card.evaluation.limits, seed=card.seed
        )
        rows, clipped = [], list[str]()
        with progress_bar(f"limits of the {name}", len(signals), "signals") as bar:
            for signal in signals:
                row, space = hypothesis_limits(filled, signal)
                rows.append(row)
                clipped += space.notices
                workspaces[row.workspace] = space.content
                bar.advance(1)
        templates[name] = filled
        nominal = filled.nominal
        classifiers[name] = ClassifierLimits(
            edges=tuple(nominal.edges.tolist()),
            hypotheses=tuple(rows),
            background_error=tuple(filled.background_error.tolist()),
            templates=tuple(
                LimitTemplate(
                    process=process.name,
                    label=process.label,
                    content=tuple(nominal.content[i].tolist()),
                    error=tuple(np.sqrt(nominal.variance[i]).tolist()),
                    n_effective=tuple(nominal.n_effective[i].tolist()),
                )
                for i, process in enumerate(nominal.processes)
            ),
        )
        counting[name] = tuple(_counting(scaled, scores, signal) for signal in signals)
        # Each once: several workspaces hold the same background.
        notices += [*filled.notices, *(f"{name}: {line}" for line in dict.fromkeys(clipped))]
        if ignored := ", ".join(row.signal for row in rows if row.ignores_score):
            bins = len(nominal.background)
            left = "one bin is left" if bins == 1 else f"{bins} bins say no more than one"
            notices.append(
                f"{name}: {left}, so that the limit on {ignored} counts events and ignores the "
                f"score: it is no result of the {name}."
            )

    # Above the network's best cut; of all events where there is none.
    cut = counting["network"][0].cut or 0.0
    content = Limits(
        stamp=trial.stamp(luminosity),
        weights=PHYSICAL,
        luminosity=luminosity,
        confidence=CONFIDENCE,
        classifiers=classifiers,
        systematics=tuple(variation.name for variation in moved),
        effects=SystematicEffects(cut=cut, changes=effects(moved, scaled, prediction.network, cut)),
        counting=counting,
        notices=tuple(notices),
    )
    with folder.anew(folder.root / "limits", "limit_*") as target, look(card.evaluation.plots):
        for file, space_content in workspaces.items():
            write_json(target / file, space_content)
        content.write(target / "limits.json")
        _plot(target / "plots", templates, content)
    folder.log(f"limits at {luminosity:g} fb^-1, {len(signals)} signals")
    return content


def variations(
    trial: Trial, prediction: Prediction, scaled: ScaledEvents
) -> list[Normalisation | Shape]:
    """Work out what each systematic of the card does to the test events.

    Energies and tokens are changed in the stored columns, and network and trees score the events
    again; named weights take the place of the nominal one, scaled as it is.

    Parameters
    ----------
    prediction
        The test events as they are.
    scaled
        The same events scaled to a luminosity.

    Returns
    -------
    One a systematic, in the order of the card. A `Shape` has the nominal scores and weights for
    events of processes that it does not move.
    """
    systematics = trial.card.evaluation.systematics
    # Events come to a shift with the columns of the run's own data; all else is of those tested.
    schema = trial.test.schema.model_copy(update={"streams": trial.own.schema.streams})
    check_systematics(systematics, schema)
    nominal = prediction.scores
    found: list[Normalisation | Shape] = []
    for name, settings in systematics.items():
        begun = time.monotonic()
        processes = moved_processes(name, settings, schema)
        if (x := settings.normalisation) is not None:
            found.append(Normalisation(name, processes, up=1 + x, down=1 / (1 + x)))
        else:
            if settings.weights is not None:
                # Expected events that a weight of one stands for, by process: of sums, as single
                # weights may be zero.
                expected, generated = (
                    np.bincount(scaled.process, np.abs(weights), len(scaled.processes))
                    for weights in (scaled.weight, prediction.events.weight)
                )
                factor = np.divide(
                    expected, generated, out=np.zeros_like(expected), where=generated > 0
                )[scaled.process]
                varied = [
                    Varied(nominal, prediction.events.weights[weight] * factor)
                    for weight in (settings.weights.up, settings.weights.down)
                    if weight is not None
                ]
            else:
                streams = moved_streams(name, settings, schema)
                varied = [
                    Varied(predict_trial(trial, shift).scores, scaled.weight)
                    for shift in shifts(settings, streams)
                ]
            # Events of processes that it does not move stay nominal.
            names = np.array([process.name in processes for process in scaled.processes], bool)
            moved = names[scaled.process]
            up, *down = (
                Varied(
                    {of: np.where(moved, one.scores[of], nominal[of]) for of in nominal},
                    np.where(moved, one.weight, scaled.weight),
                )
                for one in varied
            )
            found.append(Shape(name, processes, up, down[0] if down else None))
        kind = settings.kind.replace("_", " ")
        LOG.info("systematic %s (%s): %.1f s", name, kind, time.monotonic() - begun)
    return found


def _counting(scaled: ScaledEvents, scores: NDArray[np.floating], signal: Hypothesis) -> Counting:
    """The best cut on the score, its significance by formula and by exact Poisson counts."""
    of_signal = np.array([process.name in signal.processes for process in scaled.processes], bool)
    # Other signal hypotheses are no background of this one.
    chosen = ~scaled.signal | of_signal[scaled.process]
    one = scaled._replace(process=scaled.process[chosen], weight=scaled.weight[chosen])
    scan = scan_cuts(one, scores[chosen])
    best = scan.best(0.0)
    if best is None or not scan.signal[1, best] > 0:
        return Counting(signal_process=signal.name, cut=None)
    s, b = float(scan.signal[1, best]), float(scan.background[1, best])
    error = float(np.sqrt(scan.background_variance[best]))
    asymptotic, exact = float(significance(s, b, error)), exact_significance(s, b, error)
    return Counting(
        signal_process=signal.name,
        cut=float(scan.cut[best]),
        signal=s,
        background=b,
        background_error=error,
        asymptotic=asymptotic,
        exact=exact,
        background_known=exact_significance(s, b),
        trust="asymptotic" if asymptotic_holds(asymptotic, exact) else "exact",
    )


def _plot(folder: Path, templates: dict[str, ClassifierTemplates], limits: Limits) -> None:
    """Draw templates, and limits against mass; without masses, those of the classifiers together."""
    rows = {name: one.hypotheses for name, one in limits.classifiers.items()}
    for name, found in rows.items():
        drawn = physics_plots.score_templates(templates[name], found, limits.luminosity)
        drawn.save(folder, f"limit_templates_{name}")
        if found[0].mass is not None:
            drawn = physics_plots.brazil(name, found, limits.luminosity)
            drawn.save(folder, f"limit_brazil_{name}")
    if rows["network"][0].mass is None:
        together = {name: found[0] for name, found in rows.items()}
        physics_plots.classifier_limits(together, limits.luminosity).save(folder, "limit_mu")
