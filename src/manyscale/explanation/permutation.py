"""Permutation importance: the loss when a stream, or a group of features, is permuted between events."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import one_hot

from manyscale.data.packing import PackedEvents
from manyscale.deployment.predict import batches
from manyscale.evaluation.results import PermutationImportance, PermutationLoss
from manyscale.events.ragged import PackedStream
from manyscale.explanation.gradcam import logit_difference, responses
from manyscale.explanation.integrated_gradients import feature_inputs
from manyscale.features.columns import StreamBatch
from manyscale.model.classifier import MultiScaleClassifier
from manyscale.model.layout import Layout
from manyscale.model.taps import Taps
from manyscale.statistics.intervals import Interval, efficiency
from manyscale.statistics.metrics import auc, auc_error, auc_loss, roc_curve
from manyscale.statistics.sample import Floats, Sample, effective_events

__all__ = ["feature_groups", "permutation_importance", "rejection_factor", "working_point"]

# What the features that belong together measure. Any other feature is a group of its own.
_GROUPS = {
    "momentum": ("pt", "energy", "log_pt", "log_energy", "log_pt_rel", "log_energy_rel"),
    "direction": ("eta", "phi", "delta_eta", "delta_phi", "delta_r", "phi_rel"),
    "identity": (
        "particle_class",
        "object_class",
        "charge",
        "is_charged",
        "is_photon",
        "is_neutral_hadron",
    ),
    "displacement": ("d0", "dz"),
    "mass": ("mass", "log_mass"),
}
_GROUP_OF = {feature: group for group, features in _GROUPS.items() for feature in features}

# Signal efficiencies that are tried, and the effective background events that one has to leave.
_WANTED = (0.70, 0.90, 0.95)
_FEWEST = 5
# Sums of weights in other orders differ by rounding; an efficiency this close counts as reached.
_ROUNDING = 1e-9


def feature_groups(features: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Sort features into groups by what they measure; one that is not known is its own group.

    Examples
    --------
    >>> feature_groups(["delta_eta", "log_pt", "delta_phi", "n_btags"])
    {'direction': ('delta_eta', 'delta_phi'), 'momentum': ('log_pt',), 'n_btags': ('n_btags',)}
    """
    groups: dict[str, tuple[str, ...]] = {}
    for feature in features:
        group = _GROUP_OF.get(feature, feature)
        groups[group] = (*groups.get(group, ()), feature)
    return groups


def permutation_importance(
    network: MultiScaleClassifier,
    events: PackedEvents,
    weights: NDArray[np.float64],
    *,
    random: np.random.Generator,
    repeats: int = 5,
) -> PermutationImportance:
    """Permute each stream, and each feature group of each stream, between the events.

    A stream is given to another event as a whole, whatever the class of either. The values of a
    feature group, as the network sees them, go together to another token of the same stream in any
    event. The network stays as it is; what it loses is what it takes from there and finds nowhere
    else.

    The error of a loss of AUC is DeLong's on the same events, and the spread of the repeats, in
    quadrature; that of the rejection see `rejection_factor`.

    Raises
    ------
    DataError
        As `Sample.of`: one class only, or weights that do not sum to above zero.

    References
    ----------
    L. Breiman, Mach. Learn. 45 (2001) 5, section 10; A. Fisher, C. Rudin, F. Dominici,
    arXiv:1801.01489.
    """
    streams = events.streams
    sample = Sample.of(events.label, responses(network, streams), weights)
    wanted = working_point(sample)

    def lost(
        stream: str, group: str | None, features: tuple[str, ...], scores: list[Floats]
    ) -> PermutationLoss:
        loss, error = auc_loss(sample.signal, sample.scores, scores, sample.weights)
        if repeats > 1:
            areas = [auc(sample.signal, other, sample.weights) for other in scores]
            error = math.hypot(error, float(np.std(areas, ddof=1)) / math.sqrt(repeats))
        factor = None if wanted is None else rejection_factor(sample, scores, wanted)
        value, low, high = factor or (None, None, None)
        return PermutationLoss(
            stream=stream,
            group=group,
            features=features,
            auc_loss=loss,
            auc_loss_error=error,
            rejection_factor=value,
            rejection_low=low,
            rejection_high=high,
        )

    wholes, groups = [], []
    for name, stream in streams.items():
        orders = [random.permutation(len(events)) for _ in range(repeats)]
        scores = [responses(network, {**streams, name: stream.take(order)}) for order in orders]
        wholes.append(lost(name, None, network.extractor(name).names, scores))
    for name, stream in streams.items():
        extractor = network.extractor(name)
        inputs, columns = _token_inputs(network, name, stream), feature_inputs(extractor)
        # As the network sees them: several features may come from the same column. Pair biases stay.
        for group, features in feature_groups(extractor.names).items():
            members = [c for feature in features for c in columns[feature]]
            scores = []
            for _ in range(repeats):
                order = torch.from_numpy(random.permutation(len(inputs))).to(inputs.device)
                permuted = inputs.clone()
                permuted[:, members] = inputs[order][:, members]
                scores.append(_responses_to(network, streams, name, permuted))
            groups.append(lost(name, group, features, scores))
    return PermutationImportance(
        auc=auc(*sample),
        auc_error=auc_error(*sample),
        signal_efficiency=wanted,
        rejection=None if wanted is None else 1 / efficiency(*_background(sample, wanted)).value,
        repeats=repeats,
        streams=tuple(wholes),
        groups=tuple(groups),
    )


