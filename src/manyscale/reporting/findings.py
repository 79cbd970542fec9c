"""What a run found, in sentences made from its numbers, and what each plot shows.

No more is said than is known: a difference within its error is called none.
"""

import re
from collections.abc import Iterable, Sequence

from manyscale.evaluation.results import (
    ComparisonRow,
    Deletion,
    Explanation,
    IntegratedGradients,
    LayerPair,
    Limits,
    Metrics,
    Randomisation,
    Separation,
    Stamp,
)
from manyscale.reporting.formatting import rejection, short, sigmas, signed, value
from manyscale.schema import Process

__all__ = [
    "COMPARISON_PLOT",
    "LEARNING_PLOT",
    "SECTIONS",
    "caption_of",
    "combination_sentence",
    "compare",
    "explanation_sentences",
    "importance_sentence",
    "in_order",
    "is_folded",
    "once",
    "section_of",
    "stale",
    "stamped",
    "suspicion",
    "tiles",
    "verdict",
]

# A difference of fewer standard deviations than this is not called one.
_CLEAR = 2.0
_TILES = 4
_MOST_FEATURES = 3
_NAMES = {
    "network": "the network",
    "trees": "the trees",
    "combined": "network and trees combined",
}
# The same in the verdict, where the network is called by its preset.
_RIVALS = {"trees": "boosted trees", "combined": "both combined"}


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


def verdict(
    preset: str,
    processes: Sequence[Process],
    metrics: Metrics,
    comparison: Sequence[ComparisonRow] = (),
) -> str:
    """Say in one sentence how the network does beside its rivals on the same test events.

    Parameters
    ----------
    processes
        Of the data; none: they are not known.
    comparison
        Its rivals, where there are others than the trees.
    """
    # Rows say rival minus network; so does `differences` of the combined score alone.
    rivals = [
        (row.name, row.difference, row.difference_error)
        for row in comparison
        if row.difference is not None
    ]
    if not rivals:
        signs = {"network": -1.0, "combined": 1.0}
        rivals = [
            (other if one == "network" else one, signs[one] * paired.auc, paired.auc_error)
            for one, other, paired in metrics.differences
            if "network" in (one, other)
        ]
    groups: dict[str, list[str]] = {}
    for name, difference, error in rivals:
        size = value(abs(difference), error)
        kind = "better than" if difference < 0 else "worse than"
        if error and abs(difference) < _CLEAR * error:
            kind = "not to be told from"
        called = _RIVALS.get(name, name)
        unit = "" if groups else " in AUC"
        groups.setdefault(kind, []).append(f"{called} (by {size}{unit})")
    known = {
        label: _listed([one.name for one in processes if one.label == label]) or label
        for label in ("signal", "background")
    }
    beside = ", and ".join(f"{kind} {_listed(names)}" for kind, names in groups.items())
    does = "tells" if metrics.auc - 0.5 > _CLEAR * (metrics.auc_error or 0) else "does not tell"
    sentence = f"{preset} {does} {known['signal']} from {known['background']}"
    return f"{sentence}, {beside}." if beside else f"{sentence}."


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def stale(part: Stamp | None, metrics: Metrics, luminosity: float | None = None) -> str:
    """Why a part of the report no longer fits the last evaluation; empty where it does.

    Parameters
    ----------
    part
        Of which events the part is.
    luminosity
        In fb^-1, that of the part, where it has one.
    """
    evaluated, reasons = metrics.stamp, []
    known = metrics.yields.luminosity if metrics.yields else None
    if luminosity is not None and known is not None and luminosity != known:
        reasons.append(
            f"it is for {luminosity:,g} fb⁻¹, and the last evaluation for {known:,g} fb⁻¹"
        )
    if evaluated is not None and part is None:
        reasons.append("it does not say of which events it is")
    elif evaluated is not None and part is not None and part.identity != evaluated.identity:
        others = "others" if part.events == evaluated.events else f"{evaluated.events:,}"
        reasons.append(f"it is of {part.events:,} test events, and the last evaluation of {others}")
    return f"Stale: {'; '.join(reasons)}." if reasons else ""


