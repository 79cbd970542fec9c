"""Jet images: the tokens of a jet as an array of pixels in the plane of eta and phi."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor

from manyscale.data.dataset import Dataset
from manyscale.data.packing import PackedEvents
from manyscale.errors import CardError, DataError
from manyscale.events.ragged import PackedStream
from manyscale.features.columns import StreamBatch, TokenColumns
from manyscale.features.jet_frame import FrameSettings, JetFrame
from manyscale.features.registry import can_compute
from manyscale.schema import PARTICLE_CLASSES, Schema, StreamSchema
from manyscale.settings import Settings, setting

__all__ = ["ImageMaker", "ImageSettings", "class_means", "jet_images", "pixel_sums"]

# Jets at a time: bounds the memory.
_CHUNK = 2048
_AS_LITERATURE = FrameSettings(centre="pt", rotate="principal", flip=True)


class ImageSettings(Settings):
    """The pixels of a jet image, what is summed in them, and in which frame."""

    bins: int = setting(
        41, "pixels in each direction; odd: the centre is no corner of four", ge=1, le=1000
    )
    half_width: float = setting(
        1.0, "an image reaches so far from its centre; tokens beyond are left out", unit="rad", gt=0
    )
    weight: Literal["pt", "count"] = setting(
        "pt", "what is summed in a pixel: pT in GeV, or the number of tokens"
    )
    frame: FrameSettings = setting(_AS_LITERATURE, "the jet frame of the images")


def pixel_sums(
    x: Tensor,
    y: Tensor,
    weight: Tensor,
    image: Tensor,
    images: int,
    *,
    bins: int,
    half_width: float,
) -> Tensor:
    """Sum the weights of tokens in the pixels of the images to which they belong.

    Parameters
    ----------
    x, y, weight
        (tokens,): directions, and what is summed.
    image
        (tokens,), int64: the image of each token, from 0 to `images` - 1.
    bins, half_width
        Pixels in each direction, which reach from -half_width to half_width. The upper edge is out.

    Returns
    -------
    (images, bins, bins): pixels of `x` first, of `y` second, as in numpy.histogram2d.
    """
    scale = bins / (2 * half_width)
    row, column = ((of + half_width) * scale for of in (x, y))
    inside = (row >= 0) & (row < bins) & (column >= 0) & (column < bins)
    row, column = (of.clamp(0, bins - 1).long() for of in (row, column))
    pixels = weight.new_zeros(images * bins * bins)
    # On a CPU faster than bincount and scatter_add_.
    pixels.index_add_(0, (image * bins + row) * bins + column, weight * inside)
    return pixels.view(images, bins, bins)


class ImageMaker:
    """Makes the images of one stream.

    Parameters
    ----------
    stream
        Has what `JetFrame` needs, `pt` where it is the weight, `particle_class` for `by_class`.
    settings
        Pixels, weight and frame.
    by_class
        One image a class of particles, in the order of `PARTICLE_CLASSES`, instead of one of all.

    Raises
    ------
    CardError
        Where the stream lacks a column.
    """

    def __init__(
        self, stream: StreamSchema, settings: ImageSettings, *, by_class: bool = False
    ) -> None:
        self.settings = settings
        self.channels = len(PARTICLE_CLASSES) if by_class else 1
        self._stream = stream
        self._frame = JetFrame(stream, settings.frame, f"image of {stream.name}")
        self._class = "particle_class" if by_class else None
        needed = [("pt", settings.weight == "pt"), ("particle_class", by_class)]
        for name, wanted in needed:
            if wanted and not can_compute(name, stream):
                raise CardError(f"an image of stream '{stream.name}' needs the column {name}")

    def __call__(self, batch: StreamBatch) -> Tensor:
        """Make the images of each jet, (jets, channels, bins, bins)."""
        jets = len(batch.counts)
        columns = TokenColumns(self._stream, batch)
        sums = self._sums(columns, columns.event, jets, self._weight(columns))
        return sums.view(jets, self.channels, *sums.shape[1:])

    def total(self, batch: StreamBatch, weights: Tensor) -> Tensor:
        """Sum the images of all jets, each times its weight (jets,): (channels, bins, bins)."""
        columns = TokenColumns(self._stream, batch)
        weight = self._weight(columns) * columns.segments.spread(weights)
        return self._sums(columns, torch.zeros_like(columns.event), 1, weight)

    def _weight(self, columns: TokenColumns) -> Tensor:
        if self.settings.weight == "pt":
            return columns["pt"]
        return torch.ones(len(columns.event), device=columns.event.device)

    def _sums(self, columns: TokenColumns, jet: Tensor, jets: int, weight: Tensor) -> Tensor:
        x, y = self._frame(columns).values()
        image = jet
        if self._class:
            kind = columns[self._class].long()
            known = (kind >= 0) & (kind < self.channels)
            weight = weight * known
            image = jet * self.channels + torch.where(known, kind, 0)
        return pixel_sums(
            x,
            y,
            weight,
            image,
            jets * self.channels,
            bins=self.settings.bins,
            half_width=self.settings.half_width,
        )


def class_means(
    maker: ImageMaker,
    stream: PackedStream,
    labels: NDArray[np.int64],
    weights: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Mean image of the background and of the signal, (2, channels, bins, bins).

    Parameters
    ----------
    labels, weights
        (jets,): 1 signal, 0 background. The weights of a class sum to more than zero.
    """
    bins = maker.settings.bins
    means = np.zeros((2, maker.channels, bins, bins))
    of_class = [np.where(labels == label, weights, 0) for label in (0, 1)]
    for first, batch in _batches(stream):
        for label, weight in enumerate(of_class):
            # Divided before they meet single precision: a weight may be tiny.
            share = weight[first : first + _CHUNK] / weight.sum()
            means[label] += maker.total(batch, torch.from_numpy(share.astype(np.float32))).numpy()
    return means


