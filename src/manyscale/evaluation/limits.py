"""Expected limits and significance of a classifier's scores."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from manyscale.data.schema import Process
from manyscale.errors import CardError, DataError
from manyscale.evaluation.binning import best_edges
from manyscale.evaluation.likelihood import expected
from manyscale.evaluation.limit_settings import LimitSettings
from manyscale.evaluation.templates import Templates, check_background
from manyscale.evaluation.variations import Normalisation, Shape
from manyscale.evaluation.workspace import ShapeTemplates, Workspace, shape_templates, workspace
from manyscale.evaluation.yields import ScaledEvents
from manyscale.statistics.exclusion import Expected, statistics_only
from manyscale.statistics.sample import Floats

__all__ = [
    "ClassifierTemplates",
    "Hypothesis",
    "HypothesisLimits",
    "fill_templates",
    "hypotheses",
    "hypothesis_limits",
]

_FB_PER_PB = 1000.0
_REPLICAS = 20
# Where fewer background events are expected in a bin, asymptotic formulae are in doubt.
_FEW_EXPECTED = 5.0
# From this part of the signal on all of it is in the bins; weights are sums of rounded numbers.
_WHOLE = 1 - 1e-6


@dataclass(frozen=True)
class Hypothesis:
    """A signal to be excluded or found.

    Attributes
    ----------
    processes
        Names of the processes that make it, scaled together by its signal strength.
    mass
        In GeV; None where the card gives none.
    cross_section
        In fb: cross section x k-factor x filter efficiency, summed over the processes.
    """

    processes: tuple[str, ...]
    mass: float | None
    cross_section: float

    @property
    def name(self) -> str:
        """The names of its processes."""
        return " + ".join(self.processes)


@dataclass(frozen=True)
class ClassifierTemplates:
    """A classifier's scores in bins, as they are and under each systematic.

    Attributes
    ----------
    classifier
        `network` or `trees`.
    nominal
        As they are.
    variations
        Systematics.
    replicas
        The same bins filled with other events that might have been simulated.
    notices
        Sentences on what may not be trusted.
    """

    classifier: str
    nominal: Templates
    variations: tuple[Normalisation | ShapeTemplates, ...]
    replicas: tuple[Templates, ...]
    notices: tuple[str, ...]

    @property
    def background_error(self) -> Floats:
        """(bins,): error of the background, of the simulation and all systematics in quadrature."""
        nominal = self.nominal
        variance = nominal.background_variance.copy()
        for variation in self.variations:
            moved = nominal.is_background & np.array(
                [process.name in variation.processes for process in nominal.processes], bool
            )
            if isinstance(variation, Normalisation):
                half = nominal.content * (variation.up - variation.down) / 2
            else:
                half = (variation.up - variation.down) / 2
            variance += half[moved].sum(axis=0) ** 2
        return np.sqrt(variance)


@dataclass(frozen=True)
class HypothesisLimits:
    """What is expected of one signal hypothesis.

    Attributes
    ----------
    complete, statistics
        With all systematics, and with the statistical errors of data and simulation alone.
    limit_error, significance_error
        Errors of `complete`'s median limit and significance from the number of simulated events.
    workspace
        In which `complete` was found.
    """

    hypothesis: Hypothesis
    complete: Expected
    statistics: Expected
    limit_error: float
    significance_error: float
    workspace: Workspace


def hypotheses(
    processes: Sequence[Process], masses: Mapping[str, float] | None
) -> tuple[Hypothesis, ...]:
    """The signal hypotheses of a dataset: all signal together, or each process by its mass.

    Parameters
    ----------
    masses
        Of the card, GeV by process; None: all signal processes are one hypothesis.

    Raises
    ------
    CardError
        Where a process of `masses` is no signal of the data, or a signal process has no mass there.
    DataError
        Where a signal process has no cross section.

    Examples
    --------
    >>> hh = Process(name="hh", label="signal", cross_section=0.002, k_factor=2)
    >>> hypotheses([hh], {"hh": 1000})
    (Hypothesis(processes=('hh',), mass=1000, cross_section=4.0),)
    """
    signal = {process.name: process for process in processes if process.label == "signal"}
    if masses is None:
        return (Hypothesis(tuple(signal), None, sum(map(_cross_section_fb, signal.values()))),)
    key, known = "evaluation.limits.masses", ", ".join(signal)
    for name in masses:
        if name not in signal:
            raise CardError(f"{key}: the data have no signal process '{name}'; they have {known}")
    if missing := [name for name in signal if name not in masses]:
        raise CardError(f"{key}: no mass is given of the signal {', '.join(missing)}")
    rising = sorted(masses.items(), key=lambda item: item[1])
    return tuple(
        Hypothesis((name,), mass, _cross_section_fb(signal[name])) for name, mass in rising
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

    Raises
    ------
    DataError
        Where the background is too little for one bin, or a bin of given edges has none.
    """
    edges = (
        best_edges(
            scores,
            events,
            [signal.processes for signal in signals],
            bins=settings.bins,
            floor=settings.floor,
        )
        if settings.edges is None
        else np.asarray(settings.edges)
    )
    nominal = Templates.of(scores, events, edges)
    check_background(nominal)
    return ClassifierTemplates(
        classifier,
        nominal,
        tuple(
            variation
            if isinstance(variation, Normalisation)
            else shape_templates(variation, classifier, events, nominal)
            for variation in variations
        ),
        tuple(_replicas(np.asarray(scores), events, edges, seed)),
        tuple(_doubts(classifier, nominal, events, settings)),
    )


