"""What each stream and each group of features is worth: the loss when it is shuffled between events."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from manyscale.data.packing import PackedEvents, PackedStream
from manyscale.explanation.rejection import RejectionLoss, working_point
from manyscale.explanation.response import Streams, batches, logit_difference, responses
from manyscale.features.columns import StreamBatch
from manyscale.model.classifier import MultiScaleClassifier
from manyscale.statistics.metrics import auc, auc_error, auc_loss
from manyscale.statistics.sample import Floats, Sample

__all__ = ["Shuffled", "Worth", "feature_groups", "shuffle"]

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


@dataclass(frozen=True)
class Worth:
    """What is lost when a stream, or a group of its features, is shuffled; a bar of the figure.

    Attributes
    ----------
    stream, group
        What was shuffled; `group` None: the whole stream.
    features
        Those of the group, or of the stream.
    auc_loss, auc_loss_error
        AUC minus AUC when shuffled, the mean of the repeats.
    rejection_factor, rejection_low, rejection_high
        Background rejection over that when shuffled: 1, nothing lost; 4, four times as much
        background. None where too little background is left to tell.
    """

    stream: str
    group: str | None
    features: tuple[str, ...]
    auc_loss: float
    auc_loss_error: float
    rejection_factor: float | None
    rejection_low: float | None
    rejection_high: float | None

    def as_dict(self) -> dict[str, str | float | Sequence[str] | None]:
        """A plain row, for JSON."""
        return {
            name: None if isinstance(value, float) and math.isnan(value) else value
            for name, value in asdict(self).items()
        }


@dataclass(frozen=True)
class Shuffled:
    """The worth of all streams and feature groups.

    Attributes
    ----------
    auc, auc_error
        Of the network on the same events, nothing shuffled.
    signal_efficiency
        At which the rejection is taken: 0.70, or the lowest of 0.90 and 0.95 at which enough
        background is left; None where it never is.
    rejection
        There, nothing shuffled.
    repeats
        How often each was shuffled.
    streams, groups
        Of each stream as a whole; of the feature groups, stream by stream.
    """

    auc: float
    auc_error: float
    signal_efficiency: float | None
    rejection: float | None
    repeats: int
    streams: tuple[Worth, ...]
    groups: tuple[Worth, ...]

    def as_dict(self) -> dict[str, object]:
        """Plain values, for JSON."""
        return {
            "auc": self.auc,
            "auc_error": None if math.isnan(self.auc_error) else self.auc_error,
            "signal_efficiency": self.signal_efficiency,
            "rejection": self.rejection,
            "repeats": self.repeats,
            "streams": [worth.as_dict() for worth in self.streams],
            "groups": [worth.as_dict() for worth in self.groups],
        }


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


def shuffle(
    network: MultiScaleClassifier,
    events: PackedEvents,
    weights: NDArray[np.float64],
    *,
    random: np.random.Generator,
    repeats: int = 5,
) -> Shuffled:
    """Shuffle each stream, and each feature group of each stream, between the events.

    A stream is given to another event as a whole, whatever the class of either. The values of a
    feature group, as the network sees them, go together to another token of the same stream in any
    event. The network stays as it is; what it loses is what it takes from there and finds nowhere
    else.

    The error of a loss of AUC is DeLong's on the same events, and the spread of the repeats, in
    quadrature; that of the rejection see `RejectionLoss`.

    Parameters
    ----------
    network
        In evaluation mode.
    events
        With labels of both classes; streams trimmed here.
    weights
        (events,): class-balanced.
    random
        Draws the orders.
    repeats
        How often each is shuffled.

    Raises
    ------
    DataError
        As `Sample.of`: one class only, or weights that do not sum to above zero.

    References
    ----------
    L. Breiman, Mach. Learn. 45 (2001) 5, section 10; A. Fisher, C. Rudin, F. Dominici,
    arXiv:1801.01489.
    """
    trimmed = network.trim(events.streams)
    judge = _Judge.of(events.label, responses(network, trimmed), weights, random)
    streams, groups = [], []
    for name in trimmed:
        order = [random.permutation(len(events)) for _ in range(repeats)]
        scores = [
            responses(network, {**trimmed, name: trimmed[name].take(places)}) for places in order
        ]
        features = network.extractor(name).names
        streams.append(judge.worth(name, None, features, scores))
    for name, stream in trimmed.items():
        columns = _FeatureColumns.of(network, stream, name)
        for group, features in feature_groups(network.extractor(name).names).items():
            order = [random.permutation(len(stream.values)) for _ in range(repeats)]
            scores = [
                _respond_with(network, trimmed, name, columns.shuffled(features, places))
                for places in order
            ]
            groups.append(judge.worth(name, group, features, scores))
    sample, loss = judge.sample, judge.loss
    return Shuffled(
        auc(sample.signal, sample.scores, sample.weights),
        auc_error(sample.signal, sample.scores, sample.weights),
        judge.signal_efficiency,
        None if loss is None else loss.rejection,
        repeats,
        tuple(streams),
        tuple(groups),
    )


@dataclass(frozen=True)
class _Judge:
    """Compares scores of shuffled events with those of the events as they are."""

    sample: Sample
    signal_efficiency: float | None
    loss: RejectionLoss | None

    @staticmethod
    def of(
        label: NDArray[np.int64],
        scores: Floats,
        weights: NDArray[np.float64],
        random: np.random.Generator,
    ) -> "_Judge":
        sample = Sample.of(label, scores, weights)
        wanted = working_point(sample)
        return _Judge(
            sample, wanted, None if wanted is None else RejectionLoss(sample, wanted, random)
        )

    def worth(
        self, stream: str, group: str | None, features: tuple[str, ...], repeats: Sequence[Floats]
    ) -> Worth:
        """Average over the repeats."""
        signal, scores, weights = self.sample
        loss, error = auc_loss(signal, scores, repeats, weights)
        if len(repeats) > 1:
            areas = [auc(signal, other, weights) for other in repeats]
            error = math.hypot(error, float(np.std(areas, ddof=1)) / math.sqrt(len(repeats)))
        factor = None if self.loss is None else self.loss.of(repeats)
        low_high = (None, None, None) if factor is None else factor
        return Worth(stream, group, features, loss, error, *low_high)


@dataclass(frozen=True)
class _FeatureColumns:
    """The features of all tokens of a stream, as the network sees them.

    Attributes
    ----------
    numbers, classes
        (tokens, numbers) and (tokens, classes).
    names
        Of the numbers, then of the classes.
    """

    numbers: Tensor
    classes: Tensor
    names: tuple[str, ...]

    @staticmethod
    @torch.inference_mode()
    def of(network: MultiScaleClassifier, stream: PackedStream, name: str) -> "_FeatureColumns":
        extractor = network.extractor(name)
        device = next(network.parameters()).device
        numbers, classes = extractor(StreamBatch.of(stream, device))
        return _FeatureColumns(numbers, classes, (*extractor.numbers, *extractor.classes))

    def shuffled(self, features: Sequence[str], order: NDArray[np.int64]) -> "_FeatureColumns":
        """The same with the named features of the tokens in another order, together."""
        numbers, classes = self.numbers.clone(), self.classes.clone()
        rows = torch.from_numpy(order).to(numbers.device)
        for feature in features:
            place = self.names.index(feature)
            if place < numbers.shape[1]:
                numbers[:, place] = self.numbers[rows, place]
            else:
                place -= numbers.shape[1]
                classes[:, place] = self.classes[rows, place]
        return _FeatureColumns(numbers, classes, self.names)


@torch.inference_mode()
def _respond_with(
    network: MultiScaleClassifier, trimmed: Streams, name: str, columns: _FeatureColumns
) -> Floats:
    """(events,): logit difference where the features of one stream are those given."""
    found = np.empty(len(trimmed[name]))
    with _replaced(network.extractor(name)) as features:
        for chosen, batch in batches(network, trimmed):
            rows = torch.from_numpy(trimmed[name].rows(chosen))
            rows = rows.to(columns.numbers.device)
            features[:] = [columns.numbers[rows], columns.classes[rows]]
            found[chosen] = logit_difference(network(batch)).double().cpu().numpy()
    return found


@contextmanager
def _replaced(extractor: nn.Module) -> Iterator[list[Tensor]]:
    """Let an extractor give the features that stand in the list, whatever it computes."""
    features: list[Tensor] = []

    def give(_: nn.Module, __: tuple[StreamBatch], ___: object) -> tuple[Tensor, ...]:
        return tuple(features)

    hook = extractor.register_forward_hook(give)
    try:
        yield features
    finally:
        hook.remove()
