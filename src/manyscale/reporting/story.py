"""What a run found, in sentences made from its numbers: no more said than is known."""

from manyscale.reporting.explanation_files import Deletion, Explanations, Randomisation
from manyscale.reporting.limit_file import Hypothesis, LimitFile
from manyscale.reporting.metrics_file import Metrics, Significance
from manyscale.reporting.run_files import ComparisonRow, RunFiles
from manyscale.reporting.wording import quantity, short, signed, value

__all__ = [
    "check_sentences",
    "compare",
    "doubts",
    "findings",
    "limit_sentences",
    "sigmas",
    "significance_sentences",
    "tiles",
]

# A difference of fewer standard deviations than this is not called one.
_CLEAR = 2.0
# The systematic uncertainty of the background that the story tells of; the table has the others.
_USUAL = 0.10
# A smaller significance is as good as none.
_LEAST = 0.01
_MOST_LIMITS = 3
_NAMES = {"network": "the network", "trees": "the trees"}


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


def findings(files: RunFiles) -> list[str]:
    """What the run shows: paired differences, significance, limits, what the network needs."""
    found = [
        *_comparisons(files),
        *significance_sentences(files.metrics),
        *limit_sentences(files.limits)[:_MOST_LIMITS],
        _worth(files.explanation),
    ]
    return [sentence for sentence in found if sentence]


def _comparisons(files: RunFiles) -> list[str]:
    """All that were compared, else network and trees."""
    rows: list[ComparisonRow] = list(files.comparison)
    trees = files.metrics.trees
    if not rows and trees and trees.network_minus_trees:
        paired = trees.network_minus_trees
        rows = [
            ComparisonRow(
                name="the network",
                auc=files.metrics.auc,
                difference_to="the trees",
                difference=paired.auc,
                difference_error=paired.auc_error,
            )
        ]
    return [sentence for row in rows if (sentence := compare(row))]


def significance_sentences(metrics: Metrics) -> list[str]:
    """What counting the events above the best cut promises; empty where no yields are known.

    The error of the background from the number of simulated events is in each number.
    """
    if metrics.significance is None or metrics.yields is None:
        return []
    found = [("the network", metrics.significance)]
    if metrics.trees and metrics.trees.significance:
        found.append(("the trees", metrics.trees.significance))
    return [_significance(who, what, metrics.yields.luminosity) for who, what in found]


def _significance(who: str, found: Significance, luminosity: float) -> str:
    if found.best is None:
        return (
            f"No significance of {who}: no cut leaves {found.least_background_events:g} effective "
            f"background events, too few to know the background by."
        )
    uncertain = {row.background: row.best for row in found.systematics if row.best}
    plain = uncertain.get(0.0)
    certain = (
        sigmas(found.best.value_with_mc_error)
        if plain is None
        else sigmas(plain.value, plain.value_error)
    )
    worse = uncertain.get(_USUAL)
    instead = (
        ""
        if worse is None
        else f", and {sigmas(worse.value, worse.value_error)} where the background is uncertain by "
        f"{_USUAL:.0%}"
    )
    return (
        f"At {luminosity:,g} fb⁻¹, counting the events above the best cut on the score of {who} "
        f"promises {certain}{instead}."
    )


def sigmas(number: float | None, error: float | None = None) -> str:
    """Write a significance.

    Examples
    --------
    >>> sigmas(2.345, 0.12), sigmas(4e-13), sigmas(None)
    ('2.35 ± 0.12 σ', 'under 0.01 σ', '–')
    """
    if number is None:
        return short(None)
    if number < _LEAST:
        return f"under {_LEAST:g} σ"
    return f"{value(number, error) if error else short(number)} σ"


def limit_sentences(limits: LimitFile | None) -> list[str]:
    """The expected limit on every signal from the score of every classifier."""
    return [] if limits is None else [_limit(name, row, limits) for name, row in limits.rows]


