"""Templates and systematics as a HistFactory workspace, in pyhf's JSON."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from manyscale.errors import CardError
from manyscale.evaluation.systematics import POI, Normalisation, Shape, Varied
from manyscale.evaluation.templates import Templates
from manyscale.evaluation.yields import ScaledEvents
from manyscale.statistics.sample import Floats

__all__ = ["ShapeTemplates", "Workspace", "shape_templates", "workspace"]

# What a bin of less than nothing is set to, as a part of the background there.
_SMALL = 1e-6
# A factor on a yield is not below this: HistFactory takes its logarithm.
_LEAST_FACTOR = 1e-2


@dataclass(frozen=True)
class ShapeTemplates:
    """The templates under a systematic."""

    name: str  #: of the nuisance parameter
    processes: tuple[str, ...]  #: names of those that it moves
    #: (processes, bins): expected events at plus and minus one standard deviation.
    up: Floats
    down: Floats


@dataclass(frozen=True)
class Workspace:
    """A workspace as JSON, and sentences on what had to be changed for it."""

    content: dict[str, Any]
    notices: tuple[str, ...]


def shape_templates(
    shape: Shape, classifier: str, events: ScaledEvents, nominal: Templates
) -> ShapeTemplates:
    """Fill the templates under a systematic; without a variation down, it mirrors that up.

    Parameters
    ----------
    classifier
        Whose scores are taken.
    events
        Scaled to a luminosity, unchanged.
    nominal
        Their templates.
    """

    def content(varied: Varied) -> Floats:
        moved = events._replace(weight=varied.weight)
        return Templates.of(varied.scores[classifier], moved, nominal.edges).content

    up = content(shape.up)
    down = 2 * nominal.content - up if shape.down is None else content(shape.down)
    return ShapeTemplates(shape.name, shape.processes, up, down)


def workspace(
    channel: str,
    templates: Templates,
    signal: Collection[str],
    variations: Sequence[Normalisation | ShapeTemplates],
    most: float,
) -> Workspace:
    """Build a workspace: one channel, a sample a process, the background alone as observed data.

    Signal samples carry the strength `mu`; background samples the statistical errors of the
    simulation, one parameter a bin for all of them together (`staterror`); every sample what moves
    it: factors as `normsys`, shapes as a `normsys` of the total and a `histosys` of the rest, both
    with the same parameter. K. Cranmer et al., HistFactory, CERN-OPEN-2012-016.

    The statistical error of the simulated signal is no parameter: it is that of the limit itself.
    Contents below zero, of weights of both signs or of a variation, are set to a millionth of the
    background in the bin, those of the signal to 0.

    Parameters
    ----------
    templates
        With some background in each bin.
    signal
        Names of the signal processes; other processes of signal are left out.
    most
        Upper bound of `mu`, for whoever fits it.
    """
    staterror = f"staterror_{channel}"
    for variation in variations:
        if variation.name in {POI, staterror}:
            raise CardError(
                f"evaluation.systematics.{variation.name}: another parameter of the workspace has "
                "this name; give another"
            )
    clipped: list[str] = []

    def kept_above(least: Floats, content: Floats, what: str) -> Floats:
        if number := int((content < 0).sum()):
            bins = "1 bin holds" if number == 1 else f"{number} bins hold"
            clipped.append(f"{bins} less than nothing of {what}: set to next to nothing.")
        return np.maximum(content, least)

    samples = []
    observed = np.zeros_like(templates.background)
    for i, process in enumerate(templates.processes):
        is_signal = process.name in signal
        # A process without a simulated event has no shape, and another signal is no background.
        if not templates.counts[i].any() or not (is_signal or templates.is_background[i]):
            continue
        least = np.zeros_like(observed) if is_signal else _SMALL * templates.background
        nominal = kept_above(least, templates.content[i], process.name)
        if is_signal:
            modifiers = [_modifier(POI, "normfactor", None)]
        else:
            observed += nominal
            modifiers = [_modifier(staterror, "staterror", np.sqrt(templates.variance[i]).tolist())]
        for moves in variations:
            if process.name not in moves.processes:
                continue
            if isinstance(moves, Normalisation):
                modifiers.append(_modifier(moves.name, "normsys", _factors(moves.up, moves.down)))
            elif (total := nominal.sum()) > 0:
                up = kept_above(least, moves.up[i], f"{process.name} with {moves.name} up")
                down = kept_above(least, moves.down[i], f"{process.name} with {moves.name} down")
                # The total moves as a factor, which stays above zero; what is left of it moves the bins.
                factors = _factors(up.sum() / total, down.sum() / total)
                rest = {
                    "hi_data": (up / factors["hi"]).tolist(),
                    "lo_data": (down / factors["lo"]).tolist(),
                }
                modifiers.append(_modifier(moves.name, "normsys", factors))
                modifiers.append(_modifier(moves.name, "histosys", rest))
        samples.append({"name": process.name, "data": nominal.tolist(), "modifiers": modifiers})

    strength = {"name": POI, "inits": [1.0], "bounds": [[0.0, most]]}
    content = {
        "channels": [{"name": channel, "samples": samples}],
        "observations": [{"name": channel, "data": observed.tolist()}],
        "measurements": [
            {"name": "background only", "config": {"poi": POI, "parameters": [strength]}}
        ],
        "version": "1.0.0",
    }
    return Workspace(content, tuple(clipped))


def _modifier(name: str, kind: str, data: object) -> dict[str, Any]:
    return {"name": name, "type": kind, "data": data}


def _factors(up: float, down: float) -> dict[str, float]:
    return {"hi": max(float(up), _LEAST_FACTOR), "lo": max(float(down), _LEAST_FACTOR)}