def working_point(sample: Sample) -> float | None:
    """Signal efficiency of 0.70, or the lowest of 0.90 and 0.95 that leaves background enough.

    Enough are five effective events: below, the rejection is hardly known. None where none does.
    """
    for wanted in _WANTED:
        weights, passed = _background(sample, wanted)
        if weights[passed].sum() > 0 and effective_events(weights[passed]) >= _FEWEST:
            return wanted
    return None


def _background(sample: Sample, wanted: float) -> tuple[Floats, NDArray[np.bool_]]:
    """Weights of the background, and which of it passes the tightest cut that keeps enough signal."""
    curve = roc_curve(*sample)
    cut = curve.threshold[int(np.argmax(curve.signal >= wanted * (1 - _ROUNDING)))]
    return sample.weights[~sample.signal], sample.scores[~sample.signal] >= cut


def rejection_factor(
    sample: Sample, others: Sequence[NDArray[np.floating]], wanted: float
) -> Interval | None:
    """Background rejection over the mean one of other scores, at one signal efficiency.

    The 68.3% interval has, in quadrature on the logarithm, half the Clopper-Pearson interval of each
    background efficiency and the spread of the others. What both have in common, being made of the same
    events, would cancel in part: it is too wide rather than too narrow.

    Parameters
    ----------
    others
        Scores (events,) of each repeat.
    wanted
        Signal efficiency.

    Returns
    -------
    None where any leaves no background.
    """
    whole = efficiency(*_background(sample, wanted))
    found = [efficiency(*_background(sample._replace(scores=scores), wanted)) for scores in others]
    shares = np.array([share.value for share in found])
    mean = float(shares.mean())
    # Of none left neither the ratio nor its error is known.
    if min(whole.low, mean, *(share.low for share in found)) <= 0:
        return None
    errors = [math.log(share.high / share.low) / 2 for share in found]
    spread = float(shares.std(ddof=1)) / math.sqrt(len(found)) / mean if len(found) > 1 else 0.0
    error = math.hypot(math.log(whole.high / whole.low) / 2, float(np.mean(errors)), spread)
    factor = mean / whole.value
    return Interval(factor, factor * math.exp(-error), factor * math.exp(error))


class _Replaced(Taps):
    """Replaces what the embedding of one stream is given of the tokens."""

    def __init__(self, stream: str, tokens: Tensor) -> None:
        self.stream, self.tokens = stream, tokens

    def inputs(self, stream: str, rows: Tensor, layout: Layout) -> Tensor:
        if stream == self.stream:
            # The last input tells class tokens apart.
            rows[layout.token_rows, :-1] = self.tokens
        return rows


def _token_inputs(network: MultiScaleClassifier, name: str, stream: PackedStream) -> Tensor:
    """(tokens, inputs): what the embedding is given of the tokens of a stream, see `Taps.inputs`."""
    extractor, device = network.extractor(name), next(network.parameters()).device
    numbers, classes = extractor(StreamBatch.of(stream, device))
    sizes = [extractor.class_sizes[feature] for feature in extractor.classes]
    hot = [one_hot(of, size) for of, size in zip(classes.T, sizes, strict=True)]
    return torch.cat([numbers, *hot], 1)


@torch.inference_mode()
def _responses_to(
    network: MultiScaleClassifier, streams: Mapping[str, PackedStream], name: str, inputs: Tensor
) -> Floats:
    """(events,): logit difference where the inputs of the tokens of one stream are those given."""
    found = np.empty(len(streams[name]))
    for chosen, batch in batches(network, streams):
        rows = torch.from_numpy(streams[name].rows(chosen)).to(inputs.device)
        logits = network(batch, _Replaced(name, inputs[rows]))
        found[chosen] = logit_difference(logits).double().cpu().numpy()
    return found
