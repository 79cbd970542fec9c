"""What a run found, in sentences made from its numbers, and what each plot shows.

No more is said than is known: a difference within its error is called none.
"""

import re
from collections.abc import Iterable, Sequence

from manyscale.evaluation.results import (
    ComparisonRow,
    Deletion,
    Explanation,
    Limits,
    Metrics,
    Randomisation,
    Separation,
    Significance,
)
from manyscale.reporting.formatting import quantity, short, sigmas, signed, value

__all__ = [
    "COMPARISON_PLOT",
    "LEARNING_PLOT",
    "SECTIONS",
    "caption_of",
    "check_sentences",
    "combination_sentence",
    "compare",
    "comparison_sentences",
    "headlines",
    "importance_sentence",
    "in_order",
    "limit_sentences",
    "section_of",
    "significance_sentences",
    "suspicion",
    "tiles",
]

# A difference of fewer standard deviations than this is not called one.
_CLEAR = 2.0
# The systematic uncertainty of the background that the sentences tell of; the table has the others.
_USUAL = 0.10
_MOST_LIMITS = 3
_NAMES = {
    "network": "the network",
    "trees": "the trees",
    "combined": "network and trees combined",
}


# An AUC that is 1 at four digits, and a separation of an input alone that leaves no overlap.
_PERFECT = 0.99995
_APART = 0.99


def compare(row: ComparisonRow) -> str:
    """Say in a sentence what the paired difference of two classifiers shows.

    Examples
    --------
    >>> print(compare(ComparisonRow(name="trees", auc=0.97, difference_to="model-2",
    ...     difference=-0.004, difference_error=0.001)))
    On the same test events the AUC of trees is lower than that of model-2 by 0.0040 ± 0.0010, 4.0 standard deviations.
    """
    if row.difference is None or not row.difference_error:
        return ""
    deviations = abs(row.difference) / row.difference_error
    size = value(abs(row.difference), row.difference_error)
    if deviations < _CLEAR:
        return (
            f"On the same test events the AUC of {row.name} and that of {row.difference_to} differ "
            f"by {size}: this sample cannot tell which is better."
        )
    side = "higher" if row.difference > 0 else "lower"
    return (
        f"On the same test events the AUC of {row.name} is {side} than that of "
        f"{row.difference_to} by {size}, {deviations:.1f} standard deviations."
    )


def comparison_sentences(metrics: Metrics, comparison: Sequence[ComparisonRow]) -> list[str]:
    """The paired differences of all that were compared, else of network, trees and both combined."""
    rows = list(comparison)
    if not rows:
        rows = [
            ComparisonRow(
                name=_NAMES[one],
                auc=metrics.classifiers[one].auc,
                difference_to=_NAMES[other],
                difference=paired.auc,
                difference_error=paired.auc_error,
            )
            for one, other, paired in metrics.differences
        ]
    return [sentence for row in rows if (sentence := compare(row))]


def suspicion(metrics: Metrics, ranking: Sequence[Separation] = ()) -> str:
    """Why the figures are too good to be true; empty where they are not.

    Parameters
    ----------
    ranking
        Of the inputs, each alone; without it, the classifiers are looked at.
    """
    alone = [f"{row.feature} of {row.stream}" for row in ranking if row.separation > _APART]
    perfect = [_NAMES[n] for n, figures in metrics.classifiers.items() if figures.auc > _PERFECT]
    found = []
    if alone:
        found.append(f"{', '.join(alone)} alone tells the classes apart")
    if perfect:
        found.append(f"the AUC of {', '.join(perfect)} is 1 within rounding")
    if not found:
        return ""
    said = "; ".join(found)
    return (
        f"Too good to be true: {said}. See whether both classes have the same units and the same "
        f"selection, and whether an input is the label in disguise."
    )


