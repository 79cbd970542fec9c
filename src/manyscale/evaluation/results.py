"""What a run's JSON files of results hold: the one schema of each number.

Evaluation and explanation make these records, report, console and docs read them. Errors called
"statistical" come from the number of simulated events; intervals are of 68.3%.
"""

import csv
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from pydantic import Field, FiniteFloat, model_validator

from manyscale.data.balance import ClassMix
from manyscale.errors import RunError
from manyscale.evaluation.combination import Combination
from manyscale.schema import Label, Process
from manyscale.settings import Known, Record, read_text

# ---- history.csv ------------------------------------------------------------------------------


def read_history(path: Path) -> tuple[Mapping[str, float], ...]:
    """Read the rows of history.csv, one an epoch; what a row leaves empty is NaN.

    Raises
    ------
    RunError
        Where the file is missing or holds something other than numbers.
    """
    rows = csv.DictReader(read_text(path).splitlines())
    try:
        return tuple(
            {key: float(value) if value else math.nan for key, value in row.items()} for row in rows
        )
    except (ValueError, TypeError, csv.Error) as error:
        raise RunError(f"{path}, line {rows.line_num}: not a row of numbers ({error})") from error


# ---- of which events, and when ----------------------------------------------------------------


class Stamp(Record):
    """Of which test events a part of a run was made, and when."""

    # A dataset given by --data; empty: the run's own test part.
    data: str = ""
    events: int
    # A checksum of the ids of these events, and of what is stated of their processes.
    identity: str
    luminosity: Known = None  # in fb^-1; None where it does not matter
    made: str  # UTC, in ISO 8601


# ---- metrics.json -----------------------------------------------------------------------------


class Rejection(Record):
    """Background rejection at one signal efficiency; `value` None where only a limit is known."""

    value: float | None
    low: float
    high: float | None
    spread: Known = None  # over several trainings


class Figures(Record):
    """One classifier's figures of merit on the test events, on class-balanced weights."""

    weights: str = "class-balanced"
    auc: float
    auc_error: Known = None
    accuracy: float | None = None
    loss: float | None = None
    n_events: int | None = None
    n_effective: float | None = None
    background_rejection: dict[str, Rejection] = Field(default_factory=dict)


class AucDifference(Record):
    """AUC of one classifier minus that of another on the same events, and its paired error."""

    auc: float
    auc_error: Known = None


class Yield(Record):
    """Expected events, their statistical error, and the simulated events that stand for them."""

    label: str = ""
    expected: float
    error: float
    n_events: int
    n_effective: float


class Yields(Record):
    """Expected events at a luminosity in fb^-1, without a cut."""

    weights: str = "physical"
    luminosity: float
    # In pb: those stated for this evaluation in place of those of the data.
    cross_sections: dict[str, float] = Field(default_factory=dict)
    processes: dict[str, Yield] = Field(default_factory=dict)
    signal: Yield
    background: Yield
    notice: str = ""


class Cut(Record):
    """Events of score `cut` or above: what is kept, and its Asimov significance."""

    cut: float
    signal_efficiency: float
    signal: float
    signal_error: float
    background: float
    background_error: float
    background_n_effective: float
    # Of a background known exactly, and known to its statistical error; None: too little is left.
    value: float | None = None
    value_with_mc_error: float | None = None


class BestCut(Cut):
    """The cut of the highest significance, process by process."""

    # Of `value`, from the number of simulated events; where a systematic is included.
    value_error: float | None = None
    # What is left above the cut; of no simulated event, the error is that of one.
    processes: dict[str, Yield] = Field(default_factory=dict)


class CutWithSystematic(Record):
    """The best cut where the background is uncertain by a fraction of itself."""

    background: float
    best: BestCut | None


class Significance(Record):
    """Significance along the cut; `best` None where no cut leaves enough simulated background."""

    weights: str = "physical"
    least_background_events: float = 10
    best: BestCut | None = None
    systematics: tuple[CutWithSystematic, ...] = ()
    notice: str = ""
    scan: tuple[Cut, ...] = ()


class TreeFigures(Figures):
    """The trees' part of metrics.json."""

    network_minus_trees: AucDifference | None = None
    significance: Significance | None = None