def jet_images(
    data: Dataset | PackedEvents,
    stream: str,
    *,
    bins: int = 41,
    half_width: float = 1.0,
    weight: Literal["pt", "count"] = "pt",
    frame: FrameSettings | Mapping[str, Any] | None = None,
    by_class: bool = False,
    schema: Schema | None = None,
) -> NDArray[np.float32]:
    """Make the image of each event's jet; beside the result, memory does not grow with the events.

    Parameters
    ----------
    data
        A dataset, or some of its events, `data.chunks(1000)` say.
    stream
        Name of the jet's stream. An event without tokens in it has an empty image.
    bins, half_width
        Pixels in each direction, and how far they reach from the centre, in radians.
    weight
        What is summed in a pixel: `pt` [GeV], or `count`, the number of tokens.
    frame
        As in a card, {"centre": "pt", "rotate": "principal", "flip": True} say; None: about the
        jet's axis, as stored.
    by_class
        One image a class of particles (`manyscale.schema.PARTICLE_CLASSES`).
    schema
        Of events that are no dataset: `data.schema`.

    Returns
    -------
    (events, channels, bins, bins): pixels of eta first, of phi second; one channel, or one a class.

    Raises
    ------
    CardError
        Where a setting is wrong, or the stream lacks a column.
    DataError
        Where there is no such stream, or events come without a schema.
    """
    schema = data.schema if isinstance(data, Dataset) else schema
    if schema is None:
        raise DataError("events alone do not say what their columns are: give schema=data.schema")
    given = {"bins": bins, "half_width": half_width, "weight": weight}
    try:
        settings = ImageSettings.model_validate({**given, "frame": frame or FrameSettings()})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise CardError(f"{name} is {first['input']!r}: {first['msg']}") from error
    maker = ImageMaker(schema.stream(stream), settings, by_class=by_class)
    images = np.empty((len(data), maker.channels, bins, bins), np.float32)
    if isinstance(data, Dataset):
        chunks: Iterator[PackedEvents] = data.restricted(streams=[stream]).chunks(_CHUNK)
    else:
        chunks = iter([data])
    place = 0
    with torch.inference_mode():
        for events in chunks:
            for _, batch in _batches(events.streams[stream]):
                made = maker(batch).numpy()
                images[place : place + len(made)] = made
                place += len(made)
    return images


def _batches(stream: PackedStream) -> Iterator[tuple[int, StreamBatch]]:
    """The jets of a stream, some at a time, and the place of the first of them."""
    for first in range(0, len(stream), _CHUNK):
        yield first, StreamBatch.of(stream.between(first, first + _CHUNK))