def combination_sentence(metrics: Metrics) -> str:
    """What the combined score is made of, or why there is none."""
    found = metrics.combined and metrics.combined.combination
    if not found:
        return metrics.combined_missing
    sign = "−" if found.intercept < 0 else "+"
    odd = f" But {found.notice}." if found.notice else ""
    return (
        f"Combined: its logit is {short(found.network)} × that of the network + {short(found.trees)} × "
        f"that of the trees {sign} {short(abs(found.intercept))}, by logistic regression on "
        f"{found.n_events:,} validation events.{odd}"
    )


def significance_sentences(metrics: Metrics) -> list[str]:
    """What counting the events above the best cut promises; empty where no yields are known.

    The error of the background from the number of simulated events is in each number.
    """
    if metrics.significance is None or metrics.yields is None:
        return []
    return [
        _significance(_NAMES[name], figures.significance, metrics.yields.luminosity)
        for name, figures in metrics.classifiers.items()
        if figures.significance
    ]


def _significance(who: str, found: Significance, luminosity: float) -> str:
    if found.best is None:
        return (
            f"No significance of {who}: no cut leaves {found.least_background_events:g} effective "
            f"background events, too few to know the background by."
        )
    of_background = {row.background: row.best for row in found.systematics if row.best}
    promised = sigmas(found.best.value_with_mc_error)
    if plain := of_background.get(0.0):
        promised = sigmas(plain.value, plain.value_error)
    if worse := of_background.get(_USUAL):
        promised += (
            f", and {sigmas(worse.value, worse.value_error)} where the background is uncertain by "
            f"{_USUAL:.0%}"
        )
    return (
        f"At {luminosity:,g} fb⁻¹, counting the events above the best cut on the score of {who} "
        f"promises {promised}."
    )


def limit_sentences(limits: Limits | None) -> list[str]:
    """The expected limit on every signal from the score of every classifier."""
    if limits is None:
        return []
    sentences = []
    for classifier, row in limits.rows:
        who = _NAMES.get(classifier, classifier)
        signal = row.signal if row.mass is None else f"{row.signal} at {row.mass:,g} GeV"
        median, low, high = (row.mu.get(band) for band in ("0", "-1", "1"))
        if median is None:
            sentences.append(f"No limit on {signal} from the score of {who}.")
            continue
        notes = []
        if low is not None and high is not None:
            notes.append(f"68%: {short(low)} to {short(high)}")
        if row.limit_fb.get("0") is not None:
            notes.append(f"{short(row.limit_fb['0'])} fb")
        sentences.append(
            f"Were there no signal, the score of {who} would be expected to exclude {signal} at "
            f"{limits.confidence:.0%} confidence from {quantity(median, row.mu_error)} times its "
            f"cross section on" + (f" ({'; '.join(notes)})." if notes else ".")
        )
    return sentences


def importance_sentence(explanation: Explanation | None) -> str:
    """Which stream the network needs most; nothing of a single one."""
    streams = [
        row for row in (explanation.streams if explanation else ()) if row.auc_loss is not None
    ]
    if len(streams) < 2:
        return ""
    most = max(streams, key=lambda row: row.auc_loss or 0.0)
    lost = value(most.auc_loss, most.auc_loss_error)
    if (most.auc_loss or 0.0) <= _CLEAR * (most.auc_loss_error or 0.0):
        return (
            f"No stream is clearly needed: what is lost when one is permuted between the events is "
            f"{lost} of AUC at most."
        )
    return (
        f"Of the streams the network needs {most.stream} most: permuted between the events, it costs "
        f"{lost} of AUC."
    )


def check_sentences(randomisation: Randomisation | None, deletion: Deletion | None) -> list[str]:
    """Whether the explanations passed their sanity checks; nothing of a check that was not done."""
    sentences = []
    last = randomisation.points[-1] if randomisation and randomisation.points else None
    if randomisation and last and last.correlation is not None:
        # A check fails, too, where the error is too large to tell.
        outcome, says = (
            ("passed", "depends") if randomisation.passes else ("failed", "is not shown to depend")
        )
        sentences.append(
            f"Sanity check {outcome}: with all weights re-drawn, the importance of the tokens keeps "
            f"a rank correlation of {signed(last.correlation, last.error)} with that of the trained "
            f"network; it {says} on what was learned."
        )
    rankings = "; ".join(
        f"{by} {signed(excess.value, excess.error)} ({'passed' if excess.passes else 'failed'})"
        for by, excess in (deletion.excess.items() if deletion else ())
        if excess.value is not None
    )
    if rankings:
        sentences.append(
            "Sanity check by deletion, by how many logits it hurts more to delete the tokens that a "
            f"ranking puts first than as many at random: {rankings}."
        )
    return sentences


