"""The one scoring loop: events to class probabilities, on any device, in memory that does not grow."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from manyscale.data.dataset import Dataset
from manyscale.data.feeds import ahead
from manyscale.data.packing import PackedEvents
from manyscale.errors import CardError, DataError
from manyscale.events.ragged import PackedStream, cut_batches
from manyscale.features.columns import StreamBatch, on_device, to_torch
from manyscale.model.classifier import MultiScaleClassifier
from manyscale.model.layers import without_onednn
from manyscale.model.taps import NO_TAPS, Taps
from manyscale.schema import Schema, StreamSchema

__all__ = [
    "CHUNK",
    "Alignment",
    "batches",
    "choose_device",
    "class_logits",
    "class_probabilities",
    "predict",
    "score",
]

#: Events decoded at a time where all of a dataset are looked at in turn.
CHUNK = 8192
# Rows of a batch, class tokens counted; measured for short events and for long ones. A GPU has to be
# given enough to do for each launch of a kernel.
_ROWS = {"cpu": 16_384, "cuda": 524_288}
# Where attention is padded, events of similar length go together. A GPU's kernel takes rows as they come:
# there events stay in their order, and nothing is gathered on the host.
_SORTED = {"cpu"}


def choose_device(name: str) -> torch.device:
    """The device of a name: `auto` (a GPU where torch has one), `cpu` or `cuda`.

    Raises
    ------
    CardError
        Where a GPU is asked for that is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name not in {"cpu", "cuda"}:
        raise CardError(f"there is no device '{name}'; there are auto, cpu and cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise CardError("--device cuda: torch finds no GPU here; use auto or cpu")
    return torch.device(name)


class Alignment:
    """Takes from events the streams and columns that a network wants, by name, in its order.

    Parameters
    ----------
    schema
        Of the data.
    wanted
        The streams of the network.

    Raises
    ------
    DataError
        Where the data lack a stream or a column; the message names it.
    """

    def __init__(self, schema: Schema, wanted: Sequence[StreamSchema]) -> None:
        self._columns: dict[str, tuple[list[int], list[int]]] = {}
        for wants in wanted:
            has = schema.stream(wants.name)
            missing = [name for name in wants.columns if name not in has.columns]
            missing += [name for name in wants.axis if name not in has.axis]
            if missing:
                raise DataError(
                    f"stream '{has.name}' lacks the columns {', '.join(missing)}, which the "
                    f"network was trained on"
                )
            self._columns[wants.name] = (
                [has.columns.index(name) for name in wants.columns],
                [has.axis.index(name) for name in wants.axis],
            )

    def __call__(self, streams: Mapping[str, PackedStream]) -> dict[str, PackedStream]:
        """Return the wanted streams and columns of some streams."""
        return {
            name: PackedStream(
                _columns(streams[name].values, columns),
                streams[name].counts,
                _columns(streams[name].axis, axis),
            )
            for name, (columns, axis) in self._columns.items()
        }


def _columns(values: NDArray[np.float32], chosen: list[int]) -> NDArray[np.float32]:
    if chosen == list(range(values.shape[1])):
        return values
    return np.ascontiguousarray(values[:, chosen])


def batches(
    network: MultiScaleClassifier,
    streams: Mapping[str, PackedStream],
    rows: int | None = None,
) -> Iterator[tuple[NDArray[np.int64], dict[str, StreamBatch]]]:
    """Cut events into batches on the network's device: on a CPU of similar length, the shortest first.

    Similar lengths need the least padding. A score does not depend on the events beside it; only in
    training would such batches do harm. On a GPU events stay in their order.

    Parameters
    ----------
    streams
        Trimmed by the network (`MultiScaleClassifier.trim`).
    rows
        Tokens of a batch, class tokens counted, about; None: what suits the device.

    Yields
    ------
    The events of a batch, (events,), and their streams.
    """
    device = next(network.parameters()).device
    rows = rows or _ROWS.get(device.type, _ROWS["cpu"])
    lengths = np.sum([stream.counts + 1 for stream in streams.values()], axis=0)
    by_length = device.type in _SORTED
    order = np.argsort(lengths, kind="stable") if by_length else np.arange(len(lengths))
    for chosen in cut_batches(order, lengths, rows):
        if not len(chosen):
            continue
        if by_length:
            yield chosen, to_torch(streams, chosen, device)
        else:
            first, last = int(chosen[0]), int(chosen[-1]) + 1
            parts = {name: stream.between(first, last) for name, stream in streams.items()}
            yield chosen, {name: StreamBatch.of(part, device) for name, part in parts.items()}


def class_logits(
    network: MultiScaleClassifier, streams: Mapping[str, PackedStream], taps: Taps = NO_TAPS
) -> NDArray[np.float32]:
    """Logit of each class, (events, classes), in the order of the events.

    On a GPU that has it the arithmetic is bf16: logits differ from those of a CPU by about 0.01.

    Parameters
    ----------
    network
        In evaluation mode.
    streams
        The streams that it takes, columns as it was trained on; trimmed here to its `max_tokens`.
    taps
        Look into the forward passes, or change them.
    """
    return _per_event(network, streams, lambda batch: network(batch, taps)[None])[0]


def class_probabilities(
    network: MultiScaleClassifier, streams: Mapping[str, PackedStream]
) -> NDArray[np.float32]:
    """Probability of each class, (events, classes); see `class_logits`."""
    return score(network, streams)[0]


def score(
    network: MultiScaleClassifier, streams: Mapping[str, PackedStream]
) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float32]]]:
    """Probability of each class, (events, classes), and what else is known of each event.

    Of an ensemble that is `score_spread`, (events,): the standard deviation of the signal probability
    among its members; of one network nothing.
    """
    logits = torch.from_numpy(_per_event(network, streams, network.member_logits))
    members = torch.softmax(logits, dim=2)
    known = {}
    if network.others:
        known["score_spread"] = members[:, :, 1].std(0).numpy()
    return members.mean(0).numpy(), known