def stamped(stamp: Stamp | None) -> str:
    """Of which events, at which luminosity and when, in words; empty where that is not known."""
    if stamp is None:
        return ""
    of = f" of {stamp.data}" if stamp.data else ""
    at = "" if stamp.luminosity is None else f", {stamp.luminosity:,g} fb⁻¹"
    return f"{stamp.events:,} test events{of}{at}, {stamp.made[:16].replace('T', ' ')} UTC"


def once(notices: Sequence[str]) -> list[str]:
    """Notices of several classifiers, each said once.

    Examples
    --------
    >>> once(["network: few events.", "trees: few events."])
    ['network, trees: few events.']
    """
    who: dict[str, list[str]] = {}
    for notice in notices:
        name, found, said = notice.partition(": ")
        who.setdefault(said if found else notice, []).append(name if found else "")
    return [f"{', '.join(names)}: {said}" if names[0] else said for said, names in who.items()]


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
            f"No stream is clearly needed: permuted between the events, none costs more than {lost} of "
            f"AUC."
        )
    return (
        f"Of the streams the network needs {most.stream} most: permuted between the events, it costs "
        f"{lost} of AUC."
    )


def explanation_sentences(
    explanation: Explanation | None,
    attributions: IntegratedGradients | None = None,
    similarity: Sequence[LayerPair] = (),
    randomisation: Randomisation | None = None,
    deletion: Deletion | None = None,
) -> list[str]:
    """A line of verdict of each explanation, and whether it passed its check; nothing of what was not done."""
    if explanation is None:
        return []
    sentences = [importance_sentence(explanation)]
    moved = {
        f"{row.feature} of {row.stream}": 0.0
        for row in (attributions.features if attributions else ())
    }
    for row in attributions.features if attributions else ():
        moved[f"{row.feature} of {row.stream}"] += (row.absolute or 0.0) / 2
    if moved:
        most = sorted(moved, key=lambda name: -moved[name])[:_MOST_FEATURES]
        said = _listed([f"{name} ({short(moved[name])} logits)" for name in most])
        sentences.append(f"Features that move the score most, by integrated gradients: {said}.")
    # Layers of the same stream are alike; the fusion holds all of them.
    pairs = [
        pair
        for pair in similarity
        if pair.cka is not None
        and pair.first.split(",")[0] != pair.second.split(",")[0]
        and not any(name.startswith("fusion") for name in (pair.first, pair.second))
    ]
    if pairs:
        alike = max(pairs, key=lambda pair: pair.cka or 0.0)
        sentences.append(
            f"Of different streams, {alike.first} and {alike.second} are most alike: a CKA of "
            f"{alike.cka:.2f}, {alike.chance or 0:.2f} by chance."
        )
    last = randomisation.points[-1] if randomisation and randomisation.points else None
    if randomisation and last and last.correlation is not None:
        # A check fails, too, where the error is too large to tell.
        outcome, says = (
            ("passed", "depends") if randomisation.passes else ("failed", "is not shown to depend")
        )
        sentences.append(
            f"Check by re-drawn weights {outcome}: Grad-CAM {says} on what was learned (rank "
            f"correlation {signed(last.correlation, last.error)} with all weights re-drawn)."
        )
    rankings = "; ".join(
        f"{by} {signed(excess.value, excess.error)} ({'passed' if excess.passes else 'failed'})"
        for by, excess in (deletion.excess.items() if deletion else ())
        if excess.value is not None
    )
    if rankings:
        sentences.append(f"Check by deletion, loss in logits beyond that at random: {rankings}.")
    return [sentence for sentence in sentences if sentence]


