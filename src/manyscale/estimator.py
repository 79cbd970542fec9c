"""The multi-scale classifier as an estimator of scikit-learn's shape."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import ValidationError
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from manyscale.card import Card
from manyscale.data.dataset import Dataset
from manyscale.data.identity import uniform
from manyscale.data.npz import Arrays, Columns, from_arrays, read_npz_events
from manyscale.data.packing import PackedStream
from manyscale.deployment.predict import Alignment
from manyscale.deployment.bundle import load_bundle, save_bundle
from manyscale.deployment.predict import class_probabilities
from manyscale.errors import CardError, DataError
from manyscale.model.classifier import MultiScaleClassifier
from manyscale.model.layers import StreamSettings
from manyscale.model.layers import FusionSettings
from manyscale.model.presets import Preset
from manyscale.runs.building import build_model, fit_features
from manyscale.runs.training import fit_network
from manyscale.training.schedule import TrainingSettings

__all__ = ["Classifier"]

X = Dataset | Arrays

# Share of the events that choose the best epoch, where the user names none.
_HELD_OUT = 0.15


class Classifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A multi-scale classifier with the rules of scikit-learn's estimators.

    Parameters
    ----------
    preset
        kinematics-only, concatenation, model-1, model-2, model-3 or custom.
    streams, fusion
        As in a card: settings by stream name, and cross-attention blocks, as dicts.
    columns
        Names of the columns of arrays: a list, or a list a stream.
    epochs, batch_size, learning_rate, max_steps, patience
        As in the card's section `training`.
    seed
        The one seed from which all randomness comes.

    Attributes
    ----------
    classes_
        (2,): the labels, background first; the columns of `predict_proba` stand in this order.
    network_
        The trained torch module.
    history_
        A dict an epoch: losses, validation AUC, learning rate, events a second.

    Examples
    --------
    >>> generator = np.random.default_rng(0)
    >>> labels = np.arange(200) % 2
    >>> X = generator.normal(size=(200, 3, 2)) + labels[:, None, None]
    >>> model = Classifier(preset="model-1", epochs=3, batch_size=32).fit(X, labels)
    >>> model.predict_proba(X).shape
    (200, 2)
    """

    def __init__(
        self,
        preset: Preset = "model-2",
        *,
        streams: dict[str, dict[str, Any]] | None = None,
        fusion: list[dict[str, Any]] | None = None,
        columns: Columns = None,
        epochs: int = 20,
        batch_size: int = 256,
        learning_rate: float = 2e-3,
        max_steps: int | None = None,
        patience: int | None = None,
        seed: int = 1,
    ) -> None:
        self.preset = preset
        self.streams = streams
        self.fusion = fusion
        self.columns = columns
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.max_steps = max_steps
        self.patience = patience
        self.seed = seed

    def fit(
        self,
        X: X,  # noqa: N803 - scikit-learn's name
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        *,
        validation: Dataset | tuple[Arrays, ArrayLike] | None = None,
    ) -> "Classifier":
        """Train on a dataset, or on arrays and labels.

        Parameters
        ----------
        X
            A dataset (labels and weights inside), or padded arrays (events, tokens, columns), one
            or a dict of one a stream.
        y
            (events,): two different labels; the larger is the signal. Not for a dataset.
        sample_weight
            (events,): event weights, not for a dataset.
        validation
            Events by which the best epoch is chosen: a dataset, or arrays and labels; without it,
            15% of `X` are set aside, by event.

        Raises
        ------
        DataError, CardError
            Where data, labels or settings are not what they should be.
        """
        train = self._dataset(X, y, sample_weight)
        if validation is None:
            train, held_out = _set_aside(train, self.seed)
        elif isinstance(validation, tuple):
            held_out = self._dataset(*validation, None, fitted=True)
        else:
            held_out = validation
        card = self._card()
        network = build_model(card, train.schema)
        train.require_classes()
        held_out.require_classes()
        _check_streams(train, held_out)
        fit_features(network, train)
        state = fit_network(network, card, train=train, validation=held_out)
        self.network_: MultiScaleClassifier = network
        self.history_ = state.history
        return self

    def _card(self) -> Card:
        try:
            return self._settings()
        except ValidationError as error:
            faults = [
                f"{'.'.join(map(str, fault['loc']))} is {fault['input']!r}: {fault['msg']}"
                for fault in error.errors()
            ]
            raise CardError("; ".join(faults)) from error

    def _settings(self) -> Card:
        return Card(
            preset=self.preset,
            seed=self.seed,
            streams={k: StreamSettings(**v) for k, v in (self.streams or {}).items()},
            fusion=None if self.fusion is None else tuple(FusionSettings(**b) for b in self.fusion),
            training=TrainingSettings(
                epochs=self.epochs,
                batch_size=self.batch_size,
                learning_rate=self.learning_rate,
                max_steps=self.max_steps,
                patience=self.patience,
                devices=1,  # further processes would have to be started by a command
            ),
        )

    def _dataset(
        self,
        X: X,  # noqa: N803
        y: ArrayLike | None,
        sample_weight: ArrayLike | None,
        *,
        fitted: bool = False,
    ) -> Dataset:
        if isinstance(X, Dataset):
            if y is not None or sample_weight is not None:
                raise DataError(
                    "a dataset holds its labels and weights: give neither y nor weights"
                )
            if not fitted:
                self.classes_ = np.array([0, 1])
            return X
        if y is None:
            raise DataError("labels are missing: fit(X, y) with arrays needs y, one label an event")
        labels = np.asarray(y)
        if not fitted:
            self.classes_ = np.unique(labels)
            if len(self.classes_) != 2:
                raise DataError(
                    f"y has {len(self.classes_)} different labels; there must be two, "
                    f"background and signal"
                )
        unknown = ~np.isin(labels, self.classes_)
        if unknown.any():
            raise DataError(f"the label {labels[unknown][0]!r} is none of {self.classes_.tolist()}")
        signal = (labels == self.classes_[1]).astype(np.int64)
        return from_arrays(X, signal, sample_weight, self.columns, seed=self.seed)

    def predict_proba(self, X: X) -> NDArray[np.float32]:  # noqa: N803
        """Probability of each class, (events, 2), in the order of `classes_`."""
        check_is_fitted(self)
        return class_probabilities(self.network_, self._streams(X))

    def predict(self, X: X) -> NDArray[Any]:  # noqa: N803
        """The more probable label of each event, (events,)."""
        probability = self.predict_proba(X)
        return self.classes_[probability.argmax(axis=1)]

    def _streams(self, X: X) -> Mapping[str, PackedStream]:  # noqa: N803
        wanted = [self.network_.extractor(name).stream for name in self.network_.settings.streams]
        if isinstance(X, Dataset):
            return Alignment(X.schema, wanted)(X.events().streams)
        return read_npz_events(X, wanted).streams

    def save(self, folder: Path | str) -> None:
        """Write a model folder: weights, architecture, features; no pickle."""
        check_is_fitted(self)
        save_bundle(Path(folder), self.network_)

    @staticmethod
    def load(folder: Path | str) -> "Classifier":
        """Read a model folder, of `save` or of a run; ready to predict."""
        bundle = load_bundle(folder)
        classifier = Classifier(preset="custom")
        classifier.classes_ = np.array([0, 1])
        classifier.network_ = bundle.network
        return classifier


def _check_streams(train: Dataset, validation: Dataset) -> None:
    if train.schema.streams != validation.schema.streams:
        raise DataError("the validation events have other streams or columns than the training's")


def _set_aside(dataset: Dataset, seed: int) -> tuple[Dataset, Dataset]:
    """Split events, each by itself, to those trained on and those that choose the best epoch."""
    events = dataset.events()
    held_out = uniform(events.event_id, f"set aside {seed}") < _HELD_OUT
    parts = (np.flatnonzero(~held_out), np.flatnonzero(held_out))
    train, validation = (Dataset.from_events(dataset.schema, events.take(part)) for part in parts)
    return train, validation