class CombinedFigures(Figures):
    """The part of metrics.json of network and trees combined."""

    combination: Combination | None = None
    combined_minus_network: AucDifference | None = None
    combined_minus_trees: AucDifference | None = None
    significance: Significance | None = None


class SculptedCut(Record):
    """How far a cut on the score sculpts the background's masses."""

    # Share of the background that the cut should keep, and the one that it keeps.
    background_efficiency: float
    cut: float | None = None
    kept: Known = None
    n_effective: Known = None
    # Jensen-Shannon divergence in bits of the masses of the events that pass from those of the
    # others: 0 equal, 1 apart; and its bootstrap error.
    divergence: Known = None
    error: Known = None
    # Mean and standard deviation of what a cut at random gives.
    by_chance: Known = None
    by_chance_spread: Known = None


class Sculpting(Record):
    """The masses of the background events that pass, compared with those of the others."""

    weights: str = "class-balanced"
    observable: str
    n_events: int | None = None
    network: tuple[SculptedCut, ...] = ()
    trees: tuple[SculptedCut, ...] = ()
    combined: tuple[SculptedCut, ...] = ()


class Metrics(Figures):
    """The whole of metrics.json: the network's figures, those of trees and of both beside them."""

    stamp: Stamp | None = None
    # Of the training: the median over the epochs.
    events_per_second: float | None = None
    parameters: int | None = None
    trees: TreeFigures | None = None
    # Of this and what follows: where there is none, a sentence in its place says why.
    combined: CombinedFigures | None = None
    combined_missing: str = ""
    sculpting: Sculpting | None = None
    sculpting_missing: str = ""
    yields: Yields | None = None
    yields_missing: str = ""
    significance: Significance | None = None

    @property
    def classifiers(self) -> dict[str, "Metrics | TreeFigures | CombinedFigures"]:
        """The figures of each classifier that there is, the network first."""
        found = {"network": self, "trees": self.trees, "combined": self.combined}
        return {name: figures for name, figures in found.items() if figures is not None}

    @property
    def differences(self) -> list[tuple[str, str, AucDifference]]:
        """Two classifiers, and the AUC of the first minus that of the second, of all that are known."""
        both = self.combined
        pairs = [
            ("network", "trees", self.trees.network_minus_trees if self.trees else None),
            ("combined", "network", both.combined_minus_network if both else None),
            ("combined", "trees", both.combined_minus_trees if both else None),
        ]
        return [(one, other, known) for one, other, known in pairs if known]


# ---- comparison.json --------------------------------------------------------------------------


class ComparisonRow(Record):
    """One classifier of several on the same test events; over several trainings the means."""

    name: str
    stamp: Stamp | None = None
    # Events that it was trained on at most; None: all of the training part.
    size: int | None = None
    trainings: int = 1
    auc: float
    auc_error: Known = None
    auc_spread: Known = None  # over several trainings
    background_rejection: dict[str, Rejection] = Field(default_factory=dict)
    # Of the network, and of its training; None where they mean nothing.
    parameters: int | None = None
    events_per_second: float | None = None
    seconds: float | None = None
    # AUC of this one minus that of `difference_to`, its rejection over that one's, paired.
    difference_to: str = ""
    difference: float | None = None
    difference_error: Known = None
    rejection_ratio: dict[str, Rejection] = Field(default_factory=dict)


# ---- learning.json ----------------------------------------------------------------------------


class LearningPoint(Record):
    """A figure after training on so many events."""

    events: int
    value: float
    error: Known = None


class PowerLaw(Record):
    """a + b n^-c, fitted; `a_error` None: a is 0, as too few sizes were run to tell."""

    a: float
    b: float
    c: float
    a_error: Known = None
    b_error: Known = None
    c_error: Known = None


class LearningCurve(Record):
    """A figure of one classifier against the number n of its training events."""

    name: str
    figure: str  # "1 - AUC", or "background efficiency at 0.70": one over the rejection
    points: tuple[LearningPoint, ...]
    law: PowerLaw | None = None
    notice: str = ""  # why there is no law
    # Events by which the figure falls to `target`; None: not reached, or not within the error.
    target: float | None = None
    needed: Known = None
    needed_low: Known = None
    needed_high: Known = None


# ---- limits/limits.json -----------------------------------------------------------------------