def _replicas(
    scores: NDArray[np.floating], events: ScaledEvents, edges: Floats, seed: int
) -> Iterator[Templates]:
    generator = np.random.default_rng(seed)
    for _ in range(_REPLICAS):
        # So many events of the same weight, not one of so many times the weight: its square counts.
        drawn = np.repeat(np.arange(len(scores)), generator.poisson(1.0, len(scores)))
        again = events._replace(process=events.process[drawn], weight=events.weight[drawn])
        yield Templates.of(scores[drawn], again, edges)


def hypothesis_limits(templates: ClassifierTemplates, hypothesis: Hypothesis) -> HypothesisLimits:
    """Expected limits and significance of a signal hypothesis.

    The errors from the number of simulated events are the spread of the bootstrap replicas, of the
    statistical errors alone, taken relative; edges stay as they are.

    Raises
    ------
    DataError
        Where none of the signal is in the templates, too few simulated events are for an error, or
        a fit does not converge.
    MissingExtraError
        Where pyhf is not installed.
    """
    statistics = _without_systematics(templates.nominal, hypothesis)
    again = [_simulated_again(replica, hypothesis) for replica in templates.replicas]
    build = partial(
        workspace,
        templates.classifier,
        templates.nominal,
        hypothesis.processes,
        templates.variations,
    )
    # Bounds of the strength are for other fits; this one needs none, and tells how far they reach.
    complete = expected(build(np.inf).content, statistics.limits[0])
    # Well beyond the band of two standard deviations, and the nominal strength inside.
    space = build(max(10.0, 10 * complete.limits[2]))
    return HypothesisLimits(
        hypothesis,
        complete,
        statistics,
        complete.limits[0] * _relative_spread([found.limits[0] for found in again]),
        complete.significance * _relative_spread([found.significance for found in again]),
        space,
    )


def _simulated_again(replica: Templates, hypothesis: Hypothesis) -> Expected:
    of_signal = replica.signal(hypothesis.processes).sum() > 0
    of_background = replica.counts[replica.is_background].any()
    for some, what in ((of_signal, f"signal {hypothesis.name}"), (of_background, "background")):
        if not some:
            raise DataError(
                f"there are so few simulated events of the {what} in the templates that another "
                "simulation might have none: too few for a limit with an error; make more of them"
            )
    return _without_systematics(replica, hypothesis)


def _without_systematics(templates: Templates, hypothesis: Hypothesis) -> Expected:
    # A replica may have lost all background of a bin; the error of one event is left of it.
    background = np.maximum(templates.background, 0)
    error = np.sqrt(templates.background_variance)
    return statistics_only(templates.signal(hypothesis.processes), background, error)


def _relative_spread(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1) / np.mean(values))


def _doubts(
    classifier: str, nominal: Templates, events: ScaledEvents, settings: LimitSettings
) -> list[str]:
    """Sentences on why the limits may not be trusted as they stand."""
    doubts = []
    b, variance = nominal.background, nominal.background_variance
    if settings.edges is None:
        doubts.append(
            "the bins are chosen on the same events that fill them, which makes the expected limit "
            "a little too good."
        )
    if (scarce := b**2 < settings.floor * variance).any():
        doubts.append(
            f"{_bins(scarce)} fewer than {settings.floor:g} effective simulated background events; "
            "more of them are needed there."
        )
    if (few := b < _FEW_EXPECTED).any():
        doubts.append(
            f"{_bins(few)} fewer than {_FEW_EXPECTED:g} expected background events, where "
            "asymptotic formulae are in doubt."
        )
    kept = nominal.content[~nominal.is_background].sum() / events.weight[events.signal].sum()
    if kept < _WHOLE:
        doubts.append(f"the edges given leave out {1 - kept:.1%} of the signal.")
    return [f"{classifier}: {doubt}" for doubt in doubts]


def _bins(chosen: NDArray[np.bool_]) -> str:
    number = int(chosen.sum())
    return f"{number} of {len(chosen)} bins {'holds' if number == 1 else 'hold'}"


def _cross_section_fb(process: Process) -> float:
    if process.cross_section is None:
        raise DataError(
            f"no cross section is known of the signal '{process.name}': give its cross_section [pb]"
        )
    return process.cross_section * process.k_factor * process.filter_efficiency * _FB_PER_PB