def headlines(
    metrics: Metrics,
    comparison: Sequence[ComparisonRow],
    limits: Limits | None,
    explanation: Explanation | None,
) -> list[str]:
    """What the run shows: paired differences, significance, limits, what the network needs."""
    found = [
        *comparison_sentences(metrics, comparison),
        *significance_sentences(metrics),
        *limit_sentences(limits)[:_MOST_LIMITS],
        importance_sentence(explanation),
    ]
    return [sentence for sentence in found if sentence]


def tiles(metrics: Metrics, limits: Limits | None) -> list[tuple[str, str]]:
    """Numbers to stand large at the top, and what they are."""
    found = []
    significance, yields = metrics.significance, metrics.yields
    if significance and significance.best and yields:
        number = sigmas(significance.best.value_with_mc_error)
        found.append((number, f"expected at {yields.luminosity:,g} fb⁻¹, best cut"))
    if limits and limits.rows:
        _, row = limits.rows[0]
        median = row.mu.get("0")
        what = f"expected limit on the strength of {row.signal}"
        found.append(("none" if median is None else f"μ < {short(median)}", what))
    return found


# ---- captions ---------------------------------------------------------------------------------

#: Name of the plot that belongs to the table of several classifiers.
COMPARISON_PLOT = "comparison_roc"
#: Name of the plot of learning curves.
LEARNING_PLOT = "comparison_learning"
#: Ids of the sections of the report that have plots.
SECTIONS = ("figures", "significance", "limits", "explanations", "comparison", "plots")