class SignalLimit(Record):
    """What is expected of one signal hypothesis from one classifier's score."""

    # Its processes, its mass [GeV] where it has one, and the cross section that the data state.
    signal: str
    mass: float | None = None
    cross_section_fb: float | None = None
    # Expected upper limit on the signal strength, and on the cross section [fb], by band: "-2", ...,
    # "2" standard deviations, "0" the median; the error is that of the median.
    mu: dict[str, Known] = Field(default_factory=dict)
    mu_error: Known = None
    limit_fb: dict[str, Known] = Field(default_factory=dict)
    significance: Known = None
    significance_error: Known = None
    # Without systematic uncertainties.
    significance_statistics_only: Known = None
    mu_statistics_only: Known = None
    # The same where all events are counted in one bin.
    mu_without_score: Known = None
    workspace: str = ""  # its file name

    @property
    def ignores_score(self) -> bool:
        """Whether the bins of the score give no better a limit, by a hundredth, than one bin."""
        binned, counted = self.mu_statistics_only, self.mu_without_score
        return binned is not None and counted is not None and counted < 1.01 * binned


class LimitTemplate(Record):
    """Expected events of a process in bins of the score, their errors and effective numbers."""

    process: str
    label: str
    content: tuple[float, ...]
    error: tuple[float, ...]
    n_effective: tuple[float, ...]


class ClassifierLimits(Record):
    """Templates of one classifier's score, and the limits from them."""

    edges: tuple[float, ...] = ()
    hypotheses: tuple[SignalLimit, ...] = ()
    background_error: tuple[float, ...] = ()
    templates: tuple[LimitTemplate, ...] = ()


class YieldChange(Record):
    """Relative change of a yield at plus and minus one standard deviation; None: no yield."""

    up: Known
    down: Known


class SystematicEffects(Record):
    """What each systematic (its name, then the process) changes above a cut on the network's score."""

    cut: float
    changes: dict[str, dict[str, YieldChange]] = Field(default_factory=dict)


class Counting(Record):
    """Counting above the best cut: significance by the asymptotic formula and by the exact sum."""

    signal_process: str
    cut: float | None  # None: no cut leaves enough simulated background
    signal: float | None = None
    background: float | None = None
    background_error: float | None = None
    asymptotic: Known = None
    # By the exact sum over the counts, with the background's error and without.
    exact: Known = None
    background_known: Known = None
    trust: str = ""  # "asymptotic" or "exact"


class Limits(Record):
    """The whole of limits.json."""

    stamp: Stamp | None = None
    weights: str = "physical"
    luminosity: float
    confidence: float = 0.95
    classifiers: dict[str, ClassifierLimits] = Field(default_factory=dict)
    systematics: tuple[str, ...] = ()
    effects: SystematicEffects | None = None
    counting: dict[str, tuple[Counting, ...]] = Field(default_factory=dict)
    notices: tuple[str, ...] = ()

    @property
    def rows(self) -> list[tuple[str, SignalLimit]]:
        """Classifier and hypothesis, the network first."""
        return [
            (name, hypothesis)
            for name, classifier in self.classifiers.items()
            for hypothesis in classifier.hypotheses
        ]


# ---- data.json, plots/separation.json ---------------------------------------------------------


class DataFacts(Record):
    """data.json: processes and their mix, events of each class in each split, what was odd."""

    processes: tuple[Process, ...] = ()
    splits: dict[str, dict[str, int]] = Field(default_factory=dict)
    mix: dict[Label, ClassMix] = Field(default_factory=dict)
    dropped_tokens: dict[str, float] = Field(default_factory=dict)
    notices: tuple[str, ...] = ()


class Separation(Record):
    """How far an input alone tells the classes apart: <S^2>, 0 not at all, 1 wholly."""

    stream: str
    feature: str
    separation: float


# ---- explanation/*.json -----------------------------------------------------------------------


class StreamLoss(Record):
    """What is lost when a stream is permuted between the events: AUC; rejection over what is left."""

    stream: str
    auc_loss: Known = None
    auc_loss_error: Known = None
    rejection_factor: Known = None
    rejection_low: Known = None
    rejection_high: Known = None


class StreamImportance(StreamLoss):
    """Attention and importance of a stream beside what is lost without it."""

    # Part of the last fusion block's attention that its tokens are given; None: nothing attends.
    attention: Known = None
    importance: Known = None  # part of Grad-CAM


