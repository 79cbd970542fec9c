"""Expected limits and significance of a classifier's scores."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import field_validator

from manyscale.errors import CardError, DataError
from manyscale.evaluation.likelihood import expected
from manyscale.evaluation.results import SignalLimit
from manyscale.evaluation.systematics import Normalisation, Shape
from manyscale.evaluation.templates import Templates, best_edges, check_background
from manyscale.evaluation.workspace import ShapeTemplates, Workspace, shape_templates, workspace
from manyscale.evaluation.yields import ScaledEvents
from manyscale.schema import Process
from manyscale.settings import Settings, setting
from manyscale.statistics.exclusion import Expected, statistics_only
from manyscale.statistics.sample import Floats

__all__ = ["ClassifierTemplates", "Hypothesis", "LimitSettings", "fill_templates"]
__all__ += ["hypotheses", "hypothesis_limits"]

_FB_PER_PB = 1000.0
_REPLICAS = 20
# Where fewer background events are expected in a bin, asymptotic formulae are in doubt.
_FEW_EXPECTED = 5.0
# From this part of the signal on all of it is in the bins; weights are sums of rounded numbers.
_WHOLE = 1 - 1e-6


class LimitSettings(Settings):
    """How limits are set from the scores."""

    bins: int = setting(10, "bins of the score at most", ge=1, le=100)
    floor: float = setting(
        10.0, "effective simulated background events that a chosen bin holds at least", ge=1
    )
    edges: tuple[float, ...] | None = setting(
        None,
        "edges of the bins of the score, rising; null: chosen for the best limit",
        min_length=2,
    )
    masses: dict[str, float] | None = setting(
        None,
        "{process: mass}: each signal process is a hypothesis of its own; null: all signal is one",
        unit="GeV",
        min_length=1,
    )

    @field_validator("edges")
    @classmethod
    def _rising(cls, edges: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if edges is None:
            return None
        if edges[0] < 0 or edges[-1] > 1 or any(high <= low for low, high in pairwise(edges)):
            raise ValueError("edges of a score rise, and lie between 0 and 1")
        return edges


@dataclass(frozen=True)
class Hypothesis:
    """A signal to be excluded or found."""

    #: Names of the processes that make it, scaled together by its signal strength.
    processes: tuple[str, ...]
    #: In GeV; None where the card gives none.
    mass: float | None
    #: In fb: cross section x k-factor x filter efficiency, summed over the processes.
    cross_section: float

    @property
    def name(self) -> str:
        """The names of its processes."""
        return " + ".join(self.processes)


@dataclass(frozen=True)
class ClassifierTemplates:
    """A classifier's scores in bins, as they are and under each systematic."""

    #: `network`, `trees` or `combined`.
    classifier: str
    nominal: Templates
    #: (bins,) by name of the hypothesis: its expected events.
    signals: dict[str, Floats]
    #: The systematics.
    variations: tuple[Normalisation | ShapeTemplates, ...]
    #: The same bins filled with other events that might have been simulated.
    replicas: tuple[Templates, ...]
    #: Sentences on what may not be trusted.
    notices: tuple[str, ...]

    @property
    def background_error(self) -> Floats:
        """(bins,): error of the background, of the simulation and all systematics in quadrature."""
        nominal = self.nominal
        variance = nominal.background_variance.copy()
        for variation in self.variations:
            names = [process.name in variation.processes for process in nominal.processes]
            moved = nominal.is_background & np.array(names, bool)
            half = np.asarray((variation.up - variation.down) / 2)
            if isinstance(variation, Normalisation):
                half = nominal.content * half
            variance += half[moved].sum(axis=0) ** 2
        return np.sqrt(variance)


def hypotheses(
    processes: Sequence[Process], masses: Mapping[str, float] | None
) -> tuple[Hypothesis, ...]:
    """The signal hypotheses of a dataset: all signal together, or each process by its mass.

    Parameters
    ----------
    masses
        Of the card, GeV by process; None: all signal processes are one hypothesis.

    Examples
    --------
    >>> hh = Process(name="hh", label="signal", cross_section=0.002, k_factor=2)
    >>> hypotheses([hh], {"hh": 1000})
    (Hypothesis(processes=('hh',), mass=1000, cross_section=4.0),)
    """
    signal = {process.name: process for process in processes if process.label == "signal"}

    def cross_section_fb(process: Process) -> float:
        if process.cross_section is None:
            raise DataError(
                f"no cross section is known of the signal '{process.name}': give its "
                "cross_section [pb]"
            )
        return process.cross_section * process.k_factor * process.filter_efficiency * _FB_PER_PB

    if masses is None:
        return (Hypothesis(tuple(signal), None, sum(map(cross_section_fb, signal.values()))),)
    key, known = "evaluation.limits.masses", ", ".join(signal)
    for name in masses:
        if name not in signal:
            raise CardError(f"{key}: the data have no signal process '{name}'; they have {known}")
    if missing := [name for name in signal if name not in masses]:
        raise CardError(f"{key}: no mass is given of the signal {', '.join(missing)}")
    return tuple(
        Hypothesis((name,), masses[name], cross_section_fb(signal[name]))
        for name in sorted(masses, key=masses.__getitem__)
    )


