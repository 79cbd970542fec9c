"""A card and its data to what is trained: the dataset, the network, the events."""

from collections import Counter
from collections.abc import Iterator

import torch

from manyscale.card import Card
from manyscale.data.dataset import Dataset
from manyscale.data.npz import read_npz
from manyscale.data.packing import PackedEvents
from manyscale.data.schema import Schema
from manyscale.errors import CardError
from manyscale.features.columns import StreamBatch
from manyscale.features.extractor import FeatureExtractor, standardise
from manyscale.model.classifier import ModelSettings, MultiScaleClassifier
from manyscale.model.presets import resolve

__all__ = ["CHUNK", "build_model", "dropped_tokens", "fit_features", "model_settings", "open_data"]

#: Events decoded at a time where all are looked at in turn.
CHUNK = 8192


def open_data(card: Card, *, most: int | None = None) -> Dataset:
    """Open the data that a card names, with its streams, classes and split.

    Parameters
    ----------
    card
        Its section `data` and its `classes`.
    most
        Events of each class at most; `card.data.max_events` for training and test, None for all.

    Raises
    ------
    CardError
        Where the card names no data.
    DataError
        Where the data cannot be read, or lack what the card asks for.
    """
    data = card.data
    if data.dataset is not None:
        dataset = Dataset.open(data.dataset, split=data.split, seed=card.seed)
    elif data.signal is not None and data.background is not None:
        dataset = read_npz(
            signal=data.signal,
            background=data.background,
            columns=data.columns,
            split=data.split,
            seed=card.seed,
        )
    else:
        raise CardError(
            "the card names no data: set data.dataset to a dataset folder (made by `manyscale "
            "generate` or `convert`), or data.signal and data.background to npz files"
        )
    return dataset.restricted(streams=data.streams, classes=card.classes, max_events=most)


def model_settings(card: Card, schema: Schema) -> ModelSettings:
    """Say what the card's preset and settings mean for the streams of the data."""
    available = [stream.name for stream in schema.streams]
    return resolve(card.preset, available, card.streams, card.fusion, card.head)


def build_model(card: Card, schema: Schema) -> MultiScaleClassifier:
    """Build the network of a card for data of that schema, its weights drawn from the card's seed.

    Parameters
    ----------
    card
        Says preset, streams, fusion, head and seed.
    schema
        Of the data: `Dataset.schema`.

    Returns
    -------
    A torch module that takes a dict of `StreamBatch` and returns logits (events, 2).

    Raises
    ------
    CardError
        Where card and data do not fit together; the message names the key.
    """
    settings = model_settings(card, schema)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(card.seed)
        return MultiScaleClassifier(settings, schema)


def fit_features(network: MultiScaleClassifier, train: Dataset) -> None:
    """Fit the standardisation on training events; streams that share an encoder share it.

    Raises
    ------
    DataError
        Where a feature is not finite; the message names stream, feature and event.
    """
    groups: dict[str, dict[str, FeatureExtractor]] = {}
    for name, encoder in network.encoder_of.items():
        groups.setdefault(encoder, {})[name] = network.extractor(name)
    standardise(
        list(groups.values()),
        (
            {name: StreamBatch.of(stream) for name, stream in network.trim(events.streams).items()}
            for events in _taken(network, train)
        ),
    )


def dropped_tokens(network: MultiScaleClassifier, train: Dataset) -> dict[str, float]:
    """Fraction of each stream's tokens that `max_tokens` leaves out."""
    all_of: Counter[str] = Counter()
    kept: Counter[str] = Counter()
    for events in _taken(network, train):
        for name, stream in network.trim(events.streams).items():
            all_of[name] += int(events.streams[name].counts.sum())
            kept[name] += int(stream.counts.sum())
    return {name: 1 - kept[name] / max(1, all_of[name]) for name in network.settings.streams}


def _taken(network: MultiScaleClassifier, dataset: Dataset) -> Iterator[PackedEvents]:
    """The events of a dataset, chunk by chunk, with the streams that the network takes."""
    return dataset.restricted(streams=list(network.settings.streams)).chunks(CHUNK)