@torch.inference_mode()
def _per_event(
    network: MultiScaleClassifier,
    streams: Mapping[str, PackedStream],
    logits: Callable[[Mapping[str, StreamBatch]], Tensor],
) -> NDArray[np.float32]:
    """What comes out of `logits`, (members, events, classes), in the order of the events."""
    trimmed = network.trim(streams)
    events = len(next(iter(trimmed.values())))
    weights = next(network.parameters())
    half = weights.is_cuda and torch.cuda.is_bf16_supported()
    # One array, read at the end alone: a GPU is not waited for after each batch.
    found = weights.new_zeros(1 + len(network.others), events, network.classes)
    with torch.autocast("cuda", torch.bfloat16, enabled=half), without_onednn():
        for chosen, batch in batches(network, trimmed):
            found[:, on_device(chosen, weights.device)] = logits(batch).float()
    return found.cpu().numpy()


def predict(
    network: MultiScaleClassifier,
    dataset: Dataset,
    *,
    wanted: Sequence[StreamSchema] | None = None,
    alter: Callable[[PackedEvents], PackedEvents] | None = None,
    rank: int = 0,
    world: int = 1,
) -> Iterator[tuple[PackedEvents, NDArray[np.float32]]]:
    """Score a dataset chunk by chunk, in its order, while the next chunk is read.

    Parameters
    ----------
    network
        In evaluation mode.
    wanted
        Streams to bring the events to, those of the network among them; None: these alone.
    alter
        Changes the events before they are scored, as a shift of energies does; their number stays.
    rank, world
        Which of how many processes share the events: of every `world` of them this scores one.

    Yields
    ------
    Some events, their streams as scored, what `score` knows of them among their observables, and the
    probability of each class, (events, classes).
    """
    if wanted is None:
        wanted = [network.extractor(name).stream for name in network.settings.streams]
    align = Alignment(dataset.schema, wanted)
    first = 0
    for events in ahead(dataset.chunks(CHUNK)):
        share = events
        if world > 1:
            share = events.take(np.arange((rank - first) % world, len(events), world))
        first += len(events)
        share = replace(share, streams=align(share.streams))
        share = share if alter is None else alter(share)
        probabilities, known = score(network, share.streams)
        yield replace(share, observables={**share.observables, **known}), probabilities
