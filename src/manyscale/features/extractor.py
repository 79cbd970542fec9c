"""The torch module in front of the network: columns to standardised features."""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from manyscale.errors import CardError, DataError
from manyscale.features.columns import StreamBatch, TokenColumns
from manyscale.features.jet_frame import FrameSettings, JetFrame
from manyscale.features.pairs import momenta_of
from manyscale.features.registry import default_features, is_categorical, recipe
from manyscale.schema import StreamSchema

__all__ = ["FeatureExtractor", "standardise"]

# A standardised number beyond this is an outlier that would only disturb the first layer.
_CLIP = 10.0
# Class codes run from 0 to 15; any other shares the last row of the embedding table.
_TABLE_ROWS = 17


class FeatureExtractor(nn.Module):
    """Features of one stream, computed from its columns; the same in training and prediction.

    Parameters
    ----------
    stream
        Names the columns of the tokens and of the axis.
    names
        The features, in the order in which the network sees them.
    frame
        Where `delta_eta`, `delta_phi` and `delta_r` are taken; None: as the columns say.
    pairs
        Whether pairs of tokens are looked at, too.

    Attributes
    ----------
    numbers, classes
        Names of the continuous and of the categorical features.
    class_sizes
        Rows of the embedding table of each categorical feature.
    mean, deviation
        (numbers,): the standardisation, fitted on the training split by `standardise`.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        stream: StreamSchema,
        names: Sequence[str],
        frame: JetFrame | None = None,
        *,
        pairs: bool = False,
    ) -> None:
        super().__init__()
        self.stream = stream
        self.frame = frame
        seen = stream if frame is None else frame.stream
        self.names = tuple(names)
        self.numbers = tuple(name for name in names if not is_categorical(name))
        self.classes = tuple(name for name in names if is_categorical(name))
        self.class_sizes = dict.fromkeys(self.classes, _TABLE_ROWS)
        self._number_recipes = [recipe(name, seen).compute for name in self.numbers]
        self._class_recipes = [recipe(name, seen).compute for name in self.classes]
        self._momenta = momenta_of(stream) if pairs else None
        self.register_buffer("mean", torch.zeros(len(self.numbers)))
        self.register_buffer("deviation", torch.ones(len(self.numbers)))

    @staticmethod
    def for_stream(
        stream: StreamSchema,
        names: Sequence[str] | None = None,
        frame: FrameSettings | None = None,
        *,
        pairs: bool = False,
    ) -> "FeatureExtractor":
        """Make the extractor of a stream; without names, with all features its columns allow.

        Raises
        ------
        CardError
            Where a feature is unknown, named twice, or lacks columns; where frame or pairs do.
        """
        placed = None
        if frame is not None and not frame.changes_nothing:
            placed = JetFrame(stream, frame, f"streams.{stream.name}.frame")
        seen = stream if placed is None else placed.stream
        chosen = default_features(seen) if names is None else tuple(names)
        doubled = {name for name in chosen if chosen.count(name) > 1}
        if doubled or not chosen:
            fault = f"names {', '.join(sorted(doubled))} twice" if doubled else "is empty"
            raise CardError(f"streams.{stream.name}.features {fault}")
        return FeatureExtractor(stream, chosen, placed, pairs=pairs)

    def raw(self, batch: StreamBatch | TokenColumns) -> tuple[Tensor, Tensor]:
        """Compute the features before standardisation.

        Returns
        -------
        numbers : (tokens, numbers), float32
        classes : (tokens, classes), int64
        """
        columns = batch if isinstance(batch, TokenColumns) else TokenColumns(self.stream, batch)
        if self.frame is not None:
            columns.computed = self.frame(columns)
        numbers = [compute(columns) for compute in self._number_recipes]
        classes = [compute(columns).long() for compute in self._class_recipes]
        nothing = (*(numbers or classes)[0].shape, 0)
        return (
            torch.stack(numbers, -1) if numbers else classes[0].new_zeros(nothing).float(),
            torch.stack(classes, -1) if classes else numbers[0].long().new_zeros(nothing),
        )

    def momenta(self, batch: StreamBatch | TokenColumns) -> Tensor | None:
        """Compute what pairs are worked out from, (tokens, 4); None where they are not looked at.

        From the columns as they are, whatever the frame: pairs look the same in all of them.
        """
        if self._momenta is None:
            return None
        columns = batch if isinstance(batch, TokenColumns) else TokenColumns(self.stream, batch)
        columns.computed = {}
        return self._momenta(columns)

    def forward(self, batch: StreamBatch | TokenColumns) -> tuple[Tensor, Tensor]:
        """Compute standardised numbers (tokens, numbers) and table rows (tokens, classes)."""
        numbers, classes = self.raw(batch)
        numbers = ((numbers - self.mean) / self.deviation).clamp_(-_CLIP, _CLIP)
        if not self.classes:
            return numbers, classes
        unknown = _TABLE_ROWS - 1
        return numbers, torch.where((classes < 0) | (classes > unknown), unknown, classes)


@torch.no_grad()
def standardise(
    groups: Sequence[Mapping[str, FeatureExtractor]],
    batches: Iterable[Mapping[str, StreamBatch]],
) -> None:
    """Fit the standardisation on training events, in one pass and one batch in memory at a time.

    Parameters
    ----------
    groups
        Extractors by stream; those of a group have the same features and share a standardisation.
    batches
        The training events, by stream.

    Raises
    ------
    DataError
        Where a feature is not finite; the message names stream, feature and event.
    """
    count = [0 for _ in groups]
    # Sums and sums of squares.
    sums = [
        torch.zeros(2, len(next(iter(group.values())).numbers), dtype=torch.float64)
        for group in groups
    ]
    first = 0
    for batch in batches:
        for number, group in enumerate(groups):
            for name, extractor in group.items():
                values, _ = extractor.raw(batch[name])
                bad = (~torch.isfinite(values)).nonzero()
                if len(bad):
                    token, feature = bad[0].tolist()
                    before = torch.cumsum(batch[name].counts, 0)
                    event = first + int(torch.searchsorted(before, token, right=True))
                    raise DataError(
                        f"feature '{extractor.numbers[feature]}' of stream '{name}' is "
                        f"{values[token, feature].item()} in event {event} of the training events"
                    )
                wide = values.double()
                count[number] += len(wide)
                sums[number] += torch.stack([wide.sum(0), (wide**2).sum(0)])
        first += len(next(iter(batch.values())).counts)
    for group, tokens, (total, squares) in zip(groups, count, sums, strict=True):
        if not tokens:
            continue
        mean = total / tokens
        variance = (squares / tokens - mean**2).clamp(min=0)
        # A constant feature stays zero instead of being blown up.
        deviation = torch.where(variance > 1e-12 * (1 + mean**2), variance, 1).sqrt()
        for extractor in group.values():
            extractor.mean.copy_(mean)
            extractor.deviation.copy_(deviation)