# Plots whose names begin like this, their section and caption; {rest} is what follows. In the order in
# which they stand; a whole name is a beginning, too, so the longer one comes first.
_CAPTIONS = """
roc (figures): Background rejection against signal efficiency on the test events, class-balanced
    weights. A rejection of 100 means that one background event in 100 passes. Bands: 68% intervals
    of the background efficiency from effective event counts; a curve ends where no background
    event is left.
scores (figures): Scores of the training events (filled) and of the test events (points),
    class-balanced weights, each class with unit area. KS: largest distance between the two
    distributions, with its p-value; a small p-value is a sign of over-training.
significance (significance): Asimov significance of counting the events above a cut against the
    signal that the cut keeps, physical weights, for several systematic uncertainties of the
    background; the error of the simulated background is always in it. Markers: the best cuts; bars
    and bands: errors from the number of simulated events. Grey: too little simulated background is
    left.
sculpting (significance): Mass of the background events that pass a cut on the score, over that of
    all, class-balanced weights. Flat: the cut does not sculpt it. A cut that makes the background
    peak where the signal does takes away the sideband by which an analysis would know it.
limit_templates_ (limits): Expected events in bins of the score ({rest}), physical weights:
    backgrounds stacked, the signal on top, hatched the error of the background from simulation and
    systematics.
limit_mu (limits): Expected upper limits on the signal strength with their bands of one and two
    standard deviations, physical weights.
limit_brazil_ (limits): Expected upper limit on the cross section against the mass from the score
    ({rest}), with its bands of one and two standard deviations, and the cross section that the
    data state. Masses where the limit lies below it are expected to be excluded.
attention_shares_ (explanations): How much of its attention each kind of token of {rest} gives to
    each stream, in signal and background, and what equal parts for all tokens would be. What the
    network attends to, not what it needs.
permutation (explanations): Permutation importance: what is lost when a stream, or a group of its
    features, is permuted between the events. A stream with much attention and no loss is attended
    to in vain; what several streams say alike shows no loss in any of them.
deletion (explanations): How far the logit difference moves away from the events' class when the
    tokens that each ranking puts first are deleted. An explanation tells something where its
    curve lies above deleting at random; pT is the ranking that knows nothing of the network.
randomisation (explanations): Rank correlation of the importance of the tokens with that of the
    trained network, its weights re-drawn block by block from the head down. An explanation that
    stays as it was tells of the inputs, not of what was learned.
attention_maps_ (explanations): Mean attention in the eta-phi plane of the jet ({rest}), averaged
    over heads: background, signal, and their difference; a row each kind of query token.
attention_heads_ (explanations): The same attention ({rest}) head by head, both classes weighted
    alike.
attention_kinds_ (explanations): Part of the attention of {rest} that each kind of particle is
    given, beside its part of the pT.
attention_profiles_ (explanations): Attention of {rest} against the rank of a token in pT and its
    distance to the jet's axis, beside the pT itself.
attention_self_ (explanations): Self-attention of the class token of {rest} in the eta-phi plane,
    layer by layer and head by head.
gradcam_streams (explanations): Part of the importance for the score (Grad-CAM) that the tokens of
    each stream have, in signal and background.
gradcam_maps (explanations): Importance of the tokens for the score (Grad-CAM) in the eta-phi
    plane: background, signal, and their difference.
gradcam_profiles (explanations): Importance (Grad-CAM) against the rank of a token in pT and its
    distance to the jet's axis, beside the pT itself.
gradcam_ (explanations): Part of the importance for the score (Grad-CAM) by kind of token: {rest}.
integrated_gradients (explanations): How far each feature moved the logit difference away from that
    of an average event (integrated gradients), mean over the events of each class.
similarity (explanations): Which layers and streams say the same of the events: linear centred
    kernel alignment (CKA) of their class tokens, 1 the same but for rotation and scale, 0
    unrelated.
comparison_roc (comparison): All classifiers on the same test events, class-balanced weights.
    Bands: 68% intervals of the background efficiency; the events being the same, the bands move
    together. Of several trainings the efficiencies are averaged, each at its own cut.
comparison_learning (comparison): Background rejection and 1 - AUC against the number of training
    events, with the fitted laws a + b n^-c. The test events are the same for all sizes, so that the
    points of all curves move together.
history (plots): Loss and validation AUC after each epoch. The weights of the epoch with the lowest
    validation loss (dotted line) are those that were kept.
confusion (plots): Where the test events of each true class go when the cut is at a signal
    probability of one half, class-balanced weights. Each row sums to 100%.
inputs_ (plots): Inputs of the stream {rest} by class, each class with unit area over the stream's
    tokens, best separation first. The outermost 0.5% on either side are not shown.
image_ (plots): Mean image of the stream {rest} in the test events of each class, and the
    difference of both over their sum: 1 where only signal is, -1 where only background is. Pixels
    that fewer than ten tokens hit have no difference. Each process counts by its part in the mix
    of its class.
"""
_ENTRY = re.compile(r"^(\S+) \((\w+)\): (.*(?:\n {4}.*)*)", re.MULTILINE)
_PLOTS = {
    start: (section, " ".join(caption.split()))
    for start, section, caption in _ENTRY.findall(_CAPTIONS)
} | {"": ("plots", "")}  # any other plot, last


def _start(plot: str) -> str:
    return next(start for start in _PLOTS if plot.startswith(start))


def caption_of(plot: str) -> str:
    """Explain a plot by its name; a name that is not known explains itself."""
    start = _start(plot)
    # Not str.format: a stream may be called "{x}".
    return _PLOTS[start][1].replace("{rest}", plot.removeprefix(start)) or plot


def section_of(plot: str) -> str:
    """Id of the section of the report in which a plot stands."""
    return _PLOTS[_start(plot)][0]


def in_order(plots: Iterable[str]) -> list[str]:
    """Order plots as a reader wants them; those not known come last."""
    order = list(_PLOTS)
    return sorted(plots, key=lambda plot: (order.index(_start(plot)), plot))