def tiles(metrics: Metrics, limits: Limits | None) -> list[tuple[str, str]]:
    """Four numbers to stand large at the top, and what they are."""
    found = [(value(metrics.auc, metrics.auc_error), "AUC of the network")]
    if "0.70" in metrics.background_rejection:
        number = rejection(metrics.background_rejection["0.70"])
        found.append((number, "background rejection at 70% signal efficiency"))
    significance, yields = metrics.significance, metrics.yields
    if significance and significance.best and yields:
        number = sigmas(significance.best.value_with_mc_error, significance.best.value_error)
        found.append((number, f"expected at {yields.luminosity:,g} fb⁻¹, best cut"))
    if limits and limits.rows:
        _, row = limits.rows[0]
        median = row.mu.get("0")
        what = f"expected {limits.confidence:.0%} CL limit on the strength of {row.signal}"
        if row.ignores_score:
            what += ", events counted without the score"
        found.append(("none" if median is None else f"μ < {short(median)}", what))
    if metrics.combined:
        number = value(metrics.combined.auc, metrics.combined.auc_error)
        found.append((number, "AUC of network and trees combined"))
    if metrics.trees:
        found.append((value(metrics.trees.auc, metrics.trees.auc_error), "AUC of boosted trees"))
    return found[:_TILES]


# ---- captions ---------------------------------------------------------------------------------

#: Name of the plot that belongs to the table of several classifiers.
COMPARISON_PLOT = "comparison_roc"
#: Name of the plot of learning curves.
LEARNING_PLOT = "comparison_learning"
#: Ids of the sections of the report that have plots.
SECTIONS = ("summary", "data", "results", "limits", "explanations", "comparison")