class Explanation(Record):
    """summary.json: from which events, how long each study took, and a row a stream."""

    stamp: Stamp | None = None
    events: dict[str, int] = Field(default_factory=dict)
    deep_events: dict[str, int] = Field(default_factory=dict)
    displayed: int = 0
    weights: str = "class-balanced"
    seconds: dict[str, float] = Field(default_factory=dict)
    notices: tuple[str, ...] = ()
    streams: tuple[StreamImportance, ...] = ()


class FeatureAttribution(Record):
    """What one feature of one stream does to the events of one class, in logits."""

    stream: str
    feature: str
    label: str
    # Mean over the events of the sum over their tokens (positive: towards signal), and of its
    # absolute value.
    signed: Known
    signed_error: Known
    absolute: Known
    absolute_error: Known


class IntegratedGradients(Record):
    """integrated_gradients.json."""

    completeness: dict[str, float] = Field(default_factory=dict)
    features: tuple[FeatureAttribution, ...] = ()


class PermutationLoss(StreamLoss):
    """The same of a whole stream, or of a group of its features (`group`)."""

    group: str | None
    features: tuple[str, ...]


class PermutationImportance(Record):
    """Permutation importance of all streams and feature groups."""

    auc: float
    auc_error: Known
    # Where the rejection is taken, and what it is there; None: too little background is left.
    signal_efficiency: float | None
    rejection: Known
    repeats: int  # how often each was permuted
    streams: tuple[PermutationLoss, ...]
    groups: tuple[PermutationLoss, ...]


class DeletionCurvePoint(Record):
    """What deleting a share of the tokens does; a point of a curve."""

    # The ranking, and the share of each stream's tokens of an event that it deletes first.
    by: str
    fraction: float
    # Mean over the correctly classified events of how far the logit difference moves away from
    # their class; and the same minus what deleting at random does, event by event.
    drop: Known
    drop_error: Known
    over_random: Known
    over_random_error: Known
    # AUC minus AUC after the deletion, of all events, paired.
    auc_loss: Known
    auc_loss_error: Known


class Excess(Record):
    """How much more deleting by a ranking hurts than deleting at random, in logits."""

    value: Known
    error: Known = None
    passes: bool


class Deletion(Record):
    """deletion.json: `events` classified correctly, the curves, and the excess over random."""

    events: int
    streams: tuple[str, ...] = ()
    excess: dict[str, Excess] = Field(default_factory=dict)
    points: tuple[DeletionCurvePoint, ...] = ()


class Correlation(Record):
    """Rank correlation with the trained network's explanation, weights down to one re-drawn."""

    redrawn: str
    correlation: Known
    error: Known = None


class Randomisation(Record):
    """randomisation.json."""

    passes: bool
    points: tuple[Correlation, ...] = ()


class LayerPair(Record):
    """A row of similarity.json: CKA of two layers, and what chance gives."""

    first: str
    second: str
    cka: Known
    chance: Known


class DisplayTokens(Record):
    """The tokens of one stream of an event, column by column.

    `attention` and `importance` are None where they have no meaning.
    """

    eta: tuple[FiniteFloat, ...]
    phi: tuple[FiniteFloat, ...]
    pt: tuple[FiniteFloat, ...]
    attention: tuple[Known, ...] | None = None
    importance: tuple[Known, ...] | None = None
    kind: tuple[str, ...]

    @model_validator(mode="after")
    def _of_one_length(self) -> Self:
        columns = (self.phi, self.pt, self.kind, self.attention, self.importance)
        if any(column is not None and len(column) != len(self.eta) for column in columns):
            raise ValueError("its columns must have a value a token")
        return self


class DisplayedEvent(Record):
    """One event, why it was chosen, and its tokens by stream."""

    event_id: str
    label: str
    process: str
    score: float
    why: str
    # Masses, b-tags and what else is known of the event.
    observables: dict[str, Known] = Field(default_factory=dict)
    streams: dict[str, DisplayTokens]


class DisplayStream(Record):
    """A stream, the frame of its eta and phi, and whose attention its tokens are given."""

    name: str
    frame: str
    attention: str | None = None


class EventDisplay(Record):
    """display.json: chosen events, token by token."""

    events: tuple[DisplayedEvent, ...] = ()
    streams: tuple[DisplayStream, ...] = ()
    radius: Known = None  # of the jets