def fill_templates(
    classifier: str,
    scores: ArrayLike,
    events: ScaledEvents,
    variations: Sequence[Normalisation | Shape],
    signals: Sequence[Hypothesis],
    *,
    settings: LimitSettings,
    seed: int,
) -> ClassifierTemplates:
    """Choose the bins of a classifier's score, and fill them.

    Parameters
    ----------
    classifier
        Its name in the scores of the variations.
    scores
        (events,): nominal.
    events
        Scaled to a luminosity.
    seed
        Of the bootstrap replicas: in each, every simulated event is there a Poisson number of times
        of mean one.
    """
    score = np.asarray(scores)
    edges = np.asarray(settings.edges)
    if settings.edges is None:
        names = [signal.processes for signal in signals]
        edges = best_edges(score, events, names, bins=settings.bins, floor=settings.floor)
    nominal = Templates.of(score, events, edges)
    check_background(nominal)
    generator = np.random.default_rng(seed)
    replicas = []
    for _ in range(_REPLICAS):
        # So many events of the same weight, not one of so many times the weight: its square counts.
        drawn = np.repeat(np.arange(len(score)), generator.poisson(1.0, len(score)))
        again = events._replace(process=events.process[drawn], weight=events.weight[drawn])
        replicas.append(Templates.of(score[drawn], again, edges))
    moved = tuple(
        one if isinstance(one, Normalisation) else shape_templates(one, classifier, events, nominal)
        for one in variations
    )
    expected_signals = {signal.name: nominal.signal(signal.processes) for signal in signals}
    doubts = tuple(f"{classifier}: {doubt}" for doubt in _doubts(nominal, events, settings))
    return ClassifierTemplates(
        classifier, nominal, expected_signals, moved, tuple(replicas), doubts
    )


def hypothesis_limits(
    templates: ClassifierTemplates, hypothesis: Hypothesis
) -> tuple[SignalLimit, Workspace]:
    """Expected limits and significance of a signal hypothesis, and the workspace they come from.

    The errors from the number of simulated events are the spread of the bootstrap replicas, of the
    statistical errors alone, taken relative; edges stay as they are.
    """

    def without_systematics(filled: Templates) -> Expected:
        # A replica may have lost all background of a bin; the error of one event is left of it.
        background = np.maximum(filled.background, 0)
        error = np.sqrt(filled.background_variance)
        return statistics_only(filled.signal(hypothesis.processes), background, error)

    statistics = without_systematics(templates.nominal)
    counted = without_systematics(templates.nominal.merged([0]))
    again = []
    for replica in templates.replicas:
        of_signal = replica.signal(hypothesis.processes).sum() > 0
        of_background = replica.counts[replica.is_background].any()
        for some, what in ((of_signal, f"signal {hypothesis.name}"), (of_background, "background")):
            if not some:
                raise DataError(
                    f"there are so few simulated events of the {what} in the templates that "
                    "another simulation might have none: too few for a limit with an error; make "
                    "more of them"
                )
        # Statistics alone have a closed form; twenty fits with systematics would take minutes.
        found = without_systematics(replica)
        again.append((found.limits[0], found.significance))
    limit_spread, significance_spread = np.std(again, axis=0, ddof=1) / np.mean(again, axis=0)

    def build(most: float) -> Workspace:
        signal, channel = hypothesis.processes, templates.classifier
        return workspace(channel, templates.nominal, signal, templates.variations, most)

    # Bounds of the strength are for other fits; this one needs none, and tells how far they reach.
    limits, significance = expected(build(np.inf).content, statistics.limits[0])
    file = f"workspace_{templates.classifier}"
    if hypothesis.mass is not None:
        file += f"_{re.sub(r'[^A-Za-z0-9_.-]', '_', hypothesis.name)}"
    row = SignalLimit(
        signal=hypothesis.name,
        mass=hypothesis.mass,
        cross_section_fb=hypothesis.cross_section,
        mu={str(band): mu for band, mu in limits.items()},
        mu_error=limits[0] * float(limit_spread),
        limit_fb={str(band): mu * hypothesis.cross_section for band, mu in limits.items()},
        significance=significance,
        significance_error=significance * float(significance_spread),
        significance_statistics_only=statistics.significance,
        mu_statistics_only=statistics.limits[0],
        mu_without_score=counted.limits[0],
        workspace=f"{file}.json",
    )
    # Well beyond the band of two standard deviations, and the nominal strength inside.
    return row, build(max(10.0, 10 * limits[2]))


def _doubts(nominal: Templates, events: ScaledEvents, settings: LimitSettings) -> list[str]:
    """Sentences on why the limits may not be trusted as they stand."""

    def bins(chosen: NDArray[np.bool_]) -> str:
        number = int(chosen.sum())
        return f"{number} of {len(chosen)} bins {'holds' if number == 1 else 'hold'}"

    doubts = []
    b, variance = nominal.background, nominal.background_variance
    if settings.edges is None:
        doubts.append(
            "the bins are chosen on the same events that fill them, which makes the expected limit "
            "a little too good."
        )
    if (scarce := b**2 < settings.floor * variance).any():
        doubts.append(
            f"{bins(scarce)} fewer than {settings.floor:g} effective simulated background events; "
            "more of them are needed there."
        )
    if (few := b < _FEW_EXPECTED).any():
        doubts.append(
            f"{bins(few)} fewer than {_FEW_EXPECTED:g} expected background events, where "
            "asymptotic formulae are in doubt."
        )
    kept = nominal.content[~nominal.is_background].sum() / events.weight[events.signal].sum()
    if kept < _WHOLE:
        doubts.append(f"the edges given leave out {1 - kept:.1%} of the signal.")
    return doubts