def _limit(classifier: str, row: Hypothesis, limits: LimitFile) -> str:
    who = _NAMES.get(classifier, classifier)
    signal = f"{row.signal} at {row.mass:,g} GeV" if row.mass is not None else row.signal
    median = row.mu.get("0")
    if median is None:
        return f"No limit on {signal} from the score of {who}."
    low, high = row.mu.get("-1"), row.mu.get("1")
    cross_section = row.limit_fb.get("0")
    notes = [
        *([] if low is None or high is None else [f"68%: {short(low)} to {short(high)}"]),
        *([] if cross_section is None else [f"{short(cross_section)} fb"]),
    ]
    return (
        f"Were there no signal, the score of {who} would be expected to exclude {signal} at "
        f"{limits.confidence:.0%} confidence from {quantity(median, row.mu_error)} times its cross "
        f"section on" + (f" ({'; '.join(notes)})." if notes else ".")
    )


def tiles(files: RunFiles) -> list[tuple[str, str]]:
    """Numbers to stand large at the top, and what they are."""
    found = []
    significance, yields = files.metrics.significance, files.metrics.yields
    if significance and significance.best and yields:
        number = sigmas(significance.best.value_with_mc_error)
        found.append((number, f"expected at {yields.luminosity:,g} fb⁻¹, best cut"))
    if files.limits and files.limits.rows:
        _, row = files.limits.rows[0]
        median = row.mu.get("0")
        what = f"expected limit on the strength of {row.signal}"
        found.append(("none" if median is None else f"μ < {short(median)}", what))
    return found


def doubts(files: RunFiles) -> list[str]:
    """What limits the trust in the findings, beyond what holds for any run."""
    metrics = files.metrics
    scarce = metrics.significance.notice if metrics.significance else ""
    return [*filter(None, [metrics.yields_missing, scarce]), *check_sentences(files.explanation)]


def _worth(explanations: Explanations | None) -> str:
    """Which stream the network needs most; nothing of a single one."""
    streams = explanations.summary.streams if explanations else ()
    losses = [(row.auc_loss, row) for row in streams if row.auc_loss is not None]
    if len(losses) < 2:
        return ""
    loss, most = max(losses, key=lambda pair: pair[0])
    if not loss > _CLEAR * (most.auc_loss_error or 0):
        return (
            f"No stream is clearly needed: what is lost when one is shuffled between the events is "
            f"{value(loss, most.auc_loss_error)} of AUC at most."
        )
    return (
        f"Of the streams the network needs {most.stream} most: shuffled between the events, it costs "
        f"{value(most.auc_loss, most.auc_loss_error)} of AUC."
    )


def check_sentences(explanations: Explanations | None) -> list[str]:
    """Whether the explanations passed their sanity checks."""
    if explanations is None:
        return []
    found = [_randomised(explanations.randomisation), _deleted(explanations.deletion)]
    return [sentence for sentence in found if sentence]


def _randomised(found: Randomisation | None) -> str:
    correlation = found.points[-1].correlation if found and found.points else None
    if found is None or correlation is None:
        return ""
    # A check fails, too, where the error is too large to tell.
    outcome, says = ("passed", "depends") if found.passes else ("failed", "is not shown to depend")
    return (
        f"Sanity check {outcome}: with all weights re-drawn, the importance of the tokens keeps a "
        f"rank correlation of {signed(correlation, found.points[-1].error)} with that of the trained "
        f"network; it {says} on what was learned."
    )


def _deleted(found: Deletion | None) -> str:
    rows = "; ".join(
        f"{by} {signed(excess.value, excess.error)} ({'passed' if excess.passes else 'failed'})"
        for by, excess in (found.excess.items() if found else ())
        if excess.value is not None
    )
    if not rows:
        return ""
    return (
        f"Sanity check by deletion, by how many logits it hurts more to delete the tokens that a "
        f"ranking puts first than as many at random: {rows}."
    )
