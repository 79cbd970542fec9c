"""What stands below each plot of the report, in which section, and in which order."""

from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["COMPARISON_PLOT", "SECTIONS", "caption_of", "in_order", "section_of"]

#: Name of the plot that belongs to the table of several classifiers.
COMPARISON_PLOT = "comparison_roc"
#: Ids of the sections of the report that have plots.
SECTIONS = ("figures", "significance", "limits", "explanations", "comparison", "plots")


class _Family(NamedTuple):
    """Plots whose names begin alike; `{rest}` in the caption is what follows."""

    start: str
    section: str
    caption: str


# In the order in which they stand; a whole name is a start, too, so the longer one comes first.
_FAMILIES = (
    _Family(
        "roc",
        "figures",
        "Background rejection against signal efficiency on the test events, class-balanced weights. "
        "A rejection of 100 means that one background event in 100 passes. Bands: 68% intervals of "
        "the background efficiency from effective event counts; a curve ends where no background "
        "event is left.",
    ),
    _Family(
        "scores",
        "figures",
        "Scores of the training events (filled) and of the test events (points), class-balanced "
        "weights, each class with unit area. KS: largest distance between the two distributions, "
        "with its p-value; a small p-value is a sign of over-training.",
    ),
    _Family(
        "significance",
        "significance",
        "Asimov significance of counting the events above a cut against the signal that the cut "
        "keeps, physical weights, for several systematic uncertainties of the background; the error "
        "of the simulated background is always in it. Markers: the best cuts; bars and bands: errors "
        "from the number of simulated events. Grey: too little simulated background is left.",
    ),
    _Family(
        "sculpting",
        "significance",
        "Mass of the background events that pass a cut on the score, over that of all, "
        "class-balanced weights. Flat: the cut does not bend it. A cut that makes the background "
        "peak where the signal does takes away the sideband by which an analysis would know it.",
    ),
    _Family(
        "limit_templates_",
        "limits",
        "Expected events in bins of the score ({rest}), physical weights: backgrounds stacked, the "
        "signal on top, hatched the error of the background from simulation and systematics.",
    ),
    _Family(
        "limit_mu",
        "limits",
        "Expected upper limits on the signal strength with their bands of one and two standard "
        "deviations, physical weights.",
    ),
    _Family(
        "limit_brazil_",
        "limits",
        "Expected upper limit on the cross section against the mass from the score ({rest}), with "
        "its bands of one and two standard deviations, and the cross section that the data state. "
        "Masses where the limit lies below it are expected to be excluded.",
    ),
    _Family(
        "attention_shares_",
        "explanations",
        "How much of its attention each kind of token of {rest} gives to each stream, in signal and "
        "background, and what equal parts for all tokens would be. Where the network looks, not what "
        "it needs.",
    ),
    _Family(
        "shuffling",
        "explanations",
        "What is lost when a stream, or a group of its features, is shuffled between the events: an "
        "ablation. A stream with much attention and no loss is looked at in vain; what several "
        "streams say alike shows no loss in any of them.",
    ),
    _Family(
        "deletion",
        "explanations",
        "How far the logit difference moves away from the events' class when the tokens that each "
        "ranking puts first are deleted. An explanation is worth something where its curve lies "
        "above deleting at random; pT is the ranking that knows nothing of the network.",
    ),
    _Family(
        "randomisation",
        "explanations",
        "Rank correlation of the importance of the tokens with that of the trained network, its "
        "weights re-drawn block by block from the head down. An explanation that stays as it was "
        "tells of the inputs, not of what was learned.",
    ),
    _Family(
        "attention_maps_",
        "explanations",
        "Mean attention in the eta-phi plane of the jet ({rest}), averaged over heads: background, "
        "signal, and their difference; a row each kind of token that asks.",
    ),
    _Family(
        "attention_heads_",
        "explanations",
        "The same attention ({rest}) head by head, both classes weighted alike.",
    ),
    _Family(
        "attention_kinds_",
        "explanations",
        "Part of the attention of {rest} that each kind of particle is given, beside its part of "
        "the pT.",
    ),
    _Family(
        "attention_profiles_",
        "explanations",
        "Attention of {rest} against the rank of a token in pT and its distance to the jet's axis, "
        "beside the pT itself.",
    ),
    _Family(
        "attention_self_",
        "explanations",
        "Self-attention of the class token of {rest} in the eta-phi plane, layer by layer and head "
        "by head.",
    ),
    _Family(
        "attention_pairs",
        "explanations",
        "Self-attention between two constituents against their distance, in units of equal parts "
        "for all.",
    ),
    _Family(
        "gradcam_streams",
        "explanations",
        "Part of the importance for the score (Grad-CAM) that the tokens of each stream have, in "
        "signal and background.",
    ),
    _Family(
        "gradcam_maps",
        "explanations",
        "Importance of the tokens for the score (Grad-CAM) in the eta-phi plane: background, "
        "signal, and their difference.",
    ),
    _Family(
        "gradcam_profiles",
        "explanations",
        "Importance (Grad-CAM) against the rank of a token in pT and its distance to the jet's axis, "
        "beside the pT itself.",
    ),
    _Family(
        "gradcam_",
        "explanations",
        "Part of the importance for the score (Grad-CAM) by kind of token: {rest}.",
    ),
    _Family(
        "integrated_gradients",
        "explanations",
        "How far each feature moved the logit difference away from that of an average event "
        "(integrated gradients), mean over the events of each class.",
    ),
    _Family(
        "similarity",
        "explanations",
        "Which layers and streams say the same of the events: linear centred kernel alignment (CKA) "
        "of their class tokens, 1 the same but for rotation and scale, 0 unrelated.",
    ),
    _Family(
        COMPARISON_PLOT,
        "comparison",
        "All classifiers on the same test events, class-balanced weights. Bands: 68% intervals of "
        "the background efficiency; the events being the same, the bands move together.",
    ),
    _Family(
        "history",
        "plots",
        "Loss and validation AUC after each epoch. The weights of the epoch with the lowest "
        "validation loss (dotted line) are those that were kept.",
    ),
    _Family(
        "confusion",
        "plots",
        "Where the test events of each true class go when the cut is at a signal probability of one "
        "half, class-balanced weights. Each row sums to 100%.",
    ),
    _Family(
        "inputs_",
        "plots",
        "Inputs of the stream {rest} by class, each class with unit area over the stream's tokens, "
        "best separation first. The outermost 0.5% on either side are not shown.",
    ),
    _Family(
        "image_",
        "plots",
        "Mean image of the stream {rest} in the test events of each class, and the difference of "
        "both over their sum: 1 where only signal is, -1 where only background is. Pixels that "
        "fewer than ten tokens hit have no difference. Each process counts by its share of the "
        "class.",
    ),
)
_OTHER = _Family("", "plots", "")


def _family(plot: str) -> _Family:
    return next((family for family in _FAMILIES if plot.startswith(family.start)), _OTHER)


def caption_of(plot: str) -> str:
    """Explain a plot by its name; a name that is not known explains itself."""
    family = _family(plot)
    # Not str.format: a stream may be called "{x}".
    return family.caption.replace("{rest}", plot.removeprefix(family.start)) or plot


def section_of(plot: str) -> str:
    """Id of the section of the report in which a plot stands."""
    return _family(plot).section


def in_order(plots: Iterable[str]) -> list[str]:
    """Order plots as a reader wants them; those not known come last."""
    known = [*_FAMILIES, _OTHER]
    return sorted(plots, key=lambda plot: (known.index(_family(plot)), plot))
