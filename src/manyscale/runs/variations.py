"""The systematic uncertainties of a run's card, as the model's own response to them."""

import time

import numpy as np
from numpy.typing import NDArray

from manyscale.data.schema import Schema, StreamSchema
from manyscale.evaluation.shifts import Shift, lose_tokens, scale_energies, smear_energies
from manyscale.evaluation.systematics import (
    SystematicSettings,
    WeightNames,
    check_systematics,
    moved_processes,
    moved_streams,
)
from manyscale.evaluation.variations import Normalisation, Shape, Varied
from manyscale.evaluation.yields import ScaledEvents
from manyscale.progress import Progress
from manyscale.runs.judging import Judged, Trial, judge

__all__ = ["variations"]


def variations(
    trial: Trial, judged: Judged, scaled: ScaledEvents, progress: Progress
) -> list[Normalisation | Shape]:
    """Work out what each systematic of the card does to the test events.

    Energies and tokens are changed in the stored columns, and network and trees score the events
    again; named weights take the place of the nominal one, scaled as it is.

    Parameters
    ----------
    judged
        The test events as they are.
    scaled
        The same events scaled to a luminosity.

    Returns
    -------
    One a systematic, in the order of the card. A `Shape` has the nominal scores and weights for
    events of processes that it does not move.

    Raises
    ------
    CardError
        Where a systematic names what the data do not have.
    """
    systematics = trial.card.evaluation.systematics
    # Events come to a shift with the columns of the run's own data; all else is of those tested.
    schema = trial.test.schema.model_copy(update={"streams": trial.own.schema.streams})
    check_systematics(systematics, schema)
    found = []
    for name, settings in systematics.items():
        begun = time.monotonic()
        found.append(_variation(name, settings, schema, trial=trial, judged=judged, scaled=scaled))
        kind = settings.kind.replace("_", " ")
        progress.say(f"systematic {name} ({kind}): {time.monotonic() - begun:.1f} s")
    return found


def _variation(
    name: str,
    settings: SystematicSettings,
    schema: Schema,
    *,
    trial: Trial,
    judged: Judged,
    scaled: ScaledEvents,
) -> Normalisation | Shape:
    processes = moved_processes(name, settings, schema)
    if (x := settings.normalisation) is not None:
        return Normalisation(name, processes, up=1 + x, down=1 / (1 + x))
    if settings.weights is not None:
        varied = _reweighted(judged, scaled, settings.weights)
    else:
        shifts = _shifts(settings, moved_streams(name, settings, schema))
        varied = [Varied(_scores(judge(trial, shift)), scaled.weight) for shift in shifts]
    return _shape(name, processes, scaled, _scores(judged), varied)


def _shifts(settings: SystematicSettings, streams: tuple[StreamSchema, ...]) -> list[Shift]:
    """Up, and down where it is not the mirror image of up."""
    if (x := settings.energy_scale) is not None:
        return [scale_energies(streams, 1 + x), scale_energies(streams, 1 - x)]
    if (x := settings.energy_resolution) is not None:
        return [smear_energies(streams, x)]
    x = settings.efficiency
    assert x is not None  # noqa: S101  # the only kind left that has streams
    return [lose_tokens(streams, x)]


def _reweighted(judged: Judged, scaled: ScaledEvents, weights: WeightNames) -> list[Varied]:
    """Up, and down where it is named."""
    factor = _expected_for_weight(judged, scaled)
    return [
        Varied(_scores(judged), judged.events.weights[name] * factor)
        for name in (weights.up, weights.down)
        if name is not None
    ]


def _expected_for_weight(judged: Judged, scaled: ScaledEvents) -> NDArray[np.float64]:
    """(events,): expected events that a weight of one stands for in the event's process."""
    # Of sums: single weights may be zero.
    expected, generated = (
        np.bincount(scaled.process, np.abs(weights), len(scaled.processes))
        for weights in (scaled.weight, judged.events.weight)
    )
    factors = np.divide(expected, generated, out=np.zeros_like(expected), where=generated > 0)
    return factors[scaled.process]


def _scores(judged: Judged) -> dict[str, NDArray[np.floating]]:
    return {"network": judged.signal, "trees": judged.trees}


def _shape(
    name: str,
    processes: tuple[str, ...],
    scaled: ScaledEvents,
    nominal: dict[str, NDArray[np.floating]],
    varied: list[Varied],
) -> Shape:
    """Take the variation for events of its processes, and the nominal for all others."""
    places = [place for place, of in enumerate(scaled.processes) if of.name in processes]
    moved = np.isin(scaled.process, places)
    up, *down = [
        Varied(
            {of: np.where(moved, scores, nominal[of]) for of, scores in one.scores.items()},
            np.where(moved, one.weight, scaled.weight),
        )
        for one in varied
    ]
    return Shape(name, processes, up, down[0] if down else None)