# Plots whose names begin like this, their section, whether folded, and their caption; {rest} is what
# follows. In the order in which they stand; a whole name is a beginning, too, so the longer one comes
# first. The first sentence is always to be seen.
_CAPTIONS = """
roc_by_process (results): Rejection of each background process by the network. Class-balanced
    weights, with 68% intervals.
roc (summary): Background rejection against signal efficiency. Test events, class-balanced weights. A
    rejection of 100 means that one background event in 100 passes. Bands: 68% intervals of the
    background efficiency from effective event counts; a curve ends where no background event is
    left.
comparison_roc (summary): Background rejection against signal efficiency. All classifiers on the same
    test events, class-balanced weights. Bands: 68% intervals of the background efficiency; the
    events being the same, the bands move together. Of several trainings the efficiencies are
    averaged, each at its own cut.
score_by_process (summary): Score of the network by process. At the luminosity the backgrounds are
    stacked, hatched is the error from the number of simulated events, and the signal is scaled to be
    seen; without cross sections each process has unit area.
mass_ (data): {rest} by process, of all test events and above a cut on the network's score. Stacked as
    expected at the luminosity, the signal scaled to be seen; without cross sections each process has
    unit area. The cut is the best one, or else the one that keeps 70% of the signal.
confusion (results): Where the test events of each process go with the cut at one half. Weights of
    each process alone; each row sums to 100%.
signal_efficiency (results): Efficiency of a cut that keeps 70% of all signal, against what the signal
    events are. 68% intervals, at most 10,000 test events of the signal, bins of equal content.
significance (results): Asimov significance of counting the events above a cut against the signal
    that the cut keeps. Physical weights, for several systematic uncertainties of the background; the
    error of the simulated background is always in it. Markers: the best cuts; bars and bands: errors
    from the number of simulated events. Grey: too little simulated background is left.
sculpting (results, folded): Mass of the background events that pass a cut on the score, over that of
    all. Class-balanced weights. Flat: the cut does not sculpt it. A cut that makes the background
    peak where the signal does takes away the sideband by which an analysis would know it.
reliability (results, folded): Share of signal among the events of each score. On the diagonal the
    score is the probability of signal among as many events of either class. 68% intervals.
scores (results, folded): Scores of training events (filled) and of test events (points). Class-balanced
    weights, each class with unit area. KS: largest distance between the two distributions, with its
    p-value; a small p-value is a sign of over-training.
history (results, folded): Loss and validation AUC after each epoch. The weights of the epoch with the
    lowest validation loss (dotted line) are those that were kept.
tree_importances (results, folded): What the boosted trees gain most from. Share of the gain of all
    splits; of two inputs that say the same either may have it.
limit_mu (limits): Expected upper limits on the signal strength. Bands of one and two standard
    deviations, physical weights.
limit_brazil_ (limits): Expected upper limit on the cross section against the mass, from the score of
    {rest}. With its bands of one and two standard deviations, and the cross section that the data
    state. Masses where the limit lies below it are expected to be excluded.
limit_templates_network (limits): Expected events in bins of the network's score. Physical weights:
    backgrounds stacked, the signal on top, hatched the error of the background from simulation and
    systematics.
limit_templates_ (limits, folded): Expected events in bins of the score, {rest}. As those of the
    network.
permutation (explanations): What is lost when a stream, or a group of its features, is permuted between
    the events. A stream with much attention and no loss is attended to in vain; what several streams
    say alike shows no loss in any of them.
integrated_gradients (explanations): How far each feature moves the score (integrated gradients). Mean
    over the events of each class, of the logit difference from that of an average event.
gradcam_profiles (explanations, folded): Importance (Grad-CAM) against the rank of a token in pT and its
    distance to the jet's axis. Beside the pT itself.
gradcam_ (explanations): Importance for the score (Grad-CAM): {rest}. Parts of the event's whole,
    signal and background.
attention_shares_ (explanations): How much of its attention each kind of token of {rest} gives to each
    stream. And what equal parts for all tokens would be. What the network attends to, not what it
    needs.
attention_profiles_ (explanations, folded): Attention of {rest} against the rank of a token in pT and its
    distance to the jet's axis. Beside the pT itself.
attention_maps_ (explanations, folded): Mean attention in the eta-phi plane of the jet ({rest}). Averaged
    over heads and kinds of queries: background, signal, and their difference.
deletion (explanations, folded): What deleting the tokens does that each ranking puts first. How far the
    logit difference moves away from the events' class. An explanation tells something where its curve
    lies above deleting at random; pT is the ranking that knows nothing of the network.
randomisation (explanations, folded): Rank correlation of the importance of the tokens with that of the
    trained network, its weights re-drawn block by block from the head down. An explanation that stays
    as it was tells of the inputs, not of what was learned.
similarity (explanations, folded): Which layers and streams say the same of the events. Linear centred
    kernel alignment (CKA) of their class tokens, 1 the same but for rotation and scale, 0 unrelated.
comparison_learning (comparison): Background rejection and 1 - AUC against the number of training
    events. With the fitted laws a + b n^-c. The test events are the same for all sizes, so that the
    points of all curves move together.
inputs_ (data, folded): Inputs of {rest} by class, best separation first. Each class with unit area over
    the tokens. The outermost 0.5% on either side are not shown.
image_ (data, folded): Mean image of the stream {rest} in the test events of each class. And the
    difference of both over their sum: 1 where only signal is, -1 where only background is. Pixels that
    fewer than ten tokens hit have no difference. Each process counts by its part in the mix of its
    class.
"""
_ENTRY = re.compile(r"^(\S+) \((\w+)(, folded)?\): (.*(?:\n {4}.*)*)", re.MULTILINE)
_PLOTS = {
    start: (section, bool(folded), " ".join(caption.split()))
    for start, section, folded, caption in _ENTRY.findall(_CAPTIONS)
} | {"": ("results", True, "")}  # any other plot, last


def _start(plot: str) -> str:
    return next(start for start in _PLOTS if plot.startswith(start))


def caption_of(plot: str) -> tuple[str, str]:
    """Explain a plot by its name: what is always to be seen, and the rest; an unknown name explains itself."""
    start = _start(plot)
    first, _, rest = _PLOTS[start][2].partition(". ")
    # Not str.format: a stream may be called "{x}".
    named = first.replace("{rest}", plot.removeprefix(start))
    return named.removesuffix(".") or plot, rest


def section_of(plot: str) -> str:
    """Id of the section of the report in which a plot stands."""
    return _PLOTS[_start(plot)][0]


def is_folded(plot: str) -> bool:
    """Whether a plot is seen only by those who ask for more."""
    return _PLOTS[_start(plot)][1]


def in_order(plots: Iterable[str]) -> list[str]:
    """Order plots as a reader wants them; those not known come last."""
    order = list(_PLOTS)
    return sorted(plots, key=lambda plot: (order.index(_start(plot)), plot))
