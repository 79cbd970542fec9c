"""Templates and systematics as a HistFactory workspace, in pyhf's JSON."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from manyscale.errors import CardError
from manyscale.evaluation.templates import Templates
from manyscale.evaluation.variations import Normalisation, Shape, Varied
from manyscale.evaluation.yields import ScaledEvents
from manyscale.statistics.sample import Floats

__all__ = ["POI", "ShapeTemplates", "Workspace", "shape_templates", "workspace"]

#: Parameter of interest: the signal's strength, in units of its cross section.
POI = "mu"

# What a bin of less than nothing is set to, as a part of the background there.
_SMALL = 1e-6
# A factor on a yield is not below this: HistFactory takes its logarithm.
_LEAST_FACTOR = 1e-2


@dataclass(frozen=True)
class ShapeTemplates:
    """The templates under a systematic.

    Attributes
    ----------
    name
        Of the nuisance parameter.
    processes
        Names of those that it moves.
    up, down
        (processes, bins): expected events at plus and minus one standard deviation.
    """

    name: str
    processes: tuple[str, ...]
    up: Floats
    down: Floats


@dataclass(frozen=True)
class Workspace:
    """A workspace, and what had to be changed for it.

    Attributes
    ----------
    content
        As JSON: `channels`, `observations`, `measurements`, `version`.
    notices
        Sentences.
    """

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
    channel
        Its name.
    templates
        With some background in each bin.
    signal
        Names of the signal processes; other processes of signal are left out.
    variations
        The systematics.
    most
        Upper bound of `mu`, for whoever fits it.

    Raises
    ------
    CardError
        Where a systematic has the name of the signal strength, or of the statistical errors.
    """
    _check_names(variations, channel)
    clipped: list[str] = []
    samples = []
    for place, process in enumerate(templates.processes):
        if not templates.counts[place].any():
            continue
        if process.name in signal:
            sample = _Sample(process.name, place, np.zeros_like(templates.background), clipped)
            first = _modifier(POI, "normfactor", None)
        elif process.label == "background":
            sample = _Sample(process.name, place, _SMALL * templates.background, clipped)
            error = np.sqrt(templates.variance[place]).tolist()
            first = _modifier(f"staterror_{channel}", "staterror", error)
        else:
            continue
        samples.append(sample.specification(templates.content[place], first, variations))
    observed = np.sum([sample["data"] for sample in samples if sample["name"] not in signal], 0)
    return Workspace(_specification(channel, samples, observed.tolist(), most), tuple(clipped))


@dataclass(frozen=True)
class _Sample:
    """One process of a channel.

    Attributes
    ----------
    place
        Of the process in the templates.
    least
        (bins,): what a bin holds at least.
    clipped
        Takes a sentence wherever a bin held less than nothing.
    """

    process: str
    place: int
    least: Floats
    clipped: list[str]

    def specification(
        self,
        content: Floats,
        first: dict[str, Any],
        variations: Sequence[Normalisation | ShapeTemplates],
    ) -> dict[str, Any]:
        nominal = self._kept_above(content, "")
        moved = [
            modifier
            for variation in variations
            if self.process in variation.processes
            for modifier in self._modifiers(variation, nominal)
        ]
        return {"name": self.process, "data": nominal.tolist(), "modifiers": [first, *moved]}

    def _modifiers(
        self, variation: Normalisation | ShapeTemplates, nominal: Floats
    ) -> list[dict[str, Any]]:
        name, total = variation.name, nominal.sum()
        if isinstance(variation, Normalisation):
            return [_modifier(name, "normsys", _factors(variation.up, variation.down))]
        if not total > 0:
            return []
        up = self._kept_above(variation.up[self.place], f" with {name} up")
        down = self._kept_above(variation.down[self.place], f" with {name} down")
        factors = _factors(up.sum() / total, down.sum() / total)
        shape = {
            "hi_data": (up / factors["hi"]).tolist(),
            "lo_data": (down / factors["lo"]).tolist(),
        }
        return [_modifier(name, "normsys", factors), _modifier(name, "histosys", shape)]

    def _kept_above(self, content: Floats, when: str) -> Floats:
        if number := int((content < 0).sum()):
            bins = "1 bin holds" if number == 1 else f"{number} bins hold"
            self.clipped.append(
                f"{bins} less than nothing of {self.process}{when}: set to next to nothing."
            )
        return np.maximum(content, self.least)


def _specification(
    channel: str, samples: list[dict[str, Any]], observed: list[float], most: float
) -> dict[str, Any]:
    parameter = {"name": POI, "inits": [1.0], "bounds": [[0.0, most]]}
    return {
        "channels": [{"name": channel, "samples": samples}],
        "observations": [{"name": channel, "data": observed}],
        "measurements": [
            {"name": "background only", "config": {"poi": POI, "parameters": [parameter]}}
        ],
        "version": "1.0.0",
    }


def _factors(up: float, down: float) -> dict[str, float]:
    return {"hi": max(float(up), _LEAST_FACTOR), "lo": max(float(down), _LEAST_FACTOR)}


def _modifier(name: str, kind: str, data: object) -> dict[str, Any]:
    return {"name": name, "type": kind, "data": data}


def _check_names(variations: Sequence[Normalisation | ShapeTemplates], channel: str) -> None:
    for variation in variations:
        if variation.name in {POI, f"staterror_{channel}"}:
            raise CardError(
                f"evaluation.systematics.{variation.name}: another parameter of the workspace has "
                "this name; give another"
            )
