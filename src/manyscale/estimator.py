"""The multi-scale classifier as an estimator of scikit-learn's shape."""

from pathlib import Path
from tempfile import TemporaryDirectory
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
from manyscale.deployment.bundle import load_bundle, save_bundle
from manyscale.deployment.predict import choose_device, class_probabilities, predict
from manyscale.errors import CardError, DataError
from manyscale.model.classifier import MultiScaleClassifier
from manyscale.model.presets import Preset
from manyscale.progress import LOG
from manyscale.runs.train import build_model, fit_features, fit_network, start
from manyscale.training.schedule import TrainingSettings

__all__ = ["Classifier"]

X = Dataset | Arrays

# Share of the events that choose the best epoch, where the user names none.
_HELD_OUT = 0.15
_TRAINING = {name: field.default for name, field in TrainingSettings.model_fields.items()}
_OURS = ("start", "epochs", "batch_size", "learning_rate", "max_steps", "patience")


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
    start, epochs, batch_size, learning_rate, max_steps, patience
        As in the card's section `training`.
    seed
        The one seed from which all randomness comes.
    device
        Where it trains and predicts: cpu, cuda, or auto, a GPU if there is one.

    Attributes
    ----------
    classes_
        (2,): the labels, background first; the columns of `predict_proba` stand in this order.
    network_
        The trained torch module.
    history_
        A dict an epoch: losses, validation AUC, learning rate, events per second.

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
        start: str | Path = _TRAINING["start"],
        epochs: int = _TRAINING["epochs"],
        batch_size: int = _TRAINING["batch_size"],
        learning_rate: float = _TRAINING["learning_rate"],
        max_steps: int | None = _TRAINING["max_steps"],
        patience: int | None = _TRAINING["patience"],
        seed: int = 1,
        device: str = "auto",
    ) -> None:
        self.preset = preset
        self.streams = streams
        self.fusion = fusion
        self.columns = columns
        self.start = start
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.max_steps = max_steps
        self.patience = patience
        self.seed = seed
        self.device = device

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
            A dataset, which holds its labels and weights; or (events, tokens, columns), padded with
            zeros; or such an array a stream, by name.
        y
            (events,): two different labels, the larger is the signal; not for a dataset.
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
        card = self._card()
        train = self._dataset(X, y, sample_weight)
        for notice in train.notices:
            LOG.warning(notice)
        if validation is None:
            events = train.events()
            aside = uniform(events.event_id, f"set aside {self.seed}") < _HELD_OUT
            parts = (events.take(np.flatnonzero(chosen)) for chosen in (~aside, aside))
            train, held_out = (Dataset.from_events(train.schema, part) for part in parts)
        elif isinstance(validation, tuple):
            held_out = self._dataset(*validation, None, fitted=True)
        else:
            held_out = validation
        network = build_model(card, train.schema)
        train.require_classes()
        held_out.require_classes()
        if train.schema.streams != held_out.schema.streams:
            raise DataError(
                "the validation events have other streams or columns than the training's"
            )
        fit_features(network, train)
        taken = start(network, card.training)
        for line in taken.lines:
            LOG.info(line)
        state = fit_network(network, card, train=train, validation=held_out, taken=taken)
        self.network_: MultiScaleClassifier = network
        self.history_ = state.history
        return self

    def _card(self) -> Card:
        training = {name: getattr(self, name) for name in _OURS}
        # Further processes would have to be started by a command.
        training |= {"accelerator": "gpu" if self.device == "cuda" else self.device, "devices": 1}
        try:
            return Card.model_validate(
                {
                    "preset": self.preset,
                    "seed": self.seed,
                    "streams": self.streams or {},
                    "fusion": self.fusion,
                    "training": training,
                }
            )
        except ValidationError as error:
            faults = [
                f"{'.'.join(map(str, fault['loc']))} is {fault['input']!r}: {fault['msg']}"
                for fault in error.errors()
            ]
            raise CardError("; ".join(faults)) from error

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
        """Probability of each class, (events, 2), in the order of `classes_`.

        A dataset is decoded chunk by chunk, in memory that does not grow with its size.
        """
        check_is_fitted(self)
        network = self.network_.to(choose_device(self.device))
        if isinstance(X, Dataset):
            parts = [probability for _, probability in predict(network, X)]
            return np.concatenate(parts) if parts else np.zeros((0, 2), np.float32)
        wanted = [network.extractor(name).stream for name in network.settings.streams]
        return class_probabilities(network, read_npz_events(X, wanted).streams)

    def predict(self, X: X) -> NDArray[Any]:  # noqa: N803
        """The more probable label of each event, (events,)."""
        probability = self.predict_proba(X)
        return self.classes_[probability.argmax(axis=1)]

    def save(self, folder: Path | str) -> None:
        """Write a model folder: weights, architecture, features, labels; no pickle."""
        check_is_fitted(self)
        save_bundle(Path(folder), self.network_, self.classes_.tolist())

    def __getstate__(self) -> dict[str, Any]:
        """For copies, joblib and pickle: the network as the files of its model folder."""
        state = dict(super().__getstate__())
        if "network_" in state:
            with TemporaryDirectory() as folder:
                save_bundle(Path(folder) / "model", state["network_"])
                files = {path.name: path.read_bytes() for path in Path(folder, "model").iterdir()}
            state["network_"] = files
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take up what `__getstate__` gave; the network is on the CPU until it is used."""
        if "network_" in state:
            with TemporaryDirectory() as folder:
                for name, content in state["network_"].items():
                    Path(folder, name).write_bytes(content)
                state = {**state, "network_": load_bundle(folder).network}
        super().__setstate__(state)

    @staticmethod
    def load(folder: Path | str, device: str = "auto") -> "Classifier":
        """Read a model folder, of `save` or of a run; ready to predict."""
        bundle = load_bundle(folder)
        classifier = Classifier(preset="custom", device=device)
        classifier.classes_ = np.array(bundle.labels)
        classifier.network_ = bundle.network
        return classifier
